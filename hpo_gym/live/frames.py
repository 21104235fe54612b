"""Data frames to tables, and tables to files that another process can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import DataIntegrityError, InvalidSettingError, require_names, unknown_name
from hpo_gym.live.frame_coder import FrameCoder, TextColumns, as_features, is_text, with_text_names
from hpo_gym.live.qualities import frame_qualities
from hpo_gym.live.table import Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TaskChoice", "read_table", "split_target", "table_from_frame", "write_table"]

#: ``auto``: floating point targets are for regression, all others for classification.
TaskChoice = Literal["auto", "classification", "regression"]

_ARRAYS = ("values", "target", "folds")


def split_target(
    frame: pd.DataFrame, target: str | None, drop: Sequence[str], name: str
) -> tuple[pd.DataFrame, pd.Series]:
    """Split a frame into features and target.

    Args:
        frame: All columns.
        target: The target's column; ``None``: the last one.
        drop: Columns that are neither.
        name: What messages call the data.

    Raises:
        UnknownNameError: If there is no such column.
        InvalidSettingError: If column names repeat, or the target is dropped.
    """
    frame = with_text_names(frame, name)
    columns = list(frame.columns)
    target = columns[-1] if target is None else target
    require_names(f"column of {name}", (target, *drop), columns)
    if target in drop:
        raise InvalidSettingError(f"Column {target!r} of {name} is the target and cannot be dropped.")
    return frame.drop(columns=[target, *drop]), frame[target]


def table_from_frame(
    name: str,
    features: pd.DataFrame,
    target: pd.Series,
    *,
    task: TaskChoice = "auto",
    text: TextColumns = "categorical",
    image: tuple[int, int, int] | None = None,
    folds: NDArray[np.int16] | None = None,
    provenance: dict[str, Any] | None = None,
) -> Table:
    """Make a table.

    Args:
        name: What messages call it.
        features: ``p`` columns: numbers are numeric features; categorical, boolean and text columns categorical ones.
        target: ``n`` targets.
        task: What is learned.
        text: Whether text columns become categorical or are left out (they are counted in the qualities, which is what
            OpenML does with its STRING attributes).
        image: Channels, height and width where the features are pixels.
        folds: Official splits, int16 ``[R, n]``.
        provenance: Where the data came from.

    Raises:
        InvalidSettingError: If targets are missing, are no numbers for regression, or if the data is of no use (see
            :class:`Table`).
    """
    import pandas as pd

    if task not in get_args(TaskChoice):
        raise unknown_name("task type", task, get_args(TaskChoice))
    if not len(target):
        raise InvalidSettingError(f"{name} has no rows: nothing to train on. Give a table with rows.")
    missing = int(target.isna().sum())
    if missing:
        raise InvalidSettingError(f"The target {target.name!r} of {name} is missing in {missing} rows: remove them.")
    if task == "auto":
        task = "regression" if pd.api.types.is_float_dtype(target.dtype) else "classification"
    if task == "regression":
        target = _as_numbers(target, name)
    elif not isinstance(target.dtype, pd.CategoricalDtype):
        target = target.astype("category")
    described = as_features(features, text, name)
    kept = [column for column in described.columns if not is_text(described[column])]
    coder = FrameCoder.of(described[kept])
    if task == "classification":
        codes = target.cat.remove_unused_categories().cat
        classes, numbers = tuple(str(level) for level in codes.categories), codes.codes.to_numpy(dtype=np.int64)
    else:
        classes, numbers = (), target.to_numpy(dtype=np.float64)
    found = frame_qualities(described, target)
    source = {**(provenance or {}), "dropped": [column for column in described.columns if column not in kept]}
    values, levels = coder(described[kept]), coder.counts()
    return Table(name, values, numbers, coder.columns, levels, classes, found, image, folds, source)


def _as_numbers(target: pd.Series, name: str) -> pd.Series:
    try:
        return target.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidSettingError(
            f"The target {target.name!r} of {name} is not numeric ({error}): use task='classification'."
        ) from error


def write_table(table: Table, file: BinaryIO) -> None:
    """Write a table in the ``.npz`` format: plain arrays, with everything else as JSON in one of them."""
    arrays = {name: value for name in _ARRAYS if (value := getattr(table, name)) is not None}
    header = {item.name: getattr(table, item.name) for item in fields(table) if item.name not in _ARRAYS}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez_compressed(file, **arrays)


def read_table(path: Path) -> Table:
    """Read what :func:`write_table` wrote; nothing is unpickled.

    Raises:
        DataIntegrityError: If the file is damaged.
        OSError: If it cannot be read.
    """
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        for name in ("columns", "levels", "classes", "qualities"):
            header[name] = tuple(header[name])
        header["image"] = None if header["image"] is None else tuple(header["image"])
        return Table(**arrays, **header)
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataIntegrityError(f"{path} is no table of hpo_gym, or it is damaged: {error}. Remove it.") from error
