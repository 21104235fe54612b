"""SMAC behind our interface: the suggestions of plain SMAC3, no traces of it, and small spaces."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.base import Interface
from agents.problem import Problem
from agents.sequential import Trial
from agents.smac import SMAC, SMACConfig, SMACOptimizer
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES

smac = pytest.importorskip("smac", reason="needs smac: pip install -e '.[smac]'")

#: Without a model, which takes SMAC half a second to train and search.
DESIGN_ONLY = SMACConfig(initial_share=1.0)


class TestSMAC(AgentCase):
    """The published contract on one row: each is a SMAC of its own, and takes a second per model."""

    @pytest.fixture
    def make_vector_env(self):
        return lambda num_envs: HPOVectorEnv(
            1,
            source=TINY_SUITES["quadratic"](),
            split="all",
            action="continuous",
            observation="history",
            budget=10,
            start="random",
        )

    @pytest.fixture
    def make_agent(self):
        def make(env: HPOVectorEnv, seed: int) -> SMAC:
            agent = SMAC(SMACConfig(), Interface.of(env), seed)
            agent.prepare(Problem.of(env))
            return agent

        return make


def problem_of(suite: TaskSuite, budget: int = 12) -> Problem:
    return Problem(SearchSpace(suite.space.spec), budget)


def evaluated(suite: TaskSuite, number: int, u: Tensor) -> Trial:
    """Return the trial of a configuration on the first task, as an environment shows it."""
    u = suite.space.snap(u.float()[None])
    active = suite.space.active(u)
    score = suite.evaluate(torch.zeros(1, dtype=torch.int64), u, active).score * suite.space.legal(u)
    shown = (u * active)[0].double()
    return Trial(number, shown, active[0], suite.space.to_dicts(shown[None])[0], float(score), 1.0)


def played(optimizer: SMACOptimizer, suite: TaskSuite, trials: int) -> list[Trial]:
    """Play one episode from the default configuration."""
    history = [evaluated(suite, 0, suite.space.default())]
    optimizer.tell(history[0])
    for number in range(1, trials):
        history.append(evaluated(suite, number, optimizer.ask().u))
        optimizer.tell(history[-1])
    return history


def plain_facade(configspace: Any, budget: int, seed: int, folder: Path) -> Any:
    """The facade as a user makes it, but for an order to where its local searches begin: by itself that of a set."""
    from smac.acquisition.maximizer.local_search import LocalSearch

    class OrderedLocalSearch(LocalSearch):
        def _get_init_points_from_previous_configs(self, *args: Any, **named: Any) -> list[Any]:
            return sorted(super()._get_init_points_from_previous_configs(*args, **named), key=str)

    scenario = smac.Scenario(configspace, deterministic=True, n_trials=budget, seed=seed, output_directory=folder)
    facade = smac.HyperparameterOptimizationFacade
    maximizer = facade.get_acquisition_maximizer(scenario)
    maximizer._local_search = OrderedLocalSearch(configspace=configspace, seed=seed)
    # The library's own forest would take all cores, and memory for 2^20 leaves.
    model = facade.get_model(scenario)
    model._rf_opts |= {"n_jobs": 1, "max_leaf_nodes": 1024}
    return facade(scenario, model=model, acquisition_maximizer=maximizer, logging_level=False)


def trial_of(space: SearchSpace, number: int, u: Tensor) -> Trial:
    """Return the trial of a configuration on a bowl, whatever the space."""
    u = space.snap(u.float()[None])
    active = space.active(u)
    shown = (u * active).double()
    score = 1.0 - float((shown - 0.3).square().mean())
    return Trial(number, shown[0], active[0], space.to_dicts(shown)[0], score, 1.0)


SPACES = {name: SearchSpace(TINY_SUITES[name]().space.spec) for name in ("quadratic", "conditional")} | {
    "mixed": SearchSpace(
        SpaceSpec(
            (
                Column("few", "integer", 1, 6, False, (), 3),
                Column("many", "integer", 1, 50, False, (), 9),
                Column("few_log", "integer", 1, 7, True, (), 3),
                Column("many_log", "integer", 1, 500, True, (), 30),
                Column("kind", "categorical", choices=("x", "y", "z"), default="y", upper=2),
                Column("size", "ordinal", choices=(1, 10, 100, 1000), default=10, upper=3),
                Column("rate", "float", 1e-4, 1.0, True, (), 1e-2),
                Column("fixed", "constant", choices=("only",), default="only"),
            ),
            {},
        )
    )
}


@pytest.mark.parametrize(("name", "budget"), [("quadratic", 12), ("conditional", 14), ("mixed", 14)])
def test_suggestions_are_those_of_plain_smac_to_the_last_bit(name, budget, tmp_path):
    """The library's own forest, random search and local search, told the same."""
    from smac.runhistory import TrialInfo, TrialValue

    space, seed = SPACES[name], 3
    optimizer = SMACOptimizer(SMACConfig(), Problem(space, budget), seed)
    configspace = space.to_configspace()
    facade = plain_facade(configspace, budget, seed, tmp_path / "plain")
    trial = trial_of(space, 0, space.default())
    info = TrialInfo(configspace.get_default_configuration(), seed=0)
    for number in range(1, budget):
        optimizer.tell(trial)
        facade.tell(info, TrialValue(cost=1.0 - trial.score))
        u, info = optimizer.ask().u, facade.ask()
        assert torch.equal(u, space.from_dicts([dict(info.config)])[0]), f"suggestion {number}"
        trial = trial_of(space, number, u)


