"""An environment of anyone's evaluations: a table of runs as a task suite."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from hpo_gym.errors import DataMissingError, InvalidSettingError, require_names, unknown_name
from hpo_gym.fitting.runs import RunFitSettings, cross_validate, fit_runs
from hpo_gym.sources.bundle_files import read_kept, sha256, write_kept
from hpo_gym.sources.run_tables import RunTable, read_run_table
from hpo_gym.sources.slow_work import telling_progress
from hpo_gym.sources.store import cache_folder
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Metric, Surrogate
from hpo_gym.surrogates.fitted import FittedSurrogate
from hpo_gym.surrogates.table import TableSurrogate
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskKind, TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite
from hpo_gym.warned import warn_user

__all__ = ["MODES", "load_runs"]

#: How configurations that are not in the table are answered.
MODES = ("auto", "fit", "lookup")

_SEARCH = OptimumSearch(sobol=4_096, starts=4, rounds=2)


def load_runs(
    space: str | Path | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    task_column: str = "task_id",
    hyperparameters: Sequence[str] = (),
    metrics: Sequence[str] = (),
    minimize: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    cost_metric: str | None = None,
    log: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    task_kind: TaskKind = "custom",
    mode: str = "auto",
    settings: RunFitSettings | None = None,
    cache: bool = True,
) -> TaskSuite:
    """Make a suite of a CSV, Parquet or ARFF table with one row per evaluation.

    A configuration that a task has more than once has the mean of its rows: the answers are those of a function.
    ``suite.spec.provenance["rows_averaged"]`` counts the rows that repeat one.

    A fit takes about 15 s for 180 rows, 35 s for 1,000 and 2.5 minutes for 10,000 on one CPU thread, five sixths of it
    the cross-validation; stderr tells how long is left. It is done once: the result is kept in the cache.

    Args:
        space: Path of the table, absolute or below ``data_dir``.
        metric: The optimised metric; ``None`` means the first of ``metrics``.
        protocol: Split protocol (tasks of kind ``custom`` are split by position).
        data_dir: Folder that a relative path starts from.
        task_column: Column with the id of the task.
        hyperparameters: Columns of the search space; constant ones are dropped.
        metrics: Columns with results.
        minimize: Which metrics are better when smaller.
        ranges: Legal range of a metric; default: what the table holds.
        cost_metric: A metric that is the cost of an evaluation in seconds.
        log: Hyperparameters on a log scale, all of them; ``None`` infers which (positive, more than 2.5 decades).
        rename: New names of hyperparameters.
        task_kind: ``openml-task`` or ``openml-dataset`` where ``task_column`` holds such ids: their
            meta-features and published splits are then used.
        mode: ``fit`` (an ensemble of networks, with cross-validated quality in
            ``suite.spec.provenance["quality"]``), ``lookup`` (the nearest row of the task) or ``auto``: look-up
            where all tasks share their configurations, else a fit.
        settings: How the ensemble is fitted; ``None`` means ``RunFitSettings.for_rows`` of the number of rows.
        cache: Keep a fit in the cache folder; the key is the table's content and all settings.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If the table cannot be read.
        UnknownNameError: For an unknown column, metric or mode.
        InvalidSettingError: If nothing is left to tune, a column has two roles, a hyperparameter in ``log`` cannot
            have a log scale, or ids of tasks are not those of OpenML, contrary to ``task_kind``.
    """
    path = _table_path(space, data_dir)
    if not isinstance(task_column, str):
        raise InvalidSettingError(f"task_column={task_column!r} must be the name of one column.")
    _check_lists({"hyperparameters": hyperparameters, "metrics": metrics, "minimize": minimize, "log": log}, ranges)
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if not hyperparameters or not metrics:
        raise InvalidSettingError(
            "source='runs' needs task_column=..., hyperparameters=[...] and metrics=[...]: the columns of the table."
        )
    roles = [task_column, *hyperparameters, *metrics]
    doubled = sorted({name for name in roles if roles.count(name) > 1})
    if doubled:
        raise InvalidSettingError(f"Column(s) {', '.join(map(repr, doubled))} of {path.name} have more than one role.")
    require_names(
        "metric",
        (*minimize, *(ranges or {}), *([metric] if metric else []), *([cost_metric] if cost_metric else [])),
        metrics,
    )
    table = read_run_table(
        path, task_column=task_column, hyperparameters=hyperparameters, metrics=metrics, log=log, rename=rename
    )
    chosen = mode if mode != "auto" else ("lookup" if table.shared_grid else "fit")
    if settings is not None and not isinstance(settings, RunFitSettings):
        raise InvalidSettingError(f"settings={settings!r} must be a hpo_gym.fitting.runs.RunFitSettings, or None.")
    if settings is not None and chosen == "lookup":
        why = "rows of all tasks hold the same configurations" if mode == "auto" else "mode='lookup'"
        raise InvalidSettingError(
            f"settings={settings!r} has no effect: {why}, so that nothing is fitted. Leave it out, or set mode='fit'."
        )
    tasks = tuple(TaskRef(task_kind, identity) for identity in table.task_ids)
    _check_openml(tasks, task_column)
    declared = _metrics(table, minimize, ranges or {})
    main = metric or metrics[0]
    if ranges and main in ranges:
        _check_clipped(table, declared[table.metrics.index(main)])
    if chosen == "fit":
        settings = settings or RunFitSettings.for_rows(len(table.task))
        key = _key(path, roles, [main, minimize, ranges, log, rename], settings)
        surrogate, quality = _fit(path.name, table, declared, main, settings, key if cache else None)
    else:
        surrogate = TableSurrogate(table.spec, declared, table.task, table.u, table.values, len(tasks))
        quality = {"lookup": "exact" if table.shared_grid else "nearest"}
    provenance = {
        "table": path.name,
        "sha256": {path.name: sha256(path.read_bytes())},
        "mode": chosen,
        "rows": len(table.task),
        "rows_dropped": table.dropped,
        "rows_averaged": table.repeats,
        "constants": dict(table.constants),
        "quality": quality,
    }
    spec = SuiteSpec(path.stem, "runs", main, tasks, cost_metric, (), provenance)
    features = suite_meta_features(path.stem, protocol, tasks)
    suite = TaskSuite(spec, SearchSpace(table.spec), surrogate, features)
    suite.known_range = _table_range(suite, table) if chosen == "lookup" else find_known_range(suite, _SEARCH)
    return suite


def _table_path(space: str | Path | None, data_dir: str | None) -> Path:
    if space is None:
        raise InvalidSettingError("source='runs' needs the path of a table as its space: space='my_runs.csv'.")
    if not isinstance(space, str | Path):
        raise InvalidSettingError(f"space={space!r} must be the path of a table, e.g. 'my_runs.csv'.")
    path = Path(space)
    if data_dir is not None and not path.is_absolute():
        path = Path(data_dir) / path
    if not path.is_file():
        raise DataMissingError(f"There is no run table {path}. Give the path of a CSV, Parquet or ARFF file.")
    return path


def _check_openml(tasks: Sequence[TaskRef], task_column: str) -> None:
    for task in tasks:
        if task.kind.startswith("openml-") and not (task.id.isascii() and task.id.isdigit()):
            raise InvalidSettingError(
                f"task_kind={task.kind!r} says that column {task_column!r} holds ids of OpenML, which are whole "
                f"numbers, but it holds {task.id!r}. For names of your own leave it at task_kind='custom'."
            )


def _metrics(table: RunTable, minimize: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> tuple[Metric, ...]:
    declared = []
    for column, name in enumerate(table.metrics):
        low, high = float(table.values[:, column].min()), float(table.values[:, column].max())
        if name in ranges:
            low, high = _range(name, ranges[name])
        elif not low < high:
            what = "of every configuration, whose repeats are averaged" if table.repeats else "in every row"
            raise InvalidSettingError(f"Metric {name!r} is {low:g} {what}: nothing to optimise. Leave it out.")
        declared.append(Metric(name, name in minimize, low, high))
    return tuple(declared)


def _check_clipped(table: RunTable, metric: Metric) -> None:
    """Refuse a given range of a metric that makes all scores of a task equal, which its values are not."""
    values = table.values[:, table.metrics.index(metric.name)]
    for index, identity in enumerate(table.task_ids):
        mine = values[table.task == index]
        clipped = mine.clamp(metric.lower, metric.upper)
        if bool(mine.min() < mine.max()) and bool(clipped.min() == clipped.max()):
            low, high = float(values.min()), float(values.max())
            raise InvalidSettingError(
                f"ranges={{{metric.name!r}: {(metric.lower, metric.upper)!r}}} leaves one single score of task "
                f"{identity!r}: values are clipped to it, and those of the column lie in "
                f"[{low:g}, {high:g}]. Give a range that holds them, or leave it out."
            )


def _range(name: str, given: Any) -> tuple[float, float]:
    numbers = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(numbers) != 2 or not all(isinstance(number, Real) and math.isfinite(number) for number in numbers):
        raise InvalidSettingError(f"ranges={{{name!r}: {given!r}}}: a range is two finite numbers, e.g. (0.0, 1.0).")
    if not numbers[0] < numbers[1]:
        raise InvalidSettingError(f"ranges={{{name!r}: {given!r}}}: the first number must be less than the second.")
    return float(numbers[0]), float(numbers[1])


def _check_lists(given: Mapping[str, Any], ranges: Any) -> None:
    """Refuse a single name where names belong: its letters would be taken for them."""
    for name, value in given.items():
        if isinstance(value, str) or not isinstance(value, Sequence | type(None)):
            example = value if isinstance(value, str) else "a_column"
            raise InvalidSettingError(f"{name}={value!r} must be a list of columns: write {name}=[{example!r}].")
    if ranges is not None and not isinstance(ranges, Mapping):
        raise InvalidSettingError(
            f"ranges={ranges!r} must map metrics to two numbers, e.g. {{'accuracy': (0.0, 1.0)}}."
        )


def _table_range(suite: TaskSuite, table: RunTable) -> KnownRange:
    score = suite.to_score(table.values[:, suite.metric_column].clamp(suite.metric.lower, suite.metric.upper))
    worst, median, best, best_u = [], [], [], []
    for index in range(suite.num_tasks):
        mine, u = score[table.task == index], table.u[table.task == index]
        worst.append(mine.min())
        median.append(mine.median())
        best.append(mine.max())
        best_u.append(u[mine.argmax()])
    parts = [torch.stack(values) for values in (worst, median, best, best_u)]
    return KnownRange(parts[0], parts[1], parts[2], parts[3], "extremes and median of the rows of the table")


def _key(path: Path, roles: Sequence[str], more: Sequence[Any], settings: RunFitSettings) -> str:
    content = hashlib.sha256(path.read_bytes())
    described = [list(roles), list(more), asdict(settings)]
    content.update(json.dumps(described, default=str, sort_keys=True).encode())
    return content.hexdigest()[:32]


def _fit(
    name: str, table: RunTable, metrics: tuple[Metric, ...], main: str, settings: RunFitSettings, key: str | None
) -> tuple[Surrogate, dict[str, Any]]:
    """Return the fitted ensemble and its quality, from the cache where they are there."""
    folder = None if key is None else cache_folder() / "runs" / key
    kept = None if folder is None else read_kept("fit", folder)
    if kept is not None:
        header, tensors = kept
        return FittedSurrogate.from_state(table.spec, header["network"], tensors), header["quality"]
    column, stages = list(table.metrics).index(main), settings.folds + 1
    doing = f"fitting {settings.members} networks to {len(table.task)} rows of {name}, {settings.folds}-fold validated"
    with telling_progress(doing, "not kept: cache=False" if folder is None else f"kept in {folder}") as report:
        validated = cross_validate(
            table, metrics, settings, lambda share: report(share * settings.folds / stages), column
        )
        surrogate = fit_runs(table, metrics, settings, None, lambda share: report((settings.folds + share) / stages))
    quality = validated.summary()
    surrogate.round_to_half()
    if folder is not None:
        stored = {name: value if "quantiles" in name else value.half() for name, value in surrogate.tensors().items()}
        try:
            write_kept("fit", {"network": surrogate.header(), "quality": quality}, stored, folder)
        except OSError as error:
            warn_user(
                f"What was fitted to {name} cannot be kept ({error}), and is fitted again every time. Name a folder "
                "that can be written to with HPO_GYM_CACHE, or set cache=False."
            )
    return surrogate, quality
