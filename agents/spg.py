"""Sequential Policy Gradient (SPG): hyperparameter optimisation of a network within its own training.

Li, Cheng and Gu (2025), "Sequential Policy Gradient for Adaptive Hyperparameter Optimization", arXiv 2506.15051. Task
replicas (:mod:`agents.task_replica`) behind a network's last hidden state give, with one pass through it, a trajectory
of ``T + 1`` predictions per example: stage 0 is the network itself, stage ``t`` is replica ``t``. An episode goes on as
long as predictions are right; a stage learns from the examples whose episode has reached it. After training the
replicas are removed. Around any training loop::

    spg = SequentialPolicyGradient(model, head="head")
    optimizer = torch.optim.Adam([*model.parameters(), *spg.parameters()])
    ...
        loss = spg.loss(model(inputs), targets)      # instead of cross_entropy(model(inputs), targets)
    ...
    spg.remove()

``docs/agents/spg.md`` lists the settings, the defects of the released code and what is different here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from agents.base import restore_generator
from agents.spg_settings import SPGSettings
from agents.spg_trajectory import Trajectory
from agents.task_replica import TaskReplicas
from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.seeding import generator

__all__ = ["SPGSettings", "SequentialPolicyGradient", "Trajectory", "find_head"]

# Of the released code: keeps the mean over no example from being 0 / 0.
_LEAST_COUNT = 1e-6


@contextmanager
def _statistics_held(head: nn.Module) -> Iterator[None]:
    """Keep running averages of a head as they are: they are of the model's features, and not of what replicas made."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    held = [part for part in head.modules() if isinstance(part, kinds) and part.track_running_stats and part.training]
    for part in held:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in held:
            part.track_running_stats = True


