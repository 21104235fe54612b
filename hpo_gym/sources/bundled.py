"""The embedded default: response surfaces that travel with the package."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.sources.bundle_files import BUNDLE_FOLDER, bundled_spaces, read_bundle
from hpo_gym.sources.ranges import load_range, range_name
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SPACE", "bundled_spaces", "load_bundled"]

DEFAULT_SPACE = "rpart"

_RANGE = ("worst", "median", "best", "best_u")

# A row in a batch of another size goes through other matrix kernels and differs in its last bits.
_SAME_SCORE = 2e-5


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
        metric: The optimised metric; the bundle holds the range of the main one, and
            ``python -m hpo_gym.find_optima bundled <space> --metric <metric>`` finds that of another.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        data_dir: The folder of a bundle of your own itself (``python -m hpo_gym.fit_bundle --output``).

    Raises:
        UnknownNameError: For an unknown space or metric.
        DataError: If a file of the bundle is missing or corrupt.
    """
    name = space or DEFAULT_SPACE
    folder = BUNDLE_FOLDER if data_dir is None else Path(data_dir)
    header, tensors = read_bundle(name, folder)
    # read_bundle has compared the files with it.
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    checksums = {file: manifest[file] for file in (f"{name}.json", f"{name}.safetensors")}
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
        provenance={**header["provenance"], "sha256": checksums},
    )
    features = suite_meta_features(name, protocol, tasks)
    suite = TaskSuite(spec, SearchSpace(specification), surrogate, features)
    if spec.metric == header["metric"]:
        worst, median, best, best_u = (tensors[f"range.{part}"].float() for part in _RANGE)
        suite.known_range = KnownRange(worst, median, best, best_u, header["range_method"])
    else:
        found = load_range(range_name("bundled", name, "default", spec.metric), tasks)
        suite.known_range = found if found is not None and _belongs(found, suite) else None
    return suite


def _belongs(known: KnownRange, suite: TaskSuite) -> bool:
    """Whether a range was found on these surfaces: a bundle of one's own, or of another version, has other ones."""
    if known.best_u.shape[1] != suite.space.dimension:
        return False
    u = known.best_u
    score = suite.evaluate(torch.arange(suite.num_tasks), u, suite.space.active(u)).score
    return bool(((score - known.best).abs() <= _SAME_SCORE).all())


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
