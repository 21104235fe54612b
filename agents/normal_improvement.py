"""The Matern kernel and expected improvement in closed form, for many episodes at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_expected_improvement", "matern"]


def matern(first: Tensor, second: Tensor) -> Tensor:
    """Return the Matern 5/2 kernel of points scaled by their length scales, ``[..., P, W]`` and ``[..., Q, W]``."""
    distance = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist") * math.sqrt(5.0)
    return (1.0 + distance + distance.square() / 3.0) * torch.exp(-distance)


def log_expected_improvement(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the logarithm of the expected positive part of normal variables, float64 of their shape.

    Args:
        mean: Above the incumbent.
        deviation: Standard deviation, above 0.
    """
    z = mean / deviation
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    improvement = density + z * 0.5 * torch.erfc(-z / math.sqrt(2.0))
    # Far below, where the sum cancels, by the scaled complementary error function (Ament et al., 2023, equation 9);
    # where that cancels, too, by the first term of its series.
    below = -z.clamp(max=-1.0)
    ratio = below * math.sqrt(0.5 * math.pi) * torch.special.erfcx(below / math.sqrt(2.0))
    rest = torch.where(below < 1e3, (1.0 - ratio).clamp(min=1e-300).log(), -2.0 * below.log())
    far = -0.5 * z.square() - 0.5 * math.log(2.0 * math.pi) + rest
    return torch.where(z < -6.0, far, improvement.clamp(min=1e-300).log()) + deviation.log()
