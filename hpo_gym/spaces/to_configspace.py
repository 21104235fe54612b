""":class:`~hpo_gym.spaces.SpaceSpec` to ConfigSpace, for optimisers that speak it."""

from __future__ import annotations

from typing import Any

import ConfigSpace as cs
from ConfigSpace import forbidden as cs_forbidden

from hpo_gym.spaces.spec import Atom, Clause, Column, Relation, SpaceSpec

__all__ = ["configspace_from_spec"]


def configspace_from_spec(spec: SpaceSpec) -> cs.ConfigurationSpace:
    """Return an equivalent configuration space.

    Its hyperparameters are in ConfigSpace's own (sorted) order; go by name.
    """
    space = cs.ConfigurationSpace()
    parameters = [_parameter(column) for column in spec.columns]
    space.add(*parameters)
    for child, clauses in spec.conditions.items():
        space.add(_condition(spec, parameters, child, clauses))
    for clause in spec.forbidden:
        tests = [_forbidden_test(spec, parameters, test) for test in clause]
        space.add(tests[0] if len(tests) == 1 else cs.ForbiddenAndConjunction(*tests))
    return space


def _parameter(column: Column) -> Any:
    default: Any = column.default
    if column.kind == "constant":
        return cs.Constant(column.name, column.choices[0])  # type: ignore[arg-type]
    if column.kind == "categorical":
        return cs.CategoricalHyperparameter(column.name, column.choices, default_value=default)
    if column.kind == "ordinal":
        return cs.OrdinalHyperparameter(column.name, column.choices, default_value=default)
    if column.kind == "integer":
        return cs.UniformIntegerHyperparameter(
            column.name, int(column.lower), int(column.upper), default, log=column.log
        )
    return cs.UniformFloatHyperparameter(column.name, column.lower, column.upper, default, log=column.log)


def _condition(spec: SpaceSpec, parameters: list[Any], child: int, clauses: tuple[Clause, ...]) -> Any:
    parts = []
    for clause in clauses:
        tests = [_condition_test(spec, parameters, child, test) for test in clause if isinstance(test, Atom)]
        parts.append(tests[0] if len(tests) == 1 else cs.AndConjunction(*tests))
    return parts[0] if len(parts) == 1 else cs.OrConjunction(*parts)


def _condition_test(spec: SpaceSpec, parameters: list[Any], child: int, test: Atom) -> Any:
    column, parent = spec.columns[test.parent], parameters[test.parent]
    values = [column.value(number) for number in test.values]
    if test.operator == "in" and len(values) > 1:
        return cs.InCondition(parameters[child], parent, values)
    kinds: dict[str, Any] = {
        "in": cs.EqualsCondition,
        "ne": cs.NotEqualsCondition,
        "lt": cs.LessThanCondition,
        "gt": cs.GreaterThanCondition,
    }
    return kinds[test.operator](parameters[child], parent, values[0])


def _forbidden_test(spec: SpaceSpec, parameters: list[Any], test: Atom | Relation) -> Any:
    if isinstance(test, Relation):
        names = {
            "lt": "LessThan",
            "le": "LessThanEquals",
            "gt": "GreaterThan",
            "ge": "GreaterThanEquals",
            "in": "Equals",
        }
        kind = getattr(cs_forbidden, f"Forbidden{names[test.operator]}Relation")
        return kind(parameters[test.left], parameters[test.right])
    column, parent = spec.columns[test.parent], parameters[test.parent]
    values = [column.value(number) for number in test.values]
    if test.operator == "in":
        if len(values) > 1:
            return cs.ForbiddenInClause(parent, values)
        return cs.ForbiddenEqualsClause(parent, values[0])
    names = {"lt": "LessThan", "le": "LessThanEquals", "gt": "GreaterThan", "ge": "GreaterThanEquals"}
    return getattr(cs_forbidden, f"Forbidden{names[test.operator]}Clause")(parent, values[0])
