"""Estimators of the user on coded data: columns have positions instead of names, and classes are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, unknown_name

if TYPE_CHECKING:
    from hpo_gym.live.table import Table

__all__ = ["require_positions", "with_coded_classes"]


def require_positions(estimator: Any, table: Table, preprocess: bool) -> None:
    """Refuse an estimator that chooses columns which are not there, or not where it looks for them.

    Args:
        estimator: An estimator of scikit-learn's interface, pipelines included.
        table: What it is to be trained on.
        preprocess: Whether features are preprocessed before.

    Raises:
        InvalidSettingError: If it chooses columns by name, or by position where preprocessing moves them.
    """
    from sklearn.compose import ColumnTransformer

    for part in (estimator, *_parameters(estimator).values()):
        if not isinstance(part, ColumnTransformer):
            continue
        named = next((columns for _, _, columns in part.transformers if _are_names(columns)), None)
        if named is not None:
            raise InvalidSettingError(
                f"A ColumnTransformer chooses the columns {named!r} by name, and a model is given an array: give their "
                f"positions among {list(table.columns)}, and preprocess=False."
            )
        if preprocess and table.categorical:
            raise InvalidSettingError(
                f"A ColumnTransformer chooses columns by position, and preprocessing puts the numeric ones of "
                f"{table.name} first and makes several of each categorical one: use preprocess=False."
            )


def _are_names(columns: Any) -> bool:
    # A function is asked with a data frame, e.g. make_column_selector.
    one = columns if isinstance(columns, str) else next(_items(columns), None)
    return callable(columns) or isinstance(one, str)


def _items(columns: Any) -> Iterator[Any]:
    return iter(columns) if isinstance(columns, list | tuple) else iter(())


def with_coded_classes(estimator: Any, classes: tuple[str, ...]) -> Any:
    """Return an estimator whose ``class_weight`` is by number of the class, where the user's is by its label.

    Args:
        estimator: An unfitted estimator; it is changed.
        classes: Labels of the classes as text, by number.

    Raises:
        UnknownNameError: For the weight of a class that is none.
    """
    for name, weights in _parameters(estimator).items():
        if name.rpartition("__")[2] != "class_weight" or not isinstance(weights, Mapping) or not classes:
            continue
        for label in weights:
            if str(label) not in classes:
                raise unknown_name(f"class of {name}", label, classes)
        estimator.set_params(**{name: {classes.index(str(label)): weight for label, weight in weights.items()}})
    return estimator


def _parameters(estimator: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return found
