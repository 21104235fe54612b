"""Networks of torch behind scikit-learn's interface: a multilayer perceptron and a small convolutional network.

They train on the CPU, on the threads that torch is set to, and draw everything (weights, order of the rows, dropout)
from one generator: the same seed gives the same network, whatever the global generator does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.fit import Fit
from hpo_gym.seeding import generator
from hpo_gym.spaces.columns import Value

__all__ = [
    "Dropout",
    "NetworkClassifier",
    "NetworkModel",
    "NetworkRegressor",
    "make_cnn",
    "make_mlp",
    "make_network_model",
]

NetworkKind = Literal["mlp", "cnn"]
FloatArray = NDArray[np.float64]


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own; ``nn.Dropout`` knows the global one only.

    Args:
        rate: Share of the units that is dropped, in ``[0, 1)``.
        draws: What it draws from.
    """

    def __init__(self, rate: float, draws: torch.Generator) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise InvalidSettingError(f"rate={rate!r} of dropout must lie in [0, 1).")
        self.rate = rate
        self._draws = draws

    def forward(self, x: Tensor) -> Tensor:
        """Drop units while training: any shape to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(x.shape, generator=self._draws) >= self.rate
        return x * kept / (1.0 - self.rate)


def _initialise(network: nn.Module, draws: torch.Generator) -> None:
    """Draw weights as torch does by default (He et al. 2015, with a = sqrt 5), biases alike."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=draws)
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -bound, bound, generator=draws)


def make_mlp(features: int, outputs: int, depth: int, width: int, dropout: float, draws: torch.Generator) -> nn.Module:
    """Return a perceptron ``[B, features] -> [B, outputs]`` of ``depth`` ReLU layers with dropout after each."""
    layers: list[nn.Module] = []
    for index in range(depth):
        inputs = features if index == 0 else width
        layers += [nn.utils.skip_init(nn.Linear, inputs, width), nn.ReLU(), Dropout(dropout, draws)]
    network = nn.Sequential(*layers, nn.utils.skip_init(nn.Linear, width, outputs))
    _initialise(network, draws)
    return network


def make_cnn(
    image: tuple[int, int, int], outputs: int, blocks: int, channels: int, dropout: float, draws: torch.Generator
) -> nn.Module:
    """Return a network ``[B, c * h * w] -> [B, outputs]``.

    Each block is a 3 x 3 convolution, ReLU and 2 x 2 maximum pooling, and doubles the channels of the one before; a
    dropout and a linear layer follow. A block for which less than 2 x 2 pixels are left does not pool.
    """
    depth, height, width = image
    layers: list[nn.Module] = [nn.Unflatten(1, image)]
    for index in range(blocks):
        made = channels * 2**index
        layers += [nn.utils.skip_init(nn.Conv2d, depth, made, 3, padding=1), nn.ReLU()]
        if min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        depth = made
    last = nn.utils.skip_init(nn.Linear, depth * height * width, outputs)
    network = nn.Sequential(*layers, nn.Flatten(), Dropout(dropout, draws), last)
    _initialise(network, draws)
    return network


def make_network_model(kind: NetworkKind, configuration: Mapping[str, Value], fit: Fit) -> NetworkModel:
    """Return an unfitted estimator that trains a network with AdamW (Loshchilov and Hutter 2019).

    Args:
        kind: Which network.
        configuration: ``batch_size``, ``dropout``, ``weight_decay``, ``learning_rate``, and ``depth`` and ``width`` of
            a perceptron or ``blocks`` and ``channels`` of a convolutional network.
        fit: What it is for; its iterations are epochs.

    Raises:
        InvalidSettingError: If a convolutional network is asked for and the features are no images.
    """
    if kind == "cnn" and fit.image is None:
        raise InvalidSettingError(
            "A convolutional network needs images: use 'sklearn:digits', or store_arrays(..., image=(channels, height, "
            "width)), or the family torch_mlp."
        )
    settings = {name: float(value) for name, value in configuration.items()}  # type: ignore[arg-type]
    return (NetworkClassifier if fit.classification else NetworkRegressor)(kind, settings, fit)


