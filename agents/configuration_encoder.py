"""Configurations as what kernels and networks over one search space read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["ConfigurationEncoder"]


class ConfigurationEncoder(nn.Module):
    """From points of the unit cube to vectors whose distances mean something.

    Args:
        spec: The search space.
    """

    _numeric: Tensor
    _choice: Tensor
    _position: Tensor
    _count: Tensor
    _conditional: Tensor

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__()
        self.space = SearchSpace(spec)
        columns = spec.columns
        numeric = [index for index, column in enumerate(columns) if column.is_numeric]
        choices = [(i, k) for i, column in enumerate(columns) for k in range(len(column.choices))]
        self.register_buffer("_numeric", torch.tensor(numeric, dtype=torch.int64), persistent=False)
        for name, part in (("_choice", 0), ("_position", 1)):
            self.register_buffer(
                name, torch.tensor([pair[part] for pair in choices], dtype=torch.int64), persistent=False
            )
        counts = [float(len(columns[i].choices)) for i, _ in choices]
        self.register_buffer("_count", torch.tensor(counts), persistent=False)
        conditional = sorted(spec.conditions)
        self.register_buffer("_conditional", torch.tensor(conditional, dtype=torch.int64), persistent=False)
        #: Width ``W`` of an encoded configuration.
        self.width = len(numeric) + len(choices) + len(conditional)
        #: Of each coordinate the hyperparameter that it tells the value of, or ``D`` and that whose activity it tells.
        self.sources = [*numeric, *(i for i, _ in choices), *(len(columns) + i for i in conditional)]

    def encode(self, u: Tensor) -> Tensor:
        """Return configurations ``[..., D]`` as what kernel and network read, float32 ``[..., W]``.

        Numbers in the unit interval, choices one-hot (0.7 apart, so that two choices are about as far as the ends of
        a range), and the activity of conditional hyperparameters; what is inactive is 0.
        """
        flat = self.space.snap(u.reshape(-1, u.shape[-1]).float())
        active = self.space.active(flat).float()
        chosen = ((flat * active)[:, self._choice] * self._count).floor() == self._position
        parts = [
            (flat * active)[:, self._numeric],
            0.7 * chosen * active[:, self._choice],
            0.5 * active[:, self._conditional],
        ]
        encoded: Tensor = torch.cat(parts, 1).unflatten(0, u.shape[:-1])
        return encoded
