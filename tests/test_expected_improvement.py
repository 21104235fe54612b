"""The closed form against Optuna's own evaluation and its autograd, over random models and in both tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna._gp.acqf import LogEI, LogPI, qLogEI
from optuna._gp.gp import GPRegressor
from optuna._gp.search_space import SearchSpace

from agents.acquisition import maximise_acquisition
from agents.expected_improvement import (
    Evaluation,
    ExpectedImprovement,
    OptunaEvaluation,
    evaluation_of,
    log_improvement,
)


def search_space(numeric: int, categorical: int) -> SearchSpace:
    """Return a space with its categorical hyperparameters, of three values, first."""
    kinds: dict[str, optuna.distributions.BaseDistribution] = {}
    kinds |= {f"c{i}": optuna.distributions.CategoricalDistribution(["a", "b", "c"]) for i in range(categorical)}
    kinds |= {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(numeric)}
    return SearchSpace(kinds)


def points_in(space: SearchSpace, count: int, draws: np.random.RandomState) -> Any:
    points = draws.rand(count, space.dim)
    points[:, space.is_categorical] = draws.randint(0, 3, (count, int(space.is_categorical.sum())))
    return points


def model_of(seed: int, trials: int, space: SearchSpace, noise: float) -> GPRegressor:
    """Return a Gaussian process with random parameters and random trials."""
    draws = np.random.RandomState(seed)
    model = GPRegressor(
        is_categorical=torch.from_numpy(space.is_categorical),
        X_train=torch.from_numpy(points_in(space, trials, draws)),
        y_train=torch.from_numpy(draws.randn(trials)),
        inverse_squared_lengthscales=torch.from_numpy(np.exp(draws.randn(space.dim))),
        kernel_scale=torch.tensor(math.exp(draws.randn()), dtype=torch.float64),
        noise_var=torch.tensor(noise, dtype=torch.float64),
    )
    model._cache_matrix()
    return model


def log_ei(seed: int = 0, trials: int = 20, numeric: int = 3, categorical: int = 1, best: float = 1.0) -> LogEI:
    space = search_space(numeric, categorical)
    return LogEI(model_of(seed, trials, space, 1e-6), space, best)


@given(
    seed=st.integers(0, 10_000),
    trials=st.integers(1, 60),
    numeric=st.integers(0, 5),
    categorical=st.integers(0, 3),
    noise=st.sampled_from([1e-6, 1e-3, 0.3]),
    above=st.floats(-5.0, 0.5),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_it_is_what_optuna_computes(seed, trials, numeric, categorical, noise, above):
    """At new points and at those of trials, wherever Optuna's own gradient is a number."""
    if numeric + categorical == 0:
        numeric = 1
    space = search_space(numeric, categorical)
    model = model_of(seed, trials, space, noise)
    acquisition = LogEI(model, space, float(model._y_train.max()) + above)
    draws = np.random.RandomState(seed + 1)
    points = np.vstack([points_in(space, 30, draws), model._X_train.numpy()])
    untouched = points.copy()
    evaluation = evaluation_of(acquisition)
    assert isinstance(evaluation, ExpectedImprovement)
    value, gradient = evaluation.values_and_gradients(points)
    theirs, their_gradient = OptunaEvaluation(acquisition).values_and_gradients(points.copy())
    np.testing.assert_array_equal(points, untouched)
    # Near trials the variance is what two numbers of the size of the kernel's scale leave between them.
    variance = model.posterior(torch.from_numpy(points))[1].numpy()
    relative = 1e-9 + 1e-11 * float(model.kernel_scale) / (variance + 1e-12)
    assert np.all(np.abs(value - theirs) <= relative * np.maximum(1.0, np.abs(theirs)))
    np.testing.assert_allclose(evaluation.values(points), value, rtol=1e-9)
    assert np.isfinite(gradient).all()
    known = np.isfinite(their_gradient).all(axis=1)
    error = np.abs(gradient - their_gradient)[known].max(axis=1)
    size = np.abs(their_gradient)[known].max(axis=1)
    assert np.all(error <= relative[known] * (1.0 + size) * 10.0)
    assert not gradient[:, space.is_categorical].any()


def test_most_gradients_of_optuna_are_numbers():
    """What the property above compares with."""
    acquisition = log_ei(best=0.0)
    points = points_in(acquisition.search_space, 100, np.random.RandomState(3))
    assert np.isfinite(OptunaEvaluation(acquisition).values_and_gradients(points)[1]).all()


