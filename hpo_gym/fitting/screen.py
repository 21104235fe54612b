"""Which tasks of an original are left out of the bundle, and why.

A response surface is a model of measurements; outside dense data it can promise what no training run
would reach, and an optimiser finds such places first. A task is excluded when its best score

* saturates: it comes within ``SATURATION`` of a perfect score, where the surface is flat and cannot
  rank configurations any more;
* stands out: it exceeds the 99 % quantile of random configurations by more than ``OUTLIER`` times
  the distance between that quantile and the median (a spike that random search practically never sees);
* is implausible: where genuine OpenML runs of tuned models on the same dataset are known, it
  halves (``ERROR_SHARE``) the error of the best of them, by at least ``ERROR_MARGIN``.

Of genuine runs a perfect score is no artefact. There a task is saturated when at least ``FLAT_SHARE`` of its runs
score within ``SATURATION`` of the best of them: most configurations solve it, and there is nothing to tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.fitting.samples import Samples
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, TaskSuite

__all__ = [
    "ERROR_MARGIN",
    "ERROR_SHARE",
    "FLAT_SHARE",
    "OUTLIER",
    "SATURATION",
    "Exclusion",
    "screen_runs",
    "screen_tasks",
]

SATURATION = 1e-4
OUTLIER = 1.0
ERROR_SHARE = 0.5
ERROR_MARGIN = 0.02
FLAT_SHARE = 0.5


@dataclass(frozen=True)
class Exclusion:
    """A task that is left out.

    Args:
        task: Its identity, e.g. ``"openml-dataset:31"``.
        rule: ``saturated``, ``outlier`` or ``implausible``.
        reason: The figures behind it.
    """

    task: str
    rule: str
    reason: str


def screen_tasks(
    suite: TaskSuite,
    known: KnownRange,
    samples: Samples,
    genuine_best: Mapping[str, float] | None = None,
) -> list[Exclusion]:
    """Return the exclusions of a suite whose main metric is an accuracy.

    Args:
        suite: The original.
        known: Its known range.
        samples: Random configurations (rows marked ``random``; full evaluations are used).
        genuine_best: Best accuracy of genuine runs, in score units, by dataset key.
    """
    exclusions = []
    for index, ref in enumerate(suite.tasks):
        score = _random_scores(suite, samples, index)
        median, high = torch.quantile(score.double(), torch.tensor([0.5, 0.99]).double()).tolist()
        best = float(known.best[index])
        identity = str(ref)
        genuine = (genuine_best or {}).get(dataset_key(ref))
        if best >= 1.0 - SATURATION:
            share = float((score >= 1.0 - SATURATION).double().mean())
            reason = f"best {best:.5f}; {share:.1%} of random configurations reach a perfect score"
            exclusions.append(Exclusion(identity, "saturated", reason))
        elif best - high > OUTLIER * (high - median):
            reason = f"best {best:.4f} against a 99 % quantile of {high:.4f} and a median of {median:.4f}"
            exclusions.append(Exclusion(identity, "outlier", reason))
        elif genuine is not None and _implausible(best, genuine):
            reason = f"best {best:.4f} against {genuine:.4f} for the best genuine OpenML run"
            exclusions.append(Exclusion(identity, "implausible", reason))
    return exclusions


def screen_runs(table: RunTable) -> dict[int, Exclusion]:
    """Return the exclusions of a table of genuine runs, by position of the task in it.

    Args:
        table: Runs whose first metric is an accuracy, and whose tasks are OpenML tasks.
    """
    exclusions = {}
    for index, identity in enumerate(table.task_ids):
        score = table.values[table.task == index, 0]
        best = float(score.max())
        share = float((score >= best - SATURATION).double().mean())
        if share >= FLAT_SHARE:
            reason = f"best {best:.5f}; {share:.1%} of the genuine runs reach it"
            exclusions[index] = Exclusion(str(TaskRef("openml-task", identity)), "saturated", reason)
    return exclusions


def _implausible(best: float, genuine: float) -> bool:
    error = 1.0 - genuine
    return (1.0 - best) < ERROR_SHARE * error and best - genuine > ERROR_MARGIN


def _random_scores(suite: TaskSuite, samples: Samples, task: int) -> Tensor:
    mine = samples.random & (samples.task == task)
    if samples.fidelity is not None and suite.fidelity is not None:
        mine &= samples.fidelity >= suite.fidelity.upper
    return suite.to_score(samples.metrics[mine, suite.metric_column])