class SequentialPolicyGradient:
    """Task replicas on a model, until :meth:`remove`.

    The model gets no new modules or parameters: its ``state_dict`` is the same before, meanwhile and afterwards. In
    evaluation mode, and without gradients, nothing is recorded. Running averages of normalisation in the head (batch
    and instance normalisation) are those of the model's own features; other state that a head changes when it is called
    is changed by every replica, too.

    Args:
        model: Any network that ends in a head.
        head: The module that makes logits of the last hidden state, by name or itself.
        settings: How it trains.
        width: Width of the hidden state; ``None`` takes what the head says (``in_features``, ``in_channels``).
        channels_first: Whether hidden state and logits have their channels and classes in dimension 1 (feature maps)
            and not in the last one.
        seed: Root of the streams of initial weights and dropout.

    Raises:
        UnknownNameError: If the model has no such module.
        InvalidSettingError: If the width is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        head: str | nn.Module = "head",
        settings: SPGSettings | None = None,
        *,
        width: int | None = None,
        channels_first: bool = False,
        seed: int = 0,
    ) -> None:
        self.settings = settings or SPGSettings()
        self._head = find_head(model, head)
        place = next(self._head.parameters(), torch.zeros(()))
        self.replicas = TaskReplicas(
            _width_of(self._head) if width is None else width,
            len(self.settings.weights),
            search=self.settings.search,
            form=self.settings.form,
            rate=self.settings.rate,
            depth=self.settings.depth,
            channels_first=channels_first,
            seed=seed,
        ).to(device=place.device, dtype=place.dtype)
        self._class_dimension = 1 if channels_first else -1
        self._weights = torch.tensor(self.settings.weights, device=place.device, dtype=place.dtype)
        self._draws = generator(seed, "spg", "dropout", device=place.device)
        self._features: Tensor | None = None
        self._replaying = False
        self._hook: Any = self._head.register_forward_pre_hook(self._record)
        stages = range(len(self.settings.weights) + 1)
        #: What :attr:`figures` are: mean loss of each stage and share of episodes that reached it, and the whole loss.
        self.names = (
            *(f"stage_{stage}_loss" for stage in stages),
            *(f"stage_{stage}_reached" for stage in stages),
            "normaliser",
            "loss",
        )
        #: Of the last :meth:`loss`, float32 ``[F]``.
        self.figures = torch.full((len(self.names),), torch.nan, device=place.device)

    def _record(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._replaying:
            return
        if not module.training:
            # A loss is that of the last pass, which has none to begin from.
            self._features = None
            return
        if not torch.is_grad_enabled():
            return
        if not inputs or not isinstance(inputs[0], Tensor):
            raise InvalidSettingError(
                f"The head {type(module).__name__} was not called with a tensor as its first argument. Name as head "
                "the module that is."
            )
        self._features = inputs[0]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the replicas' parameters, for the optimiser."""
        return self.replicas.parameters()

    def trajectory(self, logits: Tensor, targets: Tensor) -> Trajectory:
        """Return the episodes of the batch that the model saw last in training mode.

        Args:
            logits: What the head gave, ``[B, ..., C]``, or ``[B, C, ...]`` with ``channels_first``.
            targets: Classes, int64, of the same shape without ``C``; -100 is ignored.

        Raises:
            InvalidSettingError: If the model saw no batch, the replicas were removed, or shapes do not fit.
        """
        if self._hook is None:
            raise InvalidSettingError("The replicas were removed from this model. Attach new ones to train on.")
        if self._features is None:
            raise InvalidSettingError(
                "There is no hidden state to begin from: call the model on a batch in training mode (model.train()) "
                "and with gradients, once before every loss."
            )
        features, self._features = self._features, None
        self._replaying = True
        try:
            with _statistics_held(self._head):
                stages = [logits, *(self._head(state) for state in self.replicas(features, self._draws))]
        finally:
            self._replaying = False
        flat = torch.stack([stage.movedim(self._class_dimension, -1).flatten(0, -2) for stage in stages])
        units = targets.flatten()
        if flat.shape[1] != len(units):
            raise InvalidSettingError(
                f"targets of shape {list(targets.shape)} do not fit logits of shape {list(logits.shape)}: there must "
                "be one target per prediction."
            )
        return Trajectory.of(flat, units, self.settings.top_k)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of all stages, a tensor of one element, in place of the cross-entropy of ``logits``.

        Args:
            logits, targets: As for :meth:`trajectory`.

        Raises:
            InvalidSettingError: As for :meth:`trajectory`.
        """
        episodes = self.trajectory(logits, targets)
        alive = episodes.alive.to(episodes.losses.dtype)
        reached = alive[:1].expand_as(alive) if self.settings.loss == "unmasked" else alive
        means = (reached * episodes.losses).sum(1) / (reached.sum(1) + _LEAST_COUNT)
        reference, total = self._total(episodes, alive, means)
        factor = (reference - total.detach()).exp() if self.settings.normalise else torch.ones_like(reference)
        loss = total * factor
        last = torch.stack([factor, loss.detach()])
        self.figures = torch.cat([means.detach(), alive.mean(1), last])
        return loss

    def _total(self, episodes: Trajectory, alive: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``L_0``, without a gradient, and ``L``.

        Args:
            episodes: Of the batch.
            alive: Which stages were reached, ``[T + 1, U]``, as numbers.
            means: The stages' mean losses, ``[T + 1]``.
        """
        if self.settings.loss == "policy_gradient":
            weighed = (alive * episodes.losses).sum(0) * episodes.returns(self._weights)
            return means[0].detach(), (alive[0] * weighed).sum() / (alive[0].sum() + _LEAST_COUNT)
        total = means[0].clone()
        # The released code keeps this without a copy and adds to the total in place: what it divides by is then the
        # total itself, and its normaliser is always 1.
        reference = total.detach()
        aliased = self.settings.form == "released" and self.settings.search == "dropout"
        added = (self._weights * means[1:]).sum()
        if aliased:
            total += added
        else:
            total = total + added
        return reference, total

    def remove(self) -> None:
        """Take the replicas off: the model is the user's own again, with the weights it has learned."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._features = None

    def __enter__(self) -> SequentialPolicyGradient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on bitwise beside the model and the optimiser."""
        return {"replicas": self.replicas.state_dict(), "draws": self._draws.get_state()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict` of replicas with the same settings.

        Raises:
            InvalidSettingError: If it was made on another kind of device.
            RuntimeError: If it is of replicas of another shape.
        """
        self.replicas.load_state_dict(saved["replicas"])
        restore_generator(self._draws, saved["draws"])


def find_head(model: nn.Module, head: str | nn.Module) -> nn.Module:
    """Return the head of a model, by name or itself.

    Raises:
        UnknownNameError: If the model has no module of that name.
        InvalidSettingError: If the module is none of the model's.
    """
    if isinstance(head, nn.Module):
        if all(module is not head for module in model.modules()):
            raise InvalidSettingError(
                f"The head {type(head).__name__} is no module of this {type(model).__name__}. Give one of its modules, "
                f"or its name: {', '.join(name for name, _ in model.named_modules() if name)}."
            )
        return head
    names = [name for name, _ in model.named_modules() if name]
    if head not in names:
        raise unknown_name("head", head, names, "Name the module that makes logits of the last hidden state.")
    return model.get_submodule(head)


def _width_of(head: nn.Module) -> int:
    for name in ("in_features", "in_channels"):
        width = getattr(head, name, None)
        if isinstance(width, int):
            return width
    raise InvalidSettingError(
        f"How wide the hidden state is, the head {type(head).__name__} does not say. Give it: "
        "SequentialPolicyGradient(model, head, width=...)."
    )
