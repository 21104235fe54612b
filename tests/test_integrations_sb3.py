"""A vector environment of torch tensors as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hpo_gym
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.integrations.sb3 import require_sb3, to_vec_env
from hpo_gym.testing.tiny import TINY_SUITES

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install -e '.[sb3]'")

BUDGET = 4
ACTIONS = ("grid_step", "continuous")
OBSERVATIONS = ("flat", "history")


def vector_env(num_envs: int = 6, **settings: Any) -> HPOVectorEnv:
    suite = TINY_SUITES["quadratic"]()
    return HPOVectorEnv(num_envs, source=suite, split="all", **({"budget": BUDGET, "start": "random"} | settings))


def some_actions(env: HPOVectorEnv, step: int) -> np.ndarray:
    draws = np.random.default_rng(step)
    if isinstance(env.single_action_space, gym.spaces.Discrete):
        return draws.integers(0, env.single_action_space.n, env.num_envs)
    return draws.random((env.num_envs, *env.single_action_space.shape), dtype=np.float32)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))


def row_of(observation: Any, row: int) -> Any:
    return {k: v[row] for k, v in observation.items()} if isinstance(observation, dict) else observation[row]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_it_tells_what_the_environment_does(action: str, observation: str) -> None:
    plain, env = (vector_env(action=action, observation=observation) for _ in range(2))
    adapter = to_vec_env(env)
    assert adapter.observation_space == env.single_observation_space
    assert adapter.action_space == env.single_action_space
    adapter.seed(3)
    expected, info = plain.reset(seed=3)
    assert same(adapter.reset(), expected)
    assert same([one["score"] for one in adapter.reset_infos], info["score"])
    for step in range(2 * BUDGET):
        chosen = some_actions(env, step)
        expected, reward, terminated, _, info = plain.step(chosen)
        shown, rewards, dones, infos = adapter.step(chosen)
        assert same(shown, expected) and same(rewards, reward) and same(dones, terminated)
        assert rewards.dtype == np.float32 and dones.dtype == bool
        assert len(infos) == env.num_envs
        for row, one in enumerate(infos):
            if not dones[row]:
                assert one == {}
                continue
            assert same(one["terminal_observation"], row_of(info["final_obs"], row))
            assert not same(one["terminal_observation"], row_of(shown, row)), "the next episode's first observation"
            assert one["TimeLimit.truncated"] is False
            assert one["episode"]["r"] == float(info["episode"]["r"][row])
            assert one["episode"]["l"] == int(info["episode"]["l"][row]) == BUDGET - 1
            assert one["episode"]["t"] >= 0.0
            assert one["regret"] == float(info["final_info"]["regret"][row])
    assert same(adapter.info["score"], info["score"])


def test_returns_and_lengths_are_those_of_the_rewards() -> None:
    adapter = to_vec_env(vector_env())
    adapter.reset()
    total, length, ended = np.zeros(6), np.zeros(6, int), 0
    for step in range(3 * BUDGET):
        _, rewards, dones, infos = adapter.step(some_actions(adapter.vector_env, step))
        total, length = total + rewards, length + 1
        for row in dones.nonzero()[0]:
            assert infos[row]["episode"]["r"] == pytest.approx(total[row], abs=1e-6)
            assert infos[row]["episode"]["l"] == length[row]
            total[row], length[row], ended = 0.0, 0, ended + 1
    assert ended == 4 * 6


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_nothing_is_copied_on_the_cpu_and_nothing_is_overwritten_later(observation: str) -> None:
    env = vector_env(observation=observation)
    adapter, given = to_vec_env(env), []
    step = env.step

    def spied(actions: Any) -> Any:
        given.append(step(actions))
        return given[-1]

    env.step = spied  # type: ignore[method-assign]
    adapter.reset()
    handed_out, copies = [], []
    for number in range(2 * BUDGET):
        shown, rewards, _, infos = adapter.step(some_actions(env, number))
        tensors, reward = given[-1][0], given[-1][1]
        name = "u" if observation == "history" else None
        array, tensor = (shown[name], tensors[name]) if name else (shown, tensors)
        assert np.shares_memory(array, tensor.numpy()) and np.shares_memory(rewards, reward.numpy())
        ends = [one["terminal_observation"] for one in infos if one]
        parts = [*(shown.values() if name else [shown]), rewards]
        parts += [part for end in ends for part in (end.values() if name else [end])]
        handed_out += parts
        copies += [part.copy() for part in parts]
    assert all(same(first, second) for first, second in zip(handed_out, copies, strict=True))


@pytest.mark.parametrize("wrapper", ["VecMonitor", "VecNormalize", "VecFrameStack", "VecCheckNan"])
def test_wrappers_of_sb3_leave_the_shared_info_empty(wrapper: str) -> None:
    import stable_baselines3.common.vec_env as wrappers

    adapter = to_vec_env(vector_env(terminate_on_repeat=True))
    more: dict[str, Any] = {"n_stack": 2} if wrapper == "VecFrameStack" else {}
    wrapped = getattr(wrappers, wrapper)(adapter, **more)
    wrapped.seed(0)
    wrapped.reset()
    mixed = 0
    for step in range(2 * BUDGET):
        _, _, dones, infos = wrapped.step(some_actions(adapter.vector_env, step))
        assert all(one == {} for one, done in zip(infos, dones, strict=True) if not done)
        assert all("terminal_observation" in one for one, done in zip(infos, dones, strict=True) if done)
        mixed += bool(dones.any()) and not bool(dones.all())
    assert mixed > 0, "no step ended only some episodes"


def test_it_does_not_reset_what_is_under_way() -> None:
    first, second = vector_env(), vector_env()
    first.reset(seed=1)
    first.step(some_actions(first, 0))
    second.load_state_dict(first.state_dict())
    adapter = to_vec_env(second)
    expected, _ = first.observe()
    assert same(adapter.observe(), expected)
    following = first.step(some_actions(first, 1))[0]
    assert same(adapter.step(some_actions(second, 1))[0], following)


def test_a_seed_holds_for_one_reset() -> None:
    adapter = to_vec_env(vector_env())
    assert adapter.seed(5) == list(range(5, 11))
    first = adapter.reset()
    second = adapter.reset()
    adapter.seed(5)
    assert same(adapter.reset(), first) and not same(first, second)
    before = np.random.get_state()[1].copy()
    drawn = adapter.seed()
    assert len(drawn) == 6 and np.array_equal(before, np.random.get_state()[1]), "the global generator was used"


def test_options_hold_for_one_reset() -> None:
    adapter = to_vec_env(vector_env())
    adapter.set_options({"task_index": 2})
    adapter.reset()
    assert {int(one["task"]) for one in adapter.reset_infos} == {2}
    adapter.set_options([{"task_index": row % 3} for row in range(6)])
    adapter.reset()
    assert [int(one["task"]) for one in adapter.reset_infos] == [0, 1, 2, 0, 1, 2]
    adapter.seed(0)
    adapter.reset()
    assert [int(one["task"]) for one in adapter.reset_infos] != [0, 1, 2, 0, 1, 2]
    for wrong in ([{"task_index": 0}], [{"task_index": 0}] * 5 + [{}]):
        with pytest.raises(InvalidSettingError, match="6 rows"):
            adapter.set_options(wrong)


def test_masks_are_those_of_the_rows() -> None:
    from stable_baselines3.common.vec_env import VecNormalize

    env = vector_env(start="default")
    adapter = VecNormalize(to_vec_env(env))
    adapter.reset()
    for step in range(9):
        adapter.step(np.full(6, step % 2))
    assert adapter.has_attr("action_masks")
    masks = np.stack(adapter.env_method("action_masks"))
    assert same(masks, env.observe()[1]["action_mask"]) and masks.dtype == bool
    assert same(adapter.env_method("action_masks", indices=[4, 1]), masks[[4, 1]])
    assert not to_vec_env(vector_env(action="continuous")).has_attr("action_masks")


def test_maskable_ppo_takes_legal_actions_only() -> None:
    maskable = pytest.importorskip("sb3_contrib", reason="needs sb3-contrib: pip install -e '.[sb3]'")
    env = vector_env(8, budget=9)
    adapter, step, illegal = to_vec_env(env), env.step, []

    def spied(actions: Any) -> Any:
        mask = env.observe()[1]["action_mask"]
        illegal.append(bool((~mask.gather(1, torch.as_tensor(actions)[:, None])).any()))
        return step(actions)

    env.step = spied  # type: ignore[method-assign]
    model = maskable.MaskablePPO("MlpPolicy", adapter, n_steps=16, batch_size=64, n_epochs=2, seed=0, device="cpu")
    model.learn(256)
    assert len(illegal) == 32 and not any(illegal)


@pytest.mark.parametrize(("action", "algorithm"), [("grid_step", "DQN"), ("grid_step", "PPO"), ("continuous", "SAC")])
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_sb3_trains_and_evaluates_on_it(action: str, algorithm: str, observation: str) -> None:
    import stable_baselines3
    from stable_baselines3.common.evaluation import evaluate_policy

    adapter = to_vec_env(vector_env(action=action, observation=observation))
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}, "seed": 0, "device": "cpu", "batch_size": 24}
    small |= {"n_steps": 8, "n_epochs": 1} if algorithm == "PPO" else {"learning_starts": 24, "buffer_size": 600}
    policy = "MultiInputPolicy" if observation == "history" else "MlpPolicy"
    model = getattr(stable_baselines3, algorithm)(policy, adapter, **small).learn(96)
    assert model._n_updates > 0
    assert all(episode["l"] == BUDGET - 1 for episode in model.ep_info_buffer) and len(model.ep_info_buffer) >= 24
    returns, lengths = evaluate_policy(model, adapter, n_eval_episodes=12, return_episode_rewards=True)
    assert lengths == [BUDGET - 1] * 12
    assert all(0.0 <= value <= 1.0 for value in returns)


def test_replay_holds_what_a_step_led_to_and_not_the_next_episode() -> None:
    from stable_baselines3 import DQN

    adapter = to_vec_env(vector_env())
    model = DQN("MlpPolicy", adapter, learning_starts=10_000, buffer_size=600, seed=0, device="cpu").learn(60)
    buffer = model.replay_buffer
    following, dones = buffer.next_observations[: buffer.pos], buffer.dones[: buffer.pos]
    # The last entry of a flat observation is the share of the budget that is left.
    assert np.array_equal(following[..., -1] <= 1e-6, dones > 0.5) and dones.any()


def test_attributes_belong_to_all_rows() -> None:
    adapter = to_vec_env(vector_env())
    assert adapter.get_attr("num_envs", indices=[0, 3]) == [6, 6]
    assert not adapter.has_attr("no_such_thing")
    adapter.set_attr("note", "kept")
    assert adapter.get_attr("note") == ["kept"] * 6
    adapter.reset()
    assert len(adapter.env_method("state_dict")) == 6
    for refused in (lambda: adapter.set_attr("note", 1, indices=[0]), lambda: adapter.env_method("reset", indices=2)):
        with pytest.raises(InvalidSettingError, match="all 6 rows are one environment"):
            refused()


def test_it_renders_and_closes() -> None:
    picture = to_vec_env(vector_env(render_mode="rgb_array"))
    picture.reset()
    picture.step(some_actions(picture.vector_env, 0))
    image = picture.render()
    assert image is not None and image.ndim == 3 and image.dtype == np.uint8
    text = to_vec_env(vector_env(render_mode="ansi"))
    text.reset()
    assert isinstance(text.render(), str)
    text.close()
    assert text.vector_env.closed


def test_what_is_no_bare_vector_environment_is_refused() -> None:
    adapter = to_vec_env(gym.make_vec("HPO-Synthetic-v0", num_envs=2, space="bbob-2d"))
    assert adapter.num_envs == 2
    for wrong in (gym.make("HPO-Synthetic-v0", space="bbob-2d"), hpo_gym.envs.TorchToNumpy(vector_env())):
        with pytest.raises(InvalidSettingError, match="without wrappers"):
            to_vec_env(wrong)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python itself does where a package is not installed, but for the package's name in the message.
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(InvalidSettingError, match=r"agent=sb3_qrdqn needs .*sb3-contrib.*pip install '\.\[sb3\]'"):
        require_sb3("agent=sb3_qrdqn", "sb3_contrib")
