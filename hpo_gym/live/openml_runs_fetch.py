"""Evaluations of a flow from an OpenML server as one table; called by :mod:`hpo_gym.live.openml_fetch`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.sources.bundle_files import sha256
from hpo_gym.sources.run_tables import MISSING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bare_name", "fetch_runs", "in_seconds", "short_names"]

# Columns of the table besides measures and hyperparameters.
_COLUMNS = ("run_id", "task_id", "data_id", "setup_id")

# Addresses have a limit: so many ids are asked for at once, and so many evaluations are answered.
_IDS, _PAGE = 100, 10_000

# ``full_name`` of a hyperparameter: flow, version in brackets, name.
_FULL_NAME = re.compile(r"(?P<flow>.*\(\d+\))_(?P<name>.+)", re.DOTALL)
_MILLIS, _SECONDS = "_millis", "_seconds"


def in_seconds(measure: str) -> str:
    """Return what a measure is called here: OpenML's milliseconds (``*_millis``) become seconds (``*_seconds``)."""
    return measure.removesuffix(_MILLIS) + _SECONDS if measure.endswith(_MILLIS) else measure


def fetch_runs(flow: int, folder: Path, tasks: Sequence[int] | None, measures: Sequence[str], most: int) -> None:
    """Download evaluations with their hyperparameters; write ``flow-<id>.parquet`` and ``about.json``.

    Of several tasks of one dataset (other splits, other targets) the one with most runs stays.

    Args:
        flow: Id of the flow.
        folder: Existing folder.
        tasks: Ids of tasks; ``None``: all that it was run on.
        measures: OpenML's names of evaluation measures; runs that lack one are left out.
        most: Most evaluations that are listed for every hundred tasks, or for all together where none are named.

    Raises:
        DataMissingError: If there is no such run.
        DataIntegrityError: If a hyperparameter is called like another column.
    """
    filters = [{"flows": [flow], "tasks": page} for page in _pages(tasks)]
    frame = _joined([_listed(measures[0], most, **each) for each in filters])
    listed, cut = len(frame), any(_page(measures[0], 1, most, **each).shape[0] for each in filters)
    values = {measures[0]: frame}
    # What was run is known from now on: no other limit cuts off other runs.
    values |= {
        name: _joined([_listed(name, _PAGE, runs=ids) for ids in _pages(frame["run_id"])]) for name in measures[1:]
    }
    for name, found in values.items():
        measured = found.set_index("run_id")["value"].astype(float) * (1e-3 if name.endswith(_MILLIS) else 1.0)
        frame = frame.assign(**{in_seconds(name): frame["run_id"].map(measured)}).dropna(subset=[in_seconds(name)])
    if frame.empty:
        where = "any task" if tasks is None else f"{len(tasks)} task(s) such as {tasks[0]}"
        raise DataMissingError(
            f"There is no run of OpenML flow {flow} on {where} with {' and '.join(measures)}. Look for flows, "
            "tasks and measures at the server."
        )
    chosen = frame.groupby(["data_id", "task_id"]).size().sort_values(ascending=False, kind="stable").reset_index()
    kept = set(chosen.drop_duplicates("data_id")["task_id"])
    left = sorted(set(frame["task_id"]) - kept)
    # No order is promised; sorted, the same runs are the same table.
    table = frame[frame["task_id"].isin(kept)].sort_values(["data_id", "run_id"], ignore_index=True)
    told = {"most": most, "cut": cut, "listed": listed, "left_out_tasks": [int(task) for task in left]}
    _write(flow, folder, table, [in_seconds(name) for name in measures], told)


def _pages(ids: Sequence[int] | None) -> list[list[int] | None]:
    if ids is None:
        return [None]
    plain = [int(each) for each in ids]
    return [plain[first : first + _IDS] for first in range(0, len(plain), _IDS)]


