"""Values that change over a training, counted in transitions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = [
    "SCHEDULES",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "LinearSchedule",
    "Schedule",
    "make_schedule",
]


class Schedule(ABC):
    """A value after so many transitions."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the value after ``step`` transitions."""


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """A value that stays.

    Args:
        value: The value.
    """

    value: float

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """A value that moves in a straight line and then stays.

    Args:
        start: Value at step 0.
        end: Value from ``steps`` on.
        steps: Transitions until ``end`` is reached.
    """

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        share = min(1.0, step / max(1, self.steps))
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class ExponentialSchedule(Schedule):
    """A value that changes by the same factor in every step and then stays.

    Args:
        start: Value at step 0, greater than 0.
        end: Value from ``steps`` on, greater than 0.
        steps: Transitions until ``end`` is reached.

    Raises:
        InvalidSettingError: If a value is not positive, so that no factor leads there.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        for value in (self.start, self.end):
            if not value > 0.0:
                raise InvalidSettingError(
                    f"An exponential schedule from {self.start!r} to {self.end!r} needs values greater than 0. Use "
                    "schedule=linear, or a small positive value."
                )

    def __call__(self, step: int) -> float:
        share = min(1.0, step / max(1, self.steps))
        return float(self.start * (self.end / self.start) ** share)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """A value that falls along half a cosine, after a linear rise from 0 if there is one, and then stays.

    Loshchilov and Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR, equation 5, without
    restarts.

    Args:
        peak: What it falls from.
        steps: Transitions, or gradient steps, until it has fallen.
        last: Share of ``peak`` that is left then, in ``[0, 1]``.
        warm_up: Share of ``steps`` over which it rises, in ``[0, 1]``; 0: it begins with ``peak``.
    """

    peak: float
    steps: int
    last: float = 0.0
    warm_up: float = 0.0

    def __call__(self, step: int) -> float:
        done = min(1.0, step / max(1, self.steps))
        risen = min(1.0, done / self.warm_up) if self.warm_up > 0.0 else 1.0
        cosine = 0.5 * (1.0 + math.cos(math.pi * done))
        return self.peak * risen * (self.last + (1.0 - self.last) * cosine)


#: Schedules by the name a configuration gives them.
SCHEDULES: dict[str, type[LinearSchedule] | type[ExponentialSchedule]] = {
    "linear": LinearSchedule,
    "exponential": ExponentialSchedule,
}


def make_schedule(kind: str, start: float, end: float, steps: int) -> Schedule:
    """Return a schedule by name.

    Raises:
        UnknownNameError: For another name.
        InvalidSettingError: If an exponential one begins or ends at 0.
    """
    if kind not in SCHEDULES:
        raise unknown_name("schedule", kind, SCHEDULES)
    return SCHEDULES[kind](start, end, steps)
