"""How faithful a fitted suite is to its original."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from hpo_gym.fitting.samples import label
from hpo_gym.seeding import generator
from hpo_gym.tasks.suite import KnownRange, TaskSuite

__all__ = ["BundleQuality", "measure_quality"]


@dataclass(frozen=True)
class BundleQuality:
    """Agreement with the original on fresh random configurations, per task.

    Args:
        spearman: Rank correlation of the main metric, ``N`` values.
        cost_spearman: Rank correlation of the cost metric.
        regret_range: ``(best - y) / (best - worst)`` on the original, ``y`` being the original's
            score of the fitted surface's best configuration.
        regret_median: ``(best - y) / (best - median)``, the stricter scale.
    """

    spearman: list[float]
    cost_spearman: list[float]
    regret_range: list[float]
    regret_median: list[float]

    def summary(self) -> dict[str, float]:
        """Return medians and tails, the figures printed in ``docs/data.md``.

        A suite without a cost metric has no ``cost_spearman_median``.
        """
        cost = {"cost_spearman_median": float(np.median(self.cost_spearman))} if self.cost_spearman else {}
        return {
            "spearman_median": float(np.median(self.spearman)),
            "spearman_p5": float(np.quantile(self.spearman, 0.05)),
            "spearman_min": float(np.min(self.spearman)),
            **cost,
            "regret_range_median": float(np.median(self.regret_range)),
            "regret_range_p95": float(np.quantile(self.regret_range, 0.95)),
            "regret_median_median": float(np.median(self.regret_median)),
            "regret_median_p95": float(np.quantile(self.regret_median, 0.95)),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"summary": self.summary(), "per_task": asdict(self)}


def measure_quality(
    original: TaskSuite,
    fitted: TaskSuite,
    original_range: KnownRange,
    per_task: int = 2_000,
    seed: int = 0,
) -> BundleQuality:
    """Compare a fitted suite with its original, task by task.

    Args:
        original: The published surrogate.
        fitted: The fitted suite over the same tasks and space; its range must be known.
        original_range: Known range of the original.
        per_task: Fresh random configurations per task.
        seed: Root of the seed tree.
    """
    count = original.num_tasks
    draws = generator(seed, "fit", original.name, "quality")
    task = torch.arange(count).repeat_interleave(per_task)
    u = original.space.sample(len(task), draws)
    theirs = label(original, task, u, None, True).metrics
    ours = label(fitted, task, u, None, True).metrics
    spearman = _correlations(theirs, ours, original.metric_column, count)
    cost = original.cost_column
    cost_spearman = [] if cost is None else _correlations(theirs, ours, cost, count)
    best_u = fitted.require_range().best_u
    every = torch.arange(count)
    scored = original.evaluate(every, best_u, original.space.active(best_u)).score
    gap = (original_range.best - scored).clamp(min=0.0)
    return BundleQuality(
        spearman,
        cost_spearman,
        (gap / (original_range.best - original_range.worst)).tolist(),
        (gap / (original_range.best - original_range.median)).tolist(),
    )


def _correlations(theirs: Tensor, ours: Tensor, column: int, tasks: int) -> list[float]:
    first = theirs[:, column].view(tasks, -1).numpy()
    second = ours[:, column].view(tasks, -1).numpy()
    return [float(spearmanr(a, b).statistic) for a, b in zip(first, second, strict=True)]
