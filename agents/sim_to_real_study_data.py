"""Real datasets for live training that no shipped policy was trained on or chosen by, out of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.experiment import TrainedAgent
from hpo_gym.errors import SplitLeakError, unknown_name
from hpo_gym.live.datasets import data_source, store_arrays
from hpo_gym.live.embedded_suite import LiveData
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.ref import TaskRef

__all__ = ["DATASETS", "StudyDataset", "live_data", "require_unseen"]


@dataclass(frozen=True)
class StudyDataset:
    """One dataset of the study.

    Args:
        name: ``sklearn:<name>`` or ``statsmodels:<name>``.
        what: What is told from what, for the page.
        subsample: Share of the training rows that every training sees, in (0, 1].
    """

    name: str
    what: str
    subsample: float = 1.0

    @property
    def task_ref(self) -> TaskRef:
        """What it is known as."""
        return TaskRef("custom", self.name)


#: The datasets of the study: half of the rows validate, a share of the other half trains.
DATASETS = (
    StudyDataset("sklearn:iris", "the species of a flower, 3 classes, 4 features, 150 rows (OpenML 61)"),
    StudyDataset("sklearn:wine", "the cultivar of a wine, 3 classes, 13 features, 178 rows (OpenML 187)"),
    StudyDataset(
        "statsmodels:anes96",
        "the vote in the American election of 1996, 2 classes, 9 features, 944 rows",
        subsample=0.5,
    ),
    StudyDataset(
        "statsmodels:fair",
        "whether somebody had an affair (Fair 1978), 2 classes, 8 features, 6,366 rows",
        subsample=0.1,
    ),
)


def live_data(chosen: StudyDataset) -> LiveData:
    """Return a dataset as what is trained on.

    Raises:
        UnknownNameError: If no package has it.
    """
    kind, _, name = chosen.name.partition(":")
    if kind == "sklearn":
        return LiveData(data_source(chosen.name), chosen.subsample)
    if name not in _READERS:
        raise unknown_name("dataset of statsmodels", name, _READERS)
    features, target = _READERS[name]()
    return LiveData(store_arrays(features, target, name=chosen.name, task="classification"), chosen.subsample)


def _fair() -> tuple[Any, Any]:
    from statsmodels.datasets import fair

    frame = fair.load_pandas().data
    return frame.drop(columns="affairs"), (frame["affairs"] > 0.0).astype("int64")


def _anes96() -> tuple[Any, Any]:
    from statsmodels.datasets import anes96

    frame = anes96.load_pandas().data
    # The logarithm of a column that is there says nothing new.
    return frame.drop(columns=["vote", "logpopul"]), frame["vote"].astype("int64")


_READERS: dict[str, Callable[[], tuple[Any, Any]]] = {"fair": _fair, "anes96": _anes96}


def require_unseen(trained: TrainedAgent, datasets: tuple[StudyDataset, ...] = DATASETS) -> None:
    """Refuse a policy that was trained on, or chosen by, a dataset of the study.

    Raises:
        SplitLeakError: Naming them.
    """
    known = {*trained.training_datasets, *trained.validation_datasets}
    seen = [each.name for each in datasets if dataset_key(each.task_ref) in known]
    if seen:
        raise SplitLeakError(
            f"{trained.folder} was trained on or chosen by {', '.join(seen)}: what it reaches there says nothing. "
            "Leave those datasets out."
        )
