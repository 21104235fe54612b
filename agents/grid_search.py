"""Grid search: a full factorial design, visited in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials, first_of_each
from agents.problem import Problem
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace

__all__ = ["GridSearch", "GridSearchConfig", "automatic_levels"]

# A larger grid is represented by so many of its points: an episode visits a few hundred.
_LARGEST_GRID = 2**16

_LARGEST_NUMBER = 2**63

# Closer coordinates are the same grid level.
_SAME = 1e-6


@dataclass(frozen=True)
class GridSearchConfig:
    """Configuration of :class:`GridSearch`.

    Args:
        levels: Levels per numeric hyperparameter, at least 2; choices are all levels. ``None``: as many as keep the
            grid at or below the budget, and 2 where even those are more.

    Raises:
        InvalidSettingError: For fewer than two levels.
    """

    levels: int | None = None

    def __post_init__(self) -> None:
        if self.levels is not None:
            require_integer("levels", self.levels, 2, "a grid needs two levels; leave it out to fit the budget")


def automatic_levels(space: SearchSpace, budget: int) -> int:
    """Return the most levels per numeric hyperparameter whose grid has at most ``budget`` points, at least 2."""
    levels = 2
    while levels < budget and space.grid(levels + 1).size <= budget:
        levels += 1
    return levels


class GridSearch(HistoryAgent):
    """The points of a full factorial grid, each once, in an order drawn anew in every episode.

    In the usual order the last hyperparameter varies first, so that a budget smaller than the grid leaves the first
    hyperparameters at one value. Here every trial is drawn uniformly from the legal grid points that the history does
    not show, which is a uniformly random permutation without a memory of it. Grid points that differ in inactive
    hyperparameters alone are one point. When all are visited, what is left of the budget goes to random legal
    configurations.

    Of a grid of more than 65,536 points a sample of so many, drawn with the agent's seed, is used.
    """

    name: ClassVar[str] = "grid"
    config: GridSearchConfig

    #: The different legal points, inactive hyperparameters 0, float32 ``[P, D]``.
    points: Tensor

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        space = self.space
        levels = self.config.levels or automatic_levels(problem.space, problem.budget)
        self._grid = space.grid(levels)
        if self._grid.size >= _LARGEST_NUMBER:
            raise InvalidSettingError(
                f"Agent {self.name!r}: levels={levels} makes a grid of {self._grid.size:.3g} points over "
                f"{space.dimension} hyperparameters, more than can be numbered ({_LARGEST_NUMBER:.3g}). Use fewer "
                "levels, or agent 'random'."
            )
        if self._grid.size <= _LARGEST_GRID:
            index = torch.arange(self._grid.size, device=space.device)
        else:
            draws = generator(self.seed, "agent", "grid", device=space.device)
            index = torch.randint(self._grid.size, (_LARGEST_GRID,), generator=draws, device=space.device)
        u = space.snap(self._grid.configuration(index))
        u = u[space.legal(u)]
        if len(u) == 0:
            raise InvalidSettingError(
                f"Agent {self.name!r}: levels={levels} makes a grid of which the search space forbids every point. Use "
                "more levels, or agent 'random'."
            )
        number, _ = self._numbered(u, space.active(u))
        # Sorted, and each point once.
        first = first_of_each(number)
        self._number = number[first]
        self.points = self.shown(u[first])

    def _numbered(self, u: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of each configuration and whether it is on the grid, ``[P]``.

        Inactive hyperparameters count as the lowest level, so that one configuration has one number.
        """
        level = self._grid.nearest(u)
        on_grid = ((self._grid.values_at(level) - u).abs() <= _SAME) | ~active
        return (level * active * self._grid.strides).sum(1), on_grid.all(1)

    def _visited(self, trials: Trials) -> Tensor:
        """Return the positions in ``points`` that the history shows, rising and each once, int64 ``[B, T]``.

        What is none is ``P`` or more.
        """
        batch, length, _ = trials.u.shape
        number, on_grid = self._numbered(trials.u.flatten(0, 1), trials.active.flatten(0, 1))
        count = len(self._number)
        position = torch.searchsorted(self._number, number).clamp(max=count - 1)
        on_grid &= (self._number[position] == number) & trials.done.flatten()
        position = torch.where(on_grid, position, 2 * count).view(batch, length).sort(1).values
        repeated = torch.zeros_like(position, dtype=torch.bool)
        repeated[:, 1:] = position[:, 1:] == position[:, :-1]
        return position.masked_fill(repeated, 2 * count).sort(1).values

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        visited, count = self._visited(trials), len(self.points)
        left = count - (visited < count).sum(1)
        uniform = torch.rand(len(left), generator=draws, device=draws.device, dtype=torch.float64)
        rank = torch.minimum((uniform * left).long(), left - 1)
        # Before the k-th visited position v lie v - k that are not: the point of a rank is as many places further
        # as there are visited ones before it.
        before = visited - torch.arange(visited.shape[1], device=visited.device)
        position = rank + ((before <= rank[:, None]) & (visited < count)).sum(1)
        spare = self.space.sample(len(left), draws)
        return torch.where((left > 0)[:, None], self.points[position.clamp(0, count - 1)], spare)