class NetworkModel:
    """A network with the interface of scikit-learn's estimators, as far as its scorers need it.

    Args:
        kind: Which network.
        settings: The hyperparameters (see :func:`make_network_model`).
        fit: What it is for.
    """

    def __init__(self, kind: NetworkKind, settings: Mapping[str, float], fit: Fit) -> None:
        self._for, self._settings = fit, settings
        self._draws = generator(fit.seed, "live", kind)
        outputs, dropout = max(1, fit.classes), settings["dropout"]
        if kind == "cnn":
            assert fit.image is not None
            blocks, channels = int(settings["blocks"]), int(settings["channels"])
            self._network = make_cnn(fit.image, outputs, blocks, channels, dropout, self._draws)
        else:
            depth, width = int(settings["depth"]), int(settings["width"])
            self._network = make_mlp(fit.features, outputs, depth, width, dropout, self._draws)

    def _train(
        self,
        features: FloatArray,
        target: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        also: Iterable[nn.Parameter] = (),
    ) -> None:
        """Minimise ``loss(outputs, target)`` over the network's parameters and what is given besides."""
        x = torch.from_numpy(features).float()
        rate, decay = self._settings["learning_rate"], self._settings["weight_decay"]
        optimizer = torch.optim.AdamW([*self._network.parameters(), *also], lr=rate, weight_decay=decay)
        self._network.train()
        for _ in range(self._for.iterations):
            order = torch.randperm(len(x), generator=self._draws)
            for rows in order.split(int(self._settings["batch_size"])):
                optimizer.zero_grad(set_to_none=True)
                loss(self._network(x[rows]), target[rows]).backward()
                optimizer.step()

    @torch.no_grad()
    def _outputs(self, features: FloatArray) -> Tensor:
        self._network.eval()
        outputs: Tensor = self._network(torch.from_numpy(features).float())
        return outputs.double()


class NetworkClassifier(NetworkModel):
    """A network that predicts classes; see :class:`NetworkModel`."""

    def fit(self, features: FloatArray, target: NDArray[np.int64]) -> NetworkClassifier:
        """Train on ``[n, p]`` features and class numbers ``[n]`` with the cross-entropy."""
        self.classes_ = np.arange(self._for.classes)
        self._train(features, torch.from_numpy(target), F.cross_entropy)
        return self

    def predict_proba(self, features: FloatArray) -> FloatArray:
        """Return probabilities, ``[n, p] -> [n, C]``."""
        probabilities: FloatArray = self._outputs(features).softmax(1).numpy()
        return probabilities

    def predict(self, features: FloatArray) -> NDArray[np.int64]:
        """Return class numbers, ``[n, p] -> [n]``.

        Raises:
            ValueError: If the training diverged.
        """
        outputs = self._outputs(features)
        if not bool(outputs.isfinite().all()):
            raise ValueError("The network's outputs are NaN or infinite: its training diverged.")
        labels: NDArray[np.int64] = outputs.argmax(1).numpy()
        return labels

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())


class NetworkRegressor(NetworkModel):
    """A network that predicts values, and learns them standardised; see :class:`NetworkModel`."""

    def fit(self, features: FloatArray, target: FloatArray) -> NetworkRegressor:
        """Train on ``[n, p]`` features and values ``[n]`` with the squared error."""
        self.mean_, self.deviation_ = float(target.mean()), float(target.std()) or 1.0
        standardised = torch.from_numpy((target - self.mean_) / self.deviation_).float()[:, None]
        self._train(features, standardised, F.mse_loss)
        return self

    def predict(self, features: FloatArray) -> FloatArray:
        """Return values in the target's units, ``[n, p] -> [n]``."""
        values: FloatArray = self._outputs(features)[:, 0].numpy() * self.deviation_ + self.mean_
        return values

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import RegressorTags, Tags, TargetTags

        return Tags("regressor", TargetTags(required=True), regressor_tags=RegressorTags())
