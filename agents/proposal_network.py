"""A distribution over the next configuration, given the trials so far.

Each hyperparameter has a categorical distribution over bins of its unit interval (the feasibility study of factorised
heads; Tang and Agrawal, 2020, "Discretizing Continuous Action Space for On-Policy Optimization", AAAI), uniform within
a bin; one with fewer values than bins has a bin for each value. With ``autoregressive`` the distribution of a
hyperparameter depends on the values chosen for those before it, so that it can hold several good configurations apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from agents.causal_transformer import CausalTransformer, KeyValueCache

__all__ = ["BinnedProposals", "ProposalNetwork"]


class BinnedProposals(nn.Module, ABC):
    """Proposals as bins of each hyperparameter's unit interval, drawn independently of each other.

    Args:
        bins: Bins ``K`` of each hyperparameter.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    @abstractmethod
    def cache(self, tokens: Tensor, length: int) -> KeyValueCache:
        """Return an empty cache for episodes of at most ``length`` tokens that begin with ``tokens``."""

    @abstractmethod
    def read(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return what is known after each token ``[B, N, ...]``; see :class:`CausalTransformer`."""

    @abstractmethod
    def log_probabilities(self, hidden: Tensor, choice: Tensor, allowed: Tensor) -> Tensor:
        """Return the log-probabilities of all bins.

        Args:
            hidden: What is known, ``[B, ...]``.
            choice: Chosen bins, int64 ``[B, D]``, for heads that depend on those of the hyperparameters before.
            allowed: Bins that exist, bool ``[D, K]``.

        Returns:
            float32 ``[B, D, K]``.
        """

    def sample(
        self, hidden: Tensor, allowed: Tensor, draws: torch.Generator, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Draw a bin for every hyperparameter.

        Args:
            hidden, allowed: As for :meth:`log_probabilities`.
            draws: Where random numbers come from.
            temperature: What logits are divided by.

        Returns:
            Bins, int64 ``[B, D]``, and their log-probabilities at temperature 1, float32 ``[B, D]``.
        """
        noise = self._noise(len(hidden), allowed, draws, temperature)
        everything = self.log_probabilities(hidden, torch.empty(0), allowed)
        choice = (everything + noise).argmax(2)
        return choice, everything.gather(2, choice[:, :, None]).squeeze(2)

    def _noise(self, batch: int, allowed: Tensor, draws: torch.Generator, temperature: float) -> Tensor:
        """Return noise for the Gumbel-max trick: the largest of logits plus it is a draw from their softmax."""
        shape = (batch, len(allowed), self.bins)
        noise = -torch.empty(shape, device=allowed.device).exponential_(generator=draws).log()
        return noise.mul_(temperature)

    def allowed(self, levels: Tensor) -> Tensor:
        """Return which bins exist, bool ``[D, K]``.

        Args:
            levels: Number of values of each hyperparameter, ``[D]``; infinite for floats.
        """
        return torch.arange(self.bins, device=levels.device) < self._count(levels)[:, None]

    def values(self, choice: Tensor, levels: Tensor, draws: torch.Generator) -> Tensor:
        """Return points of the unit cube drawn from bins, uniformly within each, float32 ``[B, D]``."""
        inside = torch.rand(choice.shape, generator=draws, device=choice.device)
        return ((choice + inside) / self._count(levels)).clamp(0.0, 1.0)

    def _count(self, levels: Tensor) -> Tensor:
        return levels.clamp(max=float(self.bins))


class ProposalNetwork(BinnedProposals):
    """A causal Transformer over trials, and one head for each hyperparameter.

    Args:
        inputs: Width ``W`` of a token.
        dimension: ``D``.
        bins: Bins ``K`` of each hyperparameter.
        width, layers, heads: As for :class:`~agents.causal_transformer.CausalTransformer`.
        autoregressive: Whether a head knows what was chosen by those before it.
    """

    def __init__(
        self, inputs: int, dimension: int, bins: int, width: int, layers: int, heads: int, autoregressive: bool
    ) -> None:
        super().__init__(bins)
        self.dimension, self.autoregressive = dimension, autoregressive
        self.trials = CausalTransformer(inputs, width, layers, heads)
        self.weight = nn.Parameter(torch.randn(dimension, width, bins) * (0.1 / width**0.5))
        self.bias = nn.Parameter(torch.zeros(dimension, bins))
        if autoregressive:
            self.chosen = nn.Parameter(torch.randn(dimension, bins, width) * 0.1)
            self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def cache(self, tokens: Tensor, length: int) -> KeyValueCache:
        return self.trials.cache(len(tokens), length)

    def read(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return what is known after each token, ``[B, N, C]``; see :class:`CausalTransformer`."""
        out: Tensor = self.trials(tokens, cache)
        return out

    def log_probabilities(self, hidden: Tensor, choice: Tensor, allowed: Tensor) -> Tensor:
        """Return the log-probabilities of all bins, given the chosen ones of the hyperparameters before.

        Args:
            hidden: What is known, ``[B, C]``.
            choice: Chosen bins, int64 ``[B, D]``; read only if ``autoregressive``.
            allowed: Bins that exist, bool ``[D, K]``.

        Returns:
            float32 ``[B, D, K]``.
        """
        if self.autoregressive:
            index = torch.arange(self.dimension, device=choice.device)
            chosen = self.chosen[index, choice]
            before = chosen.cumsum(1) - chosen
            context = self.mix(hidden[:, None] + before)
            logits = torch.einsum("bdc,dck->bdk", context, self.weight) + self.bias
        else:
            logits = torch.einsum("bc,dck->bdk", hidden, self.weight) + self.bias
        return torch.log_softmax(logits.masked_fill(~allowed, -torch.inf), 2)

    def sample(
        self, hidden: Tensor, allowed: Tensor, draws: torch.Generator, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        if not self.autoregressive:
            return super().sample(hidden, allowed, draws, temperature)
        noise = self._noise(len(hidden), allowed, draws, temperature)
        choices, scores = [], []
        before = hidden
        for column in range(self.dimension):
            logits = self.mix(before) @ self.weight[column] + self.bias[column]
            logits = torch.log_softmax(logits.masked_fill(~allowed[column], -torch.inf), 1)
            choice = (logits + noise[:, column]).argmax(1)
            choices.append(choice)
            scores.append(logits.gather(1, choice[:, None]).squeeze(1))
            before = before + self.chosen[column, choice]
        return torch.stack(choices, 1), torch.stack(scores, 1)
