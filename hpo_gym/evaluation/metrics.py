"""What a curve comes to as one number, and what a method's rank among others is.

``docs/metrics.md`` lists every one of them with its formula, range, direction and source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.records import RecordTable

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "LEAST_REGRET",
    "TIE_TOLERANCE",
    "GRPOformerMetrics",
    "HPOBAggregate",
    "area_under_curve",
    "best_score",
    "grpoformer_metrics",
    "hpob_aggregate",
    "log_regret",
    "mean_ranks",
    "mean_seconds",
    "ranks_of",
    "seconds_to_reach",
    "trials_to_reach",
]

#: Regrets below it count as it before a logarithm is taken: an optimum is known to no more digits than these.
LEAST_REGRET = 1e-6

#: Values that differ by less are a tie: scores are float32, and an episode that is played alone differs from one in a
#: batch in the last bits.
TIE_TOLERANCE = 1e-6

# Sums of the same numbers in another order differ by less.


@dataclass(frozen=True)
class GRPOformerMetrics:
    """The four numbers of GRPOformer's table for one agent; a scenario is a task.

    Args:
        beats_random: BtR, share of scenarios, in ``[0, 1]``, on which the agent's final best score is strictly
            above the reference's; higher is better.
        ties_with_random: Share of scenarios on which both are equal; never part of ``beats_random``.
        median_performance: MP, median over scenarios of the final best score, in ``[0, 1]``; higher is better.
        mean_performance: MnP, mean of the same.
        mean_rank: MnR, mean over scenarios of the agent's rank among ``compared``, from 1; lower is better.
        compared: The agents that ranks were taken among, sorted: ``mean_rank`` means nothing without them.
    """

    beats_random: float
    ties_with_random: float
    median_performance: float
    mean_performance: float
    mean_rank: float
    compared: tuple[str, ...]


@dataclass(frozen=True)
class HPOBAggregate:
    """An agent's curves as HPO-B aggregates them: plain means over all ``N * R`` episodes.

    Args:
        regret: Mean regret after 1 .. T evaluations, float64 ``[T]``.
        regret_band: Half-width of HPO-B's band around it, ``[T]``.
        rank: Mean rank among all agents within an episode, ``[T]``; 1 is best.
        rank_band: Half-width of the band around it, ``[T]``.
    """

    regret: np.ndarray[Any, Any]
    regret_band: np.ndarray[Any, Any]
    rank: np.ndarray[Any, Any]
    rank_band: np.ndarray[Any, Any]


def area_under_curve(curves: RegretCurves) -> dict[str, np.ndarray[Any, Any]]:
    """Return the mean regret over trials 1 .. T of every agent on every task, ``[N]``, in ``[0, 1]``.

    The area under the regret curve divided by the budget, so that it does not grow with it; lower is better.
    """
    return {agent: values.mean(axis=1) for agent, values in curves.values.items()}


def log_regret(curves: RegretCurves, trial: int | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Return the mean over repetitions of ``log10(max(regret, LEAST_REGRET))`` by agent, ``[N]``, in ``[-6, 0]``.

    Lower is better. The logarithm is taken before the mean, so that a value is the log of a geometric mean: one
    failed repetition does not hide that nine came close.

    Args:
        curves: What :func:`regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.

    Raises:
        InvalidSettingError: For a trial beyond the budget.
    """
    import numpy as np

    column = curves.column(trial)
    return {
        agent: np.log10(np.maximum(episodes[:, :, column], LEAST_REGRET)).mean(axis=1)
        for agent, episodes in curves.episodes.items()
    }


