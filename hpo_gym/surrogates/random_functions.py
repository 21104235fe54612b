"""Random smooth functions on any search space: a prior over objectives, for meta-training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpo_gym.errors import require_integer
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Metric, Surrogate

__all__ = ["RandomFunctions"]

_FREQUENCIES = 192
_CHOICE_WIDTH = 2
# About the distance of two random values of a float, so that a categorical matters as much as a float.
_CHOICE_SPREAD = 0.3
_CENTRED_POINTS = 512


class RandomFunctions(Surrogate):
    """Draws from a Gaussian process over a search space, warped into a metric.

    Function ``i`` is ``g_i(x) = sum_r a_ir cos(w_r x / l_i + p_ir)``, the random Fourier features of Rahimi and
    Recht, "Random Features for Large-Scale Kernel Machines" (NeurIPS 2007), with uniform phases ``p``, amplitudes
    ``a`` of a Rayleigh distribution (so that weights of cosine and sine are normal, as a Gaussian process wants
    them) and the frequencies ``w`` of a Matern-5/2 kernel (Student's t of 5 degrees of freedom).
    Here ``x`` holds the numeric hyperparameters in the unit cube and a random embedding of each categorical; an
    inactive hyperparameter is 0 there, its centre. The length scales ``l`` are log-normal and grow as ``sqrt(D)``,
    after Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High Dimensions" (ICML 2024): every
    hyperparameter has its own, so that some hardly matter, and functions stay learnable in high dimension.
    The frequencies are shared by the functions of a space, all else is a function's own.

    The metric is ``low + (high - low) sigmoid(k (z + o))``, where ``z`` is ``g`` standardised on random
    configurations. With ``o > 0`` scores saturate as accuracies do: most are fair, few excellent, some very bad.

    Metric: ``quality`` in ``[0, 1]``, maximised.

    Args:
        space: The search space; integers are expected snapped.
        name: Name of the space; functions of differently named spaces are independent.
        instances: ``N``, the number of functions, one task each.
        seed: Root of the functions.

    Raises:
        InvalidSettingError: If there are no functions.
    """

    _frequencies: Tensor
    _inverse_scales: Tensor
    _embeddings: Tensor
    _amplitudes: Tensor
    _phases: Tensor
    _mean: Tensor
    _deviation: Tensor
    _warp: Tensor
    _numeric: Tensor
    _categorical: Tensor
    _counts: Tensor
    _offsets: Tensor

    def __init__(self, space: SearchSpace, name: str, instances: int = 64, seed: int = 0) -> None:
        super().__init__()
        require_integer("instances", instances, 1)
        columns = space.spec.columns
        self.num_tasks = instances
        self.num_hyperparameters = len(columns)
        self.task_names = [f"{name}-f{index}" for index in range(instances)]
        self.metrics = (Metric("quality", minimize=False, lower=0.0, upper=1.0),)
        numeric = [index for index, column in enumerate(columns) if column.is_numeric]
        categorical = [index for index, column in enumerate(columns) if not column.is_numeric]
        counts = [len(columns[index].choices) for index in categorical]
        self._keep("numeric", torch.tensor(numeric, dtype=torch.int64))
        self._keep("categorical", torch.tensor(categorical, dtype=torch.int64))
        self._keep("counts", torch.tensor(counts, dtype=torch.int64))
        self._keep("offsets", torch.tensor([sum(counts[:i]) for i in range(len(counts))], dtype=torch.int64))
        owner = torch.tensor(numeric + [index for index in categorical for _ in range(_CHOICE_WIDTH)])
        draws = generator(seed, "random functions", name, "frequencies")
        normal = torch.randn(len(owner), _FREQUENCIES, generator=draws)
        # Chi-squared of 5 degrees of freedom: a sum of five squares.
        tail = torch.randn(5, _FREQUENCIES, generator=draws).square().mean(0).sqrt()
        self._keep("frequencies", normal / tail)
        rows = [self._draw(generator(seed, "random functions", name, i), sum(counts)) for i in range(instances)]
        scales, embeddings, cosines, sines, warp = (torch.stack(part) for part in zip(*rows, strict=True))
        self._keep("inverse_scales", 1.0 / scales[:, owner])
        self._keep("embeddings", embeddings)
        self._keep("amplitudes", torch.hypot(cosines, sines))
        self._keep("phases", torch.atan2(-sines, cosines))
        self._keep("warp", warp)
        self._standardise(space, generator(seed, "random functions", name, "sample"))

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(f"_{name}", value, persistent=False)

    def _draw(self, draws: torch.Generator, choices: int) -> tuple[Tensor, ...]:
        """Return length scales ``[D]``, embeddings of all choices, weights of cosine and sine ``[R]``, warp ``[4]``."""
        dimension = self.num_hyperparameters
        scales = 0.3 * math.sqrt(dimension) * torch.randn(dimension, generator=draws).exp()
        embeddings = _CHOICE_SPREAD * torch.randn(choices, _CHOICE_WIDTH, generator=draws)
        cosines, sines = torch.randn(2, _FREQUENCIES, generator=draws) / math.sqrt(_FREQUENCIES)
        uniform = torch.rand(4, generator=draws)
        low = 0.5 * uniform[0]
        height = (1.0 - low) * (0.3 + 0.7 * uniform[1])
        steepness = 0.5 * 4.0 ** uniform[2]
        offset = 2.0 * uniform[3]
        # Shorter than this, a function has more peaks than any number of trials could find.
        return scales.clamp(min=0.15), embeddings, cosines, sines, torch.stack([low, height, steepness, offset])

    def _standardise(self, space: SearchSpace, draws: torch.Generator) -> None:
        u = space.sample(_CENTRED_POINTS, draws)
        active = space.active(u)
        rows = [self._raw(torch.full((len(u),), task), u, active) for task in range(self.num_tasks)]
        values = torch.stack(rows)
        self._keep("mean", values.mean(1))
        self._keep("deviation", values.std(1).clamp(min=1e-6))

    def _raw(self, task: Tensor, u: Tensor, active: Tensor) -> Tensor:
        """Return the Gaussian process's values, float32 ``[B]``."""
        x = torch.where(active, u - 0.5, 0.0)[:, self._numeric]
        if len(self._categorical) > 0:
            position = (u[:, self._categorical] * self._counts).long()
            slot = torch.minimum(position, self._counts - 1) + self._offsets
            embedded = self._embeddings[task[:, None], slot] * active[:, self._categorical, None]
            x = torch.cat([x, embedded.flatten(1)], 1)
        angle = (x * self._inverse_scales[task]) @ self._frequencies + self._phases[task]
        return (self._amplitudes[task] * angle.cos()).sum(1)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        z = (self._raw(task, u, active) - self._mean[task]) / self._deviation[task]
        low, height, steepness, offset = self._warp[task].unbind(1)
        return (low + height * torch.sigmoid(steepness * (z + offset)))[:, None]
