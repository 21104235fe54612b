"""Building disjunctive normal forms: what the readers of search spaces share."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import product
from typing import Any

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces.clauses import Atom, Clause, Relation
from hpo_gym.spaces.columns import Column

__all__ = ["conjunction", "disjunction", "membership", "relation"]

_COMPARE = {"in": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
_MIRRORED = {"in": "in", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


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


def relation(left: int, name: str, right: int, columns: Sequence[Column]) -> tuple[Clause, ...]:
    """Return "the value of ``left`` is ``name`` (an operator of ``Relation``) that of ``right``".

    Values are compared, not positions: with choices, the comparison becomes one clause per choice.

    Raises:
        InvalidSettingError: If values cannot be ordered, such as text and numbers.
    """
    first, second = columns[left], columns[right]
    if first.is_numeric and second.is_numeric:
        return ((Relation(left, name, right),),)
    if first.is_numeric:
        return relation(right, _MIRRORED[name], left, columns)
    clauses: list[Clause] = []
    for position, choice in enumerate(first.choices):
        chosen = Atom(left, "in", (float(position),))
        if not second.is_numeric:
            held = [float(i) for i, other in enumerate(second.choices) if _compare(first, choice, name, second, other)]
            if held:
                clauses.append((chosen, Atom(right, "in", tuple(held))))
        elif isinstance(choice, int | float):
            clauses.extend((chosen, test) for test in _bound(right, _MIRRORED[name], float(choice), second))
        else:
            _compare(first, choice, name, second, second.lower)
    return tuple(clauses)


def _bound(parent: int, name: str, value: float, column: Column) -> tuple[Atom, ...]:
    """Return the test of a number, if it can hold; integers are compared with whole numbers only."""
    if column.kind == "integer" and not value.is_integer():
        if name == "in":
            return ()
        name, value = ("le", math.floor(value)) if name in ("lt", "le") else ("ge", math.ceil(value))
    return (Atom(parent, name, (float(value),)),)


def _compare(first: Column, value: Any, name: str, second: Column, other: Any) -> bool:
    try:
        return bool(_COMPARE[name](value, other))
    except TypeError as error:
        raise InvalidSettingError(
            f"A forbidden relation compares {first.name!r} with {second.name!r}, but {value!r} and {other!r} "
            "have no order: give both values of one kind."
        ) from error
