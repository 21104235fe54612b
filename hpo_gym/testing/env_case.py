"""What every scalar environment must do."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit

from hpo_gym.envs import HPOEnv
from hpo_gym.errors import InvalidActionError, InvalidSettingError, UnknownNameError
from hpo_gym.mdp.rewards import LOG_REGRET_CAP
from hpo_gym.seeding import numpy_generator
from hpo_gym.testing.rollouts import compare, hpo_env, legal_action, reproducible, run_episode

__all__ = ["EnvCase"]

#: SB3 advises rescaling boxes to [-1, 1]; ours are the unit cube on purpose.
_ALLOWED_WARNING = "symmetric and normalized Box action space"


class EnvCase:
    """Subclass, and give the fixture ``make_env``.

    ``make_env(**overrides)`` returns a fresh environment: an :class:`~hpo_gym.envs.HPOEnv`,
    possibly wrapped; the overrides are arguments of its constructor, such as ``reward="score"``.
    A budget below 10 keeps the checks fast.
    """

    @pytest.fixture
    def make_env(self) -> Callable[..., gym.Env[Any, Any]]:
        """Return the factory of the environment under test."""
        raise NotImplementedError("Give your test class a fixture make_env.")

    @pytest.fixture
    def env(self, make_env: Callable[..., gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
        """Return one environment under test."""
        return make_env()

    def test_gymnasium_checker_is_silent(self, env: gym.Env[Any, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped, skip_render_check=env.spec is None)

    def test_sb3_checker_is_silent(self, env: gym.Env[Any, Any]) -> None:
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checker.check_env(env.unwrapped, warn=True, skip_render_check=False)
        told = [str(item.message) for item in caught]
        assert [message for message in told if _ALLOWED_WARNING not in message] == []

    @pytest.mark.parametrize("seed", [0, 1, 12345])
    def test_same_seed_same_episode(self, make_env: Callable[..., gym.Env[Any, Any]], seed: int) -> None:
        used = make_env()
        first_reset, first = reproducible(run_episode(make_env(), seed), hpo_env(used))
        run_episode(used, seed + 1)  # what happened before a seeded reset must not matter
        second_reset, second = reproducible(run_episode(used, seed), hpo_env(used))
        _compare_results(first_reset, second_reset, "reset")
        assert len(first) == len(second)
        for number, (one, two) in enumerate(zip(first, second, strict=True)):
            _compare_results(one, two, f"step {number}")

    def test_seeds_differ_and_zero_is_a_seed(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env()
        if len(hpo_env(env).engine.tasks) < 2:
            pytest.skip("one task: seeds cannot be told apart")
        runs = {seed: _task_sequence(env, seed) for seed in (0, 1, 2)}
        assert runs[0] == _task_sequence(env, 0)
        assert len({tuple(run) for run in runs.values()}) == 3

    def test_spaces_contain_everything(self, env: gym.Env[Any, Any]) -> None:
        for seed in range(3):
            (observation, _), steps = run_episode(env, seed)
            for seen in [observation, *(step[0] for step in steps)]:
                assert env.observation_space.contains(seen), seen
            for _, reward, terminated, truncated, _ in steps:
                assert type(reward) is float and np.isfinite(reward)
                assert type(terminated) is bool and truncated is False

    def test_improvement_telescopes(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env(reward="improvement", reward_scale="none")
        for seed in range(3):
            (_, info), steps = run_episode(env, seed)
            rewards = [step[1] for step in steps]
            assert all(0.0 <= reward <= 1.0 for reward in rewards)
            gain = steps[-1][4]["incumbent"] - info["incumbent"]
            assert sum(rewards) == pytest.approx(gain, abs=1e-5)

    def test_rewards_are_what_they_are_called(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        kinds = ["delta", "score", "log_regret"]
        if hpo_env(make_env()).suite.known_range is None:
            kinds.remove("log_regret")
            with pytest.raises(InvalidSettingError, match="regret is undefined"):
                make_env(reward="log_regret", reward_scale="none")
        for reward in kinds:
            env = make_env(reward=reward, reward_scale="none")
            (_, info), steps = run_episode(env, 0)
            before = info["score"]
            for _, value, _, _, info in steps:
                if reward == "delta":
                    assert value == pytest.approx(max(0.0, info["score"] - before), abs=2e-6)
                elif reward == "score":
                    assert value == info["score"]
                else:
                    regret = np.clip(info["regret"], 10.0**-LOG_REGRET_CAP, 1.0)
                    assert value == pytest.approx(-np.log10(regret), abs=1e-4)
                    assert 0.0 <= value <= LOG_REGRET_CAP
                before = info["score"]

    def test_incumbent_is_the_best_full_evaluation_so_far(self, env: gym.Env[Any, Any]) -> None:
        (_, info), steps = run_episode(env, 0)
        best = info["incumbent"]
        for step in steps:
            info = step[4]
            if info["fidelity"] > 1.0 - 1e-4:
                best = max(best, info["score"])
            assert info["incumbent"] == pytest.approx(best, abs=2e-6)

    def test_an_episode_that_is_over_takes_no_more_steps(self, env: gym.Env[Any, Any]) -> None:
        run_episode(env, 0)
        inner = hpo_env(env)
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            inner.step(inner.action_space.sample())
        _, info = env.reset(seed=0)
        env.step(legal_action(env, info, numpy_generator(0, "test", "again")))

    def test_terminates_when_the_budget_is_spent(self, env: gym.Env[Any, Any]) -> None:
        settings = hpo_env(env).engine.settings
        (_, info), steps = run_episode(env, 0)
        shares = [info["fidelity"], *(step[4]["fidelity"] for step in steps)]
        assert sum(shares) <= settings.budget + 1e-3
        if settings.terminate_on_repeat:
            return
        if settings.multi_fidelity:
            assert all(sum(shares[: n + 1]) < settings.budget for n in range(len(shares) - 1))
        else:
            # The evaluation at reset costs one trial.
            assert len(steps) == settings.budget - (0 if settings.start == "none" else 1)
            assert steps[-1][4]["trial"] == settings.budget

    def test_masked_actions_change_nothing(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env(budget=30)
        inner = hpo_env(env)
        if inner.engine.settings.action != "grid_step":
            pytest.skip("only grid steps have moves that lead nowhere")
        for action in range(inner.engine.dynamics.actions.num_actions):
            _, info = env.reset(seed=action)
            done = False
            while info["action_mask"][action] and not done:
                _, _, done, _, info = env.step(action)
            assert not done, "the grid has more levels than the budget reaches"
            before, share, score = inner.configuration, info["fidelity"], info["score"]
            _, _, _, _, info = env.step(action)
            assert inner.configuration == before
            assert info["fidelity"] == share
            assert info["score"] == pytest.approx(score, abs=1e-5)

    def test_a_grid_step_moves_one_hyperparameter(self, env: gym.Env[Any, Any]) -> None:
        inner = hpo_env(env)
        if inner.engine.settings.action != "grid_step":
            pytest.skip("other actions move everything at once")
        names, draws = inner.suite.space.names, numpy_generator(0, "testing", "moves")
        for seed in range(3):
            _, info = env.reset(seed=seed)
            done = False
            while not done:
                before = inner.configuration
                action = legal_action(env, info, draws)
                _, _, done, _, info = env.step(action)
                after = inner.configuration
                changed = {key for key in before if key in after and before[key] != after[key]}
                moved = {names[action // 2]} if action // 2 < len(names) else set()
                assert changed == moved

    def test_observation_hides_the_optimum(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env(reward="improvement", reward_scale="none")
        suite = hpo_env(env).suite
        known = suite.known_range
        if known is None:
            pytest.skip("the range of this suite is not known")
        honest: Any = run_episode(env, 0)
        try:
            suite.known_range = replace(
                known,
                best=known.best + 0.37,
                worst=known.worst - 0.21,
                median=known.median * 0.5,
                best_u=1.0 - known.best_u,
            )
            other: Any = run_episode(make_env(source=suite, reward_scale="none"), 0)
        finally:
            suite.known_range = known
        compare(honest[0][0], other[0][0], 0.0, "observation at reset")
        for one, two in zip(honest[1], other[1], strict=True):
            compare(one[0], two[0], 0.0, "observation")
            assert one[4]["regret"] != two[4]["regret"]  # the change did reach the suite

    def test_reset_options(self, env: gym.Env[Any, Any]) -> None:
        inner = hpo_env(env)
        suite = inner.suite
        wanted = suite.tasks[-1]
        named: tuple[dict[str, Any], ...] = (
            {"task": wanted},
            {"task": str(wanted)},
            {"task_index": suite.num_tasks - 1},
        )
        for options in named:
            _, info = env.reset(seed=0, options=options)
            assert inner.task == wanted and info["task"] == suite.num_tasks - 1
        default = suite.space.to_dicts(suite.space.default()[None])[0]
        for start in (suite.space.default().cpu().numpy(), default):
            env.reset(seed=0, options={"start": start})
            if inner.engine.settings.action != "grid_step":
                assert inner.configuration == default
        refused: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
            ({"tsak": wanted}, UnknownNameError),
            ({"task": "no such task"}, UnknownNameError),
            ({"task": 3}, InvalidSettingError),
            ({"task_index": suite.num_tasks}, InvalidSettingError),
            ({"task": wanted, "task_index": 0}, InvalidSettingError),
            ({"start": np.full(suite.space.dimension, np.nan)}, InvalidSettingError),
            ({"start": np.zeros(suite.space.dimension + 1)}, InvalidSettingError),
        )
        for wrong, error in refused:
            with pytest.raises(error):
                env.reset(seed=0, options=wrong)

    def test_wrong_actions_are_refused(self, env: gym.Env[Any, Any]) -> None:
        inner = hpo_env(env)
        _, info = inner.reset(seed=0)
        for action in _wrong_actions(env.action_space):
            with pytest.raises(InvalidActionError):
                inner.step(action)
        # None of them was played: the episode goes on where it stood.
        after = inner.step(legal_action(env, info, numpy_generator(0, "testing", "after")))[4]
        assert after["trial"] == info["trial"] + 1

    def test_step_before_reset_is_refused(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env()
        with pytest.raises(gym.error.ResetNeeded):
            env.unwrapped.step(env.action_space.sample())

    def test_pickled_copy_continues_alike(self, env: gym.Env[Any, Any]) -> None:
        inner = hpo_env(env)
        _, info = inner.reset(seed=0)
        copy: HPOEnv = pickle.loads(pickle.dumps(inner))
        action = legal_action(env, info, numpy_generator(0, "testing", "pickle"))
        for one, two in ((inner.step(action), copy.step(action)), (inner.reset(), copy.reset())):
            _compare_results(reproducible(one, inner), reproducible(two, inner), "after pickling")

    def test_gymnasium_wrappers_fit(self, env: gym.Env[Any, Any]) -> None:
        wrapped = RecordEpisodeStatistics(FlattenObservation(TimeLimit(env, 3)))
        draws = numpy_generator(0, "testing", "wrappers")
        observation, info = wrapped.reset(seed=0)
        total, truncated, terminated = 0.0, False, False
        while not (truncated or terminated):
            action = legal_action(wrapped, info, draws)
            observation, reward, terminated, truncated, info = wrapped.step(action)
            assert wrapped.observation_space.contains(observation)
            total += float(reward)
        assert info["episode"]["r"] == pytest.approx(total, abs=1e-6)

    def test_render(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        env = make_env(render_mode="rgb_array")
        _, info = env.reset(seed=0)
        before: Any = env.render()
        assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3
        env.step(legal_action(env, info, numpy_generator(0, "testing", "render")))
        assert not np.array_equal(before, np.asarray(env.render()))
        text = make_env(render_mode="ansi")
        text.reset(seed=0)
        assert hpo_env(text).suite.name in str(text.render())
        engine = hpo_env(env).engine
        with pytest.raises(UnknownNameError):
            hpo_env(env).__class__(source=engine.suite, split="all", protocol=engine.protocol, render_mode="3d")

    def test_global_generators_are_left_alone(self, env: gym.Env[Any, Any]) -> None:
        state = torch.get_rng_state()
        numpy_state: Any = np.random.get_state()
        run_episode(env, 0)
        assert torch.equal(state, torch.get_rng_state())
        after: Any = np.random.get_state()
        assert np.array_equal(numpy_state[1], after[1]) and numpy_state[2] == after[2]


def _compare_results(first: Any, second: Any, where: str) -> None:
    for one, two in zip(first, second, strict=True):
        compare(one, two, 0.0, where)


def _task_sequence(env: gym.Env[Any, Any], seed: int) -> list[int]:
    env.reset(seed=seed)
    return [int(env.reset()[1]["task"]) for _ in range(24)]


def _wrong_actions(space: gym.Space[Any]) -> list[Any]:
    if isinstance(space, gym.spaces.Discrete):
        count = int(space.n)
        return [count, -1, 0.5, np.float32(1), np.zeros(1, int), np.zeros(2, int), True, "0", None]
    assert isinstance(space, gym.spaces.Box)
    size = space.shape[0]
    middle = np.full(size, 0.5, np.float32)
    spoiled = [middle.copy() for _ in range(4)]
    for action, value in zip(spoiled, (np.nan, 1.5, -0.1, np.inf), strict=True):
        action[-1] = value
    return [*spoiled, middle[:-1], middle[None], np.zeros(size, int), 0.5, "half", None]
