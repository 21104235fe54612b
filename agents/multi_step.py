"""Transitions over several steps of a vector environment."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.replay import Transitions

__all__ = ["MultiStep"]


class MultiStep:
    """Joins ``n`` steps of every environment into one transition.

    The reward is ``sum_k gamma^k r_{t+k}`` over the steps until the ``n``-th or until the episode ends, and what
    follows is what the last of them led to: Sutton and Barto (2018), section 7.1. Steps beyond the end of an episode
    belong to the next one and are never joined.

    Args:
        steps: ``n``, at least 1.
        discount: ``gamma``.
    """

    def __init__(self, steps: int, discount: float) -> None:
        self._steps, self._discount = steps, discount
        self._waiting: deque[Transitions] = deque(maxlen=steps)

    def __call__(self, step: Transitions) -> Transitions | None:
        """Add one step of every environment; return the transitions that began ``n - 1`` steps before it.

        Args:
            step: One step; its ``discount`` is not read.

        Returns:
            ``None`` for the first ``n - 1`` steps.
        """
        self._waiting.append(step)
        if len(self._waiting) < self._steps:
            return None
        first = self._waiting[0]
        reward, following, mask = first.reward, first.following, first.following_mask
        terminated, power = first.terminated, torch.full_like(first.reward, self._discount)
        for later in list(self._waiting)[1:]:
            goes_on = ~terminated
            reward = torch.where(goes_on, reward + power * later.reward, reward)
            following = torch.where(goes_on[:, None], later.following, following)
            if mask is not None and later.following_mask is not None:
                mask = torch.where(goes_on[:, None], later.following_mask, mask)
            power = torch.where(goes_on, power * self._discount, power)
            terminated = terminated | later.terminated
        return Transitions(first.observation, first.action, reward, following, terminated, power, mask, first.members)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps that wait for others, for a checkpoint."""
        return {str(index): step.parts() for index, step in enumerate(self._waiting)}

    def load_state_dict(self, saved: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> None:
        """Restore a :meth:`state_dict` onto a device."""
        self._waiting.clear()
        for index in range(len(saved)):
            parts = {name: value.to(device) for name, value in saved[str(index)].items()}
            self._waiting.append(Transitions(**parts))
