"""Which differences between agents are more than chance: paired tests, and ranks with a critical difference.

What is compared are mean regrets of tasks, so that ten repetitions on one dataset do not count as ten datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.metrics import TIE_TOLERANCE, ranks_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "LEAST_AGENTS",
    "LEAST_TASKS",
    "TIE_TOLERANCE",
    "AllPairs",
    "FriedmanResult",
    "PairedTest",
    "WinsTiesLosses",
    "all_pairs",
    "count_wins",
    "critical_difference",
    "friedman",
    "paired_tests",
    "pairwise_tests",
    "require_libraries",
    "signed_rank_test",
    "wins_ties_losses",
]

# Differences of equal size to so many decimals share a rank.
_SIZE_DECIMALS = 6

#: Friedman's test needs so many.
LEAST_AGENTS, LEAST_TASKS = 3, 2

# scipy's p-value is exact for so many differences.
_MOST_EXACT = 50

# A difference of mean ranks that equals the critical one is not above it, whatever the rounding of either.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class WinsTiesLosses:
    """On how many tasks an agent's regret is lower than, equal to and higher than the reference's."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class PairedTest(WinsTiesLosses):
    """Wilcoxon's signed-rank test of an agent against a reference over tasks.

    The sign of the difference is that of wins and losses; the test is two-sided.

    Args:
        wins: Tasks on which the agent's mean regret is lower.
        ties: Tasks on which both differ by less than ``TIE_TOLERANCE``; the test leaves them out.
        losses: Tasks on which it is higher.
        statistic: The lesser of the two rank sums; 0 without a difference.
        p_value: In ``[0, 1]``; 1 where all tasks are ties.
        corrected_p: The same after Holm's correction for the number of agents compared.
    """

    statistic: float
    p_value: float
    corrected_p: float


@dataclass(frozen=True)
class AllPairs:
    """Wilcoxon's signed-rank test between any two agents.

    Args:
        agents: Names of the ``A`` agents, sorted.
        p_value: Two-sided, float64 ``[A, A]``, symmetric; 1 on the diagonal.
        corrected_p: The same after Holm's correction over all ``A (A - 1) / 2`` pairs.
    """

    agents: tuple[str, ...]
    p_value: np.ndarray[Any, Any]
    corrected_p: np.ndarray[Any, Any]


@dataclass(frozen=True)
class FriedmanResult:
    """Friedman's test, and which agents it does not tell apart.

    Args:
        statistic: Friedman's chi-squared, corrected for ties; 0 where all agents are tied on all tasks.
        p_value: Of all agents being alike, in ``[0, 1]``.
        ranks: Mean rank over tasks by agent, the best first; 1 is best.
        critical_difference: Mean ranks that differ by no more are not told apart (Nemenyi).
        cliques: Groups of two and more agents that are not told apart, each as large as it can be; best first.
        pairwise: Nemenyi's p-value of every two agents, their names in alphabetical order.
        tasks: Number of tasks, ``N``.
    """

    statistic: float
    p_value: float
    ranks: Mapping[str, float]
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]
    pairwise: Mapping[tuple[str, str], float]
    tasks: int


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
    column = curves.column(trial)
    return count_wins(curves.of(agent)[:, column] - curves.of(reference, "reference agent")[:, column])


def pairwise_tests(curves: RegretCurves, reference: str, trial: int | None = None) -> dict[str, PairedTest]:
    """Test every agent against a reference: Wilcoxon's signed-rank test over tasks, corrected by Holm.

    Demšar (2006), "Statistical Comparisons of Classifiers over Multiple Data Sets", section 3.1.3. Tasks that are
    tied are left out, which is Wilcoxon's own way (``zero_method="wilcox"``). Ties are frequent, because many methods
    find the same optimum, and the ways that keep them need a normal approximation; without them the p-value is exact
    for up to 50 tasks, and scipy's approximation beyond.

    Args:
        curves: What :func:`regret_curves` returned.
        reference: What all others are compared with.
        trial: When; ``None`` means when the budget is spent.

    Returns:
        One test for every agent but the reference.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: For a trial beyond the budget, or if statsmodels is not installed.
    """
    column = curves.column(trial)
    against = curves.of(reference, "reference agent")[:, column]
    gaps = {agent: values[:, column] - against for agent, values in curves.values.items() if agent != reference}
    return dict(zip(gaps, paired_tests(list(gaps.values())), strict=True))


