"""The tree-structured Parzen estimator, one hyperparameter at a time.

Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for Hyper-Parameter Optimization", NeurIPS; as Optuna's
``TPESampler`` has it (Watanabe, 2023, arXiv 2304.11127).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agents.optuna_space import OptunaSpace, StudyOptimizer, quiet
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent
from hpo_gym.errors import require_integer

__all__ = ["TPE", "TPEConfig"]


@dataclass(frozen=True)
class TPEConfig:
    """Configuration of :class:`TPE`; the values are Optuna's defaults.

    Args:
        startup_trials: Trials before the model is used; the start that all methods share is one of them, the
            others are random.
        candidates: Candidates drawn per hyperparameter, of which the best ratio of densities is taken.
    """

    startup_trials: int = 10
    candidates: int = 24

    def __post_init__(self) -> None:
        require_integer("startup_trials", self.startup_trials, 1)
        require_integer("candidates", self.candidates, 1)


class TPE(SequentialAgent):
    """Optuna's univariate TPE: hyperparameters are modelled independently of each other.

    ``multivariate=False`` is said aloud: Optuna 5 changed the default for one objective.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "tpe"
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    config: TPEConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        from optuna.samplers import TPESampler

        with quiet():
            sampler = TPESampler(
                seed=seed,
                multivariate=False,
                n_startup_trials=self.config.startup_trials,
                n_ei_candidates=self.config.candidates,
            )
        return StudyOptimizer(OptunaSpace(problem.space), sampler)
