"""Meta-features of datasets as inputs of a policy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_gym.tasks.datasets import QUALITIES, dataset_key, qualities
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import split_tasks

__all__ = ["META_FEATURE_NAMES", "standardise", "suite_meta_features"]

#: Meaning of the ``M`` columns.
META_FEATURE_NAMES = (*QUALITIES, "missing")

_CLIP = 5.0


def standardise(table: Tensor, training: Sequence[int]) -> Tensor:
    """Scale raw qualities for a policy.

    ``log1p`` of every (non-negative) quality, standardised with mean and deviation of the training
    rows only, clipped to ``[-5, 5]``; rows without qualities (NaN) become 0 with a flag of 1.

    Args:
        table: Raw qualities, float64 ``[N, Q]``; rows of NaN where unknown.
        training: Row numbers of the training tasks.

    Returns:
        float32 ``[N, Q + 1]``.
    """
    missing = table.isnan().any(1)
    scaled = torch.sign(table) * torch.log1p(table.abs())
    reference = scaled[list(training)]
    reference = reference[~reference.isnan().any(1)]
    if len(reference) < 2:
        reference = scaled[~missing]
    if len(reference) < 2:
        return torch.cat([torch.zeros_like(table), missing[:, None]], 1).float()
    deviation = reference.std(0).clamp(min=1e-6)
    scaled = ((scaled - reference.mean(0)) / deviation).clamp(-_CLIP, _CLIP)
    scaled = scaled.masked_fill(missing[:, None], 0.0)
    return torch.cat([scaled, missing[:, None].to(scaled.dtype)], 1).float()


def suite_meta_features(space: str, protocol: str, tasks: Sequence[TaskRef], own: Sequence[str] = ()) -> Tensor:
    """Return the meta-features of a suite's tasks, standardised on its training tasks.

    Args:
        space: The suite's space.
        protocol: The split protocol that says which tasks are training tasks.
        tasks: The suite's tasks.
        own: The sides that the source itself publishes, as for :func:`~hpo_gym.tasks.splits.split_tasks`.

    Returns:
        float32 ``[N, 21]`` in ``[-5, 5]`` (see :data:`META_FEATURE_NAMES`); ``[N, 0]`` for tasks that are
        no OpenML datasets.
    """
    if not any(ref.kind in ("openml-dataset", "openml-task") for ref in tasks):
        return torch.zeros(len(tasks), 0)
    known = qualities()
    unknown = (float("nan"),) * len(QUALITIES)
    # OpenML may describe a task's copy of a dataset otherwise; policies were trained with that.
    rows = [known.get(f"task:{ref.id}") if ref.kind == "openml-task" else None for ref in tasks]
    rows = [row or known.get(dataset_key(ref), unknown) for row, ref in zip(rows, tasks, strict=True)]
    table = torch.tensor(rows, dtype=torch.float64)
    return standardise(table, split_tasks(space, protocol, "train", tasks, own))
