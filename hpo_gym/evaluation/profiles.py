"""Performance profiles: which share of episodes is at least as good as a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.metrics import LEAST_REGRET
from hpo_gym.evaluation.robust import episode_weights, percentile_interval, usual_resamples

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Profile", "performance_profile"]

_THRESHOLDS = 121


@dataclass(frozen=True)
class Profile:
    """The share of episodes whose regret is at most each threshold, by agent; higher is better.

    Args:
        thresholds: Regrets, increasing, float64 ``[K]``.
        share: Share of the ``N * R`` episodes, in ``[0, 1]``, ``[K]`` by agent.
        low: Lower end of its 95 % interval, ``[K]`` by agent; NaN with one repetition per task.
        high: Upper end of the same.
    """

    thresholds: np.ndarray[Any, Any]
    share: Mapping[str, np.ndarray[Any, Any]]
    low: Mapping[str, np.ndarray[Any, Any]]
    high: Mapping[str, np.ndarray[Any, Any]]


def performance_profile(
    curves: RegretCurves,
    trial: int | None = None,
    thresholds: Sequence[float] | np.ndarray[Any, Any] | None = None,
    *,
    seed: int = 0,
    resamples: int | None = None,
    confidence: float = 0.95,
) -> Profile:
    """Return the performance profile of every agent: the distribution function of its episodes' regrets.

    The profiles of Dolan and Moré (2002), "Benchmarking optimization software with performance profiles", with the
    distance to the known optimum in place of the ratio to the best solver, which are the score distributions of
    Agarwal et al. (2021), whose pointwise bands of the stratified bootstrap these are.

    Args:
        curves: What :func:`regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.
        thresholds: Increasing regrets; ``None`` means 121 from ``LEAST_REGRET`` to 1, evenly spaced in the log.
        seed: Root of the resampling stream.
        resamples: Number of bootstrap resamples; ``None`` means
            :func:`~hpo_gym.evaluation.robust.usual_resamples`.
        confidence: Coverage of the bands, in ``(0, 1)``.

    Raises:
        InvalidSettingError: For a trial beyond the budget, thresholds that do not increase, or ``resamples`` or
            ``confidence`` out of range.
    """
    import numpy as np

    column = curves.column(trial)
    grid = np.geomspace(LEAST_REGRET, 1.0, _THRESHOLDS) if thresholds is None else np.asarray(thresholds, float)
    if grid.ndim != 1 or len(grid) == 0 or not (np.diff(grid) > 0.0).all():
        raise InvalidSettingError(
            f"thresholds={thresholds!r} must be regrets in increasing order, such as [0.001, 0.01, 0.1]."
        )
    share, low, high = {}, {}, {}
    for agent, episodes in curves.episodes.items():
        tasks, repetitions, _ = episodes.shape
        reached = (episodes[:, :, column, None] <= grid).astype(np.float64).reshape(tasks * repetitions, -1)
        share[agent] = reached.mean(axis=0)
        count = usual_resamples(tasks * repetitions) if resamples is None else resamples
        weights = episode_weights(tasks, repetitions, count, seed)
        low[agent], high[agent] = percentile_interval(weights @ reached, repetitions, confidence)
    return Profile(grid, share, low, high)
