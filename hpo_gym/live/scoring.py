"""Metrics of live objectives: scikit-learn's scorers under the names that papers use, with direction and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import InvalidSettingError, require_names, unknown_name
from hpo_gym.live.presets import TaskType
from hpo_gym.surrogates.base import Metric

if TYPE_CHECKING:
    from hpo_gym.live.table import Table

__all__ = [
    "DEFAULT_METRICS",
    "SCORES",
    "TEST_PREFIX",
    "Score",
    "check_parts",
    "check_scores",
    "find_score",
    "metric_of",
    "score_model",
]

#: The score on the test rows goes by the name of the metric behind this.
TEST_PREFIX = "test_"

# -log of the smallest probability that scikit-learn does not round up: the machine epsilon of float64.
_WORST_LOG_LOSS = 36.05
# An error of ten times the range of the target is the worst that is told apart.
_RANGES = 10.0


@dataclass(frozen=True)
class Score:
    """One metric.

    Args:
        scorer: Name of scikit-learn's scorer.
        task: What it is for.
        minimize: Whether smaller is better; scikit-learn's scorer is then its negative.
        lower: Smallest legal value.
        upper: Largest legal value; ``None``: ten times the range of the target.
        probabilities: Whether it needs probabilities of classes.
    """

    scorer: str
    task: TaskType
    minimize: bool = False
    lower: float = 0.0
    upper: float | None = 1.0
    probabilities: bool = False


def _error(name: str, **bounds: Any) -> Score:
    return Score(name, "regression", minimize=True, **bounds)


#: Metrics by name. ``r2`` has no lower bound; below -1 a model is called as bad as -1.
SCORES: Mapping[str, Score] = MappingProxyType(
    {
        "accuracy": Score("accuracy", "classification"),
        "balanced_accuracy": Score("balanced_accuracy", "classification"),
        "f1_macro": Score("f1_macro", "classification"),
        "precision_macro": Score("precision_macro", "classification"),
        "recall_macro": Score("recall_macro", "classification"),
        "mcc": Score("matthews_corrcoef", "classification", lower=-1.0),
        "roc_auc": Score("roc_auc_ovr", "classification", probabilities=True),
        "log_loss": Score("neg_log_loss", "classification", minimize=True, upper=_WORST_LOG_LOSS, probabilities=True),
        "r2": Score("r2", "regression", lower=-1.0),
        "rmse": _error("neg_root_mean_squared_error", upper=None),
        "mae": _error("neg_mean_absolute_error", upper=None),
        "median_absolute_error": _error("neg_median_absolute_error", upper=None),
    }
)

#: What is reported if nothing is asked for; the first is optimised.
DEFAULT_METRICS: Mapping[TaskType, tuple[str, ...]] = MappingProxyType(
    {"classification": ("accuracy", "balanced_accuracy", "f1_macro"), "regression": ("r2", "rmse", "mae")}
)


def find_score(name: str) -> Score:
    """Return a metric by name.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in SCORES:
        raise unknown_name("metric", name, SCORES)
    return SCORES[name]


def check_scores(names: Sequence[str], task: TaskType) -> None:
    """Check that metrics are known and are of a task type.

    Raises:
        UnknownNameError: If one is not.
    """
    allowed = [name for name, score in SCORES.items() if score.task == task]
    require_names(f"metric of {task}", names, allowed)


def check_parts(names: Sequence[str], table: Table, parts: Sequence[NDArray[np.int64]]) -> None:
    """Check that every class is among the rows of every part, if a metric cannot do without.

    Args:
        names: Metrics.
        table: The dataset.
        parts: Row numbers of each part that is scored.

    Raises:
        InvalidSettingError: If one is not.
    """
    needy = [name for name in names if SCORES[name].probabilities]
    if not needy:
        return
    for rows in parts:
        absent = np.setdiff1d(np.arange(len(table.classes)), table.target[rows])
        if len(absent):
            raise InvalidSettingError(
                f"{needy[0]} needs every class among the rows that it is computed on, and {len(rows)} rows of "
                f"{table.name} hold none of class {table.classes[int(absent[0])]!r}: use larger parts, fewer folds, or "
                "another metric."
            )


def metric_of(name: str, table: Table) -> Metric:
    """Return a metric, or that of the test rows by its prefix, with bounds that hold for a dataset.

    Raises:
        UnknownNameError: For an unknown metric.
    """
    bare = name.removeprefix(TEST_PREFIX)
    check_scores([bare], table.task)
    score = SCORES[bare]
    upper = float(_RANGES * np.ptp(table.target)) if score.upper is None else score.upper
    return Metric(name, score.minimize, score.lower, upper)


def score_model(model: Any, features: Any, target: Any, names: Sequence[str]) -> dict[str, float]:
    """Return metrics of a fitted model; it predicts once for all of them.

    Args:
        model: A fitted estimator of scikit-learn's interface.
        features: ``[n, p]``.
        target: ``[n]``.
        names: Which metrics.

    Raises:
        ValueError: What scikit-learn makes of predictions that are NaN or infinite, and of a part without some class.
    """
    from sklearn.metrics import check_scoring

    scorers = [SCORES[name].scorer for name in names]
    found = check_scoring(model, scoring=scorers)(model, features, target)
    return {
        name: float(-found[SCORES[name].scorer] if SCORES[name].minimize else found[SCORES[name].scorer])
        for name in names
    }
