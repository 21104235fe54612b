"""What the figures draw, worked out by hand, and that it stays the same, whole and apart whatever is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from figure_records import FINAL, lines, made, table, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    FriedmanResult,
    RecordTable,
    friedman,
    regret_curves,
    regret_figure,
    stratified_interval,
)
from hpo_gym.evaluation.heatmaps import space_heatmap, task_heatmap
from hpo_gym.evaluation.profile_figure import profile_figure
from hpo_gym.evaluation.rank_diagram import critical_difference_figure, draw_critical_difference
from hpo_gym.evaluation.rank_figure import rank_figure
from hpo_gym.evaluation.style import agent_styles, emphasised_agents, p_value_text, spread, text_width


@pytest.fixture(scope="module")
def hand() -> RecordTable:
    return table(FINAL)


def cells(figure: Figure) -> np.ndarray:
    """Return the values behind the colours of all meshes, side by side."""
    meshes = [each for axes in figure.axes for each in axes.collections if isinstance(each, QuadMesh)]
    # The scale of colours has a mesh of its own.
    return np.column_stack([np.asarray(mesh.get_array()) for mesh in meshes if mesh.axes.get_label() != "<colorbar>"])


# --- ranks


def test_ranks_by_hand(hand: RecordTable) -> None:
    figure = rank_figure(regret_curves(hand))
    drawn = lines(figure)
    # Task 0: ada and bob share 1 and 2, cy 3. Task 1: 1, 2, 3. Task 2: bob 1, ada and cy share 2 and 3.
    final = {"ada": (1.5 + 1 + 2.5) / 3, "bob": (1.5 + 2 + 1) / 3, "cy": (3 + 3 + 2.5) / 3}
    for agent, rank in final.items():
        assert drawn[agent][0].tolist() == [1, 2]
        assert drawn[agent][1] == pytest.approx([2.0, rank])  # all are tied at first
    axes = figure.axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > final["cy"] and top < final["bob"]  # rank 1 is on top, and nothing is cut off
    assert axes.get_ylabel() == "mean rank of 3 agents (1 is best)"
    assert axes.get_title() == "one, two: ranks on 3 tasks"
    # Names stand in the order of the lines' ends, each with the marker and colour of its line.
    named = {each.get_text(): each for each in axes.texts if each.get_text()}
    assert sorted(named, key=lambda name: -named[name].xyann[1]) == ["bob", "ada", "cy"]
    styles = agent_styles(final)
    ends = {line.get_marker(): line.get_color() for line in axes.get_lines() if line.get_label() == "_end"}
    assert ends == {style.marker: style.colour for style in styles.values()}


# --- critical difference

# Table 6 of Demsar (2006); a rank divided by 4 serves as a regret.
DEMSAR = {
    "C4.5": [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
    "C4.5+m": [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
    "C4.5+cf": [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
    "C4.5+m+cf": [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
}
DEMSAR_RANKS = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}


@pytest.fixture(scope="module")
def demsar() -> RecordTable:
    return table({agent: [[rank / 4] for rank in ranks] for agent, ranks in DEMSAR.items()}, ["uci"] * 14)


@pytest.mark.parametrize(
    ("alpha", "difference", "bars"),
    # Section 3.2.2: the difference is 1.25 at 0.05, which 3.143 - 1.964 = 1.179 does not reach, and 1.12 at 0.1, which
    # sets C4.5 apart from both C4.5+m (1.143) and C4.5+m+cf.
    [(0.05, 1.25, [(1.964, 3.143)]), (0.1, 1.12, [(1.964, 2.893), (2.893, 3.143)])],
)
def test_critical_difference_as_demsar_published_it(
    demsar: RecordTable, alpha: float, difference: float, bars: list[tuple[float, float]]
) -> None:
    figure = critical_difference_figure(regret_curves(demsar), alpha=alpha)
    drawn = lines(figure)
    for agent, rank in DEMSAR_RANKS.items():
        across, _ = drawn[f"_agent {agent}"]
        assert across[1:] == pytest.approx([rank, rank], abs=5e-4)
        assert f"{agent}  {rank:.2f}" in texts(figure) or f"{rank:.2f}  {agent}" in texts(figure)
    shown = sorted(tuple(across) for label, (across, _) in drawn.items() if label.startswith("_clique"))
    assert len(shown) == len(bars)
    for (left, right), (low, high) in zip(shown, bars, strict=True):
        assert low - 0.05 < left < low + 5e-4 and high - 5e-4 < right < high + 0.05
    marked = drawn["_critical difference"][0]
    assert marked[1] - marked[0] == pytest.approx(difference, abs=5e-3)
    assert f"CD = {difference:.2f}" in texts(figure)
    (verdict,) = [text for text in texts(figure) if text.startswith("Friedman")]
    found = friedman(regret_curves(demsar), alpha=alpha)
    assert (
        f"14 tasks: \u03c7² = {found.statistic:.2f}, p = {found.p_value:.2g}; \u03b1 = {alpha:g}: bars join" in verdict
    )


def outcome(ranks: dict[str, float], cliques: tuple[tuple[str, ...], ...] = (), p: float = 0.01) -> FriedmanResult:
    return FriedmanResult(5.0, p, ranks, 0.5, cliques, {}, 10)


def test_a_bar_covers_its_agents_and_no_other_however_close() -> None:
    result = outcome({"a": 1.0, "b": 2.0, "c": 2.004, "d": 4.0, "e": 4.0}, (("a", "b"), ("d", "e")))
    drawn = lines(draw_critical_difference(result, 10))
    left, right = drawn["_clique 0"][0]
    assert left < 1.0 and 2.0 < right < 2.004
    # Agents of one mean rank are joined, too, and the bar can be seen.
    left, right = drawn["_clique 1"][0]
    assert left < 4.0 < right and right - left < 0.2


def test_bars_of_one_height_never_touch() -> None:
    ranks = {"a": 1.0, "b": 1.6, "c": 2.2, "d": 2.8, "e": 5.0, "f": 5.4}
    figure = draw_critical_difference(outcome(ranks, (("a", "b"), ("b", "c"), ("c", "d"), ("e", "f"))), 10)
    bars = [(down[0], *across) for label, (across, down) in lines(figure).items() if label.startswith("_clique")]
    assert len(bars) == 4
    for depth in {bar[0] for bar in bars}:
        level = sorted(bar[1:] for bar in bars if bar[0] == depth)
        assert all(before[1] < after[0] for before, after in pairwise(level))


def test_without_a_difference_none_is_claimed_and_a_long_bar_is_said_to_be_cut() -> None:
    result = FriedmanResult(0.5, 0.78, {"a": 1.8, "b": 2.0, "c": 2.2}, 3.3, (("a", "b", "c"),), {}, 2)
    figure = draw_critical_difference(result, 10)
    assert "CD = 3.30 (longer than the axis)" in texts(figure)
    assert lines(figure)["_critical difference"][0].tolist() == [1.0, 3.0]
    assert any("p = 0.78; \u03b1 = 0.05: no difference between agents can be claimed" in text for text in texts(figure))


@pytest.mark.parametrize("agents", [3, 4, 17])
def test_no_two_labels_of_the_diagram_touch_nor_leave_the_page(agents: int) -> None:
    figure = critical_difference_figure(
        regret_curves(made([f"an agent with a name {index}" for index in range(agents)], 6, 1))
    )
    figure.draw_without_rendering()
    texts = [text for text in (*figure.axes[0].texts, *figure.texts) if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 2 * agents + 3  # names, ticks, CD, title and test
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)


def test_a_p_value_that_underflows_is_no_zero() -> None:
    assert [p_value_text(p) for p in (0.0, 1e-120, 3.28e-23, 0.01234, 1.0)] == [
        "< 1e-99",
        "< 1e-99",
        "3.3e-23",
        "0.012",
        "1",
    ]
    assert p_value_text(0.5, "= ") == "= 0.5" and p_value_text(0.0, "= ") == "< 1e-99"
    assert any(
        "p < 1e-99;" in text for text in texts(draw_critical_difference(outcome({"a": 1.0, "b": 2.0}, p=0.0), 1))
    )


# --- heat maps


def test_cells_of_the_task_heat_map_by_hand(hand: RecordTable) -> None:
    figure = task_heatmap(regret_curves(hand))
    # Agents by mean: bob 1/6, ada 0.2, cy 19/30. Tasks by mean: 2 (3/10), 0 (1/3), 1 (11/30).
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bob", "ada", "cy"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["two 2", "one 0", "one 1"]
    # A regret of 0 has the colour of 0.0001, and the scale says so by a pointed end.
    assert cells(figure) == pytest.approx(np.array([[0.1, 0.2, 0.2], [0.4, 0.2, 1e-4], [0.4, 0.6, 0.9]]))
    assert axes.get_ylim() == (3.0, 0.0)  # the first row is on top
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    assert mesh.get_clim() == pytest.approx((1e-4, 0.9)) and mesh.colorbar.extend == "min"
    assert mesh.colorbar.ax.get_xlabel() == "normalised regret (light is good)"
    low, high = (float(np.mean(mesh.cmap(mesh.norm(value))[:3])) for value in (1e-4, 0.9))
    assert low > high + 0.2  # light is good
    assert "Normalised regret at trial 2 on 3 tasks" in texts(figure)
    assert (cells(task_heatmap(regret_curves(hand), trial=1)) == 0.95).all()


def test_many_tasks_go_on_in_panels_below() -> None:
    # 100 tasks of one agent, the first the hardest: three panels of 34, 34 and 32 with cells of one width.
    figure = task_heatmap(regret_curves(table({"a": [[(100 - task) / 100] for task in range(100)]}, ["s"] * 100)))
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    names = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    assert [len(each) for each in names] == [34, 34, 32]
    assert [name for each in names for name in each] == [str(task) for task in range(99, -1, -1)]
    assert {axes.get_xlim() for axes in panels} == {(0.0, 34.0)}


def test_every_one_of_130_tasks_has_its_name_once_and_none_touch() -> None:
    draws = np.random.default_rng(3)
    final = {f"an agent with a name {index}": draws.uniform(0.001, 1.0, (130, 1)).tolist() for index in range(16)}
    figure = task_heatmap(regret_curves(table(final, ["s"] * 130, None)))
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if len(axes.get_yticklabels()) == 16]
    assert len(panels) == 3
    labels = [label for axes in panels for label in axes.get_xticklabels()]
    assert sorted(int(label.get_text()) for label in labels) == list(range(130))
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_where_all_regrets_are_zero_the_scale_has_two_ends() -> None:
    norm = task_heatmap(regret_curves(table({"a": [[0.0]], "b": [[0.0]]}, ["s"], None))).axes[0].collections[0].norm
    assert norm.vmin == 1e-4 < norm.vmax


def test_cells_of_the_space_heat_map_by_hand(hand: RecordTable) -> None:
    figure = space_heatmap(regret_curves(hand))
    # Space "one" is the mean of tasks 0 and 1; the last column counts both spaces once: bob (0.2 + 0.1) / 2 = 0.15.
    expected = np.array([[0.2, 0.1, 0.15], [0.1, 0.4, 0.25], [0.75, 0.4, 0.575]])
    assert cells(figure) == pytest.approx(expected)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bob", "ada", "cy"]
    columns = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert columns == ["one (2 tasks)", "two (1 task)", "mean of spaces"]
    written = [(*each.get_position(), each.get_text()) for each in axes.texts]
    assert [text for _, _, text in sorted(written, key=lambda each: (each[1], each[0]))] == [
        "0.200", "0.100", "0.150", "0.100", "0.400", "0.250", "0.750", "0.400", "0.575",
    ]  # fmt: skip


def test_the_numbers_of_the_space_map_contrast_with_their_cells() -> None:
    draws = np.random.default_rng(0)
    curves = {f"a{index}": draws.uniform(0.001, 0.9, (4, 1)).tolist() for index in range(6)}
    figure = space_heatmap(regret_curves(table(curves, ["w", "x", "y", "z"], None)))
    for mesh in figure.axes[0].collections:
        for value, row in zip(np.asarray(mesh.get_array()).ravel(), range(6), strict=True):
            colour = np.array(mesh.cmap(mesh.norm(value))[:3])
            column = mesh.get_coordinates()[0, 0, 0] + 0.5
            text = next(t for t in figure.axes[0].texts if t.get_position() == (column, row + 0.5))
            linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
            light = float(linear @ [0.2126, 0.7152, 0.0722])
            ratio = (light + 0.05) / 0.05 if text.get_color() == "#000000" else 1.05 / (light + 0.05)
            assert ratio >= 4.5  # WCAG 2.1, level AA


def test_a_small_regret_is_written_with_its_digits() -> None:
    axes = space_heatmap(regret_curves(table({"a": [[0.002], [0.1]]}, ["x", "y"], None))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.0020", "0.100", "0.051"]


# --- performance profile


def test_profile_shares_by_hand(hand: RecordTable) -> None:
    figure = profile_figure(regret_curves(hand))
    drawn = lines(figure)
    # The six final regrets of ada in order: 0, 0, 0.1, 0.3, 0.4, 0.4.
    by_hand = {
        "ada": [(0.06, 2), (0.12, 3), (0.25, 3), (0.35, 4), (0.45, 6)],
        "bob": [(0.06, 0), (0.12, 3), (0.25, 5), (0.35, 6), (0.45, 6)],
        "cy": [(0.06, 0), (0.35, 0), (0.45, 2), (0.55, 3), (0.8, 4), (1.0, 6)],
    }
    for agent, points in by_hand.items():
        tau, share = drawn[agent]
        for wanted, count in points:
            assert share[np.searchsorted(tau, wanted, side="right") - 1] == pytest.approx(count / 6), (agent, wanted)
    axes = figure.axes[0]
    # From half of the smallest regret but 0 to the worst that there is.
    assert axes.get_xlim() == pytest.approx((0.05, 1.0)) and axes.get_xscale() == "log"
    assert axes.get_ylim()[0] == 0.0 and axes.get_ylim()[1] > 1.0
    assert [each.get_text() for each in axes.get_legend().get_texts()] == ["bob", "ada", "cy"]  # by mean regret
    assert axes.get_title() == "one, two, trial 2: 3 tasks \u00d7 2 seeds" and "95 % bands" in axes.get_ylabel()


def test_profile_bands_are_the_stratified_intervals(hand: RecordTable) -> None:
    curves = regret_curves(hand)
    figure = profile_figure(curves, seed=4)
    tau = lines(figure)["ada"][0]
    # ada's band is the first of the three: the best agent's line and band are drawn first, hers second.
    band = figure.axes[0].collections[1].get_paths()[0].vertices
    for index in (20, 100, 150):
        reached = (curves.episodes["ada"][:, :, -1] <= tau[index]).astype(float)

        def share(values: np.ndarray) -> np.ndarray:
            return values.mean(axis=(-3, -2))

        low, high = stratified_interval(reached[:, :, None], share, seed=4)
        heights = band[np.isclose(band[:, 0], tau[index]), 1]
        assert min(abs(heights - low[0])) < 1e-9 and min(abs(heights - high[0])) < 1e-9


def test_a_profile_of_one_repetition_claims_no_band() -> None:
    assert "band" not in profile_figure(regret_curves(made(["ada", "bob"], 4, 1))).axes[0].get_ylabel()


# --- all figures

FIGURES: dict[str, Callable[[RecordTable], Figure]] = {
    "regret": lambda records: regret_figure(records, "test"),
    "ranks": lambda records: rank_figure(regret_curves(records)),
    "critical difference": lambda records: critical_difference_figure(regret_curves(records)),
    "tasks": lambda records: task_heatmap(regret_curves(records)),
    "spaces": lambda records: space_heatmap(regret_curves(records)),
    "profile": lambda records: profile_figure(regret_curves(records)),
}


def contents(figure: Figure) -> list[Any]:
    """Return everything drawn, in order: data and looks of lines, points, areas and cells, texts, limits."""
    found: list[Any] = [texts(figure)]
    for axes in figure.axes:
        found += [axes.get_xlim(), axes.get_ylim(), axes.get_title()]
        for line in axes.get_lines():
            look = (line.get_label(), line.get_color(), str(line.get_linestyle()), line.get_marker())
            found += [look, line.get_xydata().tolist()]
        for each in axes.collections:
            values = each.get_array()
            shapes = [path.vertices.tolist() for path in each.get_paths()]
            found += [each.get_offsets().tolist(), shapes, None if values is None else values.tolist()]
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_the_order_of_rows_and_agents_changes_nothing(hand: RecordTable, name: str) -> None:
    reference = contents(FIGURES[name](hand))
    # Rows backwards, and agents as they would be had others been evaluated first.
    shuffled = RecordTable(hand.frame.sample(frac=1.0, random_state=1))
    turned = table({agent: FINAL[agent] for agent in ("cy", "ada", "bob")})
    for other in (RecordTable(hand.frame.iloc[::-1]), shuffled, turned):
        assert contents(FIGURES[name](other)) == reference


LONG = "an_agent_with_a_name_that_somebody_thought_would_be_clear"


def outside(figure: Figure) -> list[str]:
    """Return texts that leave the figure by more than a pixel."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    # Labels of ticks beyond the limits of their axis are never drawn.
    unseen = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    left = []
    for text in figure.findobj(Text):
        if id(text) in unseen or not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent(renderer)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            left.append(text.get_text())
    return left


