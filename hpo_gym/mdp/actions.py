"""What an action does to a configuration: one class per action kind.

All three map ``(state, action)`` to a :class:`Proposal`. With ``multi_fidelity`` each also reads the
fidelity from the action: two more grid steps, a factor of the grid, or one more coordinate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.errors import InvalidActionError, InvalidSettingError
from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.mdp.state import EpisodeState
from hpo_gym.spaces import SearchSpace

__all__ = ["ActionRule", "Continuous", "GridChoice", "GridStep", "Proposal", "make_action_rule"]

_AUTOMATIC_GRID = 4096
_LARGEST_GRID = 2**20
_GRID_STEP_LEVELS = 10


@dataclass
class Proposal:
    """What an action proposes to evaluate.

    Args:
        u: float32 ``[B, D]``, snapped.
        active: bool ``[B, D]``.
        level: Grid level of each hyperparameter, int64 ``[B, D]``.
        fidelity: Share of a full evaluation, float32 ``[B]``; ``None`` for full evaluations.
        fidelity_level: Level on the fidelity grid, int64 ``[B]``.
    """

    u: Tensor
    active: Tensor
    level: Tensor
    fidelity: Tensor | None
    fidelity_level: Tensor


class ActionRule(ABC):
    """How actions of one kind are read.

    Args:
        space: The search space.
        settings: The episode's rules.
        shares: Fidelity grid, shares of a full evaluation in rising order, float32 ``[F]``; ``None``
            without multi-fidelity.
    """

    #: ``Discrete(num_actions)``, or 0 for a box.
    num_actions: int = 0
    #: ``Box [0, 1]^action_dimension``, or 0 for a discrete action.
    action_dimension: int = 0

    def __init__(self, space: SearchSpace, settings: EpisodeSettings, shares: Tensor | None) -> None:
        self.space = space
        self.settings = settings
        self.shares = shares

    @abstractmethod
    def propose(self, state: EpisodeState, action: Tensor) -> Proposal:
        """Return what a checked batch of actions proposes to evaluate."""

    @abstractmethod
    def mask(self, state: EpisodeState) -> Tensor | None:
        """Return which actions are legal, bool ``[B, A]``, or ``None`` for a box."""

    @abstractmethod
    def check(self, action: Tensor, batch: int) -> Tensor:
        """Return the action as a tensor of the right dtype on the right device.

        Raises:
            InvalidActionError: For a wrong shape, dtype or range, or NaN.
        """

    def start_level(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the configuration to start from and its grid level; only grid steps move it."""
        return u, torch.zeros_like(u, dtype=torch.int64)

    def _active(self, u: Tensor, state: EpisodeState) -> Tensor:
        """Return the activity of ``u``; without conditions it is that of any other configuration."""
        return self.space.active(u) if self.space.has_conditions else state.active

    def _check_discrete(self, action: Tensor, batch: int) -> Tensor:
        if action.shape != (batch,) or action.is_floating_point() or action.dtype == torch.bool:
            raise InvalidActionError(
                f"Expected {batch} integer action(s) of shape [{batch}] in 0 .. "
                f"{self.num_actions - 1}, got {action.dtype} of shape {list(action.shape)}."
            )
        least, most = (action, action) if batch == 1 else torch.aminmax(action)
        if not 0 <= int(least) <= int(most) < self.num_actions:
            raise InvalidActionError(
                f"Actions must lie in 0 .. {self.num_actions - 1}, got {int(least)} .. {int(most)}."
            )
        return action.to(self.space.device, torch.int64)


