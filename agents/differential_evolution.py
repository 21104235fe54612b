"""Differential evolution, DE/rand/1/bin.

Storn and Price (1997), "Differential Evolution -- A Simple and Efficient Heuristic for Global Optimization over
Continuous Spaces", Journal of Global Optimization 11, equations 2 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials, distinct_members, uniform_at_inactive
from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["DifferentialEvolution", "DifferentialEvolutionConfig", "binomial_crossover", "mutant"]


@dataclass(frozen=True)
class DifferentialEvolutionConfig:
    """Configuration of :class:`DifferentialEvolution`.

    Both rates are those of DEHB (Awad, Mallik and Hutter, 2021, IJCAI), which tunes hyperparameters with it.

    Args:
        population: Members, ``NP``, at least 4: a mutant needs three others.
        mutation_factor: Weight of the difference of two members, ``F``, in ``(0, 2]``.
        crossover_rate: Probability that a coordinate is the mutant's, ``CR``, in ``[0, 1]``.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    population: int = 10
    mutation_factor: float = 0.5
    crossover_rate: float = 0.5

    def __post_init__(self) -> None:
        require_integer("population", self.population, 4, "a mutant needs three other members")
        if not 0.0 < self.mutation_factor <= 2.0:
            raise InvalidSettingError(
                f"mutation_factor={self.mutation_factor!r} must lie in (0, 2] (Storn and Price); DEHB uses 0.5."
            )
        if not 0.0 <= self.crossover_rate <= 1.0:
            raise InvalidSettingError(f"crossover_rate={self.crossover_rate!r} must lie in [0, 1]: a probability.")


class DifferentialEvolution(HistoryAgent):
    """Members take turns; each tries a crossover of itself with a mutant, and becomes it if it is no worse.

    The first ``NP`` trials are the population: the start, as whatever else an episode begins with, then random legal
    configurations. A member that improved serves as a parent at once (as in scipy's ``updating="immediate"`` and
    asynchronous DEHB), not from the next generation on.

    It works on the unit cube, where a choice owns an interval and an integer a bin. Coordinates that leave the cube
    are drawn anew, uniformly; coordinates of inactive hyperparameters, on which no selection acts, are drawn anew at
    every use; a forbidden configuration becomes a random legal one.
    """

    name: ClassVar[str] = "differential_evolution"
    config: DifferentialEvolutionConfig

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        config, count = self.config, trials.count
        size, (batch, _, dimension) = config.population, trials.u.shape
        members = uniform_at_inactive(trials.members(size, latest=True), draws)
        row, target = torch.arange(batch, device=count.device), count % size
        parents = members[row[:, None], distinct_members(batch, size, 3, draws, target)]
        trial = mutant(parents, config.mutation_factor)
        drawn = torch.rand(batch, dimension, generator=draws, device=draws.device)
        trial = torch.where((trial < 0.0) | (trial > 1.0), drawn, trial)
        uniform = torch.rand(batch, dimension, generator=draws, device=draws.device)
        certain = torch.randint(dimension, (batch,), generator=draws, device=draws.device)
        trial = binomial_crossover(members[row, target], trial, config.crossover_rate, uniform, certain)
        trial = self.random_where_forbidden(trial, draws)
        return torch.where((count < size)[:, None], self.space.sample(batch, draws), trial)


def mutant(parents: Tensor, factor: float) -> Tensor:
    """Return ``x_r1 + F (x_r2 - x_r3)`` (equation 2): ``[B, 3, D]`` -> ``[B, D]``."""
    return parents[:, 0] + factor * (parents[:, 1] - parents[:, 2])


def binomial_crossover(target: Tensor, mutant: Tensor, rate: float, uniform: Tensor, certain: Tensor) -> Tensor:
    """Take each coordinate of the mutant with some probability, and one for certain (equations 3 and 4).

    Args:
        target: The member, ``[B, D]``.
        mutant: ``[B, D]``.
        rate: ``CR``.
        uniform: Random numbers in ``[0, 1)``, ``[B, D]``.
        certain: The coordinate that is the mutant's in any case, int64 ``[B]``.
    """
    taken = (uniform < rate).scatter(1, certain[:, None], True)
    return torch.where(taken, mutant, target)
