"""Per-task monotone maps between values and the Gaussian scale."""

from __future__ import annotations

import pytest
import torch

from hpo_gym.seeding import generator
from hpo_gym.surrogates.quantiles import LOWEST_Z, QuantileMap


@pytest.fixture
def values() -> torch.Tensor:
    draws = generator(0, "test", "quantiles")
    first = torch.rand(1, 2, 4000, generator=draws) ** 3
    first[0, 1] = 0.9 + 0.01 * first[0, 1]
    return first


def test_knots_rise_and_reach_the_known_extremes(values: torch.Tensor) -> None:
    best, worst = values.amax(-1) + 0.05, values.amin(-1) - 0.01
    fitted = QuantileMap.fit(values, best, worst)
    assert (fitted.knots.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(fitted.knots[..., -1], best)
    torch.testing.assert_close(fitted.knots[..., 0], worst)


def test_round_trip_between_values_and_z(values: torch.Tensor) -> None:
    fitted = QuantileMap.fit(values, values.amax(-1), values.amin(-1))
    task = torch.arange(2).repeat_interleave(4000)
    flat = values[0].flatten()
    z = fitted.to_z(0, task, flat)
    torch.testing.assert_close(fitted(task, z[:, None])[:, 0], flat, atol=2e-5, rtol=1e-4)


def test_z_is_standard_normal_whatever_the_spread_of_a_task(values: torch.Tensor) -> None:
    fitted = QuantileMap.fit(values, values.amax(-1), values.amin(-1))
    for task in range(2):
        z = fitted.to_z(0, torch.full((4000,), task), values[0, task])
        assert abs(float(z.mean())) < 0.02
        assert abs(float(z.std()) - 1.0) < 0.03


def test_nothing_leaves_the_observed_range(values: torch.Tensor) -> None:
    fitted = QuantileMap.fit(values, values.amax(-1), values.amin(-1))
    z = torch.tensor([[-50.0], [LOWEST_Z], [0.0], [5.0], [1e6]])
    out = fitted(torch.zeros(5, dtype=torch.int64), z)[:, 0]
    assert out[0] == out[1] == values[0, 0].min()
    torch.testing.assert_close(out[3], values[0, 0].max(), atol=1e-4, rtol=0)
    torch.testing.assert_close(out[4], values[0, 0].max(), atol=1e-4, rtol=0)


def test_a_plateau_maps_to_its_middle() -> None:
    samples = torch.cat([torch.linspace(0, 0.4, 250), torch.full((500,), 0.5), torch.linspace(0.6, 1, 250)])
    fitted = QuantileMap.fit(samples[None, None], torch.ones(1, 1), torch.zeros(1, 1))
    z = fitted.to_z(0, torch.zeros(1, dtype=torch.int64), torch.tensor([0.5]))
    assert abs(float(z)) < 0.15


def test_gradients_reach_z(values: torch.Tensor) -> None:
    fitted = QuantileMap.fit(values, values.amax(-1), values.amin(-1))
    z = torch.zeros(3, 1, requires_grad=True)
    fitted(torch.zeros(3, dtype=torch.int64), z).sum().backward()
    assert z.grad is not None and (z.grad > 0).all()