def best_score(records: RecordTable, trial: int | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Return the best score so far by agent, ``[N]``, means over repetitions, in ``[0, 1]``; higher is better.

    It needs no known range of a task, unlike regret. The score is the metric mapped to ``[0, 1]``, 1 being best:
    for an accuracy, the accuracy as a share.

    Args:
        records: The trials.
        trial: When; ``None`` means when the budget is spent.

    Raises:
        InvalidSettingError: For a trial beyond the budget, or a table that cannot be compared.
    """
    layout = records.layout
    column = layout.column(trial)
    incumbents = layout.by_agent(records.frame["incumbent"].to_numpy())
    return {agent: values[:, :, column].mean(axis=1) for agent, values in incumbents.items()}


def ranks_of(values: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the rank of every agent among all at each entry of arrays of one shape; the lowest value has rank 1.

    Values are tied with the next one if that is less than ``TIE_TOLERANCE`` away; ties share the mean of their ranks.
    """
    import numpy as np
    from scipy.stats import rankdata

    stacked = np.stack(list(values.values()))
    order = np.argsort(stacked, axis=0)
    # Not by rounding: values on both sides of a boundary would differ, however near they are.
    apart = np.diff(np.take_along_axis(stacked, order, 0), axis=0) >= TIE_TOLERANCE
    groups, levels = np.zeros_like(order), np.empty_like(order)
    groups[1:] = np.cumsum(apart, axis=0)
    np.put_along_axis(levels, order, groups, 0)
    return dict(zip(values, rankdata(levels, axis=0), strict=True))


def mean_ranks(curves: RegretCurves) -> dict[str, np.ndarray[Any, Any]]:
    """Return every agent's rank by mean regret, averaged over tasks, ``[T]``; 1 is best, the number of agents worst.

    A rank depends on which agents are compared, and says nothing of how far apart they are.
    """
    return {agent: ranks.mean(axis=0) for agent, ranks in ranks_of(curves.values).items()}


def trials_to_reach(curves: RegretCurves, agent: str, reference: str) -> int | None:
    """Return after how many trials an agent's mean regret is at most the reference's final one, or level with it.

    Level is what differs by less than :data:`TIE_TOLERANCE`, as batches and single episodes do. ``None`` if it never
    is. The budget divided by it is the speed-up over the reference.

    Raises:
        UnknownNameError: For an unknown agent or reference.
    """
    goal = curves.of(reference, "reference agent").mean(axis=0)[-1]
    reached = (curves.of(agent).mean(axis=0) <= goal + TIE_TOLERANCE).nonzero()[0]
    return int(reached[0]) + 1 if len(reached) else None


def seconds_to_reach(records: RecordTable, agent: str, reference: str) -> float | None:
    """Return how many seconds an episode takes until the agent's mean regret is the reference's final one.

    Evaluations and the agent's own thinking (``seconds + agent_seconds``), up to :func:`trials_to_reach`, as a mean
    over episodes. ``None`` if the agent never gets there, or if the duration of a trial until then is not known.

    Raises:
        UnknownNameError: For an unknown agent or reference.
        InvalidSettingError: If the table cannot be compared.
    """
    needed = trials_to_reach(regret_curves(records), agent, reference)
    return None if needed is None else mean_seconds(records)[agent][needed - 1]


def mean_seconds(records: RecordTable) -> dict[str, list[float | None]]:
    """Return the seconds that an episode has taken after 1 .. T evaluations, by agent; ``None`` where not known.

    Raises:
        InvalidSettingError: If the table cannot be compared.
    """
    frame = records.frame
    total = records.layout.cumulative((frame["seconds"] + frame["agent_seconds"]).to_numpy())
    # A single episode of unknown length leaves the mean unknown.
    means = {agent: values.mean(axis=(0, 1)) for agent, values in total.items()}
    return {agent: [None if mean != mean else float(mean) for mean in values] for agent, values in means.items()}


def grpoformer_metrics(records: RecordTable, reference: str = "random") -> dict[str, GRPOformerMetrics]:
    """Return GRPOformer's metrics of every agent (arXiv 2509.17105), by their names: the paper's text is not at hand.

    A scenario is a task, and its value the mean over repetitions of the final best score. Scores that
    differ by less than ``TIE_TOLERANCE`` are a tie.

    Args:
        records: The trials.
        reference: Name of the random search that has to be beaten.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: If the table cannot be compared.
    """
    import numpy as np

    scores = best_score(records)
    if reference not in scores:
        raise unknown_name("reference agent", reference, scores)
    ranks = ranks_of({agent: -values for agent, values in scores.items()})
    return {
        agent: GRPOformerMetrics(
            beats_random=float((values - scores[reference] >= TIE_TOLERANCE).mean()),
            ties_with_random=float((abs(values - scores[reference]) < TIE_TOLERANCE).mean()),
            median_performance=float(np.median(values)),
            mean_performance=float(values.mean()),
            mean_rank=float(ranks[agent].mean()),
            compared=tuple(scores),
        )
        for agent, values in scores.items()
    }


def hpob_aggregate(curves: RegretCurves) -> dict[str, HPOBAggregate]:
    """Return what HPO-B plots (Pineda Arango et al. 2021, arXiv 2106.06257): means over all tasks and repetitions.

    Ranks are taken within an episode, repetition by repetition. The half-width of the band is theirs,
    ``0.5 * 1.96 * std / sqrt(N * R)``: half of the usual 95 % interval, and as if tasks with several repetitions
    were as many tasks. Our own intervals are :func:`bootstrap_interval` and :func:`stratified_interval`.

    Raises:
        InvalidSettingError: If agents have different numbers of repetitions, so that episodes have no partners.
    """
    import numpy as np

    if len(set(curves.runs.values())) > 1:
        listed = ", ".join(f"{agent}: {runs}" for agent, runs in curves.runs.items())
        raise InvalidSettingError(
            f"HPO-B ranks agents repetition by repetition, but their numbers of runs differ ({listed}). Give every "
            "agent the same number of runs, or use mean_ranks, which ranks means over repetitions."
        )
    episodes = {agent: values.reshape(-1, curves.budget) for agent, values in curves.episodes.items()}
    ranks = ranks_of(episodes)

    def band(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        half: np.ndarray[Any, Any] = 0.5 * 1.96 * values.std(axis=0) / np.sqrt(len(values))
        return half

    return {
        agent: HPOBAggregate(values.mean(axis=0), band(values), ranks[agent].mean(axis=0), band(ranks[agent]))
        for agent, values in episodes.items()
    }