@pytest.mark.parametrize("name", list(SPACES))
def test_the_forest_predicts_what_that_of_smac_does_to_the_last_bit(name):
    from smac.model.random_forest.random_forest import RandomForest

    from agents.smac_components import ArrayForest

    configspace = SPACES[name].to_configspace()
    configspace.seed(0)
    points = np.array([one.get_array() for one in configspace.sample_configuration(300)])
    costs = np.log(np.nan_to_num(points, nan=2.0).sum(1, keepdims=True) + 1.0)
    ours, theirs = (
        forest(configspace, n_trees=10, log_y=True, ratio_features=1.0, max_leaf_nodes=256, n_jobs=1, seed=1)
        for forest in (ArrayForest, RandomForest)
    )
    for forest in (ours, theirs):
        forest.train(points[:40], costs[:40])
    for shown in (points, points[:1]):
        for mine, its in zip(ours.predict_marginalized(shown), theirs.predict_marginalized(shown), strict=True):
            assert mine.shape == its.shape and np.array_equal(mine, its)


@pytest.mark.parametrize("name", list(SPACES))
@pytest.mark.parametrize("deviation", [0.05, 0.4])
def test_neighbours_are_those_of_configspace_to_the_last_bit(name, deviation):
    from ConfigSpace.util import get_one_exchange_neighbourhood

    from agents.smac_neighbourhood import Neighbourhood

    configspace = SPACES[name].to_configspace()
    configspace.seed(0)
    neighbourhood = Neighbourhood(configspace)
    for seed, centre in enumerate(configspace.sample_configuration(30)):
        theirs = get_one_exchange_neighbourhood(centre, seed, num_neighbors=8, stdev=deviation)
        ours = neighbourhood.around(centre.get_array(), np.random.RandomState(seed), deviation)
        for (index, mine), its in zip(ours, theirs, strict=True):
            assert np.array_equal(mine, its.get_array(), equal_nan=True)
            assert mine[index] != centre.get_array()[index]


@pytest.mark.parametrize("name", list(SPACES))
def test_random_points_are_those_of_configspace_to_the_last_bit(name):
    from agents.smac_components import sample_points

    ours, theirs = SPACES[name].to_configspace(), SPACES[name].to_configspace()
    for space in (ours, theirs):
        space.seed(7)
    expected = np.array([one.get_array() for one in theirs.sample_configuration(333)])
    assert np.array_equal(sample_points(ours, 333), expected, equal_nan=True)
    assert ours.random.rand() == theirs.random.rand(), "as many random numbers are used up"


