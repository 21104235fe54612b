"""The model that was found, trained on all rows: what is used once a search is over."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.datasets import as_frame_and_target
from hpo_gym.live.frame_coder import FrameCoder, as_features
from hpo_gym.live.frames import table_from_frame
from hpo_gym.live.live_objective import LiveObjective
from hpo_gym.live.preprocessing import make_preprocessor
from hpo_gym.seeding import stream_seed
from hpo_gym.spaces.columns import Value
from hpo_gym.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["refit"]


def refit(
    objective: LiveObjective,
    configuration: Mapping[str, Value],
    X: pd.DataFrame | ArrayLike,
    y: pd.Series | ArrayLike,
    *,
    seed: int = 0,
) -> Pipeline:
    """Train a configuration on all rows, as it was trained for its score: preprocessed, for all iterations.

    Args:
        objective: What was tuned.
        configuration: E.g. :attr:`agents.tuning.Tuned.configuration`.
        X: Rows ``[n, p]`` as the objective was given them: a data frame with the same columns, or an array.
        y: ``n`` targets, classes by their labels.
        seed: Seed of the model, as the objective is called.

    Returns:
        A fitted pipeline of scikit-learn. It takes rows like those of ``X`` (levels that it has not seen are missing
        values to it) and predicts labels as they are in ``y``.

    Raises:
        InvalidSettingError: If ``X`` has other columns than the objective's data, or cannot be trained on.
        UnknownNameError: For an unknown hyperparameter.
        Exception: Whatever the training raises.
    """
    frame, target = as_frame_and_target(X, y, "X")
    known = objective.table
    if known.task == "classification":
        target = target.astype("category").cat.remove_unused_categories()
    table = table_from_frame("X", frame, target, task=known.task, image=known.image)
    _require_alike(table.columns, table.levels, known.columns, known.levels)
    coder = _Coded().fit(frame)
    steps: list[tuple[str, Any]] = [("coded", coder)]
    features = table.values
    if objective.preprocess:
        steps.append(("preprocessed", make_preprocessor(table)))
        features = steps[-1][1].fit_transform(features)
    fit = objective.fit_of(table, len(features), features.shape[1], stream_seed(seed, "live", 0) % 2**32)
    with one_thread(), warnings.catch_warnings():
        # As many iterations as it was scored with are what is wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = objective.build(configuration, fit, table).fit(features, table.target)
    steps.append(("model", _Labelled(model, np.asarray(target.cat.categories)) if table.classes else model))
    return Pipeline(steps)


def _require_alike(
    columns: tuple[str, ...], levels: tuple[int, ...], known: tuple[str, ...], known_levels: tuple[int, ...]
) -> None:
    if columns != known:
        raise InvalidSettingError(
            f"X has the columns {list(columns)}, and the objective's data {list(known)}: give the same, in their order."
        )
    for name, level, other in zip(columns, levels, known_levels, strict=True):
        if (level > 0) != (other > 0):
            kinds = {True: "categorical", False: "numeric"}
            raise InvalidSettingError(
                f"Column {name!r} of X is {kinds[level > 0]}, and {kinds[other > 0]} in the objective's data: give it "
                "as it was."
            )


class _Coded(TransformerMixin, BaseEstimator):
    """Rows as a table codes them."""

    def fit(self, X: Any, y: Any = None) -> _Coded:
        self.coder_ = FrameCoder.of(as_features(X, "categorical", "X"))
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        return self.coder_(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coder_")


class _Labelled(ClassifierMixin, BaseEstimator):
    """A fitted classifier of numbers that predicts labels.

    Args:
        model: What was fitted.
        classes: Labels by number.
    """

    def __init__(self, model: Any, classes: NDArray[Any]) -> None:
        self.model, self.classes = model, classes

    @property
    def classes_(self) -> NDArray[Any]:
        return self.classes

    def fit(self, X: Any, y: Any) -> _Labelled:
        codes = {label: code for code, label in enumerate(self.classes.tolist())}
        self.model.fit(X, np.array([codes[label] for label in np.asarray(y).tolist()]))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.classes[np.asarray(self.model.predict(X), dtype=np.int64)]
        return found

    @available_if(lambda self: hasattr(self.model, "predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.model.predict_proba(X)
        return found

    def __sklearn_is_fitted__(self) -> bool:
        return True
