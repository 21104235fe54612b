"""GRPOformer's four metrics and regret with intervals over seeds, and methods that spent different budgets.

Guo, Pan and Zhai (2025), arXiv 2509.17105; the readings of :func:`~hpo_gym.evaluation.metrics.grpoformer_metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import unknown_name
from hpo_gym.evaluation.curves import regret_curves
from hpo_gym.evaluation.metrics import TIE_TOLERANCE, ranks_of
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.robust import percentile_interval, resampled_episodes
from hpo_gym.seeding import stream_seed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Estimate", "ScenarioScores", "ends_of_episodes", "scenario_scores"]

_RESAMPLES = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, and where it lies had the same scenarios been played with other seeds.

    Args:
        value: Of what was played.
        low, high: Ends of its 95 % interval over seeds; NaN with one repetition.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ScenarioScores:
    """What one method reached on all scenarios when its budget was spent; a scenario is a search space and a task.

    Args:
        compared: The methods that ranks and regrets were taken among, sorted: both mean nothing without them.
        beats_random: BtR, share of scenarios with a mean final best score above the reference's, in ``[0, 1]``.
        ties_with_random: Share of scenarios on which both are equal.
        median_performance: MP, median over scenarios of the mean final best score, in ``[0, 1]``.
        mean_performance: MnP, mean of the same.
        mean_rank: MnR, mean over scenarios of the rank among ``compared``, from 1.
        regret: Mean over scenarios of the final regret of
            :func:`~hpo_gym.evaluation.regret_curves`; on live tasks 0 is the best that anybody of ``compared`` found on
            the scenario with any seed, and 1 the worst first configuration.
    """

    compared: tuple[str, ...]
    beats_random: Estimate
    ties_with_random: Estimate
    median_performance: Estimate
    mean_performance: Estimate
    mean_rank: Estimate
    regret: Estimate


def ends_of_episodes(records: RecordTable) -> RecordTable:
    """Return the first and the last trial of every episode, as the trials 1 and 2.

    Methods with different budgets can be compared by where they end: this leaves them equally many trials.
    """
    import pandas as pd

    frame = records.frame.sort_values("trial", kind="stable")
    episodes = frame.groupby(["agent", "run", "source", "space", "task", "seed"], observed=True, sort=False)
    first, last = episodes.head(1), episodes.tail(1)
    # An episode of a single trial begins where it ends.
    joined = pd.concat([first.assign(trial=1, spent=1.0), last.assign(trial=2, spent=2.0)], ignore_index=True)
    return RecordTable(joined.assign(fidelity=1.0))


def scenario_scores(records: RecordTable, reference: str = "random", *, seed: int = 0) -> dict[str, ScenarioScores]:
    """Return the four metrics of GRPOformer and the regret of every method, the lowest mean rank first.

    Intervals are percentiles of a stratified bootstrap: scenarios stay, and the repetitions of every method are drawn
    anew within each scenario, independently of the other methods.

    Args:
        records: The trials; of methods with different budgets those of :func:`ends_of_episodes`.
        reference: Name of the random search that has to be beaten.
        seed: Root of the resampling.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: If the table cannot be compared.
    """
    import numpy as np

    layout, curves = records.layout, regret_curves(records)
    best = {name: each[:, :, -1] for name, each in layout.by_agent(records.frame["incumbent"].to_numpy()).items()}
    regret = {name: each[:, :, -1] for name, each in curves.episodes.items()}
    if reference not in best:
        raise unknown_name("reference agent", reference, best)
    drawn = {name: _drawn(each, stream_seed(seed, "scenario-scores", name)) for name, each in best.items()}
    means = {name: _means(best[name], drawn[name]) for name in best}
    ranks = ranks_of({name: -each for name, each in means.items()})
    columns = {
        name: np.column_stack(
            [
                (means[name] - means[reference] >= TIE_TOLERANCE).mean(axis=1),
                (abs(means[name] - means[reference]) < TIE_TOLERANCE).mean(axis=1),
                np.median(means[name], axis=1),
                means[name].mean(axis=1),
                ranks[name].mean(axis=1),
                _means(regret[name], drawn[name]).mean(axis=1),
            ]
        )
        for name in best
    }
    compared = tuple(sorted(best))
    repetitions = min(each.shape[1] for each in best.values())
    found = {name: ScenarioScores(compared, *_estimates(columns[name], repetitions)) for name in best}
    return dict(sorted(found.items(), key=lambda item: (item[1].mean_rank.value, item[0])))


def _drawn(values: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Return episodes of ``[N, R]`` as they were played and, in the rows below, of resamples: ``[1 + S, N * R]``."""
    import numpy as np

    scenarios, repetitions = values.shape
    resampled = resampled_episodes(scenarios, repetitions, _RESAMPLES, seed)
    return np.vstack([np.arange(values.size)[None], resampled])


def _means(values: np.ndarray[Any, Any], drawn: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the means within scenarios of drawn episodes: ``[N, R]``, ``[1 + S, N * R] -> [1 + S, N]``."""
    means: np.ndarray[Any, Any] = values.reshape(-1)[drawn].reshape(len(drawn), *values.shape).mean(axis=2)
    return means


def _estimates(columns: np.ndarray[Any, Any], repetitions: int) -> list[Estimate]:
    """Return an estimate for each of ``K`` columns ``[1 + S, K]``."""
    low, high = percentile_interval(columns[1:], repetitions, _CONFIDENCE)
    return [Estimate(float(value), float(a), float(b)) for value, a, b in zip(columns[0], low, high, strict=True)]
