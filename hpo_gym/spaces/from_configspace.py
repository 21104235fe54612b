"""ConfigSpace to :class:`~hpo_gym.spaces.SpaceSpec`. Imports ConfigSpace, which takes a second."""

from __future__ import annotations

from typing import Any

from ConfigSpace import conditions as cs_conditions
from ConfigSpace import forbidden as cs_forbidden
from ConfigSpace import hyperparameters as cs_hyperparameters
from ConfigSpace.configuration_space import ConfigurationSpace

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces.clauses import Atom, Clause
from hpo_gym.spaces.columns import Column, plain
from hpo_gym.spaces.normal_form import conjunction, disjunction, membership, relation
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["spec_from_configspace"]

_CONDITIONS: tuple[tuple[type[Any], str], ...] = (
    (cs_conditions.EqualsCondition, "in"),
    (cs_conditions.NotEqualsCondition, "ne"),
    (cs_conditions.LessThanCondition, "lt"),
    (cs_conditions.GreaterThanCondition, "gt"),
)

# Subclasses first: "less or equal" derives from "less".
_CLAUSES: tuple[tuple[str, str], ...] = (
    ("ForbiddenEqualsClause", "in"),
    ("ForbiddenLessThanEqualsClause", "le"),
    ("ForbiddenGreaterThanEqualsClause", "ge"),
    ("ForbiddenLessThanClause", "lt"),
    ("ForbiddenGreaterThanClause", "gt"),
)
_RELATIONS: tuple[tuple[str, str], ...] = (
    ("ForbiddenLessThanEqualsRelation", "le"),
    ("ForbiddenGreaterThanEqualsRelation", "ge"),
    ("ForbiddenLessThanRelation", "lt"),
    ("ForbiddenGreaterThanRelation", "gt"),
    ("ForbiddenEqualsRelation", "in"),
)


def spec_from_configspace(space: ConfigurationSpace) -> SpaceSpec:
    """Return the specification of a configuration space, in the order of its hyperparameters.

    Distributions other than the uniform (normal, beta, weighted choices) keep their bounds and choices;
    the unit cube is uniform.

    Raises:
        InvalidSettingError: For a hyperparameter, condition or clause of a kind that is not known.
    """
    columns = tuple(_column(parameter) for parameter in space.values())
    position = {column.name: index for index, column in enumerate(columns)}
    conditions: dict[int, tuple[Clause, ...]] = {}
    for condition in space.conditions:
        child = position[_child(condition)]
        clauses = _condition(condition, columns, position)
        if child in conditions:
            clauses = conjunction([conditions[child], clauses])
        conditions[child] = clauses
    forbidden: list[Clause] = []
    for clause in space.forbidden_clauses:
        forbidden.extend(_forbidden(clause, columns, position))
    return SpaceSpec(columns, conditions, tuple(forbidden))


def _column(parameter: Any) -> Column:
    name, default = parameter.name, parameter.default_value
    if isinstance(parameter, cs_hyperparameters.Constant):
        value = plain(parameter.value)
        return Column(name, "constant", choices=(value,), default=value)
    if isinstance(parameter, cs_hyperparameters.OrdinalHyperparameter):
        choices = tuple(plain(value) for value in parameter.sequence)
        return Column(name, "ordinal", choices=choices, default=plain(default))
    if isinstance(parameter, cs_hyperparameters.CategoricalHyperparameter):
        choices = tuple(plain(value) for value in parameter.choices)
        return Column(name, "categorical", choices=choices, default=plain(default))
    if isinstance(parameter, cs_hyperparameters.IntegerHyperparameter):
        bounds = int(parameter.lower), int(parameter.upper)
        return Column(name, "integer", *bounds, bool(parameter.log), (), int(default))
    if isinstance(parameter, cs_hyperparameters.FloatHyperparameter):
        limits = float(parameter.lower), float(parameter.upper)
        return Column(name, "float", *limits, bool(parameter.log), (), float(default))
    raise InvalidSettingError(
        f"Hyperparameter {name!r} has the kind {type(parameter).__name__}, which hpo_gym does not "
        "know: use float, integer, categorical, ordinal or constant."
    )


def _child(condition: Any) -> str:
    if isinstance(condition, cs_conditions.Conjunction):
        return _child(condition.components[0])
    name: str = condition.child.name
    return name


def _condition(condition: Any, columns: tuple[Column, ...], position: dict[str, int]) -> tuple[Clause, ...]:
    if isinstance(condition, cs_conditions.Conjunction):
        parts = [_condition(part, columns, position) for part in condition.components]
        if isinstance(condition, cs_conditions.AndConjunction):
            return conjunction(parts)
        return disjunction(parts)
    parent = position[condition.parent.name]
    column = columns[parent]
    if isinstance(condition, cs_conditions.InCondition):
        return membership(parent, column, [plain(value) for value in condition.values])
    for kind, operator in _CONDITIONS:
        if isinstance(condition, kind):
            return ((Atom(parent, operator, (column.number(plain(condition.value)),)),),)
    raise InvalidSettingError(
        f"Condition {condition} has the kind {type(condition).__name__}, which hpo_gym does not know."
    )


def _kind(name: str) -> type[Any] | tuple[()]:
    """Return a class of ConfigSpace's forbidden module, or what nothing is an instance of."""
    found: type[Any] | tuple[()] = getattr(cs_forbidden, name, ())
    return found


def _forbidden(clause: Any, columns: tuple[Column, ...], position: dict[str, int]) -> tuple[Clause, ...]:
    if isinstance(clause, _kind("ForbiddenAndConjunction")):
        parts = [_forbidden(part, columns, position) for part in clause.components]
        return conjunction(parts)
    if isinstance(clause, _kind("ForbiddenOrConjunction")):
        return disjunction([_forbidden(part, columns, position) for part in clause.components])
    for name, operator in _RELATIONS:
        if isinstance(clause, _kind(name)):
            return relation(position[clause.left.name], operator, position[clause.right.name], columns)
    parent = position[clause.hyperparameter.name]
    column = columns[parent]
    if isinstance(clause, _kind("ForbiddenInClause")):
        return membership(parent, column, [plain(value) for value in clause.values])
    for name, operator in _CLAUSES:
        if isinstance(clause, _kind(name)):
            return ((Atom(parent, operator, (column.number(plain(clause.value)),)),),)
    raise InvalidSettingError(
        f"Forbidden clause {clause} has the kind {type(clause).__name__}, which hpo_gym does not know."
    )
