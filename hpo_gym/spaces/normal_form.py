"""Building disjunctive normal forms: what the readers of search spaces share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from hpo_gym.spaces.spec import Atom, Clause, Column

__all__ = ["conjunction", "disjunction", "membership"]


def membership(parent: int, column: Column, values: Sequence[Any]) -> tuple[Clause, ...]:
    """Return "the hyperparameter is one of ``values``"."""
    numbers = tuple(column.number(value) for value in values)
    if column.is_numeric:
        return tuple((Atom(parent, "in", (number,)),) for number in numbers)
    return ((Atom(parent, "in", numbers),),)


def conjunction(parts: Sequence[tuple[Clause, ...]]) -> tuple[Clause, ...]:
    """Return "all of ``parts``"."""
    return tuple(tuple(test for clause in chosen for test in clause) for chosen in product(*parts))


def disjunction(parts: Sequence[tuple[Clause, ...]]) -> tuple[Clause, ...]:
    """Return "any of ``parts``"."""
    return tuple(clause for part in parts for clause in part)
