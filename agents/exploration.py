"""Exploration policies: from action values to actions, row by row.

A policy is an object called with ``(values [B, A], mask [B, A], step, generator)``; agents own one and know
nothing of how it explores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError

__all__ = ["Choice", "EpsilonGreedy", "Exploration", "LinearSchedule", "greedy", "uniform_legal"]


@dataclass(frozen=True)
class LinearSchedule:
    """A value that moves in a straight line and then stays.

    Args:
        start: Value at step 0.
        end: Value from ``steps`` on.
        steps: Transitions until ``end`` is reached.
    """

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        """Return the value after ``step`` transitions."""
        share = min(1.0, step / max(1, self.steps))
        return self.start + share * (self.end - self.start)


@dataclass
class Choice:
    """Chosen actions, int64 ``[B]``, and whether each was an exploratory one, bool ``[B]``."""

    actions: Tensor
    explored: Tensor


def greedy(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the legal action of the largest value, int64 ``[B]``; ties go to the first."""
    if mask is not None:
        values = values.masked_fill(~mask, -torch.inf)
    return values.argmax(1)


def uniform_legal(mask: Tensor, draws: torch.Generator) -> Tensor:
    """Draw one legal action per row, each with the same probability, int64 ``[B]``.

    The largest of independent uniform numbers over the legal actions is uniform over them.
    """
    noise = torch.rand(mask.shape, generator=draws, device=mask.device)
    return noise.masked_fill(~mask, -1.0).argmax(1)


class Exploration(ABC):
    """How an agent that has action values chooses among them while it learns."""

    @abstractmethod
    def __call__(self, values: Tensor, mask: Tensor | None, step: int, draws: torch.Generator) -> Choice:
        """Choose one action per row.

        Args:
            values: Action values, float32 ``[B, A]``.
            mask: Legal actions, bool ``[B, A]``, or ``None`` if all are.
            step: Transitions seen so far.
            draws: Where random numbers come from.
        """

    @abstractmethod
    def describe(self, step: int) -> dict[str, float]:
        """Return what to log about the policy after ``step`` transitions."""


class EpsilonGreedy(Exploration):
    """With probability epsilon a legal action drawn uniformly, else the greedy one; decided row by row.

    Args:
        schedule: Epsilon over transitions.

    Raises:
        InvalidSettingError: If epsilon leaves ``[0, 1]``.
    """

    def __init__(self, schedule: LinearSchedule) -> None:
        for name, value in (("start", schedule.start), ("end", schedule.end)):
            if not 0.0 <= value <= 1.0:
                raise InvalidSettingError(f"epsilon_{name}={value!r} must lie in [0, 1]: it is a probability.")
        self.schedule = schedule

    def __call__(self, values: Tensor, mask: Tensor | None, step: int, draws: torch.Generator) -> Choice:
        legal = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
        explored = torch.rand(len(values), generator=draws, device=values.device) < self.schedule(step)
        actions = torch.where(explored, uniform_legal(legal, draws), greedy(values, mask))
        return Choice(actions, explored)

    def describe(self, step: int) -> dict[str, float]:
        return {"epsilon": self.schedule(step)}