def paired_tests(gaps: Sequence[np.ndarray[Any, Any]]) -> list[PairedTest]:
    """Test paired differences of regret as :func:`pairwise_tests` does, corrected by Holm over all that are given.

    Args:
        gaps: Differences of the pairs of each test, ``[N]`` each; below 0 is a win.

    Raises:
        InvalidSettingError: If statsmodels is not installed.
    """
    tests = [signed_rank_test(gap) for gap in gaps]
    corrected = _holm([p for _, p in tests])
    return [
        PairedTest(**vars(count_wins(gap)), statistic=statistic, p_value=p, corrected_p=holm)
        for gap, (statistic, p), holm in zip(gaps, tests, corrected, strict=True)
    ]


def all_pairs(curves: RegretCurves, trial: int | None = None) -> AllPairs:
    """Test every agent against every other one as :func:`pairwise_tests` does, with Holm over all pairs.

    Raises:
        InvalidSettingError: For a trial beyond the budget, or if statsmodels is not installed.
    """
    import numpy as np

    column, agents = curves.column(trial), curves.agents
    upper = np.triu_indices(len(agents), 1)
    final = [curves.values[agent][:, column] for agent in agents]
    p_values = [signed_rank_test(final[first] - final[second])[1] for first, second in zip(*upper, strict=True)]

    def matrix(entries: list[float]) -> np.ndarray[Any, Any]:
        square = np.ones((len(agents), len(agents)))
        square[upper] = square.T[upper] = entries
        return square

    return AllPairs(agents, matrix(p_values), matrix(_holm(p_values)))


def critical_difference(agents: int, tasks: int, alpha: float = 0.05) -> float:
    """Return by how much mean ranks must differ to be told apart: Demšar (2006), section 3.2.2.

    ``q * sqrt(k (k + 1) / (6 N))`` for ``k`` agents and ``N`` tasks, with ``q`` the ``1 - alpha`` quantile of the
    studentised range of ``k`` groups and infinitely many degrees of freedom, divided by ``sqrt(2)``.

    Args:
        agents: Number of agents, ``k >= 2``.
        tasks: Number of tasks, ``N >= 1``.
        alpha: Chance of telling apart what is alike, in ``(0, 1)``.

    Raises:
        InvalidSettingError: If ``alpha`` is out of range.
    """
    from scipy.stats import studentized_range

    if not 0.0 < alpha < 1.0:
        raise InvalidSettingError(f"alpha={alpha!r} must lie between 0 and 1. The usual choice is 0.05.")
    quantile = float(studentized_range.ppf(1.0 - alpha, agents, float("inf"))) / 2.0**0.5
    return float(quantile * (agents * (agents + 1) / (6.0 * tasks)) ** 0.5)


