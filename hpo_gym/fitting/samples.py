"""Labelled configurations of an original surrogate: random ones, and ones near the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.seeding import generator
from hpo_gym.surrogates.base import Fidelity
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["Samples", "label", "sample_original"]

_CHUNK = 16_384
# Share of samples that get a full evaluation when the original has a fidelity.
_FULL_SHARE = 0.6


@dataclass
class Samples:
    """Labelled configurations of all tasks.

    Args:
        task: int64 ``[R]``.
        u: float32 ``[R, D]``.
        active: bool ``[R, D]``.
        fidelity: Natural units, float32 ``[R]``, or ``None``.
        metrics: Clipped metrics, float32 ``[R, K]``.
        random: Whether the row was drawn uniformly, bool ``[R]``.
    """

    task: Tensor
    u: Tensor
    active: Tensor
    fidelity: Tensor | None
    metrics: Tensor
    random: Tensor

    def join(self, other: Samples) -> Samples:
        """Return both, one after the other."""
        fidelity = None
        if self.fidelity is not None and other.fidelity is not None:
            fidelity = torch.cat([self.fidelity, other.fidelity])
        return Samples(
            torch.cat([self.task, other.task]),
            torch.cat([self.u, other.u]),
            torch.cat([self.active, other.active]),
            fidelity,
            torch.cat([self.metrics, other.metrics]),
            torch.cat([self.random, other.random]),
        )


def label(
    suite: TaskSuite,
    task: Tensor,
    u: Tensor,
    fidelity: Tensor | None,
    random: bool,
) -> Samples:
    """Evaluate configurations on the original."""
    active = suite.space.active(u)
    parts = []
    with torch.no_grad():
        for start in range(0, len(task), _CHUNK):
            rows = slice(start, start + _CHUNK)
            part = None if fidelity is None else fidelity[rows]
            parts.append(suite.evaluate(task[rows], u[rows], active[rows], part).metrics)
    flag = torch.full((len(task),), random)
    return Samples(task, u, active, fidelity, torch.cat(parts), flag)


def sample_original(
    suite: TaskSuite,
    per_task: int,
    elite_rounds: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Samples:
    """Draw ``per_task`` random configurations a task, then configurations near the best of them.

    Each elite round adds half as many rows, made from the best 2 % of a task's full evaluations
    by redrawing or shifting some coordinates, so that the fitted surface is accurate where an
    optimiser ends up.
    """
    draws = generator(seed, "fit", suite.name, "samples")
    count = suite.num_tasks
    task = torch.arange(count).repeat_interleave(per_task)
    u = suite.space.sample(len(task), draws)
    samples = label(suite, task, u, _draw_fidelity(suite.fidelity, len(task), draws), True)
    if progress:
        progress(1 / (1 + elite_rounds))
    for index in range(elite_rounds):
        size = per_task // 2
        parts = [_elites(suite, samples, k, size, draws) for k in range(count)]
        task = torch.arange(count).repeat_interleave(size)
        fidelity = None
        if suite.fidelity is not None:
            fidelity = torch.full((len(task),), float(suite.fidelity.upper))
        u = suite.space.snap(torch.cat(parts))
        samples = samples.join(label(suite, task, u, fidelity, False))
        if progress:
            progress((2 + index) / (1 + elite_rounds))
    return samples


def _draw_fidelity(fidelity: Fidelity | None, count: int, draws: torch.Generator) -> Tensor | None:
    if fidelity is None:
        return None
    low, high = torch.tensor(fidelity.lower).log(), torch.tensor(fidelity.upper).log()
    value = torch.exp(low + (high - low) * torch.rand(count, generator=draws))
    if fidelity.integer:
        value = value.round()
    full = torch.rand(count, generator=draws) < _FULL_SHARE
    value = torch.where(full, torch.tensor(float(fidelity.upper)), value)
    return value.clamp(fidelity.lower, fidelity.upper)


def _elites(suite: TaskSuite, samples: Samples, task: int, size: int, draws: torch.Generator) -> Tensor:
    mine = samples.task == task
    if samples.fidelity is not None and suite.fidelity is not None:
        mine &= samples.fidelity >= suite.fidelity.upper
    rows = mine.nonzero().squeeze(1)
    score = suite.to_score(samples.metrics[rows, suite.metric_column])
    best = rows[score.topk(max(50, len(rows) // 50)).indices]
    parent = samples.u[best[torch.randint(len(best), (size,), generator=draws)]]
    moved = torch.rand(parent.shape, generator=draws) < 0.4
    redrawn = torch.rand(parent.shape, generator=draws)
    shifted = parent + 0.1 * torch.randn(parent.shape, generator=draws)
    anew = torch.rand(parent.shape, generator=draws) < 0.3
    return torch.where(moved, torch.where(anew, redrawn, shifted), parent).clamp(0.0, 1.0)
