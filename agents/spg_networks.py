"""Networks whose trainings may be Sequential Policy Gradient's: what ``env=live_spg`` trains.

Each is a live model (:func:`hpo_gym.live.own_model`) with the search space of ``torch_mlp`` or ``torch_cnn`` and one
hyperparameter more, ``training``: ``plain``, with the dropout that was asked for, or ``spg``, without dropout of the
network's own but with task replicas (:mod:`agents.spg`) that have it, which are taken off before anything is measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.spg import SequentialPolicyGradient
from agents.spg_settings import SPGSettings
from hpo_gym.errors import InvalidSettingError, require_names
from hpo_gym.live import own_model
from hpo_gym.live.fit import Fit
from hpo_gym.live.models import FAMILIES
from hpo_gym.live.presets import preset_space
from hpo_gym.live.torch_models import NetworkClassifier, NetworkKind
from hpo_gym.spaces.clauses import Atom
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["CNN", "MLP", "TRAINING", "SPGNetworkClassifier", "cnn", "mlp"]

#: The hyperparameter that says how a network is trained, and what it may be.
TRAINING = Column("training", "categorical", choices=("plain", "spg"), default="plain")

_DROPOUT = "dropout"


class SPGNetworkClassifier(NetworkClassifier):
    """A network that is trained with Sequential Policy Gradient, with its default settings, from its first epoch.

    Args:
        kind: Which network.
        settings: The hyperparameters (see :func:`hpo_gym.live.torch_models.make_network_model`).
        fit: What it is for.
    """

    def fit(self, features: NDArray[np.float64], target: NDArray[np.int64]) -> SPGNetworkClassifier:
        """Train on ``[n, p]`` features and class numbers ``[n]`` with the loss of all stages."""
        self.classes_ = np.arange(self._for.classes)
        *_, head = self._network.children()
        with SequentialPolicyGradient(self._network, head, SPGSettings(), seed=self._for.seed) as spg:
            self._train(features, torch.from_numpy(target), spg.loss, spg.parameters())
        return self


def mlp(fit: Fit, training: str, **settings: Any) -> NetworkClassifier:
    """Return a perceptron of ``depth`` layers of ``width`` units.

    Raises:
        UnknownNameError: For another training.
        InvalidSettingError: For a dropout with ``training="spg"``.
    """
    return _network("mlp", fit, training, settings)


def cnn(fit: Fit, training: str, **settings: Any) -> NetworkClassifier:
    """Return a convolutional network of ``blocks`` with ``channels``, for images.

    Raises:
        As :func:`mlp`.
    """
    return _network("cnn", fit, training, settings)


def _network(kind: NetworkKind, fit: Fit, training: str, settings: dict[str, Any]) -> NetworkClassifier:
    require_names(TRAINING.name, (training,), TRAINING.choices)
    if training == "spg":
        if settings.get(_DROPOUT):
            raise InvalidSettingError(
                f"dropout={settings[_DROPOUT]!r} with training='spg', whose replicas have it: leave it out."
            )
        return SPGNetworkClassifier(kind, {**settings, _DROPOUT: 0.0}, fit)
    return NetworkClassifier(kind, settings, fit)


def _space(family: str) -> SpaceSpec:
    """Return the search space of a family of networks with :data:`TRAINING` before it."""
    spec = preset_space(family)
    columns = (TRAINING, *spec.columns)
    dropout = [column.name for column in columns].index(_DROPOUT)
    return replace(spec, columns=columns, conditions={dropout: ((Atom(0, "in", (TRAINING.number("plain"),)),),)})


#: A perceptron and a convolutional network, as long as ``torch_mlp`` and ``torch_cnn`` are trained.
MLP, CNN = (
    own_model(
        make,
        _space(family),
        iterations=FAMILIES[family].iterations,
        task="classification",
        images=FAMILIES[family].images,
        name=name,
    )
    for make, family, name in ((mlp, "torch_mlp", "spg_mlp"), (cnn, "torch_cnn", "spg_cnn"))
)
