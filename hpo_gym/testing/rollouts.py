"""Rolling environments out the same way in every check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.seeding import generator, numpy_generator

__all__ = [
    "compare",
    "hpo_env",
    "legal_action",
    "reproducible",
    "rollout_digest",
    "run_episode",
    "sample_actions",
]

Step = tuple[Any, float, bool, bool, dict[str, Any]]

#: What no two runs agree on where evaluations are really made: measured times, and what is made of them.
MEASURED = ("seconds", "cost")


def hpo_env(env: gym.Env[Any, Any]) -> HPOEnv:
    """Return the :class:`HPOEnv` below any wrappers.

    Raises:
        TypeError: If there is none.
    """
    inner = env.unwrapped
    if not isinstance(inner, HPOEnv):
        raise TypeError(f"Expected an HPOEnv below the wrappers, got {type(inner).__name__}.")
    return inner


def legal_action(env: gym.Env[Any, Any], info: Mapping[str, Any], draws: np.random.Generator) -> Any:
    """Return a uniformly drawn action that the mask allows (any, where it allows none)."""
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        allowed = np.flatnonzero(info["action_mask"])
        return int(draws.choice(allowed if len(allowed) else space.n))
    assert isinstance(space, gym.spaces.Box)
    return draws.random(space.shape, dtype=np.float32)


def run_episode(
    env: gym.Env[Any, Any], seed: int, options: dict[str, Any] | None = None
) -> tuple[tuple[Any, dict[str, Any]], list[Step]]:
    """Play one episode of legal random actions; the actions depend on ``seed`` only.

    Args:
        env: A scalar environment.
        seed: Seed of the reset and of the actions.
        options: Passed to the reset.

    Returns:
        What ``reset`` returned, and what every ``step`` returned.
    """
    draws = numpy_generator(seed, "testing", "actions")
    first = env.reset(seed=seed, options=options)
    info, steps, done = first[1], [], False
    while not done:
        step: Any = env.step(legal_action(env, info, draws))
        steps.append(step)
        info, done = step[4], step[2] or step[3]
    return first, steps


def reproducible(value: Any, env: HPOEnv | HPOVectorEnv) -> Any:
    """Return a result, or part of one, without what was measured: what the same seed gives again.

    Args:
        value: Dictionaries, tuples and lists of whatever there is; infos may be among them.
        env: Where it comes from; of one whose evaluations are answered by a surrogate everything is reproducible.
    """
    if not env.suite.measured:
        return value
    if isinstance(value, Mapping):
        return {name: reproducible(part, env) for name, part in value.items() if name not in MEASURED}
    if isinstance(value, tuple | list):
        return tuple(reproducible(part, env) for part in value)
    return value


def sample_actions(env: HPOVectorEnv, info: Mapping[str, Any], draws: torch.Generator) -> Tensor:
    """Return one random legal action per row: int64 ``[B]`` or float32 ``[B, D]``.

    Rows whose mask allows nothing get action 0.
    """
    space = env.single_action_space
    if isinstance(space, gym.spaces.Discrete):
        mask = info["action_mask"].float().cpu()
        mask[mask.sum(1) == 0, 0] = 1.0
        picked = torch.rand(mask.shape, generator=draws) * mask
        action: Tensor = picked.argmax(1).to(env.device)
        return action
    assert isinstance(space, gym.spaces.Box)
    return torch.rand((env.num_envs, *space.shape), generator=draws).to(env.device)


def compare(expected: Any, actual: Any, tolerance: float, where: str) -> None:
    """Assert that two nested values agree: dictionaries key by key, arrays within a tolerance.

    Args:
        expected: Numbers, arrays, tensors, or dictionaries of them.
        actual: The same.
        tolerance: Largest difference; relative to the larger value where that exceeds 1. Zero
            means bitwise.
        where: What is compared, for the message.
    """
    if isinstance(expected, Mapping):
        assert set(expected) == set(actual), f"{where}: {sorted(expected)} != {sorted(actual)}"
        for key in expected:
            compare(expected[key], actual[key], tolerance, f"{where}[{key!r}]")
        return
    first, second = (
        # Forced: a tensor may lie on another device, or carry a gradient.
        value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
        for value in (expected, actual)
    )
    assert first.shape == second.shape, f"{where}: shape {first.shape} != {second.shape}"
    if tolerance == 0.0 or first.dtype == bool:
        assert np.array_equal(first, second), f"{where}: {first} != {second}"
        return
    scale = np.maximum(1.0, np.abs(first))
    worst = float(np.max(np.abs(first - second) / scale, initial=0.0))
    assert worst <= tolerance, f"{where}: differs by {worst:.3g}, allowed {tolerance:.3g}"


def rollout_digest(env: HPOVectorEnv, seed: int, steps: int) -> str:
    """Return the SHA-256 of everything that ``steps`` random steps return, bit by bit.

    Two processes that build the same environment and get different digests are not reproducible. Measured times are
    left out.

    Args:
        env: A vector environment.
        seed: Seed of the reset and of the actions.
        steps: Number of steps; more than the budget, so that an autoreset is among them.
    """
    digest = hashlib.sha256()
    draws = generator(seed, "testing", "actions")
    observation, info = env.reset(seed=seed)
    _update(digest, reproducible([observation, info], env))
    for _ in range(steps):
        result = env.step(sample_actions(env, info, draws))
        info = result[4]
        _update(digest, reproducible(result, env))
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(str(key).encode())
            _update(digest, value[key])
    else:
        for item in value:
            _update(digest, item)
