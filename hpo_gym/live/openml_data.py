"""Datasets and tasks of an OpenML server, downloaded once and kept with their checksums."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlparse

import numpy as np

from hpo_gym.errors import (
    DataError,
    DataIntegrityError,
    DataMissingError,
    InvalidSettingError,
    require_integer,
    unknown_name,
)
from hpo_gym.live.frames import TaskChoice, split_target, table_from_frame
from hpo_gym.live.libraries import require_library
from hpo_gym.live.openml_fetch import ANSWER, FetchKind, spoken
from hpo_gym.live.table import Table
from hpo_gym.sources.pinned import PinnedFile
from hpo_gym.sources.store import cache_folder
from hpo_gym.sources.temporaries import discard, one_writer, remove_stale, temporary_path

__all__ = [
    "OPENML_SERVER",
    "OpenMLSettings",
    "about",
    "download_openml",
    "failure",
    "fetched",
    "openml_table",
    "server_cache",
]

#: The public server.
OPENML_SERVER = "https://www.openml.org/api/v1/xml"

# Seconds after which a download ends itself, should nobody have ended it.
_GRACE = 10.0

OpenMLKind = Literal["dataset", "task"]
FileFormat = Literal["arff", "parquet"]

_ERRORS: dict[str, type[DataError]] = {error.__name__: error for error in (DataMissingError, DataIntegrityError)}


@dataclass(frozen=True)
class OpenMLSettings:
    """How an OpenML server is asked.

    Args:
        server: Address of its XML interface.
        timeout: Seconds that a download may take altogether; the client itself waits for ever.
        retries: How often a request is made before it is given up, at least 1.
        file_format: ``arff``, whose checksum the server publishes, or ``parquet``: several times faster for tables of
            more than 100 MB, but nothing to check it against.

    Raises:
        InvalidSettingError: If a value is out of its range.
        UnknownNameError: For an unknown file format.
    """

    server: str = OPENML_SERVER
    timeout: float = 600.0
    retries: int = 3
    file_format: FileFormat = "arff"

    def __post_init__(self) -> None:
        address = urlparse(self.server)
        if address.scheme not in ("http", "https") or not address.netloc or "/api/" not in self.server:
            raise InvalidSettingError(
                f"server={self.server!r} is no address of OpenML's XML interface; it looks like {OPENML_SERVER}."
            )
        if not self.timeout > 0:
            raise InvalidSettingError(f"timeout={self.timeout!r} must be a number of seconds above 0, e.g. 600.")
        require_integer("retries", self.retries, 1)
        if self.file_format not in get_args(FileFormat):
            raise unknown_name("file format", self.file_format, get_args(FileFormat))


def openml_table(
    kind: OpenMLKind,
    identity: int,
    settings: OpenMLSettings,
    *,
    target: str | None = None,
    task: TaskChoice = "auto",
    drop: Sequence[str] = (),
) -> Table:
    """Return a dataset or a task, from the cache where it is there.

    Text columns are left out (they count in the qualities, as on OpenML), and so are columns that the server marks as
    row identifiers or to be ignored.

    Args:
        kind: ``dataset``, or ``task``: a dataset with a target and official splits.
        identity: Its id.
        settings: Which server, and how it is asked.
        target: Target column; ``None``: the task's, or the dataset's default.
        task: What is learned; ``auto``: as the task or the kind of the target says.
        drop: Columns that are no features.

    Raises:
        DataMissingError: If it is neither in the cache nor to be had.
        DataIntegrityError: If the answer, or the cache, is damaged.
        UnknownNameError: If there is no column of that name.
        InvalidSettingError: If the dataset has no default target and none is given, or is of no use.
    """
    import pandas as pd

    folder = download_openml(kind, identity, settings)
    told_of = about(folder)
    frame = pd.read_parquet(folder / "data.parquet")
    for column in told_of["columns"]:
        name = column["name"]
        if column["kind"] == "nominal":
            frame[name] = pd.Categorical(frame[name], categories=column["levels"])
    target = target or told_of["target"]
    if not target:
        raise InvalidSettingError(f"OpenML dataset {identity} declares no default target: name one with target=...")
    splits = folder / "splits.parquet"
    folds = np.ascontiguousarray(pd.read_parquet(splits).to_numpy(dtype=np.int16).T) if splits.exists() else None
    name = f"OpenML {kind} {identity} ({told_of['name']})"
    features, values = split_target(frame, target, drop, name)
    if task == "auto":
        numeric = pd.api.types.is_numeric_dtype(values.dtype)
        task = told_of.get("task") or ("regression" if numeric else "classification")
    told = {"server": settings.server, "kind": kind, "id": identity}
    told |= {key: told_of.get(key) for key in ("name", "dataset", "version", "licence", "md5_of_arff", "sha256")}
    return table_from_frame(name, features, values, task=task, text="drop", folds=folds, provenance=told)


def download_openml(kind: OpenMLKind, identity: int, settings: OpenMLSettings) -> Path:
    """Download a dataset or task unless it is in the cache; return its folder, whose files are checked.

    Raises:
        DataMissingError: If the server has nothing of that id, does not answer in time, or is not to be reached.
        DataIntegrityError: If what it answers cannot be used, or the cached files were changed.
        InvalidSettingError: If the package ``openml`` is not installed.
    """
    folder = server_cache(settings) / f"{kind}s" / str(identity)
    return fetched(kind, identity, settings, folder)


def server_cache(settings: OpenMLSettings) -> Path:
    """Return the folder of what came from a server."""
    address = urlparse(settings.server)
    # Of several servers on one host each has its own.
    path = "" if address.path.rstrip("/") == urlparse(OPENML_SERVER).path else address.path
    return cache_folder() / "openml" / re.sub(r"[^\w.-]", "_", address.netloc + path)


def fetched(
    kind: FetchKind, identity: int, settings: OpenMLSettings, folder: Path, query: Mapping[str, Any] | None = None
) -> Path:
    """Return a folder of checked files, downloaded by :mod:`hpo_gym.live.openml_fetch` unless it is there.

    Args:
        kind, identity: What, as :func:`hpo_gym.live.openml_fetch.fetch` takes them.
        settings: Which server, and how it is asked.
        folder: Where it belongs.
        query: What else is asked for; plain values.

    Raises:
        DataMissingError, DataIntegrityError, InvalidSettingError: As :func:`download_openml`.
    """
    if not folder.is_dir():
        require_library("openml", f"Downloading {spoken(kind, identity)}, which is not in the cache,")
        with one_writer(folder):
            remove_stale(folder)
            if not folder.is_dir():
                _download(kind, identity, settings, folder, query or {})
    _check(folder)
    return folder


def _download(kind: FetchKind, identity: int, settings: OpenMLSettings, folder: Path, query: Mapping[str, Any]) -> None:
    temporary, what = temporary_path(folder), spoken(kind, identity)
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "hpo_gym.live.openml_fetch", kind, str(identity), str(temporary)]
    command += ["--server", settings.server, "--retries", str(settings.retries), "--format", settings.file_format]
    command += ["--seconds", str(settings.timeout + _GRACE), "--query", json.dumps(query)]
    try:
        # On import the client makes a cache folder, which may lie where nobody can write.
        environment = {**os.environ, "OPENML_CACHE_DIR": str(temporary)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=settings.timeout, check=False, env=environment
        )
        if done.returncode != 0:
            raise failure(what, done)
        _check(temporary)
        os.replace(temporary, folder)
    except subprocess.TimeoutExpired as error:
        raise DataMissingError(
            f"{what} did not arrive from {settings.server} within {settings.timeout:g} s. Try again "
            "later, or allow more with OpenMLSettings(timeout=...)."
        ) from error
    finally:
        discard(temporary)


def failure(what: str, done: subprocess.CompletedProcess[str]) -> DataError:
    """Return what a failed process of :mod:`hpo_gym.live.openml_fetch` said as the error that it is.

    Args:
        what: What was downloaded, for the message.
        done: The process, with its output as text.
    """
    for line in done.stdout.splitlines():
        if line.startswith(ANSWER):
            answer = json.loads(line.removeprefix(ANSWER))
            return _ERRORS.get(answer["kind"], DataError)(answer["message"])
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return DataMissingError(f"The download of {what} failed with exit status {done.returncode}: {last}")


def about(folder: Path) -> dict[str, Any]:
    """Return what is known of the files of a downloaded folder.

    Raises:
        DataIntegrityError: If that cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataIntegrityError(f"{folder} is no download of OpenML data ({error}). {_repair(folder)}") from error
    return found


def _check(folder: Path) -> None:
    for name, expected in about(folder)["sha256"].items():
        path = folder / name
        problem = PinnedFile(sha256=expected).problem(path) if path.is_file() else "it is missing"
        if problem is not None:
            raise DataIntegrityError(f"{path} is corrupt: {problem}. {_repair(folder)}")


def _repair(folder: Path) -> str:
    return f"Remove the folder {folder}; it is downloaded again on next use."
