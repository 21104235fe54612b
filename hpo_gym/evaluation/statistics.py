"""What a record table says: every metric of every agent with its interval, and every test, as one summary.

Means over tasks have intervals over tasks: seeds and training runs are averaged within a task, tasks are resampled,
and the interval answers how much a mean would move on other datasets of the same kind. The interquartile mean has
an interval over repetitions, which answers how much it would move with other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.failed_trials import trials_by_status
from hpo_gym.evaluation.metrics import (
    area_under_curve,
    best_score,
    grpoformer_metrics,
    log_regret,
    mean_ranks,
    mean_seconds,
    trials_to_reach,
)
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.robust import interquartile_mean, stratified_interval
from hpo_gym.evaluation.significance import LEAST_AGENTS, LEAST_TASKS, WinsTiesLosses, friedman, pairwise_tests
from hpo_gym.seeding import numpy_generator

if TYPE_CHECKING:
    import numpy as np

__all__ = ["bootstrap_interval", "chosen_trials", "summarise"]

_USUAL_TRIALS = (1, 10, 25, 50, 100)

Interval: TypeAlias = dict[str, float | None]

# Numbers that are resampled at a time: 32 MiB.
_CHUNK = 4_194_304

# GRPOformer's "Beats-Random" is about this agent, whatever else the reference is.
_RANDOM = "random"


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

    def mean(resampled: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
        # In one layout, because the layout decides the order of a sum, and columns must not depend on each other.
        means: np.ndarray[Any, Any] = np.ascontiguousarray(resampled).mean(axis=axis)
        return means

    varied = np.flatnonzero(~constant)
    together = max(1, _CHUNK // (tasks * resamples))
    for first in range(0, len(varied), together):
        some = varied[first : first + together]
        interval = bootstrap(
            (values[:, some].T,),
            mean,
            axis=-1,
            n_resamples=resamples,
            vectorized=True,
            confidence_level=confidence,
            method="BCa",
            # The same draws for every column, however many there are.
            random_state=numpy_generator(seed, "bootstrap"),
        ).confidence_interval
        low[some], high[some] = interval.low, interval.high
    return low, high


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
        resamples: Number of bootstrap resamples over tasks.

    Returns:
        ``reference``, ``spaces``, ``tasks``, ``seeds``, ``budget``, ``trials``; ``relative``: whether regret is
        relative to what these agents found (see :func:`~hpo_gym.evaluation.regret_curves`); ``friedman``: the fields of
        :class:`FriedmanResult` when the budget is spent, or ``None`` with fewer than 3 agents or 2 tasks;
        ``grpoformer``: the fields of :class:`GRPOformerMetrics` by agent, or ``None`` without an agent ``random``.
        By agent, in ``agents``:

        - ``runs``;
        - ``regret``: by trial (as text) its ``mean`` and 95 % interval over tasks ``low`` .. ``high``;
        - ``iqm``: by trial the interquartile mean (``mean``) and its 95 % interval over repetitions;
        - ``area_under_curve`` and ``log_regret`` (when the budget is spent): ``mean`` and 95 % interval over tasks;
        - ``best_score``: mean over tasks when the budget is spent, in ``[0, 1]``;
        - ``evaluations``, and ``failures``: how many of them did not end well, by status (see
          :data:`hpo_gym.live.STATUSES`); what the search space forbids is no failure;
        - ``mean_rank``: by trial;
        - ``wins``, ``ties``, ``losses``, ``p_value`` and ``corrected_p`` against the reference when the budget is
          spent (the last two ``None`` for the reference itself);
        - ``trials_to_reference``, ``speed_up`` and ``seconds_to_reference``: ``None`` if never reached, the last one
          also where durations are not known.

        The ends of an interval are ``None`` with a single task or a single repetition respectively.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: For a trial beyond the budget, a table that cannot be compared, a task on which no
            training ended well, or, with 3 agents or more, if statsmodels and scikit-posthocs are not installed.
    """
    curves = regret_curves(records)
    curves.of(reference, "reference agent")
    shown = [curves.check_trial(trial) for trial in (chosen_trials(curves.budget) if trials is None else trials)]
    labels = list(map(str, shown))
    over_tasks, over_repetitions = _over_tasks(curves, shown, seed, resamples), _over_repetitions(curves, shown, seed)
    ranks, tests, seconds = mean_ranks(curves), pairwise_tests(curves, reference), mean_seconds(records)
    scores, ended = best_score(records), trials_by_status(records)
    agents: dict[str, Any] = {}
    for agent in curves.agents:
        *regret, area, log = over_tasks[agent]
        needed, test = trials_to_reach(curves, agent, reference), tests.get(agent)
        # The reference has no test: it ties with itself.
        compared = test or WinsTiesLosses(0, len(curves.tasks), 0)
        agents[agent] = {
            "runs": curves.runs[agent],
            "regret": dict(zip(labels, regret, strict=True)),
            "iqm": dict(zip(labels, over_repetitions[agent], strict=True)),
            "area_under_curve": area,
            "log_regret": log,
            "best_score": float(scores[agent].mean()),
            "evaluations": ended[agent].evaluations,
            "failures": ended[agent].failures,
            "mean_rank": {str(trial): float(ranks[agent][trial - 1]) for trial in shown},
            "wins": compared.wins,
            "ties": compared.ties,
            "losses": compared.losses,
            "p_value": None if test is None else test.p_value,
            "corrected_p": None if test is None else test.corrected_p,
            "trials_to_reference": needed,
            "speed_up": None if needed is None else curves.budget / needed,
            "seconds_to_reference": None if needed is None else seconds[agent][needed - 1],
        }
    return {
        "reference": reference,
        "spaces": sorted(set(curves.spaces)),
        "tasks": len(curves.tasks),
        "seeds": curves.seeds,
        "budget": curves.budget,
        "trials": shown,
        "relative": curves.relative,
        "agents": agents,
        "friedman": _friedman(curves),
        "grpoformer": _grpoformer(records) if _RANDOM in curves.agents else None,
    }


