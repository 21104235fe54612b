"""Stable-Baselines3 on many environments at once.

Raffin et al. (2021), "Stable-Baselines3: Reliable Reinforcement Learning Implementations", JMLR 22.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError

if TYPE_CHECKING:
    from hpo_gym.integrations.sb3_vec_env import TorchVecEnv

__all__ = ["require_sb3", "to_vec_env"]

#: How to get what is missing.
_REMEDY = "`pip install '.[sb3]'` in a checkout of hpo_gym"


def require_sb3(what: str, package: str = "stable_baselines3") -> None:
    """Refuse to go on where Stable-Baselines3 is not installed.

    Args:
        what: What needs it, for the message.
        package: The module: ``stable_baselines3``, or ``sb3_contrib`` for its companion.

    Raises:
        InvalidSettingError: Naming what needs it and how to install it.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        # Something that the package itself misses is another fault, with another remedy.
        if error.name != package:
            raise
        raise InvalidSettingError(
            f"{what} needs the package {package.replace('_', '-')}, which is not installed. Install it with {_REMEDY}."
        ) from error


def to_vec_env(vector_env: HPOVectorEnv) -> TorchVecEnv:
    """Return a vector environment as a Stable-Baselines3 ``VecEnv``.

    .. code-block:: python

        env = to_vec_env(gymnasium.make_vec("HPO-OpenML-v0", num_envs=64))
        stable_baselines3.PPO("MlpPolicy", env, n_steps=49).learn(100_000)

    The environment is not reset. SB3's own ``learn`` does so when it begins; to go on with a running or restored
    environment instead, give the model what it would have seen: ``model._last_obs = env.observe()``.

    Args:
        vector_env: A :class:`hpo_gym.envs.HPOVectorEnv` with any kind of actions and observations, on any device; bare,
            or as ``gymnasium.make_vec`` returns it.

    Raises:
        InvalidSettingError: If Stable-Baselines3 is not installed, or it is no such environment.
    """
    require_sb3("to_vec_env")
    from hpo_gym.integrations.sb3_vec_env import TorchVecEnv

    bare = getattr(vector_env, "unwrapped", vector_env)
    if not isinstance(bare, HPOVectorEnv) or bare is not vector_env:
        raise InvalidSettingError(
            f"vector_env={vector_env!r} must be an HPOVectorEnv without wrappers: what wrappers change would be lost. "
            "Make one with gymnasium.make_vec(id, num_envs=...), and put SB3's own wrappers around to_vec_env(...)."
        )
    return TorchVecEnv(vector_env)
