"""The scenarios of GRPOformer (Guo, Pan and Zhai 2025, arXiv 2509.17105) as suites: one model family, six datasets.

The six OpenML tasks need the network once; six datasets that come with scikit-learn stand in for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hpo_gym.errors import DataError, DataMissingError, InvalidSettingError, require_names, unknown_name
from hpo_gym.sources.trainings import MEASURED, refuse_data_dir, settings_of
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["DATASET_SETS", "load_grpoformer", "missing_families"]

#: Sets of datasets by name: those that come with scikit-learn, and the OpenML tasks of the released code.
DATASET_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bundled": (
            "sklearn:breast_cancer",
            "sklearn:diabetes_median",
            "sklearn:digits",
            "sklearn:digits_parity",
            "sklearn:iris",
            "sklearn:wine",
        ),
        "openml": tuple(f"openml-task:{task}" for task in (167149, 167097, 167155, 167168, 167079, 167069)),
    }
)

_DEFAULT_SPACE = "svm"


def missing_families(families: Sequence[str]) -> dict[str, str]:
    """Return those of some model families whose library is not installed, and what to do about it.

    Raises:
        UnknownNameError: For an unknown family.
    """
    from hpo_gym.live.libraries import require_library
    from hpo_gym.live.models import FAMILIES

    missing = {}
    require_names("model family", families, FAMILIES)
    for name in families:
        try:
            require_library(FAMILIES[name].library, f"Model family {name!r}")
        except InvalidSettingError as error:
            missing[name] = str(error)
    return missing


def load_grpoformer(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    datasets: str | Sequence[str] = "bundled",
    executor: str = "local",
    workers: int | None = None,
    scheduler: str | None = None,
    seconds: float = 120.0,
    memory: int = 4096,
    seed: int = 0,
    trainings: str | None = None,
    openml: Mapping[str, Any] | None = None,
) -> TaskSuite:
    """Load the scenarios of one model family; see :func:`hpo_gym.live.grpoformer_objective` for what is trained.

    Args:
        space: One of :data:`hpo_gym.live.presets.GRPOFORMER_FAMILIES`; ``None`` means ``svm``.
        metric: ``None`` or ``accuracy``, which the scenarios are about.
        protocol: Split protocol; datasets without an OpenML id are on the side of their position.
        data_dir: Must be ``None``: datasets name their files, and OpenML's are cached by themselves.
        datasets: One of :data:`DATASET_SETS`, or a list of names as for the source ``live``. Of ``openml`` those that
            are neither cached nor to be had are left out, which :attr:`~hpo_gym.tasks.suite.SuiteSpec.notes` say.
        executor: ``local`` (worker processes here), ``dask`` or ``ray``.
        workers: Processes of ``local``; ``None``: one per core.
        scheduler: Address of a cluster.
        seconds: Most wall time of a training, > 0.
        memory: Most resident memory of a training in megabytes, at least 64.
        seed: Of every training, at least 0.
        trainings: A file where finished trainings are kept, and from where they are taken: whoever was killed begins
            again and trains only what was not trained before. ``None``: none.
        openml: Fields of :class:`hpo_gym.live.OpenMLSettings`: which server, and how it is asked.

    Raises:
        UnknownNameError: For an unknown family, dataset, set of datasets or executor.
        InvalidSettingError: For an argument outside its range, or a library that is not installed.
        DataError: If a dataset that was named, or every one of a set, cannot be loaded.
    """
    from hpo_gym.live.build import grpoformer_objective
    from hpo_gym.live.datasets import DataSource, data_source
    from hpo_gym.live.executors import ExecutorSettings
    from hpo_gym.live.limits import Limits
    from hpo_gym.live.live_objective import LiveObjective
    from hpo_gym.live.openml_data import OpenMLSettings
    from hpo_gym.live.suite import suite_of

    refuse_data_dir("grpoformer", data_dir)
    if metric not in (None, "accuracy"):
        raise InvalidSettingError(
            f"metric={metric!r}: the scenarios of GRPOformer are about accuracy. Leave it out, or use source='live'."
        )
    server = settings_of(OpenMLSettings, "openml", openml)

    def source(name: str) -> DataSource:
        return data_source(name, openml=server) if name.startswith("openml") else data_source(name)

    family, named = space or _DEFAULT_SPACE, isinstance(datasets, str)
    objectives: list[LiveObjective] = []
    left_out: dict[str, str] = {}
    for name in _names(datasets):
        try:
            # The other metrics that the released code logs would take as long as the training.
            objectives.append(grpoformer_objective(family, source(name), metrics=("accuracy",)))
        except DataError as error:
            if not named:
                raise
            left_out[name] = str(error)
    if not objectives:
        name, reason = next(iter(left_out.items()))
        raise DataMissingError(
            f"datasets={datasets!r}: none of {', '.join(left_out)} can be loaded, {name} because: {reason} Use "
            "datasets='bundled', which needs no network."
        )
    notes = [MEASURED, *(f"{name} is left out: {reason}" for name, reason in left_out.items())]
    return suite_of(
        objectives,
        metric=metric,
        protocol=protocol,
        executor=ExecutorSettings(executor, workers, scheduler, Limits(seconds, memory)),
        seed=seed,
        trainings=trainings,
        notes=notes,
        provenance={"datasets": [each.data.name for each in objectives], "left_out": left_out},
    )


def _names(datasets: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(datasets, str):
        if datasets not in DATASET_SETS:
            raise unknown_name(
                "set of datasets", datasets, DATASET_SETS, "Or give a list of names, e.g. ['sklearn:digits']."
            )
        return DATASET_SETS[datasets]
    if not datasets or not all(isinstance(name, str) for name in datasets):
        raise InvalidSettingError(
            f"datasets={datasets!r} must be one of {', '.join(DATASET_SETS)}, or a list of names, e.g. "
            "['sklearn:digits', 'openml-task:59']."
        )
    return tuple(datasets)
