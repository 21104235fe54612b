""":class:`~hpo_gym.spaces.SpaceSpec` to ConfigSpace, for optimisers that speak it."""

from __future__ import annotations

from itertools import product
from typing import Any

import ConfigSpace
from ConfigSpace import forbidden as cs_forbidden

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces.clauses import Atom, Clause, Relation
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["configspace_from_spec"]

_NAMES = {
    "lt": "LessThan",
    "le": "LessThanEquals",
    "gt": "GreaterThan",
    "ge": "GreaterThanEquals",
    "in": "Equals",
}


def configspace_from_spec(spec: SpaceSpec) -> ConfigSpace.ConfigurationSpace:
    """Return an equivalent configuration space.

    Its hyperparameters are in ConfigSpace's own (sorted) order; go by name.

    Raises:
        InvalidSettingError: If ConfigSpace refuses it. It insists on a default configuration that is legal, and
            in which no hyperparameter is active because an inactive one "is not equal" to something.
    """
    try:
        return _build(spec)
    except (ValueError, TypeError) as error:
        raise InvalidSettingError(
            f"ConfigSpace refuses the space of {list(spec.names)}: {error} Its defaults, which must make "
            f"a legal configuration, are {[column.default for column in spec.columns]}: choose others, "
            "or drop_constants() first."
        ) from error


def _build(spec: SpaceSpec) -> ConfigSpace.ConfigurationSpace:
    space = ConfigSpace.ConfigurationSpace()
    parameters = [_parameter(column) for column in spec.columns]
    space.add(*parameters)
    parts = [_condition(spec, parameters, child, clauses) for child, clauses in spec.conditions.items()]
    for clause in spec.forbidden:
        # ConfigSpace has no "forbidden unless equal", so one of our tests may become two of its clauses.
        for tests in product(*(_forbidden_tests(spec, parameters, test) for test in clause)):
            parts.append(tests[0] if len(tests) == 1 else ConfigSpace.ForbiddenAndConjunction(*tests))
    # At once: ConfigSpace checks the default configuration after every call.
    space.add(*parts)
    return space


def _parameter(column: Column) -> Any:
    default: Any = column.default
    if column.kind == "constant":
        return ConfigSpace.Constant(column.name, column.choices[0])
    if column.kind == "categorical":
        return ConfigSpace.CategoricalHyperparameter(column.name, column.choices, default_value=default)
    if column.kind == "ordinal":
        return ConfigSpace.OrdinalHyperparameter(column.name, column.choices, default_value=default)
    if column.kind == "integer":
        return ConfigSpace.UniformIntegerHyperparameter(
            column.name, int(column.lower), int(column.upper), default, log=column.log
        )
    return ConfigSpace.UniformFloatHyperparameter(column.name, column.lower, column.upper, default, log=column.log)


def _condition(spec: SpaceSpec, parameters: list[Any], child: int, clauses: tuple[Clause, ...]) -> Any:
    parts = []
    for clause in clauses:
        tests = [_condition_test(spec, parameters, child, test) for test in clause if isinstance(test, Atom)]
        parts.append(tests[0] if len(tests) == 1 else ConfigSpace.AndConjunction(*tests))
    return parts[0] if len(parts) == 1 else ConfigSpace.OrConjunction(*parts)


def _condition_test(spec: SpaceSpec, parameters: list[Any], child: int, test: Atom) -> Any:
    """Return one test; what a restriction has made certain stays a test of whether the parent is active."""
    column, pair = spec.columns[test.parent], (parameters[child], parameters[test.parent])
    if not column.is_numeric:
        held = [test.holds(float(position)) for position in range(len(column.choices))]
        kept = [choice for choice, holds in zip(column.choices, held, strict=True) if holds]
        gone = [choice for choice, holds in zip(column.choices, held, strict=True) if not holds]
        if test.operator == "ne":
            # Holds for an inactive parent, which ConfigSpace's membership does not.
            unequal = ConfigSpace.NotEqualsCondition(*pair, gone[0] if gone else column.choices[0])
            return (
                unequal
                if gone
                else ConfigSpace.OrConjunction(unequal, ConfigSpace.EqualsCondition(*pair, column.choices[0]))
            )
        if not kept:
            first = column.choices[0]
            return ConfigSpace.AndConjunction(
                ConfigSpace.EqualsCondition(*pair, first), ConfigSpace.NotEqualsCondition(*pair, first)
            )
        return ConfigSpace.EqualsCondition(*pair, kept[0]) if len(kept) == 1 else ConfigSpace.InCondition(*pair, kept)
    value, lower, upper = test.values[0], pair[1].lower, pair[1].upper
    never = ConfigSpace.LessThanCondition(*pair, lower)
    always = ConfigSpace.OrConjunction(
        ConfigSpace.LessThanCondition(*pair, upper), ConfigSpace.EqualsCondition(*pair, upper)
    )
    within, inside = column.lower <= value <= column.upper, _inside(column, pair[1], value)
    if test.operator == "in":
        return ConfigSpace.EqualsCondition(*pair, inside) if within else never
    if test.operator == "ne":
        unequal = ConfigSpace.NotEqualsCondition(*pair, inside)
        return unequal if within else ConfigSpace.OrConjunction(unequal, ConfigSpace.EqualsCondition(*pair, inside))
    below = test.operator in ("lt", "le")
    if not within:
        return always if below == (value > column.upper) else never
    strict = (ConfigSpace.LessThanCondition if below else ConfigSpace.GreaterThanCondition)(*pair, inside)
    if test.operator in ("lt", "gt"):
        return strict
    return ConfigSpace.OrConjunction(strict, ConfigSpace.EqualsCondition(*pair, inside))


def _inside(column: Column, parameter: Any, number: float) -> Any:
    """Return a value within the bounds of ConfigSpace, which rounds those of floats."""
    return min(max(column.value(number), parameter.lower), parameter.upper)


def _forbidden_tests(spec: SpaceSpec, parameters: list[Any], test: Atom | Relation) -> list[Any]:
    """Return the alternatives that make up one test; none if it can never hold."""
    if isinstance(test, Relation):
        kind = getattr(cs_forbidden, f"Forbidden{_NAMES[test.operator]}Relation")
        return [kind(parameters[test.left], parameters[test.right])]
    column, parent = spec.columns[test.parent], parameters[test.parent]
    if not column.is_numeric:
        values = [choice for position, choice in enumerate(column.choices) if test.holds(float(position))]
        if len(values) > 1:
            return [ConfigSpace.ForbiddenInClause(parent, values)]
        return [ConfigSpace.ForbiddenEqualsClause(parent, value) for value in values]
    value = test.values[0]
    operators = ("lt", "gt") if test.operator == "ne" else (test.operator,)
    found = []
    for operator in operators:
        if column.lower <= value <= column.upper:
            kind = getattr(cs_forbidden, f"Forbidden{_NAMES[operator]}Clause")
            found.append(kind(parent, _inside(column, parent, value)))
        elif Atom(test.parent, operator, test.values).holds(column.lower):
            found.append(cs_forbidden.ForbiddenGreaterThanEqualsClause(parent, parent.lower))
    return found
