"""What a search space is, as frozen JSON-able data; no tensors and no ConfigSpace."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["Atom", "Clause", "Column", "ColumnKind", "Relation", "SpaceSpec"]

ColumnKind = Literal["float", "integer", "categorical", "ordinal", "constant"]
Value = str | int | float | bool | None

_OPERATORS = ("in", "ne", "lt", "le", "gt", "ge")


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


@dataclass(frozen=True)
class Atom:
    """A test of one hyperparameter: it is active, and its number is ``operator`` ``values``.

    ``in`` holds if the number is one of ``values``; ``ne``, ``lt``, ``le``, ``gt``, ``ge`` compare with the
    single value. Choices are numbered by position. As in ConfigSpace, an inactive hyperparameter equals
    nothing: ``ne``, and only ``ne``, holds for it.
    """

    parent: int
    operator: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.operator not in _OPERATORS:
            raise unknown_name("operator", self.operator, _OPERATORS)

    def holds(self, number: float) -> bool:
        """Return whether the test holds for a number."""
        if self.operator == "in":
            return number in self.values
        other = self.values[0]
        return {
            "ne": number != other,
            "lt": number < other,
            "le": number <= other,
            "gt": number > other,
            "ge": number >= other,
        }[self.operator]


@dataclass(frozen=True)
class Relation:
    """A test of two active numeric hyperparameters: ``left operator right``; ``in`` means equal."""

    left: int
    operator: str
    right: int


#: A conjunction of tests; clauses are joined by "or".
Clause = tuple[Atom | Relation, ...]


@dataclass(frozen=True)
class SpaceSpec:
    """A search space in a declared column order.

    Args:
        columns: The ``D`` hyperparameters.
        conditions: By child: it is active if any of these clauses holds (disjunctive normal form).
        forbidden: A configuration is illegal if any of these clauses holds.
    """

    columns: tuple[Column, ...]
    conditions: Mapping[int, tuple[Clause, ...]]
    forbidden: tuple[Clause, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise InvalidSettingError(f"Hyperparameter names repeat: {sorted(repeated)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names in declared order."""
        return tuple(column.name for column in self.columns)

    def position(self, name: str) -> int:
        """Return the column of a hyperparameter.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        if name not in self.names:
            raise unknown_name("hyperparameter", name, self.names)
        return self.names.index(name)

    def levels(self) -> list[list[int]]:
        """Return conditional columns by depth: parents of a level's columns lie in earlier ones.

        Raises:
            InvalidSettingError: If conditions form a cycle.
        """
        placed = {i for i in range(len(self.columns)) if i not in self.conditions}
        waiting, levels = set(self.conditions), []
        while waiting:
            ready = sorted(c for c in waiting if parents(self.conditions[c]) <= placed)
            if not ready:
                cycle = sorted(self.columns[c].name for c in waiting)
                raise InvalidSettingError(f"Conditions of {cycle} form a cycle.")
            levels.append(ready)
            placed.update(ready)
            waiting.difference_update(ready)
        return levels

    def restrict(self, changes: Mapping[str, Any]) -> SpaceSpec:
        """Return a narrower space.

        Args:
            changes: By name: a list of choices, a ``(lower, upper)`` tuple for a numeric
                hyperparameter, or one value, which fixes the hyperparameter.

        Raises:
            UnknownNameError: For an unknown hyperparameter or choice.
            InvalidSettingError: For bounds outside the present ones.
        """
        from hpo_gym.spaces.restriction import restrict

        return restrict(self, changes)

    def drop_constants(self) -> tuple[SpaceSpec, dict[str, Value]]:
        """Return the space without constants and what can never be active, and the constants.

        Conditions on constants are decided; those that always hold vanish. Constants that can never
        be active are not among the returned values.
        """
        from hpo_gym.spaces.restriction import drop_constants

        return drop_constants(self)

    def reorder(self, names: Sequence[str]) -> SpaceSpec:
        """Return the space with its columns in another order.

        Raises:
            InvalidSettingError: If ``names`` is no permutation of the present names.
        """
        if sorted(names) != sorted(self.names):
            raise InvalidSettingError(f"columns={list(names)} must name each of {list(self.names)} once.")
        order = [self.position(name) for name in names]
        move = {old: new for new, old in enumerate(order)}
        return SpaceSpec(
            tuple(self.columns[old] for old in order),
            {move[c]: renumber(clauses, move) for c, clauses in self.conditions.items()},
            renumber(self.forbidden, move),
        )

    def to_json(self) -> str:
        """Return the space as JSON text."""
        return json.dumps(
            {
                "columns": [asdict(column) for column in self.columns],
                "conditions": {str(child): _dump(clauses) for child, clauses in self.conditions.items()},
                "forbidden": _dump(self.forbidden),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SpaceSpec:
        """Read :meth:`to_json` back."""
        data = json.loads(text)
        columns = tuple(Column(**{**column, "choices": tuple(column["choices"])}) for column in data["columns"])
        conditions = {int(child): _load(value) for child, value in data["conditions"].items()}
        return cls(columns, conditions, _load(data["forbidden"]))


def plain(value: Any) -> Value:
    """Return a NumPy scalar, of which ConfigSpace's configurations are full, as a Python value."""
    found: Value = value.item() if hasattr(value, "item") else value
    return found


def parents(clauses: Sequence[Clause]) -> set[int]:
    """Return the columns that clauses test."""
    found: set[int] = set()
    for clause in clauses:
        for test in clause:
            found.update((test.parent,) if isinstance(test, Atom) else (test.left, test.right))
    return found


def renumber(clauses: Sequence[Clause], move: Mapping[int, int]) -> tuple[Clause, ...]:
    """Return clauses with other column numbers."""
    return tuple(
        tuple(
            replace(test, parent=move[test.parent])
            if isinstance(test, Atom)
            else replace(test, left=move[test.left], right=move[test.right])
            for test in clause
        )
        for clause in clauses
    )


def _dump(clauses: Sequence[Clause]) -> list[list[dict[str, Any]]]:
    return [[asdict(test) for test in clause] for clause in clauses]


def _load(data: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Clause, ...]:
    return tuple(
        tuple(
            Atom(test["parent"], test["operator"], tuple(test["values"])) if "parent" in test else Relation(**test)
            for test in clause
        )
        for clause in data
    )
