"""What every vector environment must do, beside agreeing with the scalar one step for step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv, TorchToNumpy
from hpo_gym.errors import InvalidActionError, InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.testing.rollouts import compare, hpo_env, reproducible, rollout_digest, sample_actions
from hpo_gym.testing.vector_checker import check_vector_env

__all__ = ["STEP_TOLERANCE", "VectorEnvCase"]

#: Largest difference between scalar and vector environment in any observation, reward or score. The
#: same row alone and in a batch goes through different matrix kernels and differs in its last bits.
STEP_TOLERANCE = 2e-5

# Metrics and costs have units of their own (seconds, MB); regret is divided by the task's range.
_LOOSE = {"metrics": 1e-3, "seconds": 1e-3, "regret": 1e-3}


class VectorEnvCase:
    """Subclass, and give the fixtures ``make_vector_env`` and ``make_env``.

    ``make_vector_env(num_envs, **overrides)`` returns an :class:`~hpo_gym.envs.HPOVectorEnv` and
    ``make_env(**overrides)`` the scalar environment with the same settings. A budget below 10 keeps
    the checks fast.
    """

    @pytest.fixture
    def make_vector_env(self) -> Callable[..., HPOVectorEnv]:
        """Return the factory of the environment under test."""
        raise NotImplementedError("Give your test class a fixture make_vector_env.")

    @pytest.fixture
    def make_env(self) -> Callable[..., gym.Env[Any, Any]]:
        """Return the factory of the scalar environment with the same settings."""
        raise NotImplementedError("Give your test class a fixture make_env.")

    @pytest.mark.parametrize("num_envs", [1, 257])
    def test_checker(self, make_vector_env: Callable[..., HPOVectorEnv], num_envs: int) -> None:
        check_vector_env(make_vector_env(num_envs))

    def test_agrees_with_scalar_step_for_step(
        self,
        make_vector_env: Callable[..., HPOVectorEnv],
        make_env: Callable[..., gym.Env[Any, Any]],
    ) -> None:
        _replay(make_vector_env(3), make_env, steps=None)

    def test_final_obs_at_staggered_ends(
        self,
        make_vector_env: Callable[..., HPOVectorEnv],
        make_env: Callable[..., gym.Env[Any, Any]],
    ) -> None:
        # Episodes that end on a repeated trial end at different times in different rows.
        rules = {"terminate_on_repeat": True}
        _replay(make_vector_env(3, **rules), lambda: make_env(**rules), steps=12, repeats=True)

    @pytest.mark.parametrize("seed", [0, 7])
    def test_same_seed_same_bits(self, make_vector_env: Callable[..., HPOVectorEnv], seed: int) -> None:
        env = make_vector_env(5)
        steps = env.engine.settings.budget + 2
        first = rollout_digest(env, seed, steps)
        assert rollout_digest(env, seed, steps) == first
        assert rollout_digest(make_vector_env(5), seed, steps) == first
        assert rollout_digest(env, seed + 1, steps) != first

    def test_rows_draw_their_own_tasks(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env = make_vector_env(64)
        _, info = env.reset(seed=0)
        assert len(info["task"].unique()) > 1 or len(env.engine.tasks) == 1

    def test_numpy_actions_and_bridge(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env, bridge = make_vector_env(4), TorchToNumpy(make_vector_env(4))
        draws = generator(0, "testing", "bridge")
        (first, info), (second, _) = env.reset(seed=0), bridge.reset(seed=0)
        compare(first, second, 0.0, "reset")
        action = sample_actions(env, info, draws)
        expected, got = env.step(action), bridge.step(action.cpu().numpy())
        for one, two in zip(expected[:4], got[:4], strict=True):
            compare(one, two, 0.0, "step")
        assert isinstance(got[1], np.ndarray) and isinstance(got[4]["score"], np.ndarray)

    def test_wrong_actions_are_refused(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env = make_vector_env(4)
        _, info = env.reset(seed=0)
        good = sample_actions(env, info, generator(0, "testing", "wrong"))
        for action in _wrong_actions(good, env.single_action_space):
            with pytest.raises(InvalidActionError):
                env.step(action)
        assert torch.equal(env.step(good)[4]["final_info"]["trial"], info["trial"] + 1)

    def test_number_of_environments(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        for wrong in (0, -1, 2.0, True):
            with pytest.raises(InvalidSettingError, match="num_envs"):
                make_vector_env(wrong)

    def test_step_before_reset_is_refused(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env = make_vector_env(2)
        with pytest.raises(gym.error.ResetNeeded):
            env.step(env.action_space.sample())

    def test_options_per_row(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env = make_vector_env(3)
        last = env.suite.num_tasks - 1
        _, info = env.reset(seed=0, options={"task_index": [last, 0, last]})
        assert info["task"].tolist() == [last, 0, last]
        _, info = env.reset(seed=0, options={"task": env.suite.tasks[last]})
        assert info["task"].tolist() == [last] * 3
        with pytest.raises(InvalidSettingError):
            env.reset(seed=0, options={"task_index": [0, 1]})

    def test_render(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        env = make_vector_env(3, render_mode="rgb_array")
        env.reset(seed=0)
        picture: Any = env.render()
        assert picture.dtype == np.uint8 and picture.ndim == 3


def _replay(
    env: HPOVectorEnv,
    make_env: Callable[..., gym.Env[Any, Any]],
    steps: int | None,
    repeats: bool = False,
) -> None:
    """Play every row again in a scalar environment and compare each step.

    Args:
        env: The vector environment.
        make_env: The scalar one.
        steps: Number of steps; default: until every row has begun again.
        repeats: Whether to repeat an action now and then, so that rows end at different times.
    """
    draws = generator(3, "testing", "replay")
    batch = env.num_envs
    task = torch.arange(batch) % env.suite.num_tasks
    start = env.suite.space.sample(batch, generator(3, "testing", "starts", device=env.device))
    observation, info = env.reset(seed=3, options={"task_index": task, "start": start})
    scalars = [make_env() for _ in range(batch)]
    for row, scalar in enumerate(scalars):
        _begin(scalar, env, row, observation, start[row])
    action = sample_actions(env, info, draws)
    limit = steps or env.engine.dynamics.max_trials + 1
    ended = torch.zeros(batch, dtype=torch.bool)
    for number in range(limit):
        if number == 0 or not repeats or number % 3:
            action = sample_actions(env, info, draws)
        observation, reward, terminated, _, info = env.step(action)
        for row, scalar in enumerate(scalars):
            seen, gained, done, _, told = scalar.step(action[row].cpu().numpy())
            where = f"row {row}, step {number}"
            compare(seen, _row(info["final_obs"], row), STEP_TOLERANCE, f"{where}: final_obs")
            compare(gained, _row(reward, row), STEP_TOLERANCE, f"{where}: reward")
            assert done == bool(terminated[row]), f"{where}: terminated"
            for key, value in reproducible(info["final_info"], env).items():
                loose = _LOOSE.get(key, STEP_TOLERANCE)
                compare(told[key], _row(value, row), loose, f"{where}: info[{key!r}]")
            if done:
                _begin(scalar, env, row, observation, None)
        ended |= terminated.cpu()
        if steps is None and bool(ended.all()):
            break
    assert bool(ended.any()) if repeats else bool(ended.all())


def _begin(
    scalar: gym.Env[Any, Any],
    env: HPOVectorEnv,
    row: int,
    observation: Any,
    start: Tensor | None,
) -> None:
    """Begin the episode that ``row`` has begun, and compare the first observation."""
    chosen = env.state.u[row] if start is None else start
    options = {"task_index": int(env.state.task[row]), "start": chosen.cpu().numpy()}
    seen, _ = scalar.reset(seed=0, options=options)
    compare(seen, _row(observation, row), STEP_TOLERANCE, f"row {row}: first observation")
    assert hpo_env(scalar).engine.settings == env.engine.settings


def _row(value: Any, row: int) -> Any:
    if isinstance(value, dict):
        return {key: item[row].cpu().numpy() for key, item in value.items()}
    return value[row].cpu().numpy()


def _wrong_actions(good: Tensor, space: gym.Space[Any]) -> list[Any]:
    wrong: list[Any] = [good[:-1], good[None], good.tolist()[:-1], None]
    if isinstance(space, gym.spaces.Discrete):
        high, low = good.clone(), good.clone()
        high[1], low[2] = int(space.n), -1
        return [*wrong, high, low, good.float()]
    for value in (float("nan"), 1.01, -0.01):
        spoiled = good.clone()
        spoiled[1, 0] = value
        wrong.append(spoiled)
    return [*wrong, (good > 0.5).long()]
