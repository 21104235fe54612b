"""DQN: its targets, what it stores, and its extensions."""

from __future__ import annotations

import copy

import pytest
import torch
from quick_settings import QUICK

from agents.base import Interface
from agents.dqn import DQN, DQNConfig
from agents.replay import Transitions
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator
from hpo_gym.testing.agent_case import assert_same
from hpo_gym.testing.tiny import TINY_SUITES


def bowl(num_envs: int, **settings: object) -> HPOVectorEnv:
    rules = {"budget": 12, "start": "random", "reward_scale": "range", **settings}
    return HPOVectorEnv(num_envs, source=TINY_SUITES["quadratic"](), split="all", **rules)


def batch_of(width: int, mask: torch.Tensor, **changes: torch.Tensor) -> Transitions:
    count = len(mask)
    parts = {
        "observation": torch.zeros(count, width),
        "action": torch.zeros(count, dtype=torch.int64),
        "reward": torch.ones(count),
        "following": torch.zeros(count, width),
        "terminated": torch.zeros(count, dtype=torch.bool),
        "discount": torch.full((count,), 0.5),
        "following_mask": mask,
    }
    return Transitions(**{**parts, **changes})


def test_targets_bootstrap_from_the_best_legal_action_and_not_beyond_an_end():
    env = bowl(4)
    for double in (True, False):
        agent = DQN(DQNConfig(double=double), Interface.of(env))
        width, actions = agent.interface.observation_width, agent.interface.num_actions
        with torch.no_grad():
            agent.network.head.bias.copy_(torch.tensor([0.0, 3.0, 2.0, 1.0]))
            agent.target.head.bias.copy_(torch.tensor([10.0, 20.0, 30.0, 40.0]))
        mask = torch.ones(4, actions, dtype=torch.bool)
        mask[1, 1] = mask[1, 3] = False
        batch = batch_of(
            width,
            mask,
            terminated=torch.tensor([False, False, True, False]),
            discount=torch.tensor([0.5, 0.5, 0.5, 0.25]),
        )
        expected = [11.0, 16.0, 1.0, 6.0] if double else [21.0, 16.0, 1.0, 11.0]
        assert agent.targets(batch).squeeze(1).tolist() == expected


def test_every_member_learns_from_its_own_future_and_its_own_transitions():
    env = bowl(4)
    config = DQNConfig(exploration="thompson", heads=2, prior_scale=0.0, double=True)
    agent = DQN(config, Interface.of(env))
    width, actions = agent.interface.observation_width, agent.interface.num_actions
    with torch.no_grad():
        agent.network.head.bias.copy_(torch.tensor([0.0, 3.0, 2.0, 1.0, 9.0, 0.0, 0.0, 0.0]))
        agent.target.head.bias.copy_(torch.tensor([10.0, 20.0, 30.0, 40.0, 2.0, 3.0, 4.0, 5.0]))
    members = torch.tensor([[True, True], [True, False], [False, False]])
    batch = batch_of(width, torch.ones(3, actions, dtype=torch.bool), members=members)
    assert agent.targets(batch).tolist() == [[11.0, 2.0]] * 3
    losses, error, _ = agent.loss(batch)
    # Errors of the taken action 0: |0 - 11| and |9 - 2|; Huber takes off one half.
    assert losses.tolist() == pytest.approx([(10.5 + 6.5) / 2, 10.5, 0.0])
    assert error.tolist() == pytest.approx([9.0, 11.0, 0.0])


def test_dqn_stores_what_the_step_led_to_and_not_the_next_episode():
    env = bowl(8, budget=3)
    agent = DQN(DQNConfig(**QUICK["dqn"] | {"learning_starts": 4_000}), Interface.of(env))
    env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: steps >= 8 * 6)
    stored = agent.replay.sample(500, generator(0, "test")).transitions
    assert bool(stored.terminated.any()) and not bool(stored.terminated.all())
    left = stored.following[:, -1]
    assert torch.equal(left <= 1e-6, stored.terminated), "budget_left is 0 exactly where the episode ended"
    meta = env.suite.meta_features.shape[1]
    assert torch.equal(stored.observation[:, :meta], stored.following[:, :meta]), "the task changed within a step"


def test_the_target_network_is_copied_when_it_is_due():
    env = bowl(16)
    config = DQNConfig(**QUICK["dqn"] | {"target_rate": 1.0, "target_interval": 5})
    agent, same = DQN(config, Interface.of(env)), []
    env.reset(seed=0)

    def callback(steps, logs, info):
        pairs = zip(agent.target.parameters(), agent.network.parameters(), strict=True)
        same.append((agent.updates, all(torch.equal(a, b) for a, b in pairs)))
        return agent.updates >= 25

    agent.train(env, callback)
    assert all(equal == (updates % 5 == 0) for updates, equal in same if updates > 0)


@pytest.mark.parametrize("dropout", [0.5, 1.0])
def test_visits_are_counted_of_what_the_bonus_looks_up(dropout, monkeypatch):
    env = bowl(8)
    agent = DQN(DQNConfig(exploration="count_ucb", meta_feature_dropout=dropout), Interface.of(env))
    observation, info = env.reset(seed=0)
    encoded, hashed, code = agent.encode(observation), [], agent.exploration.code
    monkeypatch.setattr(agent.exploration, "code", lambda rows: hashed.append(rows) or code(rows))
    agent.explore(encoded, info["action_mask"], generator(0, "test"))
    looked_up, counted = hashed
    assert bool((encoded[:, : agent.interface.meta_features] != 0.0).any())
    assert torch.equal(looked_up, counted)


EXTENSIONS = {
    "dueling": {"dueling": True},
    "multi_step": {"multi_step": 3},
    "priorities": {"priority_exponent": 0.6},
    "softmax": {"exploration": "softmax"},
    "softmax_scaled": {"exploration": "softmax_scaled"},
    "ucb": {"exploration": "ucb"},
    "count_ucb": {"exploration": "count_ucb"},
    "thompson": {"exploration": "thompson"},
    "noisy": {"exploration": "noisy"},
    "all": {
        "exploration": "thompson",
        "dueling": True,
        "multi_step": 2,
        "priority_exponent": 0.6,
        "target_rate": 1.0,
        "target_interval": 40,
    },
}


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_every_extension_goes_on_where_it_was_and_learns(extension):
    def make(seed: int) -> DQN:
        config = DQNConfig(**QUICK["dqn"] | EXTENSIONS[extension] | {"total_steps": 5_000})
        return DQN(config, Interface.of(bowl(32)), seed)

    def regret(agent: DQN) -> float:
        env = bowl(256)
        observation, info = env.reset(seed=0)
        draws, done = generator(0, "test"), torch.zeros(256, dtype=torch.bool)
        while not bool(done.all()):
            observation, _, done, _, info = env.step(agent.act(observation, info["action_mask"], draws))
        return float(info["final_info"]["regret"].mean())

    agent, env = make(0), bowl(32)
    env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: steps >= 1_500)
    saved, place = copy.deepcopy(agent.state_dict()), env.state_dict()
    agent.train(env, lambda steps, logs, info: steps >= 2_500)
    resumed, later = make(7), bowl(32)
    resumed.load_state_dict(saved)
    later.load_state_dict(place)
    resumed.train(later, lambda steps, logs, info: steps >= 2_500)
    assert_same(agent, resumed)
    agent.train(env, lambda steps, logs, info: False)
    assert regret(agent) < 0.6 * regret(make(0))
