"""Rows as a model sees them; what is small is kept from one training to the next."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hpo_gym.live.datasets import DataSource, load_table
from hpo_gym.live.preprocessing import coded_width, make_preprocessor
from hpo_gym.live.validation import Splits, Validation, make_splits

__all__ = ["rows_of_fold", "splits_of"]

FloatArray = NDArray[np.float64]

# At most so many numbers of each fold and number of rows (2 MB): more would fill the memory, and take longer to train
# on than to preprocess.
_KEPT_NUMBERS = 250_000


def rows_of_fold(
    data: DataSource, validation: Validation, fold: int, rows: int, preprocess: bool
) -> tuple[FloatArray, ...]:
    """Return the first training rows of a fold, its validation rows and the test rows as a model sees them.

    Args:
        data: Of which table.
        validation: Which rows are which.
        fold: Number of the fold.
        rows: How many training rows.
        preprocess: Whether they are preprocessed as learned on these training rows.

    Returns:
        Three arrays that the caller may write into.
    """
    table, splits = load_table(data), splits_of(data, validation)
    if not preprocess:
        split = splits.folds[fold]
        return tuple(table.values[part] for part in (split.train[:rows], split.validation, splits.test))
    small = table.num_rows * coded_width(table) <= _KEPT_NUMBERS
    prepare = _preprocessed if small else _preprocessed.__wrapped__
    return tuple(part.copy("K") for part in prepare(data, validation, fold, rows))


@lru_cache(maxsize=16)
def _preprocessed(data: DataSource, validation: Validation, fold: int, rows: int) -> tuple[FloatArray, ...]:
    table, splits = load_table(data), splits_of(data, validation)
    split = splits.folds[fold]
    preprocessor = make_preprocessor(table)
    features = preprocessor.fit_transform(table.values[split.train[:rows]])
    held = preprocessor.transform(table.values[split.validation])
    test = table.values[splits.test]
    return features, held, preprocessor.transform(test) if len(test) else test


@lru_cache(maxsize=16)
def splits_of(data: DataSource, validation: Validation) -> Splits:
    """Return the rows of every part; found once per process."""
    return make_splits(load_table(data), validation)
