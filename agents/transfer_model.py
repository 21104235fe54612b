"""Learning an outcome model from the training tasks of a search space, and keeping it with a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.greedy_portfolio import explore_training_tasks
from agents.problem import Problem, TrainingTasks
from agents.surface_features import SurfaceFeatures, fit_surfaces
from agents.transfer_process import WORST, TransferProcess, fit_kernel
from hpo_gym.errors import require_integer
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.threads import one_thread

__all__ = ["TransferConfig", "TransferModel"]

_REFINEMENTS = 4
_LEAST_MEDIAN = 1e-4
# Of each training task so many of its best configurations are candidates in every trial.
_BEST_OF_EACH = 2


@dataclass(frozen=True)
class TransferConfig:
    """How an outcome model is learned.

    Args:
        samples: Configurations that are evaluated on every training task, half of them near good ones.
        hidden: Width of the network that distils them.
        surface_steps: Gradient steps of that network.
        kernel_steps: Gradient steps of the kernel's length scales and weights.
    """

    samples: int = 6000
    hidden: int = 256
    surface_steps: int = 3000
    kernel_steps: int = 150

    def __post_init__(self) -> None:
        require_integer("samples", self.samples, 16, "surfaces cannot be learned from fewer")
        for name in ("hidden", "surface_steps", "kernel_steps"):
            require_integer(name, getattr(self, name), 1)


class TransferModel:
    """A :class:`~agents.transfer_process.TransferProcess` and the configurations that were best on training tasks.

    Args:
        process: The process.
        points: Configurations, good ones of every training task first, float32 ``[P, D]``.
        good: How many of them are those.
    """

    def __init__(self, process: TransferProcess, points: Tensor, good: int) -> None:
        self.process, self.points, self.good = process, points, good

    # Matrices are small: more threads gain little, and cost many times as much where another process holds a core.
    @classmethod
    @one_thread()
    def learn(
        cls, problem: Problem, training: TrainingTasks, config: TransferConfig, seed: int, device: torch.device
    ) -> TransferModel:
        """Learn from training tasks; costs about ``samples N`` evaluations of them, and none of an episode's."""
        draws = generator(seed, "agent", "transfer")
        points, regret = explore_training_tasks(problem, training, config.samples, _REFINEMENTS, draws)
        median = regret[: len(regret) // 2].median(0).values.clamp(min=_LEAST_MEDIAN)
        value = (-regret / median).clamp(min=-WORST).float()
        with seeded(stream_seed(seed, "agent", "weights")):
            features = SurfaceFeatures(problem.space.spec, training.count, config.hidden)
        process = TransferProcess(features)
        scale = (median * training.span.cpu()).clamp(min=1e-9).log()
        spread = scale.std() if len(scale) > 1 else torch.ones(())
        process.log_scale.copy_(torch.stack([scale.mean(), spread.clamp(min=0.3)]))
        fit_surfaces(features, points, value, config.surface_steps, draws)
        fit_kernel(process, points, value, config.kernel_steps, draws)
        best = value.topk(min(_BEST_OF_EACH, len(value)), 0).indices.flatten().unique()
        others = torch.ones(len(points), dtype=torch.bool)
        if len(best) < len(points):
            others[best] = False
        # Random ones are the first of all; as many of them as there is use for.
        kept = torch.cat([points[best], points[others][:2048]])
        return cls(process.to(device), kept.to(device), len(best))

    def candidates(self, batch: int, count: int, draws: torch.Generator) -> Tensor:
        """Return good configurations of every training task and ``count`` of the others, ``[B, G + count, D]``."""
        others = self.points[self.good :]
        index = torch.randint(len(others), (batch, count), generator=draws, device=self.points.device)
        good = self.points[: self.good].expand(batch, -1, -1)
        return torch.cat([good, others[index]], 1)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and plain values."""
        features = self.process.features
        return {
            "space": features.space.spec.to_json(),
            "surfaces": features.surfaces,
            "hidden": features.hidden,
            "process": self.process.state_dict(),
            "points": self.points,
            "good": self.good,
        }

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Any], device: torch.device) -> TransferModel:
        """Restore a :meth:`state_dict`."""
        features = SurfaceFeatures(SpaceSpec.from_json(saved["space"]), int(saved["surfaces"]), int(saved["hidden"]))
        process = TransferProcess(features)
        process.load_state_dict(saved["process"])
        process.requires_grad_(False)
        return cls(process.to(device), saved["points"].to(device), int(saved["good"]))
