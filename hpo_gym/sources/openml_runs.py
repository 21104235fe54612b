"""OpenML's own experiments as task suites: runs of a flow, asked for by its API."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.fingerprint import content_digest
from hpo_gym.fitting.runs import RunFitSettings
from hpo_gym.sources.runs import load_runs
from hpo_gym.sources.trainings import settings_of
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.warned import warn_user

__all__ = ["NO_CHOICE", "load_openml"]

#: Hyperparameters that say how, and not what, is trained: they are only tuned when they are named.
NO_CHOICE = ("random_state", "seed", "n_jobs", "nthread", "num.threads", "verbose", "verbosity", "silent")

_MEASURE = re.compile(r"[A-Za-z0-9_]+")

_NO_FLOW = (
    "source='openml' needs the id of a flow as its space, got {given!r}: for example space='6970'. For a table of "
    "your own use source='runs'."
)
_NO_TASK = "tasks must be ids of OpenML tasks, which are whole numbers; got {given!r}."

# Raised when what is kept of an answer changes.
_FORMAT = 1


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
    settings: RunFitSettings | Mapping[str, Any] | None = None,
    cache: bool = True,
) -> TaskSuite:
    """Make a suite of the runs of an OpenML flow, which are downloaded once and kept with their checksum.

    Tasks of the suite are datasets: of several OpenML tasks of one dataset the one with most runs is taken.

    Args:
        space: Id of the flow, e.g. ``"6970"`` (scikit-learn's AdaBoost).
        metric: The optimised measure; ``None`` means the first of ``measures``.
        protocol: Split protocol, by datasets.
        data_dir: Not understood: nothing is read from a folder of the user's.
        tasks: Ids of OpenML tasks; ``None``: all that the flow was run on, as far as ``most_runs`` goes.
        measures: OpenML's names of evaluation measures, e.g. ``predictive_accuracy``, ``area_under_roc_curve``. Runs
            that lack one are left out. Times in milliseconds (``usercpu_time_millis``) become seconds, and are called
            so in all other arguments (``usercpu_time_seconds``).
        hyperparameters: Which to tune, without the name of the flow (``max_depth``; of two components
            ``DecisionTreeClassifier.max_depth``); ``None``: all that vary but :data:`NO_CHOICE`.
        most_runs: Most runs that are asked for, at least 1: for every hundred of ``tasks``, or altogether without.
        openml: Fields of :class:`hpo_gym.live.OpenMLSettings`: which server, and how it is asked. The format of files
            does not matter here.
        settings: How a fit is made: a :class:`~hpo_gym.fitting.runs.RunFitSettings` or its fields by name.
        minimize, log, rename, ranges, cost_metric, mode, cache: As for :func:`hpo_gym.sources.runs.load_runs`, with
            measures for metrics.

    Raises:
        DataMissingError: If there are no such runs, or the server cannot be reached.
        DataIntegrityError: If its answer, or what is kept of it, is damaged.
        UnknownNameError: For an unknown hyperparameter, measure, mode or setting.
        InvalidSettingError: If the flow is no number, or nothing is left to tune.
    """
    import pandas as pd

    from hpo_gym.live.openml_data import OpenMLSettings, about, fetched, server_cache
    from hpo_gym.live.openml_runs_fetch import bare_name, in_seconds

    if data_dir is not None:
        raise InvalidSettingError(
            f"data_dir={data_dir!r}: source='openml' keeps what it downloads in the cache, which HPO_GYM_CACHE names. "
            "Leave it out."
        )
    flow = _identity(space, _NO_FLOW)
    require_integer("most_runs", most_runs, 1)
    asked = settings_of(OpenMLSettings, "openml", openml)
    fit = settings_of(RunFitSettings, "settings", settings) if isinstance(settings, Mapping) else settings
    chosen = None if tasks is None else sorted({_identity(each, _NO_TASK) for each in _list("tasks", tasks)})
    names = [in_seconds(name) for name in _measures(measures)]
    for name, given in (("metric", metric), ("cost_metric", cost_metric)):
        require_names(name, [] if given is None else [given], names)
    require_names("measure", (*minimize, *(ranges or ())), names)
    if hyperparameters is not None:
        hyperparameters = _list("hyperparameters", hyperparameters)
    query = {"tasks": chosen, "measures": list(measures), "most": most_runs}
    digest = content_digest([("format", _FORMAT), ("query", query)])[:16]
    folder = server_cache(asked) / "runs" / f"{flow}-{digest}"
    fetched("runs", flow, asked, folder, query)
    told = about(folder)
    path = folder / f"flow-{flow}.parquet"
    _tell_cut(flow, told)
    if hyperparameters is None:
        tuned = [short for short, full in told["hyperparameters"].items() if bare_name(full) not in NO_CHOICE]
        frame = pd.read_parquet(path, columns=tuned)
        hyperparameters = [name for name in tuned if frame[name].nunique() > 1]
        if not hyperparameters:
            raise InvalidSettingError(
                f"No hyperparameter of OpenML flow {flow} ({told['flow_name']}) varies in its {told['runs']} runs: "
                "nothing to tune. Choose another flow, or other tasks."
            )
    require_names(f"hyperparameter of OpenML flow {flow}", hyperparameters, told["hyperparameters"])
    suite = load_runs(
        path,
        metric=metric,
        protocol=protocol,
        task_column="data_id",
        hyperparameters=hyperparameters,
        metrics=names,
        minimize=minimize,
        ranges=ranges,
        cost_metric=cost_metric,
        log=log,
        rename=rename,
        task_kind="openml-dataset",
        mode=mode,
        settings=fit,
        cache=cache,
    )
    facts = {name: told[name] for name in ("listed", "cut", "left_out_tasks")}
    provenance = {**suite.spec.provenance, "server": asked.server, "flow": told["flow_name"], **query, **facts}
    provenance["openml_tasks"] = told["tasks"]
    suite.spec = dataclasses.replace(suite.spec, source="openml", provenance=provenance)
    return suite


def _list(name: str, given: Any) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InvalidSettingError(f"{name}={given!r} must be a list that holds something: write {name}=[...].")
    return list(given)


def _measures(given: Any) -> list[str]:
    names = _list("measures", given)
    for name in names:
        if not isinstance(name, str) or not _MEASURE.fullmatch(name) or names.count(name) > 1:
            raise InvalidSettingError(
                f"measures={names!r}: {name!r} must be one of OpenML's names of evaluation measures, such as "
                "'predictive_accuracy', and be named once."
            )
    return names


def _tell_cut(flow: int, told: Mapping[str, Any]) -> None:
    if told["cut"]:
        warn_user(
            f"OpenML has more runs of flow {flow} than most_runs={told['most']}: {told['listed']} were listed, of "
            f"{len(told['tasks'])} datasets. Name tasks=[...], or allow more with most_runs."
        )


def _identity(given: Any, message: str) -> int:
    """Return an id of OpenML, which is a whole number, or refuse it with a message."""
    text = str(given)
    if not (text.isascii() and text.isdigit()):
        raise InvalidSettingError(message.format(given=given))
    return int(text)