class GridStep(ActionRule):
    """``Discrete(2D)``: action ``2j`` moves hyperparameter ``j`` one notch down, ``2j + 1`` up.

    A move beyond an end of the grid, of an inactive hyperparameter or into a forbidden
    configuration is masked; taken all the same, it evaluates the unchanged configuration again, and
    costs what an evaluation costs. With multi-fidelity, actions ``2D`` and ``2D + 1`` move the
    fidelity.
    """

    def __init__(self, space: SearchSpace, settings: EpisodeSettings, shares: Tensor | None) -> None:
        super().__init__(space, settings, shares)
        self.grid = space.grid(settings.levels or _GRID_STEP_LEVELS)
        self.top = self.grid.counts - 1
        self._flat = self.grid.values.reshape(-1)
        self._width = self.grid.values.shape[1]
        self.num_actions = 2 * (space.dimension + (0 if shares is None else 1))
        # Direction of each action, so that a step is one look-up instead of arithmetic.
        index = torch.arange(self.num_actions, device=space.device)
        self._column = index // 2
        self._direction = (index % 2) * 2 - 1
        moves = torch.zeros(self.num_actions, space.dimension + 1, dtype=torch.int64, device=space.device)
        moves[index, self._column] = self._direction
        self._moves = moves[:, : space.dimension].contiguous()
        self._fidelity_moves = moves[:, space.dimension].contiguous()
        self._bottom = torch.zeros_like(self.top)
        self._first = torch.arange(space.dimension, device=space.device) * self._width
        # Level at which an action can do nothing: the lowest one for a step down, the highest for a step up.
        own = 2 * space.dimension
        self._own_column = self._column[:own].contiguous()
        self._end = torch.where(self._direction[:own] > 0, self.top[self._own_column], 0)

    def propose(self, state: EpisodeState, action: Tensor) -> Proposal:
        fidelity, fidelity_level = None, state.fidelity_level
        if self.shares is not None:
            fidelity_level = (fidelity_level + self._fidelity_moves[action]).clamp(0, len(self.shares) - 1)
            fidelity = self.shares[fidelity_level]
        move = self._moves.index_select(0, action)
        if self.space.has_conditions:
            move = move * state.active
        level = torch.clamp(state.level + move, self._bottom, self.top)
        u = self._flat.take(level + self._first)
        if self.space.has_forbidden:
            # A legal start may lie beside the grid: what does not move stays where it is.
            u = torch.where(self._moves.index_select(0, action) != 0, u, state.u)
            legal = self.space.legal(u)[:, None]
            u = torch.where(legal, u, state.u)
            level = torch.where(legal, level, state.level)
        return Proposal(u, self._active(u, state), level, fidelity, fidelity_level)

    def mask(self, state: EpisodeState) -> Tensor:
        mask = state.level.index_select(1, self._own_column) != self._end
        if self.space.has_conditions:
            mask = mask & state.active.index_select(1, self._own_column)
        if self.space.has_forbidden:
            mask &= self._neighbours_legal(state)
        if self.shares is not None:
            last = len(self.shares) - 1
            fidelity = torch.stack([state.fidelity_level > 0, state.fidelity_level < last], 1)
            mask = torch.cat([mask, fidelity], 1)
        return mask

    def _neighbours_legal(self, state: EpisodeState) -> Tensor:
        batch, dimension = state.u.shape
        moves = 2 * dimension
        column = self._column[:moves]
        target = (state.level[:, column] + self._direction[:moves]).clamp(min=0)
        target = torch.minimum(target, self.top[column])
        values = self._flat[column * self._width + target]
        neighbours = state.u[:, None, :].expand(batch, moves, dimension).clone()
        neighbours.scatter_(2, column.expand(batch, moves)[:, :, None], values[:, :, None])
        return self.space.legal(neighbours.view(-1, dimension)).view(batch, moves)

    def check(self, action: Tensor, batch: int) -> Tensor:
        return self._check_discrete(action, batch)

    def start_level(self, u: Tensor) -> tuple[Tensor, Tensor]:
        level = self.grid.nearest(u)
        on_grid = self.grid.values_at(level)
        if self.space.has_forbidden:
            # The nearest grid point of a legal start may be forbidden; then the start stays as it is.
            on_grid = torch.where(self.space.legal(on_grid)[:, None], on_grid, u)
        return on_grid, level


