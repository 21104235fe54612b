"""The best configuration of every task and the range of its scores.

Three stages, batched over all tasks: a scrambled Sobol sample; then, from the best points of each
task, alternating rounds of gradient ascent on the float hyperparameters and of coordinate-wise local
search on all of them (every choice of a categorical one, neighbours and a spread of values of the
others). Nothing is lost between rounds: the best point seen is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.tasks.suite import KnownRange, TaskSuite

__all__ = ["OptimumSearch", "find_known_range"]

_CHUNK = 65_536


@dataclass(frozen=True)
class OptimumSearch:
    """Effort of :func:`find_known_range`.

    Args:
        sobol: Sobol points per task; a power of two keeps the sample balanced.
        starts: How many of the best points of each task are refined.
        rounds: Alternations of gradient ascent and local search.
        gradient_steps: Steps of gradient ascent per round; 0 for objectives without a gradient.
        local_candidates: Values tried per hyperparameter and local-search pass.
        seed: Root of the seed tree.

    Raises:
        InvalidSettingError: If an effort is negative, or ``sobol`` is smaller than ``starts``.
    """

    sobol: int = 16_384
    starts: int = 8
    rounds: int = 3
    gradient_steps: int = 40
    local_candidates: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"starts": 1, "sobol": self.starts, "rounds": 0, "gradient_steps": 0, "local_candidates": 2}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value < least:
                reason = f" (starts={self.starts} of the points are refined)" if name == "sobol" else ""
                raise InvalidSettingError(f"{name}={value} of an optimum search must be >= {least}{reason}.")

    def describe(self) -> str:
        """Return the method as the sentence stored beside its result."""
        return (
            f"{self.sobol} scrambled Sobol points per task, then {self.rounds} rounds of "
            f"{self.gradient_steps} gradient steps and coordinate search with "
            f"{self.local_candidates} candidates per hyperparameter from the best {self.starts} "
            f"points (seed {self.seed})"
        )


def find_known_range(
    suite: TaskSuite,
    search: OptimumSearch | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> KnownRange:
    """Find the worst, median and best score of every task of a suite.

    Args:
        suite: The suite; its objective must be differentiable in ``u`` if
            ``search.gradient_steps > 0``.
        search: The effort; the default takes seconds to minutes on two cores.
        progress: Called with the stage's name and the share done, in ``[0, 1]``.

    Raises:
        InvalidSettingError: If fewer than ``search.starts`` Sobol points are legal.
    """
    search = search or OptimumSearch()
    report = progress or (lambda stage, share: None)
    worst, median, u = _sobol_stage(suite, search, report)
    task = torch.arange(suite.num_tasks, device=suite.device).repeat_interleave(search.starts)
    score = _score(suite, task, u)
    draws = generator(search.seed, "optimum", "local", device=suite.device)
    for index in range(search.rounds):
        if search.gradient_steps > 0:
            u, score = _gradient_ascent(suite, task, u, score, search.gradient_steps)
        u, score = _coordinate_search(suite, task, u, score, search.local_candidates, draws)
        report("refine", (index + 1) / search.rounds)
    best, position = score.view(suite.num_tasks, -1).max(1)
    chosen = u.view(suite.num_tasks, search.starts, -1)
    best_u = chosen[torch.arange(suite.num_tasks, device=u.device), position]
    return KnownRange(worst, median, best, best_u, search.describe())


def _score(suite: TaskSuite, task: Tensor, u: Tensor) -> Tensor:
    with torch.no_grad():
        parts = []
        for start in range(0, len(task), _CHUNK):
            rows = slice(start, start + _CHUNK)
            active = suite.space.active(u[rows])
            score = suite.evaluate(task[rows], u[rows], active).score
            parts.append(torch.where(suite.space.legal(u[rows]), score, torch.zeros_like(score)))
        return torch.cat(parts)


def _sobol_stage(
    suite: TaskSuite, search: OptimumSearch, report: Callable[[str, float], None]
) -> tuple[Tensor, Tensor, Tensor]:
    seed = stream_seed(search.seed, "optimum", "sobol") % 2**31
    engine = torch.quasirandom.SobolEngine(suite.space.dimension, scramble=True, seed=seed)
    points = suite.space.snap(engine.draw(search.sobol).to(suite.device).clamp(0.0, 1.0))
    points = points[suite.space.legal(points)]
    if len(points) < search.starts:
        raise InvalidSettingError(
            f"Only {len(points)} of sobol={search.sobol} points are legal in {suite.name!r}, fewer than "
            f"starts={search.starts}. Use a larger sobol."
        )
    worst, median, starts = [], [], []
    for index in range(suite.num_tasks):
        task = torch.full((len(points),), index, device=suite.device)
        score = _score(suite, task, points)
        worst.append(score.min())
        median.append(score.median())
        starts.append(points[score.topk(search.starts).indices])
        report("sample", (index + 1) / suite.num_tasks)
    return torch.stack(worst), torch.stack(median), torch.cat(starts)


def _gradient_ascent(suite: TaskSuite, task: Tensor, u: Tensor, score: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    continuous = torch.tensor([column.kind == "float" for column in suite.space.spec.columns], device=u.device)
    if not bool(continuous.any()):
        return u, score
    best_u, best = u.clone(), score.clone()
    for start in range(0, len(task), 8192):
        rows = slice(start, start + 8192)
        fixed, active = u[rows], suite.space.active(u[rows])
        free = fixed.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([free], lr=0.03)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.03 * (1 - step / steps) + 0.001
            optimizer.zero_grad()
            mixed = torch.where(continuous, free.clamp(0.0, 1.0), fixed)
            value = suite.evaluate(task[rows], mixed, active).score
            gained = value.detach() > best[rows]
            best[rows] = torch.where(gained, value.detach(), best[rows])
            best_u[rows] = torch.where(gained[:, None], mixed.detach(), best_u[rows])
            (-value.sum()).backward()
            optimizer.step()
    checked = _score(suite, task, best_u)
    kept = checked >= score
    return torch.where(kept[:, None], best_u, u), torch.where(kept, checked, score)


def _coordinate_search(
    suite: TaskSuite,
    task: Tensor,
    u: Tensor,
    score: Tensor,
    candidates: int,
    draws: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Try ``candidates`` values of one hyperparameter after the other, keeping what improves."""
    rows = len(task)
    for column, description in enumerate(suite.space.spec.columns):
        if description.kind in ("categorical", "ordinal", "constant"):
            count = max(1, len(description.choices))
            values = (torch.arange(count, device=u.device) + 0.5) / count
            values = values.expand(rows, count)
        else:
            half = candidates // 2
            wide = torch.rand(rows, half, generator=draws, device=u.device)
            near = 0.02 * torch.randn(rows, candidates - half, generator=draws, device=u.device)
            values = torch.cat([wide, (u[:, column : column + 1] + near).clamp(0.0, 1.0)], 1)
        trial = u[:, None, :].repeat(1, values.shape[1], 1)
        trial[:, :, column] = values
        flat = suite.space.snap(trial.view(-1, u.shape[1]))
        found = _score(suite, task.repeat_interleave(values.shape[1]), flat)
        best, position = found.view(rows, -1).max(1)
        better = best > score
        chosen = flat.view(rows, -1, u.shape[1])[torch.arange(rows, device=u.device), position]
        u = torch.where(better[:, None], chosen, u)
        score = torch.where(better, best, score)
    return u, score
