"""Networks that agents share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError

__all__ = [
    "NoisyLinear",
    "ValueNetwork",
    "action_values",
    "perceptron",
    "require_layers",
    "value_head",
]


def require_layers(hidden: Sequence[int]) -> None:
    """Refuse widths of hidden layers that make no network.

    Raises:
        InvalidSettingError: If there is no layer, or one without units.
    """
    if not hidden or min(hidden) < 1:
        raise InvalidSettingError(f"hidden={list(hidden)!r} must name at least one layer of at least one unit.")


def perceptron(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Return hidden layers with layer normalisation, from ``[B, width]`` to ``[B, hidden[-1]]``.

    Raises:
        InvalidSettingError: If there is no layer, or one without units.
    """
    require_layers(hidden)
    layers: list[nn.Module] = []
    for before, after in zip((width, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
    return nn.Sequential(*layers)


class NoisyLinear(nn.Module):
    """A linear layer whose weights are drawn anew for every row.

    Factorised Gaussian noise of Fortunato et al. (2018), "Noisy Networks for Exploration", equations 10 and 11, with
    the initialisation of section 3.2. Because the noise is a product of a vector over inputs and one over outputs, a
    draw per row costs two products of matrices for the whole batch.

    Args:
        inputs: Width of a row.
        outputs: Width of a result.
        scale: ``sigma_0``: standard deviation of the noise at first, times the square root of ``inputs``.
    """

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_scale = nn.Parameter(torch.full((outputs, inputs), scale * bound))
        self.bias_scale = nn.Parameter(torch.full((outputs,), scale * bound))

    def forward(self, rows: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Return ``[B, outputs]`` of ``[B, inputs]``; without ``draws`` with the mean weights."""
        result = F.linear(rows, self.weight, self.bias)
        if draws is None:
            return result
        before, after = (_noise(rows, width, draws) for width in (rows.shape[1], len(self.bias)))
        return result + after * F.linear(rows * before, self.weight_scale, self.bias_scale)


def _noise(rows: Tensor, width: int, draws: torch.Generator) -> Tensor:
    drawn = torch.randn(len(rows), width, generator=draws, device=rows.device)
    return drawn.sign() * drawn.abs().sqrt()


def value_head(width: int, outputs: int, noise: float | None = None) -> nn.Linear | NoisyLinear:
    """Return the last layer of a network of action values.

    Args:
        width: Width of what it reads.
        outputs: Values.
        noise: ``sigma_0`` of a noisy layer; ``None``: a plain one, with which all actions start out equal (with random
            values the first maximum over them would be biased).
    """
    if noise is not None:
        return NoisyLinear(width, outputs, noise)
    head = nn.Linear(width, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def action_values(raw: Tensor, heads: int, dueling: bool) -> Tensor:
    """Return what a last layer gave, ``[B, H * A]`` or ``[B, H * (A + 1)]``, as action values ``[B, H, A]``.

    Args:
        raw: Of each member, with ``dueling`` a value before the advantages.
        heads: Members ``H``.
        dueling: Whether to join value and advantages: Wang et al. (2016), equation 9.
    """
    values = raw.view(len(raw), heads, -1)
    if not dueling:
        return values
    advantage = values[..., 1:]
    return values[..., :1] + advantage - advantage.mean(-1, keepdim=True)


class ValueNetwork(nn.Module):
    """A perceptron with layer normalisation from a flat observation to action values.

    Args:
        width: Width ``W`` of an observation.
        num_actions: ``A``.
        hidden: Widths of the hidden layers.
        heads: Members ``H`` of an ensemble on one body.
        dueling: Whether value and advantages are estimated apart: Wang et al. (2016), "Dueling Network Architectures
            for Deep Reinforcement Learning", equation 9.
        noise: ``sigma_0`` of noisy last layers; ``None``: they are plain ones.
        prior: Scale of a second, fixed network that is added to every member: Osband, Aslanides and Cassirer (2018),
            "Randomized Prior Functions for Deep Reinforcement Learning". Members of an ensemble begin apart, and stay
            so where there are no data.
    """

    def __init__(
        self,
        width: int,
        num_actions: int,
        hidden: Sequence[int],
        heads: int = 1,
        dueling: bool = False,
        noise: float | None = None,
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.dueling, self._prior = heads, dueling, prior
        self.body = perceptron(width, hidden)
        self.head = value_head(hidden[-1], heads * (num_actions + dueling), noise)
        if prior > 0.0:
            fixed = nn.Sequential(perceptron(width, hidden[:1]), nn.Linear(hidden[0], heads * num_actions))
            self.prior = fixed.requires_grad_(False)

    def forward(self, observation: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Return action values, float32 ``[B, H, A]``, of observations ``[B, W]``.

        Args:
            observation: The observations.
            draws: Where the noise of noisy layers comes from; ``None``: there is none.
        """
        features = self.body(observation)
        raw = self.head(features) if draws is None else self.head(features, draws)
        values = action_values(raw, self.heads, self.dueling)
        if self._prior > 0.0:
            values = values + self._prior * self.prior(observation).view_as(values)
        return values
