"""The record table: one row per trial, in long form, as a file that any tool can read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.evaluation.layout import EpisodeLayout, episode_layout
from hpo_gym.sources.temporaries import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "EPISODE", "RecordTable"]

_TEXT = ("agent", "run", "source", "space", "task", "dataset")
_INTEGERS = ("seed", "trial")
_NUMBERS = ("score", "metric", "incumbent", "regret", "spent", "fidelity", "seconds", "agent_seconds", "status")
#: What tells an episode from all others.
EPISODE = ("agent", "run", "source", "space", "task", "seed")

#: The columns of a :class:`RecordTable`, in order.
COLUMNS = (*_TEXT, *_INTEGERS, *_NUMBERS)


@dataclass(frozen=True, eq=False)
class RecordTable:
    """Every evaluation of every contender.

    ================= ==========================================================================
    column            content
    ================= ==========================================================================
    ``agent``         name of the method
    ``run``           name of its training run; empty for a method that does not learn
    ``source``        where the task comes from, e.g. ``bundled``
    ``space``         name of the search space
    ``task``          the task, as ``str(TaskRef)``
    ``dataset``       what identifies the task's dataset across spaces (``dataset_key``)
    ``seed``          number of the repetition, from 0
    ``trial``         number of the evaluation, from 1
    ``score``         score of the trial, in ``[0, 1]``, 1 being best
    ``metric``        the same in the main metric's own unit (worst value for a forbidden configuration)
    ``incumbent``     best score so far
    ``regret``        normalised regret of the incumbent; NaN where the task's range is not known
    ``spent``         budget spent so far, this trial included, in full evaluations
    ``fidelity``      share of a full evaluation that the trial was
    ``seconds``       what the trial would have taken; NaN where not known
    ``agent_seconds`` what the method took to choose it, its share where many were chosen at once;
                      measured, so that no two runs agree on it; 0 for what all methods share
    ``status``        how the trial ended, a position in :data:`hpo_gym.live.STATUSES`, 0: well; NaN where nothing is
                      really trained, and in tables from before this column
    ================= ==========================================================================

    Args:
        frame: A pandas data frame with these columns; text as categoricals, counts as int64, numbers as
            float64 (converted where they are not). The table keeps a copy, which nobody may change.

    Raises:
        InvalidSettingError: If a column is missing or unknown.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        if "status" not in self.frame.columns:
            object.__setattr__(self, "frame", self.frame.assign(status=math.nan))
        missing = [name for name in COLUMNS if name not in self.frame.columns]
        unknown = [str(name) for name in self.frame.columns if name not in COLUMNS]
        if missing or unknown:
            raise InvalidSettingError(
                f"A record table has the columns {', '.join(COLUMNS)}; this one lacks "
                f"{', '.join(missing) or 'none'} and has besides {', '.join(unknown) or 'none'}."
            )
        kinds = {"category": _TEXT, "int64": _INTEGERS, "float64": _NUMBERS}
        types = {name: kind for kind, names in kinds.items() for name in names}
        object.__setattr__(self, "frame", self.frame[list(COLUMNS)].astype(types).reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the agents, sorted."""
        return tuple(sorted(map(str, self.frame["agent"].unique())))

    @cached_property
    def layout(self) -> EpisodeLayout:
        """Where the rows stand, computed once: it takes as long as all that is made of it.

        Raises:
            InvalidSettingError: If the table is empty, an agent lacks an episode or a trial that others have (both
                named), or budgets differ.
        """
        return episode_layout(self.frame)

    def require_plausible(self) -> None:
        """Refuse numbers that no evaluation writes.

        Raises:
            InvalidSettingError: Naming the column.
        """
        frame = self.frame
        wrong = [name for name in _TEXT if frame[name].isna().any()]
        wrong += [name for name in ("score", "incumbent") if not frame[name].between(0.0, 1.0).all()]
        # The best that is known of a task may be beaten a little; a start may be worse than the worst that is known.
        known = frame["regret"].isna() | (frame["regret"].ge(-1.0) & frame["regret"].lt(math.inf))
        wrong += [] if known.all() else ["regret"]
        wrong += [] if (frame["spent"].gt(0.0) & frame["spent"].le(frame["trial"] + 1e-3)).all() else ["spent"]
        if wrong:
            raise InvalidSettingError(f"Values of {', '.join(wrong)} are missing or outside their range.")

    @property
    def reproducible(self) -> pd.DataFrame:
        """All columns but the measured ``agent_seconds``: what two evaluations with one seed agree on bitwise."""
        return self.frame.drop(columns="agent_seconds")

    @classmethod
    def concat(cls, tables: Sequence[RecordTable]) -> RecordTable:
        """Return one table of the rows of several.

        Raises:
            InvalidSettingError: If there is none, or if two of them hold the same episode.
        """
        import pandas as pd
        from pandas.api.types import union_categoricals

        if not tables:
            raise InvalidSettingError("There is no record table to join: give at least one.")
        frames = [table.frame for table in tables]
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            parts = [frame[name] for frame in frames]
            joined = union_categoricals(parts, sort_categories=True) if name in _TEXT else pd.concat(parts)
            columns[name] = joined if name in _TEXT else joined.to_numpy()
        table = cls(pd.DataFrame(columns))
        first = table.frame[table.frame["trial"] == 1]
        twice = first[first.duplicated(list(EPISODE))]
        if len(twice):
            cell = ", ".join(f"{name}={twice.iloc[0][name]}" for name in EPISODE if twice.iloc[0][name] != "")
            raise InvalidSettingError(
                f"{len(twice)} episode(s) are in several record tables, the first being {cell}. Join every table "
                "once, and tell training runs of one agent apart by Contender.run."
            )
        return table

    def to_parquet(self, path: str | Path) -> Path:
        """Write the table; a reader sees the whole file or none. Return the path."""
        target = Path(path)
        with replacing(target) as temporary:
            self.frame.to_parquet(temporary, index=False)
        return target

    @classmethod
    def from_parquet(cls, path: str | Path) -> RecordTable:
        """Read a table that :meth:`to_parquet` wrote.

        Raises:
            DataMissingError: If there is no such file.
            DataIntegrityError: If it is no Parquet file, or lacks a column.
        """
        import pandas as pd
        from pyarrow import ArrowInvalid

        target = Path(path)
        if not target.is_file():
            raise DataMissingError(f"There is no record table {target}. Write one with `python evaluate.py`.")
        try:
            table = cls(pd.read_parquet(target))
            table.require_plausible()
            return table
        except (ArrowInvalid, InvalidSettingError, OSError, ValueError) as error:
            raise DataIntegrityError(
                f"{target} is no record table: {error} Delete it and evaluate again with `python evaluate.py`."
            ) from error
