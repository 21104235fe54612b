"""A portfolio first, then local search: what a policy that leaves the list has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.local_search import Neighbourhood, require_step
from agents.populations import HistoryAgent, Trials
from agents.portfolio import PortfolioConfig, learn_portfolio
from agents.problem import Problem
from hpo_gym.errors import require_integer

__all__ = ["PortfolioLocal", "PortfolioLocalConfig"]


@dataclass(frozen=True)
class PortfolioLocalConfig(PortfolioConfig):
    """Configuration of :class:`PortfolioLocal`.

    Args:
        head: Entries of the portfolio that are played first.
        sigma: As for :class:`~agents.local_search.LocalSearchConfig`.
        candidates, refinements, after_default: As for :class:`~agents.portfolio.PortfolioConfig`.
    """

    head: int = 10
    sigma: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("head", self.head, 1, "local search alone is agent 'local_search'")
        require_step(self.sigma, f"sigma={self.sigma!r}")


class PortfolioLocal(HistoryAgent):
    """The head of a greedy portfolio in its order, then random neighbours of the incumbent.

    An entry that was the start is not paid for twice; neighbours are those of
    :class:`~agents.local_search.LocalSearch`.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "portfolio_local"
    uses_training_tasks: ClassVar[bool] = True
    config: PortfolioLocalConfig

    #: The head in order, inactive hyperparameters 0, float32 ``[K, D]``; ``K <= head``.
    points: Tensor
    #: Evaluations on training tasks that choosing it took.
    training_evaluations: int = 0

    def prepare(self, problem: Problem) -> None:
        config = self.config
        points, self.training_evaluations = learn_portfolio(problem, self.name, config, config.head, self.seed)
        super().prepare(problem)
        self.points = points.to(self.device)
        self._neighbourhood = Neighbourhood(self.space, config.sigma)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        played = trials.tried(self.points)
        # argmin returns the first of equal values.
        following = self.points[played.int().argmin(1)]
        beside = self.random_where_forbidden(self._neighbourhood.fresh(trials, draws), draws)
        return torch.where(played.all(1)[:, None], beside, following)
