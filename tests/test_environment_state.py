"""What environments share and keep: saved states, suites that callers own, infos, starts."""

from __future__ import annotations

import pickle
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpo_gym import load_suite
from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.testing.tiny import conditional_suite, quadratic_suite


def vector(**arguments: Any) -> HPOVectorEnv:
    return HPOVectorEnv(**({"num_envs": 4, "source": quadratic_suite(), "split": "all", "budget": 6} | arguments))


def roll(envs: HPOVectorEnv, steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    count = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    seen = []
    for _ in range(steps):
        observation, reward, *_ = envs.step(torch.randint(count, (envs.num_envs,), generator=generator))
        parts = observation.values() if isinstance(observation, dict) else [observation]
        seen.append(torch.cat([reward[:, None], *(part.float().flatten(1) for part in parts)], 1))
    return torch.stack(seen)


@pytest.mark.parametrize("observation", ["flat", "history"])
def test_a_saved_state_may_be_restored_many_times(observation: str) -> None:
    envs = vector(observation=observation)
    envs.reset(seed=0)
    roll(envs, 2)
    saved = envs.state_dict()
    first = roll(envs, 8)
    for _ in range(2):
        envs.load_state_dict(saved)
        torch.testing.assert_close(roll(envs, 8), first, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"budget": 9}, "budget=6"),
        ({"observation": "history"}, "observation='flat'"),
        ({"split": "train"}, "split=all"),
        ({"source": conditional_suite()}, "suite="),
    ],
)
def test_a_state_of_another_environment_is_refused(other: dict[str, Any], named: str) -> None:
    envs = vector()
    envs.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=named):
        vector(**other).load_state_dict(envs.state_dict())


def test_what_a_caller_writes_into_an_info_changes_no_episode() -> None:
    untouched, scribbled = vector(), vector()
    for envs in (untouched, scribbled):
        envs.reset(seed=0)
    expected = roll(untouched, 10)
    seen = []
    generator = torch.Generator().manual_seed(7)
    for _ in range(10):
        action = torch.randint(4, (4,), generator=generator)
        observation, reward, _, _, info = scribbled.step(action)
        seen.append(torch.cat([reward[:, None], observation], 1))
        for name in ("task", "trial", "score", "incumbent", "fidelity", "legal"):
            info[name].zero_()
            info["final_info"][name].zero_()
        assert not info["final_info"]["legal"].any()
    torch.testing.assert_close(torch.stack(seen), expected, rtol=0, atol=0)


class TestSuitesOfTheCaller:
    """A loaded suite as ``source``."""

    def test_its_protocol_must_be_that_of_the_environment(self) -> None:
        suite = load_suite("bundled", "rpart")
        with pytest.raises(SplitLeakError, match=r"per-space.*load_suite"):
            HPOEnv(source=suite, protocol="per-space")
        HPOEnv(source=load_suite("bundled", "rpart", protocol="per-space"), protocol="per-space")

    @pytest.mark.parametrize(
        "argument", [{"metric": "timetrain"}, {"data_dir": "/nowhere"}, {"source_options": {"restriction": "original"}}]
    )
    def test_arguments_of_loading_come_too_late(self, argument: dict[str, Any]) -> None:
        with pytest.raises(InvalidSettingError, match="load_suite"):
            HPOEnv(source=load_suite("bundled", "rpart"), **argument)

    def test_its_own_metric_may_be_named(self) -> None:
        suite = load_suite("bundled", "rpart", metric="timetrain")
        env = HPOEnv(source=suite, metric="timetrain")
        assert env.suite is suite


@pytest.mark.parametrize("device", ["meta", "cudaa", "mps"])
def test_devices_that_no_environment_runs_on(device: str) -> None:
    with pytest.raises(UnknownNameError, match="cpu"):
        HPOEnv(device=device)


