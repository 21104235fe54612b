"""A portfolio first, then local search: what a policy that leaves the list has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.local_search import Neighbourhood, require_step
from agents.populations import Trials
from agents.portfolio import Portfolio, PortfolioConfig
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


class PortfolioLocal(Portfolio):
    """The head of a greedy portfolio in its order, then random neighbours of the incumbent.

    Neighbours are those of :class:`~agents.local_search.LocalSearch`.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "portfolio_local"
    config: PortfolioLocalConfig

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        self._neighbourhood = Neighbourhood(self.space, self.config.sigma)

    def size(self, problem: Problem) -> int:
        return self.config.head

    def go_on(self, trials: Trials, draws: torch.Generator) -> Tensor:
        return self.random_where_forbidden(self._neighbourhood.fresh(trials, draws), draws)
