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
    frame = _named(frame, name)
    columns = list(frame.columns)
    target = columns[-1] if target is None else target
    require_names(f"column of {name}", (target, *drop), columns)
    if target in drop:
        raise InvalidSettingError(f"Column {target!r} of {name} is the target and cannot be dropped.")
    return frame.drop(columns=[target, *drop]), frame[target]


def _named(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    columns = [str(column) for column in frame.columns]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InvalidSettingError(f"{name} has columns of the same name: {repeated}. Rename them.")
    return frame.set_axis(columns, axis=1)


def table_from_frame(
    name: str,
    features: pd.DataFrame,
    target: pd.Series,
    *,
    task: TaskChoice = "auto",
    text: Literal["categorical", "drop"] = "categorical",
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
    described = _described(_named(features, name), text, name)
    kept = [column for column in described.columns if not _is_text(described[column])]
    values = np.empty((len(target), len(kept)))
    levels = []
    for index, column in enumerate(kept):
        values[:, index], count = _numbers(described[column])
        levels.append(count)
    if task == "classification":
        codes = target.cat.remove_unused_categories().cat
        classes, numbers = tuple(str(level) for level in codes.categories), codes.codes.to_numpy(dtype=np.int64)
    else:
        classes, numbers = (), target.to_numpy(dtype=np.float64)
    found = frame_qualities(described, target)
    source = {**(provenance or {}), "dropped": [column for column in described.columns if column not in kept]}
    return Table(name, values, numbers, tuple(kept), tuple(levels), classes, found, image, folds, source)


def _as_numbers(target: pd.Series, name: str) -> pd.Series:
    try:
        return target.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidSettingError(
            f"The target {target.name!r} of {name} is not numeric ({error}): use task='classification'."
        ) from error


def _is_text(column: pd.Series) -> bool:
    import pandas as pd

    return not (isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_numeric_dtype(column.dtype))


def _described(features: pd.DataFrame, text: str, name: str) -> pd.DataFrame:
    """Return the features as they count in the qualities."""
    times = list(features.select_dtypes(["datetime", "datetimetz", "timedelta"]).columns)
    if times:
        raise InvalidSettingError(
            f"{name} has times in {times}: make numbers of them, e.g. seconds since a date, or leave them out (of a "
            "file: data_source(<path>, drop=(...)))."
        )
    if text == "drop":
        return features
    return features.astype({column: "category" for column in features.columns if _is_text(features[column])})


def _numbers(column: pd.Series) -> tuple[NDArray[np.float64], int]:
    """Return a column as floats, NaN where missing, and its number of levels (0: numeric)."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype):
        column = column.astype("category")
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy(dtype=np.float64)
        codes[codes < 0] = np.nan
        # A column of one level, or of none, is categorical nevertheless.
        return codes, max(1, len(column.cat.categories))
    return column.to_numpy(dtype=np.float64, na_value=np.nan), 0


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
