"""The GRPO-Transformer and its parts: tokens, cache, proposals, advantages, churn, rollouts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from quick_settings import QUICK
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from agents.base import Interface
from agents.causal_transformer import CausalTransformer, KeyValueCache
from agents.group_relative import categorical_divergence, clipped_surrogate, group_advantages
from agents.grpo import GRPO, GRPOConfig
from agents.history_reader import HistoryReader
from agents.networks import seeded
from agents.proposal_network import ProposalNetwork
from agents.rollout import Played, Rollout
from agents.trial_tokens import SCORE_SCALES, TrialHistory, TrialTokens
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES, quadratic_suite

BINS = 6
TINY = {"group_size": 4, "width": 16, "layers": 1, "heads": 2, "bins": BINS, "proposals": 1}


def environment(tiny: str = "quadratic", num_envs: int = 16, **changes: Any) -> HPOVectorEnv:
    rules = {"budget": 8, "reward": "log_regret", "action": "continuous", "observation": "history"} | changes
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), split="all", **rules)


def histories(tiny: str = "conditional", num_envs: int = 16, steps: int = 7, seed: int = 0) -> list[TrialHistory]:
    """Return what random episodes show after each of their trials, the start included."""
    env, draws = environment(tiny, num_envs, start="random"), generator(seed, "test")
    dimension = env.suite.space.dimension
    shown = [TrialHistory.of(env.reset(seed=seed)[0], dimension)]
    for _ in range(steps):
        _, _, _, _, info = env.step(torch.rand(num_envs, dimension, generator=draws))
        shown.append(TrialHistory.of(info["final_obs"], dimension))
    return shown


def with_later_trials(history: TrialHistory, first: int, seed: int = 9) -> TrialHistory:
    """Return a history whose trials from ``first`` on are others."""
    draws, trials = generator(seed, "test"), history.trials
    changed = {"u": trials.u.clone(), "active": trials.active.clone(), "score": trials.score.clone()}
    for name in ("u", "score"):
        part = changed[name][:, first:]
        part.copy_(torch.rand(part.shape, generator=draws))
    changed["active"][:, first:] = ~changed["active"][:, first:]
    return dataclasses.replace(history, trials=dataclasses.replace(trials, **changed))


def a_network(
    layout: TrialTokens, autoregressive: bool = False, bins: int = BINS, spread: float = 3.0
) -> ProposalNetwork:
    """Return a network whose distributions are far from uniform."""
    with seeded(3):
        network = ProposalNetwork(layout.width, layout.dimension, bins, 16, 2, 4, autoregressive)
        with torch.no_grad():
            network.bias.normal_(std=spread / 3.0)
            network.weight.mul_(10.0 * spread / 3.0)
    return network


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_transformer_reads_token_by_token_what_it_reads_at_once():
    with seeded(0):
        transformer = CausalTransformer(inputs=7, width=16, layers=3, heads=4)
        tokens = torch.randn(5, 9, 7)
    whole = transformer(tokens)
    cache = transformer.cache(5, 9)
    assert cache.length == 0
    pieces = [transformer(tokens[:, :3], cache)]
    for position in range(3, 9):
        assert cache.length == position
        pieces.append(transformer(tokens[:, position : position + 1], cache))
    assert cache.length == 9
    assert whole.shape == (5, 9, 16)
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5)


def test_a_cache_keeps_what_it_was_given_layer_by_layer():
    cache = KeyValueCache(layers=2, batch=3, heads=2, length=4, width=5, device=torch.device("cpu"))
    draws = generator(0, "test")
    parts = [torch.randn(3, 2, count, 5, generator=draws) for count in (2, 1, 1)]
    shown = []
    for part in parts:
        for layer, sign in enumerate((1.0, -1.0)):
            shown.append(cache.append(layer, sign * part, 2.0 * sign * part))
        cache.length += part.shape[2]
    keys, values = shown[-2]
    assert torch.equal(keys, torch.cat(parts, 2)) and torch.equal(values, 2.0 * keys)
    assert torch.equal(shown[-1][0], -keys)
    assert [pair[0].shape[2] for pair in shown] == [2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("scores", SCORE_SCALES)
def test_a_token_knows_nothing_of_later_trials(scores):
    history = histories()[-1]
    layout = TrialTokens(5, 2, scores)
    tokens = layout.read(history, 0, 9)
    assert tokens.shape == (16, 9, layout.width)
    for known in range(8):
        other = layout.read(with_later_trials(history, known), 0, 9)
        assert torch.equal(other[:, : known + 1], tokens[:, : known + 1])
        assert not torch.equal(other[:, known + 1], tokens[:, known + 1])
    pieces = [layout.read(history, first, first + 1) for first in range(9)]
    assert torch.equal(torch.cat(pieces, 1), tokens)
    assert torch.equal(layout.read(history, 2, 5), tokens[:, 2:5])


def test_a_network_knows_nothing_of_later_tokens():
    layout = TrialTokens(5, 0, "both")
    network, tokens = a_network(layout), layout.read(histories()[-1], 0, 9)
    known = network.read(tokens)
    changed = tokens.clone()
    changed[:, 5] += 1.0
    other = network.read(changed)
    assert torch.equal(other[:, :5], known[:, :5])
    assert bool((other[:, 5:] - known[:, 5:]).abs().amax((0, 2)).min() > 1e-4), "a token is not read by later ones"


def test_relative_tokens_do_not_show_where_scores_lie():
    history = histories()[-1]
    order = torch.stack([torch.randperm(8, generator=generator(row, "test")) for row in range(16)])
    score = 0.25 + order / 16.0
    lower, higher = (
        dataclasses.replace(history, trials=dataclasses.replace(history.trials, score=score + shift))
        for shift in (-0.25, 0.25)
    )
    for scores, same in (("relative", True), ("absolute", False), ("both", False)):
        layout = TrialTokens(5, 0, scores)
        pair = [layout.read(one, 0, 9) for one in (lower, higher)]
        assert torch.allclose(*pair, atol=1e-4) is same


def test_tokens_hold_configuration_activity_and_meta_features():
    history = histories()[-1]
    tokens = TrialTokens(5, 2, "absolute").read(history, 0, 9)
    trials = history.trials
    active = tokens[:, 1:, 5:10] == 1.0
    assert torch.equal(active, trials.active) and not bool(active.all())
    assert torch.equal(tokens[:, 1:, :5][~active], torch.zeros(int((~active).sum())))
    assert torch.equal(tokens[:, 1:, :5][active], (trials.u - 0.5)[active])
    assert torch.equal(tokens[:, 1:, 10], trials.score * 2.0 - 1.0)
    assert torch.equal(tokens[:, 1:, 11], trials.score.cummax(1).values * 2.0 - 1.0)
    assert torch.equal(tokens[:, :, -2:], history.meta_features[:, None].expand(-1, 9, -1))
    assert tokens[:, :, -3].tolist() == [[1.0] + [0.0] * 8] * 16, "what marks the begin of an episode"


def test_levels_are_those_of_the_space():
    assert histories()[0].levels.tolist() == [3.0, math.inf, math.inf, 4.0, 2.0]


class CountingNetwork(ProposalNetwork):
    """Counts the tokens that it reads."""

    tokens_read = 0

    def read(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        self.tokens_read += tokens.shape[1]
        return super().read(tokens, cache)


def test_a_reader_reads_every_trial_once_and_knows_what_reading_anew_would_tell():
    layout = TrialTokens(5, 2, "both")
    with seeded(0):
        network = CountingNetwork(layout.width, 5, BINS, 16, 2, 4, False)
    reader = HistoryReader(layout)
    for shown in histories():
        hidden = reader(network, shown)
        assert network.tokens_read == int(shown.count[0]) + 1
        count = network.tokens_read
        anew = HistoryReader(layout)(network, shown)
        network.tokens_read = count
        assert torch.allclose(hidden, anew, atol=1e-5)
        assert torch.equal(reader(network, shown), hidden) and network.tokens_read == count, "the same again"


def test_a_reader_notices_other_episodes_and_earlier_trials():
    layout = TrialTokens(5, 2, "both")
    network, shown, others = a_network(layout), histories(), histories(seed=1)
    fewer = [
        dataclasses.replace(shown[5], meta_features=-shown[5].meta_features),
        with_later_trials(shown[5], 2),
        others[5],
        shown[2],
        shown[7],
        shown[0],
    ]
    for other in fewer:
        reader = HistoryReader(layout)
        for one in shown[:5]:
            reader(network, one)
        assert torch.allclose(reader(network, other), HistoryReader(layout)(network, other), atol=1e-5)
    reader = HistoryReader(layout)
    before = reader(network, shown[4])
    with torch.no_grad():
        network.trials.after.bias += 1.0
    assert torch.equal(reader(network, shown[4]), before), "it was asked to read nothing"
    reader.forget()
    assert torch.allclose(reader(network, shown[4]), before + 1.0, atol=1e-5)


def test_a_reader_reads_episodes_of_different_length():
    layout = TrialTokens(5, 2, "both")
    network, shown = a_network(layout), histories()
    lengths = torch.arange(16) % 6
    done = torch.arange(8)[None] < lengths[:, None]
    ragged = dataclasses.replace(shown[7], trials=dataclasses.replace(shown[7].trials, done=done))
    reader = HistoryReader(layout)
    reader(network, shown[3])
    hidden = reader(network, ragged)
    whole = network.read(layout.read(shown[7], 0, 9))
    assert torch.allclose(hidden, whole[torch.arange(16), lengths], atol=1e-5)
    assert torch.allclose(reader(network, shown[4]), HistoryReader(layout)(network, shown[4]), atol=1e-5)


# --- proposing --------------------------------------------------------------------------------------------------------


def proposing(autoregressive: bool, rows: int) -> tuple[ProposalNetwork, Tensor, Tensor, Tensor]:
    """Return a network, what it knows (the same for every row), which bins exist, and the levels."""
    layout = TrialTokens(3, 0, "both")
    network, levels = a_network(layout, autoregressive), torch.tensor([3.0, math.inf, 2.0])
    hidden = torch.randn(1, 16, generator=generator(1, "test")).expand(rows, -1)
    return network, hidden, network.allowed(levels), levels


@pytest.mark.parametrize("autoregressive", [False, True])
def test_probabilities_of_what_was_drawn_are_those_of_the_network(autoregressive):
    network, hidden, allowed, _ = proposing(autoregressive, 200)
    choice, drawn = network.sample(hidden, allowed, generator(0, "test"))
    everything = network.log_probabilities(hidden, choice, allowed)
    scored = everything.gather(2, choice[:, :, None]).squeeze(2)
    assert drawn.shape == scored.shape == (200, 3)
    assert torch.allclose(drawn, scored, atol=1e-5)
    assert torch.allclose(everything.exp().sum(2), torch.ones(200, 3), atol=1e-5)


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_are_as_frequent_as_they_are_likely(autoregressive, temperature):
    network, hidden, allowed, _ = proposing(autoregressive, 40_000)
    choice, _ = network.sample(hidden, allowed, generator(0, "test"), temperature)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(BINS), torch.arange(2))
    logs = network.log_probabilities(hidden[: len(every)], every, allowed) / temperature
    likely = torch.log_softmax(logs, 2).gather(2, every[:, :, None]).sum((1, 2)).exp()
    code = (choice * torch.tensor([2 * BINS, 2, 1])).sum(1)
    frequent = torch.bincount(code, minlength=len(every)) / len(choice)
    assert float(likely.sum()) == pytest.approx(1.0, abs=1e-4)
    # Five standard deviations of a frequency.
    assert bool(((frequent - likely).abs() <= 5.0 * (likely * (1.0 - likely) / len(choice)).sqrt() + 1e-5).all())


def test_what_was_chosen_before_matters_only_to_an_autoregressive_network():
    for autoregressive in (False, True):
        network, hidden, allowed, _ = proposing(autoregressive, 2)
        logs = network.log_probabilities(hidden, torch.tensor([[0, 0, 0], [2, 0, 0]]), allowed)
        assert torch.allclose(logs[0, 0], logs[1, 0], atol=1e-5)
        assert torch.allclose(logs[0, 1], logs[1, 1], atol=1e-5) is not autoregressive


@pytest.mark.parametrize("autoregressive", [False, True])
def test_bins_that_do_not_exist_are_never_drawn_and_values_lie_in_their_choice(autoregressive):
    suite = TINY_SUITES["conditional"]()
    levels = histories()[0].levels
    network = a_network(TrialTokens(5, 0, "both"), autoregressive)
    allowed = network.allowed(levels)
    assert allowed.sum(1).tolist() == [3, BINS, BINS, 4, 2]
    hidden = torch.randn(4_000, 16, generator=generator(1, "test"))
    # Hot enough that every bin that exists is drawn.
    choice, logs = network.sample(hidden, allowed, generator(0, "test"), temperature=20.0)
    assert bool(allowed[torch.arange(5), choice].all()) and bool(logs.isfinite().all())
    assert [int(column.max()) + 1 for column in choice.T] == [3, BINS, BINS, 4, 2]
    u = network.values(choice, levels, generator(2, "test"))
    assert bool(((u >= 0.0) & (u <= 1.0)).all())
    snapped = suite.space.snap(u)
    for column, count in ((0, 3), (4, 2)):
        assert torch.equal((snapped[:, column] * count).long(), choice[:, column])
    inside = u[:, 1] * BINS - choice[:, 1]
    assert float(inside.min()) >= -1e-5 and float(inside.max()) <= 1.0 + 1e-5
    assert float(inside.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(inside.std()) == pytest.approx(12.0**-0.5, abs=0.02)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_advantages_of_a_hand_worked_group():
    reward = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    # To go: (3, 2) and (3, 0).
    assert group_advantages(reward, 2, "step").tolist() == [[0.0, 1.0], [0.0, -1.0]]
    assert group_advantages(reward, 2, "trajectory").tolist() == [[0.0, 0.0], [0.0, 0.0]]
    # With a discount of one half: (2, 2) and (3, 0).
    assert group_advantages(reward, 2, "step", 0.5).tolist() == [[-1.0, 1.0], [1.0, -1.0]]
    assert group_advantages(reward, 2, "trajectory", 0.5).tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    three = torch.tensor([[0.0], [3.0], [6.0]])
    assert group_advantages(three, 3).flatten().tolist() == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5)])
    with pytest.raises(UnknownNameError, match="'trajectory'"):
        group_advantages(reward, 2, "trajectories")


@pytest.mark.parametrize("kind", ["step", "trajectory"])
def test_advantages_compare_within_a_group_and_nothing_else(kind):
    reward = torch.randn(12, 5, generator=generator(0, "test"))
    advantage = group_advantages(reward, 4, kind)
    grouped = advantage.unflatten(0, (3, 4))
    assert torch.allclose(grouped.mean(1), torch.zeros(3, 5), atol=1e-6)
    assert torch.allclose(grouped.square().mean(1), torch.ones(3, 5), atol=1e-5)
    shift = torch.tensor([5.0, -3.0, 0.5]).repeat_interleave(4)[:, None]
    scale = torch.tensor([2.0, 1.0, 0.1]).repeat_interleave(4)[:, None]
    assert torch.allclose(group_advantages(scale * reward + shift, 4, kind), advantage, atol=1e-4)
    order = torch.cat([4 * group + torch.randperm(4, generator=generator(group, "test")) for group in range(3)])
    assert torch.allclose(group_advantages(reward[order], 4, kind), advantage[order], atol=1e-5)
    alike = torch.cat([reward[:1].expand(4, -1), reward[4:]])
    assert torch.equal(group_advantages(alike, 4, kind)[:4], torch.zeros(4, 5))


def test_the_surrogate_has_the_gradient_of_the_policy_until_it_is_clipped():
    advantage = torch.tensor([1.5, -0.5, 2.0, -2.0, 2.0, -2.0])
    ratio = torch.tensor([1.0, 1.0, 1.3, 0.7, 0.7, 1.3])
    now = torch.zeros(6, requires_grad=True)
    loss = clipped_surrogate(now, now.detach() - ratio.log(), advantage, 0.2)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([-1.5, 0.5, -2.4, 1.6, -1.4, 2.6])
    # At ratio 1 that of -A log p; nothing where the policy has gone far enough; the way back stays open.
    assert now.grad is not None
    assert now.grad.tolist() == pytest.approx([-1.5, 0.5, 0.0, 0.0, -1.4, 2.6])


def test_the_divergence_is_that_of_the_distributions():
    draws = generator(0, "test")
    allowed = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    logits = [torch.randn(7, 3, 5, generator=draws).masked_fill(~allowed, -torch.inf) for _ in range(2)]
    active = torch.rand(7, 3, generator=draws) < 0.6
    before, after = (torch.log_softmax(part, 2) for part in logits)
    # The distributions of torch have no bins that do not exist.
    expected = torch.zeros(7)
    for column, count in enumerate((5, 2, 3)):
        pair = [Categorical(logits=part[:, column, :count]) for part in logits]
        expected += kl_divergence(*pair) * active[:, column]
    assert torch.allclose(categorical_divergence(before, after, active), expected, atol=1e-6)
    assert torch.equal(categorical_divergence(before, before, active), torch.zeros(7))
    leaf = logits[1].clone().requires_grad_()
    categorical_divergence(before, torch.log_softmax(leaf, 2), active).sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all())
    assert torch.equal(leaf.grad[~active], torch.zeros_like(leaf.grad[~active]))


def an_agent(env: HPOVectorEnv, seed: int = 0, **settings: Any) -> GRPO:
    return GRPO(GRPOConfig(**TINY | settings), Interface.of(env), seed)


def test_churn_regularisation_holds_the_policy_on_earlier_states():
    """The first update knows no earlier states and is the same; the second moves the policy less on those."""
    settings = {"learning_rate": 3e-3, "entropy": 0.0, "epochs": 4, "total_steps": 100_000, "autoregressive": False}
    env = environment(num_envs=64)
    early = histories("quadratic", 64, 1, seed=4)
    moved, first = [], []
    for weight in (0.0, 100.0):
        agent = an_agent(env, churn_weight=weight, churn_share=1.0, **settings)
        allowed = agent.network.allowed(early[0].levels)

        def policy(agent: GRPO = agent, allowed: Tensor = allowed) -> Tensor:
            with torch.no_grad():
                hidden = agent.network.read(agent.layout.read(early[-1], 0, 3))[:, 1:].flatten(0, 1)
                return agent.network.log_probabilities(hidden, torch.empty(0), allowed)

        env.reset(seed=0)
        agent.train(env, lambda steps, logs, info, agent=agent: agent.updates > 0)
        before = policy()
        updates = agent.updates
        logged: list[float] = []

        def callback(
            steps: int,
            logs: Any,
            info: Any,
            agent: GRPO = agent,
            updates: int = updates,
            logged: list[float] = logged,
        ) -> bool:
            logged.append(float(logs.get("churn", 0.0)))
            return agent.updates > updates

        agent.train(env, callback)
        everything = torch.ones(before.shape[:2], dtype=torch.bool)
        moved.append(float(categorical_divergence(before, policy(), everything).mean()))
        first.append(before)
        assert (logged[-1] > 0.0) is (weight > 0.0)
    assert torch.equal(*first)
    assert moved[1] < 0.5 * moved[0], moved


def a_rollout(steps: int = 3) -> tuple[Rollout, list[Tensor]]:
    draws = generator(0, "test")
    rollout = Rollout(torch.randn(4, 2, 7, generator=draws))
    for _ in range(steps):
        choice = torch.randint(6, (4, 3), generator=draws)
        active = torch.rand(4, 3, generator=draws) < 0.5
        log_probability, reward = torch.randn(4, 3, generator=draws), torch.randn(4, generator=draws)
        rollout.add(choice, log_probability, active, reward, torch.randn(4, 1, 7, generator=draws))
    return rollout, rollout.tokens


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_rollout_in_mid_episode_is_restored_as_it_was(steps):
    rollout, tokens = a_rollout(steps)
    restored = Rollout.from_state_dict(rollout.state_dict(), torch.device("cpu"))
    assert [part.shape for part in restored.tokens] == [part.shape for part in tokens]
    assert all(torch.equal(*pair) for pair in zip(restored.tokens, tokens, strict=True))
    if steps == 0:
        return
    mine, theirs = rollout.played(), restored.played()
    assert mine.first == 2 and mine.tokens.shape == (4, 2 + steps, 7)
    for name, value in mine.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
    some = mine.rows(torch.tensor([2, 0]))
    assert torch.equal(some.reward, mine.reward[[2, 0]]) and some.first == 2


def losses_of(agent: GRPO, played: Played, allowed: Tensor) -> tuple[dict[str, float], Tensor]:
    """Return the losses, and what they say of each hyperparameter's head."""
    advantage = torch.randn(played.reward.shape, generator=generator(5, "test"))
    parts = agent._losses(played, advantage, allowed)
    agent.network.zero_grad()
    (parts["policy_loss"] + parts["entropy"]).backward()
    assert agent.network.bias.grad is not None
    return {name: float(value.detach()) for name, value in parts.items()}, agent.network.bias.grad.clone()


