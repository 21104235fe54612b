"""Secretary bird optimisation (SBOA).

Fu et al. (2024), "Secretary bird optimization algorithm: a new metaheuristic for solving global optimization problems",
Artificial Intelligence Review 57, doi 10.1007/s10462-024-10729-y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials, distinct_members, uniform_at_inactive
from hpo_gym.errors import require_integer

__all__ = ["LEVY_SIGMA", "SBOA", "SBOAConfig", "escape", "hunt", "levy"]

_BETA = 1.5

#: Scale of the numerator of a Levy step of index 1.5 (Mantegna's algorithm).
LEVY_SIGMA = (
    math.gamma(1.0 + _BETA)
    * math.sin(math.pi * _BETA / 2.0)
    / (math.gamma((1.0 + _BETA) / 2.0) * _BETA * 2.0 ** ((_BETA - 1.0) / 2.0))
) ** (1.0 / _BETA)


@dataclass(frozen=True)
class SBOAConfig:
    """Configuration of :class:`SBOA`.

    Args:
        population: Members, ``N``, at least 2: hunting needs the difference of two.

    Raises:
        InvalidSettingError: For a smaller population.
    """

    population: int = 10

    def __post_init__(self) -> None:
        require_integer("population", self.population, 2, "hunting needs the difference of two members")


class SBOA(HistoryAgent):
    """Every iteration all members hunt, one trial each, then all escape, one trial each: ``2 N`` evaluations.

    The first ``N`` trials are the population: the start, as whatever else an episode begins with, then random legal
    configurations. After each phase a member moves only if the new configuration is better. The ``t / T`` of the
    formulas is the share of the evaluations after the first ``N`` that are made, so that each of the three stages of
    hunting gets a third of them at any budget; in whole iterations a budget of 50 would hold two, and no last stage.

    It works on the unit cube, clipped; the update multiplies configurations themselves, so that it depends on where
    the origin lies. Coordinates of inactive hyperparameters, on which no selection acts, are drawn anew at every use;
    a forbidden configuration becomes a random legal one.
    """

    name: ClassVar[str] = "sboa"
    config: SBOAConfig

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        size, count, dimension = self.config.population, trials.count, trials.u.shape[2]
        batch, device = len(count), count.device
        population = trials.members(size, latest=False)
        members = uniform_at_inactive(population, draws)
        row = torch.arange(batch, device=device)
        own, best = members[row, count % size], members[row, population.score.argmax(1)]
        pair = members[row[:, None], distinct_members(batch, size, 2, draws, None)]
        other = members[row, torch.randint(size, (batch,), generator=draws, device=device)]

        def normal() -> Tensor:
            return torch.randn(batch, dimension, generator=draws, device=device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(batch, *shape, generator=draws, device=device)

        made, share = count - size, self._share(count)
        hunting = hunt(own, best, pair, share, uniform(dimension), normal(), levy(normal(), normal()))
        escaping = escape(own, best, other, share, uniform() < 0.5, normal(), torch.round(1.0 + uniform()))
        phase = made.clamp(min=0) // size % 2
        moved = torch.where((phase == 0)[:, None], hunting, escaping).clamp(0.0, 1.0)
        moved = self.random_where_forbidden(moved, draws)
        return torch.where((made < 0)[:, None], self.space.sample(batch, draws), moved)

    def _share(self, count: Tensor) -> Tensor:
        """Return ``t / T`` after ``count`` trials, float32 ``[B, 1]`` in ``[0, 1]``."""
        size = self.config.population
        share: Tensor = (count - size) / max(1, self.problem.budget - size)
        return share.clamp(0.0, 1.0)[:, None]


def hunt(
    own: Tensor, best: Tensor, pair: Tensor, share: Tensor, uniform: Tensor, normal: Tensor, flight: Tensor
) -> Tensor:
    """Return where members hunt (phase 1): searching, consuming and attacking prey in the thirds of an episode.

    Args:
        own: The members ``X_i``, ``[B, D]``.
        best: The best members ``X_best``, ``[B, D]``.
        pair: Two random members ``X_r1``, ``X_r2``, ``[B, 2, D]``.
        share: ``t / T``, ``[B, 1]``.
        uniform: ``R1``, uniform in ``[0, 1)``, ``[B, D]``.
        normal: ``RB``, standard normal, ``[B, D]``.
        flight: Levy steps, ``[B, D]``.
    """
    searching = own + (pair[:, 0] - pair[:, 1]) * uniform
    consuming = best + torch.exp(share**4) * (normal - 0.5) * (best - own)
    attacking = best + (1.0 - share) ** (2.0 * share) * own * (0.5 * flight)
    late = torch.where(share > 2.0 / 3.0, attacking, consuming)
    return torch.where(share < 1.0 / 3.0, searching, late)


def escape(
    own: Tensor, best: Tensor, other: Tensor, share: Tensor, hides: Tensor, normal: Tensor, factor: Tensor
) -> Tensor:
    """Return where members escape to (phase 2): hiding near the best, or fleeing.

    Args:
        own: The members ``X_i``, ``[B, D]``.
        best: The best members ``X_best``, ``[B, D]``.
        other: Random members ``X_rand``, ``[B, D]``.
        share: ``t / T``, ``[B, 1]``.
        hides: Which of the two, each as likely, bool ``[B]``.
        normal: ``RB`` when hiding and ``R2`` when fleeing, standard normal, ``[B, D]``.
        factor: ``K``, 1 or 2, ``[B]``.
    """
    hiding = best + (2.0 * normal - 1.0) * (1.0 - share) ** 2 * own
    fleeing = own + normal * (other - factor[:, None] * own)
    return torch.where(hides[:, None], hiding, fleeing)


def levy(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return Levy steps ``0.01 u sigma / |v|^(1 / 1.5)`` of standard normal ``u`` and ``v``."""
    # A zero would make infinity of it, and NaN of infinity times a coordinate at 0.
    least = torch.finfo(denominator.dtype).tiny
    magnitude: Tensor = denominator.abs().clamp(min=least) ** (1.0 / _BETA)
    step: Tensor = 0.01 * numerator * LEVY_SIGMA / magnitude
    return step
