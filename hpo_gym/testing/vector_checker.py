"""The checker that Gymnasium lacks: is this torch vector environment what it says it is?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator
from hpo_gym.testing.rollouts import compare, sample_actions

__all__ = ["check_vector_env"]


def check_vector_env(env: HPOVectorEnv, episodes: int = 2, seed: int = 0) -> None:
    """Play some episodes and check everything that a vector environment promises.

    Spaces, shapes, dtypes, devices and bounds; ``SAME_STEP`` autoreset with ``final_obs`` and
    ``final_info`` at every step; episode statistics; that no result is changed by later steps.
    Gymnasium's ``check_env`` refuses vector environments.

    Args:
        env: The environment; it is reset.
        episodes: Episodes of row 0 to play.
        seed: Seed of the reset and of the actions.

    Raises:
        AssertionError: If a promise is broken, naming which.
    """
    _check_spaces(env)
    draws = generator(seed, "testing", "actions")
    observation, info = env.reset(seed=seed)
    _check_observation(env, observation, "reset")
    _check_info(env, info, "reset")
    returns = torch.zeros(env.num_envs, device=env.device)
    finished = 0
    kept: list[tuple[Any, Any]] = [(observation, _copy(observation))]
    limit = episodes * (env.engine.dynamics.max_trials + 1)
    for number in range(limit):
        action = sample_actions(env, info, draws)
        trial = env.state.trial.clone()
        observation, reward, terminated, truncated, info = env.step(action)
        where = f"step {number}"
        returns = returns + reward
        _check_flags(env, reward, terminated, truncated, where)
        _check_observation(env, observation, where)
        _check_info(env, info, where)
        _check_final(env, observation, terminated, trial, info, where)
        _check_statistics(env, terminated, returns, info, where)
        returns = torch.where(terminated, torch.zeros_like(returns), returns)
        kept.append((observation, _copy(observation)))
        finished += int(terminated[0])
        if finished == episodes:
            break
    assert finished == episodes, f"row 0 ended {finished} of {episodes} episodes in {limit} steps"
    for number, (before, copy) in enumerate(kept):
        compare(copy, before, 0.0, f"observation {number} after later steps")


def _check_spaces(env: HPOVectorEnv) -> None:
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP, "autoreset_mode"
    assert env.observation_space == batch_space(env.single_observation_space, env.num_envs)
    assert env.action_space == batch_space(env.single_action_space, env.num_envs)


def _check_tensor(value: Any, shape: tuple[int, ...], env: HPOVectorEnv, where: str) -> None:
    assert isinstance(value, Tensor), f"{where}: {type(value).__name__} is no tensor"
    assert value.shape == shape, f"{where}: shape {tuple(value.shape)}, expected {shape}"
    assert value.device == env.device, f"{where}: on {value.device}, expected {env.device}"
    assert not value.requires_grad, f"{where}: carries a gradient"


def _check_observation(env: HPOVectorEnv, observation: Any, where: str) -> None:
    space = env.single_observation_space
    if isinstance(space, gym.spaces.Dict):
        assert set(observation) == set(space.spaces), f"{where}: keys {sorted(observation)}"
        blocks = [(observation[key], box, f"{where}[{key!r}]") for key, box in space.items()]
    else:
        blocks = [(observation, space, where)]
    for value, box, name in blocks:
        assert isinstance(box, gym.spaces.Box)
        _check_tensor(value, (env.num_envs, *box.shape), env, name)
        assert value.dtype == torch.float32, f"{name}: {value.dtype}"
        low, high = torch.from_numpy(box.low), torch.from_numpy(box.high)
        inside = (value.cpu() >= low) & (value.cpu() <= high)  # False for NaN
        assert bool(inside.all()), f"{name}: outside its box"


def _check_flags(env: HPOVectorEnv, reward: Tensor, terminated: Tensor, truncated: Tensor, where: str) -> None:
    _check_tensor(reward, (env.num_envs,), env, f"{where}: reward")
    assert reward.dtype == torch.float32 and bool(reward.isfinite().all()), f"{where}: reward"
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        _check_tensor(flag, (env.num_envs,), env, f"{where}: {name}")
        assert flag.dtype == torch.bool, f"{where}: {name} is {flag.dtype}"
    assert not bool((terminated & truncated).any()), f"{where}: both terminated and truncated"


def _check_info(env: HPOVectorEnv, info: Mapping[str, Any], where: str) -> None:
    for key in ("task", "trial", "score", "incumbent", "fidelity"):
        _check_tensor(info[key], (env.num_envs,), env, f"{where}: info[{key!r}]")
    if isinstance(env.single_action_space, gym.spaces.Discrete):
        mask, shape = info["action_mask"], (env.num_envs, int(env.single_action_space.n))
        _check_tensor(mask, shape, env, f"{where}: info['action_mask']")
        assert mask.dtype == torch.bool, f"{where}: mask is {mask.dtype}"


def _check_final(
    env: HPOVectorEnv,
    observation: Any,
    terminated: Tensor,
    trial: Tensor,
    info: Mapping[str, Any],
    where: str,
) -> None:
    _check_observation(env, info["final_obs"], f"{where}: final_obs")
    _check_info(env, info["final_info"], f"{where}: final_info")
    for key in ("_final_obs", "_final_info"):
        assert torch.equal(info[key], terminated), f"{where}: info[{key!r}] is not terminated"
    # The step's own outcome counts one trial more; an ended row has begun again.
    assert torch.equal(info["final_info"]["trial"], trial + 1), f"{where}: final_info['trial']"
    running = ~terminated
    first = 0 if env.engine.settings.start == "none" else 1
    assert bool((info["trial"][terminated] == first).all()), f"{where}: ended rows did not begin"
    assert torch.equal(info["trial"][running], trial[running] + 1), f"{where}: info['trial']"
    rows = running.cpu().numpy()
    final = _rows(info["final_obs"], rows)
    compare(final, _rows(observation, rows), 0.0, f"{where}: final_obs of running rows")
    left = "budget_left" if isinstance(observation, Mapping) else _budget_column(env)
    after, shown = (
        value[left][:, 0] if isinstance(value, Mapping) else value[:, left]
        for value in (info["final_obs"], observation)
    )
    assert bool((shown[terminated] > after[terminated]).all()), (
        f"{where}: an ended row's observation shows no fresh budget, or final_obs does"
    )


def _budget_column(env: HPOVectorEnv) -> int:
    parts = env.engine.dynamics.observations.parts
    position = [part.name for part in parts].index("budget_left")
    return sum(part.width for part in parts[:position])


def _check_statistics(
    env: HPOVectorEnv,
    terminated: Tensor,
    returns: Tensor,
    info: Mapping[str, Any],
    where: str,
) -> None:
    if not bool(terminated.any()):
        assert "episode" not in info, f"{where}: statistics of no episode"
        return
    assert torch.equal(info["_episode"], terminated), f"{where}: info['_episode']"
    told = info["episode"]["r"][terminated]
    compare(returns[terminated].cpu(), told.cpu(), 1e-5, f"{where}: episode return")
    at_reset = 0 if env.engine.settings.start == "none" else 1
    length = info["final_info"]["trial"][terminated] - at_reset
    assert torch.equal(info["episode"]["l"][terminated], length), f"{where}: episode length"


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return value.clone()


def _rows(value: Any, rows: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: item.cpu().numpy()[rows] for key, item in value.items()}
    return value.cpu().numpy()[rows]
