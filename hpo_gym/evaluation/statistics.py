"""What a record table says: regret with intervals, wins against a reference, trials to reach it.

Seeds and training runs are averaged within a task, and tasks are what is resampled: an interval answers how much
a mean would move on other datasets of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.seeding import numpy_generator

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "TIE_TOLERANCE",
    "WinsTiesLosses",
    "bootstrap_interval",
    "chosen_trials",
    "summarise",
    "trials_to_reach",
    "wins_ties_losses",
]

#: Regrets that differ by less are a tie.
TIE_TOLERANCE = 1e-6

_USUAL_TRIALS = (1, 10, 25, 50, 100)

# Sums of the same numbers in another order differ by less.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class WinsTiesLosses:
    """On how many tasks an agent's regret is lower than, equal to and higher than the reference's."""

    wins: int
    ties: int
    losses: int


def bootstrap_interval(
    values: np.ndarray[Any, Any], *, seed: int = 0, resamples: int = 9999, confidence: float = 0.95
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the bias-corrected and accelerated bootstrap interval of the mean over tasks.

    The method of Efron (1987), "Better Bootstrap Confidence Intervals", as scipy implements it.

    Args:
        values: float64 ``[N, K]``: ``N`` tasks are resampled, for each of ``K`` columns.
        seed: Root of the resampling stream.
        resamples: Number of resamples.
        confidence: Coverage, in ``(0, 1)``.

    Returns:
        Lower and upper ends, float64 ``[K]``; NaN with a single task, whose spread nobody knows.
    """
    import numpy as np
    from scipy.stats import bootstrap

    tasks, columns = values.shape
    low = np.full(columns, np.nan)
    if tasks < 2:
        return low, low.copy()
    high = low.copy()
    # Without spread between tasks the interval is a point; the acceleration would be 0 / 0.
    constant = np.ptp(values, axis=0) <= 1e-12
    low[constant] = high[constant] = values[0, constant]
    for column in np.flatnonzero(~constant):
        interval = bootstrap(
            (values[:, column],),
            np.mean,
            n_resamples=resamples,
            vectorized=True,
            confidence_level=confidence,
            method="BCa",
            random_state=numpy_generator(seed, "bootstrap"),
        ).confidence_interval
        low[column], high[column] = interval.low, interval.high
    return low, high


def wins_ties_losses(curves: RegretCurves, agent: str, reference: str, trial: int | None = None) -> WinsTiesLosses:
    """Compare an agent with a reference task by task.

    Args:
        curves: What :func:`regret_curves` returned.
        agent: The agent.
        reference: What it is compared with.
        trial: When; ``None`` means when the budget is spent.

    Raises:
        UnknownNameError: For an unknown agent or reference.
        InvalidSettingError: For a trial beyond the budget.
    """
    column = curves.check_trial(curves.budget if trial is None else trial) - 1
    gap = curves.of(agent)[:, column] - curves.of(reference, "reference agent")[:, column]
    wins, losses = int((gap <= -TIE_TOLERANCE).sum()), int((gap >= TIE_TOLERANCE).sum())
    return WinsTiesLosses(wins, len(gap) - wins - losses, losses)


def trials_to_reach(curves: RegretCurves, agent: str, reference: str) -> int | None:
    """Return after how many trials an agent's mean regret is at most the reference's final one.

    ``None`` if it never is. The budget divided by it is the speed-up over the reference.

    Raises:
        UnknownNameError: For an unknown agent or reference.
    """
    goal = curves.of(reference, "reference agent").mean(axis=0)[-1]
    reached = (curves.of(agent).mean(axis=0) <= goal + _ROUNDING).nonzero()[0]
    return int(reached[0]) + 1 if len(reached) else None


def chosen_trials(budget: int) -> tuple[int, ...]:
    """Return the trials that tables show: 1, 10, 25, 50, 100 as far as the budget goes, and its end."""
    return tuple(sorted({trial for trial in _USUAL_TRIALS if trial < budget} | {budget}))


def summarise(
    records: RecordTable, reference: str, trials: Sequence[int] | None = None, *, seed: int = 0, resamples: int = 9999
) -> dict[str, Any]:
    """Return everything a results file holds, as plain numbers that JSON can hold.

    Args:
        records: The trials.
        reference: Name of the agent that the others are compared with.
        trials: When regret is reported; ``None`` means :func:`chosen_trials`.
        seed: Root of the resampling stream.
        resamples: Number of bootstrap resamples.

    Returns:
        ``reference``, ``spaces``, ``tasks``, ``seeds``, ``budget``, ``trials`` and, by agent, in ``agents``:
        ``runs``; ``regret``: by trial (as text) its ``mean`` and 95 % interval ``low`` .. ``high`` (``None``
        with a single task); ``wins``, ``ties`` and ``losses`` against the reference; ``trials_to_reference``
        (``None`` if never reached) and ``speed_up``.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: For a trial beyond the budget, or a table that cannot be compared.
    """
    curves = regret_curves(records)
    curves.of(reference, "reference agent")
    shown = [curves.check_trial(trial) for trial in (chosen_trials(curves.budget) if trials is None else trials)]
    agents: dict[str, Any] = {}
    for agent, values in curves.values.items():
        chosen = values[:, [trial - 1 for trial in shown]]
        low, high = bootstrap_interval(chosen, seed=seed, resamples=resamples)
        regret = {
            str(trial): {"mean": float(mean), "low": _number(lower), "high": _number(upper)}
            for trial, mean, lower, upper in zip(shown, chosen.mean(axis=0), low, high, strict=True)
        }
        compared, needed = wins_ties_losses(curves, agent, reference), trials_to_reach(curves, agent, reference)
        agents[agent] = {
            "runs": curves.runs[agent],
            "regret": regret,
            "wins": compared.wins,
            "ties": compared.ties,
            "losses": compared.losses,
            "trials_to_reference": needed,
            "speed_up": None if needed is None else curves.budget / needed,
        }
    return {
        "reference": reference,
        "spaces": sorted({f"{source}:{space}" for source, space, _ in curves.tasks}),
        "tasks": len(curves.tasks),
        "seeds": curves.seeds,
        "budget": curves.budget,
        "trials": shown,
        "agents": agents,
    }


def _number(value: float) -> float | None:
    return None if value != value else float(value)
