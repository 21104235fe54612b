"""What conditions and forbidden configurations are made of: tests of hyperparameters, joined to clauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpo_gym.errors import unknown_name

__all__ = ["Atom", "Clause", "Relation", "as_data", "from_data", "parents", "renumber"]

_OPERATORS = ("in", "ne", "lt", "le", "gt", "ge")


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


def as_data(clauses: Sequence[Clause]) -> list[list[dict[str, Any]]]:
    """Return clauses as JSON-able data."""
    return [[asdict(test) for test in clause] for clause in clauses]


def from_data(data: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Clause, ...]:
    """Read :func:`as_data` back."""
    return tuple(
        tuple(
            Atom(test["parent"], test["operator"], tuple(test["values"])) if "parent" in test else Relation(**test)
            for test in clause
        )
        for clause in data
    )
