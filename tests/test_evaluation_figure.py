"""The figure: files, what is drawn, and the cases a log axis makes hard."""

from __future__ import annotations

import math
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    Contender,
    EvaluationResult,
    RecordTable,
    Rules,
    bootstrap_interval,
    evaluate,
    evaluate_all,
    performance_profile,
    regret_curves,
    regret_figure,
    save_figure,
)
from hpo_gym.evaluation.heatmaps import space_heatmap, task_heatmap
from hpo_gym.evaluation.profile_figure import profile_figure
from hpo_gym.evaluation.rank_diagram import critical_difference_figure
from hpo_gym.evaluation.rank_figure import rank_figure
from hpo_gym.evaluation.style import agent_styles, marker_trials, spread
from hpo_gym.evaluation.trace_figure import trace_figure
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import conditional_suite, fidelity_suite, quadratic_suite


def play(suite: TaskSuite, names: list[str], budget: int = 12, width: int = 2, **settings: bool) -> RecordTable:
    def act(seen: torch.Tensor, mask: None, draws: torch.Generator) -> torch.Tensor:
        return torch.rand((len(seen), width), generator=draws)

    contenders = [Contender(name, "", "continuous", "flat", act) for name in names]
    tables = [evaluate(each, suite, split="all", seeds=2, budget=budget, settings=settings) for each in contenders]
    return RecordTable.concat(tables)


@pytest.fixture(scope="module")
def records() -> RecordTable:
    return play(quadratic_suite(), ["alpha", "beta", "gamma"])


def test_both_files_are_written_whole_and_nothing_else(records: RecordTable, tmp_path: Path) -> None:
    png, svg = save_figure(regret_figure(records, "test"), tmp_path / "new" / "regret.v1")
    assert sorted(os.listdir(tmp_path / "new")) == ["regret.v1.png", "regret.v1.svg"]
    picture = matplotlib.image.imread(png)
    assert picture.shape[:2] == (660, 1050)  # 7.0 x 4.4 inches at 150 dots per inch
    darkness = 1.0 - picture[..., :3].mean(axis=2)
    assert 0.01 < (darkness > 0.2).mean() < 0.5
    root = ElementTree.parse(svg).getroot()
    texts = {"".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("}text")}
    assert {"alpha", "beta", "gamma", "trial"} <= texts
    assert "tiny-quadratic, test split: 6 tasks \u00d7 2 seeds" in texts


def test_the_lines_are_the_means_and_the_bands_their_intervals(records: RecordTable) -> None:
    axes = regret_figure(records, "test").axes[0]
    curves = regret_curves(records)
    assert axes.get_yscale() == "log"
    lines = {line.get_label(): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"alpha", "beta", "gamma"}
    edges = [line.get_ydata() for line in axes.get_lines()]
    for name, line in lines.items():
        assert np.allclose(line.get_xdata(), np.arange(1, 13))
        assert np.allclose(line.get_ydata(), curves.of(name).mean(axis=0))
        for end in bootstrap_interval(curves.of(name), resamples=2000):
            assert any(np.allclose(end, edge) for edge in edges)


def test_agents_differ_in_colour_line_and_marker_whatever_their_order(records: RecordTable) -> None:
    def styles(table: RecordTable) -> dict[str, tuple[str, str, str]]:
        axes = regret_figure(table, "test").axes[0]
        named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
        return {
            str(line.get_label()): (to_hex(line.get_color()), str(line.get_linestyle()), str(line.get_marker()))
            for line in named
        }

    found = styles(records)
    for column in zip(*found.values(), strict=True):
        assert len(set(column)) == 3
    assert found["alpha"][0] == "#0072b2"
    assert styles(RecordTable(records.frame.iloc[::-1])) == found


def test_the_legend_lists_the_worst_final_regret_first(records: RecordTable) -> None:
    labels = [text.get_text() for text in regret_figure(records, "test").axes[0].get_legend().get_texts()]
    curves = regret_curves(records)
    final = [curves.of(label)[:, -1].mean() for label in labels]
    assert final == sorted(final, reverse=True)


def test_a_regret_of_zero_stays_on_the_log_axis(records: RecordTable) -> None:
    frame = records.frame.copy()
    reached = (frame["agent"] == "beta") & (frame["trial"] > 3)
    frame.loc[reached, "regret"] = 0.0
    axes = regret_figure(RecordTable(frame), "test").axes[0]
    bottom, top = axes.get_ylim()
    for line in axes.get_lines():
        values = np.asarray(line.get_ydata())
        assert (values > 0.0).all() and values.min() >= bottom and values.max() <= top
    assert any("drawn here" in text.get_text() for text in axes.texts)
    assert not regret_figure(records, "test").axes[0].texts
    assert bottom > 1e-6  # not stretched to nothing by the zero


