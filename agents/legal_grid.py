"""The legal points of a grid over a search space, and the single steps between them, as plain tuples.

A walk that is taken one point at a time is faster without tensors; they are needed only to say what is active and
legal, once per point.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from hpo_gym.spaces import SearchSpace

__all__ = ["LegalGrid", "State"]

#: A legal grid point: the level of every hyperparameter, the default's where it is inactive.
State = tuple[int, ...]

# Closer coordinates are the same grid level.
_SAME = 1e-6


class LegalGrid:
    """The states that single grid steps lead to, with the steps of ``action="grid_step"``.

    A step moves one active hyperparameter one level down or up (choices in their own order). Steps beyond an end and
    into a forbidden configuration do not exist. Grid points that differ in inactive hyperparameters alone are one
    state; a hyperparameter that a step makes active begins at the level of its default.

    Args:
        space: The search space, on the CPU.
        levels: Levels per numeric hyperparameter, at least 2; choices are all levels.

    Attributes:
        size: Number of grid points, forbidden and equal ones included.
    """

    def __init__(self, space: SearchSpace, levels: int) -> None:
        self._space, self._grid = space, space.grid(levels)
        self.size = self._grid.size
        self._counts: list[int] = self._grid.counts.tolist()
        padded: list[list[float]] = self._grid.values.tolist()
        self._values = [row[:count] for row, count in zip(padded, self._counts, strict=True)]
        self._defaults: list[int] = self._grid.nearest(space.default()[None])[0].tolist()
        self._plain = not (space.has_conditions or space.has_forbidden)

    def point(self, state: State) -> Tensor:
        """Return a state as a point of the unit cube, float64 ``[D]``."""
        return torch.tensor([row[level] for row, level in zip(self._values, state, strict=True)], dtype=torch.float64)

    def locate(self, u: Tensor, active: Tensor, expected: State | None = None) -> tuple[State | None, bool]:
        """Return the nearest state of a configuration and whether it is that very configuration.

        Args:
            u: A point of the unit cube, ``[D]``; inactive hyperparameters may have any value.
            active: bool ``[D]``.
            expected: A state that it may be, which is known to be legal.

        Returns:
            ``None`` for the state if the nearest grid point is forbidden.
        """
        levels, beside = [], False
        for row, value, flag, default in zip(self._values, u.tolist(), active.tolist(), self._defaults, strict=True):
            distances = [abs(level - value) for level in row]
            levels.append(distances.index(min(distances)) if flag else default)
            beside |= flag and min(distances) > _SAME
        state = expected if tuple(levels) == expected else self.states([levels])[0]
        return state, state is not None and not beside

    def states(self, levels: list[list[int]]) -> list[State | None]:
        """Return the state of each grid point, ``None`` where it is forbidden.

        Args:
            levels: Levels of ``P`` grid points, ``D`` each.
        """
        return self._described(levels)[0]

    def neighbours(self, state: State) -> list[State]:
        """Return where the legal steps from a state lead: down and up by hyperparameter, in column order."""
        steps = [
            (column, level)
            for column, (here, count) in enumerate(zip(state, self._counts, strict=True))
            for level in (here - 1, here + 1)
            if 0 <= level < count
        ]
        points = [list(state)]
        for column, level in steps:
            points.append([*state[:column], level, *state[column + 1 :]])
        described, active = self._described(points)
        reached = zip(steps, described[1:], strict=True)
        return [target for (column, _), target in reached if target is not None and active[0][column]]

    def drawn(self, uniform: list[float]) -> State | None:
        """Return the state of a uniformly drawn grid point, ``None`` if it is forbidden.

        Args:
            uniform: ``D`` random numbers in ``[0, 1)``.
        """
        return self.states([[int(number * count) for number, count in zip(uniform, self._counts, strict=True)]])[0]

    @cached_property
    def every(self) -> list[State]:
        """All states, each once; only for grids that are small enough to be listed."""
        states = self.states([list(levels) for levels in product(*map(range, self._counts))])
        return [state for state in dict.fromkeys(states) if state is not None]

    def _described(self, levels: list[list[int]]) -> tuple[list[State | None], list[list[bool]]]:
        """Return the state of each grid point, ``None`` where forbidden, and which hyperparameters are active."""
        if self._plain:
            return [tuple(row) for row in levels], [[True] * len(row) for row in levels]
        u = self._grid.values_at(torch.tensor(levels))
        active: list[list[bool]] = self._space.active(u).tolist()
        legal: list[bool] = self._space.legal(u).tolist()
        states: list[State | None] = []
        for row, flags, allowed in zip(levels, active, legal, strict=True):
            shown = (
                level if flag else default for level, flag, default in zip(row, flags, self._defaults, strict=True)
            )
            states.append(tuple(shown) if allowed else None)
        return states, active
