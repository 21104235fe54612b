"""A grid over a search space: some levels of every hyperparameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["Grid", "number_strides"]

_LARGEST_INTEGER = torch.iinfo(torch.int64).max


class Grid:
    """Levels of every hyperparameter, as points of the unit interval.

    Numeric hyperparameters get up to ``levels`` different values, evenly spaced on their (log) scale
    with both ends; choices are all levels, however many; constants are one.

    Args:
        spec: The space.
        levels: Levels per numeric hyperparameter, at least 2.
        device: Where the tensors lie.

    Attributes:
        values: ``u`` of every level, padded with the last one: float32 ``[D, L]``.
        counts: Number of levels, int64 ``[D]``.
        size: Number of configurations.
        strides: By how much a configuration's number grows with each level, int64 ``[D]``.
    """

    def __init__(self, spec: SpaceSpec, levels: int, device: torch.device) -> None:
        rows = []
        for column in spec.columns:
            if column.kind == "float":
                row = torch.linspace(0.0, 1.0, levels, dtype=torch.float64)
            elif column.kind == "integer":
                row = _integer_levels(column.lower, column.upper, column.log, levels)
            else:
                count = len(column.choices)
                row = (torch.arange(count, dtype=torch.float64) + 0.5) / count
            rows.append(row)
        width = max(len(row) for row in rows)
        padded = [torch.cat([row, row[-1:].expand(width - len(row))]) for row in rows]
        self.values = torch.stack(padded).float().to(device)
        self.counts = torch.tensor([len(row) for row in rows], device=device)
        self.size = math.prod(len(row) for row in rows)
        self.strides = number_strides(self.counts)
        self._column = torch.arange(len(rows), device=device)

    def nearest(self, u: Tensor) -> Tensor:
        """Return the nearest level of every coordinate: ``[B, D]`` -> int64 ``[B, D]``."""
        return (u[:, :, None] - self.values).abs().argmin(2)

    def values_at(self, level: Tensor) -> Tensor:
        """Return the configuration of grid levels: int64 ``[B, D]`` -> ``[B, D]``."""
        return self.values[self._column, level]

    def configuration(self, index: Tensor) -> Tensor:
        """Return grid configurations by number, the last hyperparameter varying fastest.

        Args:
            index: int64 ``[B]`` in ``0 .. size - 1``; only where ``size`` is below ``2**63``.
        """
        return self.values_at(self.level(index))

    def level(self, index: Tensor) -> Tensor:
        """Return the levels of grid configurations by number: int64 ``[B]`` -> int64 ``[B, D]``."""
        return index[:, None] // self.strides % self.counts


def number_strides(counts: Tensor) -> Tensor:
    """Return by how much a configuration's number grows with each level, int64 ``[D]`` of counts ``[D]``.

    The last hyperparameter varies fastest.
    """
    strides, stride = [], 1
    for count in reversed(counts.tolist()):
        # A grid of more configurations than int64 can number is still a grid to step on.
        strides.append(min(stride, _LARGEST_INTEGER))
        stride *= count
    return torch.tensor(list(reversed(strides)), device=counts.device)


def _integer_levels(lower: float, upper: float, log: bool, levels: int) -> Tensor:
    u = torch.linspace(0.0, 1.0, levels, dtype=torch.float64)
    if upper - lower + 1 <= levels:
        value = torch.arange(lower, upper + 1, dtype=torch.float64)
    elif log:
        value = torch.exp(math.log(lower) + u * (math.log(upper) - math.log(lower)))
    else:
        value = lower + u * (upper - lower)
    distinct: Tensor = value.round().unique()
    if log:
        return (distinct.log() - math.log(lower)) / (math.log(upper) - math.log(lower))
    return (distinct - lower) / (upper - lower)