CASES = {
    "one agent": (["ada"], 3, 2, 0.95),
    "two agents": (["ada", "bob"], 3, 2, 0.95),
    "one task": (["ada", "bob", "cy"], 1, 2, 0.95),
    "one repetition": (["ada", "bob", "cy"], 3, 1, 0.95),
    "one trial": (["ada", "bob", "cy"], 3, 2, None),
    "one of everything": (["ada"], 1, 1, None),
    "long names": ([LONG, "$x^2$", "<b>&\"'"], 4, 1, 0.95),
    "sixteen agents": ([f"differential_evolution_{index}" for index in range(16)], 6, 2, 0.95),
}


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_whole_whatever_is_compared(case: str) -> None:
    agents, tasks, seeds, first = CASES[case]
    records = made(agents, tasks, seeds, first)
    for name, draw in FIGURES.items():
        if name == "critical difference" and (len(agents) < 3 or tasks < 2):
            with pytest.raises(InvalidSettingError, match="at least 3 agents and 2 tasks"):
                draw(records)
            continue
        figure = draw(records)
        assert outside(figure) == [], name
        # A dollar sign is one, and no formula; every agent is named.
        for agent in agents:
            assert any(agent in text.replace(r"\$", "$") for text in texts(figure)), (name, agent)


def test_names_beside_lines_that_end_together_stand_apart() -> None:
    # Ten agents that are tied everywhere: all lines are one.
    records = table({f"agent {index}": [[0.5], [0.4]] for index in range(10)}, ["one", "one"])
    figure = rank_figure(regret_curves(records))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    named = [each for each in figure.axes[0].texts if each.get_text()]
    boxes = sorted((each.get_window_extent(canvas.get_renderer()) for each in named), key=lambda box: box.y0)
    assert len(boxes) == 10
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


