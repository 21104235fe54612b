"""A portfolio first, then a Gaussian process that knows its outcomes.

Feurer, Springenberg and Hutter (2015), "Initializing Bayesian Hyperparameter Optimization via Meta-Learning", AAAI, for
the idea; here the first configurations are a greedy portfolio of the training tasks
(:mod:`agents.greedy_portfolio`), the same for every new task.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.gaussian_process import GPOptimizer, fast_sampler, require_acquisition
from agents.optuna_space import OptunaSpace
from agents.portfolio import PortfolioConfig, learn_portfolio
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import require_booleans, require_integer

__all__ = ["PortfolioGP", "PortfolioGPConfig", "PortfolioGPOptimizer"]


@dataclass(frozen=True)
class PortfolioGPConfig(PortfolioConfig):
    """Configuration of :class:`PortfolioGP`.

    Args:
        head: Entries of the portfolio that are played before the model is used.
        candidates, refinements, after_default: As for :class:`~agents.portfolio.PortfolioConfig`.
        deterministic, acquisition: As for :class:`~agents.gaussian_process.GPConfig`.
    """

    head: int = 10
    deterministic: bool = True
    acquisition: str = "batched"

    def __post_init__(self) -> None:
        require_acquisition(self.acquisition)
        require_integer("head", self.head, 1, "a Gaussian process alone is agent 'gp'")
        super().__post_init__()
        require_booleans(self)


class PortfolioGP(SequentialAgent):
    """The head of a greedy portfolio, then Optuna's Gaussian process, warm-started with all trials so far.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "portfolio_gp"
    # 2, 3: as of GaussianProcess.
    version: ClassVar[int] = 3
    libraries: ClassVar[tuple[str, ...]] = ("optuna", "scipy")
    uses_training_tasks: ClassVar[bool] = True
    config: PortfolioGPConfig

    #: The head in order, inactive hyperparameters 0, float32 ``[K, D]``; ``K <= head``.
    points: Tensor
    #: Evaluations on training tasks that choosing it took.
    training_evaluations: int = 0

    def prepare(self, problem: Problem) -> None:
        config = self.config
        self.points, self.training_evaluations = learn_portfolio(problem, self.name, config, config.head, self.seed)
        # The points are all that is learned of the training tasks; what is sent to other processes stays small.
        super().prepare(dataclasses.replace(problem, training=None))

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        # The portfolio is the model's start: no random trials.
        sampler = fast_sampler(seed, 1, self.config.deterministic, self.config.acquisition)
        return PortfolioGPOptimizer(self.points, GPOptimizer(OptunaSpace(problem.space), sampler))


class PortfolioGPOptimizer(Optimizer):
    """Points in order, then a Gaussian process; an entry that was the start is not paid for twice.

    Args:
        points: As a history shows them, float32 ``[K, D]``.
        process: What goes on from there.
    """

    def __init__(self, points: Tensor, process: GPOptimizer) -> None:
        self._waiting = list(points.double())
        self.process = process
        self._playing = False

    def ask(self) -> Suggestion:
        self._playing = bool(self._waiting)
        return Suggestion(self._waiting[0]) if self._playing else self.process.ask()

    def tell(self, trial: Trial) -> None:
        if self._playing:
            # Whatever became of it: an entry is asked for once.
            del self._waiting[0]
            self._playing = False
        self._waiting = [point for point in self._waiting if not trial.evaluated(point)]
        self.process.tell(trial)
