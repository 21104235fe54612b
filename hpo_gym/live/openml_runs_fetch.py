"""Evaluations of a flow from an OpenML server as one table; called by :mod:`hpo_gym.live.openml_fetch`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.sources.bundle_files import sha256

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fetch_runs", "short_names"]

# Columns of the table besides measures and hyperparameters.
_COLUMNS = ("run_id", "task_id", "setup_id")

# Addresses have a limit; so many tasks are asked for at once.
_TASKS = 50

# ``full_name`` of a hyperparameter: flow, version in brackets, name.
_FULL_NAME = re.compile(r"(?P<flow>.*\(\d+\))_(?P<name>.+)", re.DOTALL)


def fetch_runs(flow: int, folder: Path, tasks: Sequence[int] | None, measures: Sequence[str], most: int) -> None:
    """Download evaluations with their hyperparameters; write ``flow-<id>.parquet`` and ``about.json``.

    Args:
        flow: Id of the flow.
        folder: Existing folder.
        tasks: Ids of tasks; ``None``: all that it was run on.
        measures: OpenML's names of evaluation measures; runs that lack one are left out.
        most: Most evaluations per measure and fifty tasks.

    Raises:
        DataMissingError: If there is no such run.
        DataIntegrityError: If a hyperparameter is called like another column.
    """
    import openml

    # Its overloads know no filters that are put together.
    client: Any = openml.evaluations
    pages = [None] if tasks is None else [list(tasks[first : first + _TASKS]) for first in range(0, len(tasks), _TASKS)]
    common = {"flows": [flow], "size": most}
    frame = _joined([client.list_evaluations_setups(measures[0], tasks=page, **common) for page in pages])
    for name in measures[1:]:
        common["output_format"] = "dataframe"
        values = _joined([client.list_evaluations(name, tasks=page, **common) for page in pages])
        if not values.empty and not frame.empty:
            values = values[["run_id", "value"]].rename(columns={"value": name})
            frame = frame.merge(values, on="run_id")
        else:
            frame = _joined([])
    if frame.empty:
        where = "any task" if tasks is None else f"{len(tasks)} task(s) such as {tasks[0]}"
        raise DataMissingError(
            f"There is no run of OpenML flow {flow} on {where} with {' and '.join(measures)}. Look for flows, "
            "tasks and measures at the server."
        )
    _write(flow, folder, frame.rename(columns={"value": measures[0]}), measures, most)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    # An empty page has no columns.
    held = [part for part in parts if len(part)]
    return pd.concat(held, ignore_index=True) if held else pd.DataFrame()


def _write(flow: int, folder: Path, frame: pd.DataFrame, measures: Sequence[str], most: int) -> None:
    import pandas as pd

    settings: list[Mapping[str, Any]] = [each if isinstance(each, Mapping) else {} for each in frame["parameters"]]
    names = short_names(sorted({name for each in settings for name in each}))
    taken = sorted({*_COLUMNS, *measures} & set(names.values()))
    if taken:
        raise DataIntegrityError(
            f"Hyperparameters of OpenML flow {flow} are called {', '.join(taken)}, as other columns."
        )
    columns: dict[str, Any] = {name: frame[name] for name in (*_COLUMNS, *measures)}
    columns |= {short: [_text(each.get(name)) for each in settings] for name, short in names.items()}
    path = folder / f"flow-{flow}.parquet"
    pd.DataFrame(columns).to_parquet(path, index=False)
    told = {
        "flow": flow,
        "flow_name": str(frame["flow_name"].iloc[0]),
        "measures": list(measures),
        "most": most,
        "runs": len(frame),
        "tasks": len(set(frame["task_id"])),
        "hyperparameters": {short: name for name, short in names.items()},
        "sha256": {path.name: sha256(path.read_bytes())},
    }
    (folder / "about.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def short_names(full_names: Sequence[str]) -> dict[str, str]:
    """Return the name of every hyperparameter without its flow, with the component where two are called alike.

    Args:
        full_names: As OpenML has them, e.g. ``sklearn.tree.tree.DecisionTreeClassifier(5)_max_depth``.
    """
    parts = {}
    for full in full_names:
        match = _FULL_NAME.fullmatch(full)
        parts[full] = ("", full) if match is None else (match["flow"], match["name"])
    short = [name for _, name in parts.values()]
    chosen = {
        full: name if short.count(name) == 1 else f"{_component(flow)}.{name}" for full, (flow, name) in parts.items()
    }
    twice = list(chosen.values())
    return {full: name if twice.count(name) == 1 else full for full, name in chosen.items()}


def _component(flow: str) -> str:
    """Return the class of a flow: what follows the last dot before its arguments and its version."""
    return flow.partition("(")[0].rpartition(".")[2]


def _text(value: Any) -> str | None:
    """Return the value of a hyperparameter: scikit-learn's are JSON, those of other packages plain text."""
    if value is None or value != value:
        return None
    try:
        decoded = json.loads(value)
    except (TypeError, ValueError):
        return str(value)
    # None is a choice of its own, and no missing cell.
    return decoded if isinstance(decoded, str) else str(decoded)