@pytest.mark.parametrize("autoregressive", [False, True])
def test_nothing_is_learned_from_inactive_hyperparameters(autoregressive):
    env = environment("conditional")
    agent, shown = an_agent(env, autoregressive=autoregressive), histories()
    allowed = agent.network.allowed(shown[0].levels)
    rollout, draws = Rollout(agent.layout.read(shown[0], 0, 2)), generator(0, "test")
    # No kernel but poly has a degree.
    never = torch.tensor([True, True, True, False, True])
    for one in shown[1:]:
        trial = int(one.count[0])
        hidden = agent.network.read(torch.cat(rollout.tokens, 1))[:, -1]
        choice, logs = agent.network.sample(hidden.detach(), allowed, draws)
        active = one.trials.active[:, trial - 1] & never
        rollout.add(choice, logs.detach(), active, torch.rand(16), agent.layout.read(one, trial, trial + 1))
    played = rollout.played()
    assert bool(played.active.any((0, 1))[2]) and not bool(played.active[:, :, 2].all())
    losses, gradient = losses_of(agent, played, allowed)
    assert torch.equal(gradient[3], torch.zeros(BINS))
    assert bool((gradient[[0, 1, 2, 4]].abs().amax(1) > 0.0).all())
    # Had something else been drawn for it, with another probability, all would be the same.
    other = dataclasses.replace(played, log_probability=torch.where(played.active, played.log_probability, -9.0))
    if not autoregressive:
        other.choice = torch.where(played.active, played.choice, 1)
    again, same = losses_of(agent, other, allowed)
    assert again == losses and torch.equal(same, gradient)


