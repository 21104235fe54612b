"""The contract of an objective that answers in batches of tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["Fidelity", "Measured", "MeasuredSurrogate", "Metric", "Surrogate"]


@dataclass(frozen=True)
class Metric:
    """One measured quantity of an evaluation.

    Args:
        name: The name in its source, e.g. ``"acc"``.
        minimize: Whether smaller is better.
        lower: Smallest legal value, finite; anything below is clipped and counted.
        upper: Largest legal value, finite; anything above is clipped and counted.
        unit: ``""`` for a ratio, ``"%"``, ``"s"``, ``"MB"`` ...
        trusted: ``False`` where the source is known to be wrong (see the card's known defects).
    """

    name: str
    minimize: bool
    lower: float
    upper: float
    unit: str = ""
    trusted: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise InvalidSettingError(
                f"Metric {self.name!r} needs finite bounds, got [{self.lower}, {self.upper}]: scores are relative to "
                "them. Give the widest values that occur."
            )
        if not self.lower < self.upper:
            raise InvalidSettingError(f"Metric {self.name!r} needs lower < upper, got [{self.lower}, {self.upper}].")


@dataclass(frozen=True)
class Fidelity:
    """How cheaply an evaluation may be done, in natural units (epochs, share of the data).

    ``upper`` is a full evaluation and costs one unit of budget; ``f`` costs ``f / upper``.
    """

    name: str
    lower: float
    upper: float
    integer: bool = False


class Surrogate(nn.Module, ABC):
    """An objective ``(task [B], u [B, D], fidelity [B]) -> metrics [B, K]``.

    Deterministic given its arguments; ``.to(device)`` moves everything it needs. Subclasses set the
    four attributes below before use and implement :meth:`predict`.

    Attributes:
        metrics: The ``K`` metrics in the order of the output's columns.
        num_tasks: ``N``; task indices are ``0 .. N - 1``.
        num_hyperparameters: ``D``.
        fidelity: The fidelity that may be asked for, or ``None``.
        configurations: How many different results the poorest task has, where they are a table; else ``None``.
    """

    metrics: tuple[Metric, ...]
    num_tasks: int
    num_hyperparameters: int
    fidelity: Fidelity | None = None
    configurations: int | None = None

    @abstractmethod
    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        """Evaluate without checks: the hot path of the environments.

        Args:
            task: Task indices, int64 ``[B]``.
            u: Configurations in the unit cube, float32 ``[B, D]``, in the declared column order.
            active: Which hyperparameters are active, bool ``[B, D]``.
            fidelity: Natural units, float32 ``[B]``; ``None`` means a full evaluation.

        Returns:
            Raw metric values, float32 ``[B, K]``, unclipped.
        """

    def forward(
        self,
        task: Tensor,
        u: Tensor,
        fidelity: Tensor | None = None,
        active: Tensor | None = None,
    ) -> Tensor:
        """Check the arguments, then :meth:`predict`.

        ``active`` defaults to all active, which is right for a space without conditions.

        Raises:
            InvalidSettingError: If a shape, a task index, a coordinate (NaN included) or a fidelity
                is out of bounds.
        """
        batch = task.shape[0] if task.ndim == 1 else -1
        if u.shape != (batch, self.num_hyperparameters):
            raise InvalidSettingError(
                f"Expected task [B] and u [B, {self.num_hyperparameters}], got task "
                f"{list(task.shape)} and u {list(u.shape)}."
            )
        if not bool(((task >= 0) & (task < self.num_tasks)).all()):
            raise InvalidSettingError(f"Task indices must lie in 0 .. {self.num_tasks - 1}.")
        if not bool(((u >= 0) & (u <= 1)).all()):
            raise InvalidSettingError("Configurations must lie in [0, 1]^D and hold no NaN.")
        if fidelity is not None:
            self._check_fidelity(fidelity, batch)
        if active is None:
            active = torch.ones_like(u, dtype=torch.bool)
        return self.predict(task, u, active, fidelity)

    def _check_fidelity(self, fidelity: Tensor, batch: int) -> None:
        if self.fidelity is None:
            raise InvalidSettingError("This objective has no fidelity; leave fidelity=None.")
        inside = (fidelity >= self.fidelity.lower) & (fidelity <= self.fidelity.upper)
        if fidelity.shape != (batch,) or not bool(inside.all()):
            raise InvalidSettingError(
                f"Fidelity {self.fidelity.name!r} must be [B] within [{self.fidelity.lower}, {self.fidelity.upper}]."
            )

    def metric_index(self, name: str) -> int:
        """Return the output column of metric ``name``.

        Raises:
            UnknownNameError: If there is no such metric.
        """
        names = [metric.name for metric in self.metrics]
        if name not in names:
            raise unknown_name("metric", name, names)
        return names.index(name)


@dataclass(frozen=True)
class Measured:
    """What a batch of evaluations gave that were really made.

    Args:
        values: As :meth:`Surrogate.predict` returns them; the worst legal ones for an evaluation that failed:
            float32 ``[B, K]``.
        seconds: What each evaluation took, float32 ``[B]``.
        status: How each ended, int64 ``[B]``; 0: well.
    """

    values: Tensor
    seconds: Tensor
    status: Tensor


class MeasuredSurrogate(Surrogate):
    """An objective whose evaluations are really made: they take time, and may fail.

    The values are deterministic given the arguments of :meth:`measure`; the seconds are not.

    Attributes:
        most_seconds: The longest that an evaluation may take.
    """

    most_seconds: float

    @abstractmethod
    def measure(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Measured:
        """Evaluate without checks; arguments as for :meth:`Surrogate.predict`."""

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        return self.measure(task, u, active, fidelity).values
