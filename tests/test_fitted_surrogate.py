"""The ensemble that is fitted to measurements: averages, bounds and storage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hpo_gym.fitting.recipes import RUN_RECIPES
from hpo_gym.fitting.runs import RunFitSettings, cross_validate, fit_runs
from hpo_gym.seeding import generator
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.surrogates.base import Metric
from hpo_gym.surrogates.compact import CompactArchitecture
from hpo_gym.surrogates.fitted import FittedSurrogate
from hpo_gym.testing import SurrogateCase

SPEC = SpaceSpec(
    (
        Column("rate", "float", 1e-3, 1.0, True, (), 0.1),
        Column("depth", "integer", 1, 9, False, (), 5),
        Column("kind", "categorical", choices=("a", "b"), default="a", upper=1),
    ),
    {},
)
METRICS = (Metric("accuracy", False, 0.0, 1.0),)
SETTINGS = RunFitSettings(CompactArchitecture(16, 12, 1), members=3, steps=40, batch=128)


def measurements(per_task: int = 120, tasks: int = 3, noise: float = 0.0) -> RunTable:
    """Return runs of smooth surfaces whose best rate and kind depend on the task."""
    draws = generator(0, "test", "fitted")
    task = torch.arange(tasks).repeat_interleave(per_task)
    u = SearchSpace(SPEC).sample(len(task), draws)
    centre = 0.2 + 0.3 * task
    value = 0.9 - 0.5 * (u[:, 0] - centre).square() - 0.05 * u[:, 1] + 0.05 * ((u[:, 2] > 0.5) == (task % 2 == 0))
    value = value + noise * torch.randn(len(task), generator=draws)
    return RunTable(SPEC, tuple(map(str, range(tasks))), ("accuracy",), task, u, value[:, None], 0, {})


@pytest.fixture(scope="module")
def fitted() -> FittedSurrogate:
    return fit_runs(measurements(), METRICS, SETTINGS)


def points(count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    u = SearchSpace(SPEC).sample(count, generator(1, "test", "fitted"))
    return torch.arange(count) % 3, u, torch.ones_like(u, dtype=torch.bool)


class TestContract(SurrogateCase):
    @pytest.fixture
    def surrogate(self, fitted: FittedSurrogate) -> Any:
        return fitted

    def snap(self, u: Tensor) -> Tensor:
        return SearchSpace(SPEC).snap(u)


def test_the_ensemble_averages_ranks_not_values(fitted: FittedSurrogate) -> None:
    task, u, active = points()
    each = []
    for member in fitted.members:
        numeric, rows = member.features(task, u, active, None)
        each.append(member.latent(task, numeric, rows))
    mean = torch.stack(each).mean(0)
    torch.testing.assert_close(fitted.latent(task, u, active), mean)
    torch.testing.assert_close(fitted.predict(task, u, active), fitted.quantiles(task, mean))
    # Members differ: they start from different weights and see different batches.
    assert float((each[0] - each[1]).abs().max()) > 1e-3


def test_no_value_leaves_what_was_observed_on_its_task(fitted: FittedSurrogate) -> None:
    runs = measurements()
    task, u, active = points(3000)
    predicted = fitted.predict(task, u, active)[:, 0]
    for index in range(3):
        seen = runs.values[runs.task == index, 0]
        mine = predicted[task == index]
        assert float(mine.min()) >= float(seen.min()) - 1e-6 and float(mine.max()) <= float(seen.max()) + 1e-6


def test_a_stored_ensemble_predicts_the_same(fitted: FittedSurrogate) -> None:
    again = FittedSurrogate.from_state(SPEC, fitted.header(), fitted.tensors())
    task, u, active = points()
    assert torch.equal(again.predict(task, u, active), fitted.predict(task, u, active))
    assert len(again.members) == 3 and again.metrics == METRICS and again.num_tasks == 3


def test_weights_rounded_to_half_precision_survive_storage_in_half_precision() -> None:
    ensemble = fit_runs(measurements(), METRICS, SETTINGS)
    task, u, active = points()
    exact = ensemble.predict(task, u, active)
    ensemble.round_to_half()
    rounded = ensemble.predict(task, u, active)
    stored = {k: v if "quantiles" in k else v.half() for k, v in ensemble.tensors().items()}
    again = FittedSurrogate.from_state(SPEC, ensemble.header(), stored)
    assert torch.equal(again.predict(task, u, active), rounded)
    assert 0.0 < float((exact - rounded).abs().max()) < 5e-3


def test_quantile_maps_are_stored_once(fitted: FittedSurrogate) -> None:
    names = list(fitted.tensors())
    assert [name for name in names if "quantiles" in name] == ["quantiles.knots"]
    assert {name.split(".")[0] for name in names} == {"quantiles", "0", "1", "2"}


def test_the_effort_follows_the_rows_and_ends_at_the_defaults() -> None:
    by_rows = [RunFitSettings.for_rows(rows) for rows in (1, 180, 1_000, 10_000, 40_000, 1_000_000)]
    assert [settings.steps for settings in by_rows] == [250, 250, 474, 1_500, 3_000, 3_000]
    assert [settings.batch for settings in by_rows] == [1, 180, 1_000, 1_024, 1_024, 1_024]
    assert by_rows[-1] == RunFitSettings()


def test_the_embedded_spaces_keep_the_full_effort() -> None:
    for recipe in RUN_RECIPES:
        assert recipe.settings == RunFitSettings(
            CompactArchitecture(64, 48, 1), 4, 3_000, 1_024, learning_rate=4e-3, weight_decay=0.1, folds=5, seed=0
        )


def test_progress_rises_to_one_and_changes_no_result(fitted: FittedSurrogate) -> None:
    shares: list[float] = []
    again = fit_runs(measurements(), METRICS, SETTINGS, progress=shares.append)
    # Each network of 40 steps reports at its first step, in its midst and at its end.
    assert len(shares) == 9 and shares == sorted(shares) and shares[-1] == 1.0
    for name, value in fitted.tensors().items():
        assert torch.equal(again.tensors()[name], value), name
    shares.clear()
    settings = RunFitSettings(CompactArchitecture(8, 8, 1), members=1, steps=2, batch=16, folds=4)
    cross_validate(measurements(20), METRICS, settings, shares.append)
    assert shares == [0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0]
