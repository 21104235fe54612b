"""A table of anyone's evaluations as tensors: task column, hyperparameter columns, metric columns."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, require_names, unknown_name
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.warned import warn_user

__all__ = ["MISSING", "RunTable", "read_run_table"]

# A positive numeric column gets a log scale when its values span more than these decades.
_LOG_DECADES = 2.5
#: Cells that hold nothing.
MISSING = ("", "?", "nan", "NaN", "NA", "null")

# A value in quotes, a quote in which is doubled or stands behind a backslash, and the comma after it.
_QUOTED = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.|{quote}{quote})*){quote}\s*(,?)") for quote in "'\""}
_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)", re.IGNORECASE)

# Values are kept in single precision: a larger one would become infinite there.
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class RunTable:
    """Evaluations of several tasks over one search space.

    Args:
        spec: The search space, inferred from the columns.
        task_ids: Ids of the ``N`` tasks in order of first appearance.
        metrics: Names of the ``K`` metrics.
        task: Task of each row, int64 ``[R]``.
        u: Configurations, float32 ``[R, D]``.
        values: Metrics, float32 ``[R, K]``.
        dropped: Rows that were left out because a metric or hyperparameter was missing, or a metric not finite.
        constants: Hyperparameter columns that hold one value, by name; they are not in the space.
        repeats: Rows that repeated a task's configuration and are part of its mean.
    """

    spec: SpaceSpec
    task_ids: tuple[str, ...]
    metrics: tuple[str, ...]
    task: Tensor
    u: Tensor
    values: Tensor
    dropped: int
    constants: Mapping[str, Any]
    repeats: int = 0

    @property
    def shared_grid(self) -> bool:
        """Whether every task was evaluated on the same configurations, so that look-up is exact."""
        rows = [{tuple(row) for row in self.u[self.task == index].tolist()} for index in range(len(self.task_ids))]
        return all(configurations == rows[0] for configurations in rows)

    def subset(self, tasks: Sequence[int]) -> RunTable:
        """Return the rows of some tasks, renumbered in the given order."""
        position = torch.full((len(self.task_ids),), -1)
        position[list(tasks)] = torch.arange(len(tasks))
        kept = position[self.task] >= 0
        return dataclasses.replace(
            self,
            task_ids=tuple(self.task_ids[index] for index in tasks),
            task=position[self.task[kept]],
            u=self.u[kept],
            values=self.values[kept],
        )


def read_run_table(
    path: str | Path,
    *,
    task_column: str,
    hyperparameters: Sequence[str],
    metrics: Sequence[str],
    log: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> RunTable:
    """Read a CSV, Parquet or ARFF table of evaluations.

    Types are inferred: a column of whole numbers is an integer hyperparameter, of numbers a float, of
    anything else categorical; nominal ARFF attributes whose values are numbers count as numbers.
    Repeated configurations of a task are averaged. Rows with a missing cell are left out, with a warning: a
    conditional hyperparameter, which only some rows have, cannot be expressed in a table.

    Args:
        path: The file; its ending tells the format (``.csv``, ``.parquet``, ``.arff``).
        task_column: Column with the id of the task (dataset).
        hyperparameters: Columns of the search space.
        metrics: Numeric columns with results.
        log: Hyperparameters on a log scale; ``None`` infers it (positive, more than 2.5 decades).
        rename: New names of hyperparameters.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If it cannot be parsed, is empty, a metric is not numeric, or a hyperparameter is infinite.
        UnknownNameError: If a column does not exist.
        InvalidSettingError: If no hyperparameter varies, the format is not known, or a hyperparameter cannot have
            a log scale.
    """
    path = Path(path)
    if not path.exists():
        raise DataMissingError(f"There is no run table {path}. Give the path of a CSV, Parquet or ARFF file.")
    columns = _read(path)
    require_names("hyperparameter to rename", rename or (), hyperparameters)
    require_names(f"column of {path.name}", (task_column, *hyperparameters, *metrics, *(log or ())), columns)
    for name in metrics:
        columns[name] = [cell if _finite(cell) else "" for cell in columns[name]]
    wanted = [task_column, *hyperparameters, *metrics]
    rows = list(zip(*(columns[name] for name in wanted), strict=True))
    complete = [row for row in rows if not any(cell in MISSING for cell in row)]
    if len(complete) < len(rows) or not rows:
        _tell_incomplete(path, columns, hyperparameters, wanted, len(rows), len(complete))
    parts = dict(zip(wanted, zip(*complete, strict=True), strict=True))
    for name in log or ():
        _check_log(path, name, parts.get(name) if name in hyperparameters else None, hyperparameters)
    kept, constants = [], {}
    for name in hyperparameters:
        if len(set(parts[name])) == 1:
            constants[(rename or {}).get(name, name)] = parts[name][0]
        else:
            kept.append(name)
    if not kept:
        raise InvalidSettingError(f"No hyperparameter of {path.name} varies: nothing to tune.")
    names = dict(rename or {})
    spec = SpaceSpec(
        tuple(_column(names.get(name, name), parts[name], _on_log(name, parts[name], log)) for name in kept),
        {},
    )
    task_ids = tuple(dict.fromkeys(parts[task_column]))
    position = {identity: index for index, identity in enumerate(task_ids)}
    task = torch.tensor([position[identity] for identity in parts[task_column]])
    numbers = [
        [column.number(_typed(column, cell)) for cell in parts[name]]
        for column, name in zip(spec.columns, kept, strict=True)
    ]
    u = SearchSpace(spec).encode(torch.tensor(numbers, dtype=torch.float64).T).float()
    values = torch.tensor([_metric(path, name, parts[name]) for name in metrics]).T
    task, u, values = _average_repeats(task, u, values)
    dropped, repeats = len(rows) - len(complete), len(complete) - len(task)
    return RunTable(spec, task_ids, tuple(metrics), task, u, values, dropped, constants, repeats)


def _read(path: Path) -> dict[str, list[str]]:
    """Return the columns of a table as text."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            # Excel begins its UTF-8 files with a byte order mark.
            with path.open(encoding="utf-8-sig", newline="") as file:
                return _text_columns(list(csv.reader(file)), path)
        if suffix == ".arff":
            return _read_arff(path)
        if suffix in (".parquet", ".pq"):
            import pandas

            frame = pandas.read_parquet(path)
            missing = frame.isna()
            return {
                name: ["" if absent else str(cell) for cell, absent in zip(frame[name], missing[name], strict=True)]
                for name in frame
            }
    except (OSError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise DataIntegrityError(
            f"{path} cannot be read as {suffix[1:].upper()} ({type(error).__name__}: {error}); it may "
            "be truncated or of another format."
        ) from error
    raise InvalidSettingError(
        f"{path.name}: tables end in .csv, .parquet or .arff; {suffix or 'no ending'!r} is not known."
    )


def _text_columns(rows: list[list[str]], path: Path) -> dict[str, list[str]]:
    if not rows:
        raise ValueError("the file is empty")
    header, body = [name.strip() for name in rows[0]], [row for row in rows[1:] if row]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two columns are called {twice!r}")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the header {len(header)}")
    return {name: [row[index].strip() for row in body] for index, name in enumerate(header)}


