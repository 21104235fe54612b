"""Fit an ensemble of compact networks to a table of evaluations, with cross-validated quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.surrogates.base import Metric
from hpo_gym.surrogates.compact import CompactArchitecture, CompactSurrogate
from hpo_gym.surrogates.fitted import FittedSurrogate
from hpo_gym.surrogates.quantiles import QuantileMap

__all__ = ["RunFitQuality", "RunFitSettings", "cross_validate", "fit_runs"]

# Steps between two reports of progress.
_REPORT_EVERY = 25


@dataclass(frozen=True)
class RunFitSettings:
    """How an ensemble is fitted to measurements.

    Args:
        architecture: Size of each network.
        members: Networks in the ensemble.
        steps: Gradient steps of each.
        batch: Rows per step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: Decoupled weight decay; measurements are noisy.
        folds: Folds of the cross-validation.
        seed: Root of the seed tree.
    """

    architecture: CompactArchitecture = field(default_factory=lambda: CompactArchitecture(64, 48, 1))
    members: int = 4
    steps: int = 3_000
    batch: int = 1_024
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, CompactArchitecture):
            raise InvalidSettingError(f"architecture={self.architecture!r} must be a CompactArchitecture.")
        for name, least in (("members", 1), ("steps", 1), ("batch", 1), ("folds", 2), ("seed", 0)):
            require_integer(name, getattr(self, name), least)
        for name, positive in (("learning_rate", True), ("weight_decay", False)):
            value = getattr(self, name)
            number = type(value) in (int, float) and math.isfinite(value)
            if not number or value < 0.0 or (positive and value == 0.0):
                allowed = "greater than 0" if positive else "0 or greater"
                raise InvalidSettingError(f"{name}={value!r} must be a finite number {allowed}.")

    @classmethod
    def for_rows(cls, rows: int) -> RunFitSettings:
        """Return settings whose effort follows the size of a table: never more than the defaults.

        Args:
            rows: Rows of the table.
        """
        # A small table is learned in few steps; more of them would only fit its noise, slowly.
        steps = min(cls.steps, max(250, round(15 * math.sqrt(rows))))
        return cls(steps=steps, batch=max(1, min(cls.batch, rows)))


@dataclass(frozen=True)
class RunFitQuality:
    """Cross-validated agreement with held-out measurements, per task with a varying response."""

    spearman: list[float]
    r2: list[float]

    def summary(self) -> dict[str, float]:
        """Return medians and 5th percentiles."""
        return {
            "cv_spearman_median": float(np.median(self.spearman)),
            "cv_spearman_p5": float(np.quantile(self.spearman, 0.05)),
            "cv_r2_median": float(np.median(self.r2)),
            "cv_r2_p5": float(np.quantile(self.r2, 0.05)),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"summary": self.summary(), "per_task": asdict(self)}


def _quantiles(table: RunTable, rows: Tensor) -> QuantileMap:
    """Fit the maps task by task: tasks may have different numbers of rows."""
    maps = []
    for index in range(len(table.task_ids)):
        mine = table.values[rows[table.task[rows] == index]].T[:, None]
        maps.append(QuantileMap.fit(mine, mine.amax(-1), mine.amin(-1)).knots)
    return QuantileMap(torch.cat(maps, 1))


def fit_runs(
    table: RunTable,
    metrics: tuple[Metric, ...],
    settings: RunFitSettings | None = None,
    rows: Tensor | None = None,
    progress: Callable[[float], None] | None = None,
) -> FittedSurrogate:
    """Fit an ensemble to (some rows of) a table.

    Args:
        table: The evaluations.
        metrics: Its metrics with directions and ranges, in the table's order.
        settings: How to fit.
        rows: Rows to use, int64; default: all.
        progress: Called with the share done.
    """
    settings = settings or RunFitSettings()
    rows = torch.arange(len(table.task)) if rows is None else rows
    quantiles = _quantiles(table, rows)
    task, u = table.task[rows], table.u[rows]
    active = torch.ones_like(u, dtype=torch.bool)
    columns = range(len(metrics))
    target = torch.stack([quantiles.to_z(k, task, table.values[rows, k]) for k in columns], 1)
    members = []
    for index in range(settings.members):
        report = None if progress is None else _part(progress, index, settings.members)
        members.append(_fit_member(table, metrics, settings, quantiles, task, u, active, target, index, report))
        if report:
            report(1.0)
    return FittedSurrogate(members)


def _part(progress: Callable[[float], None], index: int, count: int) -> Callable[[float], None]:
    """Return what reports the progress of one of ``count`` equal parts."""
    return lambda share: progress((index + share) / count)


def _fit_member(
    table: RunTable,
    metrics: tuple[Metric, ...],
    settings: RunFitSettings,
    quantiles: QuantileMap,
    task: Tensor,
    u: Tensor,
    active: Tensor,
    target: Tensor,
    index: int,
    report: Callable[[float], None] | None,
) -> CompactSurrogate:
    with seeded(stream_seed(settings.seed, "runs", "weights", index)):
        network = CompactSurrogate(table.spec, metrics, len(table.task_ids), settings.architecture, quantiles)
    draws = generator(settings.seed, "runs", "batches", index)
    numeric, embedded = network.features(task, u, active, None)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    for step in range(settings.steps):
        rate = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / 100) * rate
        pick = torch.randint(len(task), (settings.batch,), generator=draws)
        z = network.latent(task[pick], numeric[pick], embedded[pick])
        loss = F.smooth_l1_loss(z, target[pick])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if report and step % _REPORT_EVERY == 0:
            report(step / settings.steps)
    return network.requires_grad_(False).eval()


def cross_validate(
    table: RunTable,
    metrics: tuple[Metric, ...],
    settings: RunFitSettings | None = None,
    progress: Callable[[float], None] | None = None,
    column: int = 0,
) -> RunFitQuality:
    """Measure how well held-out rows of each task are predicted.

    Tasks whose response is constant are left out: they have no ranks.

    Args:
        table: The evaluations.
        metrics: Its metrics with directions and ranges, in the table's order.
        settings: How to fit.
        progress: Called with the share done.
        column: The metric that is measured.
    """
    settings = settings or RunFitSettings()
    draws = generator(settings.seed, "runs", "folds")
    fold = torch.randperm(len(table.task), generator=draws) % settings.folds
    predicted = torch.zeros(len(table.task))
    for index in range(settings.folds):
        held = (fold == index).nonzero().squeeze(1)
        kept = (fold != index).nonzero().squeeze(1)
        report = None if progress is None else _part(progress, index, settings.folds)
        surrogate = fit_runs(table, metrics, settings, kept, report)
        active = torch.ones_like(table.u[held], dtype=torch.bool)
        with torch.no_grad():
            predicted[held] = surrogate.predict(table.task[held], table.u[held], active)[:, column]
    spearman, r2 = [], []
    for index in range(len(table.task_ids)):
        mine = table.task == index
        truth, guess = table.values[mine, column].double(), predicted[mine].double()
        if truth.std() == 0:
            continue
        # A constant prediction ranks nothing.
        constant = bool((guess == guess[0]).all())
        spearman.append(0.0 if constant else float(spearmanr(truth.numpy(), guess.numpy()).statistic))
        r2.append(float(1 - (truth - guess).square().sum() / (truth - truth.mean()).square().sum()))
    return RunFitQuality(spearman, r2)
