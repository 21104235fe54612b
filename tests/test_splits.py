"""The published splits: complete, disjoint, reproducible, and guarded against leaks."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from hpo_gym.errors import SplitLeakError, UnknownNameError
from hpo_gym.sources import load_suite
from hpo_gym.sources.bundled import bundled_spaces
from hpo_gym.spaces.legacy_json import read_space_json
from hpo_gym.tasks import build_tables
from hpo_gym.tasks.datasets import DATA_FOLDER, dataset_key
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import LEFT_OUT, PROTOCOLS, check_no_leak, side_of, split_tasks

SIDES = ("train", "val", "test")
PUBLISHED = json.loads((DATA_FOLDER / "splits.json").read_text(encoding="utf-8"))
DISJOINT = PUBLISHED["dataset-disjoint"]["all"]
SPACES = bundled_spaces()

# Copies of training datasets among held-out tasks: splice and Australian, whose columns OpenML types in two ways.
COPIES = {
    ("rpart", "openml-dataset:46"),
    ("xgboost", "openml-dataset:46"),
    ("ranger", "openml-dataset:46"),
    ("adaboost", "openml-task:125923"),
    ("random_forest", "openml-task:125923"),
}

# Sides (t: train, v: val, e: test) of the datasets 900000, 900001, ...: no table names them.
GOLDEN_COMMON = "tvtveeeeeett"
GOLDEN_PER_SPACE = "eettetttetet"


def tasks_of(space: str) -> tuple[TaskRef, ...]:
    return load_suite("bundled", space).tasks


def instances(data_folder: Path) -> dict[str, list[TaskRef]]:
    """Return every task of every published space whose files are at hand."""
    found = {}
    for path in sorted((data_folder / "yahpo").glob("*/config_space.json")):
        spec = read_space_json(path)
        names = [column.name for column in spec.columns]
        if "task_id" in names:
            values = spec.columns[names.index("task_id")].choices
            found[path.parent.name] = [TaskRef("openml-dataset", str(value)) for value in values]
    with (data_folder / "lcbench_task_to_dataset.csv").open(encoding="utf-8", newline="") as file:
        found["lcbench"] = [TaskRef("openml-task", row["OpenML_task_id"]) for row in csv.DictReader(file)]
    qualities = json.loads((data_folder / "openml_runs" / "task_qualities.json").read_text(encoding="utf-8"))
    found["runs"] = [TaskRef("openml-task", task) for task in qualities]
    return found


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_bundled_task_has_a_published_side(space: str, protocol: str) -> None:
    table = PUBLISHED[protocol]["all" if protocol == "dataset-disjoint" else space]
    tasks = tasks_of(space)
    for position, task in enumerate(tasks):
        left_out = protocol == "dataset-disjoint" and (space, str(task)) in COPIES
        assert side_of(space, protocol, task, position) == (LEFT_OUT if left_out else table[dataset_key(task)])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_splits_of_a_space_are_disjoint_and_complete(space: str, protocol: str) -> None:
    tasks = tasks_of(space)
    parts = {side: split_tasks(space, protocol, side, tasks) for side in SIDES}
    assert all(parts.values())
    together = sorted(index for part in parts.values() for index in part)
    everything = split_tasks(space, protocol, "all", tasks)
    assert everything == list(range(len(tasks)))
    left_out = {(space, str(tasks[index])) for index in set(everything) - set(together)}
    assert left_out == ({copy for copy in COPIES if copy[0] == space} if protocol == "dataset-disjoint" else set())
    keys = {side: {dataset_key(tasks[index]) for index in parts[side]} for side in SIDES}
    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        assert keys[one].isdisjoint(keys[two])


def test_one_dataset_has_one_side_in_every_bundled_space() -> None:
    seen: dict[str, set[str]] = {}
    for space in SPACES:
        for position, task in enumerate(tasks_of(space)):
            seen.setdefault(dataset_key(task), set()).add(side_of(space, "dataset-disjoint", task, position))
    assert {key: sides for key, sides in seen.items() if len(sides - {LEFT_OUT}) > 1} == {}
    assert {key: sides for key, sides in seen.items() if LEFT_OUT in sides} == {
        "dataset:46": {"train", LEFT_OUT},
        "dataset:40981": {"train", LEFT_OUT},
    }


def test_one_dataset_has_one_side_in_every_published_space(data_folder: Path) -> None:
    seen: dict[str, set[str]] = {}
    shared: Counter[str] = Counter()
    for space, tasks in instances(data_folder).items():
        keys = {dataset_key(task) for task in tasks}
        shared.update(keys)
        for position, task in enumerate(tasks):
            seen.setdefault(dataset_key(task), set()).add(side_of(space, "dataset-disjoint", task, position))
    assert {key: sides for key, sides in seen.items() if len(sides - {LEFT_OUT}) > 1} == {}
    # Not vacuous: most datasets do occur in several spaces.
    assert sum(count > 1 for count in shared.values()) > 100


# Other features of the same rows: the digits of mfeat-*, and the leaves of one-hundred-plants-*. They are datasets of
# their own, though a policy that has seen one has seen the labels of the others.
RELATED = {"dataset:14", "task:9955"}


def test_no_copy_of_a_held_out_dataset_is_a_training_dataset(data_folder: Path) -> None:
    with (data_folder / "openml_qualities.csv").open(encoding="utf-8", newline="") as file:
        known = {TaskRef("openml-dataset", row["did"]): row for row in csv.DictReader(file)}
    runs = json.loads((data_folder / "openml_runs" / "task_qualities.json").read_text(encoding="utf-8"))
    known |= {TaskRef("openml-task", number): values for number, values in runs.items()}
    labels: dict[TaskRef, tuple[float, ...]] = {}
    for task, values in known.items():
        if all(values.get(name) not in (None, "") for name in build_tables.LABELS):
            labels[task] = tuple(round(float(values[name]), 9) for name in build_tables.LABELS)
    seen: dict[tuple[float, ...], dict[str, set[str]]] = {}
    for space, tasks in instances(data_folder).items():
        for position, task in enumerate(tasks):
            # The genuine runs are those of two spaces with one list of tasks.
            side = side_of("adaboost" if space == "runs" else space, "dataset-disjoint", task, position)
            if task in labels:
                seen.setdefault(labels[task], {}).setdefault(side, set()).add(dataset_key(task))
    assert sum(len(keys) for sides in seen.values() for keys in sides.values()) > 100
    trained = [sides for sides in seen.values() if "train" in sides]
    assert {key for sides in trained for side in ("val", "test") for key in sides.get(side, ())} == RELATED


def test_a_dataset_without_qualities_is_no_other_one() -> None:
    keys = {dataset_key(TaskRef("openml-dataset", number)) for number in ("41212", "41216", "41278")}
    assert keys == {"dataset:41212", "dataset:41216", "dataset:41278"}


def test_an_openml_task_gets_the_side_of_its_dataset(data_folder: Path) -> None:
    with (data_folder / "lcbench_task_to_dataset.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34
    for row in rows:
        task, dataset = TaskRef("openml-task", row["OpenML_task_id"]), TaskRef("openml-dataset", row["did"])
        assert dataset_key(task) == dataset_key(dataset)
        assert side_of("lcbench", "dataset-disjoint", task, 0) == side_of("xgboost", "dataset-disjoint", dataset, 0)


def test_a_task_is_not_confused_with_the_dataset_of_the_same_number() -> None:
    with (DATA_FOLDER / "datasets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    known = {row["task"]: row["dataset"] for row in rows}
    compared = 0
    for identity in known:
        kind, _, number = identity.partition(":")
        task, dataset = TaskRef("openml-task", number), TaskRef("openml-dataset", number)
        other = dataset if kind == "openml-task" else task
        # OpenML's oldest tasks do carry the number of their dataset; the table says for which.
        if str(other) not in known:
            assert dataset_key(task) != dataset_key(dataset), number
            compared += 1
    assert compared > 200


def test_an_unknown_task_is_not_taken_for_the_dataset_of_its_number() -> None:
    assert dataset_key(TaskRef("openml-task", "999999")) == "task:999999"
    assert dataset_key(TaskRef("openml-dataset", "999999")) == "dataset:999999"


def test_tables_of_names_agree_with_the_splits() -> None:
    with (DATA_FOLDER / "datasets.csv").open(encoding="utf-8", newline="") as file:
        keys = {row["dataset"] for row in csv.DictReader(line for line in file if not line.startswith("#"))}
    assert keys == set(DISJOINT)
    for space, table in PUBLISHED["per-space"].items():
        assert set(table) <= keys, space


@pytest.mark.parametrize(
    "table",
    [DISJOINT, *PUBLISHED["per-space"].values()],
    ids=["dataset-disjoint", *PUBLISHED["per-space"]],
)
def test_shares_are_sixty_fifteen_and_twenty_five_per_cent(table: dict[str, str]) -> None:
    counts = Counter(table.values())
    assert set(counts) == set(SIDES)
    for side, share in zip(SIDES, (0.60, 0.15, 0.25), strict=True):
        assert counts[side] / len(table) == pytest.approx(share, abs=0.04), side


@pytest.mark.parametrize("space", SPACES)
def test_every_bundled_space_has_test_tasks_enough_in_the_common_partition(space: str) -> None:
    tasks = tasks_of(space)
    shares = {side: len(split_tasks(space, "dataset-disjoint", side, tasks)) / len(tasks) for side in SIDES}
    assert shares["train"] == pytest.approx(0.60, abs=0.12)
    assert shares["val"] == pytest.approx(0.15, abs=0.10)
    assert shares["test"] == pytest.approx(0.25, abs=0.10)


def test_an_original_scenario_shares_the_partition_of_the_space_that_is_made_of_it() -> None:
    tasks = tasks_of("xgboost")
    for side in SIDES:
        ours = split_tasks("xgboost", "per-space", side, tasks)
        assert split_tasks("rbv2_xgboost", "per-space", side, tasks) == ours
    assert split_tasks("rpart", "per-space", "test", tasks) != split_tasks("xgboost", "per-space", "test", tasks)


def test_unknown_datasets_keep_the_side_that_their_hash_gave_them() -> None:
    # Golden: a published side never changes, on no machine and in no release.
    tasks = [TaskRef("openml-dataset", str(900_000 + index)) for index in range(12)]
    letters = {"train": "t", "val": "v", "test": "e"}
    common = [side_of("rpart", "dataset-disjoint", task, 0) for task in tasks]
    assert "".join(letters[side] for side in common) == GOLDEN_COMMON
    own = [side_of("rpart", "per-space", task, 0) for task in tasks]
    assert "".join(letters[side] for side in own) == GOLDEN_PER_SPACE
    assert common == [side_of("xgboost", "dataset-disjoint", task, 7) for task in tasks]


def test_hashed_sides_have_the_same_shares() -> None:
    tasks = [TaskRef("openml-dataset", str(1_000_000 + index)) for index in range(4000)]
    counts = Counter(side_of("rpart", "dataset-disjoint", task, 0) for task in tasks)
    for side, share in zip(SIDES, (0.60, 0.15, 0.25), strict=True):
        assert counts[side] / len(tasks) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("kind", ["synthetic", "custom"])
def test_tasks_without_a_dataset_are_split_by_position(kind: str) -> None:
    tasks = [TaskRef(kind, f"anything-{index}") for index in range(20)]  # type: ignore[arg-type]
    parts = {side: split_tasks("mine", "dataset-disjoint", side, tasks) for side in SIDES}
    assert {side: len(part) for side, part in parts.items()} == {"train": 12, "val": 3, "test": 5}
    renamed = [TaskRef(kind, f"else-{index}") for index in range(20)]  # type: ignore[arg-type]
    assert split_tasks("other", "per-space", "test", renamed) == parts["test"]
    # Four tasks are enough for a task in every split.
    assert all(split_tasks("mine", "dataset-disjoint", side, tasks[:4]) for side in SIDES)


def test_unknown_protocols_and_splits_are_refused() -> None:
    tasks = tasks_of("rpart")
    with pytest.raises(UnknownNameError, match=r"'datasets-disjoint'.*Did you mean 'dataset-disjoint'"):
        split_tasks("rpart", "datasets-disjoint", "train", tasks)
    with pytest.raises(UnknownNameError, match=r"'tset'.*Did you mean 'test'"):
        split_tasks("rpart", "per-space", "tset", tasks)


def test_a_leak_is_refused_with_the_datasets_and_the_remedy() -> None:
    with pytest.raises(SplitLeakError) as caught:
        check_no_leak(["dataset:31", "dataset:54", "dataset:3"], ["dataset:54", "dataset:31", "dataset:1461"])
    message = str(caught.value)
    for part in ("2 test dataset(s)", "dataset:31, dataset:54", "protocol='dataset-disjoint'", "split='train'"):
        assert part in message
    assert "dataset:1461" not in message and "..." not in message
    many = [f"dataset:{index}" for index in range(9)]
    with pytest.raises(SplitLeakError, match=r"9 test dataset.*dataset:4, \.\.\."):
        check_no_leak(many, many)


def test_a_leak_is_found_where_a_policy_was_trained_when_less_was_known_of_a_task() -> None:
    with pytest.raises(SplitLeakError, match=r"1 test dataset\(s\) were trained on: dataset:46"):
        check_no_leak(["task:45", "task:999999"], ["dataset:46", "dataset:1461"])


def test_splits_of_different_spaces_leak_only_under_the_per_space_protocol() -> None:
    training, testing = tasks_of("xgboost"), tasks_of("rpart")

    def keys(space: str, protocol: str, side: str, tasks: tuple[TaskRef, ...]) -> set[str]:
        return {dataset_key(tasks[index]) for index in split_tasks(space, protocol, side, tasks)}

    for side in ("val", "test"):
        check_no_leak(
            keys("xgboost", "dataset-disjoint", "train", training),
            keys("rpart", "dataset-disjoint", side, testing),
        )
    with pytest.raises(SplitLeakError):
        check_no_leak(keys("xgboost", "per-space", "train", training), keys("rpart", "per-space", "test", testing))


def test_the_published_tables_are_what_the_command_makes_again(data_folder: Path, tmp_path: Path) -> None:
    assert build_tables.main(["--data-dir", str(data_folder), "--output", str(tmp_path)]) == 0
    for name in ("splits.json", "datasets.csv", "meta_features.csv"):
        assert (tmp_path / name).read_bytes() == (DATA_FOLDER / name).read_bytes(), name


def test_another_seed_makes_another_partition(data_folder: Path, tmp_path: Path) -> None:
    assert build_tables.main(["--data-dir", str(data_folder), "--output", str(tmp_path), "--seed", "1"]) == 0
    other = json.loads((tmp_path / "splits.json").read_text(encoding="utf-8"))["dataset-disjoint"]["all"]
    assert set(other) == set(DISJOINT) and other != DISJOINT