def _read_arff(path: Path) -> dict[str, list[str]]:
    names: list[str] = []
    rows: list[list[str]] = []
    reading = False
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in file:
            text = line.strip()
            if not text or text.startswith("%"):
                continue
            if reading:
                rows.append(_arff_cells(text))
            elif text.lower().startswith("@attribute"):
                named = _ATTRIBUTE.match(text)
                if named is None:
                    raise ValueError(f"{text!r} names no attribute")
                names.append(named[1].strip("'\""))
            elif text.lower().startswith("@data"):
                reading = True
    if not names or not reading:
        raise ValueError("no @attribute or no @data section")
    return _text_columns([names, *rows], path)


def _arff_cells(row: str) -> list[str]:
    """Return the values of a row, of which any may stand in single or in double quotes."""
    cells, rest = [], row
    while True:
        rest = rest.lstrip()
        quote = rest[0] if rest[:1] in ("'", '"') else None
        if quote is None:
            cell, comma, rest = rest.partition(",")
            cells.append(cell)
        else:
            quoted = _QUOTED[quote].match(rest)
            if quoted is None:
                raise ValueError(f"{row!r} has a quote that does not end")
            if not quoted[2] and quoted.end() < len(rest):
                raise ValueError(f"{row!r} goes on behind a quote that has ended")
            cells.append(quoted[1].replace("\\" + quote, quote).replace(quote * 2, quote))
            comma, rest = quoted[2], rest[quoted.end() :]
        if not comma:
            return cells


