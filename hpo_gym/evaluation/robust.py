"""The interquartile mean and intervals over repetitions, as rliable reports them.

Agarwal, Schwarzer, Castro, Courville and Bellemare (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import numpy_generator

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "episode_weights",
    "interquartile_mean",
    "percentile_interval",
    "resampled_episodes",
    "stratified_interval",
    "usual_resamples",
]

_RESAMPLES, _LEAST_RESAMPLES = 2000, 200
# Episodes that are drawn for one interval, at most, as long as the least number of resamples allows.
_RESAMPLED = 4_000_000
# Numbers that are resampled at a time: what a cache holds.
_CHUNK = 262_144


def interquartile_mean(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean of the middle half of all episodes, for each of ``K`` columns, ``[K]``.

    A quarter of the ``N * R`` episodes is left out at either end (rounded down), so that neither a few failures nor
    a few lucky hits decide, as they do a mean, and half of the data count, unlike in a median.

    Args:
        values: float64 ``[N, R, K]``: tasks, repetitions, columns.
    """
    import numpy as np

    tasks, repetitions, columns = values.shape
    # What scipy.stats.trim_mean does, with a sort, which is faster here than its partition.
    episodes = np.sort(values.reshape(tasks * repetitions, columns), axis=0)
    cut = len(episodes) // 4
    mean: np.ndarray[Any, Any] = episodes[cut : len(episodes) - cut].mean(axis=0)
    return mean


def usual_resamples(episodes: int) -> int:
    """Return how many resamples an interval over repetitions gets: 2,000, and fewer where each has very many episodes.

    With tens of thousands of episodes the interval is narrow, and its ends need no third digit; 200 are the least.
    """
    return min(_RESAMPLES, max(_LEAST_RESAMPLES, _RESAMPLED // episodes))


def resampled_episodes(tasks: int, repetitions: int, resamples: int, seed: int) -> np.ndarray[Any, Any]:
    """Return the episodes of each resample, int64 ``[resamples, N * R]`` in ``0 .. N * R - 1``.

    Repetitions are drawn anew within every task, whose episodes are ``R`` neighbours.

    Raises:
        InvalidSettingError: If ``resamples`` is out of range.
    """
    import numpy as np

    require_integer("resamples", resamples, 1)
    draws = numpy_generator(seed, "stratified-bootstrap")
    drawn = draws.integers(0, repetitions, (resamples, tasks, repetitions))
    return (drawn + repetitions * np.arange(tasks)[:, None]).reshape(resamples, tasks * repetitions)


def episode_weights(tasks: int, repetitions: int, resamples: int, seed: int) -> np.ndarray[Any, Any]:
    """Return the weight of each episode in the mean over each resample, float64 ``[resamples, N * R]``.

    The resamples of :func:`resampled_episodes`. With them a bootstrap of means is one matrix product.
    """
    import numpy as np

    episodes = tasks * repetitions
    cell = resampled_episodes(tasks, repetitions, resamples, seed) + episodes * np.arange(resamples)[:, None]
    return np.bincount(cell.ravel(), minlength=resamples * episodes).reshape(resamples, episodes) / episodes


def percentile_interval(
    statistics: np.ndarray[Any, Any], repetitions: int, confidence: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the middle ``confidence`` of the values ``[resamples, K]``, ``[K]`` each; NaN with one repetition.

    Raises:
        InvalidSettingError: If ``confidence`` is out of range.
    """
    import numpy as np

    if not 0.0 < confidence < 1.0:
        raise InvalidSettingError(f"confidence={confidence!r} must lie between 0 and 1. The usual choice is 0.95.")
    if repetitions < 2:
        unknown = np.full(statistics.shape[1], np.nan)
        return unknown, unknown.copy()
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(statistics, (tail, 100.0 - tail), axis=0)
    return low, high


def stratified_interval(
    values: np.ndarray[Any, Any],
    statistic: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = interquartile_mean,
    *,
    seed: int = 0,
    resamples: int | None = None,
    confidence: float = 0.95,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the percentile interval of the stratified bootstrap: tasks stay, repetitions are resampled within each.

    It answers how much a number would move if the same tasks were played again with other seeds. How much it would
    move on other tasks is what :func:`~hpo_gym.evaluation.bootstrap_interval` says, which is usually more.

    Args:
        values: float64 ``[N, R, K]``: tasks, repetitions, columns.
        statistic: ``[N, R, K] -> [K]`` for any ``K``, column by column.
        seed: Root of the resampling stream; the same draws serve every column.
        resamples: Number of resamples; ``None`` means :func:`usual_resamples`.
        confidence: Coverage, in ``(0, 1)``.

    Returns:
        Lower and upper ends, float64 ``[K]``; NaN with one repetition, which leaves nothing to resample.

    Raises:
        InvalidSettingError: If ``resamples`` or ``confidence`` is out of range.
    """
    import numpy as np

    tasks, repetitions, columns = values.shape
    resamples = usual_resamples(tasks * repetitions) if resamples is None else resamples
    drawn = resampled_episodes(tasks, repetitions, resamples, seed)
    by_column = np.ascontiguousarray(values.reshape(tasks * repetitions, columns).T)
    statistics = np.empty((resamples, columns))
    step = max(1, _CHUNK // values.size)
    for first in range(0, resamples, step):
        # Resamples become columns, so that any statistic works on many of them at once; the episodes of one lie
        # next to each other, which is what sorting them wants.
        part = by_column.take(drawn[first : first + step], axis=1).reshape(-1, tasks, repetitions)
        statistics[first : first + step] = statistic(np.moveaxis(part, 0, -1)).reshape(columns, -1).T
    return percentile_interval(statistics, repetitions, confidence)
