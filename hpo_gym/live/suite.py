"""A task suite of live objectives: what the environments play when models are really trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.executors import ExecutorSettings
from hpo_gym.live.surrogate import LEAST_SHARE, LiveSurrogate, Objective
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Metric
from hpo_gym.tasks.meta_features import standardise
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import split_tasks
from hpo_gym.tasks.suite import SuiteSpec, TaskSuite

if TYPE_CHECKING:
    from hpo_gym.live.live_objective import LiveObjective

__all__ = ["SOURCE", "live_suite", "suite_of"]

#: The source of live suites, in records and reports.
SOURCE = "live"


def live_suite(
    name: str,
    space: SearchSpace,
    objectives: Mapping[TaskRef, Objective],
    metrics: Sequence[Metric],
    *,
    metric: str | None = None,
    qualities: Sequence[Sequence[float]] | Tensor | None = None,
    protocol: str = "dataset-disjoint",
    executor: ExecutorSettings | None = None,
    seed: int = 0,
    least_share: float = LEAST_SHARE,
    notes: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    trainings: str | Path | None = None,
) -> TaskSuite:
    """Return a suite whose evaluations are trainings; give it to an environment as ``source``.

    Nobody knows the best configuration of its tasks beforehand: regret is not defined, and neither is a reward that
    needs the range of scores.

    Args:
        name: Of the search space.
        space: Shared by all tasks.
        objectives: One per task.
        metrics: What every objective returns.
        metric: The optimised one; ``None`` means the first.
        qualities: Raw qualities of each task's dataset, in the order of :data:`hpo_gym.tasks.datasets.QUALITIES`,
            ``[N, 20]``, NaN where unknown; ``None``: no meta-features.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        executor: Where and under which limits models are trained.
        seed: Of every training.
        least_share: Smallest share of a full evaluation, in (0, 1]; 1: no fidelity.
        notes: What a user should know.
        provenance: What the data are, for run folders.
        trainings: A file where finished trainings are kept, and from where they are taken; ``None``: they are known
            to this process alone.

    Raises:
        InvalidSettingError: For an impossible value, or no task.
        UnknownNameError: If ``metric`` is none of ``metrics``, or for an unknown protocol.
    """
    tasks = tuple(objectives)
    trained = list(objectives.values())
    surrogate = LiveSurrogate(
        space, trained, metrics, executor, seed=seed, least_share=least_share, trainings=trainings
    )
    features = torch.zeros(len(tasks), 0)
    if qualities is not None:
        table = torch.as_tensor(qualities, dtype=torch.float64)
        if table.ndim != 2 or len(table) != len(tasks):
            raise InvalidSettingError(
                f"qualities have shape {list(table.shape)} for {len(tasks)} tasks: give one row per task."
            )
        features = standardise(table, split_tasks(name, protocol, "train", tasks))
    limits = surrogate.executor.limits
    spec = SuiteSpec(
        name=name,
        source=SOURCE,
        metric=metric or surrogate.metrics[0].name,
        tasks=tasks,
        notes=tuple(notes),
        provenance={
            "seed": seed,
            "limits": {"seconds": limits.seconds, "memory": limits.memory},
            # Pickles of objectives another process may write otherwise: they would say that equal ones differ.
            **({"objectives": bytes(surrogate.identity.tolist()).hex()} if surrogate.identity_is_stable else {}),
            **(provenance or {}),
        },
    )
    return TaskSuite(spec, space, surrogate, features, protocol=None if qualities is None else protocol)


def suite_of(objectives: Sequence[LiveObjective], name: str = "", **settings: Any) -> TaskSuite:
    """Return the suite of models on datasets, with meta-features computed from their data; loads the data.

    Args:
        objectives: One per dataset, of one search space, learning classes or numbers, all the same metrics.
        name: Of the search space; default: that of the model.
        settings: Further arguments of :func:`live_suite`.

    Raises:
        InvalidSettingError: If two are on the same data, or search spaces or metrics differ.
        DataError: If a dataset cannot be loaded.
    """
    if not objectives:
        raise InvalidSettingError("A suite needs at least one objective: one per dataset.")
    first = objectives[0]
    by_task: dict[TaskRef, Objective] = {}
    for objective in objectives:
        task = objective.data.task_ref
        if task in by_task:
            raise InvalidSettingError(f"Two objectives are on {task}: a suite has one task per dataset.")
        by_task[task] = objective
        for what, mine, theirs in (
            ("search space", objective.spec, first.spec),
            ("metrics", objective.metric_names, first.metric_names),
        ):
            if mine != theirs:
                raise InvalidSettingError(
                    f"The objective on {task} has another {what} than that on {first.data.task_ref}: {mine} against "
                    f"{theirs}. Put them into suites of their own."
                )
    model = first.model if isinstance(first.model, str) else first.model.name
    # A dictionary of its own: the conditions may be a view, which cannot be sent to other processes.
    spec = replace(first.spec, conditions=dict(first.spec.conditions))
    return live_suite(
        name or model,
        SearchSpace(spec),
        by_task,
        _widest([objective.metric_definitions for objective in objectives]),
        qualities=[objective.table.qualities for objective in objectives],
        **settings,
    )


def _widest(definitions: Sequence[Sequence[Metric]]) -> list[Metric]:
    """Return metrics whose bounds hold for every dataset: those of an error depend on the targets."""
    return [
        replace(each[0], lower=min(metric.lower for metric in each), upper=max(metric.upper for metric in each))
        for each in zip(*definitions, strict=True)
    ]
