"""Networks that agents share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError

__all__ = ["ValueNetwork", "seeded"]


class ValueNetwork(nn.Module):
    """A perceptron with layer normalisation from a flat observation to action values.

    Args:
        width: Width ``W`` of an observation.
        num_actions: ``A``.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, width: int, num_actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise InvalidSettingError(f"hidden={list(hidden)!r} must name at least one layer of at least one unit.")
        layers: list[nn.Module] = []
        for before, after in zip((width, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden[-1], num_actions)
        # All actions start out equal; with random values the first maximum over them would be biased.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, observation: Tensor) -> Tensor:
        """Return action values, float32 ``[B, A]``, of observations ``[B, W]``."""
        values: Tensor = self.head(self.body(observation))
        return values


class seeded:  # noqa: N801  (a context manager, named like contextlib's)
    """Draw the initial weights of modules from one stream, without touching the global generator.

    Args:
        seed: Seed of the stream (see :func:`hpo_gym.seeding.stream_seed`).
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fork = torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *raised: object) -> None:
        self._fork.__exit__(*raised)  # type: ignore[arg-type]
