"""A data folder with HPO-B's two archives, unpacked: its names and formats, random trees and tables.

The published archives are 0.4 GB and not at hand where the tests run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hpo_gym import load_suite
from hpo_gym.sources.archives import ORIGIN_FILE
from hpo_gym.sources.pinned import packaged_table
from hpo_gym.tasks.suite import TaskSuite

#: Encoded columns and datasets by space and side; columns, and the test datasets of 5860, are those of HPO-B v3.
SPACES: dict[str, dict[str, Any]] = {
    "5860": {
        "columns": ["alpha", "lambda"],
        "train": ["3", "10093", "3913"],
        "val": ["37"],
        "test": ["14965", "9976", "3493"],
    },
    "3442": {
        "columns": [
            "n_neighbors",
            "algorithm.ohe._auto",
            "algorithm.ohe._brute",
            "metric.ohe._cosine",
            "metric.ohe._minkowski",
        ],
        "train": ["11", "37"],
        "val": [],
        "test": [],
    },
}
#: The one with test datasets.
SPACE = "5860"
_ROWS, _SEEDS, _POINTS = 60, 5, 5


def load(folder: Path, space: Any = SPACE, **options: Any) -> TaskSuite:
    return load_suite("hpob", space, data_dir=str(folder), **options)


def write_hpob(folder: Path, seed: int = 0) -> Path:
    """Write ``folder/hpob/hpob-data`` and ``folder/hpob/saved-surrogates``; return ``folder``."""
    draws = np.random.default_rng(seed)
    tables, surrogates = (folder / "hpob" / name for name in ("hpob-data", "saved-surrogates"))
    statistics: dict[str, Any] = {}
    sides: dict[str, dict[str, Any]] = {side: {} for side in ("train", "val", "test")}
    initial: dict[str, Any] = {}
    for space, facts in SPACES.items():
        dimension = len(facts["columns"])
        for side in sides:
            for dataset in facts[side]:
                booster = random_booster(draws, dimension)
                name = f"surrogate-{space}-{dataset}"
                write(surrogates / f"{name}.json", booster)
                x = draws.random((_ROWS, dimension)).astype(np.float32)
                y = [predict(booster, row) for row in x]
                statistics[name] = {"y_min": min(y), "y_max": max(y)}
                rows = {"X": x.tolist(), "y": [[value] for value in y]}
                sides[side].setdefault(space, {})[dataset] = rows
                if side == "test":
                    chosen = {f"test{s}": draws.permutation(_ROWS)[:_POINTS].tolist() for s in range(_SEEDS)}
                    initial.setdefault(space, {})[dataset] = chosen
    write(surrogates / "summary-stats.json", statistics)
    for side, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        write(tables / f"meta-{name}-dataset.json", sides[side])
    write(tables / "bo-initializations.json", initial)
    for archive in (tables, surrogates):
        # As after a download.
        pinned = packaged_table().files[f"hpob/{archive.name}.zip"].sha256
        (archive / ORIGIN_FILE).write_text(f"{pinned}\n", encoding="ascii")
    return folder


def write(path: Path, content: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def random_booster(draws: np.random.Generator, dimension: int, trees: int = 12) -> dict[str, Any]:
    """Return a model as XGBoost 1.3 wrote it, with trees of several depths."""
    learner = {
        "gradient_booster": {"name": "gbtree", "model": {"trees": [_tree(draws, dimension) for _ in range(trees)]}},
        "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": str(dimension)},
        "objective": {"name": "reg:squarederror"},
    }
    return {"learner": learner, "version": [1, 3, 3]}


def _tree(draws: np.random.Generator, dimension: int) -> dict[str, Any]:
    left, right, feature, condition = [-1], [-1], [0], [0.0]
    for node in range(draws.integers(1, 16)):
        if left[node] >= 0:
            continue
        left[node], right[node] = len(left), len(left) + 1
        feature[node], condition[node] = int(draws.integers(dimension)), float(np.float32(draws.random()))
        for side in (left, right):
            side += [-1, -1]
        feature += [0, 0]
        condition += [float(np.float32(value)) for value in 0.03 * draws.standard_normal(2)]
    return {
        "left_children": left,
        "right_children": right,
        "split_indices": feature,
        "split_conditions": condition,
        "default_left": [False] * len(left),
        "split_type": [0] * len(left),
        "categories": [],
    }


def predict(model: dict[str, Any], x: Any) -> float:
    """Return a model's answer, one node after the other."""
    total = 0.5
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        node = 0
        while tree["left_children"][node] >= 0:
            first = np.float32(x[tree["split_indices"][node]]) < np.float32(tree["split_conditions"][node])
            node = tree["left_children" if first else "right_children"][node]
        total += tree["split_conditions"][node]
    return total
