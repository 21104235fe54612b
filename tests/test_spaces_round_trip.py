"""Encoding and decoding invert each other; so do dictionaries, JSON and ConfigSpace."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import HANDWRITTEN, configuration_spaces, points

from hpo_gym.spaces import Column, SearchSpace, SpaceSpec


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, rtol=1e-9, atol=1e-11, equal_nan=True)


def _alike(left: dict[str, Any], right: dict[str, Any], tolerance: float = 1e-9) -> bool:
    """Whether configurations are equal, floats up to rounding."""
    return left.keys() == right.keys() and all(
        math.isclose(value, right[name], rel_tol=tolerance, abs_tol=1e-12)
        if isinstance(value, float)
        else value == right[name]
        for name, value in left.items()
    )


@settings(max_examples=60)
@given(space=configuration_spaces(), seed=st.integers(0, 10_000))
def test_random_spaces_round_trip(space: Any, seed: int) -> None:
    ours = SearchSpace.from_configspace(space)
    u = points(30, ours.dimension, seed)
    snapped, active = ours.snap(u), ours.active(u)
    assert _same(ours.snap(snapped), snapped)
    assert torch.equal(ours.numbers(snapped), ours.numbers(u)) or _same(ours.numbers(snapped), ours.numbers(u))
    values = ours.decode(u)
    assert torch.equal(values.isnan(), ~active)
    encoded = ours.encode(values)
    # Active coordinates come back, inactive ones become 0.5 and stay inactive.
    assert _same(encoded[active], snapped[active])
    assert (encoded[~active] == 0.5).all()
    assert torch.equal(ours.active(encoded), active)
    assert _same(ours.decode(encoded), values)
    assert _same(ours.from_dicts(ours.to_dicts(u)), encoded)


@settings(max_examples=60)
@given(space=configuration_spaces(), seed=st.integers(0, 10_000))
def test_points_of_one_configuration_have_one_canonical_point(space: Any, seed: int) -> None:
    ours = SearchSpace.from_configspace(space)
    u = points(30, ours.dimension, seed)
    active, canonical = ours.active(u), ours.canonical(u)
    assert torch.equal(canonical[active], ours.snap(u)[active])
    assert (canonical[~active] == 0.0).all()
    # Activity depends on active hyperparameters alone: what an inactive one is worth changes nothing.
    assert torch.equal(ours.active(canonical), active)
    assert _same(ours.canonical(canonical), canonical)
    elsewhere = torch.where(active, u, points(30, ours.dimension, seed + 1))
    assert torch.equal(ours.canonical(elsewhere), canonical)


@settings(max_examples=60)
@given(space=configuration_spaces())
def test_random_specifications_survive_json_and_configspace(space: Any) -> None:
    spec = SearchSpace.from_configspace(space).spec
    assert SpaceSpec.from_json(spec.to_json()) == spec
    back = SearchSpace(spec).to_configspace()
    assert dict(back) == dict(space)
    assert SearchSpace.from_configspace(back).spec.columns == spec.columns


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_dictionaries_hold_the_active_hyperparameters_and_come_back(name: str) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    u = ours.snap(points(500, ours.dimension, seed=1))
    rows = ours.to_dicts(u)
    active = ours.active(u)
    for row, on in zip(rows, active.tolist(), strict=True):
        assert list(row) == [column for column, flag in zip(ours.names, on, strict=True) if flag]
    for back, row in zip(ours.to_dicts(ours.from_dicts(rows)), rows, strict=True):
        assert _alike(back, row)
    assert _same(ours.from_dicts(rows)[active], u[active])


def test_dictionaries_have_plain_python_values_of_the_declared_types() -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["flat"]())
    types = {name: type(value) for name, value in ours.to_dicts(points(1, ours.dimension, seed=2))[0].items()}
    assert types == {
        "float": float,
        "log_float": float,
        "integer": int,
        "log_integer": int,
        "categorical": str,
        "flag": bool,
        "ordinal": int,
        "constant": int,
    }


def test_configspaces_own_configurations_are_understood_with_their_numpy_values() -> None:
    space = HANDWRITTEN["flat"]()
    ours = SearchSpace.from_configspace(space)
    drawn = [dict(configuration) for configuration in space.sample_configuration(50)]
    for row, expected in zip(ours.to_dicts(ours.from_dicts(drawn)), drawn, strict=True):
        assert _alike(row, expected)


def test_a_json_file_of_configspace_is_the_space_itself(tmp_path: Path) -> None:
    for name, build in HANDWRITTEN.items():
        space = build()
        path = tmp_path / f"{name}.json"
        space.to_json(path)
        read = SearchSpace.from_json(path).spec
        expected = SearchSpace.from_configspace(space).spec
        assert read.columns == expected.columns
        assert read.conditions == expected.conditions
        assert set(read.forbidden) == set(expected.forbidden)


@pytest.mark.parametrize("kind", ["float", "integer"])
@pytest.mark.parametrize("log", [False, True])
def test_the_scale_is_linear_or_logarithmic(kind: Any, log: bool) -> None:
    ours = SearchSpace(SpaceSpec((Column("x", kind, 1, 10_000, log, (), 1),), {}))
    values = ours.decode(torch.tensor([[0.0], [0.25], [0.5], [0.75], [1.0]], dtype=torch.float64))[:, 0].tolist()
    if log:
        assert values == pytest.approx([1, 10, 100, 1000, 10_000])
    else:
        middle = [2500.75, 5000.5, 7500.25]
        assert values == pytest.approx([1, *(map(round, middle) if kind == "integer" else middle), 10_000])


def test_choices_own_equal_shares_and_the_last_one_holds_the_end() -> None:
    ours = SearchSpace(SpaceSpec((Column("x", "categorical", choices=("a", "b", "c"), default="a"),), {}))
    u = torch.tensor([[0.0], [0.33], [0.34], [0.66], [0.67], [1.0]])
    assert [row["x"] for row in ours.to_dicts(u)] == ["a", "a", "b", "b", "c", "c"]
    assert ours.encode(torch.tensor([[0.0], [1.0], [2.0]])).squeeze(1).tolist() == pytest.approx([1 / 6, 0.5, 5 / 6])


def test_every_integer_survives_float32() -> None:
    for lower, upper, log in ((-500, 500, False), (1, 1000, True), (0, 100_000, False)):
        ours = SearchSpace(SpaceSpec((Column("x", "integer", lower, upper, log, (), lower),), {}))
        values = torch.arange(lower, upper + 1, dtype=torch.float32)[:, None]
        assert torch.equal(ours.decode(ours.encode(values)), values)


@pytest.mark.parametrize("name", HANDWRITTEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_method_keeps_shape_and_dtype(name: str, dtype: torch.dtype, count: int) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    u = points(count, ours.dimension, seed=3).to(dtype)
    for tensor in (ours.numbers(u), ours.decode(u), ours.encode(ours.decode(u)), ours.snap(u)):
        assert tensor.shape == u.shape
        assert tensor.dtype == dtype
    assert ours.active(u).shape == u.shape
    assert ours.active(u).dtype == torch.bool
    assert ours.legal(u).shape == (count,)
    assert ours.legal(u).dtype == torch.bool
    assert len(ours.to_dicts(u)) == count
    assert ours.from_dicts(ours.to_dicts(u)).shape == u.shape


def test_the_default_is_the_default_of_every_column() -> None:
    for build in HANDWRITTEN.values():
        space = build()
        ours = SearchSpace.from_configspace(space)
        default = ours.default()
        assert default.dtype == torch.float32
        assert default.shape == (ours.dimension,)
        row = ours.to_dicts(default[None])[0]
        expected = dict(space.get_default_configuration())
        assert row.keys() == expected.keys()
        assert _alike(row, expected, tolerance=1e-5)


def test_a_space_moves_to_another_dtype_of_point_without_rebuilding() -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["every condition"]())
    u = ours.snap(points(2000, ours.dimension, seed=4).float())
    single, double = ours.decode(u), ours.decode(u.double())
    assert torch.allclose(single.double(), double, rtol=1e-4, atol=1e-9, equal_nan=True)


def test_columns_follow_the_order_asked_for() -> None:
    space = HANDWRITTEN["every clause"]()
    names = sorted(space, reverse=True)
    ours, plain = SearchSpace.from_configspace(space, columns=names), SearchSpace.from_configspace(space)
    assert list(ours.names) == names
    u = points(3000, ours.dimension, seed=5)
    order = [plain.names.index(name) for name in names]
    assert torch.equal(ours.active(u[:, order]), plain.active(u)[:, order])
    assert torch.equal(ours.legal(u[:, order]), plain.legal(u))


def test_a_wide_linear_column_beside_a_log_column_leaves_gradients_finite() -> None:
    # The log branch computes exp of the linear column, too, which overflows: inf times 0 would be a NaN gradient.
    columns = (Column("rate", "float", 1e-4, 1.0, True), Column("memory", "float", 0.0, 1e4))
    space = SearchSpace(SpaceSpec(columns, {}))
    u = torch.full((3, 2), 0.5, requires_grad=True)
    values = space.numbers(u)
    (gradient,) = torch.autograd.grad(values.sum(), u)
    torch.testing.assert_close(values.detach(), torch.tensor([[1e-2, 5e3]]).expand(3, 2))
    # d rate / d u = rate * log(upper / lower); d memory / d u = upper - lower
    expected = torch.tensor([[1e-2 * math.log(1e4), 1e4]]).expand(3, 2)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=0.0)


def test_a_grid_too_large_to_number_can_be_stepped_on() -> None:
    columns = tuple(Column(f"x{index}", "float", 0.0, 1.0) for index in range(25))
    grid = SearchSpace(SpaceSpec(columns, {})).grid(10)
    assert grid.size == 10**25
    level = torch.randint(10, (7, 25), generator=torch.Generator().manual_seed(0))
    assert torch.equal(grid.nearest(grid.values_at(level)), level)
