"""TPE and Gaussian processes against Optuna itself, and what a search space is to it."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from baseline_episodes import final_regret, legal_trials
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from agents.acquisition import maximise_acquisition
from agents.base import Agent, Interface
from agents.gaussian_process import GaussianProcess, GPConfig, GPOptimizer, fast_sampler, one_thread
from agents.optuna_space import OptunaSpace, StudyOptimizer, quiet
from agents.portfolio_gp import PortfolioGP, PortfolioGPConfig, PortfolioGPOptimizer
from agents.problem import Problem, TrainingTasks
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.sequential import Optimizer, SequentialAgent, Trial
from agents.tpe import TPE, TPEConfig
from agents.tpe_multivariate import MultivariateTPE, MultivariateTPEConfig
from hpo_gym import load_suite
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import history_view
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.clauses import Atom
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES
from tests.space_strategies import configuration_spaces

#: Every agent of this module; quick settings that still reach the model within a tiny episode.
AGENTS: dict[str, tuple[type[SequentialAgent], Any]] = {
    "tpe": (TPE, TPEConfig(startup_trials=4)),
    "tpe_multivariate": (MultivariateTPE, MultivariateTPEConfig(startup_trials=4)),
    "gp": (GaussianProcess, GPConfig(startup_trials=10)),
    "portfolio_gp": (PortfolioGP, PortfolioGPConfig(head=9, candidates=64, refinements=1)),
}
PLAIN = ("tpe", "tpe_multivariate", "gp")

#: Every kind of hyperparameter, and conditions on a choice, an integer, a float and an ordinal, two levels deep.
EVERYTHING = SpaceSpec(
    columns=(
        Column("child", "float", 1e-3, 1.0, True, (), 0.1),
        Column("kind", "categorical", choices=("a", "b", "c"), default="a"),
        Column("grandchild", "integer", 1, 8, False, (), 3),
        Column("layers", "integer", 1, 64, True, (), 8),
        Column("rate", "float", -1.0, 1.0, False, (), 0.0),
        Column("size", "ordinal", choices=("s", "m", "l"), default="m"),
        Column("fixed", "constant", choices=("x",), default="x"),
        Column("flag", "categorical", choices=(1, True), default=1),
    ),
    conditions={
        0: ((Atom(1, "in", (0.0, 2.0)), Atom(4, "gt", (0.25,))),),
        2: ((Atom(0, "lt", (0.1,)),), (Atom(3, "ge", (16.0,)), Atom(5, "ne", (1.0,)))),
        7: ((Atom(2, "le", (4.0,)),),),
    },
)


def environment(num_envs: int, tiny: str = "quadratic", budget: int = 12, **changes: Any) -> HPOVectorEnv:
    options = {"action": "continuous", "observation": "history", "start": "random", "split": "all"}
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), budget=budget, **(options | changes))


def prepared(name: str, env: HPOVectorEnv, seed: int = 0) -> SequentialAgent:
    cls, config = AGENTS[name]
    agent = cls(config, Interface.of(env), seed)
    agent.prepare(Problem.of(env, TrainingTasks(env.suite, env.engine.tasks)))
    return agent


@pytest.mark.parametrize("name", sorted(AGENTS))
class TestOptunaAgents(AgentCase):
    """The published contract."""

    @pytest.fixture
    def make_vector_env(self) -> Callable[[int], HPOVectorEnv]:
        # Each row is an episode with a model of its own; the case asks for many.
        return lambda num_envs: environment(min(num_envs, 2))

    @pytest.fixture
    def make_agent(self, name: str) -> Callable[[HPOVectorEnv, int], Agent]:
        return lambda env, seed: prepared(name, env, seed)


def trial_of(space: SearchSpace, number: int, u: Tensor, score: float) -> Trial:
    """Return a trial as an environment's history shows it."""
    snapped = space.snap(u[None].float())
    active = space.active(snapped)[0]
    shown = (snapped[0] * active).double()
    return Trial(number, shown, active, space.to_dicts(shown[None])[0], score, 1.0)


