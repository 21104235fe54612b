"""The trace of one episode, worked out by hand and of an evaluation of two runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from figure_records import lines, table
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import ConfigurationTable, Contender, EvaluationResult, RecordTable, Rules, evaluate_all
from hpo_gym.evaluation.trace_figure import trace_figure
from hpo_gym.spaces.columns import Column
from hpo_gym.testing.tiny import conditional_suite

COLUMNS = (
    Column("rate", "float", 0.01, 1.0, log=True),
    Column("kind", "categorical", upper=2, choices=("tree", "line", "net")),
    Column("depth", "integer", 1, 9),
    Column("fixed", "constant", choices=("always",)),
)
#: Five trials: the 1st, 3rd and 5th become the incumbent; depth is inactive in the 2nd and the 4th.
SCORES, INCUMBENT = [0.5, 0.4, 0.7, 0.7, 0.9], [0.5, 0.5, 0.7, 0.7, 0.9]
NUMBERS = [
    [0.1, 0, 3, 0],
    [0.5, 1, math.nan, 0],
    [0.02, 2, 5, 0],
    [0.3, 1, math.nan, 0],
    [0.04, 0, 9, 0],
]


def episode(fidelity: Sequence[float] = (1.0,) * 5) -> tuple[ConfigurationTable, RecordTable]:
    frame = table({"ada": [[0.0]]}, ["one"], first=None).frame
    frame = frame.loc[frame.index.repeat(5)].assign(
        trial=range(1, 6), score=SCORES, incumbent=INCUMBENT, fidelity=fidelity, spent=np.cumsum(fidelity)
    )
    records = RecordTable(frame)
    return ConfigurationTable.from_numbers(records.frame, np.array(NUMBERS), COLUMNS), records


def points(figure: Figure, axes: int, label: str) -> list[list[float]]:
    (found,) = [
        each for each in figure.axes[axes].collections if isinstance(each, PathCollection) and each.get_label() == label
    ]
    return [list(map(float, point)) for point in found.get_offsets()]


def test_trace_by_hand() -> None:
    figure = trace_figure(*episode(), "ada", "custom:0", 0)
    scores, rate, kind, depth, scale = figure.axes  # no panel for the constant
    assert [axes.get_title(loc="left") for axes in (rate, kind, depth)] == ["rate", "kind", "depth"]
    assert points(figure, 0, "_trials") == [[trial, score] for trial, score in enumerate(SCORES, start=1)]
    assert points(figure, 0, "becomes the incumbent") == [[1, 0.5], [3, 0.7], [5, 0.9]]
    assert lines(figure)["incumbent (best so far)"][1].tolist() == INCUMBENT
    # Below, the grey lines are the values of the incumbent: those of trials 1, 1, 3, 3 and 5.
    assert lines(figure, 1)["_incumbent"][1].tolist() == [0.1, 0.1, 0.02, 0.02, 0.04]
    assert lines(figure, 2)["_incumbent"][1].tolist() == [0, 0, 2, 2, 0]
    assert lines(figure, 3)["_incumbent"][1].tolist() == [3, 3, 5, 5, 9]
    assert points(figure, 1, "_trials") == [[trial, row[0]] for trial, row in enumerate(NUMBERS, start=1)]
    # Inactive: no point, but a cross, and the title says what a cross is.
    assert points(figure, 3, "_trials") == [[1, 3], [3, 5], [5, 9]]
    assert lines(figure, 3)["_inactive"][0].tolist() == [2, 4]
    assert depth.get_title(loc="right") == "\u00d7 inactive" and not rate.get_title(loc="right")
    assert rate.get_yscale() == "log" and depth.get_yscale() == "linear"
    assert [label.get_text() for label in kind.get_yticklabels()] == ["tree", "line", "net"]
    for axes, (low, high) in ((rate, (0.01, 1.0)), (kind, (0, 2)), (depth, (1, 9))):
        assert axes.get_ylim()[0] < low and axes.get_ylim()[1] > high  # the whole range, nothing at the edge
    # The worst tenth of the five scores shares a colour: the quantile lies 0.4 of the way from 0.4 to 0.5.
    assert scores.collections[0].get_clim() == pytest.approx((0.44, 0.9))
    assert scale.get_ylabel() == "score of the trial (dark is good)"
    assert figure.get_suptitle() == "ada on one custom:0, seed 0: 5 trials"


def test_a_trace_shows_which_trials_were_no_full_evaluation() -> None:
    figure = trace_figure(*episode((1.0, 0.25, 1.0, 0.5, 1.0)), "ada", "custom:0", 0)
    for axes in figure.axes[:3]:
        full, quarter, _, half, _ = axes.collections[0].get_sizes()
        assert quarter < half < full
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "part of a full evaluation" in legend
    whole = trace_figure(*episode(), "ada", "custom:0", 0).axes[0].get_legend()
    assert "part of a full evaluation" not in [text.get_text() for text in whole.get_texts()]


def test_every_panel_of_an_odd_number_has_trials_below_it_or_below_its_column() -> None:
    _, records = episode()
    columns = tuple(Column(f"x{index}", "float", 0.0, 1.0) for index in range(5))
    many = ConfigurationTable.from_numbers(records.frame, np.full((5, 5), 0.5), columns)
    figure = trace_figure(many, records, "ada", "custom:0", 0)
    panels = figure.axes[1:6]
    assert [axes.get_title(loc="left") for axes in panels] == ["x0", "x1", "x2", "x3", "x4"]
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels] == [False, False, False, True, True]
    figure.draw_without_rendering()
    # Row by row, without a hole before the last place.
    places = [(round(axes.get_position().y0, 1), round(axes.get_position().x0, 1)) for axes in panels]
    assert places == sorted(places, key=lambda place: (-place[0], place[1]))


def test_a_trace_that_is_not_one_episode_is_refused() -> None:
    configurations, records = episode()
    with pytest.raises(UnknownNameError, match="adda"):
        trace_figure(configurations, records, "adda", "custom:0", 0)
    with pytest.raises(InvalidSettingError, match=r"seed=3.*seeds \[0\]"):
        trace_figure(configurations, records, "ada", "custom:0", 3)
    with pytest.raises(InvalidSettingError, match=r"lack 1 trial.*the first being 5"):
        trace_figure(configurations, RecordTable(records.frame.iloc[:4]), "ada", "custom:0", 0)


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
    assert np.allclose(lines(figure)["incumbent (best so far)"][1], told["incumbent"])
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


def test_a_trace_that_names_several_runs_or_none_is_refused(conditional: EvaluationResult) -> None:
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
