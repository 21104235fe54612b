"""All agents on tiny environments, and the parts that agents share."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch

from agents.base import Agent, Interface
from agents.dqn import DQN, DQNConfig
from agents.exploration import EpsilonGreedy, LinearSchedule, greedy, uniform_legal
from agents.networks import seeded
from agents.problem import Problem, TrainingTasks
from agents.registry import AGENTS, find_agent, find_trainable, trainable_names
from agents.replay import ReplayBuffer, Transitions
from agents.successive_halving import MultiFidelityAgent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.testing import AgentCase, TrainableAgentCase
from hpo_gym.testing.tiny import TINY_SUITES

#: Settings with which an agent that is trained learns the tiny environments in seconds.
QUICK: dict[str, dict[str, Any]] = {
    "dqn": {
        "total_steps": 8_000,
        "hidden": (64, 64),
        "learning_starts": 500,
        "batch_size": 128,
        "transitions_per_update": 16,
        "target_rate": 0.05,
        "evaluation_epsilon": 0.0,
        "buffer_size": 8_000,
        "learning_rate": 2e-3,
        "discount": 0.9,
    },
    "random": {"total_steps": 2_000},
}


#: Settings with which the slow ones act in no time: models of SMAC and of Gaussian processes are tested by themselves.
CHEAP: dict[str, dict[str, Any]] = {
    "gp": {"startup_trials": 11},
    "portfolio_gp": {"candidates": 64},
    "smac": {"initial_share": 1.0},
}


def test_every_trained_agent_has_quick_settings():
    assert set(QUICK) == set(trainable_names())


@pytest.fixture(params=sorted(AGENTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def bowl_environment(name: str, num_envs: int) -> HPOVectorEnv:
    """Return a bowl whose centre the meta-features tell, with the actions and observations an agent prefers."""
    agent = find_agent(name).agent
    cheap = issubclass(agent, MultiFidelityAgent)
    return HPOVectorEnv(
        num_envs,
        source=TINY_SUITES["fidelity" if cheap else "quadratic"](),
        multi_fidelity=cheap,
        split="all",
        action=agent.action_kinds[0],
        observation=agent.observation_kinds[0],
        budget=12,
        start="random",
        reward_scale="range",
    )


class TestAgents(AgentCase):
    """The published contract, for every registered agent."""

    @pytest.fixture
    def make_vector_env(self, name):
        return lambda num_envs: bowl_environment(name, num_envs)

    @pytest.fixture
    def make_agent(self, name):
        entry = find_agent(name)

        def make(env: HPOVectorEnv, seed: int) -> Agent:
            agent = entry.agent(entry.config(**QUICK.get(name, CHEAP.get(name, {}))), Interface.of(env), seed)
            agent.prepare(Problem.of(env, TrainingTasks(env.suite, env.engine.tasks)))
            return agent

        return make


class TestTrainableAgents(TrainableAgentCase):
    """The published contract of those that are trained."""

    @pytest.fixture(params=trainable_names())
    def name(self, request):
        return request.param

    @pytest.fixture
    def make_vector_env(self, name):
        return lambda num_envs: bowl_environment(name, num_envs)

    @pytest.fixture
    def make_agent(self, name):
        agent, config = find_trainable(name), find_agent(name).config
        return lambda env, seed: agent(config(**QUICK[name]), Interface.of(env), seed)


# Without meta-features (fidelity) a policy must search: there is less to gain on a walk.
@pytest.mark.parametrize(("tiny", "share"), [("quadratic", 0.35), ("conditional", 0.35), ("fidelity", 0.7)])
@pytest.mark.parametrize("learner", sorted(n for n in AGENTS if AGENTS[n].agent.learns))
def test_every_learning_agent_solves_every_tiny_suite(learner, tiny, share):
    """Far below what a random walk over the same actions reaches within the budget."""
    entry = find_agent(learner)
    suite = TINY_SUITES[tiny]()
    kind = entry.agent.action_kinds[0]

    def regret(agent: Agent) -> float:
        env = HPOVectorEnv(300, source=suite, split="all", action=kind, budget=15)
        observation, info = env.reset(seed=7)
        draws, done = generator(0, "test"), torch.zeros(300, dtype=torch.bool)
        while not bool(done.all()):
            observation, _, done, _, info = env.step(agent.act(observation, info["action_mask"], draws))
        return float(info["final_info"]["regret"].mean())

    env = HPOVectorEnv(32, source=suite, split="all", action=kind, budget=15, reward_scale="range")
    env.reset(seed=0)
    agent = entry.agent(entry.config(**QUICK[learner]), Interface.of(env))
    agent.train(env, lambda steps, logs, info: False)
    walk = find_agent("random")
    wandering = regret(walk.agent(walk.config(), Interface.of(env)))
    assert regret(agent) < share * wandering


def test_configurations_are_frozen_and_checked(name):
    config = find_agent(name).config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.anything = 1
    if name in QUICK:
        with pytest.raises(InvalidSettingError, match="total_steps"):
            find_agent(name).config(total_steps=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discount", 1.5),
        ("learning_rate", 0.0),
        ("epsilon_share", 0.0),
        ("target_rate", 0.0),
        ("evaluation_epsilon", 1.5),
        ("batch_size", 0),
        ("learning_starts", -1),
        ("max_gradient_norm", float("nan")),
    ],
)
def test_dqn_names_an_impossible_setting(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        DQNConfig(**{field: value})


def test_dqn_refuses_a_training_without_a_single_update():
    quick = QUICK["dqn"] | {"learning_starts": 1_000, "transitions_per_update": 16}
    with pytest.raises(InvalidSettingError, match=r"total_steps=1015 .*learning_starts=1000 .*total_steps to 1016"):
        DQNConfig(**quick | {"total_steps": 1_015})
    env = HPOVectorEnv(8, source=TINY_SUITES["quadratic"](), split="all")
    env.reset(seed=0)
    agent = DQN(DQNConfig(**quick | {"total_steps": 1_016}), Interface.of(env))
    agent.train(env, lambda steps, logs, info: False)
    assert agent.updates == 1


@pytest.mark.parametrize(("buffer_size", "needed"), [(8_000, 500), (300, 300)])
def test_dqn_without_its_buffer_fills_it_again_before_it_goes_on(buffer_size, needed):
    config = DQNConfig(**QUICK["dqn"] | {"save_buffer": False, "buffer_size": buffer_size, "total_steps": 4_000})
    suite = TINY_SUITES["quadratic"]()

    def vector_env() -> HPOVectorEnv:
        return HPOVectorEnv(32, source=suite, split="all", budget=12)

    first, env = DQN(config, Interface.of(vector_env())), vector_env()
    env.reset(seed=0)
    first.train(env, lambda steps, logs, info: steps >= 2_000)
    before, begun = first.updates, first.steps
    resumed, later = DQN(config, first.interface), vector_env()
    resumed.load_state_dict(first.state_dict())
    later.load_state_dict(env.state_dict())
    updates: dict[int, int] = {}

    def callback(steps: int, logs: Any, info: Any) -> bool:
        updates[steps - begun] = resumed.updates - before
        return False

    resumed.train(later, callback)
    assert before > 0
    assert all(made == 0 for since, made in updates.items() if since < needed)
    pace = 32 // config.transitions_per_update
    made = list(updates.values())
    assert max(after - now for now, after in itertools.pairwise(made)) <= pace, "missed updates were made up"
    refilled = next(since for since in updates if since >= needed)
    assert made[-1] == pace * (1 + (max(updates) - refilled) // 32)


def test_an_unbroken_dqn_misses_no_update():
    agent = DQN(DQNConfig(**QUICK["dqn"] | {"buffer_size": 200, "total_steps": 1_500}), tiny_interface())
    env = HPOVectorEnv(4, source=TINY_SUITES["quadratic"](), split="all")
    env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: False)
    assert agent.updates == (agent.steps - 500) // 16


def tiny_interface(**changes: Any) -> Interface:
    return Interface.of(HPOVectorEnv(1, source=TINY_SUITES["quadratic"](), split="all", **changes))


def test_an_interface_knows_metric_and_levels():
    default = tiny_interface()
    assert default.metric == TINY_SUITES["quadratic"]().spec.metric
    default.require_same(tiny_interface(levels=10))
    for other in (tiny_interface(levels=7), dataclasses.replace(default, metric="another")):
        with pytest.raises(InvalidSettingError, match="levels" if other.metric == default.metric else "metric"):
            default.require_same(other)
    default.require_same(dataclasses.replace(default, space="the same from another source"))
    assert tiny_interface(action="continuous").levels == ()
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(default).items()}
    assert Interface.from_mapping(plain) == default


def test_an_unknown_agent_gets_the_closest_name():
    with pytest.raises(UnknownNameError, match="'dqn'"):
        find_agent("dqnn")


def test_dqn_refuses_what_it_cannot_use():
    suite = TINY_SUITES["quadratic"]()
    for wrong in ({"action": "continuous"}, {"observation": "history"}):
        env = HPOVectorEnv(1, source=suite, split="all", **wrong)
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            DQN(DQNConfig(), Interface.of(env))


def test_an_agent_refuses_another_environment():
    one, other = (HPOVectorEnv(4, source=TINY_SUITES[n](), split="all") for n in ("quadratic", "conditional"))
    agent = DQN(DQNConfig(**QUICK["dqn"]), Interface.of(one))
    other.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="hyperparameters"):
        agent.train(other, lambda steps, logs, info: False)


def transitions(count: int, first: int = 0) -> Transitions:
    number = torch.arange(first, first + count)
    return Transitions(
        observation=number[:, None].float().expand(-1, 3).clone(),
        action=number % 4,
        reward=number.float(),
        following=number[:, None].float().expand(-1, 3) + 0.5,
        terminated=number % 2 == 0,
        following_mask=torch.ones(count, 4, dtype=torch.bool),
    )


def test_replay_keeps_the_newest_transitions_row_by_row():
    buffer = ReplayBuffer(10, 3, 4)
    for first in range(0, 21, 7):
        buffer.append(transitions(7, first))
    drawn = buffer.sample(2_000, generator(0, "test"))
    assert set(drawn.reward.int().tolist()) == set(range(11, 21))
    assert torch.equal(drawn.following[:, 0], drawn.observation[:, 0] + 0.5)
    assert torch.equal(drawn.action, drawn.reward.long() % 4)
    counts = torch.bincount(drawn.reward.long(), minlength=21)[11:]
    assert int(counts.min()) > 140, "sampling is far from uniform"


def test_replay_accepts_a_batch_larger_than_itself_and_refuses_to_sample_nothing():
    buffer = ReplayBuffer(5, 3, 4)
    with pytest.raises(InvalidSettingError, match="empty"):
        buffer.sample(1, generator(0, "test"))
    buffer.append(transitions(12))
    assert set(buffer.sample(200, generator(0, "test")).reward.int().tolist()) == {7, 8, 9, 10, 11}


def test_replay_state_goes_on_where_it_was():
    first, second = ReplayBuffer(10, 3, 4), ReplayBuffer(10, 3, 4)
    first.append(transitions(7))
    second.load_state_dict(first.state_dict())
    for buffer in (first, second):
        buffer.append(transitions(7, 7))
    drawn = [buffer.sample(50, generator(1, "test")).reward for buffer in (first, second)]
    assert torch.equal(drawn[0], drawn[1])


def test_epsilon_greedy_explores_as_often_as_it_says_and_only_legally():
    policy = EpsilonGreedy(LinearSchedule(1.0, 0.1, 1_000))
    values = torch.tensor([[1.0, 5.0, 3.0, 4.0]]).expand(20_000, -1)
    mask = torch.tensor([[True, False, True, True]]).expand(20_000, -1)
    for step, epsilon in ((0, 1.0), (500, 0.55), (5_000, 0.1)):
        choice = policy(values, mask, step, generator(step, "test"))
        assert float(choice.explored.float().mean()) == pytest.approx(epsilon, abs=0.02)
        counts = torch.bincount(choice.actions, minlength=4) / 20_000
        expected = torch.tensor([epsilon / 3, 0.0, epsilon / 3, 1 - epsilon + epsilon / 3])
        torch.testing.assert_close(counts, expected, atol=0.02, rtol=0)
    with pytest.raises(InvalidSettingError, match="epsilon_end"):
        EpsilonGreedy(LinearSchedule(1.0, -0.1, 10))


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


def test_targets_bootstrap_from_the_best_legal_action_and_not_beyond_an_end():
    suite = TINY_SUITES["quadratic"]()
    env = HPOVectorEnv(4, source=suite, split="all")
    for double in (True, False):
        agent = DQN(DQNConfig(double=double, discount=0.5), Interface.of(env))
        width, actions = agent.interface.observation_width, agent.interface.num_actions
        with torch.no_grad():
            agent.network.head.bias.copy_(torch.tensor([0.0, 3.0, 2.0, 1.0]))
            agent.target.head.bias.copy_(torch.tensor([10.0, 20.0, 30.0, 40.0]))
        mask = torch.ones(3, actions, dtype=torch.bool)
        mask[1, 1] = mask[1, 3] = False
        batch = Transitions(
            torch.zeros(3, width),
            torch.zeros(3, dtype=torch.int64),
            torch.tensor([1.0, 1.0, 1.0]),
            torch.zeros(3, width),
            torch.tensor([False, False, True]),
            mask,
        )
        expected = [11.0, 16.0, 1.0] if double else [21.0, 16.0, 1.0]
        assert agent.targets(batch).tolist() == expected


def test_dqn_stores_what_the_step_led_to_and_not_the_next_episode():
    suite = TINY_SUITES["quadratic"]()
    env = HPOVectorEnv(8, source=suite, split="all", budget=3, start="random")
    agent = DQN(DQNConfig(**QUICK["dqn"] | {"learning_starts": 7_000}), Interface.of(env))
    env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: steps >= 8 * 6)
    stored = agent.replay.sample(500, generator(0, "test"))
    assert bool(stored.terminated.any()) and not bool(stored.terminated.all())
    left = stored.following[:, -1]
    assert torch.equal(left <= 1e-6, stored.terminated), "budget_left is 0 exactly where the episode ended"
    meta = suite.meta_features.shape[1]
    assert torch.equal(stored.observation[:, :meta], stored.following[:, :meta]), "the task changed within a step"


def test_initial_weights_come_from_their_own_stream():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with seeded(5):
        first = torch.nn.Linear(3, 3).weight
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(123)
    with seeded(5):
        second = torch.nn.Linear(3, 3).weight
    assert torch.equal(first, second)
