"""ASHA: successive halving that never waits for a rung to fill.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar (2020), "A System for Massively Parallel
Hyperparameter Tuning", MLSys, Algorithm 2, here with one worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.problem import Problem
from agents.sequential import Optimizer, Suggestion, Trial
from agents.successive_halving import (
    ConfigurationSource,
    MultiFidelityAgent,
    RandomSource,
    SuccessiveHalvingConfig,
    best_first,
    rung_shares,
)
from hpo_gym.spaces import SearchSpace

__all__ = ["ASHA", "ASHAConfig", "ASHAOptimizer"]


@dataclass(frozen=True)
class ASHAConfig(SuccessiveHalvingConfig):
    """Configuration of :class:`ASHA`.

    Args:
        eta: The best ``1 / eta`` of a rung may go on to the next, which costs ``eta`` times as much.
    """


class ASHAOptimizer(Optimizer):
    """One episode of ASHA.

    A trial that was not asked for, such as the start that all methods share, belongs to no rung, and what was asked for
    is asked for again.

    Args:
        space: The search space.
        shares: Share of a full evaluation of each rung, rising to 1.
        eta: Reduction factor.
        source: Where new configurations come from.
    """

    def __init__(self, space: SearchSpace, shares: tuple[float, ...], eta: int, source: ConfigurationSource) -> None:
        self._space, self._shares, self._eta, self._source = space, shares, eta, source
        self._rungs: list[list[Trial]] = [[] for _ in shares]
        #: By rung: numbers of the trials there whose configuration went on.
        self._promoted: list[set[int]] = [set() for _ in shares]
        self._points: dict[int, Tensor] = {}
        self._pending: tuple[Tensor, int] | None = None

    def ask(self) -> Suggestion:
        if self._pending is None:
            self._pending = self._promotion() or (self._source.propose(), 0)
        u, rung = self._pending
        return Suggestion(u, self._shares[rung])

    def tell(self, trial: Trial) -> None:
        if self._pending is None or not trial.answers(self._pending[0], self._space):
            self._source.observe(trial, trial.share)
            return
        u, rung = self._pending
        self._source.observe(trial, self._shares[rung])
        self._points[trial.number] = u
        self._rungs[rung].append(trial)
        self._pending = None

    def _promotion(self) -> tuple[Tensor, int] | None:
        """Return the best configuration that may go on, from the highest rung that has one, and its next rung."""
        for rung in range(len(self._shares) - 2, -1, -1):
            done = self._rungs[rung]
            for trial in best_first(done)[: len(done) // self._eta]:
                if trial.number not in self._promoted[rung]:
                    self._promoted[rung].add(trial.number)
                    return self._points[trial.number], rung + 1
        return None


class ASHA(MultiFidelityAgent):
    """Random configurations at the lowest rung, and a promotion whenever one is due."""

    name: ClassVar[str] = "asha"
    config: ASHAConfig

    def make_optimizer(self, problem: Problem, seed: int) -> ASHAOptimizer:
        self.require_rungs(problem)
        shares = rung_shares(problem.least_fidelity, self.config.eta)
        return ASHAOptimizer(problem.space, shares, self.config.eta, RandomSource(problem.space, seed))