def _finite(cell: str) -> bool:
    """Whether a cell is no infinity or NaN; text passes, to be refused by its name later."""
    numbers = _numbers([cell])
    return numbers is None or abs(numbers[0]) <= _LARGEST


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def _tell_incomplete(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    hyperparameters: Sequence[str],
    wanted: Sequence[str],
    rows: int,
    complete: int,
) -> None:
    """Warn of rows that are left out; refuse a table of which none remains."""
    missing = {name: sum(cell in MISSING for cell in columns[name]) for name in wanted}
    counted = ", ".join(f"{name!r} ({count} without a value)" for name, count in missing.items() if count)
    remedy = (
        " Conditional hyperparameters, which only some rows have, are not supported in tables: leave such a column "
        "out of hyperparameters=[...], or fill its cells with a value."
        if any(missing[name] for name in hyperparameters)
        else ""
    )
    if not complete:
        empty = [name for name, count in missing.items() if count == rows]
        blame = f": {', '.join(map(repr, empty))} holds no (finite) value" if empty else ""
        some = f": every row lacks one of {counted}" if counted and not empty else ""
        raise DataIntegrityError(f"{path} holds no complete row of {list(wanted)}{blame}{some}.{remedy}")
    warn_user(
        f"{rows - complete} of {rows} rows of {path.name} are left out, because a cell is empty or not finite: "
        f"{counted}.{remedy}"
    )


def _check_log(path: Path, name: str, cells: Sequence[str] | None, hyperparameters: Sequence[str]) -> None:
    if cells is None:
        raise unknown_name("hyperparameter in log=[...]", name, hyperparameters)
    numbers = _numbers(cells)
    if numbers is None:
        wrong = next(cell for cell in cells if _numbers([cell]) is None)
        raise InvalidSettingError(
            f"log=[...] names {name!r}, which holds {wrong!r} in {path.name}: only numeric hyperparameters can have a "
            "log scale. Leave it out of log."
        )
    if min(numbers) <= 0:
        raise InvalidSettingError(
            f"log=[...] names {name!r}, which holds {min(numbers):g} in {path.name}: only values above 0 can have a "
            "log scale. Leave it out of log, or leave those rows out."
        )


def _on_log(name: str, cells: Sequence[str], log: Sequence[str] | None) -> bool:
    if log is not None:
        return name in log
    numbers = _numbers(cells)
    if numbers is None or min(numbers) <= 0:
        return False
    return math.log10(max(numbers) / min(numbers)) > _LOG_DECADES


def _column(name: str, cells: Sequence[str], log: bool) -> Column:
    numbers = _numbers(cells)
    if numbers is None:
        choices = tuple(sorted(set(cells)))
        return Column(name, "categorical", choices=choices, default=max(choices, key=list(cells).count))
    if not all(map(math.isfinite, numbers)):
        raise DataIntegrityError(
            f"Hyperparameter {name!r} holds an infinite value, which no range includes. Leave those rows out, or write "
            "a finite value."
        )
    middle = sorted(numbers)[len(numbers) // 2]
    if all(number.is_integer() for number in numbers):
        return Column(name, "integer", int(min(numbers)), int(max(numbers)), log, (), int(middle))
    return Column(name, "float", min(numbers), max(numbers), log, (), middle)


def _typed(column: Column, cell: str) -> str | float:
    return float(cell) if column.is_numeric else cell


def _metric(path: Path, name: str, cells: Sequence[str]) -> list[float]:
    numbers = _numbers(cells)
    if numbers is None:
        wrong = next(cell for cell in cells if _numbers([cell]) is None)
        raise DataIntegrityError(f"{path}: metric {name!r} holds {wrong!r}, which is no number.")
    return numbers


def _average_repeats(task: Tensor, u: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    keys = torch.cat([task[:, None].float(), u], 1)
    unique, inverse = torch.unique(keys, dim=0, return_inverse=True)
    if len(unique) == len(keys):
        return task, u, values
    count = torch.zeros(len(unique)).index_add(0, inverse, torch.ones(len(keys)))
    total = torch.zeros(len(unique), values.shape[1]).index_add(0, inverse, values)
    return unique[:, 0].long(), unique[:, 1:], total / count[:, None]