def test_one_task_has_a_line_and_no_claim_of_an_interval(tmp_path: Path) -> None:
    figure = regret_figure(play(quadratic_suite(1), ["alpha"]), "all")
    assert "interval" not in figure.axes[0].get_ylabel()
    png, _ = save_figure(figure, tmp_path / "one")
    assert matplotlib.image.imread(png).std() > 0.01


def test_with_partial_evaluations_the_axis_says_what_it_counts(records: RecordTable) -> None:
    partial = play(fidelity_suite(), ["alpha"], budget=5, width=3, multi_fidelity=True)
    assert regret_figure(partial, "all").axes[0].get_xlabel() == "budget spent (full evaluations)"
    assert regret_figure(records, "all").axes[0].get_xlabel() == "trial"


def test_drawing_touches_no_global_figure_manager(records: RecordTable) -> None:
    regret_figure(records, "test")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_too_many_agents_for_one_figure_are_refused(records: RecordTable) -> None:
    alpha = records.frame[records.frame["agent"] == "alpha"].astype({"agent": "str"})
    many = RecordTable.concat([RecordTable(alpha.assign(agent=f"agent {index}")) for index in range(36)])
    with pytest.raises(InvalidSettingError, match=r"36 agents .* the most is 35"):
        regret_figure(many, "test")


def table(curves: Mapping[str, Sequence[Sequence[float]]], spaces: Sequence[str] | None = None) -> RecordTable:
    """Return records of one repetition: ``agent -> one curve of regrets per task``; task ``i`` is in ``spaces[i]``."""
    rows = [
        (agent, spaces[task] if spaces else "made", f"openml-dataset:{task + 10}", trial, regret)
        for agent, of_tasks in curves.items()
        for task, curve in enumerate(of_tasks)
        for trial, regret in enumerate(curve, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["agent", "space", "task", "trial", "regret"])
    frame["score"] = frame["metric"] = frame["incumbent"] = 1.0 - frame["regret"]
    same = {"run": "", "source": "up", "seed": 0, "fidelity": 1.0, "seconds": math.nan, "agent_seconds": 0.0}
    return RecordTable(frame.assign(dataset=frame["task"], spent=frame["trial"].astype(float), **same))


def named_lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}


