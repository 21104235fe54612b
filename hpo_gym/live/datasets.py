"""Which data a model is trained on, as plain data; loaded on first use, once per process."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, require_names, unknown_name
from hpo_gym.live.frames import TaskChoice, read_table, split_target, table_from_frame, write_table
from hpo_gym.live.libraries import require_library
from hpo_gym.live.openml_data import OpenMLSettings, openml_table
from hpo_gym.live.table import Table
from hpo_gym.sources.bundle_files import sha256, write_atomic
from hpo_gym.sources.pinned import PinnedFile
from hpo_gym.sources.store import cache_folder
from hpo_gym.tasks.ref import TaskRef

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

__all__ = [
    "DATA_KINDS",
    "SKLEARN_DATASETS",
    "DataSource",
    "as_frame_and_target",
    "data_source",
    "load_table",
    "store_arrays",
]

#: Real datasets that come with scikit-learn, and the shape of their images. Two are made of others: ``digits_parity``
#: tells even from odd digits, ``diabetes_median`` whether the disease progresses by more than the median.
SKLEARN_DATASETS: dict[str, tuple[int, int, int] | None] = {
    "iris": None,
    "wine": None,
    "breast_cancer": None,
    "digits": (1, 8, 8),
    "diabetes": None,
    "digits_parity": (1, 8, 8),
    "diabetes_median": None,
}
#: Of those, the ones with the rows of another loader and a target that is made of its own: the loader, and the names
#: of the two classes.
_DERIVED = {"digits_parity": ("digits", ("even", "odd")), "diabetes_median": ("diabetes", ("lower", "upper"))}
#: What may stand before the colon of a source's name.
DATA_KINDS = ("sklearn", "openml", "openml-task", "file", "table")

_READERS = {".csv": "read_csv", ".parquet": "read_parquet", ".pq": "read_parquet"}


@dataclass(frozen=True)
class DataSource:
    """Where a dataset comes from; :func:`data_source` makes one of a name or a path.

    Args:
        name: ``sklearn:<name>``, ``openml:<dataset id>``, ``openml-task:<task id>``, ``file:<path>`` (CSV or Parquet)
            or ``table:<path>`` (what :func:`store_arrays` wrote).
        target: Target column; ``None``: the declared one, of a file the last.
        task: What is learned; ``auto`` goes by the type of the target.
        drop: Columns that are no features.
        checksum: SHA-256 of a file; empty: not checked.
        openml: Which OpenML server, and how it is asked.

    Raises:
        UnknownNameError: For an unknown kind, dataset of scikit-learn or task type.
        InvalidSettingError: If an id is no number, a file is of an unknown type, or a setting has no effect.
    """

    name: str
    target: str | None = None
    task: TaskChoice = "auto"
    drop: tuple[str, ...] = ()
    checksum: str = ""
    openml: OpenMLSettings = field(default_factory=OpenMLSettings)

    def __post_init__(self) -> None:
        if self.kind not in DATA_KINDS:
            remedy = "Write for example 'sklearn:digits', 'openml:61', or a path to data_source('rows.csv')."
            raise unknown_name("kind of data source", self.kind, DATA_KINDS, remedy)
        if not isinstance(self.drop, tuple | list):
            raise InvalidSettingError(f"drop={self.drop!r} must be a tuple of columns: write drop=({self.drop!r},).")
        # A list cannot be looked up among the datasets that are loaded already.
        object.__setattr__(self, "drop", tuple(self.drop))
        if self.task not in get_args(TaskChoice):
            raise unknown_name("task type", self.task, get_args(TaskChoice))
        if self.kind == "sklearn" and self.identity not in SKLEARN_DATASETS:
            raise unknown_name("dataset of scikit-learn", self.identity, SKLEARN_DATASETS)
        if self.kind.startswith("openml") and not (self.identity.isascii() and self.identity.isdigit()):
            raise InvalidSettingError(f"{self.name!r}: {self.identity!r} is no id of OpenML; those are whole numbers.")
        if self.kind == "file" and Path(self.identity).suffix not in _READERS:
            raise InvalidSettingError(f"{self.name!r} must end in {', '.join(_READERS)}: a CSV or Parquet file.")
        chosen = {"sklearn": ("target",), "openml-task": ("target", "task"), "table": ("target", "task", "drop")}
        for setting in chosen.get(self.kind, ()):
            if getattr(self, setting) not in (None, "auto", ()):
                raise InvalidSettingError(f"{setting}={getattr(self, setting)!r}: {self.name!r} says that itself.")

    @property
    def kind(self) -> str:
        """What stands before the colon."""
        return self.name.partition(":")[0]

    @property
    def identity(self) -> str:
        """What stands after the colon."""
        return self.name.partition(":")[2]

    @property
    def task_ref(self) -> TaskRef:
        """The identity of the data as a task of a suite."""
        if self.kind == "openml":
            return TaskRef("openml-dataset", self.identity)
        if self.kind == "openml-task":
            return TaskRef("openml-task", self.identity)
        return TaskRef("custom", self.name)


def data_source(data: str | Path | DataSource, **settings: Any) -> DataSource:
    """Return a data source of its name, of a path to a CSV or Parquet file, or as it is.

    Args:
        data: E.g. ``"sklearn:digits"``, ``"openml:61"``, ``"openml-dataset:61"``, ``"rows.csv"``.
        settings: Other arguments of :class:`DataSource`.

    Raises:
        DataMissingError: If there is no such file.
        UnknownNameError: For an unknown kind of source.
        InvalidSettingError: If a setting is of no use.
    """
    if isinstance(data, DataSource):
        if settings:
            raise InvalidSettingError(f"{sorted(settings)} cannot change a DataSource: give them to that.")
        return data
    text = str(data)
    if Path(text.removeprefix("file:")).suffix not in _READERS:
        return DataSource(text.replace("openml-dataset:", "openml:", 1), **settings)
    path = Path(text.removeprefix("file:")).expanduser().resolve()
    if not path.is_file():
        raise DataMissingError(f"There is no file {path}. Give the path of a CSV or Parquet file.")
    return DataSource(f"file:{path}", checksum=sha256(path.read_bytes()), **settings)


def store_arrays(
    features: pd.DataFrame | ArrayLike,
    target: pd.Series | ArrayLike,
    *,
    name: str = "arrays",
    task: TaskChoice = "auto",
    image: tuple[int, int, int] | None = None,
    folder: Path | None = None,
) -> DataSource:
    """Write a user's data to a file that worker processes can read; the same data is written once.

    Args:
        features: A data frame, or numbers ``[n, p]``.
        target: ``n`` targets.
        name: What messages call the data.
        task: What is learned; ``auto``: regression for floating point targets.
        image: Channels, height and width where features are pixels.
        folder: Where to; ``None``: below the cache folder.

    Raises:
        InvalidSettingError: If the data is of no use (see :class:`~hpo_gym.live.table.Table`).
        OSError: If the folder cannot be written to.
    """
    frame, column = as_frame_and_target(features, target, name)
    table = table_from_frame(name, frame, column, task=task, image=image)
    buffer = io.BytesIO()
    write_table(table, buffer)
    checksum = sha256(buffer.getvalue())
    path = (folder or cache_folder() / "live") / f"{checksum[:32]}.npz"
    if not path.is_file() or PinnedFile(sha256=checksum).problem(path) is not None:
        write_atomic(path, buffer.getvalue())
    return DataSource(f"table:{path.resolve()}", checksum=checksum)


def as_frame_and_target(
    features: pd.DataFrame | ArrayLike, target: pd.Series | ArrayLike, name: str
) -> tuple[pd.DataFrame, pd.Series]:
    """Return features ``[n, p]`` and ``n`` targets with their rows numbered from 0.

    Raises:
        InvalidSettingError: If they are not of these shapes, sparse or complex.
    """
    import pandas as pd

    frame = features if isinstance(features, pd.DataFrame) else pd.DataFrame(_matrix(features, name))
    if np.ndim(target) != 1:
        shape = np.shape(target)
        framed = isinstance(target, pd.DataFrame)
        one = "use y.iloc[:, 0]" if framed else "use y.ravel()"
        more = f"give one target per row; of one-hot coded classes {'y.to_numpy()' if framed else 'y'}.argmax(1)"
        remedy = one if shape[1:] == (1,) else more
        raise InvalidSettingError(f"{name}: y has the shape {shape}, expected [rows]: {remedy}.")
    column = target if isinstance(target, pd.Series) else pd.Series(target, name="target")
    if len(frame) != len(column):
        raise InvalidSettingError(f"{name}: X has {len(frame)} rows and y has {len(column)}: give as many of both.")
    return frame.reset_index(drop=True), column.reset_index(drop=True)


def _matrix(features: ArrayLike, name: str) -> Any:
    if hasattr(features, "toarray"):
        raise InvalidSettingError(f"{name}: X is sparse ({type(features).__name__}): give X.toarray().")
    matrix = np.asarray(features)
    if np.iscomplexobj(matrix):
        raise InvalidSettingError(f"{name}: X holds complex numbers: give their parts as features of their own.")
    if matrix.ndim != 2:
        raise InvalidSettingError(
            f"{name}: X has the shape {matrix.shape}, expected [rows, features]: "
            "write X.to_frame() of a pandas Series, X.reshape(-1, 1) of an array of one feature."
        )
    return matrix


@lru_cache(maxsize=16)
def load_table(source: DataSource) -> Table:
    """Load a dataset; a process loads each of the last 16 once.

    Raises:
        DataMissingError: If it is not to be found.
        DataIntegrityError: If a file is damaged, cannot be parsed, or was changed since the source was made.
        UnknownNameError: If there is no column of that name.
        InvalidSettingError: If the data is of no use (see :class:`~hpo_gym.live.table.Table`).
    """
    if source.kind == "sklearn":
        return _sklearn_table(source)
    if source.kind == "openml":
        return openml_table(
            "dataset", int(source.identity), source.openml, target=source.target, task=source.task, drop=source.drop
        )
    if source.kind == "openml-task":
        return openml_table("task", int(source.identity), source.openml, drop=source.drop)
    path = Path(source.identity)
    if not path.is_file():
        raise DataMissingError(f"There is no file {path}, which the data source names. Make the source again.")
    if source.checksum:
        problem = PinnedFile(sha256=source.checksum).problem(path)
        if problem is not None:
            raise DataIntegrityError(f"{path} has changed since its data source was made: {problem}. Make it again.")
    return read_table(path) if source.kind == "table" else _file_table(path, source)


def _sklearn_table(source: DataSource) -> Table:
    require_library("sklearn", f"{source.name!r}")
    import pandas as pd
    from sklearn import datasets

    loader, classes = _DERIVED.get(source.identity, (source.identity, ()))
    found = getattr(datasets, f"load_{loader}")(as_frame=True)
    target = found.target
    if classes:
        upper = target % 2 == 1 if source.identity == "digits_parity" else target > target.median()
        target = pd.Series(pd.Categorical.from_codes(upper.astype(int), list(classes)))
    elif "target_names" in found:
        target = pd.Series(pd.Categorical.from_codes(target, [str(label) for label in found.target_names]))
    features = _without(found.data, source.drop, source.name)
    image = SKLEARN_DATASETS[source.identity] if not source.drop else None
    told = {"from": "scikit-learn", "name": source.identity}
    return table_from_frame(source.name, features, target, task=source.task, image=image, provenance=told)


def _without(frame: pd.DataFrame, drop: Sequence[str], name: str) -> pd.DataFrame:
    require_names(f"column of {name}", drop, frame.columns)
    return frame.drop(columns=list(drop))


def _file_table(path: Path, source: DataSource) -> Table:
    import pandas as pd
    from pyarrow import ArrowException

    try:
        frame = getattr(pd, _READERS[path.suffix])(path)
    except (ValueError, ArrowException, OSError) as error:
        raise DataIntegrityError(f"{path} cannot be read as {path.suffix[1:].upper()}: {error}") from error
    if frame.shape[1] < 2:
        raise InvalidSettingError(f"{path} has {frame.shape[1]} column(s): a table needs features and a target.")
    features, target = split_target(frame, source.target, source.drop, path.name)
    told = {"from": path.name, "sha256": source.checksum}
    return table_from_frame(path.name, features, target, task=source.task, provenance=told)
