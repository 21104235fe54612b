"""A ring buffer of transitions, as tensors on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError

__all__ = ["ReplayBuffer", "Transitions"]


@dataclass
class Transitions:
    """A batch of transitions.

    Args:
        observation: float32 ``[B, W]``.
        action: int64 ``[B]``.
        reward: float32 ``[B]``.
        following: What the action led to, before any autoreset: float32 ``[B, W]``.
        terminated: Whether the episode ended there, bool ``[B]``.
        following_mask: Legal actions in ``following``, bool ``[B, A]``.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    terminated: Tensor
    following_mask: Tensor


_FIELDS = tuple(Transitions.__dataclass_fields__)


class ReplayBuffer:
    """The last ``capacity`` transitions; the oldest are overwritten.

    Args:
        capacity: Transitions kept, at least 1.
        width: Width ``W`` of an observation.
        num_actions: ``A``.
        device: Where it lies.
    """

    def __init__(self, capacity: int, width: int, num_actions: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise InvalidSettingError(f"buffer_size={capacity!r} must be at least 1.")
        self.capacity = capacity
        self.size = 0
        self._next = 0
        self._stored = Transitions(
            torch.zeros(capacity, width, device=device),
            torch.zeros(capacity, dtype=torch.int64, device=device),
            torch.zeros(capacity, device=device),
            torch.zeros(capacity, width, device=device),
            torch.zeros(capacity, dtype=torch.bool, device=device),
            torch.zeros(capacity, num_actions, dtype=torch.bool, device=device),
        )

    def append(self, batch: Transitions) -> None:
        """Add ``B`` transitions; of a batch larger than the buffer the last ones stay."""
        count = min(len(batch.action), self.capacity)
        rows = (torch.arange(count, device=batch.action.device) + self._next) % self.capacity
        for name in _FIELDS:
            getattr(self._stored, name)[rows] = getattr(batch, name)[-count:]
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, draws: torch.Generator) -> Transitions:
        """Draw transitions uniformly, with replacement.

        Raises:
            InvalidSettingError: If the buffer is empty.
        """
        if self.size == 0:
            raise InvalidSettingError("The replay buffer is empty: append transitions before sampling.")
        device = self._stored.action.device
        rows = torch.randint(self.size, (count,), generator=draws, device=device)
        return Transitions(*(getattr(self._stored, name)[rows] for name in _FIELDS))

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part and the position, for a checkpoint."""
        filled = {name: getattr(self._stored, name)[: self.size].clone() for name in _FIELDS}
        return {**filled, "next": self._next}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict` of a buffer with the same capacity and widths."""
        count = len(saved["action"])
        if count > self.capacity:
            raise InvalidSettingError(
                f"The saved buffer holds {count} transitions, this one {self.capacity}: use the same buffer_size."
            )
        for name in _FIELDS:
            getattr(self._stored, name)[:count] = saved[name]
        self.size, self._next = count, int(saved["next"])
