"""Task Replica Prediction: temporary modules behind a network's last hidden state, one per value of a hyperparameter.

Li, Cheng and Gu (2025), "Sequential Policy Gradient for Adaptive Hyperparameter Optimization", arXiv 2506.15051. From
the last hidden state ``h_0`` of a network a chain of ``T`` modules makes ``h_1 .. h_T``, each of which the network's
own output head reads. One pass through the network thus gives one prediction per module. :mod:`agents.spg` trains with
them.

Two things can be searched: ``dropout`` (each module drops more of the features than the one before it) and ``layers``
(each adds residual layers). Each exists in two forms. ``paper`` is what the method needs: every module is the identity
at first, and its weights learn. ``released`` is what the authors' code does: all its weights begin at zero, behind a
ReLU whose derivative at 0 is 0 in torch, so that they never move.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError, require_integer, unknown_name
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import stream_seed

__all__ = ["FORMS", "SEARCHES", "TaskReplicas", "cumulative_dropout", "drop"]

#: What the replicas differ in.
SEARCHES = ("dropout", "layers")
#: The paper's form, and that of the released code with its defect.
FORMS = ("paper", "released")


def drop(features: Tensor, rate: float, draws: torch.Generator) -> Tensor:
    """Set each feature to zero with probability ``rate``, and divide the others by ``1 - rate``.

    :func:`torch.nn.functional.dropout` draws from the global generator, with which no training could be continued
    bitwise beside others.

    Args:
        features: Of any shape.
        rate: In ``[0, 1)``; 0 draws nothing.
        draws: A generator of the features' device.
    """
    if rate == 0.0:
        return features
    kept = torch.empty_like(features).bernoulli_(1.0 - rate, generator=draws)
    return features * kept / (1.0 - rate)


def cumulative_dropout(rate: float, replica: int) -> float:
    """Return the share of features that replica ``t`` of a chain has lost: ``1 - (1 - rate)^t`` (section 3)."""
    return float(1.0 - (1.0 - rate) ** replica)


def _zero(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class _DropoutReplica(nn.Module):
    """``h' = drop(h)``, then ``h' + Linear(h')``; in the released form ``h' + ReLU(Linear(h'))``."""

    def __init__(self, width: int, depth: int, released: bool) -> None:
        super().__init__()
        linears = [nn.Linear(width, width) for _ in range(depth)]
        # With one layer all forms begin at zero. With more, an inner layer of zeros would keep the last one from
        # learning, which is the released code's way.
        _zero(*(linears if released else linears[-1:]))
        layers: list[nn.Module] = []
        for linear in linears:
            layers += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*(layers if released else layers[:-1]))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = features + self.layers(features)
        return changed


class _LayerReplica(nn.Module):
    """``depth`` residual blocks ``h + Linear(ReLU(Linear(h)))``; in the released form all begin at zero."""

    def __init__(self, width: int, depth: int, released: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            inner, outer = nn.Linear(width, width), nn.Linear(width, width)
            _zero(*((inner, outer) if released else (outer,)))
            self.blocks.append(nn.Sequential(inner, nn.ReLU(), outer))

    def forward(self, features: Tensor) -> Tensor:
        for block in self.blocks:
            features = features + block(features)
        return features


class TaskReplicas(nn.Module):
    """A chain of replicas behind a last hidden state.

    Args:
        width: ``W``, width of the features.
        count: ``T``, replicas.
        search: One of :data:`SEARCHES`.
        form: One of :data:`FORMS`.
        rate: Dropout of each replica on what the one before it left, in ``[0, 1)``.
        depth: Layers (``dropout``) or residual blocks (``layers``) of a replica.
        channels_first: Whether features are ``[B, W, ...]`` (feature maps) and not ``[..., W]``.
        seed: Root of the initial weights' stream.

    Raises:
        UnknownNameError: For an unknown search or form.
        InvalidSettingError: For a number outside its range.
    """

    def __init__(
        self,
        width: int,
        count: int,
        *,
        search: str = "dropout",
        form: str = "paper",
        rate: float = 0.2,
        depth: int = 1,
        channels_first: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for kind, name, allowed in (("search", search, SEARCHES), ("form", form, FORMS)):
            if name not in allowed:
                raise unknown_name(kind, name, allowed)
        for name, value in (("width", width), ("count", count), ("depth", depth)):
            require_integer(name, value, 1)
        if not 0.0 <= rate < 1.0:
            raise InvalidSettingError(f"dropout={rate!r} must lie in [0, 1): with 1 no feature would be left.")
        self._rate, self._channels_first = rate, channels_first
        replica = _DropoutReplica if search == "dropout" else _LayerReplica
        with seeded(stream_seed(seed, "spg", "replicas")):
            self.replicas = nn.ModuleList(replica(width, depth, form == "released") for _ in range(count))

    def forward(self, features: Tensor, draws: torch.Generator) -> list[Tensor]:
        """Return ``h_1 .. h_T``, each of the shape of ``features`` (``h_0``).

        Args:
            features: ``[..., W]``, or ``[B, W, ...]`` with ``channels_first``.
            draws: Where dropout comes from.
        """
        states = []
        for replica in self.replicas:
            dropped = drop(features, self._rate, draws)
            # A linear layer along the channels is a 1 x 1 convolution.
            features = replica(dropped.movedim(1, -1)).movedim(-1, 1) if self._channels_first else replica(dropped)
            states.append(features)
        return states
