"""Paired tests, Friedman's test and critical differences: by hand, against references, and as published."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scikit_posthocs import posthoc_nemenyi_friedman
from statsmodels.stats.multitest import multipletests

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    RegretCurves,
    all_pairs,
    critical_difference,
    friedman,
    pairwise_tests,
    wins_ties_losses,
)


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """Leave what is loaded out of garbage collections: statsmodels runs one at every correction."""
    gc.freeze()
    yield
    gc.unfreeze()


def curves_of(finals: Mapping[str, Sequence[float]]) -> RegretCurves:
    """Return curves of one trial and one repetition from the regret of every agent on every task."""
    values = {agent: np.array(finals[agent], float)[:, None] for agent in sorted(finals)}
    return RegretCurves(
        tasks=tuple(("made", "up", str(index)) for index in range(len(next(iter(finals.values()))))),
        seeds=1,
        budget=1,
        runs=dict.fromkeys(values, 1),
        values=values,
        episodes={agent: each[:, None] for agent, each in values.items()},
    )


# Ranks of table 6 of Demšar (2006); a rank divided by 4 serves as a regret. C4.5 without and with the choice of the
# minimal leaf (m), of the confidence level (cf), and of both, on 14 datasets from "adult" to "wine".
DEMSAR = {
    "C4.5": [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
    "C4.5+m": [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
    "C4.5+cf": [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
    "C4.5+m+cf": [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
}


def demsar() -> RegretCurves:
    return curves_of({agent: np.array(ranks) / 4.0 for agent, ranks in DEMSAR.items()})


def test_the_published_example_of_demsar() -> None:
    result = friedman(demsar())
    # The last row of table 6: 3.143, 2.000, 2.893, 1.964.
    assert list(result.ranks) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert [round(rank, 3) for rank in result.ranks.values()] == [1.964, 2.0, 2.893, 3.143]
    assert result.tasks == 14
    # Section 3.2.3: critical values 2.569 and 2.291, hence critical differences 1.25 and 1.12.
    assert round(result.critical_difference, 2) == 1.25
    assert result.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=2e-4)
    loose = friedman(demsar(), alpha=0.10)
    assert round(loose.critical_difference, 2) == 1.12
    # "The post-hoc test is not powerful enough" at 0.05, as 3.143 - 1.964 = 1.18. At 0.10 it finds that C4.5 is worse
    # than m and m+cf, and not to which of the groups cf belongs.
    assert result.cliques == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)
    assert loose.cliques == (("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5"))


def test_friedmans_statistic_of_demsars_example_is_the_published_one_corrected_for_ties() -> None:
    result = friedman(demsar())
    # Published without the correction: 12 * 14 / 20 * (sum of squared mean ranks - 25) = 9.28. Of the ranks, three
    # pairs and one four are tied: 1 - (3 * 6 + 60) / (14 * 60).
    published = 12 * 14 / 20 * (sum(rank**2 for rank in result.ranks.values()) - 25)
    assert round(published, 2) == 9.28
    assert result.statistic == pytest.approx(published / (1 - 78 / 840))
    assert result.p_value == pytest.approx(scipy.stats.chi2.sf(result.statistic, 3))
    assert result.statistic == pytest.approx(scipy.stats.friedmanchisquare(*DEMSAR.values()).statistic)


def test_nemenyis_p_values_are_those_of_scikit_posthocs_and_agree_with_the_critical_difference() -> None:
    result = friedman(demsar(), alpha=0.10)
    reference = posthoc_nemenyi_friedman(np.array(list(DEMSAR.values())).T).to_numpy()
    names = list(DEMSAR)
    assert len(result.pairwise) == 6
    for (first, second), p_value in result.pairwise.items():
        assert first < second
        assert p_value == pytest.approx(reference[names.index(first), names.index(second)])
        apart = abs(result.ranks[first] - result.ranks[second]) > result.critical_difference
        assert apart == (p_value < 0.10)


# Table 5a of Demšar (2006): critical values of the two-tailed Nemenyi test for 2 to 10 classifiers.
@pytest.mark.parametrize(
    ("alpha", "critical"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_are_the_published_ones(alpha: float, critical: list[float]) -> None:
    for agents, value in enumerate(critical, start=2):
        # With N = k (k + 1) / 6 the root is 1.
        tasks = agents * (agents + 1)
        assert critical_difference(agents, tasks, alpha) * np.sqrt(6.0) == pytest.approx(value, abs=1.1e-3)


def test_agents_that_are_alike_everywhere_are_not_told_apart() -> None:
    result = friedman(curves_of({name: [0.2, 0.5, 0.1] for name in "abc"}))
    assert (result.statistic, result.p_value) == (0.0, 1.0)
    assert set(result.ranks.values()) == {2.0} and result.cliques == (("a", "b", "c"),)
    assert set(result.pairwise.values()) == {1.0}


def test_agents_that_all_differ_form_no_clique() -> None:
    # Ranks 1, 2 and 3 on each of 40 tasks; the critical difference is 2.343 * sqrt(12 / 240) = 0.524.
    result = friedman(curves_of({"a": [0.1] * 40, "b": [0.2] * 40, "c": [0.3] * 40}))
    assert result.critical_difference == pytest.approx(0.524, abs=1e-3)
    assert result.ranks == {"a": 1.0, "b": 2.0, "c": 3.0} and result.cliques == ()
    # All orders alike: 12 / (40 * 12) * (40^2 + 80^2 + 120^2) - 3 * 40 * 4 = 560 - 480.
    assert result.statistic == pytest.approx(80.0)


def test_friedman_needs_three_agents_and_two_tasks_and_a_level() -> None:
    with pytest.raises(InvalidSettingError, match=r"3 agents and 2 tasks; this table holds 2 and 2\..*pairwise_tests"):
        friedman(curves_of({"a": [0.1, 0.2], "b": [0.2, 0.1]}))
    with pytest.raises(InvalidSettingError, match="holds 3 and 1"):
        friedman(curves_of({"a": [0.1], "b": [0.2], "c": [0.3]}))
    with pytest.raises(InvalidSettingError, match=r"alpha=1\.5 must lie between 0 and 1"):
        friedman(demsar(), alpha=1.5)


def test_wilcoxon_by_hand() -> None:
    # Differences a - r: -.1 -.2 -.3 -.4 +.05 and one tie. Ranks 2 3 4 5 and 1: the positive sum is 1.
    # Of 2^5 sign patterns two have a sum of at most 1: p = 2 * 2 / 32.
    curves = curves_of({"a": [0.4, 0.3, 0.2, 0.1, 0.55, 0.3], "r": [0.5, 0.5, 0.5, 0.5, 0.5, 0.3]})
    test = pairwise_tests(curves, "r")["a"]
    assert (test.wins, test.ties, test.losses) == (4, 1, 1)
    assert test.statistic == 1.0 and test.p_value == pytest.approx(0.125)
    assert test.corrected_p == test.p_value, "a single comparison needs no correction"
    assert wins_ties_losses(curves, "a", "r").wins == test.wins


def test_holm_by_hand() -> None:
    # Six tasks. a wins all: p = 2 / 64. b wins all but the one of least rank: p = 4 / 64. c is tied: p = 1.
    # Holm: 3 * 2 / 64, then 2 * 4 / 64, then 1.
    gaps = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    lesser = gaps * np.array([-1, 1, 1, 1, 1, 1])
    finals = {"a": 0.5 - gaps, "b": 0.5 - lesser, "c": np.full(6, 0.5), "r": np.full(6, 0.5)}
    tests = pairwise_tests(curves_of(finals), "r")
    assert list(tests) == ["a", "b", "c"]
    assert [test.p_value for test in tests.values()] == pytest.approx([2 / 64, 4 / 64, 1.0])
    assert [test.corrected_p for test in tests.values()] == pytest.approx([6 / 64, 8 / 64, 1.0])
    assert (tests["c"].ties, tests["c"].statistic) == (6, 0.0)


@pytest.mark.parametrize("tasks", [4, 12, 31, 70])
def test_paired_tests_are_those_of_scipy_and_statsmodels(tasks: int) -> None:
    draws = np.random.default_rng(tasks)
    finals = {name: draws.random(tasks) for name in ("a", "b", "c", "r")}
    tests = pairwise_tests(curves_of(finals), "r")
    expected = {name: scipy.stats.wilcoxon(finals[name], finals["r"]) for name in "abc"}
    corrected = multipletests([each.pvalue for each in expected.values()], method="holm")[1]
    for (name, reference), holm in zip(expected.items(), corrected, strict=True):
        assert tests[name].statistic == reference.statistic
        assert tests[name].p_value == pytest.approx(reference.pvalue, abs=1e-12)
        assert tests[name].corrected_p == pytest.approx(holm, abs=1e-12)


@pytest.mark.parametrize(
    "gaps", [[-0.1, -0.1], [0.1, -0.1, 0.3], [-0.2, -0.2, -0.1, 0.3, -0.3, -0.3], [0.1, 0.1, 0.1, 0.2, -0.2, 0.3, 0.3]]
)
def test_shared_ranks_are_exact_like_scipys_list_of_all_sign_patterns(gaps: list[float]) -> None:
    test = pairwise_tests(curves_of({"a": 0.5 + np.array(gaps), "r": [0.5] * len(gaps)}), "r")["a"]
    reference = scipy.stats.wilcoxon(np.array(gaps), method=scipy.stats.PermutationMethod())
    assert (test.statistic, test.p_value) == pytest.approx((reference.statistic, reference.pvalue), abs=1e-12)


def test_shared_ranks_of_many_tasks_are_exact_where_scipy_approximates() -> None:
    draws = np.random.default_rng(2)
    gaps = draws.integers(-3, 6, 45) / 10.0
    test = pairwise_tests(curves_of({"a": 0.5 + gaps, "r": [0.5] * 45}), "r")["a"]
    ranks = scipy.stats.rankdata(abs(gaps[gaps != 0.0]).round(8))
    assert test.ties == 45 - len(ranks)
    # Under the null every sign is a coin: count how often 200,000 throws are as one-sided.
    sums = draws.choice([0.0, 1.0], (200_000, len(ranks))) @ ranks
    expected = 2.0 * (sums <= test.statistic).mean()
    assert test.p_value == pytest.approx(expected, abs=4.0 * np.sqrt(2.0 * expected / 200_000))


def test_noise_of_a_sum_makes_no_difference_of_its_own_rank() -> None:
    # Differences -.2 -.2 -.2 +.2: one size, whatever the last digits say. Ranks 2.5 each, the positive sum is 2.5.
    finals = {"a": [0.1, 0.3 - 1e-15, 0.1 + 2e-16, 0.5], "r": [0.3, 0.5, 0.3, 0.3]}
    assert pairwise_tests(curves_of(finals), "r")["a"].statistic == 2.5


def test_all_pairs_are_corrected_together() -> None:
    draws = np.random.default_rng(0)
    finals = {name: draws.random(9) + 0.4 * index for index, name in enumerate("abcd")}
    curves = curves_of(finals)
    matrix = all_pairs(curves)
    assert matrix.agents == ("a", "b", "c", "d")
    for table in (matrix.p_value, matrix.corrected_p):
        assert np.array_equal(table, table.T) and (table.diagonal() == 1.0).all()
    for reference in range(4):
        for name, test in pairwise_tests(curves, "abcd"[reference]).items():
            assert matrix.p_value["abcd".index(name), reference] == pytest.approx(test.p_value)
    upper = np.triu_indices(4, 1)
    assert matrix.corrected_p[upper] == pytest.approx(multipletests(matrix.p_value[upper], method="holm")[1])


def test_unknown_references_and_late_trials_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"reference agent 'C4'.*'C4.5'"):
        pairwise_tests(demsar(), "C4")
    for test in (all_pairs, friedman, lambda curves, trial: pairwise_tests(curves, "C4.5", trial)):
        with pytest.raises(InvalidSettingError, match=r"Trial 2 is not in 1 \.\. 1"):
            test(demsar(), 2)


@pytest.mark.parametrize(
    ("module", "call"),
    [("statsmodels.stats.multitest", lambda: pairwise_tests(demsar(), "C4.5")), ("scikit_posthocs", friedman)],
)
def test_a_missing_library_comes_with_the_remedy(module: str, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself holds for a module that must not load
    with pytest.raises(InvalidSettingError, match=r"not installed.*pip install '\.\[statistics\]'"):
        call(demsar()) if call is friedman else call()


NAMES = ("alpha", "beta", "gamma", "delta")


@settings(max_examples=10)
@given(st.integers(2, 12), st.integers(0, 2**31), st.permutations(NAMES))
def test_permuting_tasks_or_agents_changes_nothing(tasks: int, seed: int, names: list[str]) -> None:
    draws = np.random.default_rng(seed)
    finals = dict(zip(NAMES, draws.random((4, tasks)).round(1), strict=True))
    renamed = dict(zip(NAMES, names, strict=True))
    order = draws.permutation(tasks)
    first = curves_of(finals)
    other = curves_of({renamed[name]: values[order] for name, values in finals.items()})

    before, after = pairwise_tests(first, "alpha"), pairwise_tests(other, renamed["alpha"])
    for name, test in before.items():
        assert list(vars(after[renamed[name]]).values()) == pytest.approx(list(vars(test).values()), abs=1e-12)

    pairs, permuted = all_pairs(first), all_pairs(other)
    where = [permuted.agents.index(renamed[name]) for name in pairs.agents]
    assert np.allclose(permuted.p_value[np.ix_(where, where)], pairs.p_value, rtol=0.0, atol=1e-12)
    assert np.allclose(permuted.corrected_p[np.ix_(where, where)], pairs.corrected_p, rtol=0.0, atol=1e-12)

    result, again = friedman(first), friedman(other)
    assert again.statistic == pytest.approx(result.statistic, abs=1e-9)
    assert again.p_value == pytest.approx(result.p_value, abs=1e-9)
    assert {renamed[name]: rank for name, rank in result.ranks.items()} == pytest.approx(dict(again.ranks))
    assert again.critical_difference == result.critical_difference
    # Where agents share a mean rank, names decide their order; who is in a clique, they do not.
    assert {frozenset(renamed[name] for name in clique) for clique in result.cliques} == set(
        map(frozenset, again.cliques)
    )
    for (one, two), p_value in result.pairwise.items():
        one, two = sorted((renamed[one], renamed[two]))
        assert again.pairwise[one, two] == pytest.approx(p_value, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(3, 8), st.integers(2, 30), st.integers(0, 2**31))
def test_cliques_are_the_largest_groups_within_the_critical_difference(agents: int, tasks: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    offsets = draws.random(agents)
    finals = {f"agent-{index}": (draws.random(tasks) / 2.0 + offsets[index] / 2.0) for index in range(agents)}
    result = friedman(curves_of(finals))
    names = list(result.ranks)

    def alike(group: Sequence[str]) -> bool:
        ranks = [result.ranks[name] for name in group]
        return max(ranks) - min(ranks) <= result.critical_difference + 1e-9

    runs = [tuple(names[i:j]) for i in range(agents) for j in range(i + 2, agents + 1) if alike(names[i:j])]
    largest = [run for run in runs if not any(set(run) < set(other) for other in runs)]
    assert list(result.cliques) == largest
