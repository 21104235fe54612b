"""Maximising Optuna's acquisition functions over mixed spaces, whole hyperparameters at a time.

Optuna alternates between gradient ascent over the continuous hyperparameters and a search along every discrete one,
from ten starts (``optuna._gp.optim_mixed``). Its search along a discrete hyperparameter asks for one value at a time,
some twenty thousand times in a run of fifty trials, which is most of what a run takes. Here all values are asked for
at once, for all starts together: the same alternation, from the same starts, that along a hyperparameter finds the
best value instead of a local optimum. Log expected improvement is evaluated in closed form
(:mod:`agents.expected_improvement`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from agents.expected_improvement import Evaluation, evaluation_of

if TYPE_CHECKING:
    import numpy as np
    from optuna._gp.acqf import BaseAcquisitionFunc

__all__ = ["maximise_acquisition"]

Array: TypeAlias = "np.ndarray[Any, Any]"

#: Values of one hyperparameter that are compared at a time; of more, evenly spaced ones and the next neighbours.
_MOST_VALUES = 64
_NEIGHBOURS = 4
_ROUNDS = 100
#: Of one gradient ascent, at most.
_ITERATIONS = 200
#: Of the starts, as many go on after the first round: the others would have to overtake the best of ten.
_CONTINUED = 3


def maximise_acquisition(
    acquisition: BaseAcquisitionFunc,
    warm_starts: Array | None,
    draws: np.random.RandomState,
    samples: int,
    starts: int,
    tolerance: float,
) -> Array:
    """Return the point with the highest value that was found, float64 ``[D]``.

    Args:
        acquisition: What to maximise over normalised points, with its search space.
        warm_starts: Points to start from besides sampled ones, float64 ``[W, D]`` with ``W < starts``.
        draws: Where random numbers come from.
        samples: Points that are sampled, the best of which is a start; others become starts with a probability
            proportional to the exponential of their value.
        starts: Local searches.
        tolerance: Of the gradient ascent.
    """
    import numpy as np

    space = acquisition.search_space
    sampled = space.sample_normalized_params(samples, rng=draws)
    evaluation = evaluation_of(acquisition)
    value = evaluation.values(sampled)
    best = int(np.argmax(value))
    share = np.exp(value - value[best])
    share[best] = 0.0
    given = np.empty((0, space.dim)) if warm_starts is None else warm_starts
    more = min(starts - len(given) - 1, int(np.count_nonzero(share)))
    chosen = [best]
    if more > 0:
        chosen.extend(draws.choice(len(sampled), size=more, replace=False, p=share / share.sum()))
    points, values = _climb(acquisition, evaluation, np.vstack([sampled[chosen], given]), tolerance)
    found: Array = points[int(np.argmax(values))]
    return found


def _climb(
    acquisition: BaseAcquisitionFunc, evaluation: Evaluation, points: Array, tolerance: float
) -> tuple[Array, Array]:
    """Improve all points until no hyperparameter alone improves any of them."""
    import numpy as np

    space = acquisition.search_space
    continuous = space.continuous_indices
    ascent = _Ascent(evaluation, continuous, acquisition.length_scales[continuous], math.sqrt(tolerance))
    grids = [
        (index, grid)
        for index, grid in zip(space.discrete_indices, space.get_choices_of_discrete_params(), strict=True)
        if len(grid) > 1
    ]
    values = evaluation.values(points)
    active = np.arange(len(points))
    for round_number in range(_ROUNDS):
        if round_number == 1:
            active = active[np.argsort(-values[active], kind="stable")[:_CONTINUED]]
        before = values[active].copy()
        if len(continuous):
            points[active], values[active] = ascent.improve(points[active], values[active])
        for index, grid in grids:
            points[active], values[active] = _best_values(evaluation, points[active], values[active], index, grid)
        # Gradient ascent ends where it gains nothing; so does a point that no discrete step has moved since.
        active = active[values[active] > before + tolerance * np.maximum(1.0, np.abs(before))]
        if len(active) == 0 or not grids:
            break
    return points, values


@dataclass(frozen=True)
class _Ascent:
    """Gradient ascent over the continuous hyperparameters, as Optuna's (``optim_mixed._gradient_ascent_batched``).

    Args:
        evaluation: What to maximise.
        continuous: Which hyperparameters, int64 ``[C]``.
        scales: Their length scales, float64 ``[C]``, in whose units the function is equally curved everywhere.
        tolerance: It ends where no component of the projected gradient is above.
    """

    evaluation: Evaluation
    continuous: Array
    scales: Array
    tolerance: float

    def improve(self, points: Array, values: Array) -> tuple[Array, Array]:
        """Return better points ``[B, D]`` and their values ``[B]``, or the same."""
        import numpy as np
        from optuna._gp.batched_lbfgsb import batched_lbfgsb

        def negative(scaled: Array, rows: tuple[int, ...]) -> tuple[Array, Array]:
            moved = points[list(rows)]
            moved[:, self.continuous] = scaled * self.scales
            value, gradient = self.evaluation.values_and_gradients(moved)
            return -value, -gradient[:, self.continuous] * self.scales

        scaled, lowest, iterations = batched_lbfgsb(
            func_and_grad=negative,
            x0_batched=points[:, self.continuous] / self.scales,
            batched_args=(list(range(len(points))),),
            bounds=[(0.0, 1.0 / scale) for scale in self.scales],
            pgtol=self.tolerance,
            max_iters=_ITERATIONS,
        )
        found = points.copy()
        found[:, self.continuous] = scaled * self.scales
        better = (-lowest > values) & (iterations > 0)
        return np.where(better[:, None], found, points), np.where(better, -lowest, values)


def _best_values(evaluation: Evaluation, points: Array, values: Array, index: int, grid: Array) -> tuple[Array, Array]:
    """Move every point to the best value of one discrete hyperparameter."""
    import numpy as np

    tried = np.stack([_tried(grid, float(point[index])) for point in points])
    candidates = np.repeat(points[:, None], tried.shape[1], axis=1)
    candidates[:, :, index] = tried
    found = evaluation.values(candidates.reshape(-1, points.shape[1])).reshape(tried.shape)
    best = found.argmax(axis=1)
    row = np.arange(len(points))
    better = found[row, best] > values
    return np.where(better[:, None], candidates[row, best], points), np.where(better, found[row, best], values)


def _tried(grid: Array, current: float) -> Array:
    """Return which values of a hyperparameter are compared, always as many."""
    import numpy as np

    if len(grid) <= _MOST_VALUES:
        return grid
    here = int(np.argmin(np.abs(grid - current)))
    first = int(np.clip(here - _NEIGHBOURS, 0, len(grid) - 2 * _NEIGHBOURS - 1))
    near = np.arange(first, first + 2 * _NEIGHBOURS + 1)
    spread = np.linspace(0, len(grid) - 1, _MOST_VALUES - len(near)).round().astype(int)
    values: Array = grid[np.concatenate([near, spread])]
    return values
