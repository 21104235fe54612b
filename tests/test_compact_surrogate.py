"""The compact network: shapes, storage, conditionals, fidelity, and that fitting it works."""

from __future__ import annotations

import pytest
import torch

from hpo_gym.fitting.quality import measure_quality
from hpo_gym.fitting.samples import sample_original
from hpo_gym.fitting.screen import screen_tasks
from hpo_gym.fitting.train import FitSettings, fit_compact, fit_quantiles
from hpo_gym.seeding import generator
from hpo_gym.surrogates.compact import CompactArchitecture, CompactSurrogate
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import TINY_SUITES

SMALL = CompactArchitecture(width=32, inner=32, blocks=1)


def untrained(suite: TaskSuite) -> CompactSurrogate:
    samples = sample_original(suite, 200, 0, seed=0)
    settings = FitSettings(SMALL, steps=1, batch=64)
    return fit_compact(suite, samples, settings)


@pytest.mark.parametrize("name", TINY_SUITES)
def test_stored_network_predicts_the_same(name: str) -> None:
    suite = TINY_SUITES[name]()
    network = untrained(suite)
    again = CompactSurrogate.from_state(suite.space.spec, network.header(), network.state_dict())
    u = suite.space.sample(50, generator(0, "test"))
    task = torch.arange(50) % suite.num_tasks
    active = suite.space.active(u)
    torch.testing.assert_close(again.predict(task, u, active), network.predict(task, u, active))


@pytest.mark.parametrize("name", TINY_SUITES)
def test_large_batches_equal_single_rows(name: str) -> None:
    suite = TINY_SUITES[name]()
    network = untrained(suite)
    u = suite.space.sample(2500, generator(1, "test"))
    task = torch.arange(2500) % suite.num_tasks
    active = suite.space.active(u)
    whole = network.predict(task, u, active)
    for row in (0, 1023, 1024, 2499):
        alone = network.predict(task[row : row + 1], u[row : row + 1], active[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-4, atol=1e-5)


def test_inactive_hyperparameters_change_nothing() -> None:
    suite = TINY_SUITES["conditional"]()
    network = untrained(suite)
    u = suite.space.sample(500, generator(2, "test"))
    active = suite.space.active(u)
    noise = torch.rand(u.shape, generator=generator(3, "test"))
    other = torch.where(active, u, noise)
    assert not torch.equal(other, u)
    task = torch.zeros(500, dtype=torch.int64)
    assert torch.equal(network.predict(task, u, active), network.predict(task, other, active))


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY_SUITES)
def test_a_fit_ranks_like_its_original_and_finds_its_optimum(name: str) -> None:
    suite = TINY_SUITES[name]()
    samples = sample_original(suite, 4000, 1, seed=0)
    network = fit_compact(suite, samples, FitSettings(SMALL, steps=1200, batch=1024))
    fitted = TaskSuite(suite.spec, suite.space, network, suite.meta_features)
    fitted.known_range = find_known_range(fitted, OptimumSearch(sobol=1024, starts=4, rounds=2))
    quality = measure_quality(suite, fitted, suite.require_range(), per_task=500).summary()
    assert quality["spearman_min"] > 0.97
    assert quality["regret_range_median"] < 0.02


def test_fitting_is_deterministic() -> None:
    suite = TINY_SUITES["conditional"]()
    samples = sample_original(suite, 300, 1, seed=0)
    settings = FitSettings(SMALL, steps=5, batch=64)
    first, second = (fit_compact(suite, samples, settings).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_quantiles_are_fitted_per_task() -> None:
    suite = TINY_SUITES["quadratic"]()
    samples = sample_original(suite, 500, 0, seed=0)
    fitted = fit_quantiles(samples, suite.num_tasks)
    for task in range(suite.num_tasks):
        mine = samples.metrics[samples.task == task, 0]
        assert fitted.knots[0, task, 0] == mine.min()
        torch.testing.assert_close(fitted.knots[0, task, -1], mine.max())


class TestScreening:
    """Exclusion rules, each on a suite built to break exactly that one."""

    def screen(self, best: float, genuine: float | None = None) -> list[str]:
        suite = TINY_SUITES["conditional"](num_tasks=1)
        samples = sample_original(suite, 2000, 0, seed=0)
        known = find_known_range(suite, OptimumSearch(sobol=256, starts=2, rounds=0, gradient_steps=0))
        known.best[0] = best
        real = None if genuine is None else {str(suite.tasks[0]): genuine}
        return [exclusion.rule for exclusion in screen_tasks(suite, known, samples, real)]

    def test_a_sound_task_stays(self) -> None:
        assert self.screen(0.81) == []
        assert self.screen(0.81, genuine=0.79) == []

    def test_saturation(self) -> None:
        assert self.screen(1.0) == ["saturated"]

    def test_a_spike_far_above_the_sample(self) -> None:
        assert self.screen(0.99) == ["outlier"]

    def test_half_the_error_of_the_best_genuine_run(self) -> None:
        assert self.screen(0.81, genuine=0.55) == ["implausible"]
