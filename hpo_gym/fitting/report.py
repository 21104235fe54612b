"""``python -m hpo_gym.fitting.report README.md docs/data.md``: write the bundle's figures into documents.

Between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` everything is replaced by the table ``NAME`` (one of
:data:`TABLES`), made from the headers of the bundle and the published splits. With ``--check`` nothing is written,
and the exit status is 1 where a document is not up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpo_gym.documents import fill_files, markdown_table
from hpo_gym.sources.bundle_files import BUNDLE_FOLDER, bundled_spaces, read_bundle
from hpo_gym.spaces import SpaceSpec
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import PROTOCOLS, side_of

__all__ = ["TABLES", "main"]

_MODELS = {
    "rpart": "decision tree (R rpart)",
    "xgboost": "gradient boosting (XGBoost, tree booster)",
    "ranger": "random forest (R ranger)",
    "lcbench": "neural network (Auto-PyTorch)",
    "adaboost": "AdaBoost (scikit-learn)",
    "random_forest": "random forest (scikit-learn)",
}


def _headers() -> dict[str, dict[str, Any]]:
    order = list(_MODELS)
    spaces = sorted(bundled_spaces(), key=lambda name: (order.index(name) if name in order else len(order), name))
    return {space: read_bundle(space)[0] for space in spaces}


def overview() -> str:
    """Return what there is to tune: model, datasets, hyperparameters, origin."""
    rows = []
    for space, header in _headers().items():
        names = [column.name for column in SpaceSpec.from_json(header["space"]).columns]
        fidelity = header["network"].get("fidelity")
        extra = f" + fidelity `{fidelity['name']}`" if fidelity else ""
        origin = header["provenance"]["fitted_to"]
        rows.append((f"`{space}`", _MODELS[space], len(header["tasks"]), f"{len(names)}{extra}", origin))
    return markdown_table(("space", "model", "datasets", "hyperparameters", "fitted to"), rows)


def fidelity() -> str:
    """Return how faithful the spaces fitted to YAHPO's surrogates are."""
    rows = []
    for space, header in _headers().items():
        if header["kind"] != "compact":
            continue
        found = header["quality"]["summary"]
        size = sum((BUNDLE_FOLDER / f"{space}.{ending}").stat().st_size for ending in ("json", "safetensors"))
        rows.append(
            (
                f"`{space}`",
                len(header["tasks"]),
                f"{found['spearman_median']:.4f}",
                f"{found['spearman_p5']:.4f}",
                f"{found['spearman_min']:.4f}",
                f"{found['cost_spearman_median']:.4f}" if "cost_spearman_median" in found else "-",
                f"{found['regret_range_median']:.4f}",
                f"{found['regret_range_p95']:.4f}",
                f"{size / 1e3:.0f} kB",
            )
        )
    head = ("space", "tasks", "Spearman median", "5th percentile", "minimum", "training time: Spearman median")
    return markdown_table((*head, "regret of the best: median", "95th percentile", "size"), rows)


def runs() -> str:
    """Return how well the spaces fitted to genuine runs predict runs they have not seen."""
    rows = []
    for space, header in _headers().items():
        if header["kind"] != "fitted":
            continue
        found = header["quality"]["summary"]
        keys = ("cv_spearman_median", "cv_spearman_p5", "cv_r2_median", "cv_r2_p5")
        rows.append((f"`{space}`", len(header["tasks"]), *(f"{found[key]:.3f}" for key in keys)))
    head = ("space", "tasks", "Spearman median", "Spearman 5th percentile", "R2 median", "R2 5th percentile")
    return markdown_table(head, rows)


def exclusions() -> str:
    """Return the tasks that are left out, and why."""
    rows = []
    for space, header in _headers().items():
        for item in header["excluded"]:
            rows.append((f"`{space}`", item["task"], item["rule"], item["reason"]))
    return markdown_table(("space", "task", "rule", "figures"), rows)


def splits() -> str:
    """Return how many tasks of every space are for training, validation and testing."""
    rows = []
    for space, header in _headers().items():
        tasks = [TaskRef.parse(text) for text in header["tasks"]]
        cells = []
        for protocol in PROTOCOLS:
            sides = Counter(side_of(space, protocol, task, index) for index, task in enumerate(tasks))
            cells.append(" / ".join(str(sides[side]) for side in ("train", "val", "test")))
        rows.append((f"`{space}`", *cells))
    return markdown_table(("space", *(f"{protocol}: train / val / test" for protocol in PROTOCOLS)), rows)


TABLES: dict[str, Callable[[], str]] = {
    "bundle": overview,
    "fidelity": fidelity,
    "runs": runs,
    "exclusions": exclusions,
    "splits": splits,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.fitting.report", description=__doc__)
    parser.add_argument("documents", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a document is out of date")
    options = parser.parse_args(arguments)
    return fill_files(options.documents, TABLES, options.check)


if __name__ == "__main__":
    sys.exit(main())