def test_groups_play_one_task_from_one_start():
    env = environment(num_envs=24, start="random", budget=4)
    agent, seen = an_agent(env, total_steps=24 * 3 * 2), []
    env.reset(seed=0)

    def callback(steps: int, logs: Any, info: Any) -> bool:
        history = TrialHistory.of(info["final_obs"], 2)
        seen.append((history.meta_features.clone(), history.trials.u[:, 0].clone(), history.trials.u[:, 1].clone()))
        return False

    agent.train(env, callback)
    for meta, start, chosen in seen:
        for part, groups in ((meta, 6), (start, 6), (chosen, 24)):
            assert len(part.unique(dim=0)) == groups, "six groups, six tasks; every rollout goes its own way"
        assert torch.equal(start, start[::4].repeat_interleave(4, 0))
    assert not torch.equal(seen[0][1], seen[-1][1])


LOGGED = {
    *("policy_loss", "entropy", "clipped", "divergence", "churn", "loss", "gradient_norm", "learning_rate", "updates"),
    "advantage_spread",
}


@pytest.fixture(scope="module")
def trained() -> tuple[GRPO, list[dict[str, float]]]:
    """Return a policy that was trained without meta-features, and what it logged."""
    env = search_environment(64)
    settings = {"meta_features": False, "total_steps": 20_000, "autoregressive": False, "minibatches": 1}
    agent = GRPO(GRPOConfig(**QUICK["grpo"] | settings | {"learning_rate": 1e-2}), Interface.of(env))
    env.reset(seed=0)
    logs: list[dict[str, float]] = []

    def callback(steps: int, logged: Any, info: Any) -> bool:
        if logged and (not logs or float(logged["updates"]) > logs[-1]["updates"]):
            logs.append({name: float(value) for name, value in logged.items()})
        return False

    agent.train(env, callback)
    return agent, logs


