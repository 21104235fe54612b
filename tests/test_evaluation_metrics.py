"""Metrics, interquartile means and profiles, on tables small enough to check by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    RecordTable,
    area_under_curve,
    best_score,
    grpoformer_metrics,
    hpob_aggregate,
    interquartile_mean,
    log_regret,
    mean_ranks,
    performance_profile,
    regret_curves,
    seconds_to_reach,
    stratified_interval,
    trials_to_reach,
)

Regrets = Mapping[str, Sequence[Sequence[Sequence[float]]]]


def records_of(regrets: Regrets, runs: int = 1, seconds: float = 10.0, thinking: float = 1.0) -> RecordTable:
    """Return records of ``agent -> [N tasks][R repetitions][T trials]``; the first ``R / runs`` are of one run."""
    rows = []
    for agent, tasks in regrets.items():
        for task, repetitions in enumerate(tasks):
            for repetition, curve in enumerate(repetitions):
                run, seed = divmod(repetition, len(repetitions) // runs)
                for index, regret in enumerate(curve):
                    rows.append((agent, str(run) if runs > 1 else "", f"task-{task}", seed, index + 1, regret))
    frame = pd.DataFrame(rows, columns=["agent", "run", "task", "seed", "trial", "regret"])
    frame["source"], frame["space"], frame["dataset"] = "made", "up", frame["task"]
    frame["score"] = frame["metric"] = frame["incumbent"] = 1.0 - frame["regret"]
    frame["spent"] = frame["trial"].astype(float)
    return RecordTable(frame.assign(fidelity=1.0, seconds=seconds, agent_seconds=thinking))


#: Two tasks, two repetitions, two trials. Means by task: a [.6 .2], [.4 .1]; b [.5 .3], [.4 .1]; random .8 .3, .8 .1.
THREE: Regrets = {
    "a": [[[0.8, 0.4], [0.4, 0.0]], [[0.4, 0.1], [0.4, 0.1]]],
    "b": [[[0.5, 0.5], [0.5, 0.1]], [[0.6, 0.2], [0.2, 0.0]]],
    "random": [[[0.9, 0.3], [0.7, 0.3]], [[0.8, 0.2], [0.8, 0.0]]],
}


def test_episodes_are_ordered_by_run_then_seed_and_their_mean_is_the_curve() -> None:
    episodes = [[[0.1], [0.2], [0.3], [0.4]], [[0.5], [0.6], [0.7], [0.8]]]
    records = records_of({"a": episodes}, runs=2)
    curves = regret_curves(RecordTable(records.frame.sample(frac=1.0, random_state=1)))
    assert curves.runs == {"a": 2} and curves.seeds == 2 and curves.agents == ("a",)
    assert np.array_equal(curves.episodes["a"], episodes)
    assert np.array_equal(curves.values["a"], curves.episodes["a"].mean(axis=1))
    assert curves.spaces == ("made:up", "made:up")


def test_area_and_logarithm_by_hand() -> None:
    curves = regret_curves(records_of(THREE))
    # a: (.6 + .2) / 2 and (.4 + .1) / 2; b: (.5 + .3) / 2 and (.4 + .1) / 2.
    area = area_under_curve(curves)
    assert np.allclose(area["a"], [0.4, 0.25]) and np.allclose(area["b"], [0.4, 0.25])
    # a ends with .4 and 0, which counts as 1e-6, then with .1 twice.
    assert np.allclose(log_regret(curves)["a"], [(np.log10(0.4) - 6.0) / 2.0, -1.0])
    assert np.allclose(log_regret(curves, trial=1)["b"], [np.log10(0.5), (np.log10(0.6) + np.log10(0.2)) / 2.0])
    with pytest.raises(InvalidSettingError, match=r"Trial 3 is not in 1 \.\. 2"):
        log_regret(curves, trial=3)


def test_mean_ranks_share_ties_of_less_than_a_millionth() -> None:
    curves = regret_curves(records_of(THREE))
    # Trial 1, ranks of a, b, random: 2 1 3 and 1.5 1.5 3. Trial 2: .2 .3 .3 and .1 .1 .1, so 1 2.5 2.5 and 2 2 2.
    ranks = mean_ranks(curves)
    assert {agent: value.tolist() for agent, value in ranks.items()} == {
        "a": [1.75, 1.5],
        "b": [1.25, 2.25],
        "random": [3.0, 2.25],
    }
    near = regret_curves(records_of({"a": [[[0.5]]], "b": [[[0.5 + 4e-7]]], "c": [[[0.5 + 2e-6]]]}))
    assert {agent: float(value[0]) for agent, value in mean_ranks(near).items()} == {"a": 1.5, "b": 1.5, "c": 3.0}
    # As near, on both sides of where rounding to six decimals goes another way.
    edge = regret_curves(records_of({"a": [[[0.1234564]]], "b": [[[0.1234566]]], "c": [[[0.2]]]}))
    assert {agent: float(value[0]) for agent, value in mean_ranks(edge).items()} == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_best_scores_need_no_known_range() -> None:
    frame = records_of(THREE).frame
    unknown = RecordTable(frame.assign(regret=np.nan))
    assert np.allclose(best_score(unknown)["a"], [0.8, 0.9])
    assert np.allclose(best_score(unknown, trial=1)["random"], [0.2, 0.2])
    assert grpoformer_metrics(unknown)["a"].beats_random == 0.5
    with pytest.raises(InvalidSettingError, match=r"made:up is NaN.*set suite\.known_range"):
        regret_curves(unknown)


def test_the_metrics_of_grpoformer_by_hand() -> None:
    metrics = grpoformer_metrics(records_of(THREE))
    # Final scores: a .8 .9; b .7 .9; random .7 .9. Only a is strictly above random, on the first scenario.
    a, b, random = metrics["a"], metrics["b"], metrics["random"]
    assert (a.beats_random, a.ties_with_random) == (0.5, 0.5)
    assert (b.beats_random, b.ties_with_random) == (0.0, 1.0)
    assert (random.beats_random, random.ties_with_random) == (0.0, 1.0)
    assert a.median_performance == a.mean_performance == pytest.approx(0.85)
    # Ranks 1 2.5 2.5 on the first scenario and 2 2 2 on the second.
    assert (a.mean_rank, b.mean_rank, random.mean_rank) == (1.5, 2.25, 2.25)
    assert a.compared == ("a", "b", "random")
    with pytest.raises(UnknownNameError, match=r"reference agent 'randm'.*'random'"):
        grpoformer_metrics(records_of(THREE), "randm")


def test_median_and_mean_performance_differ_over_three_scenarios() -> None:
    # Scores .9, .5 and .4: median .5, mean .6.
    (only,) = grpoformer_metrics(records_of({"random": [[[0.1]], [[0.5]], [[0.6]]]})).values()
    assert only.median_performance == pytest.approx(0.5) and only.mean_performance == pytest.approx(0.6)


def test_the_aggregate_of_hpob_by_hand() -> None:
    aggregate = hpob_aggregate(regret_curves(records_of(THREE)))
    # Final regrets by episode: a .4 0 .1 .1; b .5 .1 .2 0; random .3 .3 .2 0.
    # Ranks: a 2 1 1 3; b 3 2 2.5 1.5; random 1 3 2.5 1.5.
    assert aggregate["a"].regret[-1] == pytest.approx(0.15) and aggregate["b"].regret[-1] == pytest.approx(0.2)
    assert [aggregate[agent].rank[-1] for agent in ("a", "b", "random")] == [1.75, 2.25, 2.0]
    # Deviations of a: .25 -.15 -.05 -.05, variance .0225 with n in the denominator, so std .15 exactly.
    assert aggregate["a"].regret_band[-1] == pytest.approx(0.5 * 1.96 * 0.15 / 2.0)
    assert aggregate["a"].rank_band[-1] == pytest.approx(0.5 * 1.96 * np.std([2, 1, 1, 3]) / 2.0)


def test_the_aggregate_of_hpob_refuses_episodes_without_partners() -> None:
    twice = records_of({"a": [[[0.1], [0.2]]]}, runs=2)
    with pytest.raises(InvalidSettingError, match=r"a: 2, b: 1.*mean_ranks"):
        hpob_aggregate(regret_curves(RecordTable.concat([twice, records_of({"b": [[[0.3]]]})])))


def test_seconds_to_reach_count_evaluations_and_thinking() -> None:
    # Mean curves: a .6 .4 .2, b .5 .4 .4; a reaches b's .4 at trial 2, b never reaches a's .2.
    regrets = {"a": [[[0.7, 0.5, 0.3], [0.5, 0.3, 0.1]]], "b": [[[0.5, 0.4, 0.4], [0.5, 0.4, 0.4]]]}
    records = records_of(regrets, seconds=10.0, thinking=0.5)
    assert trials_to_reach(regret_curves(records), "a", "b") == 2
    assert seconds_to_reach(records, "a", "b") == pytest.approx(2 * 10.5)
    assert seconds_to_reach(records, "b", "a") is None
    # Different episodes take different times: 2 x 10.5 and 2 x 20.5 seconds make 31 on average.
    frame = records.frame
    slower = RecordTable(frame.assign(seconds=np.where(frame["seed"] == 1, 20.0, 10.0)))
    assert seconds_to_reach(slower, "a", "b") == pytest.approx(31.0)


def test_seconds_that_are_not_known_are_none_as_far_as_they_matter() -> None:
    regrets = {"a": [[[0.7, 0.5, 0.3], [0.5, 0.3, 0.1]]], "b": [[[0.5, 0.4, 0.4], [0.5, 0.4, 0.4]]]}
    frame = records_of(regrets).frame
    hole = (frame["agent"] == "a") & (frame["seed"] == 1)
    early = frame.assign(seconds=frame["seconds"].mask(hole & (frame["trial"] == 1)))
    assert seconds_to_reach(RecordTable(early), "a", "b") is None
    assert seconds_to_reach(RecordTable(early), "b", "b") == pytest.approx(22.0)
    late = frame.assign(seconds=frame["seconds"].mask(hole & (frame["trial"] == 3)))
    assert seconds_to_reach(RecordTable(late), "a", "b") == pytest.approx(22.0)


def test_cheap_trials_take_the_seconds_they_took() -> None:
    # Two half evaluations are one: after the budget of 1 both have been paid for, 22 seconds.
    frame = records_of({"a": [[[0.7, 0.5, 0.3, 0.3]]], "b": [[[0.6, 0.5, 0.5, 0.5]]]}).frame
    records = RecordTable(frame.assign(spent=frame["trial"] / 2.0, fidelity=0.5))
    assert trials_to_reach(regret_curves(records), "a", "b") == 1
    assert seconds_to_reach(records, "a", "b") == pytest.approx(22.0)


def test_the_interquartile_mean_by_hand() -> None:
    # Two tasks, three repetitions, sorted 0 1 2 3 4 100: one of six is cut at either end, (1 + 2 + 3 + 4) / 4.
    values = np.array([[[100.0], [1.0], [3.0]], [[0.0], [4.0], [2.0]]])
    assert interquartile_mean(values).tolist() == [2.5]
    assert interquartile_mean(values[:1]).tolist() == pytest.approx([104.0 / 3.0])  # nothing to cut of three


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31), st.permutations(range(6)))
def test_the_interquartile_mean_is_that_of_scipy(tasks: int, repetitions: int, columns: int, seed: int, order) -> None:
    values = np.random.default_rng(seed).random((tasks, repetitions, columns)).round(1)
    expected = [trim_mean(values[..., column], proportiontocut=0.25, axis=None) for column in range(columns)]
    assert np.allclose(interquartile_mean(values), expected)
    shuffled = values[[index for index in order if index < tasks]]
    assert np.array_equal(interquartile_mean(shuffled), interquartile_mean(values))


def rliable_interval(values: np.ndarray, resamples: int, draws: np.random.Generator) -> np.ndarray:
    """Transcribe rliable's definition, one resample and one task at a time; it holds runs x tasks."""
    scores = values.T
    runs, tasks = scores.shape
    resampled = np.empty((resamples, runs, tasks))
    for index in range(resamples):
        for task in range(tasks):
            resampled[index, :, task] = scores[draws.integers(0, runs, runs), task]
    return np.percentile(trim_mean(resampled.reshape(resamples, -1), 0.25, axis=1), [2.5, 97.5])


