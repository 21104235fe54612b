"""What the GRPO-Transformer reads: tokens, the cache of what was read, and the reader of histories."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from grpo_cases import BINS, a_network, histories, with_later_trials
from torch import Tensor

from agents.causal_transformer import CausalTransformer, KeyValueCache
from agents.history_reader import HistoryReader
from agents.proposal_network import ProposalNetwork
from agents.trial_tokens import SCORE_SCALES, TrialTokens
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator


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
