"""NumPy in and out of a torch vector environment, for Gymnasium's own vector wrappers."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper
from torch import Tensor

from hpo_gym.envs.vector import HPOVectorEnv

__all__ = ["TorchToNumpy"]


class TorchToNumpy(VectorWrapper[Any, Any, Any]):
    """Give NumPy arrays (on the CPU) instead of torch tensors; actions may be either.

    ``info`` holds no ``episode`` and ``_episode``: Gymnasium's ``RecordEpisodeStatistics`` adds them, and refuses an
    environment that has them already.

    Args:
        env: A :class:`~hpo_gym.envs.HPOVectorEnv`.
    """

    def __init__(self, env: HPOVectorEnv) -> None:
        super().__init__(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every row."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _to_numpy(observation), _to_numpy(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance every row by one trial."""
        # A tensor may lie on a device that NumPy cannot read.
        result = self.env.step(actions if isinstance(actions, Tensor) else np.asarray(actions))
        observation, reward, terminated, truncated, info = (_to_numpy(part) for part in result)
        for key in ("episode", "_episode"):
            info.pop(key, None)
        return observation, reward, terminated, truncated, info


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {key: _to_numpy(item) for key, item in value.items()}
    return value
