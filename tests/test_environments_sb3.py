"""Stable-Baselines3 trains on the scalar environments as they come out of ``gymnasium.make``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hpo_gym

sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install -e '.[sb3]'")

pytestmark = pytest.mark.slow

# Small buffers: what is tested is the interface, not how well SB3 learns.
SETTINGS: dict[str, dict[str, Any]] = {
    "DQN": {"buffer_size": 500, "learning_starts": 40, "batch_size": 16, "target_update_interval": 50},
    "PPO": {"n_steps": 64, "batch_size": 32, "n_epochs": 2},
    "SAC": {"buffer_size": 500, "learning_starts": 40, "batch_size": 16, "train_freq": 2},
}
STEPS = 256
BUDGET = 8

POLICIES = {"flat": "MlpPolicy", "history": "MultiInputPolicy"}

CASES = [
    ("DQN", "HPO-OpenML-v0", "grid_step"),
    ("DQN", "HPO-Synthetic-v0", "grid_choice"),
    ("PPO", "HPO-OpenML-v0", "grid_step"),
    ("PPO", "HPO-OpenMLMultiFidelity-v0", "continuous"),
    ("SAC", "HPO-OpenMLContinuous-v0", "continuous"),
    ("SAC", "HPO-OpenMLMultiFidelity-v0", "continuous"),
]


def make(name: str, action: str, observation: str) -> gym.Env[Any, Any]:
    space = {"space": "bbob-2d", "levels": 5} if "Synthetic" in name else {}
    return gym.make(name, action=action, observation=observation, budget=BUDGET, **space)


def learn(algorithm: str, env: gym.Env[Any, Any], observation: str) -> Any:
    # A dictionary of each model's own: SB3 writes into it.
    small = {"net_arch": [16]}
    model = getattr(sb3, algorithm)(
        POLICIES[observation], env, seed=0, device="cpu", policy_kwargs=small, **SETTINGS[algorithm]
    )
    return model.learn(STEPS)


def weights(model: Any) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in model.policy.parameters()])


@pytest.mark.parametrize(("algorithm", "name", "action"), CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize("observation", POLICIES)
def test_sb3_learns_on_an_unmodified_environment(algorithm: str, name: str, action: str, observation: str) -> None:
    env = make(name, action, observation)
    model = learn(algorithm, env, observation)
    assert model.num_timesteps >= STEPS
    assert model._n_updates > 0
    assert bool(np.isfinite(weights(model)).all())
    # SB3's monitor saw whole episodes. Improvements are at least 0 and sum up to at most 1; a full evaluation
    # costs one trial, the one at reset included.
    episodes = list(model.ep_info_buffer)
    assert len(episodes) >= 10
    assert all(0.0 <= episode["r"] <= 1.0 + 1e-5 for episode in episodes)
    if "MultiFidelity" not in name:
        assert {episode["l"] for episode in episodes} == {BUDGET - 1}
    seen, _ = env.reset(seed=3)
    for _ in range(3):
        chosen, _ = model.predict(seen, deterministic=True)
        assert env.action_space.contains(chosen if chosen.ndim else int(chosen))
        seen, _, done, _, _ = env.step(chosen)
        if done:
            break


@pytest.mark.parametrize(("algorithm", "action"), [("DQN", "grid_step"), ("PPO", "continuous"), ("SAC", "continuous")])
def test_sb3_gets_the_same_weights_from_the_same_seed(algorithm: str, action: str) -> None:
    first, second = (weights(learn(algorithm, make("HPO-OpenML-v0", action, "flat"), "flat")) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("vector", ["DummyVecEnv", "VecNormalize"])
def test_sb3_stacks_scalar_environments(vector: str) -> None:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    envs: Any = make_vec_env("HPO-OpenML-v0", n_envs=3, seed=0, env_kwargs={"budget": BUDGET})
    if vector == "VecNormalize":
        envs = VecNormalize(envs)
    model = sb3.PPO("MlpPolicy", envs, seed=0, device="cpu", n_steps=16, batch_size=24, n_epochs=1).learn(96)
    assert model.num_timesteps == 96
    # The rows draw tasks of their own.
    tasks = envs.env_method("get_wrapper_attr", "task")
    assert len({str(task) for task in tasks}) > 1


def test_the_checkers_of_test_environments_cover_every_id() -> None:
    # SB3's check_env runs there, as a part of EnvCase, for every id, action and observation.
    from test_environments import VARIANTS

    # Real trainings have a file of their own, test_live_environments.py.
    ids = {name for name in hpo_gym.registered_ids() if "Live" not in name}
    assert {name for name, _ in VARIANTS.values()} == ids
    # An id named Continuous is another id with other defaults: its twin already plays the other actions.
    twins = {name for name in ids if "Continuous" in name and name.replace("Continuous", "") in ids}
    assert len(VARIANTS) == 6 * len(ids - twins) + 2 * len(twins)
