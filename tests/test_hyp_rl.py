"""Hyp-RL against worked examples: state layout, network, learning rules, episodes; the masks of the improved mode."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import QUICK

from agents.base import Agent, Interface
from agents.episode_states import CompactStates, PublishedStates
from agents.hyp_rl import HypRL, HypRLConfig
from agents.hyp_rl_faithful import HypRLFaithful, HypRLFaithfulConfig
from agents.recurrent import RecurrentValueNetwork
from agents.replay import Transitions
from agents.tensorflow_rmsprop import TensorFlowRMSprop
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES

CONFIG = {HypRL: HypRLConfig, HypRLFaithful: HypRLFaithfulConfig}
#: What the faithful mode asks of an environment.
PUBLISHED = {"reward": "delta", "terminate_on_repeat": True}


def tiny(num_envs: int = 1, suite: str = "quadratic", **settings: Any) -> HPOVectorEnv:
    chosen = {"split": "all", "action": "grid_choice", "observation": "history", "levels": 5, "budget": 12, **settings}
    return HPOVectorEnv(num_envs, source=TINY_SUITES[suite](), **chosen)


def make(agent: type[Agent], env: HPOVectorEnv, seed: int = 0, **settings: Any) -> Any:
    return agent(CONFIG[agent](**{**QUICK[agent.name], **settings}), Interface.of(env), seed)


def example() -> dict[str, torch.Tensor]:
    """Two episodes over two hyperparameters with three trials at most and two meta-features."""
    return {
        "meta_features": torch.tensor([[0.5, -1.0], [2.0, 3.0]]),
        "u": torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0, 0.0], [0.0] * 6]),
        "active": torch.ones(2, 6),
        "score": torch.tensor([[0.7, 0.8, 0.0], [0.0] * 3]),
        "fidelity": torch.ones(2, 3),
        "mask": torch.tensor([[1.0, 1.0, 0.0], [0.0] * 3]),
        "budget_left": torch.tensor([[1 / 3], [1.0]]),
    }


def test_the_published_state_matrix_row_by_row():
    states, nan = PublishedStates(2, 2), float("nan")
    rows = states.encode(example())
    expected = torch.tensor(
        [
            [
                [nan, nan, nan, 0.5, -1.0],
                [0.1, 0.2, 0.7, 0.5, -1.0],
                [0.3, 0.4, 0.8, 0.5, -1.0],
                [0.0, 0.0, 0.0, 0.0, 0.0],
                [0.0, 0.0, 0.0, 0.0, 0.0],
            ],
            [[nan, nan, nan, 2.0, 3.0], *[[0.0] * 5] * 4],
        ]
    )
    torch.testing.assert_close(states.matrix(rows), expected, equal_nan=True, rtol=0, atol=0)
    assert rows[:, 0].tolist() == [2.0, 0.0]


def test_the_published_sizes_of_the_state():
    # nnMeta: 13 hyperparameter columns, 16 meta-features, 48 trials -> 50 x 30; svmMeta: 6 and 3 -> 50 x 10.
    for dimension, meta_features, columns in ((13, 16, 30), (6, 3, 10)):
        states = PublishedStates(dimension, meta_features)
        observation = {"meta_features": torch.ones(1, meta_features), "u": torch.zeros(1, 48 * dimension)}
        observation |= {"score": torch.zeros(1, 48), "mask": torch.zeros(1, 48)}
        assert states.matrix(states.encode(observation)).shape == (1, 50, columns)


@pytest.mark.parametrize("layout", [CompactStates, PublishedStates])
def test_layouts_read_back_what_they_hold_and_can_hide_the_meta_features(layout):
    states = layout(2, 2)
    rows = states.encode(example())
    read = states.read(rows)
    assert read.length.tolist() == [2, 0]
    torch.testing.assert_close(read.meta_features, example()["meta_features"])
    torch.testing.assert_close(read.trials[0], torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.4, 0.8], [0.0, 0.0, 0.0]]))
    assert not bool(read.trials[1].any())
    before = rows.clone()
    hidden = states.read(states.with_meta_features(rows, torch.tensor([[True], [False]])))
    assert hidden.meta_features.tolist() == [[0.5, -1.0], [0.0, 0.0]]
    assert torch.equal(hidden.trials, read.trials)
    torch.testing.assert_close(rows, before, equal_nan=True, rtol=0, atol=0)


def numpy_values(network: RecurrentValueNetwork, meta: np.ndarray, trials: np.ndarray, length: int) -> np.ndarray:
    """Return the action values of one history, written from the description alone."""
    weights = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-x))

    hidden = weights["body.start.weight"] @ meta
    cell = np.zeros_like(hidden)
    for step in range(length + 1):
        row = np.zeros(trials.shape[1]) if step == 0 else trials[step - 1]
        gates = weights["body.lstm.weight_ih_l0"] @ row + weights["body.lstm.weight_hh_l0"] @ hidden
        gates = gates + weights["body.lstm.bias_ih_l0"] + weights["body.lstm.bias_hh_l0"]
        into, forget, candidate, out = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(candidate)
        hidden = sigmoid(out) * np.tanh(cell)
    for layer in ("hidden.0", "hidden.2"):
        hidden = np.tanh(weights[f"{layer}.weight"] @ hidden + weights[f"{layer}.bias"])
    return weights["head.weight"] @ hidden + weights["head.bias"]


@pytest.mark.parametrize("layout", [CompactStates, PublishedStates])
def test_the_network_computes_what_is_described(layout):
    states = layout(2, 2)
    draws = generator(0, "test")
    network = RecurrentValueNetwork(states, 7, 32, (32, 128))
    for parameter in network.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draws))
    rows = states.encode(example())
    read = states.read(rows)
    values = network(rows)
    assert values.shape == (2, 1, 7)
    for row in range(2):
        meta, trials = read.meta_features[row].double().numpy(), read.trials[row].double().numpy()
        expected = numpy_values(network, meta, trials, int(read.length[row]))
        np.testing.assert_allclose(values[row, 0].detach().numpy(), expected, atol=1e-5)


def test_the_initial_weights_are_as_described():
    env = tiny(**PUBLISHED)
    agent = HypRLFaithful(HypRLFaithfulConfig(), Interface.of(env))
    lstm = agent.network.body.lstm
    assert lstm.hidden_size == 32 and lstm.input_size == 3 and agent.network.body.start.bias is None
    for gate in lstm.weight_hh_l0.detach().split(32):
        torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)
    for gate in lstm.weight_ih_l0.detach().split(32):
        torch.testing.assert_close(gate.T @ gate, torch.eye(3), atol=1e-5, rtol=0)
    widths = [layer.out_features for layer in agent.network.hidden if isinstance(layer, torch.nn.Linear)]
    assert widths == [32, 128] and agent.network.head.out_features == 25
    assert float(agent.network.head.weight.detach().std()) > 0.0


def test_an_earlier_state_is_a_later_row_with_a_smaller_count():
    env = tiny(16)
    agent = make(HypRL, env)
    agent.network.head.weight.data.normal_(generator=generator(0, "test"))
    observation, _ = env.reset(seed=0)
    early = agent.encode(observation)
    draws = generator(1, "test")
    for _ in range(4):
        actions = torch.randint(25, (16,), generator=draws)
        observation = env.step(actions)[0]
    late = agent.encode(observation)
    batch = Transitions(early[:, :1], actions, torch.zeros(16), late, torch.zeros(16).bool(), torch.ones(16))
    agent.augment(batch)
    assert not torch.equal(batch.observation, early)
    torch.testing.assert_close(agent.network(batch.observation), agent.network(early))
    assert not torch.allclose(agent.network(late), agent.network(early))


@pytest.mark.parametrize("start", ["none", "default"])
def test_reward_and_end_of_an_episode_as_published(start):
    """The reward is the positive part of the change from the trial before; choosing an action again ends it."""
    env = tiny(1, start=start, **PUBLISHED)
    env.reset(seed=0, options={"task_index": 0})
    x, y = env.suite.surrogate.centres[0].tolist()
    # Action 5 i + j is the configuration (i / 4, j / 4), of error 50 % times the squared distance to the centre.
    trials = ((0, 0), (1, 3), (4, 4), (2, 3), (1, 3))
    score = [1.0 - 0.5 * ((i / 4 - x) ** 2 + (j / 4 - y) ** 2) for i, j in trials]
    # Before the first trial there is no score, which counts as 0; the default is the middle.
    before = 0.0 if start == "none" else 1.0 - 0.5 * ((0.5 - x) ** 2 + (0.5 - y) ** 2)
    rewards, ended = [], []
    for i, j in trials:
        _, reward, terminated, _, _ = env.step(torch.tensor([5 * i + j]))
        rewards.append(float(reward))
        ended.append(bool(terminated))
    assert rewards == pytest.approx([max(0.0, a - b) for b, a in itertools.pairwise([before, *score])], abs=1e-6)
    # Not the gain over the incumbent: coming back from a bad configuration is rewarded once more.
    again = [gain for at, gain in enumerate(rewards) if at > 0 and score[at] <= max(score[:at])]
    assert max(again) > 0.01
    assert ended == [False, False, False, False, True]


def test_an_episode_as_published_has_48_trials():
    env = tiny(1, budget=48, levels=8, start="none", **PUBLISHED)
    env.reset(seed=0)
    ended = [bool(env.step(torch.tensor([action]))[2]) for action in range(48)]
    assert ended == [False] * 47 + [True]


@pytest.mark.parametrize("wrong", [{"reward": "improvement"}, {"terminate_on_repeat": False}])
def test_faithful_mode_refuses_another_reward_or_end(wrong):
    env = tiny(1, **{**PUBLISHED, **wrong})
    env.reset(seed=0)
    remedy = r"env\.reward=delta env\.terminate_on_repeat=true env\.action=grid_choice env\.observation=history"
    with pytest.raises(InvalidSettingError, match=remedy):
        make(HypRLFaithful, env).train(env, lambda steps, logs, info: True)


@pytest.mark.parametrize("agent", [HypRL, HypRLFaithful])
def test_only_configurations_can_be_chosen(agent):
    env = tiny(1, "fidelity", multi_fidelity=True, **PUBLISHED)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"env\.multi_fidelity=false"):
        make(agent, env).train(env, lambda steps, logs, info: True)
    with pytest.raises(InvalidSettingError, match=r"env\.observation=history"):
        make(agent, tiny(1, observation="flat"))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (HypRLConfig, "exploration", "count_ucb"),
        (HypRLConfig, "cells", 0),
        (HypRLConfig, "hidden", ()),
        (HypRLConfig, "meta_feature_dropout", 1.5),
        (HypRLFaithfulConfig, "exploration", "softmax"),
        (HypRLFaithfulConfig, "weight_decay", 0.01),
        (HypRLFaithfulConfig, "momentum", 1.0),
        (HypRLFaithfulConfig, "epsilon", 0.0),
    ],
)
def test_impossible_settings_are_named(config, field, value):
    with pytest.raises(InvalidSettingError, match=field):
        config(**{field: value})


def test_published_settings():
    config = HypRLFaithfulConfig(total_steps=1_000_000)
    assert (config.buffer_size, config.learning_starts, config.batch_size) == (100, 100, 32)
    assert (config.learning_rate, config.momentum, config.epsilon) == (1e-3, 0.95, 0.01)
    assert (config.discount, config.max_gradient_norm, config.double, config.dueling) == (0.99, 10.0, True, False)
    agent = HypRLFaithful(config, Interface.of(tiny(**PUBLISHED)))
    epsilon = [agent.exploration.describe(step)["epsilon"] for step in (0, 50_000, 100_000, 900_000)]
    assert epsilon == pytest.approx([1.0, 0.505, 0.01, 0.01])


def test_rmsprop_of_tensorflow_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = TensorFlowRMSprop([weight], 0.1, decay=0.9, momentum=0.5, epsilon=0.01)
    square, momentum, expected = np.ones(2), np.zeros(2), np.array([1.0, -2.0])
    for rate, gradient in ((0.1, np.array([3.0, 0.5])), (0.05, np.array([-1.0, 0.0]))):
        optimizer.param_groups[0]["lr"] = rate
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.5 * momentum + rate * gradient / np.sqrt(square + 0.01)
        expected = expected - momentum
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)
    assert expected[0] == pytest.approx(1.0 - 0.1 * 3.0 / np.sqrt(1.81) - momentum[0])


def test_gradients_are_clipped_variable_by_variable():
    agent = make(HypRLFaithful, tiny(**PUBLISHED))
    parameters = [parameter for parameter in agent.network.parameters() if parameter.requires_grad]
    for index, parameter in enumerate(parameters):
        parameter.grad = torch.zeros_like(parameter)
        parameter.grad.view(-1)[0] = 4.0 + 20.0 * (index % 2)
    total = agent.clip_gradients()
    norms = [float(parameter.grad.norm()) for parameter in parameters]
    assert norms == pytest.approx([4.0 if index % 2 == 0 else 10.0 for index in range(len(parameters))])
    even, odd = (len(parameters) + 1) // 2, len(parameters) // 2
    assert float(total) == pytest.approx((16.0 * even + 576.0 * odd) ** 0.5)


def test_one_update_per_step_after_100_and_a_copy_every_10():
    env = tiny(1, **PUBLISHED)
    env.reset(seed=0)
    agent = HypRLFaithful(HypRLFaithfulConfig(), Interface.of(env))
    copied, updates = [], []

    def callback(steps: int, logs: Any, info: Any) -> bool:
        updates.append(agent.updates)
        pairs = zip(agent.network.parameters(), agent.target.parameters(), strict=True)
        copied.append(all(torch.equal(mine, theirs) for mine, theirs in pairs))
        return steps >= 135

    agent.train(env, callback)
    assert updates == [max(0, step - 100) for step in range(1, 136)]
    changed = [step for step in range(101, 136) if copied[step - 1]]
    assert changed == [110, 120, 130]
    assert agent.replay.size == 100 == agent.replay.capacity
    assert agent.optimizer.param_groups[0]["lr"] == 1e-3


def test_double_targets_are_masked_by_what_was_tried():
    """Four actions on a 2 x 2 grid, of which the episode has tried action 1 = (0, 1)."""
    env = tiny(1, levels=2)
    env.reset(seed=0)
    row = {
        "meta_features": torch.zeros(1, 2),
        "u": torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
        "score": torch.tensor([[0.5, 0.0]]),
        "mask": torch.tensor([[1.0, 0.0]]),
    }
    expected = {HypRL: [31.0, 1.0], HypRLFaithful: [11.0, 1.0]}
    for learner, targets in expected.items():
        env = tiny(1, levels=2, **(PUBLISHED if learner is HypRLFaithful else {}))
        env.reset(seed=0)
        agent = make(learner, env, discount=0.5)
        agent.train(env, lambda steps, logs, info: True)
        for network, values in ((agent.network, [0.0, 9.0, 2.0, 8.0]), (agent.target, [10.0, 20.0, 30.0, 60.0])):
            torch.nn.init.zeros_(network.head.weight)
            network.head.bias.data.copy_(torch.tensor(values))
        encoded = agent.encode(row).expand(2, -1)
        half = torch.full((2,), 0.5)
        ended = torch.tensor([False, True])
        batch = Transitions(encoded, torch.zeros(2, dtype=torch.int64), torch.ones(2), encoded, ended, half)
        assert agent.targets(batch).flatten().tolist() == targets


@pytest.mark.parametrize("explore", [True, False])
def test_no_configuration_is_tried_twice_until_all_were(explore):
    env = tiny(32, budget=16, levels=3, start="none")
    env.reset(seed=0)
    agent = make(HypRL, env, total_steps=600)
    agent.train(env, lambda steps, logs, info: False)
    play = tiny(32, budget=16, levels=3, start="none")
    observation, info = play.reset(seed=1)
    draws, actions = generator(0, "test"), []
    for _ in range(16):
        actions.append(agent.act(observation, info["action_mask"], draws, explore=explore))
        observation, _, _, _, info = play.step(actions[-1])
    tried = torch.stack(actions, 1)
    assert bool((tried[:, :9].sort(1).values == torch.arange(9)).all()), "nine actions, each once"
    assert bool(((tried[:, 9:] >= 0) & (tried[:, 9:] < 9)).all()), "then everything is legal again"


def test_actions_that_differ_in_inactive_hyperparameters_are_one():
    env = tiny(8, "conditional", levels=2, budget=20, start="none")
    env.reset(seed=0)
    agent = make(HypRL, env, total_steps=600)
    agent.train(env, lambda steps, logs, info: False)
    play = tiny(8, "conditional", levels=2, budget=20, start="none", terminate_on_repeat=True)
    observation, info = play.reset(seed=0)
    draws = generator(0, "test")
    # linear: 2 of C, without shrinking; rbf: 2 x 2 x 2; poly: 2 x 2 x 2 x 2.
    for trial in range(19):
        action = agent.act(observation, info["action_mask"], draws, explore=True)
        observation, _, terminated, _, info = play.step(action)
        assert not bool(terminated.any()), f"trial {trial} repeated a configuration"
        assert bool(info["final_info"]["legal"].all())


@pytest.mark.parametrize("exploration", ["softmax", "softmax_scaled", "ucb", "thompson", "noisy"])
def test_every_exploration_policy_trains(exploration):
    env = tiny(16)
    env.reset(seed=0)
    agent = make(HypRL, env, exploration=exploration, total_steps=900, dueling=exploration == "softmax")
    seen: list[float] = []

    def callback(steps: int, logs: Any, info: Any) -> bool:
        seen.extend(float(logs[name]) for name in ("loss", "explored") if name in logs)
        return False

    agent.train(env, callback)
    assert agent.updates == (agent.steps - 500) // 32
    assert np.isfinite(seen).all() and max(seen) > 0.0


@pytest.mark.parametrize(("multi_step", "priority"), [(1, 0.0), (3, 0.6)])
def test_replay_holds_states_once(multi_step, priority):
    env = tiny(8, budget=6)
    env.reset(seed=0)
    agent = make(HypRL, env, multi_step=multi_step, priority_exponent=priority)
    agent.train(env, lambda steps, logs, info: steps >= 8 * 12)
    stored = agent.replay.sample(200, generator(0, "test")).transitions
    assert stored.observation.shape == (200, 1) and stored.following_mask is None
    steps = stored.following[:, 0] - stored.observation[:, 0]
    assert bool((steps >= 1).all()) and int(steps.max()) == multi_step
    assert bool((steps[~stored.terminated] == multi_step).all())
    assert torch.equal(stored.following[:, 0] == 6, stored.terminated)


def test_without_meta_features_shown_the_network_ignores_them():
    env = tiny(4)
    observation, info = env.reset(seed=0)
    other: Observation = {**observation, "meta_features": observation["meta_features"] + 1.0}
    for share, same in ((1.0, True), (0.5, False)):
        agent = make(HypRL, env, meta_feature_dropout=share)
        agent.network.head.weight.data.normal_(generator=generator(0, "test"))
        shown = [agent.network(agent.shown(agent.encode(seen))) for seen in (observation, other)]
        assert torch.equal(shown[0], shown[1]) == same
    assert info["trial"].tolist() == [1] * 4
