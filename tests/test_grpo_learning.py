"""What the GRPO-Transformer learns from: advantages, its losses, churn regularisation, rollouts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from grpo_cases import BINS, an_agent, environment, histories
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from agents.group_relative import categorical_divergence, clipped_surrogate, group_advantages
from agents.grpo import GRPO
from agents.rollout import Played, Rollout
from hpo_gym.errors import UnknownNameError
from hpo_gym.seeding import generator


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


def test_churn_regularisation_holds_the_policy_on_earlier_states():
    """The first update knows no earlier states and is the same; the second moves the policy less on those."""
    settings = {"learning_rate": 3e-3, "entropy": 0.0, "epochs": 4, "total_steps": 100_000, "autoregressive": False}
    env = environment(num_envs=64)
    early = histories("quadratic", 64, 1, seed=4)
    moved, first = [], []
    for weight in (0.0, 100.0):
        share = {"churn_share": 1.0} if weight > 0.0 else {}
        agent = an_agent(env, churn_weight=weight, **share, **settings)
        allowed = agent.network.allowed(early[0].levels)

        def policy(agent: GRPO = agent, allowed: Tensor = allowed) -> Tensor:
            with torch.no_grad():
                hidden = agent.network.read(agent.layout.read(early[-1], 0, 3))[:, 1:].flatten(0, 1)
                return agent.network.log_probabilities(hidden, torch.empty(0), allowed)

        env.reset(seed=0)
        agent.train(env, lambda steps, logs, info, agent=agent: agent.learner.updates > 0)
        before = policy()
        updates = agent.learner.updates
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
            return agent.learner.updates > updates

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
    saved = rollout.state_dict()
    assert sum(value.numel() for value in saved.values()) == 4 * ((2 + steps) * 7 + steps * (3 * 3 + 1)), "kept twice"
    restored = Rollout.from_state_dict(saved, torch.device("cpu"))
    assert [part.shape for part in restored.tokens] == [part.shape for part in tokens]
    assert all(torch.equal(*pair) for pair in zip(restored.tokens, tokens, strict=True))
    assert all(part.is_contiguous() for part in restored.tokens), "another layout may be summed in another order"
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
    parts = agent.learner.losses(played, advantage, allowed)
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
