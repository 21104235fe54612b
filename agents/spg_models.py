"""Small networks on which Sequential Policy Gradient is measured: stages, then a head.

Their stages are reached by name (``stages.0`` ...), for heads on inner layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Classifier", "convolutional", "perceptron", "transformer"]


class Classifier(nn.Module):
    """Stages one after the other, whose last one gives the hidden state ``[B, W]``, and a linear head.

    Args:
        stages: The stages.
        widths: Channels of each stage's output; of the last one ``W``.
        classes: ``C``.
    """

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self.widths = tuple(widths)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[B, C]`` of a batch of inputs."""
        logits: Tensor = self.head(self.stages(inputs))
        return logits


def perceptron(features: int, classes: int, hidden: Sequence[int]) -> Classifier:
    """Return a perceptron from float32 ``[B, features]``."""
    stages = [
        nn.Sequential(nn.Linear(before, after), nn.ReLU())
        for before, after in zip((features, *hidden), hidden, strict=False)
    ]
    return Classifier(stages, hidden, classes)


def convolutional(size: int, classes: int, channels: Sequence[int], width: int) -> Classifier:
    """Return a network from grey images, float32 ``[B, 1, size, size]``.

    Args:
        size: Pixels; halved by every convolution but the first.
        classes: ``C``.
        channels: Of each convolution.
        width: Of the hidden state.
    """
    stages: list[nn.Module] = []
    for index, (before, after) in enumerate(zip((1, *channels), channels, strict=False)):
        convolution = nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1)
        stages.append(nn.Sequential(convolution, nn.ReLU()))
    side = -(-size // 2 ** (len(channels) - 1))
    stages.append(nn.Sequential(nn.Flatten(), nn.Linear(channels[-1] * side**2, width), nn.ReLU()))
    return Classifier(stages, (*channels, width), classes)


class _Embedding(nn.Module):
    """Tokens int64 ``[B, S]`` to ``[B, S, W]``, with learned positions."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, inputs: Tensor) -> Tensor:
        embedded: Tensor = self.tokens(inputs) + self.positions
        return embedded


class _MeanOverTokens(nn.Module):
    """``[B, S, W]`` to ``[B, W]``, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        normalised: Tensor = self.norm(states.mean(1))
        return normalised


def transformer(vocabulary: int, length: int, classes: int, width: int, layers: int) -> Classifier:
    """Return a Transformer encoder over tokens int64 ``[B, length]``, whose hidden state is the mean over tokens.

    It has no dropout of its own: that would draw from the global generator, and blur what is compared.
    """
    stages: list[nn.Module] = [_Embedding(vocabulary, length, width)]
    stages += [
        nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        for _ in range(layers)
    ]
    stages.append(_MeanOverTokens(width))
    return Classifier(stages, (width,) * len(stages), classes)
