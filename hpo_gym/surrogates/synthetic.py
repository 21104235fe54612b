"""Synthetic objectives with a known optimum, for tests and for pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.seeding import generator
from hpo_gym.surrogates.base import Metric, Surrogate
from hpo_gym.surrogates.synthetic_functions import FUNCTIONS

__all__ = ["SyntheticSurrogate"]

_HALF_WIDTH = 5.0
_SMALLEST_GAP = 1e-8


class SyntheticSurrogate(Surrogate):
    """Shifted and rotated BBOB-type functions on ``[-5, 5]^D``, one task per function and instance.

    Task ``k * instances + i`` is instance ``i`` of function ``k``: ``f(R (x - x*)) + f*`` with a random
    rotation ``R``, an optimum ``x*`` in the inner 80 % of the box and an offset ``f*``.

    Metrics: ``gap`` = ``log10(f - f* + 10^-8)``, minimised, in ``[-8, 10]``; and ``value`` = ``f``. In float32 a
    coordinate is resolved to about ``6 * 10^-7``, so an optimiser that works in float32 reaches a gap of
    about -6 on functions of condition 10^6; at ``optimum_u`` itself the gap is exactly -8.

    Args:
        dimension: ``D``, 2 to 16.
        functions: Names of the functions; ``None`` means all (see ``synthetic_functions.FUNCTIONS``).
        instances: Instances per function.
        seed: Root of shifts, rotations and offsets.

    Raises:
        InvalidSettingError: If an argument is outside its range.
        UnknownNameError: For an unknown function.
    """

    optimum_u: Tensor
    _rotation: Tensor
    _offset: Tensor
    _function: Tensor

    def __init__(
        self,
        dimension: int,
        functions: Sequence[str] | None = None,
        instances: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 2 <= dimension <= 16:
            raise InvalidSettingError(f"dimension={dimension} must lie in 2 .. 16.")
        require_integer("instances", instances, 1)
        if isinstance(functions, str):
            raise InvalidSettingError(f"functions={functions!r} must be a list of names: write [{functions!r}].")
        names = tuple(FUNCTIONS) if functions is None else tuple(functions)
        require_names("synthetic function", names, FUNCTIONS)
        if not names:
            raise InvalidSettingError("functions=[] names no function; leave it None for all.")
        self.functions = names
        self.task_names = [f"{name}-{index}" for name in names for index in range(instances)]
        self.num_tasks = len(self.task_names)
        self.num_hyperparameters = dimension
        self.metrics = (
            Metric("gap", minimize=True, lower=-8.0, upper=10.0),
            Metric("value", minimize=True, lower=-1e4, upper=1e10),
        )
        rotations, optima, offsets = [], [], []
        for name in names:
            for index in range(instances):
                draws = generator(seed, "synthetic", name, dimension, index)
                normal = torch.randn(dimension, dimension, generator=draws, dtype=torch.float64)
                orthogonal, triangle = torch.linalg.qr(normal)
                rotations.append((orthogonal * torch.sign(torch.diagonal(triangle))).float())
                optima.append(0.1 + 0.8 * torch.rand(dimension, generator=draws))
                offsets.append(200.0 * torch.rand((), generator=draws) - 100.0)
        self.register_buffer("_rotation", torch.stack(rotations), persistent=False)
        self.register_buffer("optimum_u", torch.stack(optima), persistent=False)
        self.register_buffer("_offset", torch.stack(offsets), persistent=False)
        function = torch.arange(len(names)).repeat_interleave(instances)
        self.register_buffer("_function", function, persistent=False)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        # The difference is taken in the unit cube: it is exactly 0 at the optimum.
        shifted = (u - self.optimum_u[task]) * (2.0 * _HALF_WIDTH)
        z = torch.einsum("bij,bj->bi", self._rotation[task], shifted)
        if len(self.functions) == 1:
            excess = FUNCTIONS[self.functions[0]](z)
        else:
            excess = torch.zeros_like(z[:, 0])
            which = self._function[task]
            for number, name in enumerate(self.functions):
                rows = (which == number).nonzero().squeeze(1)
                if len(rows) > 0:
                    excess = excess.index_copy(0, rows, FUNCTIONS[name](z[rows]))
        excess = excess.clamp(min=0.0)
        gap = torch.log10(excess + _SMALLEST_GAP)
        return torch.stack([gap, excess + self._offset[task]], 1)