def test_the_stratified_interval_is_that_of_rliable() -> None:
    draws = np.random.default_rng(7)
    values = draws.random((5, 1)) + 0.2 * draws.standard_normal((5, 8))
    low, high = stratified_interval(values[..., None], resamples=4000)
    expected = rliable_interval(values, 4000, draws)
    width = expected[1] - expected[0]
    # Quantiles of 4,000 resamples are uncertain to about 2 % of the width.
    assert np.allclose([low[0], high[0]], expected, atol=0.08 * width)
    over_all = trim_mean(draws.choice(values.ravel(), (4000, values.size)), 0.25, axis=1)
    assert np.ptp(np.percentile(over_all, [2.5, 97.5])) > 1.3 * width, "a bootstrap without strata would be told apart"


def test_the_stratified_interval_resamples_within_tasks_only() -> None:
    # No repetition differs from another of its task: whatever is drawn, nothing changes.
    values = np.repeat(np.array([0.1, 0.5, 0.9])[:, None, None], 4, axis=1)
    low, high = stratified_interval(values, resamples=50)
    assert low[0] == high[0] == pytest.approx(0.5)
    assert np.isnan(stratified_interval(values[:, :1], resamples=50)).all()


def test_the_stratified_interval_depends_on_the_seed_alone_and_columns_not_on_each_other() -> None:
    values = np.random.default_rng(0).random((4, 5, 3))
    first, again = stratified_interval(values, resamples=300), stratified_interval(values, resamples=300)
    other = stratified_interval(values, resamples=300, seed=1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.allclose(stratified_interval(values[..., 1:], resamples=300), np.array(first)[:, 1:], rtol=0, atol=1e-14)
    narrow = stratified_interval(values, resamples=300, confidence=0.5)
    assert (narrow[0] > first[0]).all() and (narrow[1] < first[1]).all()


def test_another_statistic_than_the_interquartile_mean() -> None:
    values = np.random.default_rng(1).random((3, 40, 1))

    def mean(resampled: np.ndarray) -> np.ndarray:
        return resampled.mean(axis=(0, 1))

    low, high = stratified_interval(values, mean, resamples=4000)
    # The mean over three tasks of means over 40 draws: the textbook's standard error, within the bootstrap's noise.
    error = np.sqrt((values[..., 0].var(axis=1) / 40.0).sum()) / 3.0
    assert [low[0], high[0]] == pytest.approx(
        [values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.15 * error
    )


def test_impossible_bootstraps_are_refused() -> None:
    values = np.zeros((2, 3, 1))
    with pytest.raises(InvalidSettingError, match=r"confidence=1\.0"):
        stratified_interval(values, confidence=1.0)
    with pytest.raises(InvalidSettingError, match="resamples=0"):
        stratified_interval(values, resamples=0)


def test_a_profile_by_hand() -> None:
    curves = regret_curves(records_of(THREE))
    # Final regrets by episode: a .4 0 .1 .1; b .5 .1 .2 0; random .3 .3 .2 0.
    profile = performance_profile(curves, thresholds=[0.0, 0.1, 0.25, 0.4, 1.0])
    assert profile.share["a"].tolist() == [0.25, 0.75, 0.75, 1.0, 1.0]
    assert profile.share["b"].tolist() == [0.25, 0.5, 0.75, 0.75, 1.0]
    assert profile.share["random"].tolist() == [0.25, 0.25, 0.5, 1.0, 1.0]
    first = performance_profile(curves, trial=1, thresholds=[0.4, 0.45])
    assert first.share["a"].tolist() == [0.75, 0.75]
    for agent, share in profile.share.items():
        assert (profile.low[agent] <= share).all() and (share <= profile.high[agent]).all()


def test_the_bands_of_a_profile_are_the_stratified_interval_of_its_share() -> None:
    regrets = np.random.default_rng(0).random((4, 6, 1))
    curves = regret_curves(records_of({"a": regrets.tolist()}))
    thresholds = np.array([0.1, 0.3, 0.5, 0.9])
    profile = performance_profile(curves, thresholds=thresholds, resamples=500, seed=3)
    reached = (regrets <= thresholds).astype(float)
    low, high = stratified_interval(reached, lambda each: each.mean(axis=(0, 1)), resamples=500, seed=3)
    assert np.allclose(profile.low["a"], low) and np.allclose(profile.high["a"], high)


def test_usual_thresholds_reach_from_the_least_regret_to_one_and_others_must_increase() -> None:
    curves = regret_curves(records_of({"a": [[[0.5]], [[1.0]]]}))
    profile = performance_profile(curves)
    assert profile.thresholds[0] == pytest.approx(1e-6) and profile.thresholds[-1] == 1.0
    assert np.diff(np.log10(profile.thresholds)) == pytest.approx(0.05)
    assert profile.share["a"][0] == 0.0 and profile.share["a"][-1] == 1.0
    assert np.isnan(profile.low["a"]).all() and np.isnan(profile.high["a"]).all()
    for wrong in ([0.2, 0.1], [0.1, 0.1], [], [[0.1]]):
        with pytest.raises(InvalidSettingError, match="increasing order"):
            performance_profile(curves, thresholds=wrong)


NAMES = ("alpha", "beta", "random")


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.permutations(NAMES))
def test_permuting_rows_or_agents_changes_nothing(seed: int, names: list[str]) -> None:
    draws = np.random.default_rng(seed)
    # Few different values, so that ties are common.
    regrets = np.minimum.accumulate(draws.random((3, 4, 2, 3)).round(1), axis=-1)
    frame = records_of(dict(zip(NAMES, regrets.tolist(), strict=True))).frame
    noise = draws.random(len(frame))
    records = RecordTable(frame.assign(seconds=noise))
    shuffled = RecordTable(records.frame.iloc[draws.permutation(len(frame))])
    renamed = dict(zip(NAMES, names, strict=True))
    permuted = RecordTable(records.frame.assign(agent=records.frame["agent"].astype(str).map(renamed)))

    def everything(table: RecordTable, random: str) -> dict[str, list[np.ndarray]]:
        curves = regret_curves(table)
        profile = performance_profile(curves, thresholds=[0.1, 0.4], resamples=50)
        hpob, paper = hpob_aggregate(curves), grpoformer_metrics(table, random)
        found: dict[str, list[np.ndarray]] = {}
        for agent in curves.agents:
            (*four, _), aggregate = vars(paper[agent]).values(), hpob[agent]
            reached = seconds_to_reach(table, agent, random)
            found[agent] = [
                area_under_curve(curves)[agent],
                log_regret(curves)[agent],
                best_score(table)[agent],
                mean_ranks(curves)[agent],
                *(aggregate.regret, aggregate.regret_band, aggregate.rank, aggregate.rank_band),
                np.array(four),
                np.array([np.nan if reached is None else reached]),
                *(profile.share[agent], profile.low[agent], profile.high[agent]),
                interquartile_mean(curves.episodes[agent]),
                *stratified_interval(curves.episodes[agent], resamples=50),
            ]
        return found

    expected = everything(records, "random")
    for agent, values in everything(shuffled, "random").items():
        for value, other in zip(values, expected[agent], strict=True):
            assert np.array_equal(value, other, equal_nan=True)
    for agent, values in everything(permuted, renamed["random"]).items():
        (before,) = [name for name, now in renamed.items() if now == agent]
        for value, other in zip(values, expected[before], strict=True):
            assert np.allclose(value, other, rtol=0.0, atol=1e-12, equal_nan=True)


@settings(max_examples=16)
@given(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), st.sampled_from([None, 1, 2]))
def test_every_missing_cell_is_named(agent: int, task: int, seed: int, trial: int | None) -> None:
    name = list(THREE)[agent]
    frame = records_of(THREE).frame
    cell = (frame["agent"] == name) & (frame["task"] == f"task-{task}") & (frame["seed"] == seed)
    holed = RecordTable(frame[~(cell if trial is None else cell & (frame["trial"] == trial))])
    where = rf"agent '{name}', task made:up task-{task}, seed {seed}"
    for ask in (regret_curves, best_score, grpoformer_metrics):
        with pytest.raises(InvalidSettingError, match=where):
            ask(holed)
