"""``python -m hpo_gym.tasks.build_tables --data-dir DIR``: make the packaged tables of datasets and splits.

Facts from OpenML (dataset and task ids, names, basic qualities), by way of: YAHPO's ``config_space.json`` files
(instances), ``lcbench_task_to_dataset.csv``, ``openml_qualities.csv`` and ``openml_runs/task_qualities.json``. The
dataset of an OpenML run's task is recognised by its qualities: tasks and datasets that agree in all of
``FINGERPRINT`` are the same dataset.

That is how the partitions were first published, and they stay, because policies were trained on them. It misses copies
whose columns OpenML counts or types otherwise; those are recognised by their labels (``LABELS``), and left out of
validation and test tasks wherever another copy is a training task (:func:`_corrected`).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpo_gym.seeding import numpy_generator
from hpo_gym.sources.bundle_files import write_atomic
from hpo_gym.spaces.legacy_json import read_space_json
from hpo_gym.tasks.datasets import DATA_FOLDER, QUALITIES
from hpo_gym.tasks.splits import LEFT_OUT, TRAIN_SHARE, VAL_SHARE

__all__ = ["FINGERPRINT", "LABELS", "main"]

#: Qualities that identify a dataset.
FINGERPRINT = (
    "NumberOfInstances",
    "NumberOfFeatures",
    "NumberOfClasses",
    "MajorityClassSize",
    "MinorityClassSize",
    "NumberOfNumericFeatures",
)

#: Qualities that identify rows and labels: the autocorrelation of the labels tells one order of them from another.
LABELS = ("NumberOfInstances", "NumberOfClasses", "MajorityClassSize", "MinorityClassSize", "AutoCorrelation")

# Datasets made of the same rows with other features (the mfeat-* family) share labels, too: a copy has as many
# features, give or take a column of row numbers.
_EXTRA_FEATURES = 1

_RBV2 = {
    "rpart": "yahpo/rbv2_rpart",
    "xgboost": "yahpo/rbv2_xgboost",
    "ranger": "yahpo_v2/rbv2_ranger",
    "rbv2_svm": "yahpo/rbv2_svm",
    "rbv2_glmnet": "yahpo/rbv2_glmnet",
    "rbv2_aknn": "yahpo/rbv2_aknn",
    "rbv2_super": "yahpo/rbv2_super",
    "iaml_super": "yahpo/iaml_super",
}
#: The spaces whose shares of train, val and test datasets the partition balances.
_EMBEDDED = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")


def _number(text: str) -> float:
    return float(text) if text not in ("", "nan", "NaN") else math.nan


class _Tables:
    """Everything that is read, before it is written."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[str, str] = {}
        self.qualities: dict[str, list[float]] = {}
        self.tasks: dict[str, str] = {}
        self.members: dict[str, list[str]] = defaultdict(list)
        #: What a task is about where that was not known when the partitions were published.
        self.corrected: dict[str, str] = {}
        #: Identity of the members of every space.
        self.identities: dict[str, list[str]] = defaultdict(list)
        self._by_fingerprint: dict[tuple[float, ...], str] = {}
        self._by_labels: dict[tuple[float, ...], list[tuple[float, str]]] = defaultdict(list)
        self._read_datasets(folder / "openml_qualities.csv")
        for space, scenario in _RBV2.items():
            self._read_instances(space, folder / scenario / "config_space.json")
        self._read_lcbench(folder / "lcbench_task_to_dataset.csv")
        runs = json.loads((folder / "openml_runs" / "task_qualities.json").read_text())
        for space in ("adaboost", "random_forest"):
            self._read_runs(space, folder / "openml_runs" / f"{space}.arff", runs)

    def _read_datasets(self, path: Path) -> None:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                values = {name: _number(row[name]) for name in QUALITIES}
                mark = tuple(values[name] for name in FINGERPRINT)
                key = f"dataset:{row['did']}"
                # Two versions of one dataset are one dataset; those without qualities were taken for one.
                first = self._by_fingerprint.setdefault(mark, key)
                if first != key and any(map(math.isnan, mark)):
                    self.corrected[f"openml-dataset:{row['did']}"] = key
                key = first
                self.tasks[f"openml-dataset:{row['did']}"] = key
                self._by_labels[_labels(values)].append((values["NumberOfFeatures"], key))
                self.names.setdefault(key, row["name"])
                if not any(math.isnan(value) for value in values.values()):
                    self.qualities.setdefault(key, list(values.values()))

    def _read_instances(self, space: str, path: Path) -> None:
        spec = read_space_json(path)
        for value in spec.columns[spec.position("task_id")].choices:
            self.tasks.setdefault(f"openml-dataset:{value}", f"dataset:{value}")
            self._add(space, f"openml-dataset:{value}")

    def _add(self, space: str, identity: str) -> None:
        self.members[space].append(self.tasks[identity])
        self.identities[space].append(identity)

    def _read_lcbench(self, path: Path) -> None:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = self.tasks.get(f"openml-dataset:{row['did']}", f"dataset:{row['did']}")
                self.tasks[f"openml-task:{row['OpenML_task_id']}"] = key
                self.names.setdefault(key, row["name"])
                self._add("lcbench", f"openml-task:{row['OpenML_task_id']}")

    def _read_runs(self, space: str, path: Path, runs: dict[str, dict[str, float]]) -> None:
        for task in _arff_tasks(path):
            identity = f"openml-task:{task}"
            if identity not in self.tasks:
                values = runs.get(task)
                mark = tuple(float(values[name]) for name in FINGERPRINT) if values else ()
                key = self._by_fingerprint.get(mark, f"task:{task}")
                self.tasks[identity] = key
                if values and key.startswith("task:"):
                    self._recognise(identity, values)
                if values and key not in self.qualities:
                    found = [float(values.get(name) or 0.0) for name in QUALITIES]
                    if not any(math.isnan(value) for value in found):
                        self.qualities[key] = found
            self._add(space, identity)

    def _recognise(self, identity: str, values: Mapping[str, float]) -> None:
        """Note the dataset that a task is a copy of, if it is one."""
        features = values["NumberOfFeatures"]
        copies = {key for count, key in self._by_labels[_labels(values)] if abs(count - features) <= _EXTRA_FEATURES}
        if len(copies) == 1:
            self.corrected[identity] = copies.pop()

    def key(self, identity: str) -> str:
        """Return what a task is about, as far as is known today."""
        return self.corrected.get(identity, self.tasks[identity])


