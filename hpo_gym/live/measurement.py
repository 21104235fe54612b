"""What became of one training: its status, and its metrics where there are any."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["STATUSES", "Measurement", "Status", "checked"]

#: How a training ended:
#:
#: - ``ok``: with all its metrics, and they are finite;
#: - ``error``: it raised;
#: - ``crashed``: its process died (a signal, ``os._exit``);
#: - ``timeout``: it was stopped for its time;
#: - ``memory``: it was stopped for its memory, or raised ``MemoryError``;
#: - ``invalid``: a metric was NaN, infinite, no number, or not there;
#: - ``forbidden``: the search space forbids the configuration, and nothing was trained.
Status = Literal["ok", "error", "crashed", "timeout", "memory", "invalid", "forbidden"]

#: Every status; ``info["status"]`` of an environment is a position in it, so that 0 is ``ok``.
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Measurement:
    """What one call of a live objective gave.

    Args:
        status: One of :data:`STATUSES`.
        metrics: What the objective returned, by name; empty unless ``status`` is ``ok`` or ``invalid``.
        seconds: Wall time of the call, at least 0; without starting a process or importing libraries.
        message: What went wrong, with the end of what the call printed; what it was warned of, if it is ``ok``.

    Raises:
        UnknownNameError: For an unknown status.
        InvalidSettingError: For a time that is none.
    """

    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise unknown_name("status", self.status, STATUSES)
        if not 0.0 <= self.seconds < math.inf:
            raise InvalidSettingError(f"seconds={self.seconds!r} of a measurement must be a finite number >= 0.")

    @property
    def code(self) -> int:
        """The position of the status in :data:`STATUSES`."""
        return STATUSES.index(self.status)


def checked(measurement: Measurement, names: Sequence[str]) -> Measurement:
    """Return a measurement that is ``ok`` only if it holds a finite number for every one of ``names``."""
    if measurement.status != "ok":
        return measurement
    values = {name: measurement.metrics.get(name) for name in names}
    wrong = [f"{name} is {value}" for name, value in values.items() if value is not None and not math.isfinite(value)]
    wrong += [f"{name} is missing" for name, value in values.items() if value is None]
    if not wrong:
        return measurement
    said = f"; {measurement.message}" if measurement.message else ""
    return Measurement("invalid", measurement.metrics, measurement.seconds, f"{', '.join(wrong)}{said}")