def written(figure: Figure) -> list[str]:
    """Return all texts of a figure that somebody can see."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def crowd(agents: int = 16, tasks: int = 6, budget: int = 60) -> RecordTable:
    draws = np.random.default_rng(3)
    curves = np.minimum.accumulate(draws.uniform(0.001, 1.0, (agents, tasks, budget)), axis=2)
    return table({f"an agent with a name {index}": curves[index].tolist() for index in range(agents)})


#: Two tasks and two trials. Ranks at trial 1: a 1 and 3, b 2 and 2, c 3 and 1; at trial 2: a 1 and 1, b and c tie on
#: the first task (2.5 each), then c 2 and b 3.
THREE = {
    "a": [[0.1, 0.01], [0.9, 0.02]],
    "b": [[0.2, 0.10], [0.8, 0.40]],
    "c": [[0.3, 0.10], [0.7, 0.20]],
}


def test_the_axis_of_trials_is_logarithmic_for_long_episodes_or_where_asked_for(records: RecordTable) -> None:
    assert regret_figure(records, "test").axes[0].get_xscale() == "linear"
    assert regret_figure(records, "test", log_trials=True).axes[0].get_xscale() == "log"
    long = regret_figure(crowd(2), "test").axes[0]
    assert long.get_xscale() == "log"
    assert [tick for tick in long.get_xticks() if tick <= 60] == [1, 2, 5, 10, 20, 50]


def test_of_a_crowd_only_the_best_three_or_the_chosen_have_bands() -> None:
    many = crowd()
    final = {agent: float(values[:, -1].mean()) for agent, values in regret_curves(many).values.items()}
    axes = regret_figure(many, "test").axes[0]
    thick = {name for name, line in named_lines(axes).items() if line.get_linewidth() > 1.0}
    assert thick == set(sorted(final, key=final.__getitem__)[:3])
    assert len(axes.collections) == 3 and "thick lines" in axes.get_ylabel()
    chosen = regret_figure(many, "test", emphasised=["an agent with a name 4"]).axes[0]
    assert len(chosen.collections) == 1
    with pytest.raises(UnknownNameError, match="nobody"):
        regret_figure(many, "test", emphasised=["nobody"])


def test_the_bands_of_a_long_episode_are_computed_at_its_first_and_last_trial() -> None:
    few = crowd(1, budget=90)
    (agent,) = few.agents
    values = regret_curves(few).of(agent)
    edges = [line for line in regret_figure(few, "all").axes[0].get_lines() if str(line.get_label()).startswith("_")]
    trials = np.asarray(edges[0].get_xdata(), int)
    assert trials[0] == 1 and trials[-1] == 90 and len(trials) < 90
    for edge, end in zip(edges, bootstrap_interval(values[:, trials - 1], resamples=2000), strict=True):
        assert np.allclose(edge.get_ydata(), end)


def test_no_two_of_thirty_five_agents_look_alike_nor_share_marker_and_colour() -> None:
    styles = agent_styles(str(index) for index in range(35)).values()
    assert len({(style.marker, style.filled, str(style.line)) for style in styles}) == 35  # in grey
    assert len({(style.marker, style.colour) for style in styles}) == 35


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("budget", [1, 2, 7, 100])
def test_every_agent_has_a_marker_within_its_episode(budget: int, log: bool) -> None:
    for style in agent_styles(str(index) for index in range(17)).values():
        trials = marker_trials(style, budget, log)
        assert all(0 <= trial < budget for trial in trials)
        assert trials or budget < 5


def test_labels_keep_their_distance_their_order_and_the_axis() -> None:
    assert spread([1.0, 5.0], 1.0, 0.0, 9.0).tolist() == [1.0, 5.0]
    assert spread([4.0, 4.0, 4.0], 1.0, 0.0, 9.0).tolist() == [3.0, 4.0, 5.0]
    assert spread([9.0, 8.9], 1.0, 0.0, 9.0).tolist() == [9.0, 8.0]
    assert spread([0.0] * 4, 5.0, 0.0, 9.0).tolist() == [0.0, 3.0, 6.0, 9.0]


def test_rank_curves_are_the_ranks_by_hand() -> None:
    axes = rank_figure(regret_curves(table(THREE))).axes[0]
    lines = named_lines(axes)
    assert {name: list(line.get_ydata()) for name, line in lines.items()} == {
        "a": [2.0, 1.0],
        "b": [2.0, 2.75],
        "c": [2.0, 2.25],
    }
    bottom, top = axes.get_ylim()
    assert bottom > 2.75 and top < 1.0  # the best is on top
    assert {"a", "b", "c"} <= set(written(axes.figure))


def test_no_two_names_beside_the_rank_curves_touch() -> None:
    figure = rank_figure(regret_curves(crowd()))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 16
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_the_critical_difference_diagram_is_the_example_by_hand() -> None:
    # Ranks 1, 2, 3 on each of four tasks: chi-squared = 12 * 4 / (3 * 4) * (1 + 4 + 9 - 3 * 16 / 4) = 8, and with two
    # degrees of freedom p = exp(-8 / 2). CD = 2.343 * sqrt(3 * 4 / (6 * 4)) = 1.657 (Demsar 2006, table 5 a).
    curves = regret_curves(table({"a": [[0.1]] * 4, "b": [[0.2]] * 4, "c": [[0.3]] * 4}))
    figure = critical_difference_figure(curves)
    texts = written(figure)
    assert "CD = 1.66" in texts
    assert any("4 tasks" in text and "= 8.00" in text and "p = 0.018" in text for text in texts)
    assert {"a  1.00", "b  2.00", "3.00  c"} <= set(texts)
    lines = figure.axes[0].get_lines()
    length = next(line for line in lines if line.get_label() == "_critical difference")
    assert np.ptp(length.get_xdata()) == pytest.approx(1.657, abs=5e-4)
    bars = [line.get_xdata() for line in lines if str(line.get_label()).startswith("_clique")]
    assert [[round(end) for end in bar] for bar in bars] == [[1, 2], [2, 3]]
    levels = {float(line.get_ydata()[0]) for line in lines if str(line.get_label()).startswith("_clique")}
    assert len(levels) == 2  # they meet at rank 2


def test_without_a_difference_the_diagram_claims_none_and_the_bar_that_is_cut_off_says_so() -> None:
    curves = regret_curves(table({"a": [[0.1], [0.3]], "b": [[0.2], [0.2]], "c": [[0.3], [0.1]]}))
    texts = written(critical_difference_figure(curves))
    assert any("no difference between agents can be claimed" in text for text in texts)
    assert any("longer than the axis" in text for text in texts)


@pytest.mark.parametrize("agents", [3, 4, 17])
def test_no_two_labels_of_the_diagram_touch_nor_leave_the_page(agents: int) -> None:
    figure = critical_difference_figure(regret_curves(crowd(agents)))
    figure.draw_without_rendering()
    texts = [text for text in (*figure.axes[0].texts, *figure.texts) if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 2 * agents + 3  # names, ticks, CD, title and test
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)


def test_the_cells_of_the_task_map_are_regrets_sorted_by_hand() -> None:
    # Final regrets: a .01 .02, b .1 .4, c .1 .2. Means: a .015, c .15, b .25; by task .07 and .2067.
    figure = task_heatmap(regret_curves(table(THREE)))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "11"]
    cells = np.asarray(axes.collections[0].get_array()).reshape(3, 2)
    assert np.allclose(cells, [[0.01, 0.02], [0.1, 0.2], [0.1, 0.4]])
    assert axes.get_ylim() == (3, 0)  # the best on top
    first = np.asarray(task_heatmap(regret_curves(table(THREE)), 1).axes[0].collections[0].get_array()).ravel()
    assert sorted(first) == pytest.approx([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])


def test_every_one_of_130_tasks_has_its_name_once_and_none_touch() -> None:
    figure = task_heatmap(regret_curves(crowd(16, tasks=130, budget=1)))
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if len(axes.get_yticklabels()) == 16]
    assert len(panels) == 3
    labels = [label for axes in panels for label in axes.get_xticklabels()]
    assert sorted(int(label.get_text()) for label in labels) == list(range(10, 140))
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_a_regret_of_zero_has_a_colour_and_the_scale_says_that_it_is_cut_off() -> None:
    figure = task_heatmap(regret_curves(table({"a": [[0.0], [0.5]], "b": [[0.1], [0.2]]})))
    mesh = figure.axes[0].collections[0]
    assert mesh.norm.vmin == 1e-4 and np.asarray(mesh.get_array()).min() == 1e-4
    assert mesh.colorbar.extend == "min"
    solved = task_heatmap(regret_curves(table({"a": [[0.0]], "b": [[0.0]]})))
    assert solved.axes[0].collections[0].norm.vmax > solved.axes[0].collections[0].norm.vmin


def test_the_numbers_of_the_space_map_are_means_by_hand() -> None:
    # Space x holds tasks 1 and 2, y task 3: a .2 and .6 (mean .4), b .5 and .002 (mean .251).
    of_tasks = {"a": [[0.1], [0.3], [0.6]], "b": [[0.6], [0.4], [0.002]]}
    axes = space_heatmap(regret_curves(table(of_tasks, ["x", "x", "y"]))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x\n(2 tasks)", "y\n(1 task)", "mean of\nspaces"]
    placed = {(float(text.get_position()[1]), float(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert [placed[key] for key in sorted(placed)] == ["0.500", "0.0020", "0.251", "0.200", "0.600", "0.400"]


def test_the_numbers_of_the_space_map_contrast_with_their_cells() -> None:
    draws = np.random.default_rng(0)
    curves = {f"a{index}": draws.uniform(0.001, 0.9, (4, 1)).tolist() for index in range(6)}
    figure = space_heatmap(regret_curves(table(curves, ["w", "x", "y", "z"])))
    for mesh in figure.axes[0].collections:
        for value, row in zip(np.asarray(mesh.get_array()).ravel(), range(6), strict=True):
            colour = np.array(mesh.cmap(mesh.norm(value))[:3])
            column = mesh.get_coordinates()[0, 0, 0] + 0.5
            text = next(t for t in figure.axes[0].texts if t.get_position() == (column, row + 0.5))
            linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
            light = float(linear @ [0.2126, 0.7152, 0.0722])
            ratio = (light + 0.05) / 0.05 if text.get_color() == "#000000" else 1.05 / (light + 0.05)
            assert ratio >= 4.5  # WCAG 2.1, level AA


def test_the_profile_counts_episodes_by_hand_and_equals_the_statistics() -> None:
    # Final regrets of a: .01, .1, .1, .4, so that 0, 1/4, 3/4 and all are at most .005, .05, .2 and .5.
    curves = regret_curves(table({"a": [[0.01], [0.1], [0.1], [0.4]], "b": [[0.0], [0.3], [0.3], [0.3]]}))
    axes = profile_figure(curves).axes[0]
    lines = named_lines(axes)
    for threshold, share in ((0.006, 0.0), (0.05, 0.25), (0.2, 0.75), (0.5, 1.0)):
        x, y = lines["a"].get_data()
        assert y[np.searchsorted(x, threshold, side="right") - 1] == share
    thresholds = np.asarray(lines["b"].get_xdata())
    assert np.array_equal(lines["b"].get_ydata(), performance_profile(curves, 1, thresholds).share["b"])
    assert lines["b"].get_ydata()[0] == 0.25  # a regret of 0 is below every threshold
    # One repetition per task leaves nothing to resample, and nothing to claim.
    assert "band" not in axes.get_ylabel()


def test_the_bands_of_the_profile_are_those_of_the_statistics(records: RecordTable) -> None:
    curves = regret_curves(records)
    axes = profile_figure(curves, seed=4).axes[0]
    assert "95 % bands" in axes.get_ylabel()
    lines = named_lines(axes)
    thresholds = np.asarray(lines["alpha"].get_xdata())
    profile = performance_profile(curves, curves.budget, thresholds, seed=4)
    for name, band in zip(lines, axes.collections, strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx(profile.high[name].max())
        assert set(np.round(heights, 9)) == set(np.round([*profile.low[name], *profile.high[name]], 9))


@pytest.fixture(scope="module")
def conditional() -> EvaluationResult:
    suite = conditional_suite()

    def act(seen: torch.Tensor, mask: None, draws: torch.Generator) -> torch.Tensor:
        return torch.rand((len(seen), 5), generator=draws)

    contenders = [Contender("a$ent", run, "continuous", "flat", act) for run in ("x", "y")]
    return evaluate_all(contenders, suite, Rules(split="all", seeds=2, budget=25))


def test_the_trace_shows_every_trial_in_its_own_unit(conditional: EvaluationResult) -> None:
    configurations, records = conditional.configurations, conditional.records
    task = str(records.frame["task"].iloc[0])
    figure = trace_figure(configurations, records, "a$ent", task, 1, run="y")
    mine = configurations.of_run("a$ent", task, 1, "y")
    frame = records.frame
    told = frame[(frame["run"] == "y") & (frame["task"] == task) & (frame["seed"] == 1)].sort_values("trial")
    top, *panels = figure.axes[:-1]
    assert np.allclose(top.collections[0].get_offsets(), told[["trial", "score"]])
    assert np.allclose(named_lines(top)["incumbent (best so far)"].get_ydata(), told["incumbent"])
    changed = told["incumbent"].diff().fillna(1.0).to_numpy() > 0
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [column.name for column in configurations.hyperparameters]
    for axes, column in zip(panels, configurations.hyperparameters, strict=True):
        values = mine[column.name]
        active = values.notna().to_numpy()
        numbers = values.to_numpy(float) if column.is_numeric else values.cat.codes.to_numpy(float)
        points, rings = axes.collections
        shown = np.column_stack([mine["trial"][active], numbers[active]])
        assert np.allclose(points.get_offsets(), shown)
        assert np.allclose(points.get_array(), told["score"].to_numpy()[active])
        assert np.allclose(rings.get_offsets()[:, 0], mine["trial"][active & changed])
        assert axes.get_yscale() == ("log" if column.log else "linear")
        crosses = [line for line in axes.get_lines() if line.get_label() == "_inactive"]
        assert [list(line.get_xdata()) for line in crosses] == ([] if active.all() else [list(mine["trial"][~active])])
        if not column.is_numeric:
            assert [label.get_text() for label in axes.get_yticklabels()] == list(map(str, column.choices))
    assert any(len(axes.get_lines()) > 1 and axes.get_title(loc="right") for axes in panels)  # something was inactive
    assert r"a\$ent (y)" in figure.get_suptitle()


def test_a_trace_that_names_no_single_episode_is_refused(conditional: EvaluationResult) -> None:
    configurations, records = conditional.configurations, conditional.records
    task = str(records.frame["task"].iloc[0])
    with pytest.raises(InvalidSettingError, match=r"run is one of x, y\. Name the run"):
        trace_figure(configurations, records, "a$ent", task, 0)
    with pytest.raises(InvalidSettingError, match=r"seed=7.*seeds \[0, 1\]"):
        trace_figure(configurations, records, "a$ent", task, 7, run="x")
    for name, chosen in {
        "agent": ("agent", task, None),
        "task": ("a$ent", "t", None),
        "run": ("a$ent", task, "z"),
    }.items():
        with pytest.raises(UnknownNameError, match=f"Unknown {name} "):
            trace_figure(configurations, records, chosen[0], chosen[1], 0, run=chosen[2])
    less = RecordTable(records.frame[records.frame["trial"] != 4])
    with pytest.raises(InvalidSettingError, match=r"lack 1 trial.* the first being 4"):
        trace_figure(configurations, less, "a$ent", task, 0, run="x")