def search_environment(num_envs: int) -> HPOVectorEnv:
    """Return two bowls that nothing but scores tells apart."""
    return HPOVectorEnv(
        num_envs,
        source=quadratic_suite(num_tasks=2),
        split="all",
        action="continuous",
        observation="history",
        budget=8,
        reward="log_regret",
    )


def late_shortfall(agent: GRPO, shuffled: bool) -> float:
    """Return what the second half of the trials lacks to the best score, 1.

    Args:
        agent: The policy.
        shuffled: Whether it is shown the scores of the trials so far in a random order.
    """
    env, draws, order = search_environment(240), generator(0, "test"), generator(1, "test")
    observation, _ = env.reset(seed=3)
    while True:
        assert isinstance(observation, dict)
        if shuffled:
            done = observation["mask"] > 0.5
            noise = torch.rand(done.shape, generator=order).masked_fill(~done, torch.inf)
            observation = observation | {"score": observation["score"].gather(1, noise.argsort(1))}
        observation, _, terminated, _, info = env.step(agent.act(observation, None, draws))
        if bool(terminated.all()):
            return float((1.0 - info["final_obs"]["score"][:, 4:]).mean())


def test_shuffled_scores_hurt_a_policy_that_searches(trained):
    """It is not a fixed list of configurations, however good: what it tries depends on what came out."""
    agent, _ = trained
    assert late_shortfall(agent, shuffled=True) > 1.5 * late_shortfall(agent, shuffled=False)


