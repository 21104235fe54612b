"""Portfolios: few configurations that together are good on every training task.

Wistuba, Schilling and Schmidt-Thieme (2015), "Sequential Model-Free Hyperparameter Tuning", ICDM; Feurer et al. (2022),
"Auto-Sklearn 2.0: Hands-free AutoML via Meta-Learning", JMLR 23, section 3.1: greedily add the configuration that most
reduces the mean over training tasks of the best regret so far. That objective is submodular, so that the greedy
solution is within ``1 - 1/e`` of the best one of its size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.local_search import Neighbourhood
from agents.populations import first_of_each
from agents.problem import Problem, TrainingTasks
from hpo_gym.errors import require_integer
from hpo_gym.seeding import generator

__all__ = ["explore_training_tasks", "greedy_cover", "greedy_portfolio"]

# Candidates are scored in chunks of about so many evaluations, for the memory's sake.
_CHUNK = 2**15

# Scores are float32 of about 1: a smaller reduction of the mean regret is rounding.
_LEAST_GAIN = 1e-6

# Of the steps to neighbours: SMAC's.
_SIGMA = 0.2


def greedy_cover(regret: Tensor, size: int, reached: Tensor | None = None) -> Tensor:
    """Choose candidates that together have a small regret on every task.

    When none improves on what the chosen ones reach, the cover is complete, and the candidates that are left follow in
    their order: where that is random, so is the search that goes on.

    Args:
        regret: Of every candidate on every task, ``[P, N]``.
        size: Candidates to choose; all ``P`` of them if there are no more.
        reached: Regret on every task before the first is chosen, ``[N]``; ``None``: nothing was evaluated.

    Returns:
        Positions of the chosen candidates in order, each once, int64 ``[min(size, P)]``; equally good
        ones in theirs.
    """
    regret = regret.double()
    best = torch.full_like(regret[0], torch.inf) if reached is None else reached.double()
    free = torch.ones(len(regret), dtype=torch.bool, device=regret.device)
    chosen: list[int] = []
    while len(chosen) < min(size, len(regret)):
        mean = torch.minimum(regret, best).mean(1).masked_fill(~free, torch.inf)
        pick = int(mean.argmin())
        if float(best.mean() - mean[pick]) < _LEAST_GAIN:
            break
        chosen.append(pick)
        free[pick] = False
        best = torch.minimum(best, regret[pick])
    left = free.nonzero().squeeze(1).tolist()
    return torch.tensor((chosen + left)[:size], dtype=torch.int64, device=regret.device)


def greedy_portfolio(
    problem: Problem,
    training: TrainingTasks,
    size: int,
    *,
    candidates: int = 4096,
    refinements: int = 4,
    seed: int = 0,
    after_default: bool = True,
) -> Tensor:
    """Build a portfolio out of candidates that are evaluated on every training task.

    They are the default, random legal configurations and, as in Auto-Sklearn 2.0, the fruits of a search on each task:
    half of them are neighbours of what is best on some training task so far, drawn in several rounds. All that costs
    at most ``(candidates + 1) N`` evaluations (counted in ``training.evaluations``), and none of an episode's.

    Args:
        problem: The search space.
        training: The ``N`` training tasks.
        size: Most configurations of the portfolio, at least 1.
        candidates: Configurations to choose from, beside the default; at least 1.
        refinements: Rounds in which half the candidates are drawn as neighbours; 0: all are random.
        seed: Root of the stream that draws them.
        after_default: Whether the default counts as evaluated already, as it is where episodes start there, so that
            the portfolio complements it.

    Returns:
        Points of the unit cube as a history shows them (snapped, inactive hyperparameters 0), in the order in which
        to play them: float32 ``[K, D]`` on the CPU. ``K`` is ``size``, or less where fewer candidates differ.

    Raises:
        InvalidSettingError: If ``size`` or ``candidates`` is below 1, or ``refinements`` below 0.
    """
    require_integer("size", size, 1)
    draws = generator(seed, "agent", "portfolio")
    points, regret = explore_training_tasks(problem, training, candidates, refinements, draws)
    return points[greedy_cover(regret, size, regret[0] if after_default else None)]


def explore_training_tasks(
    problem: Problem, training: TrainingTasks, candidates: int, refinements: int, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Evaluate configurations on every training task, many of them near what is best on one.

    Args:
        problem: The search space.
        training: The ``N`` training tasks.
        candidates, refinements: As for :func:`greedy_portfolio`.
        draws: Where random numbers come from.

    Returns:
        Different points of the unit cube as a history shows them, the default first, float32 ``[P, D]``, and their
        regret on every task, float64 ``[P, N]``; both on the CPU.

    Raises:
        InvalidSettingError: If ``candidates`` is below 1, or ``refinements`` below 0.
    """
    require_integer("candidates", candidates, 1)
    require_integer("refinements", refinements, 0)
    space = problem.space
    per_round = candidates // (2 * refinements) if refinements else 0
    drawn = space.sample(candidates - refinements * per_round, draws)
    points = space.canonical(torch.cat([space.default()[None], drawn]))
    regret = _regret(training, points)
    neighbourhood = Neighbourhood(space, _SIGMA)
    for _ in range(refinements if per_round else 0):
        best = points[regret.argmin(0)]
        parent = best[torch.randint(len(best), (per_round,), generator=draws)]
        active = space.active(parent)
        parent = torch.where(active, parent, torch.rand(parent.shape, generator=draws))
        neighbours = neighbourhood.draw(parent, active, draws)
        neighbours = space.canonical(neighbours[space.legal(neighbours)])
        if len(neighbours) == 0:
            continue
        points = torch.cat([points, neighbours])
        regret = torch.cat([regret, _regret(training, neighbours)])
    # The default is the first of the different points.
    different = first_of_each(points).sort().values
    return points[different], regret[different]


def _regret(training: TrainingTasks, points: Tensor) -> Tensor:
    """Return the regret of every point on every training task, float64 ``[P, N]`` on the CPU."""
    # Where models are trained the first call finds the range, and is to hold all that were drawn.
    rows = max(1, _CHUNK // training.count)
    return torch.cat([training.regret(chunk).cpu() for chunk in points.split(rows)])
