"""Maximising Optuna's acquisition functions over mixed spaces, whole hyperparameters at a time.

Optuna alternates between gradient ascent over the continuous hyperparameters and a search along every discrete one,
from ten starts (``optuna._gp.optim_mixed``). Its search along a discrete hyperparameter asks for one value at a time,
some twenty thousand times in a run of fifty trials, which is most of what a run takes. Here all values are asked for
at once, for all starts together: the same alternation, from the same starts, that along a hyperparameter finds the
best value instead of a local optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from optuna._gp.acqf import BaseAcquisitionFunc

__all__ = ["maximise_acquisition"]

Array: TypeAlias = "np.ndarray[Any, Any]"

#: Values of one hyperparameter that are compared at a time; of more, evenly spaced ones and the next neighbours.
_MOST_VALUES = 64
_NEIGHBOURS = 4
_ROUNDS = 100
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
    value = acquisition.eval_acqf_no_grad(sampled)
    best = int(np.argmax(value))
    share = np.exp(value - value[best])
    share[best] = 0.0
    given = np.empty((0, space.dim)) if warm_starts is None else warm_starts
    more = min(starts - len(given) - 1, int(np.count_nonzero(share)))
    chosen = [best]
    if more > 0:
        chosen.extend(draws.choice(len(sampled), size=more, replace=False, p=share / share.sum()))
    points, values = _climb(acquisition, np.vstack([sampled[chosen], given]), tolerance)
    found: Array = points[int(np.argmax(values))]
    return found


def _climb(acquisition: BaseAcquisitionFunc, points: Array, tolerance: float) -> tuple[Array, Array]:
    """Improve all points until no hyperparameter alone improves any of them."""
    import numpy as np
    from optuna._gp.optim_mixed import _gradient_ascent_batched

    space = acquisition.search_space
    continuous = space.continuous_indices
    scales = acquisition.length_scales[continuous]
    grids = list(zip(space.discrete_indices, space.get_choices_of_discrete_params(), strict=True))
    values = acquisition.eval_acqf_no_grad(points)
    active = np.arange(len(points))
    for round_number in range(_ROUNDS):
        if round_number == 1:
            active = active[np.argsort(-values[active], kind="stable")[:_CONTINUED]]
        before = values[active].copy()
        points[active], values[active], _ = _gradient_ascent_batched(
            acquisition, points[active], values[active], continuous, scales, tolerance
        )
        for index, grid in grids:
            points[active], values[active] = _best_values(acquisition, points[active], values[active], index, grid)
        # Gradient ascent ends where it gains nothing; so does a point that no discrete step has moved since.
        active = active[values[active] > before + tolerance * np.maximum(1.0, np.abs(before))]
        if len(active) == 0 or not grids:
            break
    return points, values


def _best_values(
    acquisition: BaseAcquisitionFunc, points: Array, values: Array, index: int, grid: Array
) -> tuple[Array, Array]:
    """Move every point to the best value of one discrete hyperparameter."""
    import numpy as np

    tried = np.stack([_tried(grid, float(point[index])) for point in points])
    candidates = np.repeat(points[:, None], tried.shape[1], axis=1)
    candidates[:, :, index] = tried
    found = acquisition.eval_acqf_no_grad(candidates.reshape(-1, points.shape[1])).reshape(tried.shape)
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
