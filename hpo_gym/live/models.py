"""The model families of scikit-learn, XGBoost and LightGBM: what is built from a configuration.

The settings that are not tuned are those of HPOBench (Eggensperger et al. 2021, arXiv 2109.06716), as far as
GRPOformer's released code uses its classes; regression variants and the other families are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.live.fit import Fit
from hpo_gym.live.libraries import require_library
from hpo_gym.live.presets import PRESETS
from hpo_gym.spaces.columns import Value

__all__ = ["FAMILIES", "ModelFamily", "find_family"]

Configuration = Mapping[str, Value]

# HPOBench's ensembles have up to 2,000 trees; GRPOformer's code sets 128, and 100 epochs.
_TREES = 128
_EPOCHS = 100
_SVM_FOLDS = 3


@dataclass(frozen=True)
class ModelFamily:
    """A kind of model.

    Args:
        name: Its name, also of its search space in :data:`~hpo_gym.live.presets.PRESETS`.
        build: Makes an unfitted estimator of scikit-learn's interface.
        iterations: Trees, rounds or epochs of a full training; 0: a model without such.
        library: The module that it needs.
        images: Whether it needs images.
        calibration_folds: Folds that probabilities are learned by: so many rows of every class they need; 0: none.
    """

    name: str
    build: Callable[[Configuration, Fit], Any]
    iterations: int = 0
    library: str = "sklearn"
    images: bool = False
    calibration_folds: int = 0


def find_family(name: str) -> ModelFamily:
    """Return a model family.

    Raises:
        UnknownNameError: If there is none of that name.
        InvalidSettingError: If its library is not installed.
    """
    if name not in FAMILIES:
        raise unknown_name("model family", name, FAMILIES)
    family = FAMILIES[name]
    require_library(family.library, f"Model family {name!r}")
    return family


def _scaled(regressor: Any) -> Any:
    """Return a regressor that learns a standardised target: step sizes and tolerances are in its deviations."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


def _svm(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC, SVR

    if not fit.classification:
        return _scaled(SVR(**configuration))
    model = SVC(**configuration, random_state=fit.seed)
    # Platt scaling; SVC's own is deprecated.
    return CalibratedClassifierCV(model, ensemble=False, cv=_SVM_FOLDS) if fit.probabilities else model


def _rf(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if fit.classification else RandomForestRegressor
    features = max(1, round(fit.features ** float(_number(configuration["max_features"]))))
    settings = {**configuration, "max_features": features}
    return kind(n_estimators=fit.iterations, bootstrap=True, random_state=fit.seed, n_jobs=1, **settings)


def _histgb(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if fit.classification else HistGradientBoostingRegressor
    return kind(max_iter=fit.iterations, early_stopping=False, random_state=fit.seed, **configuration)


def _lr(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    # Without a tolerance the adaptive schedule never lowers the step size: eta0 is constant.
    fixed = {"learning_rate": "adaptive", "tol": None, "max_iter": fit.iterations, "random_state": fit.seed}
    if fit.classification:
        return SGDClassifier(loss="log_loss", **fixed, **configuration)
    return _scaled(SGDRegressor(loss="squared_error", **fixed, **configuration))


def _knn(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsClassifier if fit.classification else KNeighborsRegressor
    neighbours = min(int(_number(configuration["n_neighbors"])), fit.rows)
    return kind(**{**configuration, "n_neighbors": neighbours}, n_jobs=1)


def _nn(configuration: Configuration, fit: Fit) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    settings = dict(configuration)
    depth, width = int(_number(settings.pop("depth"))), int(_number(settings.pop("width")))
    batch = min(int(_number(settings.pop("batch_size"))), fit.rows)
    kind = MLPClassifier if fit.classification else MLPRegressor
    # All epochs are trained: stopping early would make the fidelity depend on the configuration.
    model = kind(
        hidden_layer_sizes=(width,) * depth,
        batch_size=batch,
        max_iter=fit.iterations,
        n_iter_no_change=fit.iterations + 1,
        random_state=fit.seed,
        **settings,
    )
    return model if fit.classification else _scaled(model)


def _xgb(configuration: Configuration, fit: Fit) -> Any:
    library = import_module("xgboost")
    kind = library.XGBClassifier if fit.classification else library.XGBRegressor
    settings = dict(configuration)
    rate = settings.pop("eta")
    return kind(
        n_estimators=fit.iterations,
        learning_rate=rate,
        tree_method="hist",
        n_jobs=1,
        random_state=fit.seed % 2**31,
        verbosity=0,
        **settings,
    )


def _lightgbm(configuration: Configuration, fit: Fit) -> Any:
    library = import_module("lightgbm")
    kind = library.LGBMClassifier if fit.classification else library.LGBMRegressor
    return kind(
        n_estimators=fit.iterations,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        random_state=fit.seed % 2**31,
        verbosity=-1,
        **configuration,
    )


def _torch_mlp(configuration: Configuration, fit: Fit) -> Any:
    from hpo_gym.live.torch_models import make_network_model

    return make_network_model("mlp", configuration, fit)


def _torch_cnn(configuration: Configuration, fit: Fit) -> Any:
    from hpo_gym.live.torch_models import make_network_model

    return make_network_model("cnn", configuration, fit)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSettingError(f"A hyperparameter is {value!r}, which is no number.")
    return value


#: Model families by name.
FAMILIES: Mapping[str, ModelFamily] = MappingProxyType(
    {
        family.name: family
        for family in (
            ModelFamily("xgb", _xgb, _TREES, "xgboost"),
            ModelFamily("svm", _svm, calibration_folds=_SVM_FOLDS),
            ModelFamily("nn", _nn, _EPOCHS),
            ModelFamily("lr", _lr, _EPOCHS),
            ModelFamily("rf", _rf, _TREES),
            ModelFamily("histgb", _histgb, _TREES),
            ModelFamily("knn", _knn),
            ModelFamily("lightgbm", _lightgbm, _TREES, "lightgbm"),
            ModelFamily("torch_mlp", _torch_mlp, 30),
            ModelFamily("torch_cnn", _torch_cnn, 20, images=True),
        )
    }
)
assert set(FAMILIES) == set(PRESETS)
