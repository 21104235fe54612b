"""Synthetic functions: known optima, formulas, mixtures and bad input."""

from __future__ import annotations

import math

import pytest
import torch

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.surrogates.synthetic import SyntheticSurrogate
from hpo_gym.surrogates.synthetic_functions import FUNCTIONS


def gaps(surrogate: SyntheticSurrogate, task: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return surrogate(task, u)[:, 0]


@pytest.mark.parametrize("dimension", [2, 5, 16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_optimum_is_exact_and_nothing_near_or_far_is_lower(name: str, dimension: int) -> None:
    surrogate = SyntheticSurrogate(dimension, [name], instances=3)
    every = torch.arange(3)
    torch.testing.assert_close(gaps(surrogate, every, surrogate.optimum_u), torch.full((3,), -8.0))
    draws = generator(0, "test", name)
    task = every.repeat_interleave(4000)
    far = torch.rand(len(task), dimension, generator=draws)
    spread = 10.0 ** (-5.0 * torch.rand(len(task), 1, generator=draws))
    near = surrogate.optimum_u[task] + spread * torch.randn(len(task), dimension, generator=draws)
    for u in (far, near.clamp(0, 1)):
        values = gaps(surrogate, task, u)
        assert torch.isfinite(values).all()
        assert (values >= -8.0).all()
    assert gaps(surrogate, task, far).min() > -7.0


@pytest.mark.parametrize(
    ("name", "z", "value"),
    [
        ("sphere", [3.0, 4.0], 25.0),
        ("sharp_ridge", [3.0, 0.0], 9.0),
        ("sharp_ridge", [0.0, 1.0], 100.0 * math.sqrt(10.0)),
        ("rosenbrock", [1.0, 0.0], 100.0 * 9.0 + 1.0),
        ("bent_cigar", [2.0, 0.0], 4.0),
        ("different_powers", [2.0, 0.0], 2.0),
        ("different_powers", [0.0, 2.0], 8.0),
        ("griewank", [0.1, 0.0], 1.0 / 4000.0 + 1.0 - math.cos(1.0)),
        ("step_ellipsoid", [0.04, 0.0], 4e-7),
        ("griewank_rosenbrock", [1.0, 0.0], 10.0 * (901.0 / 4000.0 + 1.0 - math.cos(901.0))),
    ],
)
def test_formulas_at_points_worked_by_hand(name: str, z: list[float], value: float) -> None:
    found = float(FUNCTIONS[name](torch.tensor([z], dtype=torch.float64)))
    assert found == pytest.approx(value, rel=1e-5)


def test_a_mixed_batch_equals_each_function_by_itself() -> None:
    names = list(FUNCTIONS)
    mixed = SyntheticSurrogate(4, names, instances=2, seed=3)
    u = torch.rand(300, 4, generator=generator(0, "test"))
    task = torch.randint(mixed.num_tasks, (300,), generator=generator(1, "test"))
    together = mixed(task, u)
    for number, name in enumerate(names):
        alone = SyntheticSurrogate(4, [name], instances=2, seed=3)
        rows = task // 2 == number
        torch.testing.assert_close(together[rows], alone(task[rows] % 2, u[rows]))


def test_seed_and_instance_change_the_function_and_zero_is_a_seed() -> None:
    first, again = SyntheticSurrogate(3, seed=0), SyntheticSurrogate(3, seed=0)
    other = SyntheticSurrogate(3, seed=1)
    assert torch.equal(first.optimum_u, again.optimum_u)
    assert not torch.equal(first.optimum_u, other.optimum_u)
    assert len({tuple(row.tolist()) for row in first.optimum_u}) == first.num_tasks


def test_bad_arguments_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rastrigin'"):
        SyntheticSurrogate(3, ["rastrigan"])
    with pytest.raises(InvalidSettingError, match=r"2 \.\. 16"):
        SyntheticSurrogate(17)
    with pytest.raises(InvalidSettingError, match="instances=0"):
        SyntheticSurrogate(3, instances=0)
    with pytest.raises(UnknownNameError, match="bbob-5d"):
        load_suite("synthetic", "bbob5d")
    with pytest.raises(UnknownNameError, match="instances"):
        load_suite("synthetic", "bbob-2d", instance=3)


def test_the_suite_knows_its_optimum() -> None:
    suite = load_suite("synthetic", "bbob-3d", instances=2)
    known = suite.require_range()
    torch.testing.assert_close(known.best, torch.ones(suite.num_tasks))
    assert (known.worst < known.median).all() and (known.median < known.best).all()
