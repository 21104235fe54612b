"""OpenML's own experiments as task suites: runs of a flow, asked for by its API."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.fitting.runs import RunFitSettings
from hpo_gym.sources.runs import load_runs
from hpo_gym.sources.trainings import settings_of
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["NO_CHOICE", "load_openml"]

#: Hyperparameters that say how, and not what, is trained: they are only tuned when they are named.
NO_CHOICE = ("random_state", "seed", "n_jobs", "nthread", "num.threads", "verbose", "verbosity", "silent")


def load_openml(
    space: str | int | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    tasks: Sequence[int] | None = None,
    measures: Sequence[str] = ("predictive_accuracy",),
    minimize: Sequence[str] = (),
    hyperparameters: Sequence[str] | None = None,
    log: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    cost_metric: str | None = None,
    most_runs: int = 10_000,
    openml: Mapping[str, Any] | None = None,
    mode: str = "auto",
    settings: RunFitSettings | None = None,
    cache: bool = True,
) -> TaskSuite:
    """Make a suite of the runs of an OpenML flow, which are downloaded once and kept with their checksum.

    Args:
        space: Id of the flow, e.g. ``"6969"`` (scikit-learn's AdaBoost).
        metric: The optimised measure; ``None`` means the first of ``measures``.
        protocol: Split protocol, by the datasets of the tasks.
        data_dir: Not understood: nothing is read from a folder of the user's.
        tasks: Ids of tasks; ``None``: all that the flow was run on.
        measures: OpenML's names of evaluation measures, e.g. ``predictive_accuracy``,
            ``area_under_roc_curve``, ``usercpu_time_millis``. Runs that lack one are left out.
        hyperparameters: Which to tune, without the name of the flow (``max_depth``; of two components
            ``DecisionTreeClassifier.max_depth``); ``None``: all that vary but :data:`NO_CHOICE`.
        most_runs: Most runs for each measure and fifty tasks, at least 1.
        openml: Fields of :class:`hpo_gym.live.OpenMLSettings`: which server, and how it is asked.
        minimize, log, rename, ranges, cost_metric, mode, settings, cache: As for
            :func:`hpo_gym.sources.runs.load_runs`, with measures for metrics.

    Raises:
        DataMissingError: If there are no such runs, or the server cannot be reached.
        DataIntegrityError: If its answer, or what is kept of it, is damaged.
        UnknownNameError: For an unknown hyperparameter, measure, mode or setting.
        InvalidSettingError: If the flow is no number, or nothing is left to tune.
    """
    import pandas as pd

    from hpo_gym.live.openml_data import OpenMLSettings, about, fetched, server_cache

    if data_dir is not None:
        raise InvalidSettingError(
            f"data_dir={data_dir!r}: source='openml' keeps what it downloads in the cache, which HPO_GYM_CACHE names. "
            "Leave it out."
        )
    flow = _flow(space)
    require_integer("most_runs", most_runs, 1)
    for name, value in (("measures", measures), ("tasks", tasks), ("hyperparameters", hyperparameters)):
        if isinstance(value, str) or (value is not None and not list(value)):
            raise InvalidSettingError(f"{name}={value!r} must be a list with something in it, e.g. {name}=[{value!r}].")
    asked = settings_of(OpenMLSettings, "openml", openml)
    chosen = None if tasks is None else sorted({_task(each) for each in tasks})
    query = {"tasks": chosen, "measures": list(measures), "most": most_runs}
    folder = server_cache(asked) / "runs" / f"{flow}-{_digest(query)}"
    fetched("runs", flow, asked, folder, query)
    told = about(folder)
    path = folder / f"flow-{flow}.parquet"
    known = list(told["hyperparameters"])
    if hyperparameters is None:
        frame = pd.read_parquet(path, columns=known)
        hyperparameters = [
            name for name in known if frame[name].nunique() > 1 and name.rpartition(".")[2] not in NO_CHOICE
        ]
        if not hyperparameters:
            raise InvalidSettingError(
                f"No hyperparameter of OpenML flow {flow} ({told['flow_name']}) varies in its {told['runs']} runs: "
                "nothing to tune. Choose another flow, or other tasks."
            )
    require_names(f"hyperparameter of OpenML flow {flow}", hyperparameters, known)
    suite = load_runs(
        path,
        metric=metric,
        protocol=protocol,
        task_column="task_id",
        hyperparameters=hyperparameters,
        metrics=measures,
        minimize=minimize,
        ranges=ranges,
        cost_metric=cost_metric,
        log=log,
        rename=rename,
        task_kind="openml-task",
        mode=mode,
        settings=settings,
        cache=cache,
    )
    provenance = {**suite.spec.provenance, "server": asked.server, "flow": told["flow_name"], **query}
    suite.spec = dataclasses.replace(suite.spec, source="openml", provenance=provenance)
    return suite


def _flow(space: str | int | Path | None) -> int:
    text = "" if space is None else str(space)
    if not (text.isascii() and text.isdigit()):
        raise InvalidSettingError(
            f"source='openml' needs the id of a flow as its space, got {space!r}: for example space='6969'. For "
            "a table of your own use source='runs'."
        )
    return int(text)


def _task(identity: Any) -> int:
    if not str(identity).isdigit():
        raise InvalidSettingError(f"tasks must be ids of OpenML tasks, which are whole numbers; got {identity!r}.")
    return int(identity)


def _digest(query: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:16]
