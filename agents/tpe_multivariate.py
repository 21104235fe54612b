"""The tree-structured Parzen estimator over whole configurations.

Falkner, Klein and Hutter (2018), "BOHB", ICML, for the multivariate density; as Optuna's ``TPESampler`` has it with
``multivariate=True, group=True``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agents.optuna_space import OptunaSpace, StudyOptimizer, quiet
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent
from hpo_gym.errors import require_integer

__all__ = ["MultivariateTPE", "MultivariateTPEConfig"]


@dataclass(frozen=True)
class MultivariateTPEConfig:
    """Configuration of :class:`MultivariateTPE`; the values are Optuna's defaults.

    Args:
        startup_trials: Trials before the model is used; the start that all methods share is one of them, the
            others are random.
        candidates: Candidates drawn per group of hyperparameters, of which the best ratio of densities is taken.
    """

    startup_trials: int = 10
    candidates: int = 24

    def __post_init__(self) -> None:
        require_integer("startup_trials", self.startup_trials, 1)
        require_integer("candidates", self.candidates, 1)


class MultivariateTPE(SequentialAgent):
    """Optuna's multivariate TPE: a density over all hyperparameters that occur together.

    With ``group=True`` the conditional ones form groups with a density of their own; without it, Optuna would draw
    them independently.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "tpe_multivariate"
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    config: MultivariateTPEConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        from optuna.samplers import TPESampler

        with quiet():
            sampler = TPESampler(
                seed=seed,
                multivariate=True,
                group=True,
                n_startup_trials=self.config.startup_trials,
                n_ei_candidates=self.config.candidates,
            )
        return StudyOptimizer(OptunaSpace(problem.space), sampler)