def _over_tasks(curves: RegretCurves, shown: Sequence[int], seed: int, resamples: int) -> dict[str, list[Interval]]:
    """Return by agent the mean and interval over tasks of regret at each trial, of its area and of its logarithm."""
    import numpy as np

    areas, logs = area_under_curve(curves), log_regret(curves)
    columns = [trial - 1 for trial in shown]
    each = {
        agent: np.column_stack([values[:, columns], areas[agent], logs[agent]])
        for agent, values in curves.values.items()
    }
    joined = np.hstack(list(each.values()))
    intervals = _intervals(joined.mean(axis=0), *bootstrap_interval(joined, seed=seed, resamples=resamples))
    width = len(shown) + 2
    return {agent: intervals[index * width : (index + 1) * width] for index, agent in enumerate(each)}


def _over_repetitions(curves: RegretCurves, shown: Sequence[int], seed: int) -> dict[str, list[Interval]]:
    """Return by agent the interquartile mean of regret at each trial, with its interval over repetitions."""
    chosen = {agent: episodes[:, :, [trial - 1 for trial in shown]] for agent, episodes in curves.episodes.items()}
    return {
        agent: _intervals(interquartile_mean(values), *stratified_interval(values, seed=seed))
        for agent, values in chosen.items()
    }


def _intervals(means: np.ndarray[Any, Any], low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> list[Interval]:
    return [
        {"mean": float(mean), "low": _number(lower), "high": _number(upper)}
        for mean, lower, upper in zip(means, low, high, strict=True)
    ]


def _friedman(curves: RegretCurves) -> dict[str, Any] | None:
    if len(curves.agents) < LEAST_AGENTS or len(curves.tasks) < LEAST_TASKS:
        return None
    fields = asdict(friedman(curves))
    pairs = fields.pop("pairwise")
    return fields | {
        "cliques": [list(clique) for clique in fields["cliques"]],
        "pairwise": [{"agents": list(pair), "p_value": p_value} for pair, p_value in pairs.items()],
    }


def _grpoformer(records: RecordTable) -> dict[str, Any]:
    metrics = grpoformer_metrics(records, _RANDOM)
    return {agent: asdict(each) | {"compared": list(each.compared)} for agent, each in metrics.items()}


def _number(value: float) -> float | None:
    return None if value != value else float(value)
