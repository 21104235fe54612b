"""Hyperband: successive halving from several starting prices.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2018), "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization", JMLR 18(185), Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import ClassVar

from torch import Tensor

from agents.problem import Problem
from agents.sequential import Optimizer, Suggestion, Trial
from agents.successive_halving import (
    Bracket,
    ConfigurationSource,
    MultiFidelityAgent,
    RandomSource,
    SuccessiveHalvingConfig,
    best_first,
    hyperband_brackets,
)
from hpo_gym.spaces import SearchSpace

__all__ = ["Hyperband", "HyperbandConfig", "HyperbandOptimizer"]


@dataclass(frozen=True)
class HyperbandConfig(SuccessiveHalvingConfig):
    """Configuration of :class:`Hyperband`.

    Args:
        eta: One in ``eta`` configurations of a rung goes on to the next, which costs ``eta`` times as much.
    """


class HyperbandOptimizer(Optimizer):
    """One episode of Hyperband: its brackets one after the other, over and over.

    A trial that was not asked for, such as the start that all methods share, belongs to no bracket: ``source`` alone
    learns of it, and what was asked for is asked for again.

    Args:
        space: The search space.
        brackets: What to play, in order.
        source: Where the configurations of a new bracket come from.
    """

    def __init__(self, space: SearchSpace, brackets: tuple[Bracket, ...], source: ConfigurationSource) -> None:
        self._space, self._source = space, source
        self._schedule = self._play(brackets)
        self._pending: Suggestion | None = None
        self._rung: list[Trial] = []

    def ask(self) -> Suggestion:
        if self._pending is None:
            self._pending = next(self._schedule)
        return self._pending

    def tell(self, trial: Trial) -> None:
        if self._pending is None or not trial.answers(self._pending.u, self._space):
            self._source.observe(trial, trial.share)
            return
        self._source.observe(trial, self._pending.share)
        self._rung.append(trial)
        self._pending = None

    def _play(self, brackets: tuple[Bracket, ...]) -> Iterator[Suggestion]:
        for bracket in cycle(brackets):
            survivors: list[Tensor] = []
            for rung, (size, share) in enumerate(zip(bracket.sizes, bracket.shares, strict=True)):
                if rung > 0:
                    # The same points again: what a rung showed of them may be rounded.
                    order = {trial.number: u for trial, u in zip(self._rung, survivors, strict=True)}
                    survivors = [order[trial.number] for trial in best_first(self._rung)[:size]]
                self._rung = []
                for index in range(size):
                    if rung == 0:
                        # One at a time: a source may learn from the members before.
                        survivors.append(self._source.propose())
                    yield Suggestion(survivors[index], share)


class Hyperband(MultiFidelityAgent):
    """Random configurations, most of them dropped after a cheap evaluation.

    Bracket ``s`` begins at the share ``eta^-s`` of a full evaluation; the last one evaluates in full at once, which
    is random search, so that little is lost where cheap evaluations mislead.
    """

    name: ClassVar[str] = "hyperband"
    config: HyperbandConfig

    def make_optimizer(self, problem: Problem, seed: int) -> HyperbandOptimizer:
        self.require_rungs(problem)
        brackets = hyperband_brackets(problem.least_fidelity, self.config.eta)
        return HyperbandOptimizer(problem.space, brackets, RandomSource(problem.space, seed))