def mixed_space() -> SearchSpace:
    """Return all kinds of hyperparameters without conditions."""
    return SearchSpace(dataclasses.replace(EVERYTHING, conditions={}))


def objective(space: SearchSpace, u: Tensor) -> float:
    """Return a smooth score in [0, 1] of a point as evaluated."""
    target = torch.linspace(0.2, 0.8, space.dimension, dtype=torch.float64)
    return float(1.0 - (space.snap(u[None].double())[0] - target).square().mean())


def optuna_parameters(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest :func:`mixed_space` as anybody would with Optuna."""
    return {
        "child": trial.suggest_float("child", 1e-3, 1.0, log=True),
        "kind": trial.suggest_categorical("kind", ["a", "b", "c"]),
        "grandchild": trial.suggest_int("grandchild", 1, 8),
        "layers": trial.suggest_int("layers", 1, 64, log=True),
        "rate": trial.suggest_float("rate", -1.0, 1.0),
        "size": ("s", "m", "l")[trial.suggest_int("size", 0, 2)],
        "flag": trial.suggest_categorical("flag", ["first", "second"]),
    }


def plain_run(sampler: optuna.samplers.BaseSampler, budget: int) -> list[dict[str, Any]]:
    """Return what the library alone suggests in ``study.optimize``."""
    space, seen = mixed_space(), []

    def score(trial: optuna.Trial) -> float:
        parameters = optuna_parameters(trial)
        seen.append(dict(parameters))
        parameters["flag"] = {"first": 1, "second": True}[parameters["flag"]]
        return objective(space, space.from_dicts([parameters])[0])

    with quiet():
        optuna.create_study(direction="maximize", sampler=sampler).optimize(score, n_trials=budget)
    return seen


def our_run(optimizer: Optimizer, budget: int, opposite: bool = False) -> list[dict[str, Any]]:
    """Return what our optimiser suggests of the same objective (or its opposite), in natural units."""
    space, seen = mixed_space(), []
    for number in range(budget):
        u = optimizer.ask().u
        named = space.to_dicts(u[None])[0]
        del named["fixed"]
        named["flag"] = {1: "first", 2: "second"}[1 + (named["flag"] is True)]
        seen.append(named)
        score = objective(space, u)
        optimizer.tell(trial_of(space, number, u, 1.0 - score if opposite else score))
    return seen


def plain_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    with quiet():
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=False)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


@pytest.mark.parametrize(("name", "budget"), [("tpe", 30), ("tpe_multivariate", 30), ("gp", 12)])
def test_suggestions_are_those_of_the_library_alone(name, budget):
    """Bit by bit: the trial is told back with its own parameters, not with the float32 copy of them."""
    cls = AGENTS[name][0]
    config: Any = {
        "tpe": TPEConfig(),
        "tpe_multivariate": MultivariateTPEConfig(),
        "gp": GPConfig(acquisition="optuna"),
    }[name]
    env = environment(1)
    optimizer = cls(config, Interface.of(env)).make_optimizer(Problem(mixed_space(), budget), 11)
    ours, theirs = our_run(optimizer, budget), plain_run(plain_sampler(name, 11), budget)
    assert len(ours) == len(theirs) == budget
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == {key: pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for key, v in other.items()}
    again = cls(config, Interface.of(env)).make_optimizer(Problem(mixed_space(), budget), 11)
    assert our_run(again, budget, opposite=True) != ours, "random draws, whatever the scores"


def test_the_fast_sampler_proposes_bitwise_what_optunas_own_does():
    with quiet():
        samplers = [
            optuna.samplers.GPSampler(seed=5, n_startup_trials=4, deterministic_objective=True),
            fast_sampler(5, 4, True, "optuna"),
        ]
    assert type(samplers[0]) is not type(samplers[1])
    runs = [plain_run(sampler, 7) for sampler in samplers]
    assert runs[0] == runs[1]


def test_the_batched_maximiser_finds_what_optunas_finds_or_better():
    """On the acquisition functions of a real run: the value at the point that either proposes."""
    from optuna._gp import optim_mixed

    compared: list[tuple[float, float]] = []

    class Both(type(fast_sampler(0, 4, True, "optuna"))):  # type: ignore[misc]
        def _optimize_acqf(self, acqf, best_params):
            theirs, value = optim_mixed.optimize_acqf_mixed(
                acqf, warmstart_normalized_params_array=best_params, rng=np.random.RandomState(1)
            )
            ours = maximise_acquisition(acqf, best_params, np.random.RandomState(1), 2048, 10, 1e-4)
            on_grid = acqf.search_space.get_choices_of_discrete_params()
            for index, grid in zip(acqf.search_space.discrete_indices, on_grid, strict=True):
                assert np.abs(grid - ours[index]).min() < 1e-12, "a value that the hyperparameter does not have"
            compared.append((float(acqf.eval_acqf_no_grad(ours[None])[0]), float(value)))
            return theirs

    with quiet():
        plain_run(Both(seed=5, n_startup_trials=4, deterministic_objective=True), 16)
    assert len(compared) == 12
    gain = np.array([ours - theirs for ours, theirs in compared])
    assert (gain > -1e-3).mean() >= 0.75 and np.median(gain) > -1e-6, gain


def test_the_fast_sampler_heeds_no_default_device():
    """A user's ``with torch.device(...)`` reaches neither the model nor its result."""
    space = mixed_space()
    runs = []
    for device in ("cpu", "meta"):
        optimizer = GPOptimizer(OptunaSpace(space), fast_sampler(3, 2, True, "batched"))
        for number, u in enumerate(space.sample(3, generator(0, "test"))):
            optimizer.tell(trial_of(space, number, u, objective(space, u)))
        with torch.device(device):
            asked = optimizer.study.sampler.sample_relative(
                optimizer.study, optimizer.study.ask()._cached_frozen_trial, optimizer.space.distributions
            )
        runs.append(asked)
    assert runs[0] == runs[1] and len(runs[0]) == len(optimizer.space.distributions)


def test_a_gaussian_process_leaves_threads_gradients_and_the_log_as_they_were():
    space = mixed_space()
    optimizer = GPOptimizer(OptunaSpace(space), fast_sampler(3, 1, True, "batched"))
    optimizer.tell(trial_of(space, 0, space.default(), 0.5))
    threads, verbosity, filters = torch.get_num_threads(), optuna.logging.get_verbosity(), list(warnings.filters)
    state = torch.random.get_rng_state()
    try:
        torch.set_num_threads(2)
        optuna.logging.set_verbosity(optuna.logging.DEBUG)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
                u = optimizer.ask().u
                optimizer.tell(trial_of(space, 1, u, objective(space, u)))
                assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        assert torch.get_num_threads() == 2
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        with pytest.raises(RuntimeError, match="inside"), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        optuna.logging.set_verbosity(verbosity)
    assert warnings.filters == filters
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_an_episode_says_nothing(name, capfd, recwarn):
    handler = logging.getLogger("optuna").handlers
    env = environment(1, "conditional")
    play(prepared(name, env), env, 12)
    shown = capfd.readouterr()
    assert shown.out == shown.err == ""
    assert [str(one.message) for one in recwarn] == []
    assert logging.getLogger("optuna").handlers == handler


def play(agent: Agent, env: HPOVectorEnv, steps: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the actions of an agent in an environment, ``[steps, B, A]``, and the last history it was shown."""
    observation, _ = env.reset(seed=seed)
    draws = generator(seed, "test", "play")
    actions = []
    for _ in range(steps):
        actions.append(agent.act(observation, None, draws))
        shown, (observation, *_) = observation, env.step(actions[-1])
    assert isinstance(shown, dict)
    return torch.stack(actions), history_view(shown, shown["mask"].shape[1], env.suite.space.dimension)


def points_as_suggestions(space: OptunaSpace, u: Tensor) -> list[dict[str, float | int]]:
    """Return what define-by-run makes of points when Optuna suggests their coordinates."""
    found = []
    for row in space.space.numbers(u.double()).tolist():
        values = {
            space.space.names[index]: row[index]
            if isinstance(kind, optuna.distributions.FloatDistribution)
            else int(row[index])
            for index, kind in space.by_column.items()
        }
        # FixedTrial checks every value against the distribution it is suggested from.
        found.append(space.suggest(optuna.trial.FixedTrial(values)))
    return found


def assert_activity(space: SearchSpace, count: int, seed: int) -> None:
    ours = OptunaSpace(space)
    u = space.snap(torch.rand(count, space.dimension, generator=generator(seed, "test")))
    active = space.active(u)
    for row, suggested in enumerate(points_as_suggestions(ours, u)):
        expected = {space.names[index] for index in ours.by_column if bool(active[row, index])}
        assert set(suggested) == expected
        point = ours.space.canonical(ours.point(suggested)[None].float())[0].double()
        single = torch.tensor([index not in ours.by_column for index in range(space.dimension)])
        shown = torch.where(single, point, (u[row] * active[row]).double())
        torch.testing.assert_close(point, shown, rtol=0.0, atol=2e-6)
        again = ours.parameters(trial_of(space, 0, point, 0.0))
        assert {k: pytest.approx(v, rel=1e-5, abs=1e-5) for k, v in suggested.items()} == again


@pytest.mark.parametrize("which", ["tiny", "everything", "ranger"])
def test_children_are_suggested_where_the_space_says_they_are_active(which):
    space = {
        "tiny": lambda: TINY_SUITES["conditional"]().space,
        "everything": lambda: SearchSpace(EVERYTHING),
        "ranger": lambda: load_suite("bundled", "ranger").space,
    }[which]()
    assert space.has_conditions
    assert_activity(space, 120, 0)


@hypothesis_settings(max_examples=25)
@given(configuration_spaces(), st.integers(0, 2**31))
def test_children_are_suggested_where_any_space_says_they_are_active(configuration_space, seed):
    assert_activity(SearchSpace.from_configspace(configuration_space), 8, seed)


def test_hyperparameters_keep_kind_range_and_scale():
    space = OptunaSpace(SearchSpace(EVERYTHING))
    distributions = optuna.distributions
    assert space.distributions == {
        "child": distributions.FloatDistribution(1e-3, 1.0, log=True),
        "kind": distributions.CategoricalDistribution((0, 1, 2)),
        "grandchild": distributions.IntDistribution(1, 8),
        "layers": distributions.IntDistribution(1, 64, log=True),
        "rate": distributions.FloatDistribution(-1.0, 1.0),
        "size": distributions.IntDistribution(0, 2),
        "flag": distributions.CategoricalDistribution((0, 1)),
    }
    assert list(space.distributions) == [name for name in EVERYTHING.names if name != "fixed"]


@pytest.mark.parametrize("name", PLAIN)
def test_conditional_episodes_are_told_as_they_were_suggested(name):
    env = environment(1, "conditional", budget=16)
    agent = prepared(name, env)
    _, history = play(agent, env, 15)
    optimizer = agent._episodes[0].optimizer
    assert isinstance(optimizer, StudyOptimizer)
    space, study = env.suite.space, optimizer.study
    # Forbidden ones are told, too, and none of them was evaluated.
    told = [trial for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)) if trial.value != 0.0]
    assert len(told) == 15
    for number, trial in enumerate(told):
        u, active = history["u"][0, number], history["active"][0, number]
        present = {space.names[index] for index in range(5) if bool(active[index])}
        assert set(trial.params) == (set(space.names) if name == "gp" else present)
        for index, column in enumerate(space.spec.columns):
            value = trial.params.get(column.name)
            if bool(active[index]):
                assert value == pytest.approx(float(space.numbers(u[None].double())[0, index]), rel=1e-5)
            elif name == "gp":
                assert value == pytest.approx(column.number(column.default))
        assert trial.value == float(history["score"][0, number])
    # With or without kernel, degree and gamma the process models all of them: nothing is drawn independently.
    if name == "gp":
        modelled = study.sampler.infer_relative_search_space(study, told[-1])
        assert set(modelled) == set(space.names)


@pytest.mark.parametrize("name", PLAIN)
def test_a_forbidden_suggestion_is_told_with_score_0(name):
    space = TINY_SUITES["conditional"]().space
    env = environment(1, "conditional")
    optimizer = prepared(name, env).make_optimizer(Problem(space, 12), 0)
    assert isinstance(optimizer, StudyOptimizer)
    forbidden = space.from_dicts([{"kernel": "linear", "C": 1.0, "shrinking": "yes"}])[0]
    assert not bool(space.legal(forbidden[None]))
    optimizer.tell(trial_of(space, 0, forbidden, 0.0))
    assert [trial.value for trial in optimizer.study.trials] == [0.0]


@pytest.mark.parametrize("name", PLAIN)
def test_a_trial_instead_of_the_suggested_one_is_told_as_its_own(name):
    env = environment(1)
    optimizer = prepared(name, env).make_optimizer(Problem.of(env), 0)
    assert isinstance(optimizer, StudyOptimizer)
    optimizer.ask()
    other = torch.tensor([0.123, 0.456], dtype=torch.float64)
    optimizer.tell(trial_of(env.suite.space, 0, other, 0.7))
    state = optuna.trial.TrialState
    assert [trial.state for trial in optimizer.study.trials] == [state.FAIL, state.COMPLETE]
    completed = optimizer.study.trials[1]
    assert completed.value == 0.7 and completed.params["momentum"] == pytest.approx(0.456, abs=1e-6)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_prepared_agents_travel_to_other_processes(name):
    env = environment(2)
    agent = prepared(name, env)
    twin = pickle.loads(pickle.dumps(agent))
    assert torch.equal(play(agent, env, 11)[0], play(twin, env, 11)[0])


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_with_fidelities_every_evaluation_is_asked_for_in_full(name):
    env = environment(1, "fidelity", multi_fidelity=True)
    agent = prepared(name, env)
    actions, history = play(agent, env, 11)
    assert bool((actions[..., -1] == 1.0).all())
    assert history["fidelity"][0, :11].tolist() == [1.0] * 11


_SCRIPT = """
import sys, torch
sys.path.insert(0, ".")
from agents.cma_es import CMAES, CMAESConfig
from agents.acquisition import maximise_acquisition
from agents.gaussian_process import GaussianProcess, GPConfig
from agents.problem import Problem
from agents.sequential import Trial
from agents.tpe import TPE, TPEConfig
from agents.tpe_multivariate import MultivariateTPE, MultivariateTPEConfig
from agents.base import Interface
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.testing.tiny import TINY_SUITES
torch.set_num_threads(1)
options = dict(action="continuous", observation="history", split="all", budget=20)
env = HPOVectorEnv(1, source=TINY_SUITES["conditional"](), **options)
problem, space = Problem.of(env), env.suite.space
for cls, config, steps in (
    (TPE, TPEConfig(), 14),
    (MultivariateTPE, MultivariateTPEConfig(), 14),
    (GaussianProcess, GPConfig(startup_trials=4), 5),
    (CMAES, CMAESConfig(), 20),
):
    optimizer = cls(config, Interface.of(env)).make_optimizer(problem, 7)
    for number in range(steps):
        u = optimizer.ask().u
        print(u.view(torch.int64).tolist())
        shown = space.snap(u[None].float())
        active = space.active(shown)
        shown = (shown * active)[0].double()
        score = float(1.0 - (shown - 0.4).square().mean())
        optimizer.tell(Trial(number, shown, active[0], space.to_dicts(shown[None])[0], score, 1.0))
"""


def test_another_process_agrees_bitwise(capsys):
    """Also with other hashes of strings, which the order of sets depends on."""
    command = [sys.executable, "-c", _SCRIPT]
    other = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"}, text=True, check=True, timeout=120
    )
    exec(_SCRIPT, {})
    assert capsys.readouterr().out == other.stdout
    assert len(other.stdout.splitlines()) == 53


@pytest.mark.parametrize(
    ("name", "budget", "num_envs"),
    [
        ("tpe", 40, 6),
        ("tpe_multivariate", 40, 6),
        ("gp", 16, 2),
        ("portfolio_gp", 14, 2),
    ],
)
def test_better_than_random_search_on_the_bowl(name, budget, num_envs):
    env = environment(num_envs, budget=budget)
    random = RandomSearch(RandomSearchConfig(), Interface.of(env))
    baseline = sum(final_regret(random, env, seed) for seed in range(20)) / 20
    assert final_regret(prepared(name, env), env, 0) < 0.5 * baseline


def test_portfolio_gp_plays_the_head_in_order_and_then_the_process():
    env = environment(1, budget=14)
    agent = prepared("portfolio_gp", env)
    assert isinstance(agent, PortfolioGP)
    assert agent.training_evaluations > 0 and agent.points.shape == (9, 2)
    actions = play(agent, env, 12)[0][:, 0]
    assert torch.equal(actions[:9], agent.points)
    optimizer = agent._episodes[0].optimizer
    assert isinstance(optimizer, PortfolioGPOptimizer)
    # The start, the head, and what the process asked for: two are told, the third is the last action.
    asked = [bool(trial.system_attrs) for trial in optimizer.process.study.trials]
    assert asked == [False] * 10 + [True] * 3
    assert not any(torch.allclose(action, point, atol=1e-4) for action in actions[9:] for point in agent.points)


def test_portfolio_gp_keeps_points_and_no_training_tasks():
    env = environment(1)
    agent = prepared("portfolio_gp", env)
    assert agent.problem.training is None
    assert len(pickle.dumps(agent)) < 100_000
    other = PortfolioGP(AGENTS["portfolio_gp"][1], Interface.of(env))
    with pytest.raises(InvalidSettingError, match="training tasks"):
        other.prepare(Problem.of(env))


def test_portfolio_gp_does_not_pay_twice_for_the_start():
    env = environment(1)
    agent = prepared("portfolio_gp", env)
    assert isinstance(agent, PortfolioGP)
    optimizer = agent.make_optimizer(agent.problem, 0)
    optimizer.tell(trial_of(env.suite.space, 0, agent.points[1], 0.5))
    asked = []
    for number in range(8):
        u = optimizer.ask().u
        asked.append(u.float())
        optimizer.tell(trial_of(env.suite.space, number + 1, u, 0.5))
    assert torch.equal(torch.stack(asked), torch.cat([agent.points[:1], agent.points[2:]]))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (TPEConfig, "startup_trials", 0),
        (TPEConfig, "candidates", 0),
        (MultivariateTPEConfig, "startup_trials", True),
        (MultivariateTPEConfig, "candidates", 1.5),
        (GPConfig, "startup_trials", -1),
        (PortfolioGPConfig, "head", 0),
        (PortfolioGPConfig, "candidates", 0),
        (PortfolioGPConfig, "refinements", -1),
        (PortfolioGPConfig, "deterministic", 1),
    ],
)
def test_impossible_settings_are_named(config, field, value):
    with pytest.raises(InvalidSettingError, match=field):
        config(**{field: value})


@pytest.mark.parametrize("heeded", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_no_trial_is_spent_on_what_is_forbidden(name, heeded, monkeypatch):
    if not heeded:
        monkeypatch.setattr("agents.optuna_space._MOST_FORBIDDEN", 0)
    env = environment(1, "conditional", budget=40)
    assert all(legal_trials(prepared(name, env), env, 39)) is heeded


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_forbidden_is_told_as_worst_and_at_last_suggested(name, monkeypatch):
    space = TINY_SUITES["conditional"]().space
    env = environment(1, "conditional")
    optimizer = prepared(name, env).make_optimizer(Problem(space, 12), 0)
    monkeypatch.setattr(OptunaSpace, "legal", lambda self, parameters: False)
    optimizer.ask()
    states = optuna.trial.TrialState
    assert [trial.state for trial in optimizer.study.trials] == [states.FAIL] * 20 + [states.RUNNING]
    # The random start is over.
    for number, u in enumerate(space.sample(12, generator(0, "test")).double()):
        optimizer.tell(trial_of(space, number, u, 0.5))
    before = len(optimizer.study.trials)
    optimizer.ask()
    # The Gaussian process is told inactive hyperparameters with their defaults, as trials of their own.
    told = [trial.value for trial in optimizer.study.trials[before:] if trial.state == states.COMPLETE]
    assert told == [0.0] * 20
