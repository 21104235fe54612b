"""Search spaces of the model families, under the names that live objectives go by.

``xgb``, ``svm``, ``nn``, ``lr``, ``rf`` and ``histgb`` are the spaces of HPOBench (Eggensperger et al. 2021, arXiv
2109.06716), as GRPOformer's released code uses them (arXiv 2509.17105): ranges, scales, and HPOBench's defaults.
``knn`` searches exactly, so that of ``rbv2_aknn`` in YAHPO Gym (Pfisterer et al. 2022) it keeps the number of
neighbours and the metric; it and the others are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from hpo_gym.errors import unknown_name
from hpo_gym.spaces.columns import Column, Value
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["GRPOFORMER_FAMILIES", "PRESETS", "TaskType", "preset_space"]

#: What a model learns: classes, or numbers.
TaskType = Literal["classification", "regression"]

#: The six families of GRPOformer's 36 scenarios.
GRPOFORMER_FAMILIES = ("xgb", "svm", "nn", "lr", "rf", "histgb")


def _float(name: str, lower: float, upper: float, default: float, *, log: bool = True) -> Column:
    return Column(name, "float", lower, upper, log, default=default)


def _integer(name: str, lower: int, upper: int, default: int, *, log: bool = True) -> Column:
    return Column(name, "integer", lower, upper, log, default=default)


def _choice(name: str, choices: tuple[Value, ...], default: Value) -> Column:
    return Column(name, "categorical", choices=choices, default=default)


# How the networks of torch are trained, whatever their shape.
_TORCH = (
    _integer("batch_size", 8, 256, 32),
    _float("dropout", 0.0, 0.6, 0.1, log=False),
    _float("weight_decay", 1e-6, 1e-1, 1e-4),
    _float("learning_rate", 1e-5, 1e-1, 1e-3),
)

_CLASSIFICATION: dict[str, tuple[Column, ...]] = {
    "xgb": (
        _float("eta", 2**-10, 1.0, 0.3),
        _integer("max_depth", 1, 50, 10),
        _float("colsample_bytree", 0.1, 1.0, 1.0, log=False),
        _float("reg_lambda", 2**-10, 2**10, 1.0),
    ),
    "svm": (_float("C", 2**-10, 2**10, 1.0), _float("gamma", 2**-10, 2**10, 0.1)),
    "nn": (
        _integer("depth", 1, 3, 3, log=False),
        _integer("width", 16, 1024, 64),
        _integer("batch_size", 4, 256, 32),
        _float("alpha", 1e-8, 1.0, 1e-3),
        _float("learning_rate_init", 1e-5, 1.0, 1e-3),
    ),
    "lr": (_float("alpha", 1e-5, 1.0, 1e-3), _float("eta0", 1e-5, 1.0, 1e-2)),
    "rf": (
        _integer("max_depth", 1, 50, 10),
        _integer("min_samples_split", 2, 128, 32),
        _float("max_features", 0.0, 1.0, 0.5, log=False),
        _integer("min_samples_leaf", 1, 20, 1, log=False),
    ),
    "histgb": (
        _integer("max_depth", 6, 30, 6),
        _integer("max_leaf_nodes", 2, 64, 32),
        _float("learning_rate", 2**-10, 1.0, 0.1),
        _float("l2_regularization", 2**-10, 2**10, 0.1),
    ),
    "knn": (
        _integer("n_neighbors", 1, 50, 7),
        _choice("weights", ("uniform", "distance"), "uniform"),
        _integer("p", 1, 3, 2, log=False),
    ),
    "lightgbm": (
        _float("learning_rate", 2**-10, 1.0, 0.1),
        _integer("num_leaves", 2, 256, 31),
        _integer("min_child_samples", 1, 100, 20),
        _float("colsample_bytree", 0.1, 1.0, 1.0, log=False),
        _float("reg_lambda", 2**-10, 2**10, 1.0),
    ),
    "torch_mlp": (_integer("depth", 1, 3, 2, log=False), _integer("width", 16, 256, 64), *_TORCH),
    "torch_cnn": (_integer("blocks", 1, 2, 2, log=False), _integer("channels", 4, 32, 16), *_TORCH),
}

# What regression adds to a support vector machine: the width of the tube within which it counts no error, in
# deviations of the target.
_EPSILON = _float("epsilon", 1e-3, 1.0, 0.1)


def _spec(columns: tuple[Column, ...]) -> SpaceSpec:
    return SpaceSpec(columns, {})


#: Search spaces by family and task type.
PRESETS: Mapping[str, Mapping[TaskType, SpaceSpec]] = MappingProxyType(
    {
        name: MappingProxyType(
            {
                "classification": _spec(columns),
                "regression": _spec((*columns, _EPSILON) if name == "svm" else columns),
            }
        )
        for name, columns in _CLASSIFICATION.items()
    }
)


def preset_space(family: str, task: TaskType = "classification") -> SpaceSpec:
    """Return the search space of a model family.

    Args:
        family: One of :data:`PRESETS`.
        task: What is learned; ``svm`` has one hyperparameter more for regression.

    Raises:
        UnknownNameError: For an unknown family or task type.
    """
    if family not in PRESETS:
        raise unknown_name("model family", family, PRESETS)
    if task not in PRESETS[family]:
        raise unknown_name("task type", task, PRESETS[family])
    return PRESETS[family][task]
