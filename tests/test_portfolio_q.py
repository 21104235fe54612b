"""Q-learning over a portfolio and moves: what it sees, what it may do, and when it leaves the list."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from quick_settings import QUICK

from agents.base import Interface
from agents.portfolio_q import PortfolioQ, PortfolioQConfig
from agents.problem import Problem
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.testing.tiny import conditional_suite, quadratic_suite

FOUR = PortfolioQConfig(candidates=4, moves=(0.05, 0.3), ahead=4)


def environment(num_envs: int = 1, suite=quadratic_suite, **settings) -> HPOVectorEnv:
    rules = {"action": "continuous", "observation": "history", "budget": 8, "split": "all", **settings}
    return HPOVectorEnv(num_envs, source=suite(), **rules)


def make(env: HPOVectorEnv, config: PortfolioQConfig = FOUR) -> PortfolioQ:
    agent = PortfolioQ(config, Interface.of(env))
    agent.points = env.suite.space.snap(agent.points)
    agent._index_points()
    agent.prepare(Problem.of(env))
    return agent


def test_what_it_sees_is_what_was_tried_and_how_far_below_the_incumbent_it_came_out():
    env = environment()
    agent = make(env)
    observation, _ = env.reset(seed=0)
    scores = [float(env.state.score)]
    others = torch.rand(1, env.suite.space.dimension, generator=generator(0, "others"))
    for u in (agent.points[[2]], others, agent.points[[0]]):
        observation, _, _, _, _ = env.step(u)
        scores.append(float(env.state.score))
    seen = agent.encode(observation)[0]
    best, gaps = max(scores), [max(scores) - score for score in scores]
    largest = max(gaps)
    assert seen[:4].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert seen[4] == pytest.approx(2 / 8), "the start and one of its own"
    assert seen[5] == pytest.approx(4 / 8), "budget left"
    expected = [gaps[3] / largest, 0.0, gaps[1] / largest, 0.0, largest, (3 - scores.index(best)) / 8]
    assert seen[6:].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_candidate_is_tried_once_and_moves_need_an_incumbent():
    agent = make(environment())
    encoded = torch.zeros(4, 2 * 4 + 4)
    encoded[1, 4] = 0.1  # a start
    encoded[2, [0, 3]] = 1.0
    encoded[3, :4] = 1.0
    yes, no = True, False
    assert agent.legal(encoded, None).tolist() == [
        [yes, yes, yes, yes, no, no],
        [yes, yes, yes, yes, yes, yes],
        [no, yes, yes, no, yes, yes],
        [no, no, no, no, yes, yes],
    ]
    for ahead, free in ((1, [no, yes, no, no, yes, yes]), (2, [no, yes, yes, no, yes, yes])):
        limited = make(environment(), dataclasses.replace(FOUR, ahead=ahead))
        assert limited.legal(encoded, None)[2].tolist() == free, "the first of the list that are left"
    alone = make(environment(), dataclasses.replace(FOUR, moves=()))
    assert alone.legal(encoded, None)[[0, 3]].all(), "all may be tried again where there is nothing else"


def test_of_a_small_space_every_configuration_is_tried_once(tmp_path):
    draws = generator(0, "scores")
    grid = [(f"d{task}", a, b) for task in range(8) for a in "xyz" for b in "pqrs"]
    lines = [",".join([*row, f"{float(torch.rand((), generator=draws)):.3f}"]) for row in grid]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(["dataset,a,b,accuracy", *lines]) + "\n")
    suite = load_suite("runs", table, task_column="dataset", hyperparameters=["a", "b"], metrics=["accuracy"])
    env = environment(8, lambda: suite, budget=14, reward_scale="none")
    config = PortfolioQConfig(candidates=16, drawn=64, total_steps=600, learning_starts=200, batch_size=32, moves=())
    agent = PortfolioQ(config, Interface.of(env))
    env.reset(seed=0)
    agent.train(env, lambda *_: False)
    observation, _ = env.reset(seed=1)
    tried = [{tuple(row)} for row in env.state.u.tolist()]
    for _ in range(11):
        observation, *_ = env.step(agent.act(observation, None, generator(0, "test")))
        for row, one in zip(env.state.u.tolist(), tried, strict=True):
            one.add(tuple(row))
    # The start is one of the twelve, and no candidate.
    assert [len(one) for one in tried] == [12] * 8
    assert bool(agent.legal(agent.encode(observation), None)[:, :11].any()), "they may be tried again"


@pytest.mark.parametrize("suite", [quadratic_suite, conditional_suite])
def test_moves_are_neighbours_of_the_incumbent_and_candidates_are_themselves(suite):
    env = environment(200, suite)
    agent = make(env)
    observation, _ = env.reset(seed=0)
    observation, _, _, _, _ = env.step(env.suite.space.sample(200, generator(0, "first")))
    actions = torch.arange(200) % 6
    before = {name: value.clone() for name, value in observation.items()}
    u = agent.executed(actions, observation, generator(0, "moves"))
    assert all(torch.equal(before[name], observation[name]) for name in before)
    space, scores = env.suite.space, observation["score"][:, :2]
    tried = observation["u"].unflatten(1, (8, -1))[:, :2]
    incumbent = tried[torch.arange(200), scores.argmax(1)]
    assert 20 < int(scores.argmax(1).sum()) < 180, "either is the incumbent somewhere"
    for candidate in range(4):
        assert torch.equal(
            u[actions == candidate], agent.points[[candidate]].expand(int((actions == candidate).sum()), -1)
        )
    distance = []
    for move in (4, 5):
        rows = actions == move
        moved, was = space.snap(u[rows]), space.snap(incumbent[rows])
        both = space.active(moved) & space.active(was)
        assert not ((moved == was) | ~both).all(1).any() or suite is conditional_suite
        distance.append(float((moved - was).abs().masked_fill(~both, 0.0).sum(1).mean()))
    assert distance[0] < 0.5 * distance[1]
    assert torch.equal(u, agent.executed(actions, observation, generator(0, "moves")))


def test_scores_that_are_hidden_are_hidden_with_what_follows_from_them():
    agent = make(environment(), dataclasses.replace(FOUR, score_dropout=1.0))
    encoded = torch.rand(3, 12)
    shown = agent.shown(encoded)
    assert torch.equal(shown[:, :6], encoded[:, :6])
    assert not shown[:, 6:].any()


def test_where_its_candidates_are_bad_it_learns_to_leave_the_list():
    def final(moves: tuple[float, ...]) -> float:
        env = environment(32, budget=20)
        # As many candidates as trials, of a handful of random configurations: the list alone may last an episode.
        config = PortfolioQConfig(**QUICK["portfolio_q"] | {"candidates": 20, "drawn": 20, "moves": moves})
        agent = PortfolioQ(config, Interface.of(env))
        env.reset(seed=0)
        agent.train(env, lambda steps, logs, info: False)
        draws = generator(1, "play")
        observation, _ = env.reset(seed=1)
        for _ in range(19):
            observation, _, _, _, info = env.step(agent.act(observation, None, draws))
        return float(info["final_info"]["regret"].mean())

    assert final((0.05, 0.2)) < 0.5 * final(())


@pytest.mark.parametrize("moves", [(0.0,), (0.1, -1.0), (float("nan"),)])
def test_a_step_of_no_size_is_refused(moves):
    with pytest.raises(InvalidSettingError, match="moves="):
        PortfolioQConfig(moves=moves)
