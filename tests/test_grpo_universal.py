"""The GRPO-Transformer of any search space."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from grpo_cases import environment, histories, with_later_trials

from agents.base import Interface
from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import run_training
from agents.grpo_universal import UniversalGRPO, UniversalGRPOConfig
from agents.hyperparameter_tokens import HyperparameterTokens
from agents.problem import Problem
from agents.trial_tokens import TrialHistory
from agents.universal_network import UniversalNetwork
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import SuiteSpec, TaskSuite
from hpo_gym.testing.tiny import BowlSurrogate

SMALL = {"group_size": 4, "width": 16, "layers": 2, "heads": 2, "bins": 6, "proposals": 1}
LAYOUT = HyperparameterTokens()


def a_network() -> UniversalNetwork:
    """Return a network whose distributions are far from uniform, and depend on everything."""
    with seeded(3):
        network = UniversalNetwork(LAYOUT.width, 6, 16, 2, 2)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.4)
    return network


def an_agent(env: HPOVectorEnv, seed: int = 0, **settings: Any) -> UniversalGRPO:
    agent = UniversalGRPO(UniversalGRPOConfig(**SMALL | settings), Interface.of(env), seed)
    agent.prepare(Problem.of(env))
    return agent


def synthetic(space: str = "bbob-3d", num_envs: int = 16, **changes: Any) -> HPOVectorEnv:
    rules = {"budget": 6, "reward": "log_regret", "action": "continuous", "observation": "history"} | changes
    env = HPOVectorEnv(num_envs, "synthetic", space, **rules)
    env.reset(seed=0)
    return env


def permuted(history: TrialHistory, order: torch.Tensor) -> TrialHistory:
    trials = dataclasses.replace(
        history.trials, u=history.trials.u[:, :, order], active=history.trials.active[:, :, order]
    )
    return dataclasses.replace(
        history, trials=trials, levels=history.levels[order], descriptors=history.descriptors[:, order]
    )


def test_a_token_knows_nothing_of_later_trials():
    history = histories()[-1]
    length = int(history.count[0]) + 1
    tokens = LAYOUT.read(history, 0, length)
    for first in range(1, length):
        changed = LAYOUT.read(with_later_trials(history, first), 0, length)
        assert torch.equal(tokens[:, : first + 1], changed[:, : first + 1])
        assert torch.equal(LAYOUT.read(history, first, first + 1), tokens[:, first : first + 1])


def test_the_order_of_hyperparameters_means_nothing():
    history = histories()[-1]
    order = torch.tensor([3, 0, 4, 2, 1])
    network = a_network()
    length = int(history.count[0]) + 1
    logs = []
    for shown in (history, permuted(history, order)):
        hidden = network.read(LAYOUT.read(shown, 0, length))[:, -1]
        logs.append(network.log_probabilities(hidden, torch.empty(0), network.allowed(shown.levels)))
    assert torch.allclose(logs[0][:, order], logs[1], atol=1e-4)
    assert not torch.allclose(logs[0], logs[1], atol=0.1)


def test_reading_trial_by_trial_is_reading_at_once():
    history, network = histories()[-1], a_network()
    length = int(history.count[0]) + 1
    tokens = LAYOUT.read(history, 0, length)
    cache = network.cache(tokens, length)
    steps = [network.read(tokens[:, step : step + 1], cache) for step in range(length)]
    assert torch.allclose(torch.cat(steps, 1), network.read(tokens), atol=1e-4)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.5, 0.25), (0.1, 0.4)])
def test_the_offset_of_scores_means_nothing_and_their_scale_little_but_the_gap_in_decades(scale, offset):
    history = histories()[-1]
    trials = dataclasses.replace(history.trials, score=scale * history.trials.score + offset)
    shifted = dataclasses.replace(history, trials=trials)
    length = int(history.count[0]) + 1
    plain, other = (LAYOUT.read(shown, 0, length) for shown in (history, shifted))
    difference = (plain - other).abs().flatten(0, -2).amax(0)
    decades = -math.log10(scale) / 5.0
    assert float(difference.max()) == pytest.approx(decades, abs=1e-3)
    # Deviations are relative, but where the scores of an episode hardly differ.
    others = difference.sort().values[:-1]
    assert float(others.max()) <= decades / 2.0 + 1e-6 and int((others > 1e-3).sum()) <= 2


def test_a_choice_is_drawn_to_the_incumbents_and_not_to_its_neighbours():
    network = a_network()
    with torch.no_grad():
        network.pull.weight.zero_()
        network.pull.bias.fill_(5.0)
        for head in (network.numbers, network.choices):
            head.weight.zero_()
            head.bias.zero_()
    # Incumbent in the middle of bin 2 of 5; hyperparameter 0 is a number, 1 a choice.
    hidden = torch.cat([torch.zeros(1, 2, 16), torch.full((1, 2, 1), 0.5), torch.tensor([[[0.0], [1.0]]])], 2)
    allowed = network.allowed(torch.tensor([5.0, 5.0]))
    number, choice = network.log_probabilities(hidden, torch.empty(0), allowed)[0].detach().exp()[:, :5]
    assert int(number.argmax()) == int(choice.argmax()) == 2
    assert float(number[1]) > 1.2 * float(number[0])
    assert torch.allclose(choice[[0, 1, 3, 4]], choice[0], atol=1e-6)


@pytest.mark.parametrize("proposals", [1, 4])
def test_one_policy_acts_in_every_space(proposals):
    agent = an_agent(environment(), proposals=proposals)
    for env in (environment("conditional"), synthetic("bbob-7d"), synthetic("mixed-4d")):
        agent.prepare(Problem.of(env))
        observation, _ = env.reset(seed=1)
        for _ in range(3):
            action = agent.act(observation, None, generator(0, "test"))
            assert action.shape == (env.num_envs, len(env.suite.space.names))
            observation, *_ = env.step(action)


@pytest.mark.parametrize("proposals", [1, 4])
def test_it_plays_and_trains_in_a_space_of_38_hyperparameters_with_conditions(data_folder, proposals):
    space = SearchSpace.from_json(data_folder / "yahpo" / "rbv2_super" / "config_space.json")
    centres = torch.rand(3, space.dimension, generator=generator(0, "centres"))
    metrics = SuiteSpec("bowls", "test", "error", tuple(TaskRef("synthetic", f"bowl-{index}") for index in range(3)))
    suite = TaskSuite(metrics, space, BowlSurrogate(centres), torch.zeros(3, 0))
    rules = {"budget": 5, "reward": "score", "reward_scale": "none", "action": "continuous", "observation": "history"}
    env = HPOVectorEnv(16, source=suite, split="all", **rules)
    assert space.dimension >= 38 and any(clauses for clauses in space.spec.conditions.values())
    agent = an_agent(env, proposals=proposals, total_steps=16 * 4 * 2)
    env.reset(seed=0)
    before = {name: value.clone() for name, value in agent.network.state_dict().items()}
    agent.train(env, lambda steps, logs, info: False)
    assert agent.steps == 16 * 4 * 2
    assert any(not torch.equal(before[name], value) for name, value in agent.network.state_dict().items())
    observation, _ = env.reset(seed=1)
    for _ in range(3):
        action = agent.act(observation, None, generator(0, "test"))
        assert action.shape == (16, space.dimension) and bool(action.isfinite().all())
        observation, *_ = env.step(action)


@pytest.mark.slow
def test_training_plays_all_spaces_and_goes_on_in_whichever_it_was_bit_by_bit():
    settings = {"total_steps": 16 * 5 * 6, "spaces": ("bbob-2d", "mixed-4d"), "churn_weight": 0.5}
    played: set[int] = set()

    def trained(stop: int | None) -> UniversalGRPO:
        env, agent = synthetic(), None
        env.reset(seed=3)
        agent = an_agent(env, **settings)

        def callback(steps: int, logs: Any, info: Any) -> bool:
            played.add(agent._playing)
            return stop is not None and steps >= stop

        agent.train(env, callback)
        if stop is None:
            return agent
        saved, left = agent.state_dict(), env.state_dict()
        env, agent = synthetic(), None
        agent = an_agent(env, seed=9, **settings)
        agent.load_state_dict(saved)
        env.load_state_dict(left)
        agent.train(env, lambda steps, logs, info: False)
        return agent

    whole = trained(None)
    assert played == {0, 1, 2}
    for stop in (16 * 5 * 2, 16 * 5 * 3 + 32, 16 * 5 * 4 + 48):
        continued = trained(stop)
        for name, value in whole.network.state_dict().items():
            assert torch.equal(value, continued.network.state_dict()[name]), (stop, name)


def test_some_groups_see_kinds_and_nothing_else_of_hyperparameters():
    env = synthetic("mixed-5d")
    observation = env.observe()[0]
    agent = an_agent(env, hidden_descriptors=0.5)
    seen = agent.shown(observation, env).descriptors
    full = TrialHistory.of(observation).descriptors
    assert torch.equal(seen[8:], full[8:])
    assert torch.equal(seen[:8, :, :5], full[:8, :, :5])
    assert float(seen[:8, :, 5:].abs().sum()) == 0.0 < float(full[:8, :, 5:].abs().sum())


def test_other_spaces_are_played_by_the_rules_of_the_environment():
    rules = {"protocol": "per-space", "max_tasks": 5, "tasks_seed": 3, "budget": 6}
    env = HPOVectorEnv(16, "bundled", "rpart", action="continuous", observation="history", **rules)
    (_, other) = an_agent(env, spaces=("xgboost",)).environments(env)
    alone = HPOVectorEnv(16, "bundled", "xgboost", action="continuous", observation="history", **rules)
    assert other.engine.protocol == "per-space"
    assert other.engine.tasks.tolist() == alone.engine.tasks.tolist() and len(other.engine.tasks) == 5


def test_a_policy_is_not_chosen_by_what_another_space_trains_on(tmp_path):
    agent = UniversalGRPOConfig(**SMALL, total_steps=96, spaces=("xgboost",), hidden_descriptors=0.5)
    env = EnvironmentConfig(space="rpart", num_envs=16, budget=6, protocol="per-space")
    config = ExperimentConfig(agent=agent, env=env, runs=str(tmp_path), name="leaks", validation_seeds=1)
    with pytest.raises(
        InvalidSettingError, match=r"validation dataset\(s\) are trained on in another .*validate_every=0"
    ):
        run_training(config)
    assert not (tmp_path / "leaks").exists()
    assert run_training(dataclasses.replace(config, validate_every=0)).finished


def test_impossible_settings_are_refused():
    env, few = synthetic(), synthetic(num_envs=4)
    with pytest.raises(InvalidSettingError, match=r"hidden_descriptors=0\.25 of 1 group.*env\.num_envs to 16"):
        an_agent(few, hidden_descriptors=0.25).train(few, lambda *_: True)
    with pytest.raises(InvalidSettingError, match=r"candidates=9 has no effect with proposals=1\."):
        UniversalGRPOConfig(proposals=1, candidates=9)
    with pytest.raises(InvalidSettingError, match=r"hidden_descriptors=2\.0"):
        UniversalGRPOConfig(hidden_descriptors=2.0)
    with pytest.raises(InvalidSettingError, match="names a space twice"):
        UniversalGRPOConfig(spaces=("rpart", "rpart"))
    with pytest.raises(InvalidSettingError, match="environment's own"):
        an_agent(env, spaces=("bbob-3d",)).train(env, lambda *_: False)
    with pytest.raises(UnknownNameError, match="rpart"):
        an_agent(env, spaces=("rpar",)).train(env, lambda *_: False)
