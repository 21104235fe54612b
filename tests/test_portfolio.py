"""Portfolios: the greedy cover, its candidates, and how one is played."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from agents.base import Interface
from agents.contenders import as_contender
from agents.greedy_portfolio import greedy_cover, greedy_portfolio
from agents.populations import Trials
from agents.portfolio import Portfolio, PortfolioConfig
from agents.portfolio_local import PortfolioLocal, PortfolioLocalConfig
from agents.problem import Problem, TrainingTasks
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import evaluate
from hpo_gym.seeding import generator
from hpo_gym.sources.synthetic import load_synthetic
from hpo_gym.testing.tiny import TINY_SUITES

# Four candidates on three tasks.
REGRET = torch.tensor([[0.3, 0.3, 0.3], [0.0, 0.9, 0.6], [0.9, 0.0, 0.9], [0.3, 0.3, 0.0]])


def problem_of(tiny: str, budget: int = 12, start: str = "none") -> tuple[HPOVectorEnv, Problem]:
    env = HPOVectorEnv(
        16,
        source=TINY_SUITES[tiny](),
        split="all",
        action="continuous",
        observation="history",
        budget=budget,
        start=start,
    )
    return env, Problem.of(env, TrainingTasks(env.suite, env.engine.tasks))


def prepared(env: HPOVectorEnv, problem: Problem, **config: object) -> Portfolio:
    agent = Portfolio(PortfolioConfig(**({"candidates": 200} | config)), Interface.of(env))
    agent.prepare(problem)
    return agent


def test_the_greedy_cover_of_a_hand_worked_table():
    # Means .3, .5, .6, .2: candidate 3 first. Then 1 and 2 each take 0.1 off the mean and the first goes first, then
    # 2; candidate 0 improves nothing and follows.
    assert greedy_cover(REGRET, 4).tolist() == [3, 1, 2, 0]
    assert greedy_cover(REGRET, 2).tolist() == [3, 1]
    # From (.1, .8, .8) the means are .7/3, 1.4/3, .9/3 and .4/3; then 2 takes off .1 and 1 takes off .1/3.
    assert greedy_cover(REGRET, 9, torch.tensor([0.1, 0.8, 0.8])).tolist() == [3, 2, 1, 0]
    # Where nothing improves on what is reached, candidates come in their own order.
    assert greedy_cover(REGRET, 3, torch.zeros(3)).tolist() == [0, 1, 2]


def test_a_cover_of_one_is_the_best_single_candidate():
    for seed in range(20):
        regret = torch.rand(50, 7, generator=generator(seed, "test")).double()
        reached = torch.rand(7, generator=generator(seed, "reached")).double()
        alone = [float(row.mean()) for row in regret]
        beside = [float(torch.minimum(row, reached).mean()) for row in regret]
        assert greedy_cover(regret, 1).tolist() == [min(range(50), key=alone.__getitem__)]
        assert greedy_cover(regret, 1, reached).tolist() == [min(range(50), key=beside.__getitem__)]


def test_a_cover_of_three_is_within_the_bound_of_the_best_one():
    for seed in range(5):
        regret = torch.rand(14, 9, generator=generator(seed, "test")).double() ** 0.3
        gain = {
            chosen: float((1.0 - regret[list(chosen)].amin(0)).mean())
            for chosen in itertools.combinations(range(14), 3)
        }
        greedy = greedy_cover(regret, 3, torch.ones(9))
        assert gain[tuple(sorted(greedy.tolist()))] >= (1.0 - 1.0 / torch.e) * max(gain.values())


def test_every_evaluation_on_training_tasks_is_counted():
    env, problem = problem_of("quadratic")
    assert problem.training is not None
    agent = prepared(env, problem, candidates=150, refinements=3)
    assert agent.training_evaluations == problem.training.evaluations == (150 + 1) * env.suite.num_tasks
    agent.prepare(problem)
    assert agent.training_evaluations == 151 * env.suite.num_tasks


@pytest.mark.parametrize("tiny", ["quadratic", "conditional"])
@pytest.mark.parametrize("refinements", [0, 4])
def test_a_portfolio_is_of_different_legal_configurations_and_its_seed(tiny, refinements):
    _, problem = problem_of(tiny)
    training, space = problem.training, problem.space
    assert training is not None
    first, again, other = (
        greedy_portfolio(problem, training, 20, candidates=300, refinements=refinements, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (20, space.dimension) and first.dtype == torch.float32
    assert bool(space.legal(first).all()) and len(first.unique(dim=0)) == 20
    # As a history shows them.
    assert torch.equal(first, space.snap(first) * space.active(first))


def test_the_portfolio_is_the_greedy_one_of_what_it_could_choose_from():
    _, problem = problem_of("quadratic")
    training = problem.training
    assert training is not None
    points = greedy_portfolio(problem, training, 400, candidates=150, refinements=0, after_default=False)
    assert len(points) == 151, "all candidates, in order"
    chosen = points[greedy_cover(training.regret(points), 4)]
    assert torch.equal(chosen, points[:4])


def test_a_portfolio_after_the_default_complements_it():
    _, problem = problem_of("quadratic")
    training = problem.training
    assert training is not None
    default = training.regret(problem.space.default()[None])[0]
    mean = {}
    for after in (True, False):
        points = greedy_portfolio(problem, training, 1, candidates=300, after_default=after)
        mean[after] = torch.minimum(default, training.regret(points)[0]).mean(), training.regret(points).mean()
    assert mean[True][0] < mean[False][0]
    assert mean[False][1] < mean[True][1]


def test_refinement_improves_the_cover_at_the_same_cost():
    suite = load_synthetic("bbob-6d", functions=["sphere"])
    env = HPOVectorEnv(1, source=suite, split="all", action="continuous")
    reached = {}
    for refinements in (0, 4):
        training = TrainingTasks(suite, torch.arange(8))
        points = greedy_portfolio(Problem.of(env), training, 8, candidates=1024, refinements=refinements)
        assert training.evaluations == 1025 * 8
        reached[refinements] = float(training.regret(points).amin(0).mean())
    # These regrets are logarithmic.
    assert reached[4] < reached[0] - 0.03


@pytest.mark.parametrize("start", ["none", "default", "random"])
def test_entries_are_played_in_order_whatever_comes_first(start):
    env, problem = problem_of("conditional", budget=10, start=start)
    agent = prepared(env, problem)
    observation, _ = env.reset(seed=0)
    first, draws = int(start != "none"), generator(0, "test")
    for _ in range(8):
        observation = env.step(agent.act(observation, None, draws))[0]
    u = Trials.of(observation, 5).u[:, first : first + 8]
    entries = agent.points
    if start == "default":
        # It is among the candidates that follow a complete cover.
        entries = entries[(entries - agent.shown(agent.space.default()[None])).abs().amax(1) > 1e-6]
    torch.testing.assert_close(u, entries[:8].expand(16, -1, -1), atol=1e-6, rtol=0)


def test_an_entry_that_was_the_start_is_not_played_again():
    env, problem = problem_of("quadratic", budget=6, start="default")
    agent = prepared(env, problem)
    observation, _ = env.reset(seed=0, options={"start": agent.points[1]})
    for entry in (0, 2, 3, 4):
        action = agent.act(observation, None, generator(0, "test"))
        assert torch.equal(action, agent.points[entry].expand(16, -1))
        observation = env.step(action)[0]


def test_a_portfolio_that_is_played_goes_on_at_random():
    env, problem = problem_of("quadratic", budget=8)
    agent = prepared(env, problem, candidates=3)
    assert len(agent.points) == 4
    observation, _ = env.reset(seed=0)
    draws = generator(0, "test")
    for _ in range(7):
        observation = env.step(agent.act(observation, None, draws))[0]
    u = Trials.of(observation, 2).u
    assert all(len(u[:, trial].unique(dim=0)) == 1 for trial in range(4))
    assert all(len(u[:, trial].unique(dim=0)) == 16 for trial in range(4, 7))


def test_a_portfolio_transfers_between_related_tasks():
    """Four entries, made for four of six bowls, beat as many random configurations on the other two."""
    env, problem = problem_of("conditional", budget=8)
    suite = env.suite
    agent = prepared(env, dataclasses.replace(problem, training=TrainingTasks(suite, torch.tensor([0, 1]))))
    frame = evaluate(as_contender(agent), suite, split="all", seeds=1, budget=4, settings={"start": "none"}).frame
    unseen = frame["task"].isin([str(suite.tasks[2]), str(suite.tasks[3])]) & (frame["trial"] == 4)
    drawn = suite.space.sample(400, generator(0, "test"))
    random = TrainingTasks(suite, torch.tensor([2, 3])).regret(drawn).view(100, 4, 2).amin(1).mean()
    assert float(frame.loc[unseen, "regret"].mean()) < 0.7 * float(random)


def test_it_needs_training_tasks():
    env, problem = problem_of("quadratic")
    with pytest.raises(InvalidSettingError, match="openml-transfer"):
        prepared(env, dataclasses.replace(problem, training=None))
    assert problem.training is not None
    for name, value in (("size", 0), ("candidates", 0), ("refinements", -1)):
        with pytest.raises(InvalidSettingError, match=f"{name}={value}"):
            greedy_portfolio(problem, problem.training, **{"size": 3, name: value})


@pytest.mark.parametrize("start", ["none", "default", "random"])
def test_local_search_begins_where_the_head_of_the_portfolio_ends(start):
    env, problem = problem_of("quadratic", budget=14, start=start)
    agent = PortfolioLocal(PortfolioLocalConfig(candidates=200, head=5, sigma=0.1), Interface.of(env))
    agent.prepare(problem)
    training = problem.training
    assert training is not None and agent.training_evaluations == training.evaluations
    given = {"candidates": 200, "refinements": 4, "seed": 0, "after_default": start == "default"}
    assert torch.equal(agent.points, greedy_portfolio(problem, training, 5, **given))
    draws, began = generator(0, "play"), 0 if start == "none" else 1
    observation, _ = env.reset(seed=0)
    for trial in range(began, 13):
        trials = Trials.of(observation, env.suite.space.dimension)
        u = env.suite.space.snap(agent.act(observation, None, draws))
        if trial < began + 5:
            assert torch.equal(u, agent.points[trial - began].expand_as(u))
        else:
            moved = (u - trials.incumbent().u[:, 0]).abs()
            assert bool((moved > 0).any(1).all()), "the incumbent itself is no neighbour"
            assert float(moved.amax()) < 0.6
            assert not trials.tried(u[:1])[0].any()
        observation, *_ = env.step(u)


def test_what_local_search_after_a_portfolio_refuses():
    for wrong in ({"head": 0}, {"sigma": 0.0}, {"candidates": 0}):
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            PortfolioLocalConfig(**wrong)
    env, problem = problem_of("quadratic")
    agent = PortfolioLocal(PortfolioLocalConfig(), Interface.of(env))
    with pytest.raises(InvalidSettingError, match="portfolio_local"):
        agent.prepare(dataclasses.replace(problem, training=None))
