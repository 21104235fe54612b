"""``python -m hpo_gym.live.openml_fetch``: a dataset, a task or runs from an OpenML server to a folder, by its client.

A process of its own, started by :mod:`hpo_gym.live.openml_data`: the client waits without a limit for an answer, keeps
its settings in module globals, and pickles what it downloads. Here it can be stopped, nobody else shares its settings,
and its cache is a folder that is thrown away. What stays are Parquet files and JSON.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from hpo_gym.errors import DataError, DataIntegrityError, DataMissingError
from hpo_gym.live.openml_runs_fetch import fetch_runs
from hpo_gym.sources.bundle_files import sha256

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ANSWER", "FetchKind", "fetch", "main", "spoken"]

FetchKind = Literal["dataset", "task", "runs"]

#: First word of the line of standard output that says what went wrong.
ANSWER = "hpo_gym-openml-answer"

# A sparse table of more cells would not fit into memory as a dense one (1 GB).
_MOST_CELLS = 125_000_000
_RETRY = "Nothing was kept; try again later."


def spoken(kind: FetchKind, identity: int) -> str:
    """Return how messages call what is downloaded."""
    return f"OpenML runs of flow {identity}" if kind == "runs" else f"OpenML {kind} {identity}"


def fetch(
    kind: FetchKind,
    identity: int,
    folder: Path,
    server: str,
    retries: int,
    file_format: str,
    query: Mapping[str, Any] | None = None,
) -> None:
    """Download with the real client, check, and write ``data.parquet``, ``splits.parquet`` (tasks) and ``about.json``.

    Changes the settings of the ``openml`` module: for a process that does nothing else with it.

    Args:
        kind: ``dataset``, ``task``, or ``runs``: evaluations of a flow.
        identity: Its id; of ``runs`` the flow's.
        folder: Existing, empty folder to write to.
        server: Address of the XML interface, e.g. ``https://www.openml.org/api/v1/xml``.
        retries: How often a request is made before it is given up, at least 1.
        file_format: ``arff`` (its MD5 is published and checked) or ``parquet`` (no checksum is published; the client
            falls back to ARFF where there is none).
        query: Of ``runs``: arguments of :func:`hpo_gym.live.openml_runs_fetch.fetch_runs`.

    Raises:
        DataMissingError: If the server has nothing of that id, or does not answer.
        DataIntegrityError: If what it answers cannot be used.
    """
    import openml

    # Within the folder, so that whoever ends this process finds it, too.
    with tempfile.TemporaryDirectory(prefix=".client_", dir=folder) as cache:
        # Read at every download; a fallback to the object store would hide a wrong ARFF file.
        os.environ[openml.config.OPENML_SKIP_PARQUET_ENV_VAR] = str(file_format == "arff")
        openml.config.server = server
        openml.config.set_root_cache_directory(cache)
        openml.config.set_retry_policy("human", retries)
        try:
            if kind == "runs":
                fetch_runs(identity, folder, **(query or {}))
            elif kind == "task":
                _fetch_task(identity, folder)
            else:
                dataset = openml.datasets.get_dataset(identity, download_data=True)
                _write(folder, dataset, _frame(dataset), {"target": dataset.default_target_attribute})
        except DataError:
            raise
        except Exception as error:
            raise _translated(error, f"{spoken(kind, identity)} at {server}") from error


def _translated(error: Exception, what: str) -> DataError:
    """Return the client's exceptions, and those of the parsers that it leaves to themselves, as one of ours."""
    import requests
    import urllib3
    from openml import exceptions

    # The client wraps what a reader of Parquet says in a bare exception with the name of its temporary file.
    cause = error.__cause__ if type(error) is Exception and error.__cause__ is not None else error
    said = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    if isinstance(error, exceptions.OpenMLServerException):
        return DataMissingError(f"{what} is not to be had ({said}). Check the id.")
    if isinstance(error, exceptions.OpenMLHashException):
        return DataIntegrityError(f"{what} arrived damaged ({said}). {_RETRY}")
    if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.ProtocolError):
        return DataIntegrityError(f"{what} broke off on its way ({said}). {_RETRY}")
    status = re.search(r"Status code: (\d+)", str(error))
    if isinstance(error, exceptions.OpenMLServerError) and status:
        return DataMissingError(f"{what} cannot be downloaded: the server answered {status[1]}. {_RETRY}")
    if isinstance(error, requests.RequestException):
        return DataMissingError(f"{what} cannot be downloaded ({said}). Check the connection. {_RETRY}")
    return DataIntegrityError(f"{what} has an answer that cannot be read ({said}). {_RETRY}")


