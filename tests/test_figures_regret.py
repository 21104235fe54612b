"""The figure of regret: files, what is drawn, and the cases a log axis makes hard."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import (
    Contender,
    RecordTable,
    bootstrap_interval,
    evaluate,
    regret_curves,
    regret_figure,
    save_figure,
)
from hpo_gym.evaluation.style import agent_styles, marker_trials
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import fidelity_suite, quadratic_suite


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


def test_the_axis_of_trials_is_logarithmic_for_long_episodes_or_where_asked_for(records: RecordTable) -> None:
    assert regret_figure(records, "test").axes[0].get_xscale() == "linear"
    assert regret_figure(records, "test", log_trials=True).axes[0].get_xscale() == "log"
    long = regret_figure(play(quadratic_suite(), ["alpha"], 60), "test").axes[0]
    assert long.get_xscale() == "log"
    assert [tick for tick in long.get_xticks() if tick <= 60] == [1, 2, 5, 10, 20, 50]


def test_the_bands_of_a_long_episode_are_computed_at_its_first_and_last_trial() -> None:
    few = play(quadratic_suite(), ["alpha"], 90)
    values = regret_curves(few).of("alpha")
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
