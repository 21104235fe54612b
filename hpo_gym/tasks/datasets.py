"""Which OpenML dataset a task is about, and the qualities of that dataset.

Two packaged tables, made by ``python -m hpo_gym.tasks.build_tables``: ``data/datasets.csv`` (task -> dataset)
and ``data/meta_features.csv`` (dataset -> qualities).
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from hpo_gym.errors import DataMissingError
from hpo_gym.tasks.ref import TaskRef

__all__ = ["DATA_FOLDER", "QUALITIES", "dataset_key", "qualities"]

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"

#: The basic OpenML qualities, all complete; ``NumberOfFeatures`` includes the target.
QUALITIES = (
    "NumberOfInstances",
    "NumberOfFeatures",
    "NumberOfClasses",
    "NumberOfNumericFeatures",
    "NumberOfSymbolicFeatures",
    "NumberOfBinaryFeatures",
    "NumberOfMissingValues",
    "NumberOfInstancesWithMissingValues",
    "PercentageOfMissingValues",
    "PercentageOfInstancesWithMissingValues",
    "PercentageOfNumericFeatures",
    "PercentageOfSymbolicFeatures",
    "PercentageOfBinaryFeatures",
    "MajorityClassSize",
    "MinorityClassSize",
    "MajorityClassPercentage",
    "MinorityClassPercentage",
    "ClassEntropy",
    "Dimensionality",
    "AutoCorrelation",
)

# Datasets that come with scikit-learn and are, or are part of, datasets of OpenML: whoever has seen one has seen both.
_SAME_DATA = {
    "custom:sklearn:breast_cancer": "dataset:1510",  # wdbc
    "custom:sklearn:diabetes_median": "custom:sklearn:diabetes",
    "custom:sklearn:digits": "dataset:28",  # the test rows of optdigits
    "custom:sklearn:digits_parity": "dataset:28",
    "custom:sklearn:iris": "dataset:61",
    "custom:sklearn:wine": "dataset:187",
}


def _rows(name: str) -> list[dict[str, str]]:
    path = DATA_FOLDER / name
    if not path.exists():
        raise DataMissingError(
            f"{path} is missing from this installation. Reinstall hpo_gym, or make it again with "
            "`python -m hpo_gym.tasks.build_tables`."
        )
    with path.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return list(csv.DictReader(lines))


@cache
def _keys() -> dict[str, str]:
    return {row["task"]: row["dataset"] for row in _rows("datasets.csv")}


@cache
def qualities() -> dict[str, tuple[float, ...]]:
    """Return the qualities of every dataset with known ones, by dataset key; of a task's own copy by ``task:<id>``."""
    return {row["dataset"]: tuple(float(row[name]) for name in QUALITIES) for row in _rows("meta_features.csv")}


def dataset_key(task: TaskRef) -> str:
    """Return what identifies the dataset of a task across all spaces.

    ``dataset:31`` for an OpenML dataset, ``task:146`` for an OpenML task whose dataset is not known, and the
    task itself for anything else, unless it is known to be one of OpenML's.
    """
    if task.kind == "openml-dataset":
        return _keys().get(str(task), f"dataset:{task.id}")
    if task.kind == "openml-task":
        return _keys().get(str(task), f"task:{task.id}")
    return _SAME_DATA.get(str(task), str(task))
