"""A portfolio first, then a Gaussian process that knows its outcomes.

Feurer, Springenberg and Hutter (2015), "Initializing Bayesian Hyperparameter Optimization via Meta-Learning", AAAI, for
the idea; here the first configurations are a greedy portfolio of the training tasks
(:mod:`agents.greedy_portfolio`), the same for every new task.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.gaussian_process import GPOptimizer, fast_sampler, require_acquisition
from agents.greedy_portfolio import greedy_portfolio
from agents.optuna_space import OptunaSpace
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["PortfolioGP", "PortfolioGPConfig", "PortfolioGPOptimizer"]


@dataclass(frozen=True)
class PortfolioGPConfig:
    """Configuration of :class:`PortfolioGP`.

    Args:
        head: Entries of the portfolio that are played before the model is used.
        candidates, refinements, after_default: As for :class:`~agents.portfolio.PortfolioConfig`.
        deterministic, acquisition: As for :class:`~agents.gaussian_process.GPConfig`.
    """

    head: int = 10
    candidates: int = 4096
    refinements: int = 4
    after_default: bool = True
    deterministic: bool = True
    acquisition: str = "batched"

    def __post_init__(self) -> None:
        require_acquisition(self.acquisition)
        require_integer("head", self.head, 1, "a Gaussian process alone is agent 'gp'")
        require_integer("candidates", self.candidates, 1, "the portfolio is chosen from them")
        require_integer("refinements", self.refinements, 0)
        for name in ("after_default", "deterministic"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be True or False.")


class PortfolioGP(SequentialAgent):
    """The head of a greedy portfolio, then Optuna's Gaussian process, warm-started with all trials so far.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "portfolio_gp"
    libraries: ClassVar[tuple[str, ...]] = ("optuna", "scipy")
    uses_training_tasks: ClassVar[bool] = True
    config: PortfolioGPConfig

    #: The head in order, inactive hyperparameters 0, float32 ``[K, D]``; ``K <= head``.
    points: Tensor
    #: Evaluations on training tasks that choosing it took.
    training_evaluations: int = 0

    def prepare(self, problem: Problem) -> None:
        training = problem.require_training(self.name)
        before = training.evaluations
        self.points = greedy_portfolio(
            problem,
            training,
            self.config.head,
            candidates=self.config.candidates,
            refinements=self.config.refinements,
            seed=self.seed,
            after_default=self.config.after_default,
        )
        self.training_evaluations = training.evaluations - before
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
        self._waiting = [point for point in self._waiting if not torch.allclose(point, trial.u, rtol=0.0, atol=1e-6)]
        self.process.tell(trial)