def _listed(measure: str, most: int, **filters: Any) -> pd.DataFrame:
    """Return evaluations, one row for each run, of which the server may list some twice."""
    # The client's own loop ends at the first page that is not full, which a run that is listed twice makes it.
    pages: list[pd.DataFrame] = []
    for offset in range(0, most, _PAGE):
        page = _page(measure, min(_PAGE, most - offset), offset, **filters)
        if page.empty:
            break
        pages.append(page)
    return _joined(pages)


def _page(measure: str, size: int, offset: int, **filters: Any) -> pd.DataFrame:
    import openml

    # Its overloads know no filters that are put together.
    client: Any = openml.evaluations
    page: pd.DataFrame = client.list_evaluations(
        measure, size=size, offset=offset, output_format="dataframe", **filters
    )
    return page


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    # An empty page has no columns.
    held = [part for part in parts if len(part)] or [pd.DataFrame(columns=[*_COLUMNS, "value"])]
    return pd.concat(held, ignore_index=True).drop_duplicates("run_id", ignore_index=True)


def _settings(setups: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the hyperparameters of every setup by their full names."""
    import openml

    client: Any = openml.setups
    found: dict[int, dict[str, Any]] = {}
    for ids in _pages(setups):
        page = client.list_setups(setup=ids, output_format="dataframe")
        for setup, parameters in zip(page["setup_id"], page["parameters"], strict=True):
            given = parameters.values() if isinstance(parameters, Mapping) else ()
            found[int(setup)] = {each["full_name"]: each["value"] for each in given}
    return found


def _write(flow: int, folder: Path, frame: pd.DataFrame, measures: Sequence[str], told: Mapping[str, Any]) -> None:
    import pandas as pd

    known = _settings(sorted(set(frame["setup_id"])))
    settings = [known.get(int(setup), {}) for setup in frame["setup_id"]]
    names = short_names(sorted({name for each in settings for name in each}))
    taken = sorted({*_COLUMNS, *measures} & set(names.values()))
    if taken:
        raise DataIntegrityError(
            f"Hyperparameters of OpenML flow {flow} are called {', '.join(taken)}, as other columns."
        )
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in (*_COLUMNS, *measures)}
    columns |= {short: [_text(each, name) for each in settings] for name, short in names.items()}
    path = folder / f"flow-{flow}.parquet"
    pd.DataFrame(columns).to_parquet(path, index=False)
    about = {
        "flow": flow,
        "flow_name": str(frame["flow_name"].iloc[0]),
        "runs": len(frame),
        "tasks": {str(data): int(task) for data, task in zip(frame["data_id"], frame["task_id"], strict=True)},
        "hyperparameters": {short: name for name, short in names.items()},
        **told,
        "sha256": {path.name: sha256(path.read_bytes())},
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def bare_name(full_name: str) -> str:
    """Return the name of a hyperparameter without its flow."""
    match = _FULL_NAME.fullmatch(full_name)
    return full_name if match is None else match["name"]


def short_names(full_names: Sequence[str]) -> dict[str, str]:
    """Return the name of every hyperparameter without its flow, with the component where two are called alike.

    Args:
        full_names: As OpenML has them, e.g. ``sklearn.tree.tree.DecisionTreeClassifier(5)_max_depth``.
    """
    bare = {full: bare_name(full) for full in full_names}
    short = list(bare.values())
    chosen = {full: name if short.count(name) == 1 else f"{_component(full)}.{name}" for full, name in bare.items()}
    named = list(chosen.values())
    return {full: name if named.count(name) == 1 else full for full, name in chosen.items()}


def _component(full_name: str) -> str:
    """Return the class of a flow: what follows the last dot before its arguments and its version."""
    return full_name.partition("(")[0].rpartition(".")[2]


def _text(settings: Mapping[str, Any], name: str) -> str | None:
    """Return the value of a hyperparameter: scikit-learn's are JSON, those of other packages plain text."""
    if name not in settings:
        return None
    value = settings[name] if isinstance(settings[name], str) else ""
    try:
        decoded = json.loads(value)
    except ValueError:
        decoded = value
    text = decoded if isinstance(decoded, str) else str(decoded)
    # None is a choice of its own, and so is what a table takes for a missing cell.
    return f"'{text}'" if text in MISSING else text
