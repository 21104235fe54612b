"""The two embedded spaces that are fitted to genuine OpenML runs, and what those runs say of plausibility."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hpo_gym.fitting.build import SEARCH, pack
from hpo_gym.fitting.recipes import RUN_RECIPES, RunRecipe
from hpo_gym.fitting.runs import cross_validate, fit_runs
from hpo_gym.fitting.screen import screen_runs
from hpo_gym.sources.run_tables import RunTable, read_run_table
from hpo_gym.sources.store import find_file
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Metric
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import SuiteSpec, TaskSuite

__all__ = ["build_from_runs", "genuine_best", "read_runs"]


def read_runs(recipe: RunRecipe, data_dir: str | None = None) -> RunTable:
    """Return the genuine runs that a space is fitted to.

    Args:
        recipe: Of the space.
        data_dir: Folder of the originals.

    Raises:
        DataMissingError: If the run table is not there.
    """
    return read_run_table(
        find_file(f"openml_runs/{recipe.file}", data_dir),
        task_column="task_id",
        hyperparameters=list(recipe.rename),
        metrics=[recipe.metric],
        log=recipe.log,
        rename=recipe.rename,
    )


def genuine_best(data_dir: str | None = None) -> dict[str, float]:
    """Return the best accuracy that any genuine run reached, by dataset key.

    Args:
        data_dir: Folder of the originals.

    Raises:
        DataMissingError: If the run tables are not there.
    """
    best: dict[str, float] = {}
    for recipe in RUN_RECIPES:
        table = read_runs(recipe, data_dir)
        for index, identity in enumerate(table.task_ids):
            key = dataset_key(TaskRef("openml-task", identity))
            reached = float(table.values[table.task == index, 0].max())
            best[key] = max(best.get(key, 0.0), reached)
    return best


def build_from_runs(
    recipe: RunRecipe,
    output: Path,
    data_dir: str | None,
    report: Callable[[str, float], None],
    search: OptimumSearch = SEARCH,
) -> dict[str, Any]:
    """Fit, cross-validate and write one space; return its quality summary.

    Saturated tasks are left out (:func:`~hpo_gym.fitting.screen.screen_runs`). The quantile maps of the fit end at
    the best run that was observed, so that no configuration is promised more than a genuine run reached.
    """
    everything = read_runs(recipe, data_dir)
    excluded = screen_runs(everything)
    table = everything.subset([index for index in range(len(everything.task_ids)) if index not in excluded])
    metrics = (Metric(recipe.metric, minimize=False, lower=0.0, upper=1.0),)
    quality = cross_validate(table, metrics, recipe.settings, lambda share: report("cross-validation", share))
    surrogate = fit_runs(table, metrics, recipe.settings, progress=lambda share: report("fit", share))
    surrogate.round_to_half()
    tasks = tuple(TaskRef("openml-task", identity) for identity in table.task_ids)
    provenance = {
        "fitted_to": f"{len(table.task)} genuine OpenML runs, flow {recipe.flow}",
        "collection": "janvanrijn/openml-pimp",
        "licence": "BSD-3-Clause",
        "settings": dataclasses.asdict(recipe.settings),
        "fixed": dict(table.constants),
        "torch": torch.__version__.split("+")[0],
    }
    spec = SuiteSpec(recipe.space, "bundled", recipe.metric, tasks, provenance=provenance)
    features = suite_meta_features(recipe.space, "dataset-disjoint", tasks)
    suite = TaskSuite(spec, SearchSpace(table.spec), surrogate, features)
    suite.known_range = find_known_range(suite, search, lambda _, share: report("optimum of the fit", share))
    left_out = list(excluded.values())
    size = pack(
        suite, "fitted", surrogate.tensors(), surrogate.header(), provenance, left_out, quality.to_json(), output
    )
    return {"summary": quality.summary(), "excluded": left_out, "bytes": size}
