"""Fifteen BBOB-type functions with their minimum 0 at the origin of ``z``.

After Hansen, Finck, Ros, Auger: "Real-Parameter Black-Box Optimization Benchmarking 2009: Noiseless Functions
Definitions" (INRIA RR-6829). Deviations, so that the optimum is exact and one formula serves all dimensions:
one rotation per instance instead of two, no boundary penalty (the domain is the box itself), and the
conditioning is applied to the rotated coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["FUNCTIONS"]


def _ramp(z: Tensor) -> Tensor:
    """Return ``(i - 1) / (D - 1)`` for the coordinates ``i = 1 .. D``."""
    return torch.linspace(0.0, 1.0, z.shape[1], device=z.device)


def _oscillate(z: Tensor) -> Tensor:
    """Return ``T_osz(z)``: small irregularities, the identity at 0."""
    size = torch.where(z == 0, torch.zeros_like(z), z.abs().clamp(min=1e-30).log())
    first = torch.where(z > 0, 10.0, 5.5)
    second = torch.where(z > 0, 7.9, 3.1)
    wave = torch.sin(first * size) + torch.sin(second * size)
    return torch.sign(z) * torch.exp(size + 0.049 * wave) * (z != 0)


def _skew(z: Tensor, beta: float) -> Tensor:
    """Return ``T_asy^beta(z)``: breaks the symmetry of positive coordinates."""
    positive = z.clamp(min=0.0)
    exponent = 1.0 + beta * _ramp(z) * positive.sqrt()
    return torch.where(z > 0, positive.clamp(min=1e-30) ** exponent, z)


def _condition(z: Tensor, alpha: float) -> Tensor:
    """Return ``Lambda^alpha z``: scales from 1 to ``sqrt(alpha)``."""
    return z * alpha ** (0.5 * _ramp(z))


def _weighted(z: Tensor) -> Tensor:
    return (10.0 ** (6.0 * _ramp(z)) * z.square()).sum(1)


def sphere(z: Tensor) -> Tensor:
    """f1."""
    return z.square().sum(1)


def ellipsoid(z: Tensor) -> Tensor:
    """f10: condition 10^6."""
    return _weighted(_oscillate(z))


def rastrigin(z: Tensor) -> Tensor:
    """f15: a regular lattice of local minima."""
    z = _condition(_skew(_oscillate(z), 0.2), 10.0)
    return 10.0 * (1.0 - torch.cos(2.0 * math.pi * z)).sum(1) + z.square().sum(1)


def bueche_rastrigin(z: Tensor) -> Tensor:
    """f4: Rastrigin with ten times longer steps on one side of every odd coordinate."""
    z = _oscillate(z)
    odd = (torch.arange(z.shape[1], device=z.device) % 2 == 0).float()
    z = z * 10.0 ** (0.5 * _ramp(z)) * torch.where((z > 0) & (odd > 0), 10.0, 1.0)
    return 10.0 * (1.0 - torch.cos(2.0 * math.pi * z)).sum(1) + z.square().sum(1)


def attractive_sector(z: Tensor) -> Tensor:
    """f6: steep outside one orthant."""
    z = _condition(z, 10.0)
    scaled = torch.where(z > 0, 100.0 * z, z).square().sum(1)
    return _oscillate(scaled[:, None])[:, 0] ** 0.9


def step_ellipsoid(z: Tensor) -> Tensor:
    """f7: plateaus."""
    z = _condition(z, 10.0)
    coarse = (0.5 + z).floor()
    fine = (0.5 + 10.0 * z).floor() / 10.0
    steps = torch.where(z.abs() > 0.5, coarse, fine)
    quadratic = (10.0 ** (2.0 * _ramp(z)) * steps.square()).sum(1)
    return 0.1 * torch.maximum(z[:, 0].abs() / 1e4, quadratic)


def rosenbrock(z: Tensor) -> Tensor:
    """f9: a bent valley."""
    z = max(1.0, math.sqrt(z.shape[1]) / 8.0) * z + 1.0
    valley = 100.0 * (z[:, :-1].square() - z[:, 1:]).square()
    return (valley + (z[:, :-1] - 1.0).square()).sum(1)


def discus(z: Tensor) -> Tensor:
    """f11: one direction is a million times more sensitive."""
    z = _oscillate(z)
    return 1e6 * z[:, 0].square() + z[:, 1:].square().sum(1)


def bent_cigar(z: Tensor) -> Tensor:
    """f12: a narrow ridge."""
    z = _skew(z, 0.5)
    return z[:, 0].square() + 1e6 * z[:, 1:].square().sum(1)


def sharp_ridge(z: Tensor) -> Tensor:
    """f13: a ridge that is not differentiable."""
    z = _condition(z, 10.0)
    return z[:, 0].square() + 100.0 * z[:, 1:].square().sum(1).sqrt()


def different_powers(z: Tensor) -> Tensor:
    """f14: sensitivities that grow towards the optimum."""
    return (z.abs() ** (2.0 + 4.0 * _ramp(z))).sum(1).sqrt()


def schaffers_f7(z: Tensor) -> Tensor:
    """f17: highly multimodal, of varying frequency."""
    z = _condition(_skew(z, 0.5), 10.0)
    radius = (z[:, :-1].square() + z[:, 1:].square()).sqrt()
    root = radius.sqrt()
    wave = torch.sin(50.0 * radius**0.2).square()
    return (root + root * wave).mean(1).square()


def griewank_rosenbrock(z: Tensor) -> Tensor:
    """f19: Rosenbrock's valley with a multimodal floor."""
    z = max(1.0, math.sqrt(z.shape[1]) / 8.0) * z + 1.0
    valley = 100.0 * (z[:, :-1].square() - z[:, 1:]).square() + (z[:, :-1] - 1.0).square()
    return 10.0 * (valley / 4000.0 + 1.0 - torch.cos(valley)).mean(1)


def katsuura(z: Tensor) -> Tensor:
    """f23: rugged everywhere."""
    z = _condition(z, 100.0)
    dimension = z.shape[1]
    powers = 2.0 ** torch.arange(1, 25, device=z.device)
    scaled = z[:, :, None] * powers
    rough = ((scaled - scaled.round()).abs() / powers).sum(2)
    number = torch.arange(1, dimension + 1, device=z.device)
    factors = (1.0 + number * rough) ** (10.0 / dimension**1.2)
    value: Tensor = 10.0 / dimension**2 * (factors.prod(1) - 1.0)
    return value


def griewank(z: Tensor) -> Tensor:
    """Griewank's function on ten times the domain (not in BBOB by itself; part of f19)."""
    z = 10.0 * z
    number = torch.arange(1, z.shape[1] + 1, device=z.device)
    return z.square().sum(1) / 4000.0 + 1.0 - torch.cos(z / number.sqrt()).prod(1)


#: All functions by name.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    function.__name__: function
    for function in (
        sphere,
        ellipsoid,
        rastrigin,
        bueche_rastrigin,
        attractive_sector,
        step_ellipsoid,
        rosenbrock,
        discus,
        bent_cigar,
        sharp_ridge,
        different_powers,
        schaffers_f7,
        griewank_rosenbrock,
        katsuura,
        griewank,
    )
}
