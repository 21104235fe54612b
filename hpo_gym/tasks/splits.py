"""Training, validation and test tasks, fixed and published.

Two protocols, never mixed silently:

* ``dataset-disjoint``: one partition of all datasets of all spaces. A held-out dataset is held out in
  every space, so a policy trained on one space can be tested on another. A few copies of training datasets were
  recognised late, among held-out tasks: they are :data:`LEFT_OUT` of validation and testing, and of ``all`` not.
* ``per-space``: every space has a partition of its own: that of its source, where it publishes one. A dataset held
  out in one space may be a training dataset of another.

Both are packaged (``data/splits.json``, made by ``python -m hpo_gym.tasks.build_tables``). An OpenML dataset
that is not in the table gets its side from a hash of its id; tasks that are no OpenML datasets, from
their position.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from hpo_gym.errors import DataMissingError, SplitLeakError, unknown_name
from hpo_gym.tasks.datasets import DATA_FOLDER, dataset_key
from hpo_gym.tasks.ref import TaskRef

__all__ = ["LEFT_OUT", "PROTOCOLS", "SPLITS", "check_no_leak", "dataset_key", "side_of", "split_tasks"]

PROTOCOLS = ("dataset-disjoint", "per-space")
SPLITS = ("train", "val", "test", "all")

#: Side of a held-out task of which another space has a copy among its training tasks.
LEFT_OUT = "left out"

#: Shares of training and validation tasks; the rest is for testing.
TRAIN_SHARE, VAL_SHARE = 0.60, 0.15

# Sides of tasks without a dataset, by position: 12 train, 3 val and 5 test of 20, well mixed, so that
# four tasks already give every split one.
_PATTERN = tuple({"t": "train", "v": "val", "e": "test"}[letter] for letter in "tetvttettettvttetvte")

# Published scenarios share the partition of the embedded space that is made of them.
_SAME_SPACE = {
    "rbv2_rpart": "rpart",
    "rbv2_xgboost": "xgboost",
    "rbv2_ranger": "ranger",
    "rbv2_ranger@v2": "ranger",
}


@cache
def _published() -> dict[str, dict[str, Any]]:
    path = DATA_FOLDER / "splits.json"
    if not path.exists():
        raise DataMissingError(
            f"{path} is missing from this installation. Reinstall hpo_gym, or make it again with "
            "`python -m hpo_gym.tasks.build_tables`."
        )
    tables: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tables


def side_of(space: str, protocol: str, task: TaskRef, position: int) -> str:
    """Return ``train``, ``val`` or ``test`` for one task, or :data:`LEFT_OUT`.

    Args:
        space: The space (per-space protocol only).
        protocol: One of :data:`PROTOCOLS`.
        task: The task.
        position: Its position in the suite; decides for tasks that are no OpenML datasets.
    """
    if task.kind not in ("openml-dataset", "openml-task"):
        return _PATTERN[position % len(_PATTERN)]
    key = dataset_key(task)
    table = _published()[protocol]
    space = _SAME_SPACE.get(space, space)
    if protocol == "dataset-disjoint" and key in _published()[LEFT_OUT].get(space, ()):
        return LEFT_OUT
    name = "all" if protocol == "dataset-disjoint" else space
    known: str | None = table.get(name, {}).get(key)
    return known or _hashed_side(key if protocol == "dataset-disjoint" else f"{name}/{key}")


def _hashed_side(key: str) -> str:
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    if share < TRAIN_SHARE:
        return "train"
    return "val" if share < TRAIN_SHARE + VAL_SHARE else "test"


def split_tasks(
    space: str, protocol: str, split: str | Sequence[str], tasks: Sequence[TaskRef], own: Sequence[str] = ()
) -> list[int]:
    """Return the positions of a split's tasks.

    Args:
        space: The suite's space.
        protocol: ``dataset-disjoint`` or ``per-space``.
        split: ``train``, ``val``, ``test`` or ``all``.
        tasks: The suite's tasks.
        own: The sides that the source itself publishes, which are those of ``per-space``; empty: it publishes none.

    Raises:
        UnknownNameError: For an unknown protocol or split.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if split == "all":
        return list(range(len(tasks)))
    if protocol == "per-space" and own:
        return [index for index, side in enumerate(own) if side == split]
    return [index for index, task in enumerate(tasks) if side_of(space, protocol, task, index) == split]


def check_no_leak(training: Iterable[str], testing: Iterable[str]) -> None:
    """Refuse a combination in which a test dataset was trained on.

    Args:
        training: Dataset keys of all training tasks (see :func:`dataset_key`), of all spaces; those of policies that
            were trained when less was known of a task, too.
        testing: Dataset keys of the test tasks.

    Raises:
        SplitLeakError: If they overlap; the message names datasets and the remedy.
    """
    overlap = sorted(set(map(_known_today, training)) & set(testing))
    if overlap:
        shown = ", ".join(overlap[:5]) + (", ..." if len(overlap) > 5 else "")
        raise SplitLeakError(
            f"{len(overlap)} test dataset(s) were trained on: {shown}. Use "
            "protocol='dataset-disjoint' and split='train' for training and split='val' or 'test' "
            "for testing; 'per-space' splits of different spaces overlap."
        )


def _known_today(key: str) -> str:
    kind, _, number = key.partition(":")
    return dataset_key(TaskRef("openml-task", number)) if kind == "task" else key