class GridChoice(ActionRule):
    """``Discrete(grid size)``: the index of a grid configuration (Hyp-RL).

    With multi-fidelity the grid has the fidelity as its fastest factor.
    """

    def __init__(self, space: SearchSpace, settings: EpisodeSettings, shares: Tensor | None) -> None:
        super().__init__(space, settings, shares)
        self._factor = 1 if shares is None else len(shares)
        levels = settings.levels or self._automatic_levels()
        self.grid = space.grid(levels)
        self.num_actions = self.grid.size * self._factor
        if self.num_actions > _LARGEST_GRID:
            raise InvalidSettingError(
                f"action='grid_choice' with levels={levels} makes a grid of {self.num_actions:,} "
                f"configurations; the most is {_LARGEST_GRID:,}. Use fewer levels, or "
                "action='continuous'."
            )
        self._legal = self._legal_actions() if space.has_forbidden else None

    def _automatic_levels(self) -> int:
        levels = 2
        while levels < 50 and self.space.grid(levels + 1).size * self._factor <= _AUTOMATIC_GRID:
            levels += 1
        return levels

    def _legal_actions(self) -> Tensor:
        index = torch.arange(self.grid.size, device=self.space.device)
        legal = self.space.legal(self.grid.configuration(index))
        return legal.repeat_interleave(self._factor)

    def propose(self, state: EpisodeState, action: Tensor) -> Proposal:
        fidelity, fidelity_level = None, state.fidelity_level
        if self.shares is not None:
            fidelity_level = action % self._factor
            fidelity = self.shares[fidelity_level]
            action = action // self._factor
        u = self.grid.configuration(action)
        return Proposal(u, self._active(u, state), state.level, fidelity, fidelity_level)

    def mask(self, state: EpisodeState) -> Tensor:
        if self._legal is not None:
            # A copy of each row: callers may write into what they get, and no other row and no later mask must show it.
            return self._legal.repeat(len(state.task), 1)
        return torch.ones(len(state.task), self.num_actions, dtype=torch.bool, device=self.space.device)

    def check(self, action: Tensor, batch: int) -> Tensor:
        return self._check_discrete(action, batch)


#: Larger shares are full evaluations, which alone become the incumbent: a share is rounded on its way.
FULL_SHARE = 1.0 - 1e-4

#: Where the last coordinate of a continuous multi-fidelity action begins to mean a full evaluation.
FULL_FIDELITY = 0.8


class Continuous(ActionRule):
    """``Box [0, 1]^D``: the next configuration; with multi-fidelity one more coordinate.

    The last coordinate maps to the share of a full evaluation: on a log scale from the smallest at 0 to 1 at
    ``FULL_FIDELITY``; all above is a full evaluation, which an end point alone would hardly ever be.
    """

    def __init__(self, space: SearchSpace, settings: EpisodeSettings, shares: Tensor | None) -> None:
        super().__init__(space, settings, shares)
        self.action_dimension = space.dimension + (0 if shares is None else 1)
        self._log_least = 0.0 if shares is None else math.log(float(shares[0]))

    def propose(self, state: EpisodeState, action: Tensor) -> Proposal:
        fidelity = None
        if self.shares is not None:
            fidelity = torch.exp(self._log_least * (1.0 - action[:, -1] / FULL_FIDELITY).clamp(min=0.0))
            action = action[:, :-1]
        u = self.space.snap(action)
        return Proposal(u, self._active(u, state), state.level, fidelity, state.fidelity_level)

    def mask(self, state: EpisodeState) -> None:
        return None

    def check(self, action: Tensor, batch: int) -> Tensor:
        if action.shape != (batch, self.action_dimension) or not action.is_floating_point():
            raise InvalidActionError(
                f"Expected float actions of shape [{batch}, {self.action_dimension}], got "
                f"{action.dtype} of shape {list(action.shape)}."
            )
        # NaN is least and most of whatever holds it, and lies in no interval.
        least, most = torch.aminmax(action)
        if not 0.0 <= float(least) <= float(most) <= 1.0:
            raise InvalidActionError(
                "Actions must lie in [0, 1]: they are points of the unit cube. Clip them, or "
                f"rescale a policy's [-1, 1] outputs; got NaN or values in "
                f"{float(least):.4g} .. {float(most):.4g}."
            )
        return action.to(self.space.device, torch.float32)


def make_action_rule(space: SearchSpace, settings: EpisodeSettings, shares: Tensor | None) -> ActionRule:
    """Return the rule for ``settings.action``."""
    rules: dict[str, type[ActionRule]] = {
        "grid_step": GridStep,
        "grid_choice": GridChoice,
        "continuous": Continuous,
    }
    return rules[settings.action](space, settings, shares)
