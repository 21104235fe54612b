"""Rungs and brackets: what Hyperband, ASHA and BOHB have in common.

A rung is a share of a full evaluation; of the configurations evaluated there, the best ``1 / eta`` go on to the next.
Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from agents.problem import Problem
from agents.sequential import SequentialAgent, Trial
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace

__all__ = [
    "Bracket",
    "ConfigurationSource",
    "MultiFidelityAgent",
    "RandomSource",
    "SuccessiveHalvingConfig",
    "best_first",
    "hyperband_brackets",
    "rung_shares",
]

# Shares come out of float32, and 1 / 9 there is a little more than 1 / 9 here.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SuccessiveHalvingConfig:
    """What the configuration of every :class:`MultiFidelityAgent` says.

    Args:
        eta: Reduction factor: the best ``1 / eta`` of a rung go on to the next, which costs ``eta`` times as much.

    Raises:
        InvalidSettingError: For an ``eta`` that keeps more than half of a rung, or is no integer.
    """

    eta: int = 3

    def __post_init__(self) -> None:
        require_integer("eta", self.eta, 2, "1 / eta of a rung goes on to the next; 3 and 4 are usual")


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving.

    Args:
        sizes: How many configurations each rung evaluates, falling.
        shares: Share of a full evaluation that each of them gets, rising to 1.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def cost(self) -> float:
        """Price in full evaluations, none of them continued."""
        return sum(size * share for size, share in zip(self.sizes, self.shares, strict=True))


def rung_shares(least: float, eta: int) -> tuple[float, ...]:
    """Return the shares of a full evaluation that rungs stand for: ``eta^-K ... eta^-1, 1``.

    They are laid out from the top, since a full evaluation is all that counts in the end:
    ``K = floor(log_eta(1 / least))``.

    Args:
        least: Smallest share that can be asked for, in ``(0, 1]``.
        eta: Reduction factor.
    """
    deepest = math.floor(math.log(1.0 / least, eta) + _TOLERANCE)
    return tuple(max(least, float(eta) ** -depth) for depth in range(deepest, -1, -1))


def hyperband_brackets(least: float, eta: int) -> tuple[Bracket, ...]:
    """Return Hyperband's brackets, the one with the cheapest evaluations first.

    Li et al. (2018), JMLR 18(185), Algorithm 1 with ``R = 1``: bracket ``s`` begins with
    ``n = ceil((s_max + 1) / (s + 1) * eta^s)`` configurations, and its rung ``i`` evaluates ``floor(n * eta^-i)`` of
    them. Tables for ``R = 81, eta = 3`` with 27 configurations in bracket 3 round ``(s_max + 1) / (s + 1)`` down
    first, as the authors' first code did; the algorithm as published begins it with 34.

    Args:
        least: Smallest share that can be asked for, in ``(0, 1]``.
        eta: Reduction factor.
    """
    shares = rung_shares(least, eta)
    brackets = []
    for s in range(len(shares) - 1, -1, -1):
        # In whole numbers: a rounded (s_max + 1) / (s + 1) could lift the ceiling by one.
        count = -(-len(shares) * eta**s // (s + 1))
        brackets.append(Bracket(tuple(count // eta**i for i in range(s + 1)), shares[len(shares) - 1 - s :]))
    return tuple(brackets)


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials from the best score to the worst, of equals the earlier first."""
    return sorted(trials, key=lambda trial: (-trial.score, trial.number))


class ConfigurationSource(Protocol):
    """Where new configurations come from."""

    def propose(self) -> Tensor:
        """Return a legal configuration, a point of the unit cube, ``[D]``."""

    def observe(self, trial: Trial, share: float) -> None:
        """Learn an outcome.

        Args:
            trial: The trial.
            share: Of the rung that it was asked for; the environment rounds to whole epochs.
        """


class RandomSource:
    """New configurations at random, whatever was seen.

    Args:
        space: The search space.
        seed: Root of its random numbers.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._draws = generator(seed, "successive halving", "configurations")

    def propose(self) -> Tensor:
        return self._space.sample(1, self._draws)[0]

    def observe(self, trial: Trial, share: float) -> None:
        """Learn nothing."""


class MultiFidelityAgent(SequentialAgent):
    """A sequential agent that decides which share of a full evaluation a configuration deserves.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str]
    config: SuccessiveHalvingConfig

    def prepare(self, problem: Problem) -> None:
        self.require_rungs(problem)
        super().prepare(problem)

    def require_rungs(self, problem: Problem) -> None:
        """Refuse a problem in which there is nothing to halve.

        Raises:
            InvalidSettingError: If every evaluation is a full one, or ``eta`` leaves no cheaper rung.
        """
        if not problem.multi_fidelity:
            raise InvalidSettingError(
                f"Agent {self.name!r} compares configurations by cheap evaluations, and here every evaluation is a "
                "full one. Use protocol=multi-fidelity, or env.multi_fidelity=true env.space=lcbench; or leave out "
                f"{self.name!r}."
            )
        eta, least = self.config.eta, problem.least_fidelity
        if len(rung_shares(least, eta)) == 1:
            raise InvalidSettingError(
                f"eta={eta} leaves agent {self.name!r} no cheaper rung: the smallest share of a full evaluation is "
                f"{least:.4g}, and the next rung would be {1.0 / eta:.4g}. Use a smaller eta (2 is the least) or "
                "env.min_fidelity=0.1."
            )
