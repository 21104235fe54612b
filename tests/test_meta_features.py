"""Meta-features: what they are, and that no held-out dataset has a say in how they are scaled."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from hpo_gym.sources import load_suite
from hpo_gym.sources.bundled import bundled_spaces
from hpo_gym.tasks import meta_features as module
from hpo_gym.tasks.datasets import DATA_FOLDER, QUALITIES, dataset_key, qualities
from hpo_gym.tasks.meta_features import META_FEATURE_NAMES, standardise, suite_meta_features
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import PROTOCOLS, split_tasks

SPACES = bundled_spaces()


def raw(tasks: tuple[TaskRef, ...]) -> torch.Tensor:
    unknown = (math.nan,) * len(QUALITIES)
    return torch.tensor([qualities().get(dataset_key(ref), unknown) for ref in tasks], dtype=torch.float64)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_bundled_task_has_21_finite_columns(space: str, protocol: str) -> None:
    suite = load_suite("bundled", space, protocol=protocol)
    features = suite.meta_features
    assert features.shape == (suite.num_tasks, 21) and features.dtype == torch.float32
    assert len(META_FEATURE_NAMES) == 21 and META_FEATURE_NAMES[-1] == "missing"
    assert bool(features.isfinite().all()) and float(features.abs().max()) <= 5.0
    assert torch.equal(features, suite_meta_features(space, protocol, suite.tasks))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_tasks_have_mean_zero_and_deviation_one(space: str, protocol: str) -> None:
    suite = load_suite("bundled", space, protocol=protocol)
    train = split_tasks(space, protocol, "train", suite.tasks)
    known = [index for index in train if suite.meta_features[index, -1] == 0]
    values = suite.meta_features[known, :-1]
    spread = values.std(0)
    clipped = (values.abs() == 5.0).any(0)
    # No training dataset of lcbench has missing values: those columns are constant there.
    constant = values.abs().amax(0) == 0.0
    plain = ~clipped & ~constant
    assert int(plain.sum()) >= 14
    assert float(values.mean(0)[plain].abs().max()) < 1e-4
    assert float((spread[plain] - 1.0).abs().max()) < 1e-3
    # A clipped column loses some of its spread, never all.
    assert bool((spread[clipped] > 0.5).all()) and bool((spread[clipped] < 1.0).all())


@pytest.mark.parametrize("space", SPACES)
def test_the_flag_says_which_tasks_have_no_qualities(space: str) -> None:
    suite = load_suite("bundled", space)
    for ref, row in zip(suite.tasks, suite.meta_features, strict=True):
        unknown = dataset_key(ref) not in qualities()
        assert bool(row[-1] == 1.0) is unknown
        if unknown:
            assert row[:-1].abs().max() == 0.0


def test_the_protocol_decides_which_tasks_the_scale_comes_from() -> None:
    one, two = (load_suite("bundled", "rpart", protocol=protocol).meta_features for protocol in PROTOCOLS)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("side", ["val", "test"])
def test_a_held_out_dataset_changes_no_other_row(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = load_suite("bundled", "rpart").tasks
    before = suite_meta_features("rpart", "dataset-disjoint", tasks)
    held = split_tasks("rpart", "dataset-disjoint", side, tasks)
    keys = {dataset_key(tasks[index]) for index in held}
    changed = {
        key: tuple(1000.0 * value + 7.0 for value in values) if key in keys else values
        for key, values in qualities().items()
    }
    monkeypatch.setattr(module, "qualities", lambda: changed)
    after = suite_meta_features("rpart", "dataset-disjoint", tasks)
    others = [index for index in range(len(tasks)) if index not in held]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[held], after[held])


def test_a_training_dataset_changes_the_scale_of_all() -> None:
    tasks = load_suite("bundled", "rpart").tasks
    train = split_tasks("rpart", "dataset-disjoint", "train", tasks)
    table = raw(tasks)
    before = standardise(table, train)
    table[train[0]] *= 1000.0
    after = standardise(table, train)
    held = split_tasks("rpart", "dataset-disjoint", "test", tasks)
    assert not torch.equal(before[held], after[held])


def test_qualities_are_on_a_log_scale() -> None:
    # Equal factors become equal steps.
    table = torch.tensor([[99.0], [999.0], [9999.0], [99999.0]], dtype=torch.float64)
    scaled = standardise(table, [0, 1, 2])[:, 0]
    steps = scaled.diff()
    torch.testing.assert_close(steps, torch.ones(3), atol=1e-5, rtol=0)
    assert float(scaled[1]) == pytest.approx(0.0, abs=1e-6)


def test_outlying_datasets_are_clipped_to_five_deviations() -> None:
    table = torch.tensor([[9.0], [10.0], [11.0], [1e12], [0.0]], dtype=torch.float64)
    scaled = standardise(table, [0, 1, 2])
    assert scaled[3, 0] == 5.0 and scaled[4, 0] == -5.0
    assert 0.5 < float(scaled[:3, 0].std()) <= 1.001


def test_rows_without_qualities_are_zero_with_a_flag_and_count_nowhere() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0], [math.nan, math.nan]], dtype=torch.float64)
    scaled = standardise(table, [0, 1, 2, 3])
    assert scaled[3].tolist() == [0.0, 0.0, 1.0]
    torch.testing.assert_close(scaled[:3], standardise(table[:3], [0, 1, 2]))


def test_constant_qualities_of_training_tasks_divide_by_no_zero() -> None:
    table = torch.tensor([[3.0], [3.0], [3.0], [4.0]], dtype=torch.float64)
    scaled = standardise(table, [0, 1, 2])
    assert bool(scaled.isfinite().all()) and scaled[0, 0] == 0.0 and scaled[3, 0] == 5.0


@pytest.mark.parametrize("known", [0, 1])
def test_too_few_known_datasets_for_a_scale_give_flags_only(known: int) -> None:
    table = torch.full((3, 2), math.nan, dtype=torch.float64)
    table[:known] = 4.0
    scaled = standardise(table, [0, 1])
    assert scaled[:, :2].abs().max() == 0.0
    assert scaled[:, 2].tolist() == [0.0] * known + [1.0] * (3 - known)


def test_a_suite_whose_training_tasks_are_unknown_is_scaled_on_what_is_known() -> None:
    table = torch.tensor([[math.nan], [math.nan], [1.0], [10.0], [100.0]], dtype=torch.float64)
    scaled = standardise(table, [0, 1])
    assert scaled[2:, 0].abs().max() > 0.5 and bool(scaled.isfinite().all())


def test_tasks_that_are_no_openml_datasets_have_no_columns() -> None:
    tasks = [TaskRef("synthetic", "sphere-0"), TaskRef("custom", "mine")]
    assert suite_meta_features("bbob-2d", "dataset-disjoint", tasks).shape == (2, 0)


def test_one_dataset_has_the_same_qualities_under_every_id_it_goes_by() -> None:
    bundled = {space: load_suite("bundled", space).tasks for space in SPACES}
    by_key: dict[str, list[torch.Tensor]] = {}
    for tasks in bundled.values():
        for ref, row in zip(tasks, raw(tasks), strict=True):
            by_key.setdefault(dataset_key(ref), []).append(row)
    shared = [rows for rows in by_key.values() if len(rows) > 1]
    assert len(shared) > 90
    for rows in shared:
        assert all(torch.equal(rows[0].nan_to_num(-1), row.nan_to_num(-1)) for row in rows)


def test_the_published_table_names_its_source_and_holds_the_basic_qualities_only() -> None:
    lines = (DATA_FOLDER / "meta_features.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#") and "OpenML" in lines[0] and "hpo_gym.tasks.build_tables" in lines[0]
    header = next(csv.reader([lines[1]]))
    assert header == ["dataset", *QUALITIES]
    # Landmarkers are missing not at random, and training a model is what a policy should save.
    for name in header:
        assert not any(
            word in name for word in ("AUC", "ErrRate", "Kappa", "DecisionStump", "kNN", "NaiveBayes", "J48")
        )
    assert len(lines) - 2 == len(qualities()) >= 120


def test_published_qualities_are_facts_that_agree_with_each_other() -> None:
    column = {name: index for index, name in enumerate(QUALITIES)}
    for key, values in qualities().items():
        rows, features = values[column["NumberOfInstances"]], values[column["NumberOfFeatures"]]
        assert rows > 0 and features > 1, key
        numeric, symbolic = values[column["NumberOfNumericFeatures"]], values[column["NumberOfSymbolicFeatures"]]
        assert numeric + symbolic <= features + 0.5, key
        assert values[column["Dimensionality"]] == pytest.approx(features / rows, rel=1e-3), key
        majority = 100.0 * values[column["MajorityClassSize"]] / rows
        assert values[column["MajorityClassPercentage"]] == pytest.approx(majority, rel=1e-3), key
        assert 0.0 <= values[column["ClassEntropy"]] <= math.log2(values[column["NumberOfClasses"]]) + 1e-6, key
