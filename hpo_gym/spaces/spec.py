"""What a search space is, as frozen JSON-able data; no tensors and no ConfigSpace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.spaces.clauses import Clause, as_data, from_data, parents, renumber
from hpo_gym.spaces.columns import Column, Value
from hpo_gym.spaces.restriction import narrowed, without_constants

__all__ = ["SpaceSpec"]


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
        by_position = {self.position(name): change for name, change in changes.items()}
        return SpaceSpec(*narrowed(self.columns, self.conditions, self.forbidden, by_position))

    def drop_constants(self) -> tuple[SpaceSpec, dict[str, Value]]:
        """Return the space without constants and what can never be active, and the constants.

        Conditions on constants are decided; those that always hold vanish. Constants that can never
        be active are not among the returned values.
        """
        parts, values = without_constants(self.columns, self.conditions, self.forbidden, self.levels())
        return SpaceSpec(*parts), values

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
                "conditions": {str(child): as_data(clauses) for child, clauses in self.conditions.items()},
                "forbidden": as_data(self.forbidden),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SpaceSpec:
        """Read :meth:`to_json` back."""
        data = json.loads(text)
        columns = tuple(Column(**{**column, "choices": tuple(column["choices"])}) for column in data["columns"])
        conditions = {int(child): from_data(value) for child, value in data["conditions"].items()}
        return cls(columns, conditions, from_data(data["forbidden"]))
