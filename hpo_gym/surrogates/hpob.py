"""HPO-B's objective: the accuracy that a task's trees predict, and the same on the scale that HPO-B compares on."""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.surrogates.base import Metric, Surrogate
from hpo_gym.surrogates.trees import TreeSurrogate

__all__ = ["ACCURACY", "SCALED_ACCURACY", "HPOBSurrogate"]

ACCURACY = Metric("accuracy", False, 0.0, 1.0)
SCALED_ACCURACY = Metric("scaled_accuracy", False, 0.0, 1.0)


class HPOBSurrogate(Surrogate):
    """Answers with the accuracy as HPO-B's methods see it, ``(y - y_min) / (y_max - y_min)`` in [0, 1], and as it is.

    Args:
        trees: What predicts accuracies.
        extremes: ``y_min`` and ``y_max`` of every task, float32 ``[N, 2]``; where they are equal, every configuration
            scores 0.
    """

    extremes: Tensor

    def __init__(self, trees: TreeSurrogate, extremes: Tensor) -> None:
        super().__init__()
        self.trees = trees
        self.metrics = (SCALED_ACCURACY, ACCURACY)
        self.num_tasks, self.num_hyperparameters = trees.num_tasks, trees.num_hyperparameters
        self.register_buffer("extremes", extremes)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        accuracy = self.trees.predict(task, u, active)
        return torch.cat([self.scaled(task, accuracy[:, 0])[:, None], accuracy], 1)

    def scaled(self, task: Tensor, accuracy: Tensor) -> Tensor:
        """Return accuracies of tasks, ``[B]``, as shares of the task's range, in [0, 1]."""
        low, high = self.extremes[task].unbind(1)
        span = high - low
        return torch.where(span > 0.0, (accuracy - low) / span, 0.0).clamp(0.0, 1.0)
