"""Suites whose search spaces say how a network is trained, as the agent ``spg`` needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from live_objectives import NearestNeighbours
from live_suites import EXECUTOR, METRICS, SPACE

from agents.spg_networks import TRAINING
from hpo_gym.live.suite import live_suite
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.spaces.clauses import Clause
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite
from hpo_gym.testing.tiny import BowlSurrogate


def bowl_suite(
    forbidden: tuple[Clause, ...] = (), conditions: Mapping[int, tuple[Clause, ...]] | None = None
) -> TaskSuite:
    """Return a bowl over the training and a learning rate, best with ``spg``."""
    columns = (TRAINING, Column("learning_rate", "float", 1e-4, 1.0, True, default=1e-2))
    spec = SpaceSpec(columns, conditions or {}, forbidden)
    centres = torch.tensor([[0.75, 0.2], [0.75, 0.6]])
    tasks = tuple(TaskRef("synthetic", f"trained-{index}") for index in range(2))
    suite = TaskSuite(
        SuiteSpec(name="trained", source="tiny", metric="error", tasks=tasks, cost_metric="seconds"),
        SearchSpace(spec),
        BowlSurrogate(centres),
        torch.zeros(2, 0),
    )
    corner = torch.tensor([[0.25, 1.0], [0.25, 0.0]])
    active = torch.ones(2, 2, dtype=torch.bool)
    worst, best = (suite.evaluate(torch.arange(2), u, active).score for u in (corner, centres))
    suite.known_range = KnownRange(worst, (worst + best) / 2.0, best, centres, "closed form")
    return suite


def trained_suite() -> TaskSuite:
    """Return the tiny live suite with the training as one hyperparameter more, which its objectives do not read."""
    spec = replace(SPACE, columns=(TRAINING, *SPACE.columns))
    objectives = {TaskRef("custom", f"points-{width}"): NearestNeighbours(width) for width in (0.4, 0.8)}
    qualities = [[float(10 * row + column) for column in range(20)] for row in range(2)]
    return live_suite("neighbours", SearchSpace(spec), objectives, METRICS, qualities=qualities, executor=EXECUTOR)