def test_a_setting_changes_what_is_suggested():
    suite = TINY_SUITES["quadratic"]()
    runs = {
        name: torch.stack([trial.u for trial in played(SMACOptimizer(config, problem_of(suite), 0), suite, 9)])
        for name, config in {
            "default": SMACConfig(),
            "trees": SMACConfig(trees=3),
            "initial_per_hyperparameter": SMACConfig(initial_per_hyperparameter=1),
            "initial_share": SMACConfig(initial_share=0.5),
            "random_probability": SMACConfig(random_probability=1.0),
            "retrain_after": SMACConfig(retrain_after=3),
        }.items()
    }
    for name, run in runs.items():
        assert name == "default" or not torch.equal(run, runs["default"]), name


def test_the_model_finds_the_bottom_of_a_bowl():
    suite = TINY_SUITES["quadratic"]()
    found = max(trial.score for trial in played(SMACOptimizer(SMACConfig(), problem_of(suite, 24), 0), suite, 24))
    random = [evaluated(suite, 0, u).score for u in suite.space.sample(24 * 20, generator(0, "test"))]
    best = torch.tensor(random).view(20, 24).amax(1)
    assert found > float(best.median())


def test_it_suggests_legal_configurations_and_never_one_twice():
    suite = TINY_SUITES["conditional"]()
    history = played(SMACOptimizer(DESIGN_ONLY, problem_of(suite, 40), 1), suite, 40)
    assert len({tuple(trial.u.tolist()) for trial in history}) == 40
    assert all(trial.score > 0.0 for trial in history), "a forbidden configuration"
    assert {len(trial.configuration) for trial in history} == {3, 4, 5}, "every kernel was tried"


def test_a_trial_that_nobody_asked_for_is_learned_as_what_it_was():
    space = SPACES["mixed"]
    optimizer = SMACOptimizer(SMACConfig(), Problem(space, 20), 0)
    trials = [trial_of(space, 0, space.default())]
    optimizer.tell(trials[0])
    draws = generator(3, "test")
    for number in range(1, 13, 2):
        asked = optimizer.ask().u
        trials.append(trial_of(space, number, space.sample(1, draws)[0]))
        optimizer.tell(trials[-1])
        assert torch.equal(optimizer.ask().u, asked), "what was not evaluated is asked for again"
        trials.append(trial_of(space, number + 1, asked))
        optimizer.tell(trials[-1])
    history = optimizer._facade.runhistory
    learned = [(dict(history.get_config(key.config_id)), value.cost) for key, value in history.items()]
    assert len(learned) == len(trials) == 13
    learned.sort(key=lambda pair: pair[1])
    for (values, cost), trial in zip(learned, sorted(trials, key=lambda trial: -trial.score), strict=True):
        assert cost == pytest.approx(1.0 - trial.score)
        # SMAC remembers what it asked for; the environment has rounded that.
        assert values == {name: pytest.approx(value) for name, value in trial.configuration.items()}


def test_bounds_that_configspace_rounds_stay_inside():
    columns = (
        Column("a", "float", 1 / 3, 2 / 3, False, (), 1 / 3),
        Column("b", "float", 1e-7 / 3, 1 / 3, True, (), 1e-7 / 3),
        Column("c", "ordinal", choices=(1, 10, 100), default=10, upper=2),
        Column("d", "constant", choices=("only",), default="only"),
    )
    space = SearchSpace(SpaceSpec(columns, {}))
    optimizer = SMACOptimizer(DESIGN_ONLY, Problem(space, 8), 0)
    for number, u in enumerate((space.default(), torch.ones(4), torch.zeros(4))):
        shown = space.snap(u.float()[None])[0].double()
        values = space.to_dicts(shown[None])[0]
        optimizer.tell(Trial(number, shown, torch.ones(4, dtype=torch.bool), values, 0.1 * number, 1.0))
    assert len(optimizer._facade.runhistory) == 3
    for _ in range(4):
        asked = optimizer.ask()
        assert 0.0 <= float(asked.u.min()) <= float(asked.u.max()) <= 1.0
        shown = space.snap(asked.u.float()[None])[0].double()
        values = space.to_dicts(shown[None])[0]
        optimizer.tell(Trial(3, shown, torch.ones(4, dtype=torch.bool), values, 0.5, 1.0))


