"""The policy of GRPOformer: a Transformer over trials with a Gaussian or a softmax head for each hyperparameter.

After the numeric Transformer in the released code of Guo, Pan and Zhai (2025), arXiv 2509.17105, and the heads of its
T5 policy. ``N`` histories, ``L`` tokens, ``C`` most choices of a categorical hyperparameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from agents.causal_transformer import CausalTransformer, KeyValueCache
from agents.group_relative import categorical_divergence
from hpo_gym.spaces import SearchSpace

__all__ = ["ConfigurationPolicy", "Proposals"]

# The spread of a Gaussian is exp(s) / 10 of the range with s in [-1, 1]: 0.037 to 0.27.
_SPREAD = 0.1
_HEAD = 64


@dataclass(frozen=True)
class Proposals:
    """Distributions over the next configuration.

    Args:
        mean, spread: Of each hyperparameter's Gaussian in the unit interval, float32 ``[N, D]``; a categorical one's
            mean nothing.
        choice: Log-probabilities of choices, float32 ``[N, D, C]``; ``-inf`` where there is no such choice, and
            all of a numeric hyperparameter on its first.
        counts: Number of choices, int64 ``[D]``; 1 for a numeric hyperparameter.
        numeric: Which hyperparameters have a Gaussian, bool ``[D]``.
    """

    mean: Tensor
    spread: Tensor
    choice: Tensor
    counts: Tensor
    numeric: Tensor

    def rows(self, index: Tensor) -> Proposals:
        """Return some of the distributions."""
        return Proposals(self.mean[index], self.spread[index], self.choice[index], self.counts, self.numeric)

    def sample(self, draws: torch.Generator) -> Tensor:
        """Draw configurations, float32 ``[N, D]``: a Gaussian's value as drawn, which may leave the unit interval."""
        drawn = self.mean + self.spread * torch.randn(self.mean.shape, generator=draws)
        # The Gumbel-max trick: the largest of logits plus such noise is a draw from their softmax.
        noise = -torch.empty(self.choice.shape).exponential_(generator=draws).log()
        chosen = ((self.choice + noise).argmax(2) + 0.5) / self.counts
        return torch.where(self.numeric, drawn, chosen)

    def log_probability(self, drawn: Tensor, active: Tensor) -> Tensor:
        """Return the log-density of configurations, summed over active hyperparameters, float32 ``[N]``.

        Args:
            drawn: As of :meth:`sample`, ``[N, D]``.
            active: bool ``[N, D]``; an inactive hyperparameter has no effect, and nothing is to be learned from it.
        """
        density = self._normal.log_prob(drawn)
        index = (drawn * self.counts).long().clamp(min=0).minimum(self.counts - 1)
        chosen = self.choice.gather(2, index[:, :, None]).squeeze(2)
        return (torch.where(self.numeric, density, chosen) * active).sum(1)

    def entropy(self, active: Tensor) -> Tensor:
        """Return the entropy, summed over active hyperparameters, ``[N]``: of a density for numeric ones."""
        finite = self.choice.masked_fill(self.choice == -torch.inf, 0.0)
        chosen = -(self.choice.exp() * finite).sum(2)
        return (torch.where(self.numeric, self._normal.entropy(), chosen) * active).sum(1)

    def divergence(self, other: Proposals, active: Tensor) -> Tensor:
        """Return ``KL(self || other)``, summed over active hyperparameters, ``[N]``, in closed form."""
        numeric = kl_divergence(self._normal, other._normal) * (active & self.numeric)
        return numeric.sum(1) + categorical_divergence(self.choice, other.choice, active)

    @property
    def _normal(self) -> Normal:
        return Normal(self.mean, self.spread, validate_args=False)


class ConfigurationPolicy(nn.Module):
    """From a history to distributions over the next configuration.

    A token is a configuration scaled to ``[-1, 1]``, which hyperparameters are active, the score and the best one so
    far scaled likewise, and its place in what is read; the first token of a history is the task's and has no content.

    Args:
        space: The search space.
        width, layers, heads: As for :class:`~agents.causal_transformer.CausalTransformer`.
    """

    def __init__(self, space: SearchSpace, width: int, layers: int, heads: int) -> None:
        super().__init__()
        columns = space.spec.columns
        # Values of an ordinal are in order, as those of an integer are.
        numeric = [column.is_numeric or column.kind == "ordinal" for column in columns]
        counts = [1 if plain else len(column.choices) for plain, column in zip(numeric, columns, strict=True)]
        self.numeric, self.counts = torch.tensor(numeric), torch.tensor(counts)
        self._most = max(counts)
        #: Content of a token, without its place.
        self.content = 2 * len(columns) + 2
        self.trials = CausalTransformer(self.content + 2, width, layers, heads)
        outputs = [2 if plain else count for plain, count in zip(numeric, counts, strict=True)]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, _HEAD), nn.ReLU(), nn.Linear(_HEAD, count)) for count in outputs
        )

    @staticmethod
    def describe(u: Tensor, active: Tensor, score: Tensor, best: Tensor) -> Tensor:
        """Return the content of tokens of one trial each, float32 ``[N, content]``.

        Args:
            u: Configurations, ``[N, D]``.
            active: bool ``[N, D]``.
            score, best: In ``[0, 1]``, the best one so far with this trial, ``[N]``.
        """
        scores = torch.stack([score, best], 1) * 2.0 - 1.0
        return torch.cat([(2.0 * u - 1.0) * active, active.float(), scores], 1)

    def read(self, content: Tensor, window: int, cache: KeyValueCache | None = None) -> Tensor:
        """Return what is known after each token, float32 ``[N, L, width]``.

        Args:
            content: Of the tokens, ``[N, L, content]``; where nothing was read before, the first is the task's.
            window: Most tokens that are ever read together, which places are told in shares of.
            cache: What was read before.
        """
        first = 0 if cache is None else cache.length
        number = torch.arange(first, first + content.shape[1])
        place = torch.stack([number / window, (number == 0).float()], 1).expand(len(content), -1, -1)
        hidden: Tensor = self.trials(torch.cat([content, place], 2), cache)
        return hidden

    def propose(self, hidden: Tensor) -> Proposals:
        """Return the distributions after histories, of which ``hidden``, ``[N, width]``, is what is known."""
        outputs = [head(hidden) for head in self.heads]
        means, spreads, choices = [], [], []
        for output, plain in zip(outputs, self.numeric.tolist(), strict=True):
            bounded = torch.tanh(output) if plain else torch.zeros(len(output), 2)
            means.append((bounded[:, 0] + 1.0) / 2.0)
            spreads.append(bounded[:, 1].exp() * _SPREAD)
            logits = torch.zeros(len(output), 1) if plain else output
            missing = self._most - logits.shape[1]
            choices.append(nn.functional.pad(torch.log_softmax(logits, 1), (0, missing), value=-torch.inf))
        return Proposals(
            torch.stack(means, 1), torch.stack(spreads, 1), torch.stack(choices, 1), self.counts, self.numeric
        )
