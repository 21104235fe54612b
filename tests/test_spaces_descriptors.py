"""What policies are told of a hyperparameter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from space_strategies import HANDWRITTEN, configuration_spaces

from hpo_gym.spaces import DESCRIPTOR_NAMES, Atom, Column, SearchSpace, SpaceSpec


def _row(space: SearchSpace, name: str) -> dict[str, float]:
    return dict(zip(DESCRIPTOR_NAMES, space.descriptors()[space.spec.position(name)].tolist(), strict=True))


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_descriptors_have_a_row_per_hyperparameter_and_a_column_per_name(name: str) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    assert ours.descriptors().shape == (ours.dimension, len(DESCRIPTOR_NAMES))
    assert ours.descriptors().dtype == torch.float32
    assert len(set(DESCRIPTOR_NAMES)) == len(DESCRIPTOR_NAMES)


@settings(max_examples=60)
@given(space=configuration_spaces())
def test_descriptors_of_random_spaces_lie_in_the_unit_interval(space: Any) -> None:
    descriptors = SearchSpace.from_configspace(space).descriptors()
    assert ((descriptors >= 0) & (descriptors <= 1)).all()
    kinds = descriptors[:, [name.startswith("is_") for name in DESCRIPTOR_NAMES]]
    assert (kinds.sum(1) == 1).all()


def test_each_descriptor_says_what_its_name_says() -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["flat"]())
    for name, kind in (("log_float", "float"), ("integer", "integer"), ("flag", "categorical"), ("ordinal", "ordinal")):
        assert _row(ours, name)[f"is_{kind}"] == 1.0
    assert _row(ours, "constant")["is_constant"] == 1.0
    assert [_row(ours, name)["log"] for name in ("float", "log_float")] == [0.0, 1.0]
    cardinality = {name: _row(ours, name)["cardinality"] for name in ours.names}
    assert cardinality["float"] == 1.0
    assert cardinality["constant"] == 0.0
    assert cardinality["categorical"] == pytest.approx(2 / 3)
    assert cardinality["integer"] == pytest.approx(0.9)
    # Four against five decades; a linear scale spans none.
    assert 0.0 == _row(ours, "float")["range"] < _row(ours, "log_integer")["range"] < _row(ours, "log_float")["range"]
    assert _row(ours, "ordinal")["default"] == pytest.approx(0.125)


def test_the_tree_of_conditions_shows() -> None:
    columns = tuple(Column(name, "float", 0.0, 1.0, default=0.5) for name in "abcd")
    conditions = {1: ((Atom(0, "lt", (0.5,)),),), 2: ((Atom(1, "lt", (0.5,)), Atom(0, "gt", (0.1,))),)}
    ours = SearchSpace(SpaceSpec(columns, conditions))
    rows = [_row(ours, name) for name in "abcd"]
    assert [row["conditional"] for row in rows] == [0, 1, 1, 0]
    assert [row["depth"] for row in rows] == [0, 0.5, 0.75, 0]
    assert [row["children"] for row in rows] == [0.5, 0.25, 0, 0]


@pytest.mark.parametrize("factor", [1e-6, 1000.0])
def test_descriptors_do_not_depend_on_the_unit(factor: float) -> None:
    spec = SearchSpace.from_configspace(HANDWRITTEN["flat"]()).spec
    scaled = [
        replace(column, lower=column.lower * factor, upper=column.upper * factor, default=column.default * factor)
        if column.kind == "float" and isinstance(column.default, float)
        else column
        for column in spec.columns
    ]
    before, after = SearchSpace(spec).descriptors(), SearchSpace(replace(spec, columns=tuple(scaled))).descriptors()
    assert torch.allclose(before, after, atol=1e-5)


def test_descriptors_do_not_depend_on_names_and_follow_the_order() -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["every condition"]())
    renamed = tuple(replace(column, name=f"other {column.name}") for column in ours.spec.columns)
    assert torch.equal(SearchSpace(replace(ours.spec, columns=renamed)).descriptors(), ours.descriptors())
    turned = SearchSpace(ours.spec.reorder(ours.names[::-1]))
    assert torch.equal(turned.descriptors(), ours.descriptors().flip(0))
