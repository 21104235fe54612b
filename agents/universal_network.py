"""A network that proposes configurations of any search space.

Hyperparameters are a set: each is read by the same weights, over the trials by causal attention, across
hyperparameters by a function of the one and of the mean of all (Zaheer et al., 2017, "Deep Sets", section 2.2). So
their order means nothing, and a space of any size can be read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.causal_transformer import CausalBlock, KeyValueCache
from agents.hyperparameter_tokens import CATEGORICAL, INCUMBENT, VALUE
from agents.proposal_network import BinnedProposals

__all__ = ["UniversalNetwork"]

# Values are shown by their nearness to so many places of the unit interval.
_PLACES = 12
# Widths of what draws the next value to the incumbent's.
_PULLS = (0.015, 0.05, 0.15)


class _AcrossHyperparameters(nn.Module):
    """What each hyperparameter learns from the mean over all of its trial."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normal = self.before(tokens)
        mean = normal.mean(2, keepdim=True).expand_as(normal)
        out: Tensor = tokens + self.perceptron(torch.cat([normal, mean], 3))
        return out


class UniversalNetwork(BinnedProposals):
    """Attention over trials and pooling across hyperparameters in turns, and one head for all hyperparameters.

    Logits of the bins are linear in what is known of a hyperparameter, by one table for numbers and one for choices;
    and a bin gains by its nearness to the incumbent's value, as much as the network says.

    Args:
        inputs: Width ``W`` of a token.
        bins: Bins ``K`` of each hyperparameter.
        width: Width ``C`` of the layers, a multiple of ``heads``.
        layers: Layers of each kind.
        heads: Attention heads.
    """

    places: Tensor

    def __init__(self, inputs: int, bins: int, width: int, layers: int, heads: int) -> None:
        super().__init__(bins)
        self.width, self.heads = width, heads
        self.register_buffer("places", torch.linspace(0.0, 1.0, _PLACES), persistent=False)
        self.embed = nn.Sequential(nn.Linear(inputs + 2 * _PLACES, width), nn.GELU(), nn.Linear(width, width))
        self.over_trials = nn.ModuleList(CausalBlock(width, heads) for _ in range(layers))
        self.across = nn.ModuleList(_AcrossHyperparameters(width) for _ in range(layers))
        self.after = nn.LayerNorm(width)
        self.numbers = nn.Linear(width, bins)
        self.choices = nn.Linear(width, bins)
        self.pull = nn.Linear(width, len(_PULLS))
        for layer in (self.numbers, self.choices, self.pull):
            nn.init.normal_(layer.weight, std=0.1 / width**0.5)
            nn.init.zeros_(layer.bias)
        for name, parameter in self.named_parameters():
            # As in :class:`~agents.causal_transformer.CausalTransformer`.
            if name.endswith(("output.weight", "perceptron.2.weight")):
                nn.init.normal_(parameter, std=0.02 / (4.0 * layers) ** 0.5)

    def cache(self, tokens: Tensor, length: int) -> KeyValueCache:
        rows = tokens.shape[0] * tokens.shape[2]
        return KeyValueCache(len(self.over_trials), rows, self.heads, length, self.width // self.heads, tokens.device)

    def read(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return what is known of each hyperparameter after each trial.

        Args:
            tokens: float32 ``[B, N, D, W]``.
            cache: What was read before, which these tokens are added to; an empty one, or ``N = 1``.

        Returns:
            float32 ``[B, N, D, C + 2]``; the last two are the incumbent's value and whether it is a choice.
        """
        batch, count, dimension, _ = tokens.shape
        near = [
            torch.exp(-0.5 * ((tokens[..., column, None] - self.places) * (_PLACES - 1)).square())
            for column in (VALUE, INCUMBENT)
        ]
        hidden = self.embed(torch.cat([tokens, *near], 3))
        for layer, (over_trials, across) in enumerate(zip(self.over_trials, self.across, strict=True)):
            rows = hidden.transpose(1, 2).reshape(batch * dimension, count, -1)
            rows = over_trials(rows, layer, cache)
            hidden = across(rows.view(batch, dimension, count, -1).transpose(1, 2))
        if cache is not None:
            cache.length += count
        return torch.cat([self.after(hidden), tokens[..., INCUMBENT, None], tokens[..., CATEGORICAL, None]], 3)

    def log_probabilities(self, hidden: Tensor, choice: Tensor, allowed: Tensor) -> Tensor:
        known, incumbent, categorical = hidden[..., :-2], hidden[..., -2, None], hidden[..., -1, None] > 0.5
        logits = torch.where(categorical, self.choices(known), self.numbers(known))
        count = allowed.sum(1)[:, None].float()
        place = torch.arange(self.bins, device=hidden.device).float()
        apart = (place + 0.5) / count - incumbent
        same = (incumbent * count).floor().clamp(max=count - 1.0) == place
        apart = torch.where(categorical, torch.where(same, 0.0, 1.0), apart)
        pull = self.pull(known)
        for index, width in enumerate(_PULLS):
            logits = logits + pull[..., index, None] * torch.exp(-0.5 * (apart / width).square())
        return torch.log_softmax(logits.masked_fill(~allowed, -torch.inf), 2)
