"""Columns of data frames as numbers: what is numeric, what is categorical, and which level has which number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import InvalidSettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameCoder", "TextColumns", "as_features", "is_text", "with_text_names"]

#: What becomes of columns of text.
TextColumns = Literal["categorical", "drop"]


@dataclass(frozen=True)
class FrameCoder:
    """Codes rows of a data frame as those that it was made of.

    Args:
        columns: Names of the ``p`` columns.
        levels: Levels of each by number; ``None``: numeric.
    """

    columns: tuple[str, ...]
    levels: tuple[pd.Index | None, ...]

    @classmethod
    def of(cls, features: pd.DataFrame) -> FrameCoder:
        """Return the coder of a frame that :func:`as_features` returned."""
        import pandas as pd

        levels = []
        for name in features.columns:
            column = features[name]
            if pd.api.types.is_bool_dtype(column.dtype):
                column = column.astype("category")
            levels.append(column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None)
        return cls(tuple(features.columns), tuple(levels))

    def counts(self) -> tuple[int, ...]:
        """Return the number of levels of each column; 0: numeric. One without a level is categorical nevertheless."""
        return tuple(0 if levels is None else max(1, len(levels)) for levels in self.levels)

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """Return rows as numbers, NaN where missing or of a level that is unknown, float64 ``[n, p]``.

        Raises:
            InvalidSettingError: If they have other columns, or text where there were numbers.
        """
        import pandas as pd

        frame = with_text_names(rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(np.asarray(rows)), "X")
        if tuple(frame.columns) != self.columns:
            raise InvalidSettingError(
                f"X has the columns {list(frame.columns)}, expected {list(self.columns)}: give those, in their order."
            )
        values = np.empty(frame.shape)
        for index, (name, levels) in enumerate(zip(self.columns, self.levels, strict=True)):
            column = frame[name]
            if levels is not None:
                codes = levels.get_indexer_for(np.asarray(column, dtype=object))
                values[:, index] = np.where(codes < 0, np.nan, codes)
                continue
            try:
                values[:, index] = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
            except (TypeError, ValueError) as error:
                raise InvalidSettingError(f"Column {name!r} of X was numeric, and now is not: {error}.") from error
        return values


def as_features(features: pd.DataFrame, text: TextColumns, name: str) -> pd.DataFrame:
    """Return a frame of numbers and categories, and of text where that is to be dropped.

    Columns of objects that are all numbers or missing are numbers: an array of mixed rows, or one ``None`` among
    floats, makes objects of numbers.

    Args:
        features: ``p`` columns.
        text: What becomes of text.
        name: What messages call the data.

    Raises:
        InvalidSettingError: If column names repeat, or for times.
    """
    features = with_text_names(features, name).infer_objects()
    times = list(features.select_dtypes(["datetime", "datetimetz", "timedelta"]).columns)
    if times:
        raise InvalidSettingError(
            f"{name} has times in {times}: make numbers of them, e.g. seconds since a date, or leave them out (of a "
            "file: data_source(<path>, drop=(...)))."
        )
    import pandas as pd

    objects = [column for column in features.columns if features[column].dtype == object]
    numbers = {column: pd.to_numeric(features[column]) for column in objects if _are_numbers(features[column].dropna())}
    features = features.assign(**numbers)
    if text == "drop":
        return features
    return features.astype({column: "category" for column in features.columns if is_text(features[column])})


def _are_numbers(there: Iterable[Any]) -> bool:
    values = list(there)
    return bool(values) and all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def is_text(column: pd.Series) -> bool:
    """Whether a column is neither numeric nor categorical."""
    import pandas as pd

    return not (isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_numeric_dtype(column.dtype))


def with_text_names(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a frame whose columns are named by text.

    Raises:
        InvalidSettingError: If names repeat.
    """
    columns = [str(column) for column in frame.columns]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InvalidSettingError(f"{name} has columns of the same name: {repeated}. Rename them.")
    return frame.set_axis(columns, axis=1)
