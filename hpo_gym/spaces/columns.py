"""One hyperparameter of a search space, as frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["Column", "ColumnKind", "Value", "plain"]

ColumnKind = Literal["float", "integer", "categorical", "ordinal", "constant"]
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One hyperparameter.

    Args:
        name: Its name.
        kind: ``float``, ``integer``, ``categorical``, ``ordinal`` or ``constant``.
        lower: Smallest value (numeric kinds; otherwise 0).
        upper: Largest value (numeric kinds; otherwise number of choices - 1).
        log: Whether the unit interval maps to the logarithm of the value.
        choices: The choices of a categorical, ordinal or constant hyperparameter.
        default: The default value.

    Raises:
        InvalidSettingError: If the parts contradict each other.
    """

    name: str
    kind: ColumnKind
    lower: float = 0.0
    upper: float = 0.0
    log: bool = False
    choices: tuple[Value, ...] = ()
    default: Value = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ColumnKind):
            raise unknown_name("column kind", self.kind, get_args(ColumnKind))
        if self.is_numeric:
            if not self.lower < self.upper:
                raise InvalidSettingError(
                    f"{self.name!r}: needs lower < upper, got [{self.lower}, {self.upper}]; "
                    "use kind='constant' for a single value."
                )
            if self.log and self.lower <= 0:
                raise InvalidSettingError(f"{self.name!r}: a log scale needs lower > 0, got {self.lower}.")
        elif not self.choices:
            raise InvalidSettingError(f"{self.name!r}: kind {self.kind!r} needs choices.")

    @property
    def is_numeric(self) -> bool:
        """Whether values are numbers on a range."""
        return self.kind in ("float", "integer")

    @property
    def cardinality(self) -> float:
        """Number of different values; infinite for floats."""
        if self.kind == "float":
            return math.inf
        if self.kind == "integer":
            return self.upper - self.lower + 1
        return len(self.choices)

    def index(self, value: Value) -> int:
        """Return the position of a choice.

        Raises:
            UnknownNameError: If it is no choice.
        """
        value = plain(value)
        for position, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return position
        raise unknown_name(f"choice of {self.name!r}", value, self.choices)

    def number(self, value: Value) -> float:
        """Return a value as a number: itself, or the position of a choice.

        Raises:
            InvalidSettingError: If it is no number, or not whole where an integer is wanted.
            UnknownNameError: If it is no choice.
        """
        if not self.is_numeric:
            return float(self.index(value))
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidSettingError(f"{self.name!r} is numeric; {value!r} is no number.")
        if self.kind == "integer" and math.isfinite(value) and value != round(value):
            raise InvalidSettingError(f"{self.name!r} is an integer; {value!r} is none: round it.")
        return float(value)

    def value(self, number: float) -> Value:
        """Return the value of a number made by :meth:`number`, of ConfigSpace's own type."""
        if self.kind == "float":
            return float(number)
        if self.kind == "integer":
            return round(number)
        return self.choices[round(number)]


def plain(value: Any) -> Value:
    """Return a NumPy scalar, of which ConfigSpace's configurations are full, as a Python value."""
    found: Value = value.item() if hasattr(value, "item") else value
    return found