class TestStarts:
    """Configurations to begin from."""

    def test_children_that_a_start_makes_active_keep_their_default(self) -> None:
        start = {"splitrule": "extratrees"}
        arguments: dict[str, Any] = {"space": "ranger", "action": "continuous"}
        fixed: Any = gym.make("HPO-OpenML-v0", start="fixed", start_configuration=start, **arguments).unwrapped
        fixed.reset(seed=0)
        chosen: Any = gym.make("HPO-OpenML-v0", **arguments).unwrapped
        chosen.reset(seed=0, options={"start": start})
        (column,) = [c for c in fixed.suite.space.spec.columns if c.name == "num.random.splits"]
        for env in (fixed, chosen):
            assert env.configuration["splitrule"] == "extratrees"
            assert env.configuration["num.random.splits"] == column.default

    def test_a_forbidden_start_is_refused(self) -> None:
        suite = conditional_suite()
        draws = torch.Generator().manual_seed(0)
        points = torch.rand(500, suite.space.dimension, generator=draws)
        forbidden = points[~suite.space.legal(suite.space.snap(points))][0]
        env = HPOEnv(source=suite, split="all", budget=5)
        with pytest.raises(InvalidSettingError, match="forbidden"):
            env.reset(seed=0, options={"start": forbidden})

    @pytest.mark.parametrize("start", ["x", [0.5], [[0.5, 2.0]], object()])
    def test_what_is_no_start(self, start: Any) -> None:
        with pytest.raises(InvalidSettingError, match=r"options\['start'\]"):
            HPOEnv(source=quadratic_suite(), split="all", budget=5).reset(seed=0, options={"start": start})

    @pytest.mark.parametrize("index", [1.7, True, "a", [[0, 1]], 99, -1, None])
    def test_what_is_no_position_of_a_task(self, index: Any) -> None:
        with pytest.raises(InvalidSettingError, match="task_index"):
            HPOEnv(source=quadratic_suite(), split="all", budget=5).reset(seed=0, options={"task_index": index})

    def test_options_are_a_dictionary(self) -> None:
        with pytest.raises(InvalidSettingError, match="options=5"):
            HPOEnv(source=quadratic_suite(), split="all", budget=5).reset(options=5)  # type: ignore[arg-type]


def test_arguments_of_the_other_kind_of_environment_say_so() -> None:
    with pytest.raises(InvalidSettingError, match="make_vec"):
        gym.make("HPO-OpenML-v0", num_envs=3)
    with pytest.raises(InvalidSettingError, match="budget="):
        gym.make_vec("HPO-OpenML-v0", num_envs=2, max_episode_steps=3)


@pytest.mark.parametrize("source", ["bundled", "synthetic"])
def test_open_ended_metrics_can_be_optimised(source: str) -> None:
    metric, space = {"bundled": ("timetrain", "rpart"), "synthetic": ("value", "bbob-2d")}[source]
    suite = load_suite(source, space, metric=metric)
    assert suite.metric.upper - suite.metric.lower >= 1e4
    values = torch.tensor([suite.metric.lower, 0.5, 30.0, suite.metric.upper], dtype=torch.float64)
    torch.testing.assert_close(suite.to_metric(suite.to_score(values)), values, rtol=1e-6, atol=1e-6)
    envs = HPOVectorEnv(64, source=suite, split="all", budget=20, action="continuous")
    envs.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(19):
        info = envs.step(torch.rand(envs.action_space.shape, generator=generator))[4]  # type: ignore[arg-type]
    assert float((info["episode"]["r"] > 1e-4).double().mean()) > 0.5


def test_scores_stay_inside_their_box_at_the_ends_of_a_range() -> None:
    suite = quadratic_suite()
    span = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    # Whatever rounding makes of the end of the range, an observation is inside its space.
    suite._score_scale = -float(span) / 100.0
    task = torch.arange(suite.num_tasks)
    u = suite.surrogate.centres  # type: ignore[union-attr]
    score = suite.evaluate(task, u, torch.ones_like(u, dtype=torch.bool)).score  # type: ignore[arg-type]
    assert score.tolist() == [1.0] * suite.num_tasks


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_tasks_are_copied_from_what_a_caller_may_use_again(make: Any) -> None:
    envs: Any = gym.make_vec("HPO-OpenML-v0", num_envs=4, space="rpart", split="all")
    features = envs.suite.meta_features
    for first in range(3):
        index = make([first] * 4)
        observation, info = envs.reset(seed=0, options={"task_index": index})
        index[:] = 9
        assert info["task"].tolist() == [first] * 4 == envs.state.task.tolist()
        torch.testing.assert_close(observation[:, : features.shape[1]], features[[first] * 4], rtol=0, atol=0)


