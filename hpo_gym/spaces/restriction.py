"""Narrowing a search space, and removing what has become constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces.clauses import Atom, Clause, Relation, parents, renumber
from hpo_gym.spaces.columns import Column, Value
from hpo_gym.spaces.normal_form import conjunction, relation

__all__ = ["Parts", "narrowed", "without_constants"]

#: Columns, conditions by child, and forbidden clauses: what a :class:`hpo_gym.spaces.SpaceSpec` is made of.
Parts = tuple[tuple[Column, ...], Mapping[int, tuple[Clause, ...]], tuple[Clause, ...]]


def narrowed(
    old: Sequence[Column],
    conditions: Mapping[int, tuple[Clause, ...]],
    forbidden: Sequence[Clause],
    changes: Mapping[int, Any],
) -> Parts:
    """Return the parts of a narrower space; see :meth:`hpo_gym.spaces.SpaceSpec.restrict`."""
    columns = list(old)
    moved: dict[int, list[int]] = {}
    for index, change in changes.items():
        before = columns[index]
        columns[index] = _narrow(before, change)
        if not before.is_numeric:
            moved[index] = [before.index(choice) for choice in columns[index].choices]
        elif not columns[index].is_numeric:
            # A fixed number: tests of it are decided as tests of its only choice.
            moved[index] = []
    rewritten = {child: _rewrite(clauses, old, columns, moved) for child, clauses in conditions.items()}
    return tuple(columns), rewritten, _rewrite(forbidden, old, columns, moved)


def _narrow(column: Column, change: Any) -> Column:
    if isinstance(change, tuple):
        return _narrow_range(column, change)
    if isinstance(change, list):
        if column.is_numeric:
            raise _misfit(column, change)
        choices = tuple(column.choices[column.index(value)] for value in change)
        if not choices:
            raise InvalidSettingError(f"{column.name!r}: a restriction to no choice at all.")
        if len(set(map(column.index, choices))) < len(choices):
            raise InvalidSettingError(f"{column.name!r}: the choices {change!r} repeat; name each once.")
        kept = column.index(column.default) in map(column.index, choices)
        return replace(column, choices=choices, default=column.default if kept else choices[0])
    if column.is_numeric:
        number = column.number(change)
        if not column.lower <= number <= column.upper:
            raise InvalidSettingError(f"{column.name}={change!r} lies outside [{column.lower}, {column.upper}].")
        value = column.value(number)
    else:
        value = column.choices[column.index(change)]
    return Column(column.name, "constant", choices=(value,), default=value)


def _narrow_range(column: Column, bounds: tuple[float, float]) -> Column:
    if not column.is_numeric or len(bounds) != 2:
        raise _misfit(column, bounds)
    lower, upper = (column.number(bound) for bound in bounds)
    if not column.lower <= lower < upper <= column.upper:
        raise InvalidSettingError(
            f"{column.name!r}: {bounds!r} is no range within [{column.lower}, {column.upper}]; "
            "give (lower, upper) with lower < upper, or one value to fix it."
        )
    if column.kind == "integer":
        lower, upper = int(lower), int(upper)
    default = column.value(min(max(column.number(column.default), lower), upper))
    return replace(column, lower=lower, upper=upper, default=default)


def _misfit(column: Column, change: object) -> InvalidSettingError:
    return InvalidSettingError(
        f"{column.name!r} ({column.kind}) cannot be restricted to {change!r}: give a tuple "
        "(lower, upper) for a number, a list of choices otherwise, or one value."
    )


def _rewrite(
    clauses: Sequence[Clause],
    old: Sequence[Column],
    new: Sequence[Column],
    moved: Mapping[int, list[int]],
) -> tuple[Clause, ...]:
    """Return clauses whose tests of choices use the new positions."""
    return tuple(
        rewritten
        for clause in clauses
        for rewritten in conjunction([_rewrite_test(test, old, new, moved) for test in clause])
    )


def _rewrite_test(
    test: Atom | Relation,
    old: Sequence[Column],
    new: Sequence[Column],
    moved: Mapping[int, list[int]],
) -> tuple[Clause, ...]:
    if isinstance(test, Relation):
        return relation(test.left, test.operator, test.right, new)
    if test.parent not in moved:
        return ((test,),)
    before, after = old[test.parent], new[test.parent]
    numbers = [before.number(choice) for choice in after.choices]
    if test.operator == "ne":
        # Not rewritten as membership: it holds for an inactive hyperparameter, too.
        position = numbers.index(test.values[0]) if test.values[0] in numbers else -1
        return ((Atom(test.parent, "ne", (float(position),)),),)
    held = tuple(float(i) for i, number in enumerate(numbers) if test.holds(number))
    return ((Atom(test.parent, "in", held),),)


def without_constants(
    columns: Sequence[Column],
    conditions: Mapping[int, tuple[Clause, ...]],
    forbidden: Sequence[Clause],
    levels: Sequence[Sequence[int]],
) -> tuple[Parts, dict[str, Value]]:
    """Return the parts of a space without constants, and those; see :meth:`hpo_gym.spaces.SpaceSpec.drop_constants`."""
    decided = dict(conditions)
    never: set[int] = set()
    for level in levels:
        for child in level:
            clauses = _decide(decided[child], columns, decided, never)
            if clauses is None:
                del decided[child]
            elif not clauses:
                never.add(child)
            else:
                decided[child] = clauses
    barred = _decide(forbidden, columns, decided, never)
    if barred is None:
        raise InvalidSettingError(
            "Every configuration of this restricted space is forbidden: a forbidden clause holds "
            "for the values that were fixed."
        )
    constant = {i for i, column in enumerate(columns) if column.cardinality == 1}
    tested = {i for clauses in (*decided.values(), barred) for i in parents(clauses)}
    # A constant that is itself conditional and decides others must stay: its activity is the test.
    dropped = (constant - (tested & set(decided))) | never
    values = {columns[i].name: columns[i].choices[0] for i in sorted(constant - never) if i in dropped}
    kept = [i for i in range(len(columns)) if i not in dropped]
    move = {old: new for new, old in enumerate(kept)}
    left = {move[child]: renumber(clauses, move) for child, clauses in decided.items() if child not in dropped}
    return (tuple(columns[i] for i in kept), left, renumber(barred, move)), values


def _decide(
    clauses: Sequence[Clause],
    columns: Sequence[Column],
    conditions: Mapping[int, tuple[Clause, ...]],
    never: set[int],
) -> tuple[Clause, ...] | None:
    """Return what is left of a disjunction once decidable tests are decided; ``None``: always true."""
    left = []
    for clause in clauses:
        open_tests: list[Atom | Relation] = []
        possible = True
        for test in clause:
            if isinstance(test, Relation):
                possible &= test.left not in never and test.right not in never
                open_tests.append(test)
                continue
            truth = [test.holds(float(i)) for i in range(len(columns[test.parent].choices))]
            # Only an inactive hyperparameter passes "ne" without being compared.
            absent = test.operator == "ne"
            if test.parent in never:
                truth = [absent]
            settled = test.parent not in conditions or test.parent in never
            if truth and not any(truth) and (settled or not absent):
                possible = False
            elif not (truth and all(truth) and (settled or absent)):
                open_tests.append(test)
        if possible and not open_tests:
            return None
        if possible:
            left.append(tuple(open_tests))
    return tuple(left)
