"""NAF: Q-learning over continuous actions whose values are a quadratic function, so that the best action is known.

Gu, Lillicrap, Sutskever and Levine (2016), "Continuous Deep Q-Learning with Model-based Acceleration". Differences are
listed in ``docs/agents/naf.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.base import Interface
from agents.continuous_q import ContinuousQ, ContinuousQConfig
from agents.networks import perceptron
from agents.replay import Transitions
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import stream_seed

__all__ = ["NAF", "NAFConfig"]

# Logarithms of the diagonal of L: a curvature between exp(-10) and exp(10) is any that a unit cube needs.
_LARGEST_LOGARITHM = 5.0


@dataclass(frozen=True)
class NAFConfig(ContinuousQConfig):
    """Configuration of :class:`NAF`: that of every agent of its kind.

    A quadratic function proposes one configuration per state, so that it needs more noise than an agent that searches.
    """

    learning_rate: float = 1e-3
    learning_starts: int = 5_000
    noise_start: float = 0.3
    noise_end: float = 0.3
    evaluation_noise: float = 0.4


class QuadraticValues(nn.Module):
    """A perceptron with layer normalisation to the value of a state and the advantage of its actions.

    Equation 3 of Gu et al. (2016): ``Q(s, a) = V(s) - 1/2 (a - mu(s))^T P(s) (a - mu(s))`` with ``P = L L^T`` and ``L``
    lower triangular with a positive diagonal.

    Args:
        width: Columns ``W`` of a state.
        dimension: Coordinates ``E`` of an action.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, width: int, dimension: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.dimension = dimension
        self.body = perceptron(width, hidden)
        self.head = nn.Linear(hidden[-1], 1 + dimension + dimension * (dimension + 1) // 2)
        # The first best action is the centre of the cube, and L is the identity.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        row, column = torch.tril_indices(dimension, dimension)
        self.register_buffer("_cells", row * dimension + column, persistent=False)

    def parts(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``V`` ``[B]``, ``mu`` ``[B, E]`` in ``[0, 1]`` and ``L`` ``[B, E, E]`` of states ``[B, W]``."""
        wide = self.dimension
        value, mean, entries = self.head(self.body(state)).split([1, wide, wide * (wide + 1) // 2], 1)
        flat = entries.new_zeros(len(state), wide * wide)
        lower = flat.index_copy(1, self.get_buffer("_cells"), entries).view(-1, wide, wide)
        diagonal = lower.diagonal(dim1=1, dim2=2).clamp(-_LARGEST_LOGARITHM, _LARGEST_LOGARITHM).exp()
        return value.squeeze(1), mean.sigmoid(), lower.tril(-1) + torch.diag_embed(diagonal)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the values ``[B]`` of one action ``[B, E]`` per state ``[B, W]``."""
        value, mean, lower = self.parts(state)
        # (a - mu)^T L L^T (a - mu) is the squared length of L^T (a - mu).
        root = (lower * (actions - mean)[:, :, None]).sum(1)
        return value - 0.5 * root.square().sum(1)


class NAF(ContinuousQ):
    """A network that values configurations by their distance from the one it proposes."""

    name: ClassVar[str] = "naf"
    version: ClassVar[int] = 2
    config: NAFConfig
    network: QuadraticValues
    target: QuadraticValues

    def __init__(
        self, config: NAFConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        with seeded(stream_seed(seed, "agent", "weights")):
            self.network = QuadraticValues(self.width, interface.action_dimension, config.hidden)
        self.network.to(self.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )

    @torch.no_grad()
    def best_action(self, network: nn.Module, state: Tensor, draws: torch.Generator) -> Tensor:
        assert isinstance(network, QuadraticValues)  # network or target
        return network.parts(state)[1]

    def loss(self, batch: Transitions) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.hide_meta_features(batch)
        values = self.network(batch.observation, batch.action)
        target = self.targets(batch)
        logs = {"value_mean": values.detach().mean(), "target_mean": target.mean()}
        return F.smooth_l1_loss(values, target, reduction="none"), (values - target).detach().abs(), logs

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """Return the regression targets of a batch, float32 ``[B]``: ``r + gamma (1 - terminated) V_target(s')``."""
        value = self.target.parts(batch.following)[0]
        return batch.reward + batch.discount * torch.where(batch.terminated, 0.0, value)
