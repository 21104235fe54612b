"""Log expected improvement of Optuna's Gaussian process and its gradient in closed form, many points at a time.

Optuna evaluates it in torch and differentiates it by autograd, which for ten points and a hundred trials costs some
twenty times the arithmetic. Here the same numbers come from numpy and LAPACK, from the matrices that Optuna's own fit
left behind.

With ``C`` the covariance of the trials, ``k`` that of a point with them, ``s`` that of the point with itself and ``y``
the scores, the posterior is ``mu = k C^-1 y``, ``sigma^2 = s - k C^-1 k``; with ``z = (mu - best) / sigma``,
``h(z) = phi(z) + z Phi(z)`` and log expected improvement ``log h(z) + log sigma`` (Ament et al., 2023, arXiv
2310.20708, equation 9), its derivatives are ``Phi(z) / (sigma h(z))`` by ``mu`` and ``phi(z) / (sigma h(z))`` by
``sigma``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from optuna._gp.acqf import BaseAcquisitionFunc, LogEI

__all__ = ["Evaluation", "ExpectedImprovement", "OptunaEvaluation", "evaluation_of", "log_improvement"]

Array: TypeAlias = "np.ndarray[Any, Any]"

_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_LOG_SQRT_2PI = math.log(math.sqrt(2.0 * math.pi))
#: Below it Optuna's formula for small z holds, as the density soon is no longer a float64.
_SMALL = -25.0
#: Below it ``1 + z Phi(z) / phi(z)`` has lost six digits to cancellation, and four terms of its series are exact.
_TINY = -1e3
#: Points that are evaluated at a time, so that what is between stays in the cache.
_BLOCK = 256


class Evaluation(ABC):
    """Values of an acquisition function, and their gradients with respect to the points."""

    @abstractmethod
    def values(self, points: Array) -> Array:
        """Return the values, float64 ``[B]``, of normalised points, float64 ``[B, D]``."""

    @abstractmethod
    def values_and_gradients(self, points: Array) -> tuple[Array, Array]:
        """Return the values, float64 ``[B]``, and gradients, float64 ``[B, D]``, of normalised points ``[B, D]``."""


def evaluation_of(acquisition: BaseAcquisitionFunc) -> Evaluation:
    """Return the fastest evaluation of an acquisition function there is.

    Args:
        acquisition: Log expected improvement is evaluated in closed form; other functions (which Optuna has for
            running trials and for constraints), one without any trial to improve on, and one of a version of Optuna
            that stores the model otherwise, by Optuna.
    """
    from optuna._gp.acqf import LogEI

    if type(acquisition) is not LogEI:
        return OptunaEvaluation(acquisition)
    try:
        found = ExpectedImprovement(acquisition)
    except AttributeError:
        return OptunaEvaluation(acquisition)
    return found if math.isfinite(found.threshold) else OptunaEvaluation(acquisition)


class OptunaEvaluation(Evaluation):
    """Optuna's own evaluation.

    Args:
        acquisition: Any acquisition function.
    """

    def __init__(self, acquisition: BaseAcquisitionFunc) -> None:
        self.acquisition = acquisition

    def values(self, points: Array) -> Array:
        values: Array = self.acquisition.eval_acqf_no_grad(points)
        return values

    def values_and_gradients(self, points: Array) -> tuple[Array, Array]:
        import torch

        x = torch.from_numpy(points).requires_grad_(True)
        values = self.acquisition.eval_acqf(x)
        if not values.requires_grad:  # Without a feasible trial the function is the constant 0.
            return values.numpy(), torch.zeros_like(x).numpy()
        # No point's value depends on another point.
        (gradients,) = torch.autograd.grad(values.sum(), x)
        return values.detach().numpy(), gradients.numpy()


class ExpectedImprovement(Evaluation):
    """Log expected improvement in closed form.

    Args:
        acquisition: Optuna's, whose model is fitted; later changes to it are not seen.

    Raises:
        AttributeError: If this version of Optuna stores the model otherwise.
    """

    def __init__(self, acquisition: LogEI) -> None:
        import numpy as np
        from scipy.linalg.lapack import dtrtrs

        model: Any = acquisition._gpr
        self.threshold = float(acquisition._threshold)
        self._noise = float(acquisition._stabilizing_noise)
        self._scale = float(model.kernel_scale)
        categorical: Array = model._is_categorical.numpy()
        self._numeric = np.flatnonzero(~categorical)
        self._choices = np.flatnonzero(categorical)
        weights: Array = model.inverse_squared_lengthscales.numpy()
        self._roots = np.sqrt(weights[self._numeric])
        self._choice_weights = weights[self._choices]
        trials: Array = model._X_all.numpy()
        self._trials = trials[:, self._numeric] * self._roots
        self._trial_choices = trials[:, self._choices]
        # LAPACK reads columns first.
        self._factor = np.asfortranarray(model._cov_Y_Y_chol.numpy())
        self._solved_scores: Array = model._cov_Y_Y_inv_Y.numpy()
        self._solve = dtrtrs

    def values(self, points: Array) -> Array:
        import numpy as np

        found = np.empty(len(points))
        for first in range(0, len(points), _BLOCK):
            block = points[first : first + _BLOCK]
            root = self._root_distances(block[:, self._numeric] * self._roots, block[:, self._choices])
            mean, variance, _ = self._posterior(self._covariance(root)[0])
            found[first : first + _BLOCK] = self._log_improvement(mean, variance)[0]
        return found

    def values_and_gradients(self, points: Array) -> tuple[Array, Array]:
        import numpy as np

        scaled = points[:, self._numeric] * self._roots
        root = self._root_distances(scaled, points[:, self._choices])
        covariance, decay = self._covariance(root)
        mean, variance, half = self._posterior(covariance)
        value, by_mean, by_variance = self._log_improvement(mean, variance)
        # By C^-1 = L^-T L^-1, of which half was done.
        solved = self._solve(self._factor, half, lower=1, trans=1, overwrite_b=1)[0].T
        by_covariance = by_mean[:, None] * self._solved_scores - (2.0 * by_variance)[:, None] * solved
        # Twice the derivative of the kernel by the squared distance, which unlike that by the distance has no pole.
        by_covariance *= (-5.0 / 3.0 * self._scale) * (root + 1.0) * decay
        gradients = np.zeros(points.shape)
        numeric = by_covariance.sum(axis=1)[:, None] * scaled - by_covariance @ self._trials
        gradients[:, self._numeric] = numeric * self._roots
        return value, gradients

    def _root_distances(self, scaled: Array, choices: Array) -> Array:
        """Return ``sqrt(5) d`` of points ``[B, .]`` to all trials, ``[B, T]``; different choices are 1 apart."""
        import numpy as np
        from scipy.spatial.distance import cdist

        squared: Array = cdist(scaled, self._trials, "sqeuclidean")
        for column, weight in enumerate(self._choice_weights):
            squared += weight * (choices[:, column, None] != self._trial_choices[:, column])
        squared *= 5.0
        root: Array = np.sqrt(squared, out=squared)
        return root

    def _covariance(self, root: Array) -> tuple[Array, Array]:
        """Return the Matern 5/2 kernel at ``sqrt(5) d``, and ``exp(-sqrt(5) d)``, both ``[B, T]``."""
        import numpy as np
        import torch

        decay = np.negative(root)
        # torch takes four values at a time, where numpy's exp of float64 takes one.
        torch.from_numpy(decay).exp_()
        covariance = root * (1.0 / 3.0)
        covariance += 1.0
        covariance *= root
        covariance += 1.0
        covariance *= decay
        covariance *= self._scale
        return covariance, decay

    def _posterior(self, covariance: Array) -> tuple[Array, Array, Array]:
        """Return the means and variances, ``[B]``, and ``L^-1 k``, ``[T, B]``, with ``L`` the Cholesky factor."""
        import numpy as np

        half: Array = self._solve(self._factor, covariance.T, lower=1)[0]
        variance: Array = self._scale - np.einsum("tb,tb->b", half, half)
        return covariance @ self._solved_scores, variance, half

    def _log_improvement(self, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Return log expected improvement and its derivatives by mean and variance, all ``[B]``."""
        import numpy as np

        sigma = np.sqrt(np.maximum(variance, 0.0) + self._noise)
        value, by_mean, by_sigma = log_improvement((mean - self.threshold) / sigma)
        by_mean /= sigma
        # Optuna raises negative variances to 0, where the derivative is 0.
        by_variance = np.where(variance < 0.0, 0.0, by_sigma / (2.0 * sigma * sigma))
        return value + np.log(sigma), by_mean, by_variance


