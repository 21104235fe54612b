"""Train, validation and test tasks (interim: by a stable hash; the published table replaces it)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hpo_gym.errors import SplitLeakError, unknown_name
from hpo_gym.tasks.ref import TaskRef

__all__ = ["check_no_leak", "dataset_key", "split_tasks"]

_PROTOCOLS = ("dataset-disjoint", "per-space")
_SPLITS = ("train", "val", "test", "all")


def dataset_key(ref: TaskRef) -> str:
    return str(ref)


def split_tasks(space: str, protocol: str, split: str, tasks: Sequence[TaskRef]) -> list[int]:
    if protocol not in _PROTOCOLS:
        raise unknown_name("protocol", protocol, _PROTOCOLS)
    if split not in _SPLITS:
        raise unknown_name("split", split, _SPLITS)
    if split == "all":
        return list(range(len(tasks)))
    salt = "" if protocol == "dataset-disjoint" else space

    def side(ref: TaskRef) -> str:
        share = int(hashlib.sha256((salt + str(ref)).encode()).hexdigest()[:8], 16) / 2**32
        return "train" if share < 0.6 else "val" if share < 0.75 else "test"

    return [i for i, ref in enumerate(tasks) if side(ref) == split]


def check_no_leak(train: Sequence[str], test: Sequence[str]) -> None:
    overlap = sorted(set(train) & set(test))
    if overlap:
        raise SplitLeakError(f"{len(overlap)} datasets are on both sides: {overlap[:5]}")
