"""Q-learning over continuous actions: QT-Opt, NAF and their parts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from quick_settings import QUICK

from agents.base import Agent, Interface, TrainableAgent
from agents.continuous_exploration import ContinuousExploration
from agents.cross_entropy import CrossEntropy
from agents.naf import NAF, NAFConfig, QuadraticValues
from agents.qt_opt import ActionValues, QTOpt, QTOptConfig
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.replay import Transitions
from agents.schedules import ConstantSchedule, LinearSchedule
from agents.trial_summary import TrialSummary
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES

LEARNERS: dict[str, tuple[type[TrainableAgent], type[Any]]] = {"naf": (NAF, NAFConfig), "qt_opt": (QTOpt, QTOptConfig)}


def environment(num_envs: int, tiny: str = "quadratic", **settings: Any) -> HPOVectorEnv:
    given = {"split": "all", "action": "continuous", "observation": "history", "budget": 12, "reward_scale": "range"}
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), **(given | settings))


def quick_agent(name: str, env: HPOVectorEnv, seed: int = 0, **changes: Any) -> Any:
    agent, config = LEARNERS[name]
    return agent(config(**(QUICK[name] | changes)), Interface.of(env), seed)


def final_regret(agent: Agent, tiny: str, observation: str) -> float:
    env = environment(300, tiny, budget=15, observation=observation)
    seen, info = env.reset(seed=7)
    draws, done = generator(0, "test"), torch.zeros(300, dtype=torch.bool)
    while not bool(done.all()):
        seen, _, done, _, info = env.step(agent.act(seen, None, draws))
    return float(info["final_info"]["regret"].mean())


@pytest.mark.parametrize(("tiny", "share"), [("quadratic", 0.35), ("conditional", 0.35), ("fidelity", 0.7)])
@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_every_tiny_suite_is_solved_from_flat_observations(name, tiny, share):
    """Far below what random search reaches within the budget."""
    env = environment(32, tiny, budget=15, observation="flat")
    env.reset(seed=0)
    agent = quick_agent(name, env)
    agent.train(env, lambda steps, logs, info: False)
    random = RandomSearch(RandomSearchConfig(), agent.interface)
    assert final_regret(agent, tiny, "flat") < share * final_regret(random, tiny, "flat")


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_multi_fidelity_is_one_more_coordinate(name):
    env = environment(32, "fidelity", multi_fidelity=True)
    agent = quick_agent(name, env)
    observation, _ = env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: steps >= 1_000)
    action = agent.act(observation, None, generator(0, "test"))
    assert action.shape == (32, 3) and agent.encode(observation).shape == (32, agent.width)


def test_cross_entropy_finds_the_maximum_of_every_row():
    peaks = torch.rand(200, 3, generator=generator(0, "test"))
    # Beyond the cube in one coordinate, the best legal point lies on its face.
    peaks[:20, 0] = 1.5
    search = CrossEntropy(iterations=6, samples=64, elites=6)
    found = search.maximise(lambda at: -(at - peaks[:, None]).square().sum(2), 200, 3, generator(1, "test"))
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    distance = (found - peaks.clamp(max=1.0)).norm(dim=1)
    assert float(distance.mean()) < 0.02 and float(distance.max()) < 0.1


def test_more_iterations_of_cross_entropy_never_return_less_and_mostly_more():
    def value(at: torch.Tensor) -> torch.Tensor:
        return -(at - 0.3).abs().sum(2)

    best = [
        value(CrossEntropy(iterations, 16, 4).maximise(value, 500, 4, generator(2, "test"))[:, None]).squeeze(1)
        for iterations in (1, 2, 4)
    ]
    assert bool((best[1] >= best[0]).all()), "both begin with the same points, and the best one is kept"
    assert float(best[0].mean()) < float(best[1].mean()) < float(best[2].mean())


def test_quadratic_values_are_those_of_a_worked_example():
    network = QuadraticValues(3, 2, (8,))
    # V = 2, mu = (1/2, 3/4), L = [[1, 0], [3, 2]], so that P = [[1, 3], [3, 13]].
    logarithms = torch.tensor([3.0, 2.0]).log()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([2.0, 0.0, logarithms[0], 0.0, 3.0, logarithms[1]]))
    value, mean, lower = network.parts(torch.randn(1, 3))
    assert value.item() == 2.0
    torch.testing.assert_close(mean, torch.tensor([[0.5, 0.75]]))
    torch.testing.assert_close(lower @ lower.mT, torch.tensor([[[1.0, 3.0], [3.0, 13.0]]]))
    # a - mu = (1/2, -1/4): 1/4 - 2 * 3/8 + 13/16 = 5/16.
    torch.testing.assert_close(
        network(torch.randn(1, 3), torch.tensor([[1.0, 0.5]])), torch.tensor([2.0 - 0.5 * 5.0 / 16.0])
    )


def test_quadratic_values_have_one_maximum_and_it_is_the_proposed_action():
    # Double precision: eigenvalues of a product lose half of the digits.
    network = QuadraticValues(4, 3, (16,)).double().requires_grad_(False)
    torch.nn.init.normal_(network.head.weight, std=0.3, generator=generator(0, "test"))
    states = torch.randn(50, 4, generator=generator(1, "test")).double()
    value, mean, lower = network.parts(states)
    assert float(torch.linalg.eigvalsh(lower @ lower.mT).min()) > 1e-6
    torch.testing.assert_close(network(states, mean), value)
    for seed in range(20):
        others = torch.rand(50, 3, generator=generator(seed, "test")).double()
        assert bool((network(states, others) < value).all())


def batch_of(agent: Any, rows: int) -> Transitions:
    return Transitions(
        torch.zeros(rows, agent.width),
        torch.full((rows, agent.interface.action_dimension), 0.5),
        torch.ones(rows),
        torch.zeros(rows, agent.width),
        torch.arange(rows) % 2 == 1,
        # Two steps joined: gamma squared.
        torch.full((rows,), 0.25),
    )


def test_targets_of_qt_opt_are_the_smaller_twin_and_not_beyond_an_end():
    env = environment(4)
    for twin, expected in ((True, [1.75, 1.0]), (False, [2.25, 1.0])):
        agent = quick_agent("qt_opt", env, twin=twin)
        with torch.no_grad():
            for member, value in zip(agent.target.members, (5.0, 3.0), strict=False):
                member.head.bias.fill_(value)
            agent.network.members[0].head.bias.fill_(100.0)
        assert agent.targets(batch_of(agent, 2)).tolist() == expected


def test_double_lets_the_online_network_choose_what_the_target_values():
    def prefer(network: ActionValues, upper: bool) -> None:
        """Value 1 where the first coordinate is above 1/2 (else: below), and 0 elsewhere."""
        member = network.members[0]
        for parameter in member.parameters():
            parameter.zero_()
        member.action.weight[0, 0], member.action.weight[1, 0] = 1.0, -1.0
        member.body[0].weight.fill_(1.0)
        member.head.weight[0, 0 if upper else 1] = 1.0

    env = environment(4)
    for double, expected in ((True, 1.0), (False, 1.25)):
        agent = quick_agent("qt_opt", env, twin=False, double=double, hidden=(2,))
        with torch.no_grad():
            prefer(agent.network, upper=True)
            prefer(agent.target, upper=False)
        assert agent.targets(batch_of(agent, 1)).item() == pytest.approx(expected, abs=1e-3)


def test_targets_of_naf_are_the_value_of_the_state_and_not_beyond_an_end():
    agent = quick_agent("naf", environment(4))
    with torch.no_grad():
        agent.target.head.bias[0] = 4.0
    assert agent.targets(batch_of(agent, 2)).tolist() == [2.0, 1.0]


def test_qt_opt_values_many_actions_as_it_values_one():
    network = ActionValues(5, 3, (16, 8), 2)
    for member in network.members:
        torch.nn.init.normal_(member.head.weight, generator=generator(0, "test"))
    state, actions = (torch.rand(7, *shape, generator=generator(1, "test")) for shape in ((5,), (4, 3)))
    many = network.many(state, actions)
    for index in range(4):
        torch.testing.assert_close(many[:, index], network(state, actions[:, index])[:, 0])


def history(scores: list[list[float]], trials: int) -> dict[str, torch.Tensor]:
    """Return histories over one hyperparameter, whose ``u`` is the number of the trial in tenths."""
    rows, mask, score = len(scores), torch.zeros(len(scores), trials), torch.zeros(len(scores), trials)
    for row, values in enumerate(scores):
        mask[row, : len(values)] = 1.0
        score[row, : len(values)] = torch.tensor(values)
    u = mask * torch.arange(1, trials + 1) / 10.0
    return {
        "meta_features": torch.full((rows, 1), 9.0),
        "u": u,
        "active": mask.clone(),
        "score": score,
        "fidelity": mask * 0.5,
        "mask": mask,
        "budget_left": torch.full((rows, 1), 0.7),
    }


def test_summary_of_a_worked_example():
    shown = TrialSummary(dimension=1, meta_features=1, best=2, last=2)(history([[0.2, 0.6, 0.4], [0.3]], 5))
    torch.testing.assert_close(
        shown,
        torch.tensor(
            [
                # meta | u, active, share of the range, there: best, second | last, the one before | the whole
                [9.0, 0.2, 1, 1, 1, 0.3, 1, 0.5, 1, 0.3, 1, 0.5, 1, 0.2, 1, 1, 1, 0.6, 0.4, 0.2, 0.6, 0.7],
                [9.0, 0.1, 1, 0, 1, 0.0, 0, 0.0, 0, 0.1, 1, 0.0, 1, 0.0, 0, 0, 0, 0.3, 0.0, 0.0, 0.2, 0.7],
            ]
        ),
    )


def test_summary_of_fewer_trials_than_it_keeps_and_of_none():
    summary = TrialSummary(dimension=1, meta_features=1, best=4, last=3, fidelity=True)
    shown = summary(history([[0.5, 0.5], []], 2))
    assert shown.shape == (2, summary.width) and bool(torch.isfinite(shown).all())
    assert shown[0, 1:6].tolist() == [0.0] * 5, "nothing was evaluated in full"
    assert shown[0, 6:11].tolist() == pytest.approx([0.1, 1, 0, 1, 0.5]), "the first of equals is the best"
    assert float(shown[1, 1:-1].abs().sum()) == 0.0


def test_with_fidelities_the_summary_begins_with_the_best_full_evaluation():
    observed = history([[0.2, 0.6, 0.4], [0.3, 0.5]], 4)
    observed["fidelity"] = torch.tensor([[1.0, 0.5, 1.0, 0.0], [0.1, 0.1, 0.0, 0.0]])
    shown = TrialSummary(dimension=1, meta_features=1, fidelity=True)(observed)
    # u, active, share of the range, there, fidelity: of the incumbent, then of the best.
    assert shown[0, 1:11].tolist() == pytest.approx([0.3, 1, 0.5, 1, 1.0, 0.2, 1, 1.0, 1, 0.5])
    assert shown[1, 1:11].tolist() == pytest.approx([0.0, 0, 0.0, 0, 0.0, 0.2, 1, 1.0, 1, 0.1])


def test_summary_shows_the_same_whatever_the_budget_but_for_the_shares_of_it():
    scores = [[0.2, 0.9, 0.1]]
    short, long = (TrialSummary(1, 1)(history(scores, trials)) for trials in (4, 40))
    torch.testing.assert_close(short[:, :-3], long[:, :-3])


@pytest.mark.parametrize("observation", ["flat", "history"])
@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_meta_features_are_seen_unless_they_are_dropped_out(observation, dropout):
    env = environment(8, observation=observation)
    agent = quick_agent("naf", env, meta_feature_dropout=dropout)
    seen, _ = env.reset(seed=0)
    before = agent.encode(seen)
    if isinstance(seen, dict):
        seen["meta_features"] += 1.0
    else:
        seen = seen.clone()
        seen[:, : agent.interface.meta_features] += 1.0
    assert torch.equal(before, agent.encode(seen)) == (dropout == 1.0)


def test_meta_features_are_hidden_in_as_many_transitions_as_asked_for():
    agent = quick_agent("naf", environment(8), meta_feature_dropout=0.25)
    batch = batch_of(agent, 4_000)
    batch.observation += 1.0
    batch.following += 1.0
    agent.hide_meta_features(batch)
    width = agent.interface.meta_features
    hidden = batch.observation[:, :width].sum(1) == 0.0
    assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(hidden, batch.following[:, :width].sum(1) == 0.0), "before and after a step alike"
    assert bool((batch.observation[:, width:] == 1.0).all())


def test_exploration_is_uniform_as_often_as_it_says_and_near_else():
    exploration = ContinuousExploration(LinearSchedule(1.0, 0.2, 1_000), ConstantSchedule(0.05))
    best = torch.full((20_000, 3), 0.5)
    for step, epsilon in ((0, 1.0), (500, 0.6), (2_000, 0.2)):
        actions, explored = exploration(best, step, generator(step, "test"))
        assert float(explored.float().mean()) == pytest.approx(epsilon, abs=0.02)
        assert actions[explored].std().item() == pytest.approx(12**-0.5, abs=0.01)
        if epsilon < 1.0:
            assert actions[~explored].std().item() == pytest.approx(0.05, abs=0.003)
    corner, _ = exploration(torch.ones(500, 3), 2_000, generator(0, "test"))
    assert float(corner.max()) == 1.0


def test_the_evaluated_policy_strays_as_far_as_its_settings_say():
    env = environment(500)
    observation, _ = env.reset(seed=0)
    for noise, epsilon in ((0.0, 0.0), (0.1, 0.0), (0.0, 1.0)):
        agent = quick_agent("naf", env, evaluation_noise=noise, evaluation_epsilon=epsilon)
        deviation = float(agent.act(observation, None, generator(0, "test")).std())
        assert deviation == pytest.approx(noise if epsilon == 0.0 else 12**-0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qt_opt", {"cem_target_samples": 4, "cem_elites": 6}, "elites=6.*samples=4"),
        ("qt_opt", {"cem_iterations": 0}, "iterations=0"),
        ("naf", {"epsilon_end": 1.5}, "epsilon_end=1.5.*probability"),
        ("naf", {"noise_start": -0.1}, "noise_start=-0.1"),
        ("naf", {"evaluation_noise": float("nan")}, "evaluation_noise=nan"),
        ("naf", {"exploration_share": 0.0}, "exploration_share=0.0"),
        ("naf", {"schedule": "exponential", "noise_end": 0.0}, "greater than 0"),
        ("naf", {"best_trials": 0}, "best_trials=0"),
        ("naf", {"hidden": ()}, "hidden"),
        ("naf", {"meta_feature_dropout": 2.0}, "meta_feature_dropout=2.0"),
        ("qt_opt", {"discount": 1.5}, "discount=1.5"),
    ],
)
def test_impossible_settings_are_refused(name, changes, message):
    config = LEARNERS[name][1]
    with pytest.raises(InvalidSettingError, match=message):
        config(**changes)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().discount = 0.5


def test_settings_without_effect_and_unknown_ones_are_refused():
    with pytest.raises(UnknownNameError, match="linear"):
        NAFConfig(schedule="lineer")
    with pytest.raises(InvalidSettingError, match=r"best_trials=3.*observation=history"):
        quick_agent("naf", environment(2, observation="flat"), best_trials=3)
    with pytest.raises(InvalidSettingError, match="continuous"):
        quick_agent("naf", environment(2, action="grid_step"))