def friedman(curves: RegretCurves, trial: int | None = None, alpha: float = 0.05) -> FriedmanResult:
    """Test whether all agents are alike, by their ranks on each task, and which of them Nemenyi's test tells apart.

    Demšar (2006), "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, section 3.2.2. The
    differences mean something only where the p-value of the whole is below ``alpha``.

    Args:
        curves: What :func:`regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.
        alpha: Chance of telling apart what is alike, in ``(0, 1)``.

    Raises:
        InvalidSettingError: For fewer than 3 agents or 2 tasks, a trial beyond the budget, ``alpha`` out of range, or
            if scikit-posthocs is not installed.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare

    column, agents, tasks = curves.column(trial), curves.agents, len(curves.tasks)
    if len(agents) < LEAST_AGENTS or tasks < LEAST_TASKS:
        raise InvalidSettingError(
            f"Friedman's test needs at least {LEAST_AGENTS} agents and {LEAST_TASKS} tasks; this table holds "
            f"{len(agents)} and {tasks}. Evaluate more, or compare two agents with pairwise_tests."
        )
    difference = critical_difference(len(agents), tasks, alpha)
    # Ranks of ranks are the same ranks: what the libraries rank once more has its ties already.
    final = ranks_of({agent: values[:, column] for agent, values in curves.values.items()})
    means = {agent: float(ranks.mean()) for agent, ranks in final.items()}
    ranks = dict(sorted(means.items(), key=lambda item: (item[1], item[0])))
    values = np.stack(list(final.values()), axis=1)
    # Where all are tied everywhere, ranks have no variance to divide by.
    statistic, p_value = (0.0, 1.0) if (np.ptp(values, axis=1) == 0.0).all() else friedmanchisquare(*values.T)
    return FriedmanResult(
        statistic=float(statistic),
        p_value=float(p_value),
        ranks=ranks,
        critical_difference=difference,
        cliques=_cliques(ranks, difference),
        pairwise=_nemenyi(agents, values),
        tasks=tasks,
    )


def count_wins(gap: np.ndarray[Any, Any]) -> WinsTiesLosses:
    """Return wins, ties and losses by the differences of regret on each task, ``[N]``."""
    wins, losses = int((gap <= -TIE_TOLERANCE).sum()), int((gap >= TIE_TOLERANCE).sum())
    return WinsTiesLosses(wins, len(gap) - wins - losses, losses)


def signed_rank_test(gap: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return statistic and two-sided p-value of per-task differences ``[N]``."""
    import numpy as np
    from scipy.stats import rankdata, wilcoxon

    # Differences of one size share a rank, whatever the rounding of the means they come from.
    differences = gap[abs(gap) >= TIE_TOLERANCE].round(_SIZE_DECIMALS)
    if len(differences) == 0:
        return 0.0, 1.0
    sizes = abs(differences)
    if len(differences) > _MOST_EXACT or len(np.unique(sizes)) == len(sizes):
        result = wilcoxon(differences)
        return float(result.statistic), float(result.pvalue)
    # With shared ranks scipy lists all 2^N sign patterns up to N = 13, which takes seconds, and approximates beyond.
    # The sum of positive ranks, doubled to be whole, is a sum of independent terms: its distribution is exact at once.
    doubled = (2.0 * rankdata(sizes)).astype(np.int64)
    chance = np.ones(1)
    for rank in doubled:
        none = np.zeros(rank)
        chance = (np.concatenate([chance, none]) + np.concatenate([none, chance])) / 2.0
    lesser = min(int(doubled[differences > 0].sum()), int(doubled[differences < 0].sum()))
    return lesser / 2.0, min(1.0, 2.0 * float(chance[: lesser + 1].sum()))


def _holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected as by Holm (1979)."""
    if len(p_values) < 2:
        return p_values
    try:
        from statsmodels.stats.multitest import multipletests
    except ModuleNotFoundError as error:
        raise _not_installed("Holm's correction", error) from error
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def _cliques(ranks: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of neighbours, of agents sorted by rank, whose ends are not told apart."""
    names, means = list(ranks), list(ranks.values())
    cliques: list[tuple[str, ...]] = []
    reached = 0
    for first, mean in enumerate(means):
        end = sum(other <= mean + difference + _ROUNDING for other in means)
        # A run that ends where the one before it ended lies within it.
        if end > reached and end - first > 1:
            cliques.append(tuple(names[first:end]))
        reached = max(reached, end)
    return tuple(cliques)


def _nemenyi(agents: tuple[str, ...], values: np.ndarray[Any, Any]) -> dict[tuple[str, str], float]:
    """Return the p-value of every two agents from their values ``[N, A]``."""
    try:
        from scikit_posthocs import posthoc_nemenyi_friedman
    except ModuleNotFoundError as error:
        raise _not_installed("Nemenyi's test", error) from error
    p_values = posthoc_nemenyi_friedman(values).to_numpy()
    return {
        (agents[first], agents[second]): float(p_values[first, second])
        for first, second in combinations(range(len(agents)), 2)
    }


def require_libraries(agents: int) -> None:
    """Check that what tests between so many agents need is installed; before an evaluation, not after it.

    Raises:
        InvalidSettingError: If it is not.
    """
    needed = [("statsmodels", "Holm's correction")] if agents > 1 else []
    needed += [("scikit_posthocs", "Nemenyi's test")] if agents >= LEAST_AGENTS else []
    for module, what in needed:
        if find_spec(module) is None:
            raise _not_installed(what, ModuleNotFoundError(f"No module named {module!r}", name=module))


def _not_installed(what: str, error: ModuleNotFoundError) -> InvalidSettingError:
    return InvalidSettingError(
        f"{what} needs {error.name}, which is not installed. Install it with `pip install '.[statistics]'` "
        "in a checkout of hpo_gym."
    )
