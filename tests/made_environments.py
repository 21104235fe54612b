"""Makers of environments by registered id and settings, as the suites of hpo_gym.testing want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from hpo_gym.envs import HPOVectorEnv

__all__ = ["scalar_maker", "vector_maker"]


def scalar_maker(name: str, settings: dict[str, Any]) -> Callable[..., gym.Env[Any, Any]]:
    return lambda **overrides: gym.make(name, **(settings | overrides))


def vector_maker(name: str, settings: dict[str, Any]) -> Callable[..., HPOVectorEnv]:
    def make(num_envs: int, **overrides: Any) -> HPOVectorEnv:
        inner: Any = gym.make_vec(name, num_envs=num_envs, **(settings | overrides)).unwrapped
        assert isinstance(inner, HPOVectorEnv)
        return inner

    return make