def _labels(values: Mapping[str, float]) -> tuple[float, ...]:
    # Two files have the autocorrelation with other last digits.
    return tuple(round(float(values.get(name) or math.nan), 9) for name in LABELS)


def _arff_tasks(path: Path) -> list[str]:
    tasks: dict[str, None] = {}
    column, columns, reading = -1, 0, False
    with path.open(encoding="utf-8") as file:
        for line in file:
            lowered = line.strip().lower()
            if lowered.startswith("@attribute"):
                column = columns if lowered.split()[1] == "task_id" else column
                columns += 1
            elif lowered.startswith("@data"):
                reading = True
            elif reading and lowered:
                tasks[line.strip().split(",")[column]] = None
    return list(tasks)


def _partition(keys: Sequence[str], seed: int, name: str) -> dict[str, str]:
    """Return a side for every key: 60 % train, 15 % val, 25 % test, after a seeded shuffle."""
    draws = numpy_generator(seed, "splits", name)
    order = [sorted(keys)[int(index)] for index in draws.permutation(len(keys))]
    sides = {}
    for position, key in enumerate(order):
        share = (position + 0.5) / len(order)
        sides[key] = "train" if share < TRAIN_SHARE else "val" if share < TRAIN_SHARE + VAL_SHARE else "test"
    return sides


