"""Fit a compact network to labelled configurations, in rank space."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo_gym.fitting.samples import Samples
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.surrogates.compact import CompactArchitecture, CompactSurrogate
from hpo_gym.surrogates.quantiles import QuantileMap
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["FitSettings", "fit_compact", "fit_quantiles"]


@dataclass(frozen=True)
class FitSettings:
    """How a compact network is fitted.

    Args:
        architecture: Size of the network.
        samples_per_task: Random configurations labelled per task.
        elite_rounds: Rounds of configurations near the best.
        steps: Gradient steps.
        batch: Rows per step.
        learning_rate: Peak of the cosine schedule.
        cost_weight: Weight of the cost metric's loss beside the main metric's.
        seed: Root of the seed tree.
    """

    architecture: CompactArchitecture = field(default_factory=lambda: CompactArchitecture())
    samples_per_task: int = 20_000
    elite_rounds: int = 2
    steps: int = 6_000
    batch: int = 4_096
    learning_rate: float = 3e-3
    cost_weight: float = 0.25
    seed: int = 0


def fit_quantiles(samples: Samples, tasks: int) -> QuantileMap:
    """Fit the maps between values and ``z`` to the random rows; extremes come from all rows."""
    count = int((samples.random & (samples.task == 0)).sum())
    order = torch.argsort(samples.task[samples.random], stable=True)
    values = samples.metrics[samples.random][order].view(tasks, count, -1).permute(2, 0, 1)
    shape = (tasks, samples.metrics.shape[1])
    index = samples.task[:, None].expand(-1, shape[1])
    best = torch.full(shape, -torch.inf).scatter_reduce(0, index, samples.metrics, "amax")
    worst = torch.full(shape, torch.inf).scatter_reduce(0, index, samples.metrics, "amin")
    return QuantileMap.fit(values.contiguous(), best.T.contiguous(), worst.T.contiguous())


def fit_compact(
    suite: TaskSuite,
    samples: Samples,
    settings: FitSettings,
    progress: Callable[[int, float], None] | None = None,
) -> CompactSurrogate:
    """Fit one network to all tasks of an original.

    The loss is the smooth L1 distance between predicted and true ``z`` of the main metric, plus
    ``cost_weight`` times that of the others; weights are averaged exponentially.

    Args:
        suite: The original.
        samples: Its labelled configurations.
        settings: How to fit.
        progress: Called with the step and the running loss.
    """
    quantiles = fit_quantiles(samples, suite.num_tasks)
    metrics = suite.surrogate.metrics
    target = torch.stack(
        [quantiles.to_z(column, samples.task, samples.metrics[:, column]) for column in range(len(metrics))],
        1,
    )
    with seeded(stream_seed(settings.seed, "fit", suite.name, "weights")):
        network = CompactSurrogate(
            suite.space.spec,
            metrics,
            suite.num_tasks,
            settings.architecture,
            quantiles,
            suite.fidelity,
        )
    numeric, rows = network.features(samples.task, samples.u, samples.active, samples.fidelity)
    weight = torch.full((len(metrics),), settings.cost_weight)
    weight[suite.metric_column] = 1.0
    averaged = copy.deepcopy(network).requires_grad_(False)
    draws = generator(settings.seed, "fit", suite.name, "batches")
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    order, position, running = torch.empty(0, dtype=torch.int64), 0, 1.0
    for step in range(settings.steps):
        if position + settings.batch > len(order):
            order, position = torch.randperm(len(target), generator=draws), 0
        pick = order[position : position + settings.batch]
        position += settings.batch
        rate = settings.learning_rate * _schedule(step, settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        z = network.latent(samples.task[pick], numeric[pick], rows[pick])
        error = F.smooth_l1_loss(z, target[pick], beta=0.5, reduction="none")
        loss = (error * weight).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        _average(averaged, network, min(0.999, (step + 1) / (step + 10)))
        running += (float(loss.detach()) - running) * 0.02
        if progress and (step + 1) % 50 == 0:
            progress(step + 1, running)
    return averaged.eval()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 0.003


@torch.no_grad()
def _average(averaged: CompactSurrogate, network: CompactSurrogate, decay: float) -> None:
    mine: list[Tensor] = list(averaged.parameters())
    for old, new in zip(mine, network.parameters(), strict=True):
        old.lerp_(new, 1.0 - decay)
