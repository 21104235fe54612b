"""Random configurations and grids: legal, in range, spread as documented, reproducible."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from space_strategies import HANDWRITTEN, configuration_spaces

from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.spaces import Atom, Column, SearchSpace, SpaceSpec

COUNT = 20_000

# One draw with a fixed seed either passes or does not; far in the tail means a wrong distribution.
SIGNIFICANCE = 1e-4


def _flat() -> SearchSpace:
    return SearchSpace.from_configspace(HANDWRITTEN["flat"]())


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_samples_are_legal_snapped_and_in_range(name: str) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    u = ours.sample(COUNT, generator(0, name))
    assert u.dtype == torch.float32
    assert u.shape == (COUNT, ours.dimension)
    assert ours.legal(u).all()
    assert ((u >= 0) & (u <= 1)).all()
    assert torch.allclose(ours.snap(u), u, atol=1e-6)
    numbers = ours.numbers(u.double())
    for index, column in enumerate(ours.spec.columns):
        if column.is_numeric:
            assert (numbers[:, index] >= column.lower).all()
            assert (numbers[:, index] <= column.upper).all()


@settings(max_examples=40)
@given(space=configuration_spaces(), seed=st.integers(0, 10_000))
def test_samples_of_random_spaces_are_legal(space: Any, seed: int) -> None:
    ours = SearchSpace.from_configspace(space)
    draws = generator(seed, "sampling")
    # Clauses that forbid nearly everything are refused, which another test covers.
    assume(ours.legal(torch.rand(400, ours.dimension, generator=draws)).float().mean() > 0.1)
    assert ours.legal(ours.sample(100, draws)).all()


@pytest.mark.parametrize("name", ["float", "log_float"])
def test_floats_are_uniform_on_the_unit_interval(name: str) -> None:
    ours = _flat()
    u = ours.sample(COUNT, generator(1, "uniform"))[:, ours.spec.position(name)]
    assert stats.kstest(u.numpy(), "uniform").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("name", ["integer", "categorical", "flag", "ordinal"])
def test_integers_and_choices_are_uniform_over_their_values(name: str) -> None:
    ours = _flat()
    index = ours.spec.position(name)
    numbers = ours.numbers(ours.sample(COUNT, generator(2, "uniform")))[:, index]
    _, counts = numbers.unique(return_counts=True)
    assert len(counts) == ours.spec.columns[index].cardinality
    assert stats.chisquare(counts.numpy()).pvalue > SIGNIFICANCE


def test_log_integers_follow_the_lengths_of_their_bins() -> None:
    ours = _flat()
    index = ours.spec.position("log_integer")
    column = ours.spec.columns[index]
    numbers = ours.numbers(ours.sample(COUNT, generator(3, "uniform")))[:, index]
    values = range(int(column.lower), 20)
    edges = [column.lower, *(value + 0.5 for value in values)]
    width = math.log(column.upper / column.lower)
    shares = [math.log(high / low) / width for low, high in itertools.pairwise(edges)]
    counts = [int((numbers == value).sum()) for value in values]
    rest = COUNT - sum(counts)
    expected = [share * COUNT for share in shares]
    assert stats.chisquare([*counts, rest], [*expected, COUNT - sum(expected)]).pvalue > SIGNIFICANCE


def test_columns_are_independent() -> None:
    ours = _flat()
    u = ours.sample(COUNT, generator(4, "uniform"))
    varying = [i for i, column in enumerate(ours.spec.columns) if column.cardinality > 1]
    correlation = torch.corrcoef(u[:, varying].T).fill_diagonal_(0.0)
    assert correlation.abs().max() < 5 / math.sqrt(COUNT)


def test_a_seed_determines_the_sample_and_nothing_else_does() -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["every clause"]())
    first = ours.sample(500, generator(5, "a"))
    torch.manual_seed(1)
    torch.rand(3)
    assert torch.equal(ours.sample(500, generator(5, "a")), first)
    assert not torch.equal(ours.sample(500, generator(6, "a")), first)
    state = torch.get_rng_state()
    ours.sample(10, generator(5, "a"))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_sample_has_no_rows() -> None:
    for name in HANDWRITTEN:
        ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
        assert ours.sample(0, generator(0)).shape == (0, ours.dimension)
        assert ours.sample(1, generator(0)).shape == (1, ours.dimension)


def test_a_space_in_which_all_is_forbidden_says_so() -> None:
    column = Column("only", "categorical", choices=("a", "b"), default="a")
    ours = SearchSpace(SpaceSpec((column,), {}, ((Atom(0, "in", (0.0, 1.0)),),)))
    with pytest.raises(InvalidSettingError, match=r"5 of 5 rows.*forbidden clauses"):
        ours.sample(5, generator(0))


@pytest.mark.parametrize("name", HANDWRITTEN)
@pytest.mark.parametrize("levels", [2, 3, 10])
def test_grid_levels_are_different_values_of_the_space_with_both_ends(name: str, levels: int) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    grid = ours.grid(levels)
    assert grid.values.dtype == torch.float32
    assert grid.values.shape[0] == ours.dimension
    numbers = ours.numbers(grid.values.T)
    for index, column in enumerate(ours.spec.columns):
        count = int(grid.counts[index])
        row = numbers[:count, index]
        assert len(row.unique()) == count
        assert (row.diff() > 0).all()
        if column.kind == "float":
            assert count == levels
        if column.is_numeric:
            assert count <= levels
            assert row[0].item() == pytest.approx(column.lower)
            assert row[-1].item() == pytest.approx(column.upper)
        else:
            assert count == len(column.choices)
    assert grid.size == math.prod(grid.counts.tolist())


def test_an_integer_with_few_values_has_all_of_them_as_levels() -> None:
    for log in (False, True):
        ours = SearchSpace(SpaceSpec((Column("x", "integer", 2, 7, log, (), 2),), {}))
        grid = ours.grid(10)
        assert ours.numbers(grid.values.T)[:, 0].tolist() == [2, 3, 4, 5, 6, 7]


def test_log_levels_are_evenly_spaced_in_the_logarithm() -> None:
    ours = SearchSpace(SpaceSpec((Column("x", "float", 1e-4, 1.0, True, (), 1.0),), {}))
    values = ours.numbers(ours.grid(5).values.T.double())[:, 0].tolist()
    assert values == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_grid_numbers_enumerate_every_configuration_once() -> None:
    ours = _flat()
    grid = ours.grid(2)
    u = grid.configuration(torch.arange(grid.size))
    assert len(u.unique(dim=0)) == grid.size
    level = grid.nearest(u)
    assert torch.equal(grid.values_at(level), u)
    # The last hyperparameter varies fastest among those with more than one level.
    last = int((grid.counts > 1).nonzero()[-1])
    assert level[0].tolist() == [0] * ours.dimension
    assert level[1].tolist() == [int(index == last) for index in range(ours.dimension)]


def test_neighbouring_levels_are_one_step_apart_and_the_nearest_is_found() -> None:
    ours = _flat()
    grid = ours.grid(5)
    level = grid.nearest(ours.default()[None])
    for index in range(ours.dimension):
        for step in (-1, 1):
            moved = level.clone()
            moved[0, index] = (moved[0, index] + step).clamp(0, grid.counts[index] - 1)
            assert torch.equal(grid.nearest(grid.values_at(moved)), moved)


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_the_default_snaps_to_its_nearest_level(name: str) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN[name]())
    grid, default = ours.grid(7), ours.default()
    snapped = grid.values_at(grid.nearest(default[None]))[0]
    for index in range(ours.dimension):
        distances = (grid.values[index, : grid.counts[index]] - default[index]).abs()
        assert abs(snapped[index] - default[index]).item() == distances.min().item()


def test_levels_below_two_are_refused() -> None:
    with pytest.raises(InvalidSettingError, match=r"levels=1 must be >= 2"):
        _flat().grid(1)
