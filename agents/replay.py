"""A ring buffer of transitions, as tensors on one device, drawn from uniformly or by priority."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError

__all__ = ["PrioritisedReplay", "ReplayBuffer", "Sample", "Transitions"]

# Priorities are kept above 0, so that every transition can be drawn.
_LEAST_PRIORITY = 1e-6


@dataclass
class Transitions:
    """A batch of transitions over one step or several.

    Args:
        observation: float32 ``[B, W]``.
        action: int64 ``[B]``, or float32 ``[B, E]`` of ``E`` coordinates.
        reward: Sum of the discounted rewards of the steps, float32 ``[B]``.
        following: What the last step led to, before any autoreset: float32 ``[B, W]``.
        terminated: Whether the episode ended there, bool ``[B]``.
        discount: What the value of ``following`` is worth: gamma to the power of the number of steps, float32 ``[B]``.
        following_mask: Legal actions in ``following``, bool ``[B, A]``; ``None`` where every action is legal.
        members: Which members of an ensemble learn from a transition, bool ``[B, H]``; ``None``: there is no ensemble,
            or all do.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    terminated: Tensor
    discount: Tensor
    following_mask: Tensor | None = None
    members: Tensor | None = None

    def parts(self) -> dict[str, Tensor]:
        """Return the tensors that there are by name."""
        named = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass
class Sample:
    """Transitions out of a buffer.

    Args:
        transitions: The transitions.
        rows: Where they lie, int64 ``[B]``.
        weights: What each counts in the loss, float32 ``[B]``, at most 1; ``None``: all count alike.
    """

    transitions: Transitions
    rows: Tensor
    weights: Tensor | None = None


class ReplayBuffer:
    """The last ``capacity`` transitions; the oldest are overwritten.

    The tensors are made when the first transitions arrive, in their shapes and types.

    Args:
        capacity: Transitions kept, at least 1.
        device: Where it lies.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise InvalidSettingError(f"buffer_size={capacity!r} must be at least 1.")
        self.capacity = capacity
        self.device = torch.device(device)
        self.size = 0
        self._next = 0
        self._stored: dict[str, Tensor] = {}

    def append(self, batch: Transitions) -> Tensor:
        """Add ``B`` transitions; of a batch larger than the buffer the last ones stay.

        Returns:
            Where they lie, int64 ``[min(B, capacity)]``.
        """
        parts = batch.parts()
        self._allocate(parts)
        count = min(len(batch.reward), self.capacity)
        rows = (torch.arange(count, device=self.device) + self._next) % self.capacity
        for name, value in parts.items():
            self._stored[name][rows] = value[-count:]
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        return rows

    def sample(self, count: int, draws: torch.Generator) -> Sample:
        """Draw transitions uniformly, with replacement.

        Raises:
            InvalidSettingError: If the buffer is empty.
        """
        self._require_filled()
        rows = torch.randint(self.size, (count,), generator=draws, device=self.device)
        return Sample(self.at(rows), rows)

    def at(self, rows: Tensor) -> Transitions:
        """Return the transitions at some places, int64 ``[B]``."""
        return Transitions(**{name: stored[rows] for name, stored in self._stored.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part and the position, for a checkpoint."""
        filled = {name: stored[: self.size].clone() for name, stored in self._stored.items()}
        return {"filled": filled, "next": self._next}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict` of a buffer with the same capacity.

        Raises:
            InvalidSettingError: If it does not fit into this one.
        """
        filled = saved["filled"]
        count = len(next(iter(filled.values()))) if filled else 0
        if count > self.capacity:
            raise InvalidSettingError(
                f"The saved buffer holds {count} transitions, this one {self.capacity}: use the same buffer_size."
            )
        self._stored = {}
        self._allocate(filled)
        for name, value in filled.items():
            self._stored[name][:count] = value
        self.size, self._next = count, int(saved["next"])

    def _allocate(self, parts: Mapping[str, Tensor]) -> None:
        for name, value in parts.items() if not self._stored else ():
            self._stored[name] = torch.zeros((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)

    def _require_filled(self) -> None:
        if self.size == 0:
            raise InvalidSettingError("The replay buffer is empty: append transitions before sampling.")


class PrioritisedReplay(ReplayBuffer):
    """A buffer that draws transitions in proportion to a power of how wrong their value was.

    Schaul, Quan, Antonoglou and Silver (2016), "Prioritized Experience Replay", section 3.3 (proportional variant,
    stratified draws) and Algorithm 1. The sums of the priorities form a binary tree in one tensor, so that a whole
    batch descends together.

    Args:
        capacity, device: As for :class:`ReplayBuffer`.
        exponent: ``alpha``: 0 draws uniformly, 1 in proportion to the error.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu", exponent: float = 0.6) -> None:
        super().__init__(capacity, device)
        self._exponent = exponent
        self._depth = max(1, (capacity - 1).bit_length())
        self._leaves = 2**self._depth
        # Node 1 is the root, node k has the children 2 k and 2 k + 1; float64, or small priorities are lost in sums.
        self._tree = torch.zeros(2 * self._leaves, dtype=torch.float64, device=self.device)
        self._largest = torch.ones((), dtype=torch.float64, device=self.device)

    def append(self, batch: Transitions) -> Tensor:
        rows = super().append(batch)
        # As wrong as the worst: a new transition is likely to be replayed once.
        self._set(rows, self._largest.expand(len(rows)))
        return rows

    def sample(self, count: int, draws: torch.Generator, correction: float = 1.0) -> Sample:
        """Draw transitions by priority, one from each of ``count`` equal parts of their sum.

        Args:
            count: How many.
            draws: Where random numbers come from.
            correction: ``beta``: how far the weights undo that they were not drawn uniformly, in ``[0, 1]``.

        Raises:
            InvalidSettingError: If the buffer is empty.
        """
        self._require_filled()
        total = self._tree[1]
        uniform = torch.rand(count, generator=draws, device=self.device, dtype=torch.float64)
        left = (torch.arange(count, device=self.device) + uniform) * (total / count)
        node = torch.ones(count, dtype=torch.int64, device=self.device)
        for _ in range(self._depth):
            node = 2 * node
            below = self._tree[node]
            # Rounding must not lead into an empty part.
            right = (left >= below) & (self._tree[node + 1] > 0.0)
            left = torch.where(right, left - below, left)
            node = node + right
        rows = (node - self._leaves).clamp(max=self.size - 1)
        chance = self._tree[rows + self._leaves] / total
        weights = (self.size * chance) ** -correction
        return Sample(self.at(rows), rows, (weights / weights.max()).float())

    def update(self, rows: Tensor, error: Tensor) -> None:
        """Set the priority of transitions.

        Args:
            rows: Where they lie, int64 ``[B]``.
            error: Absolute error of their value, ``[B]``.
        """
        priority = (error.double().abs() + _LEAST_PRIORITY) ** self._exponent
        self._largest = torch.maximum(self._largest, priority.max())
        self._set(rows, priority)

    def _set(self, rows: Tensor, priority: Tensor) -> None:
        node = rows + self._leaves
        self._tree[node] = priority
        for _ in range(self._depth):
            # Rows may share parents: each is written the same sum.
            node = node // 2
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]

    def state_dict(self) -> dict[str, Any]:
        leaves = self._tree[self._leaves : self._leaves + self.size].clone()
        return super().state_dict() | {"priority": leaves, "largest": self._largest.clone()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._largest = saved["largest"].to(self.device)
        self._tree.zero_()
        if self.size > 0:
            self._set(torch.arange(self.size, device=self.device), saved["priority"].to(self.device))
