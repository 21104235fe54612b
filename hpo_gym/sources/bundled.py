"""The embedded default: response surfaces that travel with the package."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.sources.bundle_files import BUNDLE_FOLDER, bundled_spaces, read_bundle
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SPACE", "bundled_spaces", "load_bundled"]

DEFAULT_SPACE = "rpart"

_RANGE = ("worst", "median", "best", "best_u")


def load_bundled(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
) -> TaskSuite:
    """Load an embedded space: ``rpart``, ``xgboost``, ``ranger``, ``lcbench``, ``adaboost`` or
    ``random_forest``.

    Args:
        space: The space; ``None`` means ``rpart``.
        metric: The optimised metric; the known range holds for the main one only.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        data_dir: A folder with a bundle of your own (``python -m hpo_gym.fit_bundle --output``).

    Raises:
        UnknownNameError: For an unknown space or metric.
        DataError: If a file of the bundle is missing or corrupt.
    """
    name = space or DEFAULT_SPACE
    header, tensors = read_bundle(name, BUNDLE_FOLDER if data_dir is None else Path(data_dir))
    specification = SpaceSpec.from_json(header["space"])
    surrogate = _surrogate(header, specification, tensors)
    tasks = tuple(TaskRef.parse(text) for text in header["tasks"])
    spec = SuiteSpec(
        name=name,
        source="bundled",
        metric=metric or header["metric"],
        tasks=tasks,
        cost_metric=header["cost_metric"],
        notes=tuple(header["notes"]),
        provenance=header["provenance"],
    )
    known = None
    if spec.metric == header["metric"]:
        worst, median, best, best_u = (tensors[f"range.{part}"].float() for part in _RANGE)
        known = KnownRange(worst, median, best, best_u, header["range_method"])
    features = suite_meta_features(name, protocol, tasks)
    return TaskSuite(spec, SearchSpace(specification), surrogate, features, known)


def _surrogate(header: dict[str, Any], space: SpaceSpec, tensors: dict[str, Tensor]) -> Surrogate:
    prefix = "network."
    state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    kinds = {
        "compact": "hpo_gym.surrogates.compact:CompactSurrogate",
        "fitted": "hpo_gym.surrogates.fitted:FittedSurrogate",
    }
    if header["kind"] not in kinds:
        raise InvalidSettingError(
            f"This bundle holds a surrogate of kind {header['kind']!r}, which this version of "
            f"hpo_gym does not know ({', '.join(kinds)}). Update hpo_gym."
        )
    module, _, name = kinds[header["kind"]].partition(":")
    surrogate_class = getattr(import_module(module), name)
    with torch.no_grad():
        surrogate: Surrogate = surrogate_class.from_state(space, header["network"], state)
    return surrogate
