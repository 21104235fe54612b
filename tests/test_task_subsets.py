"""Training on some tasks of a split: which ones, what refuses, and what evaluation makes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import gymnasium as gym
import pytest
import torch

from agents.comparison import ComparisonConfig, env_of_runs, prepare
from agents.configuration import ExperimentConfig, build
from agents.environments import EnvironmentConfig, make_environment, resolved
from agents.experiment import load_trained, resume_training, run_training
from agents.random_search import RandomSearchConfig
from hpo_gym import load_suite, register_card
from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.registration import EnvironmentCard
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import split_tasks
from hpo_gym.tasks.subsets import subset_of
from hpo_gym.testing.tiny import quadratic_suite

TINY = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=8, budget=5)


def chosen(max_tasks: int | None, tasks_seed: int = 0, **arguments: Any) -> list[int]:
    settings = {"source": quadratic_suite(12), "split": "all", "budget": 5} | arguments
    return HPOVectorEnv(4, max_tasks=max_tasks, tasks_seed=tasks_seed, **settings).engine.tasks.tolist()


def test_fewer_tasks_are_part_of_more_and_all_of_them_are_the_split() -> None:
    for seed in range(5):
        nested = [set(chosen(count, seed)) for count in range(1, 13)]
        assert [len(tasks) for tasks in nested] == list(range(1, 13))
        assert all(few < more for few, more in pairwise(nested))
        assert chosen(12, seed) == chosen(None) == list(range(12))


def test_a_seed_decides_which_and_seeds_differ() -> None:
    assert chosen(4, 3) == chosen(4, 3)
    assert len({tuple(chosen(4, seed)) for seed in range(20)}) > 10
    # Nothing but the seed decides, on every machine.
    assert chosen(4, 0) == [1, 9, 10, 11] and chosen(4, 1) == [3, 6, 8, 9]


def test_the_order_in_which_a_source_lists_its_tasks_plays_no_part() -> None:
    tasks = [TaskRef("custom", name) for name in "fbdaec"]
    other = [TaskRef("custom", name) for name in "abcdef"]
    for seed in range(10):
        first = {tasks[index].id for index in subset_of(range(6), tasks, 3, seed, "all")}
        assert first == {other[index].id for index in subset_of(range(6), other, 3, seed, "all")}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_subset_is_of_its_split(split: str) -> None:
    suite = load_suite("bundled", "rpart")
    whole = split_tasks("rpart", "dataset-disjoint", split, suite.tasks)
    assert set(chosen(5, 2, source=suite, split=split)) < set(whole)


@pytest.mark.parametrize("count", [1, 3])
def test_episodes_are_of_chosen_tasks_only(count: int) -> None:
    envs = HPOVectorEnv(64, quadratic_suite(12), split="all", budget=2, max_tasks=count, tasks_seed=1)
    _, info = envs.reset(seed=0)
    seen = set(info["task"].tolist())
    for _ in range(5):
        info = envs.step(torch.zeros(64, dtype=torch.int64))[4]
        seen |= set(info["task"].tolist())
    assert seen == set(envs.engine.tasks.tolist()) and len(seen) == count
    single = HPOEnv(quadratic_suite(12), split="all", max_tasks=count, tasks_seed=1)
    assert single.engine.tasks.tolist() == envs.engine.tasks.tolist()
    assert {int(single.reset(seed=seed)[1]["task"]) for seed in range(30)} == seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tasks": 0}, r"max_tasks=0 must be an integer >= 1.*leave it out"),
        ({"max_tasks": -2}, "max_tasks=-2"),
        ({"max_tasks": True}, "max_tasks=True"),
        ({"max_tasks": 2.0}, r"max_tasks=2\.0"),
        ({"max_tasks": 7}, r"max_tasks=7, but split 'all' holds 6 tasks.*at most"),
        ({"max_tasks": 2, "tasks_seed": -1}, "tasks_seed=-1"),
        ({"tasks_seed": 3}, r"tasks_seed=3 has no effect without max_tasks.*max_tasks=<number>"),
    ],
)
@pytest.mark.parametrize("make", [HPOEnv, HPOVectorEnv])
def test_impossible_values_are_refused(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        make(source=quadratic_suite(), split="all", **arguments)


@pytest.mark.parametrize(
    ("mine", "theirs", "named"),
    [
        ({"max_tasks": 4}, {}, "max_tasks=4, this one has max_tasks=None"),
        ({}, {"max_tasks": 4}, "max_tasks=None, this one has max_tasks=4"),
        ({"max_tasks": 4}, {"max_tasks": 3}, "max_tasks=4, this one has max_tasks=3"),
        ({"max_tasks": 4}, {"max_tasks": 4, "tasks_seed": 1}, "tasks_seed=0, this one has tasks_seed=1"),
    ],
)
def test_a_state_of_other_tasks_is_refused(mine: dict[str, Any], theirs: dict[str, Any], named: str) -> None:
    envs, other = (HPOVectorEnv(4, quadratic_suite(), split="all", budget=5, **tasks) for tasks in (mine, theirs))
    envs.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=named):
        other.load_state_dict(envs.state_dict())
    envs.load_state_dict(envs.state_dict())


def test_a_card_may_say_so_and_an_argument_overrides_it() -> None:
    card = {"id": "Few-HPO-v0", "description": "Three tasks.", "source": "synthetic", "space": "bbob-2d"}
    register_card({**card, "max_tasks": 3, "tasks_seed": 2})
    try:
        envs: Any = gym.make_vec("Few-HPO-v0", num_envs=2)
        assert len(envs.engine.tasks) == 3 and envs.engine.tasks_seed == 2
        assert len(gym.make_vec("Few-HPO-v0", num_envs=2, max_tasks=4).engine.tasks) == 4  # type: ignore[attr-defined]
        single: Any = gym.make("Few-HPO-v0")
        assert single.unwrapped.engine.tasks.tolist() == envs.engine.tasks.tolist()
    finally:
        gym.registry.pop("Few-HPO-v0")
    for wrong in ({"max_tasks": 0}, {"max_tasks": "3"}, {"tasks_seed": 1}):
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            EnvironmentCard.from_mapping({**card, **wrong})
    with pytest.raises(UnknownNameError, match="max_tasks"):
        EnvironmentCard.from_mapping({**card, "max_task": 3})


def test_a_configuration_passes_them_on() -> None:
    config = build(EnvironmentConfig, {"id": TINY.id, "space": "bbob-2d", "max_tasks": 2, "tasks_seed": 3}, "setting")
    engine = make_environment(config).engine
    assert (len(engine.tasks), engine.max_tasks, engine.tasks_seed) == (2, 2, 3)
    assert resolved(config)["max_tasks"] == 2 and resolved(TINY)["max_tasks"] is None


def test_a_run_knows_its_tasks_and_is_compared_on_all_that_are_held_out(tmp_path: Any) -> None:
    config = ExperimentConfig(
        agent=RandomSearchConfig(total_steps=64),
        env=replace(TINY, max_tasks=2, tasks_seed=1),
        name="few",
        runs=str(tmp_path),
        tensorboard=False,
    )
    folder = run_training(config, stop_after=8)
    # The rest is trained on the same two tasks.
    assert resume_training(folder.path).finished
    run = load_trained(tmp_path / "few")
    env = make_environment(config.env)
    assert len(env.engine.tasks) == 2
    assert run.training_datasets == tuple(sorted(dataset_key(env.suite.tasks[i]) for i in env.engine.tasks.tolist()))
    inherited = env_of_runs(config.env, [run], ())
    assert inherited.max_tasks == 2
    records = prepare(ComparisonConfig(runs=(str(tmp_path / "few"),), env=inherited, seeds=1)).run().records
    held_out = make_environment(replace(TINY, split="test"))
    assert records.frame["task"].nunique() == len(held_out.engine.tasks) > 2
