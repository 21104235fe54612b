"""Task suites of the objectives in ``live_objectives.py``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from live_objectives import NearestNeighbours, Numbered

from hpo_gym.live.executors import ExecutorSettings
from hpo_gym.live.limits import Limits
from hpo_gym.live.suite import live_suite
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.surrogates.base import Metric
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import TaskSuite

EXECUTOR = ExecutorSettings(workers=2, limits=Limits(seconds=30.0, memory=1024))

SPACE = SpaceSpec(
    (
        Column("neighbours", "integer", 1, 24, True, default=2),
        Column("power", "categorical", choices=(1, 2, 4), default=2),
    ),
    {},
)
METRICS = (Metric("accuracy", False, 0.0, 1.0), Metric("error", True, 0.0, 1.0))


def tiny_suite(executor: ExecutorSettings = EXECUTOR) -> TaskSuite:
    """Return a suite of four tasks whose space has 72 configurations."""
    objectives = {TaskRef("custom", f"points-{width}"): NearestNeighbours(width) for width in (0.4, 0.6, 0.8, 1.0)}
    qualities = [[float(10 * row + column) for column in range(20)] for row in range(4)]
    return live_suite("neighbours", SearchSpace(SPACE), objectives, METRICS, qualities=qualities, executor=executor)


@lru_cache
def shared_tiny_suite() -> TaskSuite:
    """Return one such suite for all tests of a process, which share what was trained."""
    return tiny_suite()


def one_column() -> SearchSpace:
    """Return a space with a single number."""
    return SearchSpace(SpaceSpec((Column("x", "float", 0.0, 1.0, default=0.5),), {}))


def faulty_suite(fault: Any, limits: Limits, above: float = 0.75) -> TaskSuite:
    """Return a suite of one task that is faulty for large ``x``."""
    executor = ExecutorSettings(workers=2, limits=limits)
    return live_suite(
        "faulty", one_column(), {TaskRef("custom", "faulty"): Numbered(fault, above)}, METRICS, executor=executor
    )