def _fetch_task(identity: int, folder: Path) -> None:
    import openml
    import pandas as pd

    task: Any = openml.tasks.get_task(identity, download_splits=True, download_data=True)
    kinds = {
        openml.tasks.TaskType.SUPERVISED_CLASSIFICATION: "classification",
        openml.tasks.TaskType.SUPERVISED_REGRESSION: "regression",
    }
    if task.task_type_id not in kinds:
        raise DataIntegrityError(
            f"OpenML task {identity} is a task of {task.task_type}, which cannot be trained on: choose one of "
            "supervised classification or regression."
        )
    dataset = task.get_dataset()
    frame = _frame(dataset)
    splits = _splits(task, len(frame))
    pd.DataFrame({f"repeat{index}": row for index, row in enumerate(splits)}).to_parquet(folder / "splits.parquet")
    procedure = task.estimation_procedure
    about = {
        "target": task.target_name,
        "task": kinds[task.task_type_id],
        "estimation_procedure": procedure["type"],
        "splits_url": procedure["data_splits_url"],
    }
    _write(folder, dataset, frame, about)


def _splits(task: Any, rows: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return in which fold each row is a test row, int16 ``[R, n]``; -1 where it is in none."""
    repeats, folds, samples = task.get_split_dimensions()
    if samples != 1:
        raise DataIntegrityError(f"OpenML task {task.task_id} has {samples} samples per fold: a learning curve.")
    found = np.full((repeats, rows), -1, dtype=np.int16)
    for repeat in range(repeats):
        for fold in range(folds):
            train, test = task.get_train_test_split_indices(repeat=repeat, fold=fold)
            counted = np.bincount(np.concatenate([train, test]), minlength=rows)
            # No checksum of a file of splits is published; but it must name every row once in every fold.
            if len(counted) != rows or (counted != 1).any() or (found[repeat, test] != -1).any():
                raise DataIntegrityError(
                    f"The splits of OpenML task {task.task_id} do not partition the {rows} rows of its dataset in fold "
                    f"{fold} of repetition {repeat}: the file is damaged, or is no cross-validation or holdout."
                )
            found[repeat, test] = fold
    return found


def _frame(dataset: Any) -> pd.DataFrame:
    frame, _, _, _ = dataset.get_data(dataset_format="dataframe")
    if any(str(dtype).startswith("Sparse") for dtype in frame.dtypes):
        if frame.size > _MOST_CELLS:
            raise DataIntegrityError(
                f"OpenML dataset {dataset.dataset_id} is sparse, {frame.shape[0]} x {frame.shape[1]}: too large as a "
                "dense table."
            )
        frame = frame.sparse.to_dense()
    return frame


def _write(folder: Path, dataset: Any, frame: pd.DataFrame, more: dict[str, Any]) -> None:
    import pandas as pd

    columns, stored = [], {}
    for name in frame.columns:
        column = frame[name]
        kind, levels = "text", []
        if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column.dtype):
            column = column.astype("category")
            kind, levels = "nominal", [str(level) for level in column.cat.categories]
            column = column.cat.rename_categories(levels).astype(object)
        elif pd.api.types.is_numeric_dtype(column.dtype):
            kind = "numeric"
        else:
            column = column.astype(object).where(column.isna(), column.astype(str))
        columns.append({"name": str(name), "kind": kind, "levels": levels})
        stored[str(name)] = column
    pd.DataFrame(stored).to_parquet(folder / "data.parquet")
    about = {
        "name": dataset.name,
        "dataset": dataset.dataset_id,
        "version": dataset.version,
        "licence": dataset.licence,
        "upload_date": dataset.upload_date,
        "url": dataset.url,
        "md5_of_arff": dataset.md5_checksum,
        "columns": columns,
        **more,
    }
    about["sha256"] = {path.name: sha256(path.read_bytes()) for path in sorted(folder.glob("*.parquet"))}
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after a line on standard output that says what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.live.openml_fetch")
    parser.add_argument("kind", choices=get_args(FetchKind))
    parser.add_argument("identity", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", required=True)
    parser.add_argument("--retries", type=int, default=3)
    parser.add_argument("--format", choices=("arff", "parquet"), default="arff", dest="file_format")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so many; 0: never")
    parser.add_argument("--query", type=json.loads, default={}, help="what else is asked for, as JSON")
    options = parser.parse_args(arguments)
    if options.seconds:
        # Whoever waits for this process may be killed, and then nobody else would end it.
        faulthandler.dump_traceback_later(options.seconds, exit=True)
    try:
        where = (options.folder, options.server, options.retries, options.file_format)
        fetch(options.kind, options.identity, *where, options.query)
    except DataError as error:
        print(ANSWER, json.dumps({"kind": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