def test_what_is_logged_of_a_training(trained):
    agent, logs = trained
    assert set(logs[0]) == LOGGED
    assert logs[0]["churn"] == 0.0, "there are no earlier states yet"
    assert logs[-1]["churn"] > 0.0 and logs[-1]["entropy"] < logs[0]["entropy"] <= 2.0 * math.log(8.0) + 1e-4
    assert all(0.0 <= one["clipped"] <= 1.0 for one in logs)
    rates = [one["learning_rate"] for one in logs]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(agent.config.learning_rate / 20.0, rel=0.2)
    assert logs[-1]["updates"] == agent.updates == len(logs) * agent.config.epochs * agent.config.minibatches


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("total_steps", 0),
        ("group_size", 1),
        ("width", 0),
        ("layers", 0),
        ("heads", 5),
        ("bins", 1),
        ("discount", 0.0),
        ("discount", 1.1),
        ("clip", 0.0),
        ("epochs", 0),
        ("minibatches", 0),
        ("learning_rate", -1e-3),
        ("entropy", -0.1),
        ("churn_weight", -0.1),
        ("churn_share", 0.0),
        ("churn_share", 1.5),
        ("max_gradient_norm", 0.0),
        ("weight_decay", -1.0),
        ("evaluation_temperature", 0.0),
        ("proposals", 0),
        ("candidates", -1),
        ("neighbours", 0),
        ("rounds", -1),
        ("head", -1),
        ("samples", 0),
        ("learning_rate", float("nan")),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        GRPOConfig(**{field: value})


