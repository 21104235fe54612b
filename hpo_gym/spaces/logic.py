"""Conditions and forbidden clauses as tensors: a whole batch is decided by a few operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpo_gym.spaces.clauses import Atom, Clause, Relation
from hpo_gym.spaces.columns import Column

__all__ = ["ClauseTensors"]

# Room for the rounding of a float64 encoding; far below the resolution of a float32 point.
_UNIT_HAIR = 1e-12


class ClauseTensors(nn.Module):
    """Disjunctive normal forms of several outputs, evaluated together.

    Tests of choices are look-ups in one truth table; tests of numbers are comparisons with an
    interval; relations compare two columns. A clause holds if all its tests hold, an output if
    any of its clauses holds. A test of an inactive hyperparameter does not hold, ``ne`` excepted.

    Args:
        columns: The space's columns.
        outputs: The clauses of each output.
    """

    _choice_parent: Tensor
    _choice_offset: Tensor
    _choice_size: Tensor
    _choice_table: Tensor
    _choice_inactive: Tensor
    _interval_parent: Tensor
    _interval_low: Tensor
    _interval_high: Tensor
    _interval_negate: Tensor
    _interval_unit: Tensor
    _left: Tensor
    _right: Tensor
    _sign_low: Tensor
    _sign_high: Tensor
    _joins: Tensor
    _sizes: Tensor
    _unions: Tensor

    def __init__(self, columns: Sequence[Column], outputs: Sequence[Sequence[Clause]]) -> None:
        super().__init__()
        choice: list[tuple[Atom, list[bool]]] = []
        interval: list[tuple[Atom, float, float]] = []
        relation: list[Relation] = []
        members: list[tuple[str, int, int]] = []
        owners: list[int] = []
        for output, clauses in enumerate(outputs):
            for clause in clauses:
                for test in _expand(clause, columns):
                    number = len(owners)
                    if isinstance(test, Relation):
                        members.append(("relation", len(relation), number))
                        relation.append(test)
                    elif columns[test.parent].is_numeric:
                        members.append(("interval", len(interval), number))
                        interval.append((test, *_interval(test, columns[test.parent])))
                    else:
                        members.append(("choice", len(choice), number))
                        size = len(columns[test.parent].choices)
                        choice.append((test, [test.holds(float(i)) for i in range(size)]))
                owners.append(output)
        self._build_choice(columns, choice)
        self._build_interval(columns, interval)
        self._build_relation(relation)
        base = {"choice": 0, "interval": len(choice), "relation": len(choice) + len(interval)}
        tests = len(choice) + len(interval) + len(relation)
        joins = torch.zeros(tests, len(owners))
        for kind, position, clause_number in members:
            joins[base[kind] + position, clause_number] = 1.0
        unions = torch.zeros(len(owners), len(outputs))
        for clause_number, output in enumerate(owners):
            unions[clause_number, output] = 1.0
        # One test per clause and one clause per output, in order: nothing needs to be joined.
        plain = torch.equal(joins, torch.eye(tests, len(owners))) and torch.equal(
            unions, torch.eye(len(owners), len(outputs))
        )
        self._plain = plain
        self.register_buffer("_joins", joins, persistent=False)
        self.register_buffer("_sizes", joins.sum(0) - 0.5, persistent=False)
        self.register_buffer("_unions", unions, persistent=False)

    def _build_choice(self, columns: Sequence[Column], choice: Sequence[tuple[Atom, list[bool]]]) -> None:
        offsets, table, start = [], [], 0
        for _, truth in choice:
            offsets.append(start)
            table.extend(truth)
            start += len(truth)
        parents = [test.parent for test, _ in choice]
        sizes = [float(len(columns[parent].choices)) for parent in parents]
        self._has_choice = bool(choice)
        self._index("_choice_parent", parents)
        self._index("_choice_offset", offsets)
        self.register_buffer("_choice_size", torch.tensor(sizes), persistent=False)
        self._flag("_choice_table", table)
        self._flag("_choice_inactive", [test.operator == "ne" for test, _ in choice])

    def _build_interval(self, columns: Sequence[Column], interval: Sequence[tuple[Atom, float, float]]) -> None:
        parents = [test.parent for test, _, _ in interval]
        self._has_interval = bool(interval)
        self._has_integer = any(columns[parent].kind == "integer" for parent in parents)
        self._index("_interval_parent", parents)
        low = torch.tensor([item[1] for item in interval], dtype=torch.float64)
        high = torch.tensor([item[2] for item in interval], dtype=torch.float64)
        self.register_buffer("_interval_low", low, persistent=False)
        self.register_buffer("_interval_high", high, persistent=False)
        self._flag("_interval_negate", [test.operator == "ne" for test, _, _ in interval])
        self._flag("_interval_unit", [columns[parent].kind == "float" for parent in parents])

    def _build_relation(self, relation: Sequence[Relation]) -> None:
        self._has_relation = bool(relation)
        self._index("_left", [test.left for test in relation])
        self._index("_right", [test.right for test in relation])
        signs = {"in": (0, 0), "lt": (-1, -1), "le": (-1, 0), "gt": (1, 1), "ge": (0, 1)}
        low = [signs[test.operator][0] for test in relation]
        high = [signs[test.operator][1] for test in relation]
        self._index("_sign_low", low)
        self._index("_sign_high", high)

    def _index(self, name: str, values: Sequence[int]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def _flag(self, name: str, values: Sequence[bool]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.bool), persistent=False)

    @property
    def needs_numbers(self) -> bool:
        """Whether :meth:`forward` reads ``numbers``."""
        return self._has_integer or self._has_relation

    def forward(self, u: Tensor, numbers: Tensor | None, active: Tensor | None) -> Tensor:
        """Decide every output.

        Args:
            u: ``[B, D]`` in the unit cube.
            numbers: Decoded numbers ``[B, D]`` (see ``Column.number``); may be ``None`` where
                :attr:`needs_numbers` is false.
            active: bool ``[B, D]``, or ``None`` if all hyperparameters are active.

        Returns:
            bool ``[B, outputs]``.
        """
        parts = []
        if self._has_choice:
            parents, sizes = self._choice_parent, self._choice_size
            scaled = u[:, parents] * sizes
            position = torch.minimum(scaled.long(), (sizes - 1.0).long())
            held = self._choice_table[position + self._choice_offset]
            parts.append(held if active is None else torch.where(active[:, parents], held, self._choice_inactive))
        if self._has_interval:
            parents = self._interval_parent
            value = u[:, parents].double()
            if self._has_integer:
                assert numbers is not None
                value = torch.where(self._interval_unit, value, numbers[:, parents].double())
            inside = (value >= self._interval_low) & (value <= self._interval_high)
            held = inside ^ self._interval_negate
            parts.append(held if active is None else torch.where(active[:, parents], held, self._interval_negate))
        if self._has_relation:
            assert numbers is not None
            left, right = self._left, self._right
            sign = torch.sign(numbers[:, left] - numbers[:, right]).long()
            held = (sign >= self._sign_low) & (sign <= self._sign_high)
            if active is not None:
                held = held & active[:, left] & active[:, right]
            parts.append(held)
        tests = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if self._plain:
            return tests
        clauses = tests.to(torch.float32) @ self._joins > self._sizes
        return clauses.to(torch.float32) @ self._unions > 0.5


def _expand(clause: Clause, columns: Sequence[Column]) -> Clause:
    """Refuse what one clause cannot express: membership of a number in several values."""
    for test in clause:
        numeric = isinstance(test, Atom) and columns[test.parent].is_numeric
        if numeric and isinstance(test, Atom) and test.operator == "in" and len(test.values) > 1:
            raise ValueError("split a numeric 'in' with several values into several clauses")
    return clause


def _interval(test: Atom, column: Column) -> tuple[float, float]:
    """Return the bounds between which a numeric test holds (``ne``: does not hold).

    Integers are compared as numbers, with half a step of room. Floats are compared on the unit interval,
    as in ConfigSpace: decoded, a value near ``1e-8`` would need another tolerance than one near ``1e8``.
    """
    value = test.values[0]
    if column.kind == "integer":
        hair = 0.5
    else:
        value, hair = _unit(value, column), _UNIT_HAIR
    if test.operator in ("in", "ne"):
        return value - hair, value + hair
    if test.operator == "lt":
        return -math.inf, value - hair
    if test.operator == "le":
        return -math.inf, value + hair
    if test.operator == "gt":
        return value + hair, math.inf
    return value - hair, math.inf


def _unit(value: float, column: Column) -> float:
    if not column.log:
        return (value - column.lower) / (column.upper - column.lower)
    if value <= 0.0:
        return -math.inf
    return math.log(value / column.lower) / math.log(column.upper / column.lower)