def test_a_small_space_is_exhausted_and_then_drawn_from_at_random():
    columns = tuple(Column(name, "categorical", choices=("x", "y"), default="x", upper=1) for name in "ab")
    space = SearchSpace(SpaceSpec(columns, {}))
    optimizer = SMACOptimizer(SMACConfig(), Problem(space, 12), 0)
    seen = []
    for number in range(12):
        u = space.snap(optimizer.ask().u.float()[None])[0].double()
        seen.append(tuple(u.tolist()))
        values = space.to_dicts(u[None])[0]
        optimizer.tell(Trial(number, u, torch.ones(2, dtype=torch.bool), values, float(u.mean()), 1.0))
    assert len(set(seen[:4])) == 4 and set(seen[4:]) <= set(seen[:4]) and len(set(seen[4:])) > 1


def test_it_leaves_no_files_and_says_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    root = (logging.root.level, list(logging.root.handlers))
    suite = TINY_SUITES["quadratic"]()
    optimizer = SMACOptimizer(SMACConfig(), problem_of(suite, 6), 0)
    assert not list(scratch.iterdir())
    played(optimizer, suite, 6)
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]
    assert (logging.root.level, list(logging.root.handlers)) == root
    assert logging.getLogger("smac").level == logging.NOTSET
    assert capfd.readouterr() == ("", "")


def test_somebody_who_wants_to_hear_smac_does(caplog):
    with caplog.at_level(logging.INFO, logger="smac"):
        SMACOptimizer(SMACConfig(), problem_of(TINY_SUITES["quadratic"]()), 0)
        assert logging.getLogger("smac").level == logging.INFO
    assert any("initial" in record.message for record in caplog.records)


def episode() -> str:
    suite = TINY_SUITES["quadratic"]()
    optimizer = SMACOptimizer(SMACConfig(), problem_of(suite), 4)
    return str([trial.u.tolist() for trial in played(optimizer, suite, 9)])


@pytest.mark.slow
def test_one_seed_suggests_the_same_in_every_process():
    """SMAC3 by itself does not: the order of a set of its configurations is another one in every process."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    # Hashes here are those of another seed: by default every process of Python draws its own.
    process = subprocess.run(
        [sys.executable, "-c", "import test_smac; print(test_smac.episode())"],
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == episode() and process.stdout.count("[") == 10


def test_a_prepared_agent_can_be_sent_to_another_process():
    env = HPOVectorEnv(
        1, source=TINY_SUITES["quadratic"](), split="all", action="continuous", observation="history", budget=8
    )
    agent = SMAC(DESIGN_ONLY, Interface.of(env))
    agent.prepare(Problem.of(env))
    observation, _ = env.reset(seed=0)
    copy = pickle.loads(pickle.dumps(agent))
    actions = [one.act(observation, None, generator(0, "test")) for one in (agent, copy)]
    assert torch.equal(*actions)


def test_a_smac_without_what_is_replaced_is_named(monkeypatch):
    from smac.acquisition.maximizer.local_search import LocalSearch

    monkeypatch.delattr(LocalSearch, "_search")
    with pytest.raises(InvalidSettingError, match=r"LocalSearch\._search, which smac 2.*pip install"):
        SMACOptimizer(DESIGN_ONLY, problem_of(TINY_SUITES["quadratic"]()), 0)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    env = HPOVectorEnv(
        1, source=TINY_SUITES["quadratic"](), split="all", action="continuous", observation="history", budget=8
    )
    monkeypatch.setitem(sys.modules, "smac", None)
    with pytest.raises(InvalidSettingError, match=r"pip install '\.\[smac\]'.*make install"):
        SMAC(SMACConfig(), Interface.of(env)).prepare(Problem.of(env))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trees", 0),
        ("initial_per_hyperparameter", 0),
        ("initial_share", 0.0),
        ("initial_share", 1.5),
        ("random_probability", -0.1),
        ("random_probability", float("nan")),
        ("retrain_after", 0),
    ],
)
def test_an_impossible_setting_is_named(field: str, value: Any):
    with pytest.raises(InvalidSettingError, match=field):
        SMACConfig(**{field: value})
