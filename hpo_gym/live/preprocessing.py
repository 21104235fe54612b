"""From the features of a table to what a model sees, learned on training rows alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo_gym.live.table import Table

__all__ = ["MOST_LEVELS", "coded_width", "make_preprocessor"]

#: Levels of a categorical feature that get a column of their own; rarer ones share one.
MOST_LEVELS = 256


def coded_width(table: Table) -> int:
    """Return the most columns that the features of a table become."""
    return sum(min(level, MOST_LEVELS) or 1 for level in table.levels)


def make_preprocessor(table: Table) -> Any:
    """Return an unfitted transformer of ``[n, p]`` features.

    Numeric features: missing values become the median, then mean 0 and deviation 1. Categorical features: missing
    values become the most frequent level, then one column per level; levels that were not seen while fitting are
    ignored (all columns 0, or the column that rare levels share). So does HPOBench (Eggensperger et al. 2021).

    The numeric features come first, in their order. A feature without a value among the training rows is 0.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numeric = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    categorical = make_pipeline(
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_LEVELS, sparse_output=False),
    )
    # Taking columns apart and together again costs more than a small fit.
    if not table.categorical:
        return numeric
    if not table.numeric:
        return categorical
    return ColumnTransformer([("numeric", numeric, table.numeric), ("categorical", categorical, table.categorical)])
