"""Suites of synthetic functions with a known optimum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import torch

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.surrogates.synthetic import SyntheticSurrogate
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SPACE", "load_synthetic"]

DEFAULT_SPACE = "bbob-5d"


def load_synthetic(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    functions: Sequence[str] | None = None,
    instances: int = 8,
    seed: int = 0,
) -> TaskSuite:
    """Load shifted and rotated BBOB-type functions.

    Args:
        space: ``bbob-<D>d`` with ``D`` from 2 to 16; ``None`` means ``bbob-5d``.
        metric: ``gap`` (default) or ``value``.
        protocol: Split protocol; instances of every function are spread over the splits.
        data_dir: Must be ``None``: nothing is read.
        functions: Names of the functions; ``None`` means all.
        instances: Shifts and rotations per function.
        seed: Root of the shifts and rotations.

    Raises:
        UnknownNameError: For an unknown space, function or metric.
        InvalidSettingError: For an argument outside its range.
    """
    if data_dir is not None:
        raise InvalidSettingError("source='synthetic' reads no files; leave data_dir=None.")
    name = space or DEFAULT_SPACE
    match = re.fullmatch(r"bbob-(\d+)d", name)
    if match is None or not 2 <= int(match[1]) <= 16:
        raise unknown_name("synthetic space", name, [f"bbob-{d}d" for d in range(2, 17)])
    dimension = int(match[1])
    surrogate = SyntheticSurrogate(dimension, functions=functions, instances=instances, seed=seed)
    suite = _suite(surrogate, metric or "gap", instances, seed)
    if suite.spec.metric == "gap":
        known = _range(dimension, surrogate.functions, instances, seed)
        # Copies: a suite is its user's to change.
        suite.known_range = KnownRange(
            known.worst.clone(), known.median.clone(), known.best.clone(), known.best_u.clone(), known.method
        )
    return suite


def _suite(surrogate: SyntheticSurrogate, metric: str, instances: int, seed: int) -> TaskSuite:
    dimension = surrogate.num_hyperparameters
    columns = tuple(Column(f"x{index}", "float", -5.0, 5.0, False, (), 0.0) for index in range(dimension))
    tasks = tuple(TaskRef("synthetic", name) for name in surrogate.task_names)
    spec = SuiteSpec(
        name=f"bbob-{dimension}d",
        source="synthetic",
        metric=metric,
        tasks=tasks,
        provenance={"functions": list(surrogate.functions), "instances": instances, "seed": seed},
    )
    return TaskSuite(spec, SearchSpace(SpaceSpec(columns, {}, ())), surrogate, torch.zeros(len(tasks), 0))


# Nearly all the time of making an environment, and the same whenever the arguments are.
@lru_cache(maxsize=32)
def _range(dimension: int, functions: tuple[str, ...], instances: int, seed: int) -> KnownRange:
    """The optimum is known by construction; the rest of the range comes from a Sobol sample."""
    surrogate = SyntheticSurrogate(dimension, functions=functions, instances=instances, seed=seed)
    suite = _suite(surrogate, "gap", instances, seed)
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