def test_one_point_is_what_optuna_says_of_it_alone():
    acquisition = log_ei()
    point = points_in(acquisition.search_space, 1, np.random.RandomState(0))
    value, gradient = acquisition.eval_acqf_with_grad(point[0])
    mine, my_gradient = evaluation_of(acquisition).values_and_gradients(point)
    assert mine[0] == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(my_gradient[0], gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("best", [-1e4, -30.0, 8.0, 30.0, 1e4])
def test_gradients_are_those_of_the_values_in_both_tails(best):
    """Where Optuna's gradient is no number any more, too."""
    acquisition = log_ei(best=best)
    points = points_in(acquisition.search_space, 12, np.random.RandomState(4))
    evaluation = evaluation_of(acquisition)
    value, gradient = evaluation.values_and_gradients(points)
    np.testing.assert_allclose(value, acquisition.eval_acqf_no_grad(points), rtol=1e-9)
    step = 1e-5
    for column in np.flatnonzero(~acquisition.search_space.is_categorical):
        moved = step * np.eye(points.shape[1])[column]
        slope = (evaluation.values(points + moved) - evaluation.values(points - moved)) / (2.0 * step)
        np.testing.assert_allclose(gradient[:, column], slope, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())
    if best == 1e4:
        assert np.isnan(OptunaEvaluation(acquisition).values_and_gradients(points.copy())[1]).any()


def continued_fraction(x: float, first: int) -> float:
    """Return ``1 / (x + first / (x + (first + 1) / (x + ...)))``."""
    tail = x
    for term in range(first + 400, first - 1, -1):
        tail = x + term / tail
    return 1.0 / tail


@pytest.mark.parametrize("x", [3.0, 24.999, 25.001, 100.0, 999.9, 1000.1, 1e5, 1e9, 1e60])
def test_the_lower_tail_is_that_of_laplaces_continued_fraction(x):
    """Of ``Phi(-x) / phi(x)``, and of ``h(-x) / Phi(-x)``, which has the same with numerators from 2."""
    logarithm, below, density = (float(one[0]) for one in log_improvement(np.array([-x])))
    mills, ratio = continued_fraction(x, 1), continued_fraction(x, 2)
    assert below == pytest.approx(1.0 / ratio, rel=1e-9)
    assert density == pytest.approx(1.0 / (mills * ratio), rel=1e-9)
    assert logarithm == pytest.approx(
        -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) + math.log(mills) + math.log(ratio), rel=1e-12, abs=1e-9
    )


def test_the_upper_tail_is_the_distance_itself():
    z = np.array([40.0, 1e8, 1e99])
    logarithm, below, density = log_improvement(z)
    np.testing.assert_allclose(logarithm, np.log(z), rtol=1e-15)
    np.testing.assert_allclose(below, 1.0 / z, rtol=1e-15)
    assert not density.any()


def test_many_points_are_evaluated_as_few_are():
    acquisition = log_ei()
    points = points_in(acquisition.search_space, 600, np.random.RandomState(5))
    evaluation = evaluation_of(acquisition)
    apart = np.concatenate([evaluation.values(points[i : i + 7]) for i in range(0, 600, 7)])
    np.testing.assert_allclose(evaluation.values(points), apart, rtol=1e-9)
    np.testing.assert_allclose(apart, acquisition.eval_acqf_no_grad(points), rtol=1e-9)
    assert evaluation.values(points[:0]).shape == (0,)


def other_functions() -> dict[str, Any]:
    space = search_space(2, 1)
    running = points_in(space, 2, np.random.RandomState(9))

    class Changed(LogEI):
        """A function of one's own, of which nothing is known."""

        def eval_acqf(self, x: torch.Tensor) -> torch.Tensor:
            return -super().eval_acqf(x)

    without = LogEI(model_of(0, 10, space, 1e-6), space, 1.0)
    del without._stabilizing_noise
    without.eval_acqf = LogEI(model_of(0, 10, space, 1e-6), space, 1.0).eval_acqf  # type: ignore[method-assign]
    return {
        "no feasible trial": LogEI(model_of(0, 10, space, 1e-6), space, -math.inf),
        "running trials": qLogEI(model_of(0, 10, space, 1e-6), space, 1.0, 16, 0, running),
        "another function": LogPI(model_of(0, 10, space, 1e-6), space, 1.0),
        "one of one's own": Changed(model_of(0, 10, space, 1e-6), space, 1.0),
        "another version of Optuna": without,
    }


@pytest.mark.parametrize("name", sorted(other_functions()))
def test_what_is_not_plain_is_left_to_optuna(name):
    acquisition = other_functions()[name]
    evaluation: Evaluation = evaluation_of(acquisition)
    assert type(evaluation) is OptunaEvaluation
    points = points_in(acquisition.search_space, 5, np.random.RandomState(2))
    np.testing.assert_array_equal(evaluation.values(points), acquisition.eval_acqf_no_grad(points))
    value, gradient = evaluation.values_and_gradients(points)
    for row, point in enumerate(points):
        # Optuna itself cannot differentiate a constant.
        constant = name == "no feasible trial"
        alone, slope = (0.0, np.zeros(3)) if constant else acquisition.eval_acqf_with_grad(point)
        assert value[row] == pytest.approx(alone, rel=1e-9)
        np.testing.assert_allclose(gradient[row], slope, rtol=1e-6, atol=1e-9)
    found = maximise_acquisition(acquisition, None, np.random.RandomState(1), 128, 3, 1e-4)
    sampled = acquisition.search_space.sample_normalized_params(128, np.random.RandomState(1))
    best = float(acquisition.eval_acqf_no_grad(sampled).max())
    assert float(acquisition.eval_acqf_no_grad(found[None])[0]) >= best
