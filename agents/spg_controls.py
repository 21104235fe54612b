"""What Sequential Policy Gradient is compared with, in the same training loop: nothing, dropout, deep supervision.

Each is attached to a model like :class:`agents.spg.SequentialPolicyGradient`, gives a loss, and is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.base import restore_generator
from agents.spg import find_head
from agents.task_replica import drop
from hpo_gym.errors import InvalidSettingError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator, stream_seed

__all__ = ["Attachment", "DeepSupervision", "HeadDropout", "Unattached"]


class Attachment(Protocol):
    """Something on a model while it is trained.

    Args:
        names: What its figures are.
        figures: What it says of the last loss, ``[F]``.
    """

    names: tuple[str, ...]
    figures: Tensor

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what is trained besides the model."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the batch that the model saw last, a tensor of one element."""

    def remove(self) -> None:
        """Take it off the model."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on bitwise."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""


class Unattached:
    """The cross-entropy of the model alone."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ("loss",)
        self.figures = torch.full((1,), torch.nan)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return nothing."""
        return iter(())

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits ``[B, C]``."""
        loss = F.cross_entropy(logits, targets)
        self.figures = loss.detach()[None]
        return loss

    def remove(self) -> None:
        """Do nothing: nothing was attached."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore nothing.

        Raises:
            InvalidSettingError: If there was something.
        """
        if saved:
            raise InvalidSettingError(
                f"The saved training had something attached ({', '.join(saved)}), and this one has nothing. Resume it "
                "with the settings that it began with."
            )


class HeadDropout(Unattached):
    """Plain dropout (Srivastava et al., 2014) of the last hidden state, while the model is in training mode.

    Args:
        model: The model.
        head: Its head, by name or itself.
        rate: In ``[0, 1)``.
        seed: Root of the stream of masks.

    Raises:
        UnknownNameError: If the model has no such head.
        InvalidSettingError: For another rate.
    """

    def __init__(self, model: nn.Module, head: str | nn.Module, rate: float, seed: int = 0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise InvalidSettingError(f"rate={rate!r} must lie in [0, 1): with 1 no feature would be left.")
        found = find_head(model, head)
        self._rate = rate
        self._draws = generator(seed, "spg", "dropout", device=next(found.parameters()).device)
        self._hook = found.register_forward_pre_hook(self._drop)

    def _drop(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not module.training:
            return None
        return drop(inputs[0], self._rate, self._draws), *inputs[1:]

    def remove(self) -> None:
        """Take the dropout off the model."""
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream of masks is."""
        return {"draws": self._draws.get_state()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        restore_generator(self._draws, saved["draws"])


class DeepSupervision:
    """A linear head on every inner stage, whose loss is added: Lee et al. (2015), "Deeply-Supervised Nets", section 2.

    Outputs are averaged over positions first.

    Args:
        stages: The stages of a model, whose last one is read by its own head and gets no other.
        widths: Channels of each stage's output: ``[B, W]``, tokens ``[B, S, W]`` or feature maps ``[B, W, ., .]``.
        classes: ``C``.
        weights: Of the added losses, of the stage next to the last one first; the last value counts for further ones.
        seed: Root of the initial weights' stream.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        widths: Sequence[int],
        classes: int,
        weights: Sequence[float] = (0.4, 0.2, 0.1),
        seed: int = 0,
    ) -> None:
        inner = len(stages) - 1
        device = next(stages[-2].parameters()).device
        with seeded(stream_seed(seed, "spg", "deep supervision")):
            self.heads = nn.ModuleList(nn.Linear(width, classes) for width in widths[:-1]).to(device)
        self._weights = [weights[min(inner - 1 - index, len(weights) - 1)] for index in range(inner)]
        self._seen: dict[int, Tensor] = {}
        self._hooks = [
            stage.register_forward_hook(lambda module, _, output, index=index: self._record(module, output, index))
            for index, stage in enumerate(stages[:-1])
        ]
        self.names: tuple[str, ...] = ("loss",)
        self.figures = torch.full((1,), torch.nan)

    def _record(self, module: nn.Module, output: Tensor, index: int) -> None:
        if module.training and torch.is_grad_enabled():
            self._seen[index] = output

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the added heads' parameters."""
        return self.heads.parameters()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the model's cross-entropy plus the weighted ones of the added heads.

        Raises:
            InvalidSettingError: If the model saw no batch.
        """
        if len(self._seen) < len(self.heads):
            raise InvalidSettingError("The model saw no batch: call it in training mode before every loss.")
        loss = F.cross_entropy(logits, targets)
        for index, (head, weight) in enumerate(zip(self.heads, self._weights, strict=True)):
            loss = loss + weight * F.cross_entropy(head(_pooled(self._seen.pop(index))), targets)
        self.figures = loss.detach()[None]
        return loss

    def remove(self) -> None:
        """Take the heads off the model."""
        for hook in self._hooks:
            hook.remove()
        self._seen.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the heads' weights."""
        return {"heads": self.heads.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        self.heads.load_state_dict(saved["heads"])


def _pooled(output: Tensor) -> Tensor:
    """Return a stage's output averaged over positions, ``[B, W]``."""
    if output.ndim == 4:
        return output.mean((2, 3))
    return output.mean(1) if output.ndim == 3 else output
