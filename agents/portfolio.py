"""A portfolio played in order: the baseline that keeps claims of transfer honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.greedy_portfolio import greedy_portfolio
from agents.populations import HistoryAgent, Trials
from agents.problem import Problem
from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["Portfolio", "PortfolioConfig", "learn_portfolio"]


@dataclass(frozen=True)
class PortfolioConfig:
    """Configuration of :class:`Portfolio`.

    Args:
        candidates: Configurations that the portfolio is chosen from, beside the default.
        refinements: Rounds in which half of them are drawn as neighbours of what is best on a training task so far;
            0: all are random.
        after_default: Whether the default counts as evaluated already; ``None``: where episodes start there.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    candidates: int = 4096
    refinements: int = 4
    after_default: bool | None = None

    def __post_init__(self) -> None:
        require_integer("candidates", self.candidates, 1, "the portfolio is chosen from them")
        require_integer("refinements", self.refinements, 0)
        if not isinstance(self.after_default, bool | None):
            raise InvalidSettingError(f"after_default={self.after_default!r} must be True, False or None.")


class Portfolio(HistoryAgent):
    """Configurations that complement each other on the training tasks, one after the other, blind to the scores.

    Every trial plays the first entry that the history does not show: whatever an episode starts with, the first
    action plays entry 0, and an entry that was the start is not paid for twice. See
    :func:`~agents.greedy_portfolio.greedy_portfolio` for how entries are chosen; there are as many as the budget, so
    that random legal configurations follow only where fewer candidates differ.
    """

    name: ClassVar[str] = "portfolio"
    uses_training_tasks: ClassVar[bool] = True
    config: PortfolioConfig

    #: The entries in order, inactive hyperparameters 0, float32 ``[K, D]``.
    points: Tensor
    #: Evaluations on training tasks that choosing them took.
    training_evaluations: int = 0

    def prepare(self, problem: Problem) -> None:
        size = self.size(problem)
        points, self.training_evaluations = learn_portfolio(problem, self.name, self.config, size, self.seed)
        super().prepare(problem)
        self.points = points.to(self.device)

    def size(self, problem: Problem) -> int:
        """Return how many entries there are to be, at most."""
        return problem.budget

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        played = trials.tried(self.points)
        # argmin returns the first of equal values.
        following = self.points[played.int().argmin(1)]
        return torch.where(played.all(1)[:, None], self.go_on(trials, draws), following)

    def go_on(self, trials: Trials, draws: torch.Generator) -> Tensor:
        """Return what is played where all entries were, float32 ``[B, D]``; arguments as for :meth:`propose`."""
        return self.space.sample(len(trials.u), draws)


def learn_portfolio(problem: Problem, agent: str, config: PortfolioConfig, size: int, seed: int) -> tuple[Tensor, int]:
    """Choose a portfolio on the training tasks.

    Args:
        problem: The search space and the training tasks.
        agent: Name of the agent that asks for it.
        config: How it is chosen.
        size: Most configurations of it, at least 1.
        seed: Root of the stream that draws candidates.

    Returns:
        The entries in order, as of :func:`~agents.greedy_portfolio.greedy_portfolio`, and how many evaluations on
        training tasks choosing them took.

    Raises:
        InvalidSettingError: If the protocol gives no training tasks.
    """
    training = problem.require_training(agent)
    before = training.evaluations
    points = greedy_portfolio(
        problem,
        training,
        size,
        candidates=config.candidates,
        refinements=config.refinements,
        seed=seed,
        after_default=problem.starts_at_default if config.after_default is None else config.after_default,
    )
    return points, training.evaluations - before
