"""Exploration policies: how often, how, and only legally."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from agents.base import Interface
from agents.dqn import DQN, DQNConfig
from agents.exploration import (
    Decision,
    EnsembleUCB,
    EpsilonGreedy,
    Exploration,
    NoisyValues,
    Softmax,
    Thompson,
    greedy,
    uniform_legal,
)
from agents.exploration_settings import EXPLORATIONS, make_exploration
from agents.networks import NoisyLinear, ValueNetwork
from agents.schedules import ConstantSchedule, ExponentialSchedule, LinearSchedule, make_schedule
from agents.visit_counts import CountUCB
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES

ROWS = 20_000


def decision(values: Tensor, mask: Tensor | None = None, step: int = 0, **more: Tensor) -> Decision:
    legal = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    return Decision(values, legal, step, torch.zeros(len(values), 3), **more)


def shares(policy: Exploration, values: list[float], mask: list[bool], step: int = 0) -> Tensor:
    """Return how often each action is chosen for one state, ``[A]``."""
    wide = torch.tensor([values]).expand(ROWS, -1)
    chosen = policy(decision(wide, torch.tensor([mask]).expand(ROWS, -1), step), generator(step, "test"))
    assert torch.equal(chosen.actions.bincount(minlength=len(values)) > 0, chosen.actions.bincount(minlength=4) > 0)
    return chosen.actions.bincount(minlength=len(values)) / ROWS


def test_schedules_move_and_then_stay():
    straight, bent = LinearSchedule(1.0, 0.1, 1_000), ExponentialSchedule(1.0, 0.01, 1_000)
    assert [straight(step) for step in (0, 500, 1_000, 9_999)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert [bent(step) for step in (0, 500, 1_000, 9_999)] == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert ConstantSchedule(0.3)(10**9) == 0.3
    with pytest.raises(InvalidSettingError, match=r"1\.0 to 0\.0 .*linear"):
        make_schedule("exponential", 1.0, 0.0, 10)
    with pytest.raises(UnknownNameError, match=r"liner.*linear"):
        make_schedule("liner", 1.0, 0.0, 10)


def test_epsilon_greedy_explores_as_often_as_it_says_and_only_legally():
    policy = EpsilonGreedy(LinearSchedule(1.0, 0.1, 1_000))
    for step, epsilon in ((0, 1.0), (500, 0.55), (5_000, 0.1)):
        counts = shares(policy, [1.0, 5.0, 3.0, 4.0], [True, False, True, True], step)
        expected = torch.tensor([epsilon / 3, 0.0, epsilon / 3, 1 - epsilon + epsilon / 3])
        torch.testing.assert_close(counts, expected, atol=0.02, rtol=0)
        choice = policy(decision(torch.zeros(ROWS, 4), step=step), generator(step, "test"))
        assert float(choice.explored.float().mean()) == pytest.approx(epsilon, abs=0.02)


def test_softmax_draws_by_the_exponentials():
    policy = Softmax(LinearSchedule(1.0, 0.5, 100))
    weights = torch.tensor([math.exp(0.0), 0.0, math.exp(1.0), math.exp(2.0)])
    counts = shares(policy, [0.0, 9.0, 1.0, 2.0], [True, False, True, True])
    torch.testing.assert_close(counts, weights / weights.sum(), atol=0.015, rtol=0)
    colder = torch.tensor([math.exp(0.0), 0.0, math.exp(2.0), math.exp(4.0)])
    counts = shares(policy, [0.0, 9.0, 1.0, 2.0], [True, False, True, True], step=100)
    torch.testing.assert_close(counts, colder / colder.sum(), atol=0.015, rtol=0)


def test_scaled_softmax_does_not_ask_how_large_the_values_are():
    policy = Softmax(ConstantSchedule(0.7), scaled=True)
    values = torch.tensor([[0.1, 0.4, -0.3, 0.2]])
    mask = torch.tensor([[True, True, False, True]])
    plain = policy.probabilities(values, mask, 0)
    for changed in (1_000.0 * values, 1e-4 * values, values + 50.0):
        torch.testing.assert_close(policy.probabilities(changed, mask, 0), plain, atol=1e-4, rtol=1e-3)
    spread = values[mask].std(correction=0)
    expected = torch.where(mask, (values / (0.7 * spread)).exp(), 0.0)
    torch.testing.assert_close(plain, expected / expected.sum())
    equal = policy.probabilities(torch.full((1, 4), 0.3), mask, 0)
    torch.testing.assert_close(equal, mask / 3.0)


def test_the_ensemble_bound_is_mean_plus_deviations():
    heads = torch.tensor([[[1.0, 0.0, 9.0], [1.0, 1.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    for factor, action in ((0.0, 0), (0.9, 0), (1.1, 1)):
        values = heads.mean(1)
        choice = EnsembleUCB(ConstantSchedule(factor))(decision(values, mask, heads=heads), generator(0, "test"))
        assert choice.actions.tolist() == [action]
        assert choice.explored.tolist() == [action == 1]


def test_thompson_follows_one_member_for_as_long_as_it_is_told():
    heads = torch.eye(4)[None].expand(ROWS, -1, -1)
    values = heads.mean(1)
    followed = torch.arange(ROWS) % 4
    chosen = Thompson()(decision(values, heads=heads, head=followed), generator(0, "test")).actions
    assert torch.equal(chosen, followed)
    free = Thompson()(decision(values, heads=heads), generator(0, "test")).actions
    assert float((free.bincount(minlength=4) / ROWS - 0.25).abs().max()) < 0.02, "one draw for all rows?"


def test_counting_prefers_what_was_seldom_done_here():
    policy = CountUCB(ConstantSchedule(1.0), width=3, num_actions=3, bits=6)
    here, there = torch.tensor([[1.0, 0.5, -2.0]]), torch.tensor([[-1.0, 0.7, 2.0]])
    policy._seen = 10**9  # no moving mean: what is here stays here
    assert policy.code(here).tolist() != policy.code(there).tolist()
    for _ in range(50):
        policy.record(here, torch.tensor([2]))
    policy.record(here, torch.tensor([1]))
    mask = torch.tensor([[True, True, True]])

    def act(observation: Tensor, values: list[float]) -> int:
        asked = Decision(torch.tensor([values]), mask, 0, observation)
        return int(policy(asked, generator(0, "test")).actions)

    assert act(here, [0.0, 0.0, 1.0]) == 0, "action 0 was never taken here"
    assert act(here, [-3.0, 0.0, 1.0]) == 1
    assert act(there, [0.0, 0.0, 1.0]) == 2, "nothing is known there, so that all bonuses are equal"
    # Worked by hand: 51 visits, 50 and 1 of them.
    bonus = [math.sqrt(math.log(52.0) / (1.0 + n)) for n in (0, 1, 50)]
    assert act(here, [bonus[1] - bonus[0] - 0.01, 0.0, -9.0]) == 1
    assert act(here, [bonus[1] - bonus[0] + 0.01, 0.0, -9.0]) == 0
    other = CountUCB(ConstantSchedule(1.0), width=3, num_actions=3, bits=6)
    other.load_state_dict(policy.state_dict())
    assert torch.equal(other.counts, policy.counts)


def test_noise_of_a_layer_is_drawn_per_row_and_has_the_variance_of_its_scales():
    with seeded(3):
        layer = NoisyLinear(5, 2, 0.5)
    row = torch.randn(1, 5, generator=generator(0, "test"))
    drawn = layer(row.expand(200_000, -1), generator(1, "test"))
    plain = layer(row)
    torch.testing.assert_close(drawn.mean(0), plain[0], atol=0.01, rtol=0)
    # f(x) = sgn(x) sqrt|x| has the second moment E|x| = sqrt(2 / pi), for inputs and outputs alike.
    moment = math.sqrt(2.0 / math.pi)
    expected = moment**2 * (layer.weight_scale.square() @ row[0].square()) + moment * layer.bias_scale.square()
    torch.testing.assert_close(drawn.var(0), expected, rtol=0.03, atol=0)


def test_noisy_values_report_what_differs_from_the_mean_network():
    values = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    choice = NoisyValues()(decision(values, perturbed=torch.tensor([[2.0, 1.0], [0.0, 1.0]])), generator(0, "test"))
    assert choice.actions.tolist() == [0, 1] and choice.explored.tolist() == [True, False]


def test_uniform_legal_and_greedy_respect_the_mask():
    mask = torch.rand(500, 6, generator=generator(0, "test")) < 0.4
    mask[:, 2] |= ~mask.any(1)
    drawn = uniform_legal(mask, generator(1, "test"))
    assert bool(mask.gather(1, drawn[:, None]).all())
    values = torch.rand(500, 6, generator=generator(2, "test")) - 2.0
    chosen = greedy(values, mask)
    assert bool(mask.gather(1, chosen[:, None]).all())
    best = values.masked_fill(~mask, -torch.inf).amax(1)
    assert torch.equal(values.gather(1, chosen[:, None]).squeeze(1), best)


@pytest.mark.parametrize("name", sorted(EXPLORATIONS))
def test_every_policy_chooses_legal_actions_in_every_row(name):
    config = DQNConfig(exploration=name)
    policy = make_exploration(config, 1_000, 3, 5, 0, torch.device("cpu"))
    draws = generator(0, "test")
    mask = torch.rand(400, 5, generator=draws) < 0.4
    mask[:, 3] |= ~mask.any(1)
    heads = torch.randn(400, config.heads, 5, generator=draws)
    asked = Decision(heads.mean(1), mask, 0, torch.randn(400, 3, generator=draws), heads=heads, perturbed=heads[:, 0])
    choice = policy(asked, draws)
    assert bool(mask.gather(1, choice.actions[:, None]).all())
    assert len(choice.actions.unique()) > 1
    assert choice.explored.shape == choice.actions.shape


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exploration": "sofmax"}, "sofmax.*softmax"),
        ({"temperature_start": 0.5}, "temperature_start=0.5 has no effect.*exploration=softmax"),
        ({"exploration": "softmax", "epsilon_end": 0.2}, "epsilon_end=0.2 has no effect.*epsilon_greedy"),
        ({"exploration": "thompson", "schedule": "exponential"}, "schedule='exponential' has no effect"),
        ({"exploration": "softmax", "temperature_end": 0.0}, "temperature_end=0.0 must be greater"),
        ({"exploration": "ucb", "heads": 1}, "heads=1 .*>= 2"),
        ({"exploration": "count_ucb", "hash_bits": 30}, "hash_bits=30 .*20"),
        ({"epsilon_start": 1.5}, r"epsilon_start=1.5 .*\[0, 1\]"),
        ({"schedule": "exponential", "epsilon_end": 0.0}, "greater than 0"),
        ({"priority_correction": 0.5}, "priority_correction=0.5 has no effect"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(settings, words):
    with pytest.raises((InvalidSettingError, UnknownNameError), match=words):
        DQNConfig(**settings)


def test_members_of_an_ensemble_begin_apart_and_a_single_network_without_preference():
    with seeded(0):
        single, several = ValueNetwork(4, 3, (8,)), ValueNetwork(4, 3, (8,), heads=5, prior=1.0)
    observation = torch.randn(6, 4, generator=generator(0, "test"))
    assert torch.equal(single(observation), torch.zeros(6, 1, 3))
    assert float(several(observation).detach().std(1).min()) > 0.0
    assert not any(p.requires_grad for name, p in several.named_parameters() if name.startswith("prior"))


def test_a_dueling_network_adds_advantages_to_a_value():
    with seeded(0):
        network = ValueNetwork(4, 3, (8,), heads=2, dueling=True)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([10.0, 1.0, 2.0, 6.0, 20.0, 0.0, 0.0, 3.0]))
    values = network(torch.zeros(1, 4))
    assert values.tolist() == [[[8.0, 9.0, 13.0], [19.0, 19.0, 22.0]]]


@pytest.mark.parametrize("name", sorted(EXPLORATIONS))
def test_the_share_of_exploration_is_logged(name):
    env = HPOVectorEnv(64, source=TINY_SUITES["quadratic"](), split="all", budget=6, start="random")
    env.reset(seed=0)
    config = DQNConfig(
        exploration=name, total_steps=3_000, learning_starts=200, batch_size=32, transitions_per_update=32, hidden=(16,)
    )
    agent, seen = DQN(config, Interface.of(env)), []

    def callback(steps, logs, info):
        seen.append(float(logs["explored"]))
        return False

    agent.train(env, callback)
    assert all(0.0 <= share <= 1.0 for share in seen)
    assert max(seen) > 0.0, "nothing was ever explored"


def test_a_row_keeps_its_member_until_its_episode_ends():
    env = HPOVectorEnv(64, source=TINY_SUITES["quadratic"](), split="all", budget=5, start="random")
    env.reset(seed=0)
    config = DQNConfig(exploration="thompson", total_steps=4_000, learning_starts=3_000, hidden=(16,))
    agent, members = DQN(config, Interface.of(env)), []

    def callback(steps, logs, info):
        members.append((agent._head.clone(), bool(info["_final_info"].any())))
        return len(members) == 12

    agent.train(env, callback)
    for (before, _), (after, ended) in itertools.pairwise(members):
        assert torch.equal(before, after) != ended
