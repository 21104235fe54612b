"""The tree-structured Parzen estimator, one hyperparameter at a time.

Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for Hyper-Parameter Optimization", NeurIPS; as Optuna's
``TPESampler`` has it (Watanabe, 2023, arXiv 2304.11127).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agents.optuna_space import OptunaSpace, StudyOptimizer, quiet
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent
from hpo_gym.errors import require_integer

if TYPE_CHECKING:
    from optuna.samplers import TPESampler

__all__ = ["TPE", "TPEConfig", "tpe_sampler"]


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
    # 2: forbidden suggestions are not paid for.
    version: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    config: TPEConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        sampler = tpe_sampler(seed, False, self.config.startup_trials, self.config.candidates)
        return StudyOptimizer(OptunaSpace(problem.space), sampler, self.config.startup_trials)


def tpe_sampler(seed: int, multivariate: bool, startup_trials: int, candidates: int) -> TPESampler:
    """Return Optuna's tree-structured Parzen estimator.

    Args:
        seed: Root of its random numbers, in ``[0, 2**32)``.
        multivariate: Whether its densities are over all hyperparameters that occur together, conditional ones in
            groups of their own, or over one hyperparameter each.
        startup_trials: ``n_startup_trials``.
        candidates: ``n_ei_candidates``.
    """
    from optuna.samplers import TPESampler

    with quiet():
        return TPESampler(
            seed=seed,
            multivariate=multivariate,
            group=multivariate,
            n_startup_trials=startup_trials,
            n_ei_candidates=candidates,
        )
