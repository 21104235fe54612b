"""Random ConfigSpace spaces for hypothesis, handwritten ones, and ConfigSpace's own verdict on a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ConfigSpace
import numpy as np
import torch
from ConfigSpace import forbidden as cs_forbidden
from ConfigSpace.exceptions import ForbiddenValueError
from ConfigSpace.util import check_configuration
from hypothesis import strategies as st
from torch import Tensor

from hpo_gym.spaces import SearchSpace

__all__ = ["HANDWRITTEN", "configuration_spaces", "points", "reference_vectors", "reference_verdicts"]

_RELATIONS = (
    cs_forbidden.ForbiddenLessThanRelation,
    cs_forbidden.ForbiddenLessThanEqualsRelation,
    cs_forbidden.ForbiddenEqualsRelation,
    cs_forbidden.ForbiddenGreaterThanRelation,
    cs_forbidden.ForbiddenGreaterThanEqualsRelation,
)
_ORDERED_CLAUSES = (
    cs_forbidden.ForbiddenLessThanClause,
    cs_forbidden.ForbiddenLessThanEqualsClause,
    cs_forbidden.ForbiddenGreaterThanClause,
    cs_forbidden.ForbiddenGreaterThanEqualsClause,
)


def build(parameters: Sequence[Any], conditions: Sequence[Any], forbidden: Sequence[Any]) -> Any:
    """Return a configuration space of these parts."""
    space = ConfigSpace.ConfigurationSpace(seed=0)
    space.add(*parameters)
    for part in (*conditions, *forbidden):
        space.add(part)
    return space


def _accepts(parameters: Sequence[Any], conditions: Sequence[Any], forbidden: Sequence[Any]) -> bool:
    """Whether ConfigSpace takes the parts together: it refuses a default that is forbidden, for one."""
    try:
        build(parameters, conditions, forbidden)
    except (ValueError, TypeError):
        return False
    return True


@st.composite
def _hyperparameter(draw: st.DrawFn, name: str) -> Any:
    kind = draw(st.sampled_from(("float", "integer", "categorical", "ordinal", "constant")))
    log = draw(st.booleans())
    if kind == "float":
        lower = draw(st.sampled_from((1e-9, 0.1, 2.0) if log else (-3.5, 0.0, 0.1)))
        return ConfigSpace.Float(name, (lower, lower + draw(st.sampled_from((0.25, 1.0, 40.0)))), log=log)
    if kind == "integer":
        lower = draw(st.sampled_from((1, 2, 10) if log else (-4, 0, 1)))
        return ConfigSpace.Integer(name, (lower, lower + draw(st.sampled_from((1, 3, 8, 1000)))), log=log)
    if kind == "categorical":
        choices = draw(st.sampled_from((["a", "b"], ["b", "c", "a"], [True, False], [3, 1, 2], [1, 2.5])))
        return ConfigSpace.Categorical(name, choices)
    if kind == "ordinal":
        return ConfigSpace.OrdinalHyperparameter(name, draw(st.sampled_from(([8, 4, 2], ["s", "m", "l"], [0.1, 3]))))
    return ConfigSpace.Constant(name, draw(st.sampled_from((3, 0.5, "a"))))


def _values(parameter: Any) -> list[Any]:
    """Return values to test against: the ends and the middle, or all choices."""
    for attribute in ("choices", "sequence"):
        if hasattr(parameter, attribute):
            return list(getattr(parameter, attribute))
    if isinstance(parameter, ConfigSpace.Constant):
        return [parameter.value]
    return [parameter.lower, parameter.default_value, parameter.upper]


@st.composite
def _condition_test(draw: st.DrawFn, child: Any, parents: Sequence[Any]) -> Any:
    parent = draw(st.sampled_from(parents))
    values = _values(parent)
    kinds = ["equals", "not equals", "in"]
    if not isinstance(parent, ConfigSpace.CategoricalHyperparameter | ConfigSpace.Constant):
        kinds += ["less", "greater"]
    kind = draw(st.sampled_from(kinds))
    if kind == "in":
        several = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique_by=repr))
        return ConfigSpace.InCondition(child, parent, several)
    condition = {
        "equals": ConfigSpace.EqualsCondition,
        "not equals": ConfigSpace.NotEqualsCondition,
        "less": ConfigSpace.LessThanCondition,
        "greater": ConfigSpace.GreaterThanCondition,
    }[kind]
    return condition(child, parent, draw(st.sampled_from(values)))


@st.composite
def _condition(draw: st.DrawFn, child: Any, parents: Sequence[Any], depth: int = 2) -> Any:
    join = draw(st.sampled_from((None, None, ConfigSpace.AndConjunction, ConfigSpace.OrConjunction)))
    if join is None or depth == 0:
        return draw(_condition_test(child, parents))
    return join(*(draw(_condition(child, parents, depth - 1)) for _ in range(2)))


@st.composite
def _forbidden_test(draw: st.DrawFn, parameters: Sequence[Any]) -> Any:
    kind = draw(st.sampled_from(("equals", "in", "ordered", "relation")))
    if kind == "relation":
        return draw(st.sampled_from(_RELATIONS))(*draw(st.permutations(parameters))[:2])
    parameter = draw(st.sampled_from(parameters))
    values = _values(parameter)
    if kind == "in":
        several = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique_by=repr))
        return ConfigSpace.ForbiddenInClause(parameter, several)
    ordered = not isinstance(parameter, ConfigSpace.CategoricalHyperparameter | ConfigSpace.Constant)
    if kind == "equals" or not ordered:
        return ConfigSpace.ForbiddenEqualsClause(parameter, draw(st.sampled_from(values)))
    return draw(st.sampled_from(_ORDERED_CLAUSES))(parameter, draw(st.sampled_from(values)))


def _comparable(clause: Any) -> bool:
    """Whether ConfigSpace itself can decide a relation: "less than" of text and a number it cannot."""
    if isinstance(clause, cs_forbidden.ForbiddenConjunction):
        return all(_comparable(part) for part in clause.components)
    if not isinstance(clause, cs_forbidden.ForbiddenRelation):
        return True
    if isinstance(clause, cs_forbidden.ForbiddenEqualsRelation):
        return True
    kinds = [type(value) in (int, float, bool) for side in (clause.left, clause.right) for value in _plain_values(side)]
    return all(kinds) or not any(kinds)


def _plain_values(parameter: Any) -> list[Any]:
    return [value.item() if hasattr(value, "item") else value for value in _values(parameter)]


@st.composite
def configuration_spaces(draw: st.DrawFn, max_size: int = 6) -> Any:
    """Draw a ``ConfigSpace.ConfigurationSpace`` with any kind of hyperparameter, condition and clause."""
    # Names in random order: a child may come before its parent in ConfigSpace's sorted order.
    names = draw(st.permutations("abcdef"))[: draw(st.integers(2, max_size))]
    parameters = [draw(_hyperparameter(name)) for name in names]
    conditions: list[Any] = []
    for index in range(1, len(parameters)):
        if draw(st.booleans()):
            condition = draw(_condition(parameters[index], parameters[:index]))
            if _accepts(parameters, [*conditions, condition], []):
                conditions.append(condition)
    forbidden: list[Any] = []
    for _ in range(draw(st.integers(0, 3))):
        clause = draw(_forbidden_test(parameters))
        if draw(st.booleans()):
            clause = ConfigSpace.ForbiddenAndConjunction(clause, draw(_forbidden_test(parameters)))
        if _comparable(clause) and _accepts(parameters, conditions, [*forbidden, clause]):
            forbidden.append(clause)
    return build(parameters, conditions, forbidden)


def points(count: int, dimension: int, seed: int) -> Tensor:
    """Return random points of the unit cube, a third of whose coordinates are an end: float64 ``[B, D]``."""
    draws = torch.Generator().manual_seed(seed)
    u = torch.rand(count, dimension, generator=draws, dtype=torch.float64)
    which = torch.rand(count, dimension, generator=draws)
    return torch.where(which < 1 / 6, 0.0, torch.where(which > 5 / 6, 1.0, u))


def reference_vectors(space: Any, ours: SearchSpace, u: Tensor) -> np.ndarray:
    """Return our configurations as ConfigSpace vectors ``[B, D]``, in its order, NaN where we say inactive."""
    values, active = ours.numbers(u.double()).numpy(), ours.active(u.double()).numpy()
    vectors = np.full(values.shape, np.nan)
    for name, parameter in space.items():
        column = ours.spec.position(name)
        choices = ours.spec.columns[column].choices
        if choices:
            table = np.array([parameter.to_vector(choice) for choice in choices], dtype=np.float64)
            vector = table[values[:, column].astype(int)]
        elif ours.spec.columns[column].kind == "integer":
            vector = parameter.to_vector(values[:, column].astype(np.int64))
        else:
            # ConfigSpace rounds the bounds of floats to 13 digits: an end may lie a hair outside its range.
            vector = parameter.to_vector(values[:, column])
            assert ((vector > -1e-6) & (vector < 1.0 + 1e-6)).all()
            vector = vector.clip(0.0, 1.0)
        vectors[:, space.index_of[name]] = np.where(active[:, column], vector, np.nan)
    return vectors


def reference_verdicts(space: Any, vectors: np.ndarray) -> np.ndarray:
    """Return ConfigSpace's legality, bool ``[B]``.

    Raises:
        ConfigSpace.exceptions.ActiveHyperparameterNotSetError: If we call inactive what it calls active.
        ConfigSpace.exceptions.InactiveHyperparameterSetError: The other way round.
    """
    legal = np.ones(len(vectors), dtype=bool)
    for row, vector in enumerate(vectors):
        try:
            check_configuration(space, vector)
        except ForbiddenValueError:
            legal[row] = False
    return legal


def _every_condition() -> Any:
    kind = ConfigSpace.Categorical("kind", ["linear", "tree", "net"])
    booster = ConfigSpace.Categorical("booster", ["dart", "plain"])
    depth = ConfigSpace.Integer("depth", (1, 16))
    rate = ConfigSpace.Float("rate", (1e-9, 1.0), log=True)
    width = ConfigSpace.Integer("width", (8, 1024), log=True)
    size = ConfigSpace.OrdinalHyperparameter("size", ["s", "m", "l", "xl"])
    leaves = ConfigSpace.Integer("a_leaves", (2, 64), log=True)
    skip = ConfigSpace.Float("b_skip", (0.0, 1.0))
    momentum = ConfigSpace.Float("momentum", (0.0, 0.99))
    decay = ConfigSpace.Float("decay", (-1.0, 1.0))
    constant = ConfigSpace.Constant("version", "v1")
    return build(
        [kind, booster, depth, rate, width, size, leaves, skip, momentum, decay, constant],
        [
            ConfigSpace.EqualsCondition(booster, kind, "linear"),
            ConfigSpace.NotEqualsCondition(depth, booster, "plain"),
            ConfigSpace.GreaterThanCondition(leaves, depth, 4),
            ConfigSpace.LessThanCondition(momentum, rate, 1e-6),
            ConfigSpace.InCondition(size, kind, ["linear", "net"]),
            ConfigSpace.AndConjunction(
                ConfigSpace.GreaterThanCondition(skip, size, "s"),
                ConfigSpace.OrConjunction(
                    ConfigSpace.LessThanCondition(skip, width, 100),
                    ConfigSpace.InCondition(skip, depth, [5, 6, 7]),
                ),
            ),
            ConfigSpace.OrConjunction(
                ConfigSpace.EqualsCondition(decay, size, "xl"),
                ConfigSpace.NotEqualsCondition(decay, width, 91),
            ),
        ],
        [],
    )


def _every_clause() -> Any:
    kind = ConfigSpace.Categorical("kind", ["x", "y", "z"])
    other = ConfigSpace.Categorical("other", ["z", "y", "w"])
    low, high = ConfigSpace.Integer("low", (0, 20), default=1), ConfigSpace.Float("high", (0.0, 30.0), default=20.0)
    tiny = ConfigSpace.Float("tiny", (1e-8, 1e-2), log=True)
    size = ConfigSpace.OrdinalHyperparameter("size", [16, 8, 2], default_value=8)
    top = ConfigSpace.Constant("top", 18)
    child = ConfigSpace.Integer("child", (1, 100), log=True)
    return build(
        [kind, other, low, high, tiny, size, top, child],
        [ConfigSpace.EqualsCondition(child, kind, "x")],
        [
            ConfigSpace.ForbiddenAndConjunction(
                ConfigSpace.ForbiddenEqualsClause(kind, "x"), ConfigSpace.ForbiddenInClause(other, ["w", "y"])
            ),
            ConfigSpace.ForbiddenEqualsRelation(kind, other),
            ConfigSpace.ForbiddenInClause(low, [2, 3, 5, 7]),
            ConfigSpace.ForbiddenLessThanRelation(high, low),
            ConfigSpace.ForbiddenGreaterThanRelation(low, top),
            ConfigSpace.ForbiddenAndConjunction(
                cs_forbidden.ForbiddenLessThanClause(tiny, 1e-6),
                cs_forbidden.ForbiddenGreaterThanEqualsClause(size, 8),
            ),
            ConfigSpace.ForbiddenAndConjunction(
                ConfigSpace.ForbiddenGreaterThanRelation(size, low), ConfigSpace.ForbiddenEqualsClause(kind, "y")
            ),
            ConfigSpace.ForbiddenEqualsClause(child, 3),
            ConfigSpace.ForbiddenLessThanRelation(child, low),
        ],
    )


def _flat() -> Any:
    return build(
        [
            ConfigSpace.Float("float", (-2.0, 3.0)),
            ConfigSpace.Float("log_float", (1e-4, 10.0), log=True),
            ConfigSpace.Integer("integer", (-3, 6)),
            ConfigSpace.Integer("log_integer", (1, 500), log=True),
            ConfigSpace.Categorical("categorical", ["a", "b", "c"]),
            ConfigSpace.Categorical("flag", [True, False]),
            ConfigSpace.OrdinalHyperparameter("ordinal", [1, 10, 100, 1000]),
            ConfigSpace.Constant("constant", 7),
        ],
        [],
        [],
    )


#: Spaces that together hold every feature, by name.
HANDWRITTEN = {"flat": _flat, "every condition": _every_condition, "every clause": _every_clause}
