"""Environments whose evaluations are trainings: conformance, the source, agents, and rows at their own pace."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import live_objectives as objectives
import pytest
import torch
from live_suites import EXECUTOR, METRICS, one_column, shared_tiny_suite, tiny_suite
from quick_settings import CHEAP
from spg_suites import trained_suite

import hpo_gym
from agents.base import Interface
from agents.comparison import ComparisonConfig, compare, prepare
from agents.configuration import ExperimentConfig
from agents.contenders import as_contender
from agents.dqn import DQNConfig
from agents.environments import ENVIRONMENTS, EnvironmentConfig, make_environment, preset
from agents.experiment import load_trained, run_training
from agents.grpo_config import GRPOConfig
from agents.portfolio import Portfolio
from agents.problem import Problem, TrainingTasks
from agents.registry import AGENTS, find_agent
from agents.successive_halving import MultiFidelityAgent
from hpo_gym.envs import AsynchronousEnv, HPOEnv, HPOVectorEnv
from hpo_gym.errors import InvalidActionError, InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import RecordTable, comparison_markdown, evaluate, regret_curves, summarise
from hpo_gym.live import STATUSES
from hpo_gym.live.datasets import data_source
from hpo_gym.live.executors import ExecutorSettings, close_executors
from hpo_gym.live.limits import Limits
from hpo_gym.live.suite import live_suite
from hpo_gym.mdp import EpisodeSettings
from hpo_gym.sources.live import DEFAULT_DATASETS
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import side_of
from hpo_gym.testing import EnvCase, SurrogateCase, VectorEnvCase
from hpo_gym.testing.tiny import quadratic_suite

IDS = [name for name in hpo_gym.registered_ids() if "Live" in name]


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    close_executors()


class TestRegistered(EnvCase):
    """Every id, on a suite that trains in half a millisecond and has 72 configurations per task."""

    @pytest.fixture(params=IDS)
    def make_env(self, request: pytest.FixtureRequest) -> Callable[..., gym.Env[Any, Any]]:
        given = {"budget": 6, "source": shared_tiny_suite(), "split": "all"}
        return lambda **overrides: gym.make(request.param, **(given | overrides))


class TestVector(VectorEnvCase):
    @pytest.fixture(params=["grid_step-flat", "continuous-history"])
    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        action, observation = request.param.split("-")
        fixed = {"source": shared_tiny_suite(), "split": "all", "budget": 5}
        return fixed | {"action": action, "observation": observation}

    @pytest.fixture
    def make_env(self, settings: dict[str, Any]) -> Callable[..., gym.Env[Any, Any]]:
        return lambda **overrides: HPOEnv(**(settings | overrides))

    @pytest.fixture
    def make_vector_env(self, settings: dict[str, Any]) -> Callable[..., HPOVectorEnv]:
        return lambda num_envs, **overrides: HPOVectorEnv(num_envs, **(settings | overrides))


class TestSurrogate(SurrogateCase):
    @pytest.fixture
    def surrogate(self) -> Any:
        self.space = shared_tiny_suite().space
        return shared_tiny_suite().surrogate

    def snap(self, u: torch.Tensor) -> torch.Tensor:
        return self.space.snap(u)


def test_the_promised_ids_and_names_are_there() -> None:
    assert IDS == ["HPO-Live-v0", "HPO-LiveContinuous-v0", "HPO-LiveMultiFidelity-v0"]
    assert [ENVIRONMENTS[f"live{end}"] for end in ("", "_continuous", "_multi_fidelity")] == IDS
    assert preset("live").reward_scale == "none" and preset("openml").reward_scale == "range"


@functools.lru_cache
def flowers() -> Any:
    """Return a model family on two real datasets."""
    return hpo_gym.load_suite("live", "knn", datasets=["sklearn:iris", "sklearn:wine"], workers=1)


def test_real_models_on_real_data() -> None:
    env = gym.make("HPO-Live-v0", source=flowers(), split="all", budget=3)
    _, info = env.reset(seed=0, options={"task": "custom:sklearn:iris"})
    assert STATUSES[info["status"]] == "ok" and 0.9 < info["score"] <= 1.0 and info["seconds"] > 0.0
    _, _, _, _, info = env.step(1)
    assert info["status"] == 0 and info["metrics"].shape == (len(flowers().surrogate.metrics),)
    names = [metric.name for metric in flowers().surrogate.metrics]
    assert names[:3] == ["accuracy", "balanced_accuracy", "f1_macro"] and "test_accuracy" in names
    # Meta-features of both, from their data; no OpenML id is needed for that.
    assert flowers().meta_features.shape == (2, 21) and bool((flowers().meta_features[:, -1] == 0).all())


def test_settings_reach_what_is_trained() -> None:
    given = {"metric": "balanced_accuracy", "seed": 3, "seconds": 7.0, "memory": 999, "fidelity": "subsample"}
    suite = hpo_gym.load_suite("live", "knn", datasets=["sklearn:iris"], validation={"test_share": 0.0}, **given)
    assert suite.metric.name == suite.surrogate.metrics[0].name == "balanced_accuracy"
    assert not any(metric.name.startswith("test_") for metric in suite.surrogate.metrics)
    assert suite.surrogate.executor.limits == Limits(7.0, 999) and suite.most_seconds == 7.0
    assert suite.spec.provenance["seed"] == 3 and suite.spec.provenance["datasets"] == ["sklearn:iris"]
    again = hpo_gym.load_suite("live", "knn", datasets=["sklearn:iris"], validation={"test_share": 0.0}, **given)
    assert torch.equal(suite.surrogate.identity, again.surrogate.identity)
    other = hpo_gym.load_suite("live", "knn", datasets=["sklearn:iris"], **given)
    assert not torch.equal(suite.surrogate.identity, other.surrogate.identity)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"space": "knnn"}, UnknownNameError, "Did you mean 'knn'"),
        ({"metric": "acuracy"}, UnknownNameError, "Did you mean 'accuracy'"),
        ({"metric": "test_accuracy"}, InvalidSettingError, "never optimised"),
        ({"datasets": "sklearn:iris"}, InvalidSettingError, "must be a list"),
        ({"datasets": []}, InvalidSettingError, "must be a list"),
        ({"datasets": ["sklearn:irises"]}, UnknownNameError, "iris"),
        ({"datasets": ["sklearn:iris", "sklearn:iris"]}, InvalidSettingError, "Two objectives are on"),
        ({"datasets": ["sklearn:iris", "sklearn:diabetes"]}, InvalidSettingError, "another"),
        ({"validation": {"fold": 1, "shares": 0.5}}, UnknownNameError, "Did you mean 'share'"),
        ({"data_dir": "/data"}, InvalidSettingError, "datasets"),
        ({"executor": "dusk"}, UnknownNameError, "Did you mean 'dask'"),
        ({"seconds": -1.0}, InvalidSettingError, r"seconds=-1\.0"),
        ({"folds": 3}, UnknownNameError, "option of source 'live'"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        hpo_gym.load_suite("live", **({"space": "knn"} | given))


def test_the_cost_aware_reward_subtracts_what_a_training_took() -> None:
    env = HPOEnv(source=tiny_suite(), split="all", action="continuous", budget=4, reward="cost_aware", cost_weight=50.0)
    _, info = env.reset(seed=0)
    assert info["cost"] == pytest.approx(info["seconds"] / EXECUTOR.limits.seconds) and 0.0 < info["cost"] <= 1.0
    for action in ([0.9, 0.1], [0.5, 0.9], [0.9, 0.1]):
        before = info["incumbent"]
        _, reward, _, _, info = env.step(action)
        assert reward == pytest.approx(info["incumbent"] - before - 50.0 * info["cost"], abs=1e-5)
        assert info["cost"] > 0.0


def test_surrogates_that_know_seconds_have_a_cost_too() -> None:
    env = gym.make("HPO-OpenML-v0", reward="cost_aware", budget=3)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    assert 0.0 < info["cost"] <= 1.0 and info["seconds"] > 0.0 and "status" not in info
    assert reward >= -0.1
    assert "cost" not in gym.make("HPO-OpenML-v0", budget=3).reset(seed=0)[1]
    with pytest.raises(InvalidSettingError, match="has no cost"):
        gym.make("HPO-Synthetic-v0", space="bbob-2d", reward="cost_aware")
    for wrong in ({"cost_weight": 0.1}, {"reward": "cost_aware", "cost_weight": -1.0}):
        with pytest.raises(InvalidSettingError, match="cost_weight"):
            EpisodeSettings(**wrong)


def slow_suite(seconds: float, executor: ExecutorSettings = EXECUTOR) -> Any:
    tasks = {TaskRef("custom", name): objectives.sleeps(seconds) for name in ("a", "b")}
    return live_suite("slow", one_column(), tasks, METRICS, executor=executor)


def test_a_straggler_blocks_nobody() -> None:
    template = HPOVectorEnv(4, source=slow_suite(20.0), split="all", action="continuous", budget=50)
    with AsynchronousEnv(template) as env:
        env.reset(seed=0)
        action = torch.full((4, 1), 0.1)
        action[2] = 0.9
        env.send(action)
        seen: list[int] = []
        # The others take many steps while row 2 waits; each is sent on as soon as it is back.
        for step in range(30):
            arrived = env.recv(least=1)
            assert 2 not in arrived.rows.tolist()
            assert arrived.reward.shape == arrived.rows.shape and arrived.observation.shape[0] == len(arrived.rows)
            seen.extend(arrived.rows.tolist())
            env.send(torch.full((len(arrived.rows), 1), 0.2 + 0.005 * step), arrived.rows)
        assert set(seen) == {0, 1, 3}
        with pytest.raises(InvalidActionError, match="under way"):
            env.send(torch.zeros(1, 1), [2])
        # Nobody waits for it at the end, either.
        close_executors()


def test_rows_at_their_own_pace_play_the_same_episodes() -> None:
    """Whatever the order of arrival: the same as with a common step, and final observations at every end."""

    def play(least: int) -> dict[int, list[tuple[Any, ...]]]:
        template = HPOVectorEnv(3, source=shared_tiny_suite(), split="all", budget=4, terminate_on_repeat=True)
        told: dict[int, list[tuple[Any, ...]]] = {row: [] for row in range(3)}
        with AsynchronousEnv(template) as env:
            observation, info = env.reset(seed=5)
            for row in range(3):
                told[row].append((observation[row].tolist(), int(info["task"][row])))
            env.send(torch.tensor([0, 2, 1]))
            while min(map(len, told.values())) < 12:
                arrived = env.recv(min(least, 3))
                for place, row in enumerate(arrived.rows.tolist()):
                    end = arrived.info["final_obs"][place].tolist()
                    parts = (arrived.observation[place], arrived.reward[place], arrived.terminated[place])
                    told[row].append((*(part.tolist() for part in parts), end))
                    if arrived.terminated[place]:
                        assert arrived.info["_episode"][place]
                        assert arrived.info["episode"]["l"][place] == arrived.info["final_info"]["trial"][place] - 1
                    env.send(torch.tensor([len(told[row]) % 4]), [row])
        return {row: steps[:12] for row, steps in told.items()}

    assert play(least=1) == play(least=3)


def test_rows_at_their_own_pace_lose_nothing_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    env = AsynchronousEnv(HPOVectorEnv(4, source=quadratic_suite(), split="all", action="continuous", budget=6))
    env.reset(seed=0)

    def fail(action: torch.Tensor) -> None:
        while any(int(row.state.trial) < 2 for row in env._rows[:3]):
            time.sleep(0.01)
        # The others have arrived, and recv has taken them.
        time.sleep(0.2)
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(env._rows[3], "step", fail)
        env.send(torch.rand(4, 2))
        with pytest.raises(RuntimeError, match="the disk is full"):
            env.recv(least=4)
    arrived = env.recv(least=3)
    assert arrived.rows.tolist() == [0, 1, 2] and arrived.info["trial"].tolist() == [2, 2, 2]
    env.send(torch.rand(1, 2), [3])
    assert env.recv().rows.tolist() == [3]
    env.close()


def test_rows_at_their_own_pace_begin_where_the_environment_does() -> None:
    start = MappingProxyType({"momentum": 0.5})
    rules = {"split": "all", "action": "continuous", "start": "fixed", "start_configuration": start}
    with AsynchronousEnv(HPOVectorEnv(2, source=quadratic_suite(), **rules)) as env:
        env.reset(seed=0)
        assert [each.engine.settings.start_configuration for each in env._rows] == [start, start]


def test_rows_at_their_own_pace_refuse_what_cannot_be() -> None:
    env = AsynchronousEnv(HPOVectorEnv(2, source=shared_tiny_suite(), split="all", budget=4))
    with pytest.raises(gym.error.ResetNeeded):
        env.send(torch.zeros(2, dtype=torch.int64))
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="under way"):
        env.recv()
    for actions, rows in (([0, 0], [0, 0]), ([0], [2]), ([99], [0]), ([0.5], [0]), ([0], ["a"]), ([0], 1)):
        with pytest.raises(InvalidActionError):
            env.send(torch.tensor(actions), rows)
    env.send(torch.tensor([0]), [1])
    assert env.recv().rows.tolist() == [1]
    env.close()
    for call in (env.reset, lambda: env.send(torch.tensor([0, 0]))):
        with pytest.raises(gym.error.ClosedEnvironmentError, match="closed"):
            call()
    with pytest.raises(InvalidSettingError, match="HPOVectorEnv"):
        AsynchronousEnv(gym.make("HPO-Synthetic-v0"))


PLAIN = sorted(name for name, entry in AGENTS.items() if not entry.agent.learns)


@pytest.mark.parametrize("name", PLAIN)
def test_every_method_plays_live_tasks_unchanged(name: str) -> None:
    entry = find_agent(name)
    cheap = issubclass(entry.agent, MultiFidelityAgent)
    rules: dict[str, Any] = {"multi_fidelity": True} if cheap else {}
    kinds = {"action": entry.agent.action_kinds[0], "observation": entry.agent.observation_kinds[0]}
    suite = trained_suite() if entry.agent.required_hyperparameters else shared_tiny_suite()
    env = HPOVectorEnv(1, source=suite, split="all", budget=13, **kinds, **rules)
    agent = entry.agent(entry.config(**CHEAP.get(name, {})), Interface.of(env), 0)
    training = None
    if entry.agent.uses_training_tasks:
        training = TrainingTasks(env.suite, torch.tensor(env.suite.split("dataset-disjoint", "train")))
    agent.prepare(Problem.of(env, training))
    if training is not None:
        assert training.evaluations > 0 and bool((training.span > 0.0).all())
    settings = {"multi_fidelity": True} if cheap else {}
    split = "all" if entry.agent.required_hyperparameters else "test"
    records = evaluate(as_contender(agent), env.suite, split=split, seeds=1, budget=13, settings=settings)
    assert (records.frame.groupby(["task", "seed"], observed=True)["spent"].max() > 12.0).all()
    assert records.frame["score"].gt(0.5).any() and records.frame["seconds"].gt(0.0).all()


def test_dqn_trains_on_live_tasks(tmp_path: Path) -> None:
    agent = DQNConfig(total_steps=400, hidden=(16,), learning_starts=100, batch_size=32, transitions_per_update=16)
    # What env=live means, with a suite in place of the card's that trains faster.
    env = replace(preset("live"), id="HPO-TinyLive-v0", num_envs=4)
    gym.register(env.id, vector_entry_point="test_live_environments:TinyLive", kwargs={"budget": 8})
    try:
        folder = run_training(ExperimentConfig(agent=agent, env=env, runs=str(tmp_path), tensorboard=False))
    finally:
        del gym.registry[env.id]
    assert folder.finished and folder.has_policy


def test_grpo_trains_on_live_tasks_with_a_reward_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hpo_gym.sources._LOADERS, "live", lambda space, **_: shared_tiny_suite())
    # On surfaces it learns with a reward that needs the best score of a task.
    agent = GRPOConfig(total_steps=64, group_size=4, width=16, layers=1, heads=2, bins=4)
    env = replace(preset("live_continuous"), budget=5)
    folder = run_training(ExperimentConfig(agent=agent, env=env, runs=str(tmp_path), tensorboard=False))
    trained = load_trained(folder.path)
    assert trained.config.env.reward is None and trained.agent.learner.updates == 2 * agent.epochs * agent.minibatches
    config = ComparisonConfig(runs=(str(folder.path),), env=trained.config.env, protocol="live", seeds=2, budget=5)
    records = prepare(config).run().require_complete().records
    assert records.agents == ("grpo", "random") and records.frame["score"].gt(0.5).any()


class TinyLive(HPOVectorEnv):
    """The environment of a card, on the tiny suite."""

    def __init__(self, num_envs: int, device: str = "cpu", **settings: Any) -> None:
        super().__init__(num_envs, source=shared_tiny_suite(), device=device, **settings)


def test_a_comparison_of_methods_needs_no_known_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hpo_gym.sources._LOADERS, "live", lambda space, **_: tiny_suite())
    config = ComparisonConfig(
        agents=("random", "tpe"), env=EnvironmentConfig("HPO-Live-v0"), protocol="live", seeds=2, budget=6
    )
    comparison = prepare(config)
    result = comparison.run().require_complete()
    curves = regret_curves(result.records)
    assert curves.relative and result.records.frame["regret"].isna().all()
    for task in range(len(curves.tasks)):
        episodes = [runs[task] for runs in curves.episodes.values()]
        assert min(float(run.min()) for run in episodes) == 0.0  # somebody found the best
        assert max(float(run.max()) for run in episodes) <= 1.0
    summary = summarise(result.records, "random")
    assert summary["relative"] and set(summary["agents"]) == {"random", "tpe"}
    assert all(one["failures"] == {} and one["evaluations"] > 0 for one in summary["agents"].values())
    # What a portfolio is chosen by is the range of what it tried on the training tasks.
    given = {"agents": (Portfolio.name,), "settings": {Portfolio.name: {"candidates": 16}}}
    learned = prepare(ComparisonConfig(env=config.env, protocol="live", **given))
    assert learned.training_evaluations[Portfolio.name] > 16


def test_failed_trainings_are_told_and_no_result_where_all_of_a_task_failed() -> None:
    frame = compare(
        ComparisonConfig(agents=("random", "grid"), env=EnvironmentConfig(space="rpart"), seeds=1, budget=4)
    )
    told = frame.frame.assign(status=0.0)
    told.loc[(told["agent"] == "grid") & (told["trial"] == 2), "status"] = float(STATUSES.index("timeout"))
    told.loc[(told["agent"] == "grid") & (told["trial"] == 3), "status"] = float(STATUSES.index("forbidden"))
    summary = summarise(RecordTable(told), "random")
    count = len(told[(told["agent"] == "grid") & (told["trial"] == 2)])
    assert summary["agents"]["grid"]["failures"] == {"timeout": count} and summary["agents"]["random"]["failures"] == {}
    assert f"grid {count} of {4 * count} ({count} timeout)" in comparison_markdown(summary)
    assert "failed" not in comparison_markdown(summarise(frame, "random"))
    task = told["task"].iloc[0]
    told.loc[told["task"] == task, "status"] = float(STATUSES.index("error"))
    with pytest.raises(InvalidSettingError, match=f"Every training on bundled:rpart {task} failed .8 error."):
        summarise(RecordTable(told), "random")


def test_a_policy_is_not_tested_on_data_that_it_has_seen_under_another_name() -> None:
    tasks = [data_source(name).task_ref for name in DEFAULT_DATASETS]
    assert [dataset_key(task) for task in tasks] == ["dataset:28", "dataset:187", "dataset:61", "dataset:1510"]
    for position, (task, side) in enumerate(zip(tasks, ("train", "test", "train", "val"), strict=True)):
        assert side_of("svm", "dataset-disjoint", task, position) == side
        published = side_of("svm", "dataset-disjoint", TaskRef("openml-dataset", dataset_key(task)[8:]), 0)
        # The embedded surfaces know two of the four, on the same side.
        assert published == side or task.id in ("sklearn:iris", "sklearn:wine")


def test_a_training_reward_that_needs_a_range_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="regret is undefined"):
        HPOVectorEnv(2, source=shared_tiny_suite(), split="all", reward_scale="range")
    with pytest.raises(InvalidSettingError, match="regret is undefined"):
        make_environment(EnvironmentConfig("HPO-Live-v0", 2, reward="log_regret", reward_scale="none", space="knn"))


def test_a_state_of_another_validation_is_refused() -> None:
    pytest.importorskip("sklearn")

    def made(**given: Any) -> HPOVectorEnv:
        options = {"datasets": ["sklearn:iris"], "workers": 1} | given
        return HPOVectorEnv(1, "live", "knn", split="all", budget=3, source_options=options)

    env = made()
    env.reset(seed=0)
    made().load_state_dict(env.state_dict())
    for other in ({"validation": {"share": 0.5}}, {"subsample": 0.5}, {"seed": 1}):
        with pytest.raises(InvalidSettingError, match="other tasks or other data"):
            made(**other).load_state_dict(env.state_dict())
