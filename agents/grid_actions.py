"""What the actions of ``grid_choice`` lead to, and which of them an episode has tried already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.episode_states import Histories
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.actions import GridChoice
from hpo_gym.spaces.grid import number_strides

__all__ = ["GridActions"]

# Closer coordinates are the same grid level.
_SAME = 1e-6


class GridActions:
    """The configurations of a grid by number of the action, the last hyperparameter varying fastest.

    Args:
        values: ``u`` of every grid level, float32 ``[D, L]`` (see :class:`hpo_gym.spaces.grid.Grid`).
        counts: Levels of every hyperparameter, int64 ``[D]``.
        point: The first action that leads to the same configuration as each action, int64 ``[A]``; they differ in
            inactive hyperparameters alone.
        legal: Which actions lead to no forbidden configuration, bool ``[A]``.
    """

    def __init__(self, values: Tensor, counts: Tensor, point: Tensor, legal: Tensor) -> None:
        self.legal = legal
        self._values, self._counts, self._point = values, counts, point
        self._strides = number_strides(counts)
        self._column = torch.arange(len(counts), device=counts.device)

    @classmethod
    def of(cls, env: HPOVectorEnv) -> GridActions:
        """Return the grid of an environment.

        Raises:
            InvalidSettingError: If its actions are something else than configurations.
        """
        actions, space, settings = env.engine.dynamics.actions, env.suite.space, env.engine.settings
        if not isinstance(actions, GridChoice) or settings.multi_fidelity:
            raise InvalidSettingError(
                f"env.action={settings.action} env.multi_fidelity={settings.multi_fidelity}: an action must be one "
                "configuration. Set env.action=grid_choice env.multi_fidelity=false."
            )
        grid = actions.grid
        index = torch.arange(grid.size, device=space.device)
        u = grid.configuration(index)
        # As in a history, inactive hyperparameters count as the lowest level.
        point = (grid.level(index) * space.active(u) * grid.strides).sum(1)
        return cls(grid.values, grid.counts, point, space.legal(u))

    def tried(self, histories: Histories) -> Tensor:
        """Return which actions lead to a configuration of the history, bool ``[B, A]``."""
        length, count = histories.length, len(self._point)
        u = histories.trials[:, : max(1, int(length.max())), :-1]
        level = (u[..., None] - self._values).abs().argmin(-1)
        # Inactive hyperparameters are shown as 0, to which the lowest level is the nearest, wherever that lies.
        on_grid = ((self._values[self._column, level] - u).abs() <= _SAME) | (u == 0.0)
        done = torch.arange(u.shape[1], device=u.device) < length[:, None]
        point = torch.where(on_grid.all(2) & done, (level * self._strides).sum(2), count)
        tried = torch.zeros(len(u), count + 1, dtype=torch.bool, device=u.device)
        tried.scatter_(1, point, torch.ones_like(done))
        return tried[:, self._point]

    def state_dict(self) -> dict[str, Any]:
        """Return what it was made of, for a checkpoint."""
        return {"values": self._values, "counts": self._counts, "point": self._point, "legal": self.legal}

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Tensor], device: torch.device) -> GridActions:
        """Make one of a :meth:`state_dict`."""
        parts = [saved[name].to(device) for name in ("values", "counts", "point", "legal")]
        return cls(*parts)
