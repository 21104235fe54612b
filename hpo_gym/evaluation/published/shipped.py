"""The reference curves as files beside this module: three small Parquet tables and a JSON card."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.evaluation.published.curves import TRIALS, PublishedCurves
from hpo_gym.evaluation.published.methods import PUBLISHED_METHODS
from hpo_gym.sources.bundle_files import sha256, write_atomic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATA_FOLDER", "TABLES", "card", "published_curves", "write_curves"]

#: Where the files lie inside the package.
DATA_FOLDER = Path(__file__).resolve().parent / "data"

#: Regret by method, space and trial; by method, dataset and chosen trial; counts by pair of methods of a setting.
TABLES = ("curves", "datasets", "pairs")

_REPAIR = "Reinstall hpo_gym, or make it again with `python -m hpo_gym.evaluation.published.build_hpob`."


def _path(table: str, folder: Path) -> Path:
    return folder / f"hpob_{table}.parquet"


def write_curves(curves: PublishedCurves, source: dict[str, Any], folder: Path = DATA_FOLDER) -> int:
    """Write reference curves and where they come from; return the number of bytes.

    Args:
        curves: What ``aggregate_incumbents`` returned.
        source: Origin, licences and checksum of the incumbents: goes into the card as it is.
        folder: Where to.
    """
    import pandas as pd

    names = [method.name for method in curves.methods]
    by_space = [
        (name, space, trial, curves.regret[i, j, trial])
        for i, name in enumerate(names)
        for j, space in enumerate(curves.spaces)
        for trial in range(TRIALS + 1)
    ]
    by_dataset = [
        (name, space, dataset, trial, curves.dataset_regret[i, j, k], curves.first_seed_regret[i, j, k])
        for i, name in enumerate(names)
        for j, (space, dataset) in enumerate(curves.datasets)
        for k, trial in enumerate(curves.chosen)
    ]
    by_pair = [
        (name, other, curves.better[i, j], curves.ties[i, j])
        for i, name in enumerate(names)
        for j, other in enumerate(names)
        if i != j and curves.methods[i].setting == curves.methods[j].setting
    ]
    tables = {
        "curves": pd.DataFrame(by_space, columns=["method", "space", "trial", "regret"]),
        "datasets": pd.DataFrame(
            by_dataset, columns=["method", "space", "dataset", "trial", "regret", "first_seed_regret"]
        ),
        "pairs": pd.DataFrame(by_pair, columns=["method", "other", "better", "ties"]),
    }
    header: dict[str, Any] = {
        "source": source,
        "spaces": dict(zip(curves.spaces, map(int, curves.runs), strict=True)),
        "sha256": {},
    }
    size = 0
    for table in TABLES:
        data = _parquet(tables[table])
        write_atomic(_path(table, folder), data)
        header["sha256"][_path(table, folder).name] = sha256(data)
        size += len(data)
    text = (json.dumps(header, indent=1, sort_keys=True) + "\n").encode()
    write_atomic(folder / "hpob.json", text)
    return size + len(text)


def _parquet(frame: pd.DataFrame) -> bytes:
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    small = {name: "int16" for name in frame.columns if frame[name].dtype.kind == "i"}
    buffer = io.BytesIO()
    # Neighbouring regrets share their high bytes: split into streams of bytes they take a third less room.
    frame.astype(small).to_parquet(
        buffer,
        index=False,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in frame.columns if name not in numbers],
        use_byte_stream_split=numbers or False,
    )
    return buffer.getvalue()


def card(folder: Path = DATA_FOLDER) -> dict[str, Any]:
    """Return the card of the shipped tables: ``source``, runs by space in ``spaces``, ``sha256`` by file.

    Raises:
        DataMissingError: If it is not there.
        DataIntegrityError: If it is not JSON.
    """
    path = folder / "hpob.json"
    if not path.is_file():
        raise DataMissingError(f"{path} is missing from this installation. {_REPAIR}")
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataIntegrityError(f"{path} is not JSON: {error}. {_REPAIR}") from error
    return header


def _read(table: str, folder: Path, header: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    path = _path(table, folder)
    if not path.is_file():
        raise DataMissingError(f"{path} is missing from this installation. {_REPAIR}")
    data = path.read_bytes()
    found, expected = sha256(data), header["sha256"].get(path.name)
    if found != expected:
        raise DataIntegrityError(f"{path} is corrupt: its SHA-256 is {found}, expected {expected}. {_REPAIR}")
    return pd.read_parquet(io.BytesIO(data))


@cache
def published_curves(folder: Path = DATA_FOLDER) -> PublishedCurves:
    """Return the reference curves that hpo_gym ships: 37 methods, 16 spaces, 86 datasets, 430 runs each.

    Args:
        folder: Where the files lie.

    Raises:
        DataMissingError: If a file is missing.
        DataIntegrityError: If a file does not match its checksum.
    """
    import numpy as np

    header = card(folder)
    by_space, by_dataset, by_pair = (_read(table, folder, header) for table in TABLES)
    names = list(dict.fromkeys(by_space["method"]))
    known = {method.name: method for method in PUBLISHED_METHODS}
    if set(names) - set(known):
        raise DataIntegrityError(f"{folder} holds methods {sorted(set(names) - set(known))} nobody knows. {_REPAIR}")
    spaces = tuple(dict.fromkeys(by_space["space"]))
    datasets = tuple(dict.fromkeys(zip(by_dataset["space"], by_dataset["dataset"], strict=True)))
    chosen = tuple(int(trial) for trial in dict.fromkeys(by_dataset["trial"]))
    regret = by_space["regret"].to_numpy().reshape(len(names), len(spaces), TRIALS + 1)
    shape = (len(names), len(datasets), len(chosen))
    counts = np.zeros((2, len(names), len(names)), dtype=np.int64)
    rows, columns = (by_pair[column].map(names.index).to_numpy() for column in ("method", "other"))
    for layer, column in enumerate(("better", "ties")):
        counts[layer, rows, columns] = by_pair[column]
    return PublishedCurves(
        methods=tuple(known[name] for name in names),
        spaces=spaces,
        runs=np.array([header["spaces"][space] for space in spaces]),
        regret=regret,
        datasets=datasets,
        chosen=chosen,
        dataset_regret=by_dataset["regret"].to_numpy().reshape(shape),
        first_seed_regret=by_dataset["first_seed_regret"].to_numpy().reshape(shape),
        better=counts[0],
        ties=counts[1],
    )
