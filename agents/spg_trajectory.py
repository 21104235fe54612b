"""The episodes of Sequential Policy Gradient: which stages an example reaches, and what it earns there.

State ``(h_t, o_t)``, action: the class that stage ``t`` predicts, reward: 1 for a right one while the episode goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORED", "Trajectory"]

#: Targets of this value count nowhere, as for :func:`torch.nn.functional.cross_entropy`.
IGNORED = -100


@dataclass(frozen=True)
class Trajectory:
    """One episode per unit (an example, or a token of one): ``U`` units, ``C`` classes, stages ``0 .. T``.

    Args:
        losses: Cross-entropy of each stage, ``[T + 1, U]``; 0 for ignored targets.
        correct: Whether the target is among the ``top_k`` classes (the action), bool ``[T + 1, U]``.
        observed: ``o_t``, int64 ``[T + 1, U]``: 1 while the episode goes on; 0 and -1 are padding.
    """

    losses: Tensor
    correct: Tensor
    observed: Tensor

    @property
    def alive(self) -> Tensor:
        """Which stages an episode reached, bool ``[T + 1, U]``."""
        return self.observed == 1

    @property
    def rewards(self) -> Tensor:
        """1 where a stage was reached and its prediction is right, else 0; ``[T + 1, U]``."""
        return (self.alive & self.correct).to(self.losses.dtype)

    def returns(self, weights: Tensor) -> Tensor:
        """Return ``1 + sum_t weights[t - 1] * reward_{t - 1}`` over ``t = 1 .. T``, ``[U]``, as the released code does.

        Args:
            weights: ``[T]``.
        """
        return 1.0 + (weights[:, None] * self.rewards[:-1]).sum(0)

    @classmethod
    def of(cls, stages: Tensor, targets: Tensor, top_k: int) -> Trajectory:
        """Return the episodes of logits ``[T + 1, U, C]`` and classes int64 ``[U]``."""
        count, classes = len(stages), stages.shape[-1]
        losses = F.cross_entropy(stages.flatten(0, 1), targets.repeat(count), reduction="none", ignore_index=IGNORED)
        best = stages.detach().topk(min(top_k, classes), dim=-1).indices
        correct = (best == targets[None, :, None]).any(-1)
        observed = [torch.where(targets == IGNORED, -1, 1)]
        for stage in correct[:-1]:
            observed.append(next_observed(observed[-1], stage))
        return cls(losses.view(count, -1), correct, torch.stack(observed))


def next_observed(observed: Tensor, correct: Tensor) -> Tensor:
    """Return ``o_{t+1} = o_t (o_t + 1[correct]) - 1``: from 1 either 1 (right) or 0 (wrong); never back to 1."""
    return observed * (observed + correct.long()) - 1
