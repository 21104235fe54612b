"""A vector environment of torch tensors as a Stable-Baselines3 ``VecEnv``.

Imports Stable-Baselines3: use :func:`hpo_gym.integrations.sb3.to_vec_env`, which says how to get it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import fresh_seed

__all__ = ["TorchVecEnv"]

_MASKS = "action_masks"
_NO_MASKS = f"Continuous actions have no {_MASKS}."


class TorchVecEnv(VecEnv):
    """All rows of an :class:`~hpo_gym.envs.HPOVectorEnv`; see :func:`hpo_gym.integrations.sb3.to_vec_env`.

    On the CPU what ``step`` returns shares its memory with tensors that the environment made for this step and does
    not use again; from another device it is copied once. Python works per row only on rows whose episode ended: all
    others share one empty info, which neither SB3 nor its wrappers write into. The info of a row that ended holds
    ``terminal_observation``, ``TimeLimit.truncated`` (false: the budget is part of the observation), ``episode`` with
    return ``r``, length ``l`` and seconds ``t`` since the adapter was made, as SB3's ``Monitor`` would, and the last
    ``score``, ``incumbent``, ``regret`` and so on of the episode as numbers. The infos of all rows are tensors in
    :attr:`info`.

    One environment plays all rows: ``get_attr`` gives each of them the same, and ``set_attr`` and ``env_method`` work
    on all of them or not at all, but for ``env_method("action_masks")``, which MaskablePPO of sb3-contrib asks for.

    Args:
        vector_env: The environment.
    """

    def __init__(self, vector_env: HPOVectorEnv) -> None:
        self.vector_env = vector_env
        #: The infos of all rows as tensors, as the last ``reset`` or ``step`` left them.
        self.info: dict[str, Any] = {}
        self._actions: Any = None
        self._chosen: dict[str, Any] | None = None
        self._began = time.time()
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)

    def reset(self) -> Any:
        """Begin an episode in every row; what ``seed`` and ``set_options`` said holds for this reset alone.

        Returns:
            The observations, float32 ``[B, W]``, or a dictionary of them.
        """
        observation, self.info = self.vector_env.reset(seed=self._seeds[0], options=self._chosen)
        self._reset_seeds()
        self._chosen = None
        columns = {name: _numpy(value) for name, value in self.info.items() if isinstance(value, Tensor)}
        self.reset_infos = [{name: column[row] for name, column in columns.items()} for row in range(self.num_envs)]
        return self.shown(observation, self.info)

    def observe(self) -> Any:
        """Return what the last ``reset`` or ``step`` returned as observation, without going on."""
        observation, self.info = self.vector_env.observe()
        return self.shown(observation, self.info)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions, int64 ``[B]`` or float32 ``[B, action_dimension]`` in ``[0, 1]``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance every row by one trial.

        Returns:
            Observations (of rows whose episode ended: the first of their next one), rewards float32 ``[B]``, whether
            an episode ended bool ``[B]``, and an info per row.
        """
        observation, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        self.info = info
        nothing: dict[str, Any] = {}
        infos = [nothing] * self.num_envs
        ended = info["_final_obs"].nonzero().squeeze(1).tolist()
        if ended:
            for row, content in zip(ended, self._endings(info, ended, truncated), strict=True):
                infos[row] = content
        done = _numpy(terminated | truncated)
        return self.shown(observation, info), _numpy(reward), done, infos

    def shown(self, observation: Observation, info: Mapping[str, Any]) -> Any:
        """Return an observation as a model sees it, float32 ``[B, W]`` or a dictionary.

        Args:
            observation: As the environment gives it.
            info: The info that belongs to it.
        """
        return _numpy(observation)

    def _endings(self, info: Mapping[str, Any], ended: Sequence[int], truncated: Tensor) -> list[dict[str, Any]]:
        """Return the infos of the rows whose episode ended."""
        rows = torch.tensor(ended, device=truncated.device)
        last = self.shown(info["final_obs"], info["final_info"])
        returns, lengths = (info["episode"][name][rows].tolist() for name in ("r", "l"))
        numbers = {
            name: value[rows].tolist()
            for name, value in info["final_info"].items()
            if isinstance(value, Tensor) and value.dim() == 1
        }
        cut = truncated[rows].tolist()
        seconds = round(time.time() - self._began, 6)
        return [
            {
                **{name: values[place] for name, values in numbers.items()},
                "terminal_observation": _row(last, row),
                "TimeLimit.truncated": cut[place],
                "episode": {"r": returns[place], "l": lengths[place], "t": seconds},
            }
            for place, row in enumerate(ended)
        ]

    def action_masks(self) -> list[np.ndarray]:
        """Return which discrete actions are legal now, bool ``[A]`` per row.

        Raises:
            AttributeError: If actions are continuous, as of an environment without masks.
        """
        masks = self.vector_env.engine.dynamics.action_mask(self.vector_env.state)
        if masks is None:
            raise AttributeError(_NO_MASKS)
        return list(_numpy(masks))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give the next reset a seed: the root of one stream for all rows; ``None`` draws one."""
        root = fresh_seed() if seed is None else seed
        self._seeds = [root + row for row in range(self.num_envs)]
        return self._seeds

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, once per row."""
        if attr_name == _MASKS:
            # SB3 tells by the attribute whether there are masks.
            if self.vector_env.engine.dynamics.actions.num_actions == 0:
                raise AttributeError(_NO_MASKS)
            return [self.action_masks] * len(self._rows(indices))
        return [getattr(self.vector_env, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment, for all rows.

        Raises:
            InvalidSettingError: If ``indices`` names only some rows.
        """
        self._require_all(f"set_attr({attr_name!r})", indices)
        setattr(self.vector_env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the environment once, for all rows; ``action_masks`` answers row by row.

        Raises:
            InvalidSettingError: If ``indices`` names only some rows.
        """
        if method_name == _MASKS:
            masks = self.action_masks()
            return [masks[row] for row in self._rows(indices)]
        self._require_all(f"env_method({method_name!r})", indices)
        return [getattr(self.vector_env, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Return whether rows report what a wrapper would: true for ``Monitor``, whose statistics are built in."""
        return [wrapper_class is Monitor] * len(self._rows(indices))

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return one picture of all rows."""
        return [self.vector_env.render()]

    def render(self, mode: str | None = None) -> Any:
        """Return one picture of all rows, or text with ``render_mode="ansi"``."""
        if self.render_mode == "ansi" and mode in (None, "ansi"):
            return self.vector_env.render()
        return super().render(mode)

    def close(self) -> None:
        """Close the environment."""
        self.vector_env.close()

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))

    def _require_all(self, what: str, indices: Any) -> None:
        rows = self._rows(indices)
        if sorted(rows) != list(range(self.num_envs)):
            raise InvalidSettingError(
                f"{what} with indices={indices!r}: all {self.num_envs} rows are one environment. Leave indices out."
            )

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Give the next reset options: one dictionary for all rows, or a list of one per row.

        Args:
            options: As for :meth:`hpo_gym.envs.HPOVectorEnv.reset`.

        Raises:
            InvalidSettingError: If a list does not hold one dictionary per row, all with the same keys.
        """
        if options is None or isinstance(options, Mapping):
            self._chosen = copy.deepcopy(options)
            return
        names = set(options[0]) if options else set()
        if len(options) != self.num_envs or any(set(row) != names for row in options):
            raise InvalidSettingError(
                f"set_options: {len(options)} options for {self.num_envs} rows must be one dictionary per row, all "
                "with the same keys. Give such a list, or one dictionary for all rows."
            )
        self._chosen = {name: [copy.deepcopy(row[name]) for row in options] for name in sorted(names)}


def _numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numpy(item) for name, item in value.items()}
    return value.cpu().numpy()


def _row(observation: Any, row: int) -> Any:
    if isinstance(observation, dict):
        return {name: block[row] for name, block in observation.items()}
    return observation[row]