@pytest.mark.parametrize(
    ("wanted", "gap", "expected"),
    [
        ([5.0, 1.0], 1.0, [5.0, 1.0]),  # far apart: nothing moves
        ([5.0, 5.5], 1.0, [4.75, 5.75]),  # half of what is missing, each
        ([0.0, 0.0, 0.0], 1.0, [0.0, 1.0, 2.0]),  # not below the least place
        ([9.5, 10.0], 2.0, [8.0, 10.0]),  # nor above the greatest
        ([5.0, 5.0, 5.0], 20.0, [0.0, 5.0, 10.0]),  # no room: the gap shrinks to what fits
        ([3.0], 1.0, [3.0]),
    ],
)
def test_labels_are_spread_by_the_least_shift(wanted: list[float], gap: float, expected: list[float]) -> None:
    assert spread(wanted, gap, 0.0, 10.0) == pytest.approx(expected)


def test_of_a_crowd_three_stand_out_with_bands() -> None:
    records = made([f"agent {index}" for index in range(7)], 4, 2)
    final = {agent: float(values[:, -1].mean()) for agent, values in regret_curves(records).values.items()}
    best = set(sorted(final, key=final.__getitem__)[:3])
    assert emphasised_agents(final, None) == best
    assert emphasised_agents(dict.fromkeys("abcdef", 0.0), None) == set("abcdef")
    for draw in (
        lambda **given: regret_figure(records, "test", **given),
        lambda **given: profile_figure(regret_curves(records), **given),
    ):
        for chosen, expected in ((None, best), (["agent 6"], {"agent 6"})):
            axes = draw(emphasised=chosen).axes[0]
            named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
            assert {str(line.get_label()) for line in named if line.get_linewidth() > 1.0} == expected
            assert len(axes.collections) == len(expected) and "of thick lines" in axes.get_ylabel()
        with pytest.raises(UnknownNameError, match="agent 9"):
            draw(emphasised=["agent 9"])


def test_the_width_of_a_text_is_what_is_drawn() -> None:
    figure = Figure(dpi=150)
    canvas = FigureCanvasAgg(figure)
    for words in ("differential_evolution  4.78", "$x$ and $y$"):
        drawn = figure.text(0.1, 0.5, words.replace("$", r"\$"), fontsize=9).get_window_extent(canvas.get_renderer())
        assert text_width(words, 9) == pytest.approx(drawn.width / 150, abs=0.02)
    assert text_width("", 9) == 0.0
