"""The tree-structured Parzen estimator over whole configurations.

Falkner, Klein and Hutter (2018), "BOHB", ICML, for the multivariate density; as Optuna's ``TPESampler`` has it with
``multivariate=True, group=True``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agents.optuna_space import OptunaSpace, StudyOptimizer
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent
from agents.tpe import TPEConfig, tpe_sampler

__all__ = ["MultivariateTPE", "MultivariateTPEConfig"]


@dataclass(frozen=True)
class MultivariateTPEConfig(TPEConfig):
    """Configuration of :class:`MultivariateTPE`; the values are Optuna's defaults.

    Args:
        startup_trials: Trials before the model is used; the start that all methods share is one of them, the
            others are random.
        candidates: Candidates drawn per group of hyperparameters, of which the best ratio of densities is taken.
    """


class MultivariateTPE(SequentialAgent):
    """Optuna's multivariate TPE: a density over all hyperparameters that occur together.

    With ``group=True`` the conditional ones form groups with a density of their own; without it, Optuna would draw
    them independently.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "tpe_multivariate"
    # 2: forbidden suggestions are not paid for.
    version: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    config: MultivariateTPEConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        sampler = tpe_sampler(seed, True, self.config.startup_trials, self.config.candidates)
        return StudyOptimizer(OptunaSpace(problem.space), sampler, self.config.startup_trials)
