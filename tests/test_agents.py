"""All agents on tiny environments, and the parts that agents share."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from quick_settings import CHEAP, QUICK
from spg_suites import bowl_suite

from agents.base import Agent, Interface, TrainableAgent
from agents.dqn import DQN, DQNConfig
from agents.hyp_rl_faithful import HypRLFaithful
from agents.problem import Problem, TrainingTasks
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.registry import AGENTS, find_agent, find_trainable, trainable_names
from agents.successive_halving import MultiFidelityAgent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.testing import AgentCase, TrainableAgentCase
from hpo_gym.testing.tiny import TINY_SUITES


def test_every_trained_agent_has_quick_settings():
    assert set(QUICK) == set(trainable_names())


@pytest.fixture(params=sorted(AGENTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def bowl_environment(name: str, num_envs: int) -> HPOVectorEnv:
    """Return a bowl whose centre the meta-features tell, with the actions and observations an agent prefers."""
    agent = find_agent(name).agent
    cheap = issubclass(agent, MultiFidelityAgent)
    tiny = bowl_suite if agent.required_hyperparameters else TINY_SUITES["fidelity" if cheap else "quadratic"]
    return HPOVectorEnv(
        num_envs,
        source=tiny(),
        multi_fidelity=cheap,
        split="all",
        action=agent.action_kinds[0],
        observation=agent.observation_kinds[0],
        budget=12,
        start="random",
        **suitable(agent, 5),
    )


def suitable(agent: type[Agent], levels: int) -> dict[str, Any]:
    """Return the rules that an agent learns under, and a grid that is small enough for seconds."""
    rules: dict[str, Any] = {"reward_scale": "range"}
    if agent.action_kinds[0] == "grid_choice":
        rules["levels"] = levels
    if agent is HypRLFaithful:
        rules |= {"reward": "delta", "terminate_on_repeat": True}
    return rules


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
        trainable, config = find_trainable(name), find_agent(name).config

        def make(env: HPOVectorEnv, seed: int) -> TrainableAgent:
            agent = trainable(config(**QUICK[name]), Interface.of(env), seed)
            agent.prepare(Problem.of(env))
            return agent

        return make


# What a policy is to leave of the regret of a walk; without meta-features (fidelity) it must search, and gains less.
# The bowl is in the contract.
SHARES = {"conditional": 0.35, "fidelity": 0.7}
# Agents of Stable-Baselines3 differ in its algorithm alone: of each kind (rollouts, values, actors) one plays either.
ONE_SUITE = {
    "sb3_a2c": "fidelity",
    "sb3_ppo": "conditional",
    "sb3_dqn": "conditional",
    "sb3_qrdqn": "fidelity",
    "sb3_sac": "conditional",
    "sb3_td3": "conditional",
    # A Gaussian around one action; where the best one is another on every task, and nothing says which it is, it is no
    # better than before training.
    "naf": "conditional",
    # As published it masks nothing and repeats itself when greedy (docs/agents/hyp_rl.md): it learns (the contract
    # above), and solves none of them.
    "hyp_rl_faithful": None,
}


@pytest.mark.parametrize(
    ("learner", "tiny"),
    [(n, tiny) for n in sorted(AGENTS) if AGENTS[n].agent.learns for tiny in SHARES if ONE_SUITE.get(n, tiny) == tiny],
)
def test_every_learning_agent_solves_tiny_suites(learner, tiny):
    """Far below what a random walk over grid steps reaches within the budget."""
    suite = TINY_SUITES[tiny]()

    def environment(num_envs: int, kind: type[Agent], **changes: Any) -> HPOVectorEnv:
        action, observation = kind.action_kinds[0], kind.observation_kinds[0]
        rules = suitable(kind, 5) | changes
        return HPOVectorEnv(
            num_envs,
            source=suite,
            split="all",
            action="grid_step" if kind is RandomSearch else action,
            observation=observation,
            budget=15,
            **rules,
        )

    def regret(agent: Agent) -> float:
        env = environment(300, type(agent), terminate_on_repeat=False)
        observation, info = env.reset(seed=7)
        draws, done = generator(0, "test"), torch.zeros(300, dtype=torch.bool)
        while not bool(done.all()):
            observation, _, done, _, info = env.step(agent.act(observation, info.get("action_mask"), draws))
        return float(info["final_info"]["regret"].mean())

    entry = find_agent(learner)
    env = environment(32, entry.agent)
    env.reset(seed=0)
    agent = entry.agent(entry.config(**QUICK[learner]), Interface.of(env))
    agent.prepare(Problem.of(env))
    untrained = regret(agent)
    agent = entry.agent(entry.config(**QUICK[learner]), Interface.of(env))
    agent.train(env, lambda steps, logs, info: False)
    wandering = regret(RandomSearch(RandomSearchConfig(), Interface.of(environment(1, RandomSearch))))
    assert regret(agent) < SHARES[tiny] * wandering
    # Policies of continuous actions are better than a walk before they have learned anything.
    assert regret(agent) < 0.8 * untrained


def test_every_agent_knows_the_problem_it_was_prepared_for(name):
    env, entry = bowl_environment(name, 1), find_agent(name)
    agent = entry.agent(entry.config(**CHEAP.get(name, {})), Interface.of(env))
    with pytest.raises(InvalidSettingError, match=f"{name}.*agent.prepare"):
        _ = agent.problem
    problem = Problem.of(env, TrainingTasks(env.suite, env.engine.tasks))
    agent.prepare(problem)
    assert agent.problem.space is problem.space and agent.problem.budget == 12


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
        ("exploration_share", 0.0),
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
    quick = QUICK["dqn"] | {"learning_starts": 1_000, "transitions_per_update": 16, "total_steps": 8_000}
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


def test_weights_are_drawn_without_touching_any_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched.append)
    before = torch.random.get_rng_state()
    with seeded(5):
        first = torch.rand(3)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.random.get_rng_state(), before) and not touched
