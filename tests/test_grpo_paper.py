"""GRPOformer as published: distributions, groups, losses, and that it learns within its one episode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from agents.base import Interface
from agents.grpo_paper import GRPOPaper, GRPOPaperConfig, GRPOPaperOptimizer, improvement
from agents.grpo_paper_learner import GroupLearner
from agents.grpo_paper_policy import ConfigurationPolicy, Proposals
from agents.problem import Problem
from agents.registry import find_agent
from agents.sequential import Trial
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.testing.tiny import TINY_SUITES

TINY: dict[str, Any] = {"group_size": 4, "steps": 3, "width": 16, "layers": 1, "heads": 2, "history": 5}

MIXED = SearchSpace(
    SpaceSpec(
        columns=(
            Column("kind", "categorical", choices=("a", "b", "c"), default="a"),
            Column("layers", "integer", 1, 64, True, (), 8),
            Column("rate", "float", 1e-4, 1.0, True, (), 0.01),
            Column("bit", "categorical", choices=("no", "yes"), default="no"),
            Column("size", "ordinal", choices=("s", "m", "l"), default="m"),
            Column("fixed", "constant", choices=("x",), default="x"),
        ),
        conditions={},
    )
)


def a_policy(seed: int = 0) -> ConfigurationPolicy:
    with seeded(seed):
        return ConfigurationPolicy(MIXED, 16, 1, 2)


def some_proposals(count: int = 9, seed: int = 0) -> Proposals:
    policy = a_policy(seed)
    return policy.propose(torch.randn(count, 16, generator=generator(seed, "test")) * 4.0)


# --- distributions ----------------------------------------------------------------------------------------------------


def test_distributions_are_those_of_torch():
    """Log-density, entropy and divergence, hyperparameter by hyperparameter."""
    before, after = some_proposals(seed=0), some_proposals(seed=1)
    drawn = before.sample(generator(0, "test"))
    active = torch.rand(9, 6, generator=generator(1, "test")) < 0.7
    density, entropy, divergence = torch.zeros(9), torch.zeros(9), torch.zeros(9)
    for column, choices in enumerate((3, None, None, 2, None, 1)):
        if choices is None:
            pair: list[Any] = [Normal(part.mean[:, column], part.spread[:, column]) for part in (before, after)]
            value = drawn[:, column]
        else:
            pair = [Categorical(logits=part.choice[:, column, :choices]) for part in (before, after)]
            value = (drawn[:, column] * choices).floor()
        density += pair[0].log_prob(value) * active[:, column]
        entropy += pair[0].entropy() * active[:, column]
        divergence += kl_divergence(*pair) * active[:, column]
    assert torch.allclose(before.log_probability(drawn, active), density, atol=1e-5)
    assert torch.allclose(before.entropy(active), entropy, atol=1e-5)
    assert torch.allclose(before.divergence(after, active), divergence, atol=1e-4)
    assert bool((divergence.detach() > 0.0).all())
    assert torch.allclose(before.divergence(before, active), torch.zeros(9), atol=1e-6)


def test_the_spread_is_a_27th_to_a_quarter_of_the_range_and_means_lie_inside():
    proposals = some_proposals(500)
    numeric = proposals.numeric
    assert numeric.tolist() == [False, True, True, False, True, False]
    spread, mean = proposals.spread[:, numeric], proposals.mean[:, numeric]
    assert bool(((spread > math.exp(-1.0) / 10.0 - 1e-6) & (spread < math.exp(1.0) / 10.0 + 1e-6)).all())
    assert bool(((mean >= 0.0) & (mean <= 1.0)).all())


def test_draws_follow_the_distributions():
    one = some_proposals(1).rows(torch.zeros(20_000, dtype=torch.int64))
    drawn = one.sample(generator(0, "test"))
    assert torch.allclose(drawn.mean(0)[one.numeric], one.mean[0][one.numeric], atol=0.01)
    assert torch.allclose(drawn.std(0)[one.numeric], one.spread[0][one.numeric], atol=0.01)
    chosen = (drawn[:, 0] * 3).long()
    shares = torch.bincount(chosen, minlength=3) / len(chosen)
    assert torch.allclose(shares, one.choice[0, 0].exp(), atol=0.02)
    # A choice is drawn as the point that the space decodes to it.
    assert torch.equal(MIXED.snap(drawn.clamp(0.0, 1.0))[:, [0, 3]], drawn[:, [0, 3]])


def test_reading_trial_by_trial_is_reading_all_at_once():
    policy = a_policy()
    content = torch.randn(4, 6, policy.content, generator=generator(0, "test"))
    cache = policy.trials.cache(4, 6)
    parts = [policy.read(content[:, :3], 16, cache)]
    parts += [policy.read(content[:, number, None], 16, cache) for number in range(3, 6)]
    assert torch.allclose(torch.cat(parts, 1), policy.read(content, 16), atol=1e-5)


# --- reward, groups, losses -------------------------------------------------------------------------------------------


def test_the_reward_is_the_share_of_what_was_left():
    score = torch.tensor([0.9, 0.5, 0.8, 0.0, 1.0, 0.5])
    best = torch.tensor([0.8, 0.5, 0.9, 0.9, 1.0, 1.0])
    assert improvement(score, best).tolist() == pytest.approx([0.5, 0.0, -1.0, -1.0, 0.0, -1.0], abs=1e-5)


def a_learner(**settings: Any) -> GroupLearner:
    return GroupLearner(a_policy(), GRPOPaperConfig(**TINY | settings), generator(0, "test", "learn"))


def test_groups_are_the_members_at_one_step_or_any_transitions():
    for form in ("paper", "released"):
        groups = a_learner(form=form, steps=10).groups(10)
        pairs = {(int(m), int(s)) for members, steps in groups for m, s in zip(members, steps, strict=True)}
        assert len(groups) == 10 and len(pairs) == 40, "every transition is in one group"
        one_step = [len(set(steps.tolist())) == 1 for _, steps in groups]
        assert all(one_step) if form == "paper" else not any(one_step)


def test_the_loss_of_the_released_code():
    """Written out, on a group of four, with its one-transition regulariser."""
    learner = a_learner(form="released", entropy=0.2, churn_weight=0.01)
    now, active = some_proposals(4), torch.ones(4, 6, dtype=torch.bool)
    drawn = some_proposals(4, seed=0).sample(generator(0, "test"))
    density = now.log_probability(drawn, active).detach()
    before = density - torch.tensor([0.5, -0.3, 0.05, 0.0])
    advantage = torch.tensor([1.0, -1.0, 0.5, -0.5])
    ratio = (density - before).exp()
    relative = ratio / ratio.mean()
    expected = -torch.minimum(relative * advantage, relative.clamp(0.8, 1.2) * advantage).mean()
    expected += 0.01 * (ratio - 1.0).square().mean()
    expected += 0.01 * before[0].exp() * (before[0] - density[0])
    expected -= 0.2 * -(density.exp() * density).mean()
    loss = learner._released(now, drawn, active, before, advantage).detach()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_loss_of_the_paper():
    learner = a_learner(entropy=0.1)
    now, active = some_proposals(4), torch.ones(4, 6, dtype=torch.bool)
    drawn = now.sample(generator(0, "test")).detach()
    density = now.log_probability(drawn, active).detach()
    before, advantage = density - torch.tensor([0.5, -0.3, 0.05, 0.0]), torch.tensor([1.0, -1.0, 0.5, -0.5])
    ratio = (density - before).exp()
    expected = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    expected -= 0.1 * now.entropy(active).mean()
    loss = learner._paper(now, drawn, active, before, advantage).detach()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-4)


# --- an episode -------------------------------------------------------------------------------------------------------


def trial_of(space: SearchSpace, number: int, u: Tensor, score: float) -> Trial:
    shown = space.canonical(u[None].float())
    active = space.active(space.snap(u[None].float()))[0]
    return Trial(number, shown[0].double(), active, space.to_dicts(shown)[0], score, 1.0)


def an_optimizer(seed: int = 0, **settings: Any) -> GRPOPaperOptimizer:
    return GRPOPaperOptimizer(GRPOPaperConfig(**TINY | settings), Problem(MIXED, 200), seed)


def played(optimizer: GRPOPaperOptimizer, trials: int, first: int = 0) -> list[Tensor]:
    """Play a bowl in the float; return what was asked for."""
    asked = []
    for number in range(first, first + trials):
        asked.append(optimizer.ask().u)
        score = 1.0 - abs(float(asked[-1][2].clamp(0.0, 1.0)) - 0.9)
        optimizer.tell(trial_of(MIXED, number, asked[-1], score))
    return asked


@pytest.mark.parametrize("form", ["paper", "released"])
def test_it_learns_after_every_iteration_of_all_members(form):
    optimizer = an_optimizer(form=form)
    optimizer.tell(trial_of(MIXED, 0, MIXED.default(), 0.4))
    counts = []
    for number in range(1, 40):
        played(optimizer, 1, number)
        counts.append(optimizer.updates)
    # 4 members x 3 steps; 3 groups x 3 epochs.
    assert counts == [9 * (number // 12) for number in range(1, 40)]
    assert all(bool(parameter.isfinite().all()) for parameter in optimizer.policy.parameters())


def test_one_seed_plays_one_episode():
    episodes = [torch.stack(played(an_optimizer(seed), 30)) for seed in (3, 3, 4)]
    assert torch.equal(episodes[0], episodes[1])
    assert not torch.equal(episodes[0], episodes[2])


def test_each_member_reads_its_own_trajectory_alone():
    """What one member was told changes what it asks for next, and nothing else."""
    asked = []
    for score in (0.1, 0.9):
        optimizer = an_optimizer()
        for number in range(4):
            optimizer.tell(trial_of(MIXED, number, optimizer.ask().u, score if number == 2 else 0.5))
        optimizer.ask()
        assert optimizer._proposals is not None
        asked.append(optimizer._proposals.mean)
    changed = (asked[0] - asked[1]).abs().amax(1) > 0.0
    assert changed.tolist() == [False, False, True, False]


def test_a_trial_that_it_did_not_ask_for_is_learned_from_as_it_was():
    optimizer = an_optimizer()
    optimizer.ask()
    other = MIXED.sample(1, generator(0, "test"))[0]
    optimizer.tell(trial_of(MIXED, 0, other, 0.5))
    assert torch.allclose(optimizer._drawn[0], MIXED.canonical(other[None])[0], atol=1e-6)
    # Where nothing was asked yet, it is what all members begin with.
    begun = an_optimizer()
    begun.tell(trial_of(MIXED, 0, other, 0.5))
    begun.ask()
    assert begun._best.tolist() == [0.5] * 4
    assert len(begun._tokens) == 2


def test_what_is_learned_from_is_scored_as_it_was_drawn():
    """The ratio is 1 before the first gradient step, though draws are clamped, rounded and beyond the window."""
    optimizer = an_optimizer()
    with torch.no_grad():
        # The float's mean at the upper end.
        dict(optimizer.policy.named_parameters())["heads.2.2.bias"][0] = 3.0
    drawn = played(optimizer, 3 * 12 + 8)
    iteration = optimizer._iteration
    assert iteration is not None and iteration.steps == 2 and len(optimizer._tokens) == 12
    raw, active, before, _ = iteration.columns()
    assert torch.equal(raw.clamp(0.0, 1.0)[:, 0], torch.stack(drawn[-8:-4]))
    assert bool(((raw < 0.0) | (raw > 1.0)).any()), "some were clamped"
    tokens, first = iteration.tokens(), iteration.begin.shape[1]
    assert first == 6 and tokens.shape[1] == 7
    with torch.no_grad():
        read = optimizer.policy.read(tokens, optimizer._learner.window)
        for step in range(2):
            now = optimizer.policy.propose(read[:, first - 1 + step])
            density = now.log_probability(raw[:, step], active[:, step])
            assert torch.allclose(density, before[:, step], atol=1e-4)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_churn_regularisation_changes_what_is_learned(form):
    weights = []
    for weight in (0.0, 0.01):
        optimizer = an_optimizer(form=form, churn_weight=weight)
        played(optimizer, 24)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in optimizer.policy.parameters()]))
    assert not torch.equal(*weights)


def test_the_policy_moves_towards_what_gained():
    """The score is the value of one float near 0.9 of its range: its mean goes there within one episode."""
    optimizer = an_optimizer(group_size=8, steps=5, width=32, entropy=0.0, learning_rate=3e-3)
    asked = torch.stack(played(optimizer, 8 * 5 * 12))[:, 2]
    early, late = ((asked[part] - 0.9).abs().mean() for part in (slice(0, 80), slice(-80, None)))
    assert float(late) < 0.6 * float(early), (early, late)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group_size", 1),
        ("steps", 0),
        ("history", 0),
        ("width", 0),
        ("layers", 0),
        ("heads", 3),
        ("epochs", 0),
        ("clip", 0.0),
        ("entropy", -0.1),
        ("churn_weight", -1.0),
        ("churn_share", 0.0),
        ("churn_share", 1.5),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("max_gradient_norm", float("inf")),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        GRPOPaperConfig(**{field: value})


def test_an_unknown_form_gets_the_closest_one():
    with pytest.raises(UnknownNameError, match="'released'"):
        GRPOPaperConfig(form="release")


def test_it_chooses_no_fidelity():
    env = HPOVectorEnv(
        1,
        source=TINY_SUITES["fidelity"](),
        split="all",
        action="continuous",
        observation="history",
        multi_fidelity=True,
    )
    agent = GRPOPaper(GRPOPaperConfig(**TINY), Interface.of(env))
    with pytest.raises(InvalidSettingError, match=r"env\.multi_fidelity=false"):
        agent.prepare(Problem.of(env))
    assert find_agent("grpo_paper").agent is GRPOPaper