@pytest.mark.parametrize(("field", "value", "closest"), [("advantage", "steps", "step"), ("scores", "rel", "relative")])
def test_unknown_names_get_the_closest_one(field, value, closest):
    with pytest.raises(UnknownNameError, match=closest):
        GRPOConfig(**{field: value})


def test_environments_that_it_cannot_play_are_refused():
    with pytest.raises(InvalidSettingError, match=r"no fidelity.*env\.multi_fidelity=false"):
        an_agent(environment("fidelity", multi_fidelity=True))
    env = environment(num_envs=10)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"num_envs=10 .*group_size=4"):
        an_agent(env).train(env, lambda steps, logs, info: True)
    env = environment(terminate_on_repeat=True)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"env\.terminate_on_repeat=false"):
        an_agent(env).train(env, lambda steps, logs, info: True)
    for wrong in ({"action": "grid_step"}, {"observation": "flat"}):
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            an_agent(environment(**wrong))


def test_a_policy_fits_the_meta_features_that_it_was_built_for():
    env = environment()
    built = dataclasses.replace(Interface.of(env), meta_features=7)
    agents = [GRPO(GRPOConfig(**TINY, meta_features=shown), built) for shown in (False, True)]
    assert agents[1].layout.width == agents[0].layout.width + 7
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="meta_features: 7 against 2"):
        agents[1].train(env, lambda steps, logs, info: True)