def test_one_index_tensor_for_many_resets_shows_the_tasks_of_each() -> None:
    envs: Any = gym.make_vec("HPO-OpenML-v0", num_envs=4, space="rpart", split="all")
    features = envs.suite.meta_features
    index = torch.zeros(4, dtype=torch.int64)
    for task in range(3):
        index.fill_(task)
        observation, _ = envs.reset(seed=0, options={"task_index": index})
        torch.testing.assert_close(observation[:, : features.shape[1]], features[index], rtol=0, atol=0)


@pytest.mark.parametrize("suite", [conditional_suite, quadratic_suite])
def test_a_mask_that_a_caller_wrote_into_is_neither_the_next_one_nor_that_of_others(suite: Any) -> None:
    envs = vector(source=suite(), action="grid_choice", levels=3)
    _, info = envs.reset(seed=0)
    before = info["action_mask"].clone()
    info["action_mask"][0, 0] = not info["action_mask"][0, 0]
    info["action_mask"] &= True
    changed = info["action_mask"] != before
    assert bool(changed[0, 0]) and int(changed.sum()) == 1
    assert torch.equal(envs.reset(seed=0)[1]["action_mask"], before)


@pytest.mark.parametrize("reward", [{"reward": "log_regret"}, {"reward_scale": "range"}])
def test_environments_of_every_reward_can_be_pickled(reward: dict[str, Any]) -> None:
    envs = vector(**reward)
    envs.reset(seed=0)
    copied = pickle.loads(pickle.dumps(envs))
    torch.testing.assert_close(roll(copied, 8), roll(envs, 8), rtol=0, atol=0)


def test_what_is_no_state_is_refused() -> None:
    envs = vector()
    envs.reset(seed=0)
    saved = envs.state_dict()
    del saved["rules"]
    for wrong in (saved, None, {"rules": envs.engine.rules()}):
        with pytest.raises(InvalidSettingError, match=r"no state of an environment .*draws, episodes, rules"):
            envs.load_state_dict(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"seed": 2}, {"instances": 3}])
def test_a_state_of_other_data_under_the_same_name_is_refused(options: dict[str, Any]) -> None:
    def made(**given: Any) -> HPOVectorEnv:
        return vector(source="synthetic", space="mixed-4d", source_options={"seed": 1, "instances": 64} | given)

    envs = made()
    envs.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="other tasks or other data"):
        made(**options).load_state_dict(envs.state_dict())
    again = made()
    again.load_state_dict(envs.state_dict())
    torch.testing.assert_close(roll(again, 5), roll(envs, 5), rtol=0, atol=0)


def test_a_picture_of_restored_episodes_counts_their_trials() -> None:
    envs = vector(render_mode="ansi", budget=10)
    envs.reset(seed=0)
    roll(envs, 5)
    assert "trial 6/10" in envs.render()
    envs.load_state_dict(envs.state_dict())
    assert "trial 6/10" in envs.render()
    roll(envs, 1)
    assert "trial 7/10" in envs.render()


def test_every_row_may_start_from_a_configuration_by_name() -> None:
    envs = vector(num_envs=3, action="continuous")
    starts = [{"momentum": 0.25}, {"momentum": 0.5}, {"momentum": 0.75}]
    envs.reset(seed=0, options={"start": starts})
    default, *_ = envs.suite.space.to_dicts(envs.suite.space.default()[None])
    wanted = envs.suite.space.from_dicts([default | start for start in starts])
    torch.testing.assert_close(envs.state.u, wanted.float())
    with pytest.raises(InvalidSettingError, match="a list of 3 of them"):
        envs.reset(options={"start": starts[:2]})


@pytest.mark.parametrize("space", ["rpart", "lcbench"])
def test_making_an_environment_leaves_the_global_generators_alone(space: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    gym.make("HPO-OpenML-v0", space=space).reset(seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
