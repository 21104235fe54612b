"""Suites of synthetic functions: BBOB-type ones with a known optimum, random ones on random spaces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.spaces.random_spaces import random_space
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.surrogates.random_functions import RandomFunctions
from hpo_gym.surrogates.synthetic import SyntheticSurrogate
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SPACE", "is_synthetic", "load_synthetic"]

DEFAULT_SPACE = "bbob-5d"

_NAME = re.compile(r"(bbob|mixed)-([1-9]\d?)d(?:-([1-9]\d*))?")

_BBOB_INSTANCES = 8
_MIXED_INSTANCES = 64
# A second on one core, and within a hundredth or two of the range of what far more effort finds. A round of coordinate
# search gains as much as gradients do, and torch's first optimiser alone takes two seconds to import.
_MIXED_SEARCH = OptimumSearch(sobol=2048, starts=8, rounds=3, gradient_steps=0, local_candidates=16)


def is_synthetic(space: str) -> bool:
    """Return whether a search space is called as those of this source are."""
    return _NAME.fullmatch(space) is not None


def load_synthetic(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    functions: Sequence[str] | None = None,
    instances: int | None = None,
    seed: int = 0,
) -> TaskSuite:
    """Load synthetic functions.

    ``bbob-<D>d``: shifted and rotated BBOB-type functions of ``D`` floats. ``mixed-<D>d``: random smooth functions
    on a random space of ``D`` floats, integers and categoricals, with conditions from ``D = 4`` on;
    ``mixed-<D>d-<V>`` is another such space, of other hyperparameters.

    Args:
        space: ``bbob-<D>d``, ``mixed-<D>d`` or ``mixed-<D>d-<V>`` with ``D`` from 2 to 16 and ``V`` from 1 on;
            ``None`` means ``bbob-5d``.
        metric: ``gap`` (default) or ``value`` of ``bbob``; ``quality`` of ``mixed``.
        protocol: Split protocol; instances (of every function) are spread over the splits.
        data_dir: Must be ``None``: nothing is read.
        functions: Names of the functions of ``bbob``; ``None`` means all.
        instances: Shifts and rotations per function of ``bbob``, ``None`` meaning 8; functions of ``mixed``, ``None``
            meaning 64.
        seed: Root of the shifts and rotations, or of the random functions; a ``mixed`` space is always the same.

    Raises:
        UnknownNameError: For an unknown space, function or metric.
        InvalidSettingError: For an argument outside its range.
    """
    if data_dir is not None:
        raise InvalidSettingError("source='synthetic' reads no files; leave data_dir=None.")
    name = space or DEFAULT_SPACE
    match = _NAME.fullmatch(name)
    if match is None or not 2 <= int(match[2]) <= 16 or (match[1] == "bbob" and match[3]):
        raise unknown_name("synthetic space", name, _names(), "A variant, as in 'mixed-6d-3', is a number from 1 on.")
    dimension, variant = int(match[2]), int(match[3] or 0)
    if match[1] == "mixed":
        if functions is not None:
            raise InvalidSettingError(
                f"functions={list(functions)} are BBOB's; those of {name!r} are random. Leave functions=None, or use "
                f"space='bbob-{dimension}d'."
            )
        instances = _MIXED_INSTANCES if instances is None else instances
        suite = _mixed_suite(dimension, variant, metric or "quality", instances, seed)
        return _with_range(suite, _mixed_range(dimension, variant, instances, seed))
    instances = _BBOB_INSTANCES if instances is None else instances
    surrogate = SyntheticSurrogate(dimension, functions=functions, instances=instances, seed=seed)
    suite = _bbob_suite(surrogate, metric or "gap", instances, seed)
    if suite.spec.metric == "gap":
        return _with_range(suite, _bbob_range(dimension, surrogate.functions, instances, seed))
    return suite


def _names() -> list[str]:
    return [f"{family}-{dimension}d" for family in ("bbob", "mixed") for dimension in range(2, 17)]


def _with_range(suite: TaskSuite, known: KnownRange) -> TaskSuite:
    # Copies: a suite is its user's to change.
    suite.known_range = KnownRange(
        known.worst.clone(), known.median.clone(), known.best.clone(), known.best_u.clone(), known.method
    )
    return suite


def _bbob_suite(surrogate: SyntheticSurrogate, metric: str, instances: int, seed: int) -> TaskSuite:
    dimension = surrogate.num_hyperparameters
    columns = tuple(Column(f"x{index}", "float", -5.0, 5.0, False, (), 0.0) for index in range(dimension))
    provenance = {"functions": list(surrogate.functions), "instances": instances, "seed": seed}
    space = SearchSpace(SpaceSpec(columns, {}, ()))
    return _suite(f"bbob-{dimension}d", metric, space, surrogate, surrogate.task_names, provenance)


def _mixed_suite(dimension: int, variant: int, metric: str, instances: int, seed: int) -> TaskSuite:
    name = f"mixed-{dimension}d" + (f"-{variant}" if variant else "")
    space = SearchSpace(random_space(dimension, variant))
    surrogate = RandomFunctions(space, name, instances=instances, seed=seed)
    provenance = {"instances": instances, "seed": seed}
    return _suite(name, metric, space, surrogate, surrogate.task_names, provenance)


def _suite(
    name: str, metric: str, space: SearchSpace, surrogate: Surrogate, tasks: list[str], provenance: Mapping[str, Any]
) -> TaskSuite:
    refs = tuple(TaskRef("synthetic", task) for task in tasks)
    spec = SuiteSpec(name=name, source="synthetic", metric=metric, tasks=refs, provenance=provenance)
    return TaskSuite(spec, space, surrogate, torch.zeros(len(refs), 0))


# Nearly all the time of making an environment, and the same whenever the arguments are.
@lru_cache(maxsize=32)
def _bbob_range(dimension: int, functions: tuple[str, ...], instances: int, seed: int) -> KnownRange:
    """The optimum is known by construction; the rest of the range comes from a Sobol sample."""
    surrogate = SyntheticSurrogate(dimension, functions=functions, instances=instances, seed=seed)
    suite = _bbob_suite(surrogate, "gap", instances, seed)
    sampled = find_known_range(suite, OptimumSearch(sobol=1024, starts=1, rounds=0))
    task = torch.arange(suite.num_tasks)
    u = surrogate.optimum_u
    best = suite.evaluate(task, u, torch.ones_like(u, dtype=torch.bool)).score
    return KnownRange(
        sampled.worst,
        sampled.median,
        best,
        u,
        "optimum by construction; worst and median of 1024 scrambled Sobol points",
    )


@lru_cache(maxsize=256)
def _mixed_range(dimension: int, variant: int, instances: int, seed: int) -> KnownRange:
    return find_known_range(_mixed_suite(dimension, variant, "quality", instances, seed), _MIXED_SEARCH)
