"""One training of a network on a dataset, epoch by epoch, with something attached to it in its second phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.spg import SequentialPolicyGradient
from agents.spg_controls import Attachment, Unattached
from agents.spg_models import Classifier
from agents.spg_settings import SPGSettings, TrainingSettings
from agents.spg_tasks import SplitTask
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator

__all__ = ["Attach", "Measured", "ModelTraining", "with_replicas"]

#: Attaches something to a model, given the seed of the training.
Attach = Callable[[Classifier, int], Attachment]


@dataclass(frozen=True)
class Measured:
    """What the bare model reaches on a part of the examples.

    Args:
        error: Share of wrong predictions, in ``[0, 1]``.
        cross_entropy: Mean, in nats.
    """

    error: float
    cross_entropy: float


def with_replicas(settings: SPGSettings) -> Attach:
    """Return what attaches SPG to a model."""
    return lambda model, seed: SequentialPolicyGradient(model, model.head, settings, seed=seed)


class ModelTraining:
    """A training that can be stopped after any epoch and continued bitwise (on a CPU).

    Which example comes when depends on seed, phase and epoch alone, so that trainings with different attachments see
    the same batches.

    Args:
        settings: The training.
        data: The examples.
        attach: What is attached when the second phase begins.
        seed: Root of all streams.
        start: Weights that the second phase begins with, in place of a first phase.

    Raises:
        InvalidSettingError: If there is no such device.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: SplitTask,
        attach: Attach,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        #: Where it runs.
        self.device = device = _device(settings.device)
        self._settings, self._attach, self._seed = settings, attach, seed
        self._inputs = {part: values.to(device) for part, values in data.inputs.items()}
        self._targets = {part: values.to(device) for part, values in data.targets.items()}
        self.model = data.task.model(seed).to(device)
        #: Passes over the training examples so far, both phases together.
        self.epoch = 0
        #: What is attached to the model now.
        self.attachment: Attachment = Unattached()
        self._optimizer = self._make_optimizer()
        if start is not None:
            self.model.load_state_dict(start)
            self.epoch = settings.pretrain_epochs
        if self.epoch == settings.pretrain_epochs:
            self._begin_second_phase()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [*self.model.parameters(), *self.attachment.parameters()],
            lr=self._settings.learning_rate,
            weight_decay=self._settings.weight_decay,
            fused=True,
        )

    def _begin_second_phase(self) -> None:
        self.attachment = self._attach(self.model, self._seed)
        self._optimizer = self._make_optimizer()

    @property
    def total(self) -> int:
        """Epochs of both phases."""
        return self._settings.pretrain_epochs + self._settings.epochs

    @property
    def updates_per_epoch(self) -> int:
        """Gradient steps in a pass."""
        return -(-len(self._targets["train"]) // self._settings.batch_size)

    def run_epoch(self) -> dict[str, float]:
        """Make one more pass, and return the means of what the attachment says of its steps.

        The second phase begins at the end of the first one's last pass; after the last one of all, the attachment is
        removed.
        """
        settings, pretrain = self._settings, self._settings.pretrain_epochs
        phase, since = (0, self.epoch) if self.epoch < pretrain else (1, self.epoch - pretrain)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.decay_factor ** (since // settings.decay_every)
        inputs, targets = self._inputs["train"], self._targets["train"]
        order = torch.randperm(len(targets), generator=generator(self._seed, "spg", "order", phase, since))
        self.model.train()
        names, sums = self.attachment.names, torch.zeros(len(self.attachment.names), device=targets.device)
        for rows in order.to(targets.device).split(settings.batch_size):
            self._optimizer.zero_grad()
            self.attachment.loss(self.model(inputs[rows]), targets[rows]).backward()
            self._optimizer.step()
            sums += self.attachment.figures
        self.epoch += 1
        if self.epoch == pretrain:
            self._begin_second_phase()
        if self.epoch == self.total:
            self.attachment.remove()
        return dict(zip(names, (sums / self.updates_per_epoch).tolist(), strict=True))

    def measure(self, part: str) -> Measured:
        """Return what the bare model reaches on ``train``, ``validation`` or ``test``."""
        self.model.eval()
        with torch.no_grad():
            logits = self.model(self._inputs[part])
        targets = self._targets[part]
        error = (logits.argmax(1) != targets).double().mean()
        return Measured(float(error), float(F.cross_entropy(logits.double(), targets)))

    def state_dict(self) -> dict[str, Any]:
        """Return everything to go on bitwise."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "attachment": self.attachment.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict` of a training with the same settings.

        Raises:
            InvalidSettingError: If it was made on another kind of device.
        """
        begun = self.epoch >= self._settings.pretrain_epochs
        self.epoch = int(saved["epoch"])
        if self.epoch >= self._settings.pretrain_epochs and not begun:
            self._begin_second_phase()
        self.model.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self.attachment.load_state_dict(saved["attachment"])
        if self.epoch == self.total:
            self.attachment.remove()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidSettingError(f"device={name!r} cannot be used here ({reason}). Use cpu.") from error
    return device
