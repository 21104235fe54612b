"""Curves, intervals, comparisons and the summary, on tables small enough to check by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import torch

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    Contender,
    RecordTable,
    bootstrap_interval,
    chosen_trials,
    comparison_markdown,
    comparison_table,
    evaluate,
    regret_curves,
    summarise,
    trials_to_reach,
    wins_ties_losses,
)
from hpo_gym.testing.tiny import fidelity_suite, quadratic_suite

Episodes = Mapping[tuple[str, str], Sequence[Sequence[float]]]


def table(episodes: Episodes, seed: int = 0, spent: Sequence[float] | None = None) -> RecordTable:
    """Return records of ``(agent, run) -> one curve of regrets per task``, all of one repetition."""
    rows = []
    for (agent, run), curves in episodes.items():
        for task, curve in enumerate(curves):
            for index, regret in enumerate(curve):
                paid = index + 1.0 if spent is None else spent[index]
                rows.append(
                    (agent, run, "made", "up", f"custom:{task}", f"custom:{task}", seed, index + 1, regret, paid)
                )
    names = ["agent", "run", "source", "space", "task", "dataset", "seed", "trial", "regret", "spent"]
    frame = pd.DataFrame(rows, columns=names)
    frame["score"] = frame["metric"] = frame["incumbent"] = 1.0 - frame["regret"]
    frame["fidelity"] = 1.0
    return RecordTable(frame.assign(seconds=np.nan, agent_seconds=0.0))


#: Three tasks, four trials. Final gaps a - b: -0.1, 0, +0.3; mean curves b: .5 .4 .4 .3, a: .7 .5 .3 .3667.
TWO_AGENTS: Episodes = {
    ("a", ""): [[0.6, 0.4, 0.2, 0.1], [0.6, 0.5, 0.2, 0.2], [0.9, 0.6, 0.5, 0.8]],
    ("b", ""): [[0.4, 0.3, 0.3, 0.2], [0.5, 0.4, 0.4, 0.2], [0.6, 0.5, 0.5, 0.5]],
}


def test_seeds_and_runs_are_averaged_within_a_task() -> None:
    runs = {("a", "x"): [[0.4, 0.2], [0.8, 0.6]], ("a", "y"): [[0.2, 0.0], [0.4, 0.4]]}
    again = {key: [[value + 0.1 for value in curve] for curve in curves] for key, curves in runs.items()}
    curves = regret_curves(RecordTable.concat([table(runs), table(again, seed=1)]))
    assert curves.runs == {"a": 2} and curves.seeds == 2 and curves.budget == 2
    assert curves.tasks == (("made", "up", "custom:0"), ("made", "up", "custom:1"))
    assert np.allclose(curves.of("a"), [[0.35, 0.15], [0.65, 0.55]])


def test_the_order_of_rows_and_agents_changes_nothing() -> None:
    records = table(TWO_AGENTS)
    expected = summarise(records, "b", resamples=200)
    order = np.random.default_rng(0).permutation(len(records))
    shuffled = RecordTable(records.frame.iloc[order])
    assert summarise(shuffled, "b", resamples=200) == expected
    backwards = table(dict(reversed(TWO_AGENTS.items())))
    assert summarise(backwards, "b", resamples=200) == expected


def test_wins_ties_and_losses_are_counted_per_task() -> None:
    curves = regret_curves(table(TWO_AGENTS))
    final, first = wins_ties_losses(curves, "a", "b"), wins_ties_losses(curves, "a", "b", trial=1)
    assert (final.wins, final.ties, final.losses) == (1, 1, 1)
    assert (first.wins, first.ties, first.losses) == (0, 0, 3)
    mirrored = wins_ties_losses(curves, "b", "a", trial=1)
    assert (mirrored.wins, mirrored.ties, mirrored.losses) == (3, 0, 0)


@pytest.mark.parametrize(("gap", "counts"), [(0.9e-6, (0, 1, 0)), (1.1e-6, (0, 0, 1)), (-1.1e-6, (1, 0, 0))])
def test_a_tie_is_a_difference_below_one_millionth(gap: float, counts: tuple[int, int, int]) -> None:
    curves = regret_curves(table({("a", ""): [[0.5 + gap]], ("b", ""): [[0.5]]}))
    compared = wins_ties_losses(curves, "a", "b")
    assert (compared.wins, compared.ties, compared.losses) == counts


def test_trials_to_reach_compares_mean_curves() -> None:
    curves = regret_curves(table(TWO_AGENTS))
    assert np.allclose(curves.of("b").mean(axis=0), [0.5, 0.4, 0.4, 0.3])
    assert trials_to_reach(curves, "a", "b") == 3  # 0.3 at trial 3, worse again after it
    assert trials_to_reach(curves, "b", "b") == 4
    assert trials_to_reach(curves, "b", "a") == 4
    never = regret_curves(table({("a", ""): [[0.5, 0.4]], ("b", ""): [[0.2, 0.1]]}))
    assert trials_to_reach(never, "a", "b") is None
    assert trials_to_reach(never, "b", "a") == 1


def test_a_reference_reaches_its_own_final_regret_whatever_the_rounding() -> None:
    values = np.random.default_rng(0).random((117, 1)) * np.array([[1.0, 0.7, 0.3]])
    curves = regret_curves(table({("a", ""): values.tolist()}))
    assert trials_to_reach(curves, "a", "a") == 3


def test_the_interval_of_a_normal_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, (200, 1))
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert low[0] == pytest.approx(values.mean() - half, abs=0.02)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.02)


def test_the_interval_of_skewed_data_leans_to_the_tail_and_covers_the_mean() -> None:
    values = np.random.default_rng(4).exponential(1.0, (30, 1))
    low, high = bootstrap_interval(values)
    assert low[0] < values.mean() < high[0]
    assert high[0] - values.mean() > 1.1 * (values.mean() - low[0])


@pytest.mark.slow
def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    draws = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(draws.normal(0.0, 1.0, (30, 1)), resamples=999)
        inside += low[0] <= 0.0 <= high[0]
    assert 0.90 <= inside / 300 <= 0.98


def test_intervals_depend_on_the_seed_alone() -> None:
    values = np.random.default_rng(0).random((20, 2))
    first, again = bootstrap_interval(values, seed=0), bootstrap_interval(values, seed=0)
    other = bootstrap_interval(values, seed=1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(bootstrap_interval(values[:, 1:], seed=0), np.array(first)[:, 1:])


def test_without_spread_an_interval_is_a_point_and_with_one_task_unknown() -> None:
    low, high = bootstrap_interval(np.array([[0.25, 0.1], [0.25, 0.2], [0.25, 0.6]]))
    assert low[0] == high[0] == 0.25
    assert low[1] < 0.3 < high[1]
    assert np.isnan(bootstrap_interval(np.array([[0.3, 0.2]]))).all()


def test_the_summary_holds_plain_numbers_by_agent() -> None:
    summary = summarise(table(TWO_AGENTS), "b", [1, 4])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["tasks"] == 3 and summary["seeds"] == 1 and summary["budget"] == 4
    assert summary["spaces"] == ["made:up"] and summary["trials"] == [1, 4]
    a = summary["agents"]["a"]
    assert a["regret"]["1"]["mean"] == pytest.approx(0.7) and a["regret"]["4"]["mean"] == pytest.approx(1.1 / 3)
    assert a["regret"]["1"]["low"] <= 0.7 <= a["regret"]["1"]["high"]
    assert (a["wins"], a["ties"], a["losses"]) == (1, 1, 1)
    assert a["trials_to_reference"] == 3 and a["speed_up"] == pytest.approx(4 / 3)
    one_task = summarise(table({("a", ""): [[0.5, 0.4]]}), "a")
    assert json.loads(json.dumps(one_task, allow_nan=False))["agents"]["a"]["regret"]["2"]["low"] is None


def test_the_summary_holds_every_metric_and_test() -> None:
    tasks, random = TWO_AGENTS["a", ""], [[0.9, 0.9, 0.8, 0.7]] * 3
    episodes = {**TWO_AGENTS, ("random", ""): random, ("a", "again"): tasks}
    records = table(episodes | {("b", "again"): TWO_AGENTS["b", ""], ("random", "again"): random})
    known = RecordTable(records.frame.assign(seconds=2.0, agent_seconds=0.5))
    summary = summarise(known, "random", [1, 4], resamples=200)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    a, reference = summary["agents"]["a"], summary["agents"]["random"]
    # Final regrets of six episodes: .1 .1 .2 .2 .8 .8; without one at either end (.1 + .2 + .2 + .8) / 4.
    assert a["iqm"]["4"]["mean"] == pytest.approx(0.325)
    # Both runs are the same: with other seeds nothing would move.
    assert a["iqm"]["4"]["low"] == a["iqm"]["4"]["high"] == pytest.approx(0.325)
    # Means over trials: 1.3 / 4, 1.5 / 4, 2.8 / 4.
    assert a["area_under_curve"]["mean"] == pytest.approx(5.6 / 12)
    assert a["area_under_curve"]["low"] < 5.6 / 12 < a["area_under_curve"]["high"]
    assert a["log_regret"]["mean"] == pytest.approx(np.log10(0.1 * 0.2 * 0.8) / 3)
    final = known.frame[(known.frame["agent"] == "a") & (known.frame["trial"] == 4)]
    assert a["best_score"] == pytest.approx(final["incumbent"].mean())
    # Final ranks of a: 1, tied with b for 1.5, and 3 behind b and random.
    assert a["mean_rank"]["4"] == pytest.approx(5.5 / 3) and reference["mean_rank"]["1"] == pytest.approx(8.5 / 3)
    # Differences -.6 -.5 +.1: the positive rank sum is 1, and two of eight sign patterns are as low.
    assert (a["wins"], a["ties"], a["losses"], a["p_value"]) == (2, 0, 1, 0.5)
    # b wins all: 2 / 8 doubled by Holm; .5 of a stays.
    assert summary["agents"]["b"]["corrected_p"] == pytest.approx(0.5) and a["corrected_p"] == pytest.approx(0.5)
    assert reference["p_value"] is None and reference["corrected_p"] is None
    # a's mean .7 at trial 1 is what random ends with.
    assert a["trials_to_reference"] == 1 and a["seconds_to_reference"] == pytest.approx(2.5)
    assert reference["seconds_to_reference"] == pytest.approx(10.0)
    # Mean ranks: b (2 + 1.5 + 1) / 3, a 5.5 / 3, random (3 + 3 + 2) / 3.
    assert list(summary["friedman"]["ranks"]) == ["b", "a", "random"] and summary["friedman"]["tasks"] == 3
    assert summary["friedman"]["cliques"] == [["b", "a", "random"]] and len(summary["friedman"]["pairwise"]) == 3
    assert summary["grpoformer"]["a"]["beats_random"] == pytest.approx(2 / 3)
    assert summary["grpoformer"]["a"]["compared"] == ["a", "b", "random"]


def test_what_a_summary_cannot_know_is_none() -> None:
    summary = summarise(table(TWO_AGENTS), "b", resamples=200)
    assert summary["friedman"] is None and summary["grpoformer"] is None
    a = summary["agents"]["a"]
    assert a["iqm"]["4"]["low"] is None and a["trials_to_reference"] == 3 and a["seconds_to_reference"] is None


@pytest.mark.parametrize(
    ("budget", "trials"),
    [(1, (1,)), (10, (1, 10)), (30, (1, 10, 25, 30)), (50, (1, 10, 25, 50)), (200, (1, 10, 25, 50, 100, 200))],
)
def test_tables_show_the_usual_trials_and_the_last(budget: int, trials: tuple[int, ...]) -> None:
    assert chosen_trials(budget) == trials


def test_partial_evaluations_count_by_what_they_cost() -> None:
    # Spent 0.5, 1.0, 1.4, 2.0: after one evaluation the second trial is the last, after two the fourth.
    curves = regret_curves(table({("a", ""): [[0.9, 0.8, 0.7, 0.6]]}, spent=[0.5, 1.0, 1.4, 2.0]))
    assert curves.budget == 2 and np.allclose(curves.of("a"), [[0.8, 0.6]])
    # A trial that ends beyond a whole evaluation shows only at the next one.
    late = regret_curves(table({("a", ""): [[0.9, 0.8, 0.7]]}, spent=[1.0, 1.1, 2.9]))
    assert np.allclose(late.of("a"), [[0.9, 0.8, 0.7]])
    # One that costs two leaves the value before it standing; as the first, it leaves none.
    costly = regret_curves(table({("a", ""): [[0.9, 0.7]]}, spent=[1.0, 3.0]))
    assert np.allclose(costly.of("a"), [[0.9, 0.9, 0.7]])
    with pytest.raises(InvalidSettingError, match=r"'a'.* costs more than one full evaluation"):
        regret_curves(table({("a", ""): [[0.9, 0.7]]}, spent=[2.0, 3.0]))


def test_multi_fidelity_records_of_a_real_loop_can_be_compared() -> None:
    def act(seen: torch.Tensor, mask: None, draws: torch.Generator) -> torch.Tensor:
        return torch.rand((len(seen), 3), generator=draws)

    settings = {"multi_fidelity": True}
    contender = Contender("a", "", "continuous", "flat", act)
    records = evaluate(contender, fidelity_suite(), split="all", seeds=2, budget=4, settings=settings)
    curves = regret_curves(records)
    last = records.frame.groupby(["task", "seed"], observed=True)["regret"].last().groupby("task", observed=True).mean()
    assert curves.budget == 4
    assert np.allclose(sorted(curves.of("a")[:, -1]), sorted(last))
    assert (np.diff(curves.of("a"), axis=1) <= 0.0).all()


def test_missing_cells_are_named() -> None:
    frame = table(TWO_AGENTS).frame
    without = frame[~((frame["agent"] == "b") & (frame["task"] == "custom:1"))]
    with pytest.raises(
        InvalidSettingError, match=r"1 episode\(s\) of 6 are missing.*'b', task made:up custom:1, seed 0"
    ):
        regret_curves(RecordTable(without))
    hole = frame[~((frame["agent"] == "a") & (frame["task"] == "custom:2") & (frame["trial"] == 2))]
    with pytest.raises(InvalidSettingError, match=r"Trials are missing or doubled.*'a', task made:up custom:2"):
        regret_curves(RecordTable(hole))
    with pytest.raises(InvalidSettingError, match="doubled"):
        regret_curves(RecordTable(pd.concat([frame, frame])))
    with pytest.raises(InvalidSettingError, match="empty"):
        regret_curves(RecordTable(frame[:0]))


def test_unequal_budgets_and_unknown_regret_are_refused() -> None:
    short = {("a", ""): [[0.5, 0.4, 0.3]], ("b", ""): [[0.5, 0.4]]}
    with pytest.raises(InvalidSettingError, match=r"Budgets differ: agent 'b'.* spent 2 .* another episode 3"):
        regret_curves(table(short))
    with pytest.raises(InvalidSettingError, match=r"made:up is NaN.*set suite\.known_range"):
        regret_curves(table({("a", ""): [[np.nan, np.nan]]}))


def test_unknown_references_and_late_trials_are_refused() -> None:
    records = table(TWO_AGENTS)
    with pytest.raises(UnknownNameError, match=r"reference agent 'c'.*Allowed: a, b"):
        summarise(records, "c")
    for trial in (0, 5, 2.0):
        with pytest.raises(InvalidSettingError, match=rf"Trial {trial} is not in 1 \.\. 4.*larger budget"):
            summarise(records, "b", [1, trial])  # type: ignore[list-item]


def test_tables_show_intervals_comparisons_and_runs() -> None:
    from rich.console import Console

    records = RecordTable.concat([table(TWO_AGENTS), table({("a", "again"): TWO_AGENTS["a", ""]})])
    summary = summarise(records, "b", [1, 4])
    b = summary["agents"]["b"]["regret"]["4"]
    markdown = comparison_markdown(summary)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert lines[0] == "| agent | regret at 1 | regret at 4 | W/T/L vs b | trials to reach b |"
    assert lines[2].startswith("| b | 0.5000 [") and lines[2].endswith("| - | 4 |")
    assert f"0.3000 [{b['low']:.4f}, {b['high']:.4f}]" in lines[2]
    assert lines[3].startswith("| a (2 runs) | 0.7000 [") and lines[3].endswith("| 1/1/1 p=1.000 | 3 |")
    assert len({line.count("|") for line in lines}) == 1
    console = Console(width=150, file=io.StringIO())
    console.print(comparison_table(summary))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "made:up: 3 tasks x 1 seed, budget 4" in text
    assert f"0.3000 [{b['low']:.4f}, {b['high']:.4f}]" in text and "1/1/1" in text


def test_a_perfect_policy_beats_a_random_one_on_every_task() -> None:
    suite = quadratic_suite()

    def random(seen: torch.Tensor, mask: None, draws: torch.Generator) -> torch.Tensor:
        return torch.rand((len(seen), 2), generator=draws)

    def reader(seen: torch.Tensor, mask: None, draws: torch.Generator) -> torch.Tensor:
        return (seen[:, :2] / 3.0 + 0.5).clamp(0.0, 1.0)  # the meta-features are the optimum

    contenders = [Contender(act.__name__, "", "continuous", "flat", act) for act in (random, reader)]
    records = RecordTable.concat([evaluate(each, suite, split="all", seeds=3, budget=10) for each in contenders])
    best = summarise(records, "random")["agents"]["reader"]
    assert (best["wins"], best["ties"], best["losses"]) == (6, 0, 0)
    assert best["trials_to_reference"] == 2 and best["speed_up"] == 5.0
    assert best["regret"]["10"]["mean"] == pytest.approx(0.0, abs=1e-5)
