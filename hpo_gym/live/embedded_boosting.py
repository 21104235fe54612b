"""AdaBoost with class probabilities (SAMME.R), which OpenML's flow 6970 tunes and scikit-learn had up to 1.5."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["RealBoostingClassifier"]

FloatArray = NDArray[np.float64]

_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
_MOST_SEED = 2**31


class RealBoostingClassifier:
    """Decision trees boosted by SAMME.R (Zhu, Zou, Rosset and Hastie 2009, "Multi-class AdaBoost", algorithm 4).

    Steps, clipping and stopping are those of ``AdaBoostClassifier(algorithm="SAMME.R")`` of scikit-learn 1.5.

    Args:
        max_depth: Of every tree, at least 1.
        n_estimators: Most trees, at least 1.
        learning_rate: Shrinks the change of the weights, > 0.
        random_state: Seed of the trees.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    def __init__(self, max_depth: int, n_estimators: int, learning_rate: float, random_state: int) -> None:
        require_integer("max_depth", max_depth, 1)
        require_integer("n_estimators", n_estimators, 1)
        if not learning_rate > 0.0:
            raise InvalidSettingError(f"learning_rate={learning_rate!r} must be greater than 0, e.g. 1.0.")
        self.max_depth, self.n_estimators = max_depth, n_estimators
        self.learning_rate, self.random_state = learning_rate, random_state
        self._trees: list[Any] = []

    def fit(self, features: FloatArray, target: NDArray[np.int64]) -> RealBoostingClassifier:
        """Train on ``[n, p]`` features and class numbers ``[n]``."""
        from sklearn.tree import DecisionTreeClassifier

        self._trees = []
        self.classes_ = np.unique(target)
        classes = len(self.classes_)
        # A class has 1, the others together -1: equation 7 of the paper.
        coding = np.where(self.classes_ == target[:, None], 1.0, -1.0 / max(1, classes - 1))
        weight = np.full(len(target), 1.0 / len(target))
        draws = np.random.default_rng(self.random_state)
        for step in range(self.n_estimators):
            tree = DecisionTreeClassifier(max_depth=self.max_depth, random_state=int(draws.integers(_MOST_SEED)))
            tree.fit(features, target, sample_weight=weight)
            self._trees.append(tree)
            probability = tree.predict_proba(features)
            wrong = self.classes_[probability.argmax(1)] != target
            # A tree without an error leaves nothing to boost.
            if float(np.average(wrong, weights=weight)) <= 0.0 or step == self.n_estimators - 1:
                break
            logs = np.log(probability.clip(_LEAST_PROBABILITY))
            change = -self.learning_rate * (classes - 1) / classes * (coding * logs).sum(1)
            with np.errstate(over="ignore"):
                weight = weight * np.exp(change * ((weight > 0.0) | (change < 0.0)))
            total = float(weight.sum())
            if not np.isfinite(total) or total <= 0.0:
                break
            weight = weight / total
        return self

    def predict(self, features: FloatArray) -> NDArray[np.int64]:
        """Return class numbers, ``[n, p] -> [n]``: the largest sum of centred log-probabilities."""
        total = np.zeros((len(features), len(self.classes_)))
        for tree in self._trees:
            logs = np.log(tree.predict_proba(features).clip(_LEAST_PROBABILITY))
            total += logs - logs.mean(1, keepdims=True)
        labels: NDArray[np.int64] = self.classes_[total.argmax(1)]
        return labels

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())
