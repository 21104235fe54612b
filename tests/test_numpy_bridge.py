"""The bridge to NumPy, and which of Gymnasium's vector wrappers work on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import vector as wrappers

from hpo_gym.envs import HPOVectorEnv, TorchToNumpy
from hpo_gym.testing.tiny import quadratic_suite


class Remembering(HPOVectorEnv):
    """Keeps the actions as they arrive."""

    received: Any = None

    def step(self, actions: Any) -> Any:
        self.received = actions
        return super().step(actions)


def make(**arguments: Any) -> Remembering:
    settings = {"split": "all", "budget": 4, "action": "continuous"} | arguments
    return Remembering(3, source=quadratic_suite(), **settings)


def test_tensors_pass_unchanged_and_lists_become_arrays() -> None:
    inner = make()
    bridge = TorchToNumpy(inner)
    bridge.reset(seed=0)
    action = torch.rand(3, 2)
    bridge.step(action)
    assert inner.received is action
    bridge.step(action.tolist())
    assert isinstance(inner.received, np.ndarray)


def test_gymnasiums_statistics_are_those_of_the_environment() -> None:
    plain, counted = make(), wrappers.RecordEpisodeStatistics(TorchToNumpy(make()))
    plain.reset(seed=0)
    counted.reset(seed=0)
    draws = np.random.default_rng(0)
    ended = 0
    for _ in range(9):
        action = draws.random((3, 2), dtype=np.float32)
        ours, theirs = plain.step(action)[4], counted.step(action)[4]
        assert ("episode" in ours) == ("episode" in theirs)
        if "episode" in ours:
            ended += 1
            assert np.array_equal(theirs["_episode"], ours["_episode"].numpy())
            np.testing.assert_allclose(theirs["episode"]["r"], ours["episode"]["r"].numpy(), atol=1e-6)
            assert np.array_equal(theirs["episode"]["l"], ours["episode"]["l"].numpy())
    assert ended == 3 and counted.episode_count == 9


WORKING: dict[str, Callable[[Any], Any]] = {
    "NormalizeReward": wrappers.NormalizeReward,
    "ClipReward": lambda env: wrappers.ClipReward(env, 0.0, 1.0),
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: 2 * reward),
    "ClipAction": wrappers.ClipAction,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, -1.0, 1.0),
    "DictInfoToList": wrappers.DictInfoToList,
}


@pytest.mark.parametrize("name", WORKING)
def test_wrappers_that_the_documents_promise(name: str) -> None:
    env = WORKING[name](TorchToNumpy(make()))
    env.reset(seed=0)
    env.action_space.seed(0)
    flags = []
    for _ in range(5):
        _, reward, terminated, _, _ = env.step(env.action_space.sample())
        assert isinstance(reward, np.ndarray) and np.isfinite(reward).all()
        flags.append(bool(terminated.all()))
    assert flags == [False, False, True, False, False]


@pytest.mark.parametrize("name", ["NormalizeObservation", "FlattenObservation"])
def test_wrappers_of_observations_refuse_same_step_autoreset(name: str) -> None:
    # Gymnasium's own decision: should it change its mind, the documents must follow.
    with pytest.raises(ValueError, match="SAME_STEP"):
        getattr(wrappers, name)(TorchToNumpy(make()))


def test_wrappers_of_observations_go_around_scalar_environments() -> None:
    arguments = {"source": quadratic_suite(), "split": "all", "observation": "history", "budget": 4}
    env = gym.wrappers.FlattenObservation(gym.make("HPO-Synthetic-v0", **arguments))
    observation, _ = env.reset(seed=0)
    assert observation.ndim == 1 and env.observation_space.contains(observation)
