"""Estimators whose hyperparameters are those of embedded response surfaces, so that a policy meets what it knows.

``adaboost`` and ``random_forest`` are OpenML's flows 6970 and 6969, which are pipelines of scikit-learn; ``lcbench`` is
LCBench's network; ``rpart`` is R's tree, of which scikit-learn's tree is another implementation (see
``docs/studies/sim-to-real.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import unknown_name
from hpo_gym.live.libraries import require_library
from hpo_gym.spaces.columns import Value

__all__ = ["EMBEDDED_FAMILIES", "EmbeddedEstimator"]

Configuration = Mapping[str, Value]
FloatArray = NDArray[np.float64]

_FOREST_TREES = 100
# scikit-learn imputes by a constant of the training rows; R's histogram draws from them.
_IMPUTATIONS = {"impute.mean": "mean", "impute.median": "median", "impute.hist": "most_frequent"}


@dataclass(frozen=True)
class EmbeddedEstimator:
    """Makes the estimator of a configuration of an embedded space; plain data, which says the same in every process.

    Args:
        family: One of :data:`EMBEDDED_FAMILIES`.

    Raises:
        UnknownNameError: For another family.
        InvalidSettingError: If scikit-learn is not installed.
    """

    family: str

    def __post_init__(self) -> None:
        if self.family not in EMBEDDED_FAMILIES:
            raise unknown_name("family with an embedded space", self.family, EMBEDDED_FAMILIES)
        require_library("sklearn", f"Family {self.family!r}")

    def __call__(self, random_state: int, **configuration: Value) -> Any:
        """Return an unfitted estimator.

        Args:
            random_state: Seed of everything random about it, in ``[0, 2**32)``.
            configuration: Hyperparameters of the embedded space by name, in natural units.
        """
        return EMBEDDED_FAMILIES[self.family](configuration, random_state)


class _PrunedTree:
    """A tree whose complexity parameter is relative to the impurity of its root, as R's ``cp`` is.

    Args:
        cp: Share of the root's Gini impurity that a split has to be worth, at least 0.
        settings: Of scikit-learn's tree.
    """

    def __init__(self, cp: float, **settings: Any) -> None:
        self.cp, self._settings = cp, settings

    def fit(self, features: FloatArray, target: NDArray[np.int64]) -> _PrunedTree:
        """Train on ``[n, p]`` features and class numbers ``[n]``."""
        from sklearn.tree import DecisionTreeClassifier

        shares = np.unique(target, return_counts=True)[1] / len(target)
        impurity = 1.0 - float((shares**2).sum())
        self._tree = DecisionTreeClassifier(ccp_alpha=self.cp * impurity, **self._settings).fit(features, target)
        self.classes_ = self._tree.classes_
        return self

    def predict(self, features: FloatArray) -> NDArray[np.int64]:
        """Return class numbers, ``[n, p] -> [n]``."""
        labels: NDArray[np.int64] = self._tree.predict(features)
        return labels

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())


def _adaboost(configuration: Configuration, seed: int) -> Any:
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.tree import DecisionTreeClassifier

    from hpo_gym.live.embedded_boosting import RealBoostingClassifier

    settings: dict[str, Any] = dict(configuration)
    algorithm, depth = settings.pop("algorithm"), settings.pop("max_depth")
    imputer = _imputer(settings.pop("imputation"))
    if algorithm == "SAMME":
        tree = DecisionTreeClassifier(max_depth=depth)
        return _pipeline(imputer, VarianceThreshold(), AdaBoostClassifier(tree, random_state=seed, **settings))
    return _pipeline(imputer, VarianceThreshold(), RealBoostingClassifier(depth, random_state=seed, **settings))


def _random_forest(configuration: Configuration, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.feature_selection import VarianceThreshold

    settings: dict[str, Any] = dict(configuration)
    imputer, bootstrap = _imputer(settings.pop("imputation")), settings.pop("bootstrap") == "True"
    forest = RandomForestClassifier(_FOREST_TREES, bootstrap=bootstrap, random_state=seed, n_jobs=1, **settings)
    return _pipeline(imputer, VarianceThreshold(), forest)


def _rpart(configuration: Configuration, seed: int) -> Any:
    settings: dict[str, Any] = dict(configuration)
    tree = _PrunedTree(
        settings["cp"],
        max_depth=settings["maxdepth"],
        min_samples_leaf=settings["minbucket"],
        # A node of one row has nothing to split in R, and is refused as a setting here.
        min_samples_split=max(2, settings["minsplit"]),
        random_state=seed,
    )
    return _pipeline(_imputer(_IMPUTATIONS[settings["num.impute.selected.cpo"]]), tree)


def _lcbench(configuration: Configuration, seed: int) -> Any:
    from sklearn.preprocessing import StandardScaler

    from hpo_gym.live.embedded_network import FunnelClassifier

    settings: dict[str, Any] = dict(configuration)
    return _pipeline(_imputer("mean"), StandardScaler(), FunnelClassifier(**settings, random_state=seed))


def _imputer(strategy: str) -> Any:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy=strategy)


def _pipeline(*steps: Any) -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline([(f"step_{index}", step) for index, step in enumerate(steps)])


#: What makes the estimator of a configuration and a seed, by the name of the embedded space.
EMBEDDED_FAMILIES: Mapping[str, Callable[[Configuration, int], Any]] = MappingProxyType(
    {"adaboost": _adaboost, "random_forest": _random_forest, "rpart": _rpart, "lcbench": _lcbench}
)
