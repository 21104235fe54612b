"""How the GRPO-Transformer draws configurations, and how likely it says they were."""

from __future__ import annotations

import math

import pytest
import torch
from grpo_cases import BINS, a_network, histories
from torch import Tensor

from agents.proposal_network import ProposalNetwork
from agents.trial_tokens import TrialTokens
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES


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
    likely = torch.log_softmax(logs.detach(), 2).gather(2, every[:, :, None]).sum((1, 2)).exp()
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
