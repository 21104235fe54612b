"""Episodes that a policy over histories plays side by side, as it learns from them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["Played", "Rollout"]


@dataclass
class Played:
    """Whole episodes of ``A`` actions each, ``B`` of them.

    Args:
        tokens: What the policy read, float32 ``[B, F + A, W]``: ``F`` tokens before the first action, and one after
            each.
        choice: Bins that it chose, int64 ``[B, A, D]``.
        log_probability: Of each, float32 ``[B, A, D]``.
        active: Which hyperparameters turned out to be active, bool ``[B, A, D]``.
        reward: float32 ``[B, A]``.
    """

    tokens: Tensor
    choice: Tensor
    log_probability: Tensor
    active: Tensor
    reward: Tensor

    @property
    def first(self) -> int:
        """``F``; the output for token ``F - 1 + a`` is what chose action ``a``."""
        return self.tokens.shape[1] - self.choice.shape[1]

    def rows(self, index: Tensor) -> Played:
        """Return some of the episodes."""
        return Played(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything as tensors."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Tensor], device: torch.device) -> Played:
        """Restore a :meth:`state_dict`; what else is in ``saved`` is left alone."""
        return cls(**{field.name: saved[field.name].to(device) for field in fields(cls)})


class Rollout:
    """Episodes that are still played.

    Args:
        tokens: The tokens before the first action, float32 ``[B, F, W]``.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = [tokens]
        self._steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def tokens(self) -> list[Tensor]:
        """What was read, call by call: ``[B, F, W]``, then ``[B, 1, W]`` after each action."""
        return self._tokens

    def add(self, choice: Tensor, log_probability: Tensor, active: Tensor, reward: Tensor, token: Tensor) -> None:
        """Add one action of every episode and the token of what came out, ``[B, 1, W]``."""
        self._steps.append((choice, log_probability, active, reward))
        self._tokens.append(token)

    def played(self) -> Played:
        """Return the episodes so far."""
        columns = [torch.stack(column, 1) for column in zip(*self._steps, strict=True)]
        return Played(torch.cat(self._tokens, 1), *columns)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything as tensors."""
        return self.played().state_dict() if self._steps else {"tokens": self._tokens[0]}

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Tensor], device: torch.device) -> Rollout:
        """Restore a :meth:`state_dict`."""
        if "choice" not in saved:
            return cls(saved["tokens"].to(device))
        played = Played.from_state_dict(saved, device)
        # Laid out in memory as they were when they were read: sums over another layout may differ in the last bits.
        actions = played.choice.shape[1]
        begin, *later = (part.contiguous() for part in played.tokens.split([played.first, *[1] * actions], 1))
        rollout = cls(begin)
        columns = (played.choice, played.log_probability, played.active, played.reward)
        for step, token in enumerate(later):
            choice, log_probability, active, reward = (column[:, step] for column in columns)
            rollout.add(choice, log_probability, active, reward, token)
        return rollout
