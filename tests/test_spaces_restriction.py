"""Narrower spaces: subsets of what they came from, with fixed values honoured and bad values refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import HANDWRITTEN, configuration_spaces, points, reference_vectors, reference_verdicts

from hpo_gym.errors import HPOGymError, InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.spaces import Atom, Column, SearchSpace, SpaceSpec
from hpo_gym.spaces.clauses import Relation


def _spec(name: str) -> SpaceSpec:
    return SearchSpace.from_configspace(HANDWRITTEN[name]()).spec


# Changes, the error, and what its message must hold.
REFUSED: list[tuple[dict[str, Any], type[HPOGymError], list[str]]] = [
    ({"categoricl": "a"}, UnknownNameError, ["'categoricl'", "Did you mean 'categorical'", "log_float"]),
    ({"categorical": "d"}, UnknownNameError, ["'d'", "'categorical'", "a, b, c"]),
    ({"categorical": ["a", "z"]}, UnknownNameError, ["'z'", "a, b, c"]),
    ({"categorical": []}, InvalidSettingError, ["'categorical'", "no choice"]),
    ({"categorical": ["a", "a"]}, InvalidSettingError, ["'categorical'", "repeat"]),
    ({"categorical": (0, 1)}, InvalidSettingError, ["'categorical'", "(0, 1)", "list of choices"]),
    ({"flag": 1}, UnknownNameError, ["1", "False, True"]),
    ({"float": (-3.0, 0.0)}, InvalidSettingError, ["'float'", "(-3.0, 0.0)", "[-2.0, 3.0]"]),
    ({"float": (0.0, 3.5)}, InvalidSettingError, ["'float'", "[-2.0, 3.0]"]),
    ({"float": (1.0, 0.0)}, InvalidSettingError, ["'float'", "lower < upper"]),
    ({"float": (1.0, 1.0)}, InvalidSettingError, ["'float'", "one value to fix it"]),
    ({"float": (math.nan, 1.0)}, InvalidSettingError, ["'float'", "nan"]),
    ({"float": (0.0, math.inf)}, InvalidSettingError, ["'float'", "inf"]),
    ({"float": (0.0, 1.0, 2.0)}, InvalidSettingError, ["'float'", "(lower, upper)"]),
    ({"float": ("a", 1.0)}, InvalidSettingError, ["'float'", "'a'", "no number"]),
    ({"float": [0.0, 1.0]}, InvalidSettingError, ["'float'", "[0.0, 1.0]", "(lower, upper)"]),
    ({"float": 5.0}, InvalidSettingError, ["float=5.0", "[-2.0, 3.0]"]),
    ({"float": math.nan}, InvalidSettingError, ["float=nan"]),
    ({"float": True}, InvalidSettingError, ["True", "no number"]),
    ({"integer": (0.5, 3)}, InvalidSettingError, ["'integer'", "0.5", "round"]),
    ({"integer": 2.5}, InvalidSettingError, ["'integer'", "2.5", "round"]),
    ({"integer": math.nan}, InvalidSettingError, ["integer=nan"]),
    ({"constant": 8}, UnknownNameError, ["8", "'constant'", "7"]),
]


@pytest.mark.parametrize(("changes", "error", "parts"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_lies_outside_is_refused(changes: dict[str, Any], error: type[HPOGymError], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        _spec("flat").restrict(changes)
    for part in parts:
        assert part in str(caught.value)


def test_a_restriction_changes_what_it_names_and_moves_the_default_inside() -> None:
    spec = _spec("flat")
    narrow = spec.restrict(
        {"float": (1.0, 2.0), "log_integer": (2, 20), "categorical": ["c", "b"], "ordinal": 10, "integer": 4}
    )
    columns = {column.name: column for column in narrow.columns}
    assert columns["float"] == Column("float", "float", 1.0, 2.0, False, (), 1.0)
    assert columns["log_integer"] == Column("log_integer", "integer", 2, 20, True, (), 20)
    assert columns["categorical"].choices == ("c", "b")
    assert columns["categorical"].default == "c"
    assert columns["ordinal"] == Column("ordinal", "constant", choices=(10,), default=10)
    assert columns["integer"] == Column("integer", "constant", choices=(4,), default=4)
    untouched = {"log_float", "flag", "constant"}
    assert {column for column in spec.columns if column.name in untouched} <= set(narrow.columns)
    assert narrow.names == spec.names


def test_bounds_of_an_integer_stay_integers_in_json() -> None:
    narrow = _spec("flat").restrict({"integer": (0.0, 5.0)})
    assert '"lower": 0, "upper": 5' in narrow.to_json()


@pytest.mark.parametrize("name", ["every condition", "every clause"])
@pytest.mark.parametrize("seed", range(6))
def test_a_restricted_space_is_the_subset_of_the_whole(name: str, seed: int) -> None:
    whole = SearchSpace.from_configspace(HANDWRITTEN[name]())
    changes = _some_restriction(whole.spec, seed)
    narrow = SearchSpace(whole.spec.restrict(changes))
    u = narrow.snap(points(2000, narrow.dimension, seed))
    # The same numbers by name in the whole space, inactive ones included.
    rows = [
        {column.name: column.value(number) for column, number in zip(narrow.spec.columns, row, strict=True)}
        for row in narrow.numbers(u).tolist()
    ]
    same = whole.from_dicts(rows)
    assert torch.equal(whole.active(same), narrow.active(u))
    assert torch.equal(whole.legal(same), narrow.legal(u))
    reordered = SearchSpace(narrow.spec.reorder(narrow.names[::-1]))
    assert torch.equal(reordered.active(u.flip(1)), narrow.active(u).flip(1))


def _some_restriction(spec: SpaceSpec, seed: int) -> dict[str, Any]:
    """Return a restriction of about half of the columns, of every kind in turn."""
    changes: dict[str, Any] = {}
    for index, column in enumerate(spec.columns):
        turn = (index + seed) % 4
        if turn == 0 or column.kind == "constant":
            continue
        if not column.is_numeric:
            changes[column.name] = (
                column.choices[-1] if turn == 1 else list(column.choices[::-1][: len(column.choices) - 1])
            )
        elif turn == 1 or column.cardinality == 2:
            changes[column.name] = column.upper
        elif column.kind == "integer":
            changes[column.name] = (column.lower + 1, column.upper) if turn == 2 else (column.lower, column.upper - 1)
        else:
            middle = math.sqrt(column.lower * column.upper) if column.log else (column.lower + column.upper) / 2
            changes[column.name] = (middle, column.upper) if turn == 2 else (column.lower, middle)
    return changes


@settings(max_examples=60)
@given(space=configuration_spaces(), seed=st.integers(0, 3))
def test_random_spaces_mean_the_same_without_their_constants(space: Any, seed: int) -> None:
    full = SearchSpace.from_configspace(space).spec
    narrow = SearchSpace(full.restrict(_some_restriction(full, seed)))
    u = narrow.snap(points(40, narrow.dimension, seed))
    try:
        reduced, values = narrow.spec.drop_constants()
    except InvalidSettingError:
        assert not narrow.legal(u).any()
        return
    kept = [narrow.spec.position(name) for name in reduced.names]
    active = narrow.active(u)
    for index, column in enumerate(narrow.spec.columns):
        if index not in kept and column.name not in values:
            # Neither kept nor returned: never active.
            assert not active[:, index].any()
    assert all(
        column.choices[0] == values.get(column.name, column.choices[0])
        for column in narrow.spec.columns
        if column.kind == "constant"
    )
    if kept:
        small = SearchSpace(reduced)
        assert torch.equal(small.active(u[:, kept]), active[:, kept])
        assert torch.equal(small.legal(u[:, kept]), narrow.legal(u))


def test_constants_are_returned_and_their_conditions_decided() -> None:
    columns = (
        Column("kind", "categorical", choices=("a", "b"), default="a"),
        Column("always", "float", 0.0, 1.0, default=0.5),
        Column("never", "float", 0.0, 1.0, default=0.5),
        Column("below never", "float", 0.0, 1.0, default=0.5),
        Column("unless never", "float", 0.0, 1.0, default=0.5),
        Column("single", "constant", choices=(3,), default=3),
    )
    conditions = {
        1: ((Atom(0, "in", (0.0,)),),),
        2: ((Atom(0, "in", (1.0,)),),),
        3: ((Atom(2, "gt", (0.5,)),),),
        4: ((Atom(2, "ne", (0.5,)),),),
    }
    reduced, values = SpaceSpec(columns, conditions).restrict({"kind": "a"}).drop_constants()
    assert reduced.names == ("always", "unless never")
    assert reduced.conditions == {}
    assert values == {"kind": "a", "single": 3}


def test_a_conditional_constant_that_decides_others_stays() -> None:
    columns = (
        Column("kind", "categorical", choices=("a", "b"), default="a"),
        Column("switch", "categorical", choices=("on", "off"), default="on"),
        Column("child", "float", 0.0, 1.0, default=0.5),
    )
    conditions = {1: ((Atom(0, "in", (0.0,)),),), 2: ((Atom(1, "in", (0.0,)),),)}
    reduced, values = SpaceSpec(columns, conditions).restrict({"switch": "on"}).drop_constants()
    assert reduced.names == ("kind", "switch", "child")
    assert values == {}
    ours = SearchSpace(reduced)
    u = ours.from_dicts([{"kind": "a"}, {"kind": "b"}])
    assert ours.active(u).tolist() == [[True, True, True], [True, False, False]]


def test_fixing_what_is_forbidden_says_so() -> None:
    column = Column("x", "categorical", choices=("a", "b"), default="a")
    spec = SpaceSpec((column, Column("y", "float", 0.0, 1.0, default=0.5)), {}, ((Atom(0, "in", (1.0,)),),))
    with pytest.raises(InvalidSettingError, match="Every configuration of this restricted space is forbidden"):
        spec.restrict({"x": "b"}).drop_constants()


def test_a_fixed_side_of_a_relation_becomes_a_bound() -> None:
    columns = (Column("low", "integer", 0, 10, default=0), Column("high", "float", 0.0, 10.0, default=10.0))
    spec = SpaceSpec(columns, {}, ((Relation(0, "gt", 1),),))
    rows = [{"high": 3.0}, {"high": 5.0}]
    reduced, values = spec.restrict({"low": 4}).drop_constants()
    assert values == {"low": 4}
    ours = SearchSpace(reduced)
    assert ours.legal(ours.from_dicts(rows)).tolist() == [False, True]


@pytest.mark.parametrize("name", ["every condition", "every clause"])
@pytest.mark.parametrize("seed", range(3))
def test_a_restricted_space_still_speaks_configspace(name: str, seed: int) -> None:
    spec = _spec(name)
    changes = _some_restriction(spec, seed)
    narrow = SearchSpace(spec.restrict(changes).drop_constants()[0])
    narrow, space = _with_a_default_that_configspace_takes(narrow, seed)
    u = narrow.snap(points(500, narrow.dimension, seed))
    legal = reference_verdicts(space, reference_vectors(space, narrow, u))
    assert legal.tolist() == narrow.legal(u).tolist()


def _with_a_default_that_configspace_takes(space: SearchSpace, seed: int) -> tuple[SearchSpace, Any]:
    for row in space.numbers(space.sample(200, generator(seed)).double()).tolist():
        columns = tuple(
            replace(column, default=column.value(number))
            for column, number in zip(space.spec.columns, row, strict=True)
        )
        moved = SearchSpace(replace(space.spec, columns=columns))
        try:
            return moved, moved.to_configspace()
        except InvalidSettingError as error:
            assert "choose others" in str(error)
    raise AssertionError("ConfigSpace takes none of 200 legal defaults")


def test_a_space_with_an_illegal_default_is_refused_by_configspace_in_our_words() -> None:
    column = Column("x", "categorical", choices=("a", "b"), default="b")
    ours = SearchSpace(SpaceSpec((column,), {}, ((Atom(0, "in", (1.0,)),),)))
    with pytest.raises(InvalidSettingError, match=r"ConfigSpace refuses the space of \['x'\].*\['b'\]: choose others"):
        ours.to_configspace()


@pytest.mark.parametrize("names", [["float"], ["x", "y"], []])
def test_an_order_must_name_every_column_once(names: list[str]) -> None:
    with pytest.raises(InvalidSettingError, match="must name each of"):
        _spec("flat").reorder(names)


def test_contradictory_parts_of_a_space_are_refused() -> None:
    column = Column("x", "float", 0.0, 1.0, default=0.5)
    with pytest.raises(InvalidSettingError, match=r"repeat.*'x'"):
        SpaceSpec((column, column), {})
    with pytest.raises(InvalidSettingError, match="lower < upper"):
        Column("x", "float", 1.0, 1.0)
    with pytest.raises(InvalidSettingError, match="lower > 0"):
        Column("x", "float", 0.0, 1.0, True)
    with pytest.raises(InvalidSettingError, match="needs choices"):
        Column("x", "categorical")
    with pytest.raises(UnknownNameError, match=r"'flaot'.*Did you mean 'float'"):
        Column("x", "flaot", 0.0, 1.0)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"operator 'eq'"):
        Atom(0, "eq", (0.0,))
    other = Column("y", "float", 0.0, 1.0, default=0.5)
    circle = {0: ((Atom(1, "lt", (0.5,)),),), 1: ((Atom(0, "lt", (0.5,)),),)}
    with pytest.raises(InvalidSettingError, match=r"\['x', 'y'\] form a cycle"):
        SearchSpace(SpaceSpec((column, other), circle))
