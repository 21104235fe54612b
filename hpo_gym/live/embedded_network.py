"""The funnel-shaped perceptron of LCBench (Zimmer, Lindauer and Hutter 2021, arXiv 2006.13799), trained by torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from hpo_gym.live.torch_models import Dropout
from hpo_gym.seeding import generator

__all__ = ["FunnelClassifier", "funnel_widths"]

FloatArray = NDArray[np.float64]

#: Epochs of LCBench's runs.
EPOCHS = 50
# A unit that is always dropped divides by zero.
_MOST_DROPOUT = 0.99


def funnel_widths(layers: int, widest: int, outputs: int) -> list[int]:
    """Return the widths of the hidden layers: from ``widest`` in equal steps towards ``outputs``."""
    return [max(1, round(widest - (widest - outputs) * index / layers)) for index in range(layers)]


class FunnelClassifier:
    """A perceptron with batches, momentum, weight decay and a cosine schedule, 50 epochs, as in LCBench.

    Args:
        batch_size: Rows per step, at least 1.
        learning_rate: Of the first step; the cosine takes it to 0 (Loshchilov and Hutter 2017, without restarts).
        max_dropout: Share of units that the first layer drops, in [0, 1]; it falls to 0 over the layers, and above
            0.99 it is 0.99.
        max_units: Width of the first layer.
        momentum: Of stochastic gradient descent, in [0, 1).
        num_layers: Hidden layers, at least 1.
        weight_decay: L2 penalty, at least 0.
        random_state: Seed of weights, order of the rows and dropout.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        learning_rate: float,
        max_dropout: float,
        max_units: int,
        momentum: float,
        num_layers: int,
        weight_decay: float,
        random_state: int,
    ) -> None:
        self.batch_size, self.learning_rate, self.max_dropout = batch_size, learning_rate, max_dropout
        self.max_units, self.momentum, self.num_layers = max_units, momentum, num_layers
        self.weight_decay, self.random_state = weight_decay, random_state

    def fit(self, features: FloatArray, target: NDArray[np.int64]) -> FunnelClassifier:
        """Train on ``[n, p]`` features and class numbers ``[n]`` with the cross-entropy."""
        draws = generator(self.random_state, "live", "lcbench")
        self.classes_ = np.unique(target)
        self._network = self._made(features.shape[1], len(self.classes_), draws)
        x = torch.from_numpy(np.ascontiguousarray(features)).float()
        y = torch.from_numpy(np.searchsorted(self.classes_, target))
        optimizer = torch.optim.SGD(
            self._network.parameters(), self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        self._network.train()
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x), generator=draws).split(self.batch_size):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(self._network(x[rows]), y[rows]).backward()
                optimizer.step()
            schedule.step()
        return self

    def _made(self, features: int, outputs: int, draws: torch.Generator) -> nn.Module:
        layers: list[nn.Module] = []
        widths = funnel_widths(self.num_layers, self.max_units, outputs)
        for index, (inputs, width) in enumerate(zip([features, *widths], [*widths, outputs], strict=False)):
            linear = nn.utils.skip_init(nn.Linear, inputs, width)
            bound = 1.0 / math.sqrt(inputs)
            nn.init.uniform_(linear.weight, -bound, bound, generator=draws)
            nn.init.uniform_(linear.bias, -bound, bound, generator=draws)
            layers.append(linear)
            if index < len(widths):
                rate = min(self.max_dropout, _MOST_DROPOUT) * (1.0 - index / len(widths))
                layers += [nn.ReLU(), Dropout(rate, draws)]
        return nn.Sequential(*layers)

    @torch.no_grad()
    def predict(self, features: FloatArray) -> NDArray[np.int64]:
        """Return class numbers, ``[n, p] -> [n]``.

        Raises:
            ValueError: If the training diverged.
        """
        self._network.eval()
        outputs = self._network(torch.from_numpy(np.ascontiguousarray(features)).float())
        if not bool(outputs.isfinite().all()):
            raise ValueError("The network's outputs are NaN or infinite: its training diverged.")
        labels: NDArray[np.int64] = self.classes_[outputs.argmax(1).numpy()]
        return labels

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())
