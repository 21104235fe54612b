"""The evaluation loop: exact charges, shared starts, one seed tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import HPOGymError, InvalidActionError, InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import Contender, RecordTable, evaluate, loop
from hpo_gym.sources import load_suite
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.surrogates.table import TableSurrogate
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import split_tasks
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import TINY_SUITES, conditional_suite, fidelity_suite, quadratic_suite


class CountingSurrogate(Surrogate):
    """Another surrogate, and how many rows it was asked for."""

    def __init__(self, inner: Surrogate) -> None:
        super().__init__()
        self.metrics, self.fidelity = inner.metrics, inner.fidelity
        self.num_tasks, self.num_hyperparameters = inner.num_tasks, inner.num_hyperparameters
        self.inner = inner
        self.rows = 0

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        self.rows += len(task)
        return self.inner.predict(task, u, active, fidelity)


def counted(suite: TaskSuite) -> tuple[TaskSuite, CountingSurrogate]:
    counter = CountingSurrogate(suite.surrogate)
    suite.surrogate = counter
    return suite, counter


def _rows(observation: Tensor | dict[str, Tensor]) -> int:
    return len(observation["mask"] if isinstance(observation, dict) else observation)


def uniform(width: int, name: str = "uniform", observation: str = "flat") -> Contender:
    def act(seen: Tensor | dict[str, Tensor], mask: Tensor | None, draws: torch.Generator) -> Tensor:
        return torch.rand((_rows(seen), width), generator=draws)

    return Contender(name, "", "continuous", observation, act)


def constant(width: int, value: float) -> Contender:
    return Contender(
        f"at {value}", "", "continuous", "flat", lambda seen, mask, draws: torch.full((_rows(seen), width), value)
    )


def walk(action: str = "grid_step") -> Contender:
    def act(seen: Tensor | dict[str, Tensor], mask: Tensor | None, draws: torch.Generator) -> Tensor:
        assert mask is not None
        return torch.multinomial(mask.float(), 1, generator=draws).squeeze(1)

    return Contender("walk", "", action, "flat", act)


def first_trials(records: RecordTable) -> np.ndarray:
    frame = records.frame
    return frame.loc[frame["trial"] == 1, "score"].to_numpy()


@pytest.mark.parametrize("name", TINY_SUITES)
@pytest.mark.parametrize("start", ["default", "random", "none"])
def test_every_evaluation_is_charged_and_no_other_is_made(name: str, start: str) -> None:
    suite, counter = counted(TINY_SUITES[name]())
    contender = uniform(suite.space.dimension)
    records = evaluate(contender, suite, split="all", seeds=3, budget=7, settings={"start": start})
    episodes = 3 * suite.num_tasks
    assert counter.rows == len(records) == 7 * episodes
    frame = records.frame
    for _, episode in frame.groupby(["task", "seed"], observed=True):
        assert episode["trial"].tolist() == list(range(1, 8))
    assert (frame["spent"] == frame["trial"]).all()


def test_grid_steps_and_grid_choices_are_charged_alike() -> None:
    for action in ("grid_step", "grid_choice"):
        suite, counter = counted(conditional_suite())
        records = evaluate(walk(action), suite, split="all", seeds=2, budget=5)
        assert counter.rows == len(records) == 2 * 4 * 5


def test_multi_fidelity_episodes_end_when_the_budget_is_spent_and_are_not_begun_again() -> None:
    suite, counter = counted(fidelity_suite())
    records = evaluate(uniform(3), suite, split="all", seeds=4, budget=4, settings={"multi_fidelity": True})
    assert counter.rows == len(records)
    episodes = records.frame.groupby(["task", "seed"], observed=True)
    assert len(episodes) == 16
    assert episodes["trial"].max().nunique() > 1  # they do end at different trials
    assert (episodes["trial"].count() == episodes["trial"].max()).all()
    assert (episodes["spent"].max() <= 4.0 + 1e-3).all()
    assert (episodes["spent"].max() > 4.0 - 0.1 - 1e-3).all()  # less than the cheapest evaluation is left
    shares = episodes["spent"].diff().dropna()
    assert (shares > 0.0).all()
    # Seconds are epochs here, rounded: what was charged is what was trained.
    assert np.allclose(records.frame["seconds"], np.maximum(1, (records.frame["fidelity"] * 27).round()), atol=1.0)
    assert np.allclose(records.frame["fidelity"][shares.index], shares, atol=1e-6)


def test_batches_of_any_size_hold_every_episode_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(constant(2, 0.3), quadratic_suite(), split="all", seeds=3, budget=4).frame
    monkeypatch.setattr(loop, "LARGEST_BATCH", 5)
    suite, counter = counted(quadratic_suite())
    shares: list[float] = []
    split = evaluate(constant(2, 0.3), suite, split="all", seeds=3, budget=4, progress=shares.append).frame
    assert counter.rows == 3 * 6 * 4
    measured = "agent_seconds"
    assert split.drop(columns=measured).equals(whole.drop(columns=measured))
    assert shares == sorted(shares) and shares[0] > 0.0 and shares[-1] == 1.0


def test_scores_and_incumbents_are_those_of_the_vector_environment() -> None:
    suite, space = quadratic_suite(), quadratic_suite().space
    start = torch.tensor([[0.0, 1.0 / 3.0]])
    configuration = space.to_dicts(start)[0]
    settings = {"start": "fixed", "start_configuration": configuration}
    frame = evaluate(constant(2, 0.25), suite, split="all", seeds=1, budget=3, settings=settings).frame
    env = HPOVectorEnv(6, quadratic_suite(), split="all", action="continuous", budget=3, **settings)
    _, info = env.reset(seed=0, options={"task_index": torch.arange(6)})
    for trial in (1, 2, 3):
        rows = frame[frame["trial"] == trial]
        for name in ("score", "incumbent", "regret"):
            assert np.allclose(rows[name], info[name], atol=1e-6), (trial, name)
        if trial > 1:
            assert np.allclose(rows["metric"], info["metrics"][:, 0], atol=1e-4)
            assert np.allclose(rows["seconds"], info["seconds"])
        info = env.step(torch.full((6, 2), 0.25))[4]["final_info"]


def test_every_contender_starts_a_task_and_seed_from_the_same_configuration() -> None:
    for start in ("random", "default"):
        contenders = [uniform(5), uniform(5, "other"), uniform(5, "third", "history"), walk(), walk("grid_choice")]
        starts = [
            first_trials(evaluate(c, conditional_suite(), split="all", seeds=6, budget=2, settings={"start": start}))
            for c in contenders
        ]
        for other in starts[1:]:
            assert (other == starts[0]).all()
        assert len(set(starts[0])) > (4 if start == "random" else 1)


def test_a_random_start_depends_on_neither_the_split_nor_the_number_of_seeds() -> None:
    few = evaluate(uniform(2), quadratic_suite(), seeds=2, budget=2, settings={"start": "random"}).frame
    many = evaluate(uniform(2), quadratic_suite(), split="all", seeds=5, budget=2, settings={"start": "random"}).frame
    keys = ["task", "seed", "score"]
    joined = few[few["trial"] == 1][keys].merge(many[many["trial"] == 1][keys], on=["task", "seed"])
    assert len(joined) == 2 * few["task"].nunique()
    assert (joined["score_x"] == joined["score_y"]).all()


@pytest.mark.parametrize("seed", [0, 7])
def test_equal_seeds_give_equal_records(seed: int) -> None:
    torch.manual_seed(1)
    first = evaluate(uniform(2), quadratic_suite(), seed=seed, settings={"start": "random"})
    torch.manual_seed(2)
    second = evaluate(uniform(2), quadratic_suite(), seed=seed, settings={"start": "random"})
    other = evaluate(uniform(2), quadratic_suite(), seed=seed + 1, settings={"start": "random"})
    assert first.reproducible.equals(second.reproducible)
    assert (first.frame["score"] != other.frame["score"]).mean() > 0.9


def test_repetitions_draw_from_different_streams_and_names_from_the_same() -> None:
    contender = uniform(2)
    renamed = Contender("another", "second run", "continuous", "flat", contender.act)
    tables = [evaluate(each, quadratic_suite(), seeds=2, budget=4).frame for each in (contender, renamed)]
    later = [table[table["trial"] > 1]["score"].to_numpy() for table in tables]
    assert (later[0] == later[1]).all()
    assert len(np.unique(later[0])) == len(later[0])


def test_the_incumbent_never_falls_and_regret_follows_it() -> None:
    suite = conditional_suite()
    frame = evaluate(uniform(5), suite, split="all", seeds=3, budget=20).frame
    for _, episode in frame.groupby(["task", "seed"], observed=True):
        incumbent = episode["incumbent"].to_numpy()
        assert np.allclose(incumbent, np.maximum.accumulate(episode["score"]), atol=1e-5)
        assert (np.diff(incumbent) >= 0.0).all() and (np.diff(episode["regret"]) <= 0.0).all()


def test_the_records_name_where_they_come_from() -> None:
    suite = quadratic_suite()
    contender = Contender("uniform", "run-1", "continuous", "flat", uniform(2).act)
    frame = evaluate(contender, suite, split="test", seeds=2, budget=3).frame
    expected = [str(suite.tasks[index]) for index in split_tasks(suite.name, "dataset-disjoint", "test", suite.tasks)]
    assert sorted(frame["task"].unique()) == sorted(expected)
    assert set(frame["agent"]) == {"uniform"} and set(frame["run"]) == {"run-1"}
    assert set(frame["source"]) == {"tiny"} and set(frame["space"]) == {"tiny-quadratic"}
    assert set(frame["seed"]) == {0, 1}
    assert np.allclose(frame["metric"], 100.0 * (1.0 - frame["score"]), atol=1e-6)
    assert not frame["seconds"].isna().any(), "the suite knows what a trial takes, the one at reset included"


def test_regret_is_unknown_where_the_range_is() -> None:
    suite = quadratic_suite()
    suite.known_range = None
    frame = evaluate(uniform(2), suite, budget=3).frame
    assert frame["regret"].isna().all() and frame["incumbent"].notna().all()


def test_the_embedded_suite_maps_tasks_to_datasets() -> None:
    suite = load_suite("bundled", "rpart")
    frame = evaluate(uniform(5), suite, seeds=1, budget=2, settings={"start": "none"}).frame
    for task, dataset in frame[["task", "dataset"]].drop_duplicates().itertuples(index=False):
        assert dataset == dataset_key(TaskRef.parse(task))
    assert frame["task"].nunique() > 20


@pytest.mark.parametrize("space", ["rpart", "xgboost"])
def test_on_the_embedded_spaces_grid_and_box_start_alike(space: str) -> None:
    suite = load_suite("bundled", space)
    for start in ("default", "random"):
        options = {"seeds": 2, "budget": 2, "settings": {"start": start}}
        box, grid = (evaluate(c, suite, **options) for c in (uniform(suite.space.dimension), walk()))
        # A grid point and the point it decodes to may differ in the last digit of float32.
        assert np.abs(first_trials(box) - first_trials(grid)).max() < 1e-6


def refused(act: Callable[[], object], kind: type[HPOGymError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        act()
    for word in words:
        assert word in str(caught.value)


def test_bad_arguments_are_refused_before_the_first_evaluation() -> None:
    suite, counter = counted(quadratic_suite())
    good = uniform(2)
    refused(lambda: evaluate(good, suite, split="tset"), UnknownNameError, "'tset'", "Did you mean 'test'")
    refused(lambda: evaluate(good, suite, protocol="disjoint"), UnknownNameError, "dataset-disjoint")
    refused(lambda: evaluate(good, suite, settings={"strat": "none"}), UnknownNameError, "Did you mean 'start'")
    refused(lambda: evaluate(good, suite, settings={"action": "grid_step"}), InvalidSettingError, "Contender.action")
    refused(lambda: evaluate(good, suite, settings={"budget": 3}), InvalidSettingError, "evaluate(budget=...)")
    refused(lambda: evaluate(good, suite, settings={"terminate_on_repeat": True}), InvalidSettingError, "unequal")
    refused(lambda: evaluate(good, suite, seeds=0), InvalidSettingError, "seeds=0")
    refused(lambda: evaluate(good, suite, seed=-1), InvalidSettingError, "seed=-1")
    refused(lambda: evaluate(good, suite, budget=1), InvalidSettingError, "budget=1", "start='none'")
    refused(lambda: evaluate(walk("grid_stpe"), suite), UnknownNameError, "Did you mean 'grid_step'")
    refused(lambda: evaluate(good, quadratic_suite(1), split="test"), InvalidSettingError, "holds no task")
    assert counter.rows == 0


def test_an_impossible_action_is_refused() -> None:
    refused(lambda: evaluate(constant(2, 1.5), quadratic_suite()), InvalidActionError, "[0, 1]")
    refused(lambda: evaluate(constant(3, 0.5), quadratic_suite()), InvalidActionError, "[5, 2]")


@pytest.mark.slow
def test_an_exact_yahpo_suite_is_evaluated(data_folder: Path) -> None:
    suite = load_suite("yahpo", "rbv2_rpart", data_dir=str(data_folder))
    records = evaluate(uniform(suite.space.dimension), suite, seeds=1, budget=3)
    assert len(records) == 3 * records.frame["task"].nunique() > 60


def test_a_budget_beyond_a_table_is_refused() -> None:
    suite = quadratic_suite()
    count = 7 * suite.num_tasks
    table = TableSurrogate(
        suite.space.spec,
        suite.surrogate.metrics,
        torch.arange(count) % suite.num_tasks,
        torch.rand(count, 2, generator=torch.Generator().manual_seed(0)),
        torch.rand(count, 2, generator=torch.Generator().manual_seed(1)),
        suite.num_tasks,
    )
    suite.surrogate = table
    assert len(evaluate(uniform(2), suite, split="all", seeds=1, budget=7)) == count
    refused(lambda: evaluate(uniform(2), suite, budget=8), InvalidSettingError, "budget=8", "7 configurations")
