"""What one training may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of one call of a live objective; a call that exceeds one is killed with all its processes.

    Memory is what is resident (RSS), summed over the worker and every process that the objective started: address space
    (``RLIMIT_AS``) would count the many gigabytes that torch and OpenMP reserve and never touch.

    Args:
        seconds: Wall time of a call, in (0, inf).
        memory: Resident memory in megabytes (2**20 bytes), libraries and data included: at least 64.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    seconds: float = 120.0
    memory: int = 4096

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float):
            raise InvalidSettingError(f"seconds={self.seconds!r} of an evaluation must be a number > 0.")
        if not 0.0 < self.seconds < math.inf:
            raise InvalidSettingError(
                f"seconds={self.seconds!r} of an evaluation must be a finite number > 0: without a limit one training "
                "that hangs would stop everything."
            )
        require_integer("memory", self.memory, 64, "megabytes; an interpreter with its libraries needs as much")