def _disjoint(members: dict[str, list[str]], seed: int) -> dict[str, str]:
    """Partition all datasets, stratified by the embedded spaces that they occur in."""
    pattern: dict[str, str] = {}
    for keys in members.values():
        for key in keys:
            pattern[key] = "".join("x" if key in members[space] else "-" for space in _EMBEDDED)
    strata: dict[str, list[str]] = defaultdict(list)
    for key, mark in pattern.items():
        strata[mark].append(key)
    small = [key for keys in strata.values() if len(keys) < 7 for key in keys]
    sides = _partition(small, seed, "small strata")
    for mark, keys in strata.items():
        if len(keys) >= 7:
            sides.update(_partition(keys, seed, mark))
    return sides


def _corrected(tables: _Tables, published: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the side of every dataset, and by space the datasets that are on another side there.

    Args:
        tables: What is known.
        published: Sides of datasets as they were known then.

    Returns:
        A dataset of which any copy is a training task is a training dataset. What a space held out of it is neither
        trained on nor tested there: policies have seen it.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for identities in tables.identities.values():
        for identity in identities:
            found[tables.key(identity)].add(published[tables.tasks[identity]])
    sides: dict[str, str] = {
        key: next(side for side in ("train", "val", "test") if side in each) for key, each in found.items()
    }
    left: dict[str, list[str]] = {}
    for space, identities in tables.identities.items():
        keys = {tables.key(each) for each in identities if published[tables.tasks[each]] != sides[tables.key(each)]}
        if keys:
            left[space] = sorted(keys)
    return sides, left


def _csv(header: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    text.write(header)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.tasks.build_tables")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_GYM_DATA"))
    parser.add_argument("--output", type=Path, default=DATA_FOLDER)
    parser.add_argument("--seed", type=int, default=0, help="seed of the partitions")
    options = parser.parse_args(arguments)
    if options.data_dir is None:
        parser.error("give --data-dir, or set HPO_GYM_DATA")
    tables = _Tables(Path(options.data_dir))
    used = {key for keys in tables.members.values() for key in keys}
    source = "# OpenML facts (ids, names, qualities), collected by `python -m hpo_gym.tasks.build_tables`.\n"
    listed = [(task, tables.key(task)) for task, key in sorted(tables.tasks.items()) if key in used]
    datasets = [(task, key, tables.names.get(key, "")) for task, key in listed]
    write_atomic(options.output / "datasets.csv", _csv(source, ("task", "dataset", "name"), datasets))
    features = [
        (key, *(f"{value:.10g}" for value in values)) for key, values in sorted(tables.qualities.items()) if key in used
    ]
    write_atomic(options.output / "meta_features.csv", _csv(source, ("dataset", *QUALITIES), features))
    sides, left = _corrected(tables, _disjoint(tables.members, options.seed))
    splits: dict[str, dict[str, object]] = {"dataset-disjoint": {"all": sides}, "per-space": {}, LEFT_OUT: {**left}}
    for space in _EMBEDDED:
        mine = _partition(sorted(set(tables.members[space])), options.seed, f"per-space {space}")
        splits["per-space"][space] = {tables.key(each): mine[tables.tasks[each]] for each in tables.identities[space]}
    text = json.dumps(splits, indent=0, sort_keys=True) + "\n"
    write_atomic(options.output / "splits.json", text.encode())
    for space in _EMBEDDED:
        keys = {tables.key(each) for each in tables.identities[space]}
        here = [LEFT_OUT if key in left.get(space, ()) else sides[key] for key in keys]
        counts = ", ".join(f"{side} {here.count(side)}" for side in ("train", "val", "test", LEFT_OUT))
        print(f"{space}: {len(here)} datasets: {counts}")
    print(f"{len(used)} datasets, {len(features)} with qualities")
    return 0


if __name__ == "__main__":
    sys.exit(main())