def log_improvement(z: Array) -> tuple[Array, Array, Array]:
    """Return ``log h(z)`` of a standard normal variable, and the ratios that its derivatives are made of.

    Args:
        z: How far the mean is above what is to be improved on, in standard deviations, float64 ``[B]``.

    Returns:
        ``log h(z)``, ``Phi(z) / h(z)`` and ``phi(z) / h(z)``, float64 ``[B]`` each, finite for all ``|z| < 1e100``.
    """
    import numpy as np
    from scipy.special import erfc, erfcx

    small = z < _SMALL
    any_small = bool(small.any())
    near = np.maximum(z, _SMALL) if any_small else z
    below = 0.5 * erfc(-_SQRT_HALF * near)
    density = _INV_SQRT_2PI * np.exp(-0.5 * near * near)
    improvement = near * below + density
    logarithm, below_ratio, density_ratio = np.log(improvement), below / improvement, density / improvement
    if any_small:
        far = z[small]
        mills = _SQRT_HALF_PI * erfcx(-_SQRT_HALF * far)
        # Of h(z) / phi(z); the subtraction is 1 / z^2, or rather its series.
        rest = 1.0 + far * mills
        tiny = far < _TINY
        square = far[tiny] ** -2.0
        rest[tiny] = square * (1.0 - square * (3.0 - square * (15.0 - square * 105.0)))
        logarithm[small] = -0.5 * far * far - _LOG_SQRT_2PI + np.log(rest)
        below_ratio[small] = mills / rest
        density_ratio[small] = 1.0 / rest
    return logarithm, below_ratio, density_ratio
