"""The cross-entropy method: the maximum of a function over the unit cube, for many rows at once.

Rubinstein and Kroese (2004), "The Cross-Entropy Method"; as Kalashnikov et al. (2018), "QT-Opt: Scalable Deep
Reinforcement Learning for Vision-Based Robotic Manipulation", section 4.2, maximise action values with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["CrossEntropy"]

# Elites that happen to agree in one coordinate must not end the search in it.
_LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class CrossEntropy:
    """Draws points, keeps the best, draws the next ones around those.

    The first points are uniform, as nothing is known of the maximum; later ones come from a Gaussian with the mean and
    standard deviation of the elites in each coordinate, clipped to the cube. The result is the best point drawn.

    Args:
        iterations: Rounds of drawing, at least 1.
        samples: Points ``N`` per round.
        elites: Best points of a round that the next one is drawn around, in ``1 .. samples``.
    """

    iterations: int = 2
    samples: int = 64
    elites: int = 6

    def __post_init__(self) -> None:
        for name in ("iterations", "samples", "elites"):
            require_integer(name, getattr(self, name), 1)
        if self.elites > self.samples:
            raise InvalidSettingError(
                f"elites={self.elites!r} must be at most samples={self.samples!r}: they are the best of them."
            )

    @torch.no_grad()
    def maximise(self, values: Callable[[Tensor], Tensor], rows: int, dimension: int, draws: torch.Generator) -> Tensor:
        """Return a point of high value for every row, float32 ``[B, E]`` in ``[0, 1]``.

        Args:
            values: From points ``[B, N, E]`` to their values ``[B, N]``.
            rows: ``B``.
            dimension: ``E``.
            draws: Where random numbers come from; the points lie on its device.
        """
        shape = (rows, self.samples, dimension)
        points = torch.rand(shape, generator=draws, device=draws.device)
        value = values(points)
        best, best_value = _first(points, value)
        for _ in range(self.iterations - 1):
            elites = points.gather(1, _index(value.topk(self.elites, 1).indices, dimension))
            mean = elites.mean(1, keepdim=True)
            deviation = elites.std(1, correction=0, keepdim=True).clamp(min=_LEAST_DEVIATION)
            noise = torch.randn(shape, generator=draws, device=draws.device)
            points = (mean + deviation * noise).clamp_(0.0, 1.0)
            value = values(points)
            candidate, candidate_value = _first(points, value)
            better = candidate_value > best_value
            best = torch.where(better[:, None], candidate, best)
            best_value = torch.where(better, candidate_value, best_value)
        return best


def _first(points: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best of ``[B, N, E]`` by ``[B, N]``: ``[B, E]`` and ``[B]``."""
    best_value, best = value.max(1)
    return points.gather(1, _index(best[:, None], points.shape[2])).squeeze(1), best_value


def _index(chosen: Tensor, dimension: int) -> Tensor:
    return chosen[:, :, None].expand(-1, -1, dimension)
