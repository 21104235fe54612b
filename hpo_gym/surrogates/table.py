"""A table of evaluations as an objective: the recorded result of the nearest configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces import SpaceSpec
from hpo_gym.surrogates.base import Metric, Surrogate

__all__ = ["TableSurrogate"]

# Distances are computed for this many (query, row, hyperparameter) triples at a time.
_CHUNK_ELEMENTS = 4_000_000


class TableSurrogate(Surrogate):
    """Answers with the row of the task that is nearest in the unit cube.

    The distance is Euclidean over numeric hyperparameters, and two values of a categorical one are at
    distance 1. A configuration that is in the table gets its own result: look-up is exact on the grid.
    The answer is piecewise constant, so that it has no gradient.

    Args:
        spec: The search space (without conditions).
        metrics: The ``K`` metrics.
        task: Task of each row, int64 ``[R]``.
        u: Configurations, float32 ``[R, D]``.
        values: Metrics, float32 ``[R, K]``.
        num_tasks: ``N``.

    Raises:
        InvalidSettingError: If a task has no row.
    """

    rows: Tensor
    results: Tensor
    _present: Tensor
    _is_choice: Tensor

    def __init__(
        self,
        spec: SpaceSpec,
        metrics: Sequence[Metric],
        task: Tensor,
        u: Tensor,
        values: Tensor,
        num_tasks: int,
    ) -> None:
        super().__init__()
        self.metrics = tuple(metrics)
        self.num_tasks = num_tasks
        self.num_hyperparameters = len(spec.columns)
        counts = torch.bincount(task, minlength=num_tasks)
        if int(counts.min()) == 0:
            raise InvalidSettingError(f"Task {int(counts.argmin())} of the table has no row.")
        self.configurations = int(counts.min())
        longest = int(counts.max())
        rows = torch.zeros(num_tasks, longest, self.num_hyperparameters)
        results = torch.zeros(num_tasks, longest, len(self.metrics))
        present = torch.zeros(num_tasks, longest, dtype=torch.bool)
        for index in range(num_tasks):
            mine = task == index
            count = int(counts[index])
            rows[index, :count], results[index, :count] = u[mine], values[mine]
            present[index, :count] = True
        choice = torch.tensor([column.kind == "categorical" for column in spec.columns])
        self.register_buffer("rows", rows)
        self.register_buffer("results", results)
        self.register_buffer("_present", present)
        self.register_buffer("_is_choice", choice, persistent=False)

    def nearest(self, task: Tensor, u: Tensor) -> Tensor:
        """Return the position of the nearest row within its task, int64 ``[B]``; ties go to the first."""
        chunk = max(1, _CHUNK_ELEMENTS // self.rows[0].numel())
        parts = []
        for tasks, points in zip(task.split(chunk), u.split(chunk), strict=True):
            apart = points[:, None] - self.rows[tasks]
            distance = torch.where(self._is_choice, (apart != 0).float(), apart.square()).sum(2)
            parts.append(distance.masked_fill(~self._present[tasks], torch.inf).argmin(1))
        return torch.cat(parts)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        return self.results[task, self.nearest(task, u)]
