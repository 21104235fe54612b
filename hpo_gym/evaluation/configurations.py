"""Which configurations were tried: one row per trial, one column per hyperparameter, in natural units."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, unknown_name
from hpo_gym.sources.temporaries import replacing
from hpo_gym.spaces.columns import Column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["ConfigurationTable", "require_own_names"]

_KEYS = ("agent", "run", "source", "space", "task", "seed", "trial")
_ATTRIBUTE = "hyperparameters"


def require_own_names(hyperparameters: Iterable[str], columns: Collection[str] = _KEYS) -> None:
    """Refuse hyperparameters that are called like another column of the table that they are written to.

    Raises:
        InvalidSettingError: Naming the first.
    """
    for name in hyperparameters:
        if name in columns:
            raise InvalidSettingError(
                f"The hyperparameter {name!r} is called like another column of the results ({', '.join(columns)}). "
                "Give it another name; in a table of runs: source_options={'rename': {...}}."
            )


@dataclass(frozen=True, eq=False)
class ConfigurationTable:
    """Every configuration that an evaluation tried, in the order of its records.

    Args:
        frame: ``agent``, ``run``, ``source``, ``space``, ``task``, ``seed`` and ``trial`` as in a
            :class:`~hpo_gym.evaluation.RecordTable`, then one column per hyperparameter: floats and integers as
            float64, NaN where inactive; choices as categoricals of text, missing where inactive.
        hyperparameters: What the hyperparameters are, in the order of their columns.

    Raises:
        InvalidSettingError: If columns are missing.
    """

    frame: pd.DataFrame
    hyperparameters: tuple[Column, ...]

    def __post_init__(self) -> None:
        needed = [*_KEYS, *(column.name for column in self.hyperparameters)]
        missing = [name for name in needed if name not in self.frame.columns]
        if missing:
            raise InvalidSettingError(f"A table of configurations needs the columns {needed}; it lacks {missing}.")

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def from_numbers(
        cls, keys: pd.DataFrame, numbers: np.ndarray[Any, Any], hyperparameters: Sequence[Column]
    ) -> ConfigurationTable:
        """Make a table of numbers.

        Args:
            keys: A data frame that holds the key columns, ``R`` rows.
            numbers: Natural values, choices by position, NaN where inactive: float64 ``[R, D]``.
            hyperparameters: The ``D`` hyperparameters.
        """
        import numpy as np
        import pandas as pd

        columns: dict[str, Any] = {name: keys[name].array for name in _KEYS}
        for column, values in zip(hyperparameters, numbers.T, strict=True):
            if column.is_numeric:
                columns[column.name] = values
            else:
                codes = np.where(np.isnan(values), -1, values).astype(np.int16)
                columns[column.name] = pd.Categorical.from_codes(codes, [str(choice) for choice in column.choices])
        return cls(pd.DataFrame(columns), tuple(hyperparameters))

    def of_run(self, agent: str, task: str, seed: int, run: str = "") -> pd.DataFrame:
        """Return the trials of one episode in order.

        Raises:
            UnknownNameError: If nobody of that name played, or there is no such task.
            InvalidSettingError: If there is no such repetition.
        """
        frame = self.frame
        for name, value in (("agent", agent), ("run", run), ("task", task)):
            if not (frame[name] == value).any():
                raise unknown_name(name, value, sorted(map(str, frame[name].unique())))
            frame = frame[frame[name] == value]
        mine = frame[frame["seed"] == seed].sort_values("trial")
        if len(mine) == 0:
            raise InvalidSettingError(
                f"seed={seed!r}: {agent!r} played task {task} with seeds {sorted(set(frame['seed'].tolist()))}."
            )
        return mine.reset_index(drop=True)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the table and what its hyperparameters are; a reader sees the whole file or none. Return the path."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = Path(path)
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        described = json.dumps([asdict(column) for column in self.hyperparameters])
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _ATTRIBUTE: described})
        with replacing(target) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return target

    @classmethod
    def from_parquet(cls, path: str | Path) -> ConfigurationTable:
        """Read a table that :meth:`to_parquet` wrote.

        Raises:
            DataMissingError: If there is no such file.
            DataIntegrityError: If it is something else.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = Path(path)
        if not target.is_file():
            raise DataMissingError(
                f"There is no table of configurations {target}. Write one with `python evaluate.py`."
            )
        try:
            table = pq.read_table(target)
            described = json.loads((table.schema.metadata or {})[_ATTRIBUTE.encode()])
            columns = tuple(Column(**{**values, "choices": tuple(values["choices"])}) for values in described)
            return cls(table.to_pandas(), columns)
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise DataIntegrityError(
                f"{target} is no table of configurations ({error}). Delete it and evaluate again with "
                "`python evaluate.py`."
            ) from error
