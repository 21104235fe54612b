"""What a report says, section by section: tables, figures with captions, and what is missing and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.figure import regret_figure
from hpo_gym.evaluation.heatmaps import space_heatmap, task_heatmap
from hpo_gym.evaluation.profile_figure import profile_figure
from hpo_gym.evaluation.rank_diagram import critical_difference_figure
from hpo_gym.evaluation.rank_figure import rank_figure
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.significance import LEAST_AGENTS, LEAST_TASKS
from hpo_gym.evaluation.style import p_value_text
from hpo_gym.evaluation.trace_figure import trace_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ReportFigure", "ReportTable", "Section", "report_sections"]


@dataclass(frozen=True)
class ReportTable:
    """A table: cells of text, the row to be marked, and how to read it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    marked: int | None = None


@dataclass(frozen=True)
class ReportFigure:
    """A figure that is drawn when the page is made.

    Args:
        name: Of its files.
        title: What it shows.
        caption: How to read it.
        draw: Makes it.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Section:
    """A part of the page; ``notes`` say what is not there, and why."""

    anchor: str
    title: str
    tables: tuple[ReportTable, ...] = ()
    figures: tuple[ReportFigure, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def report_sections(
    records: RecordTable,
    curves: RegretCurves,
    summary: Mapping[str, Any],
    split: str,
    configurations: ConfigurationTable | None,
    seed: int,
) -> Iterator[Section]:
    """Return the sections of a report in order.

    Args:
        records: The trials.
        curves: Made of them.
        summary: Made of them.
        split: The split they come from.
        configurations: What was tried; ``None`` where that was not kept.
        seed: Root of the resampling streams.
    """
    yield _results(records, curves, summary, split, seed)
    yield _tests(curves, summary)
    yield _details(curves, seed)
    spaces = sorted({space for _, space, _ in curves.tasks})
    if len(spaces) > 1:
        yield _spaces(records, curves, spaces, split, seed)
    if configurations is not None:
        yield _trace(records, configurations, curves)


def _results(records: RecordTable, curves: RegretCurves, summary: Mapping[str, Any], split: str, seed: int) -> Section:
    agents, trials = summary["agents"], [str(trial) for trial in summary["trials"]]
    order = sorted(agents, key=lambda name: (agents[name]["regret"][trials[-1]]["mean"], name))
    marked = order.index(summary["reference"])
    regret = ReportTable(
        "Mean normalised regret",
        ("agent", *(f"at {trial}" for trial in trials), "area under the curve"),
        tuple(
            (
                _label(name, agents[name]),
                *(_interval(agents[name]["regret"][trial]) for trial in trials),
                _interval(agents[name]["area_under_curve"]),
            )
            for name in order
        ),
        "Mean over tasks with its 95 % interval over tasks; lower is better. The reference is shaded.",
        marked,
    )
    robust = ReportTable(
        "Interquartile mean of regret, and log regret",
        ("agent", *(f"IQM at {trial}" for trial in trials), "log10 regret at the end"),
        tuple(
            (
                _label(name, agents[name]),
                *(_interval(agents[name]["iqm"][trial]) for trial in trials),
                _interval(agents[name]["log_regret"], 2),
            )
            for name in order
        ),
        "The interquartile mean's 95 % interval is over repetitions, that of log regret over tasks.",
        marked,
    )
    figures = [
        ReportFigure(
            "regret",
            "Regret against trials",
            "Mean over tasks with its 95 % interval over tasks, on logarithmic axes; lower is better, and the legend "
            "has the order of the right ends.",
            lambda: regret_figure(records, split, seed=seed),
        )
    ]
    if len(agents) > 1:
        figures.append(
            ReportFigure(
                "ranks",
                "Mean rank against trials",
                "At every trial the agents are ranked on every task by their mean regret, 1 being best and ties "
                "sharing a rank; lines are means over tasks. Ranks depend on who takes part.",
                lambda: rank_figure(curves),
            )
        )
    notes: tuple[str, ...] = () if len(agents) > 1 else ("There is one agent only: ranks need two.",)
    if curves.relative:
        notes += (
            "The best configurations of these tasks are not known: models were really trained. Regret is relative to "
            "what the agents of this report found on a task, 0 being the best of all and 1 the worst start, so that it "
            "changes with who takes part. Scores do not: see the best score.",
        )
    return Section("results", "Results", (regret, robust), tuple(figures), notes)


def _tests(curves: RegretCurves, summary: Mapping[str, Any]) -> Section:
    agents, reference = summary["agents"], summary["reference"]
    final = str(summary["trials"][-1])
    order = sorted(agents, key=lambda name: (agents[name]["regret"][final]["mean"], name))
    rows = []
    for name in order:
        agent = agents[name]
        same = name == reference
        needed, seconds = agent["trials_to_reference"], agent["seconds_to_reference"]
        rows.append(
            (
                _label(name, agent),
                "-" if same else f"{agent['wins']} / {agent['ties']} / {agent['losses']}",
                "-" if agent["p_value"] is None else p_value_text(agent["p_value"]),
                "-" if agent["corrected_p"] is None else p_value_text(agent["corrected_p"]),
                "never" if needed is None else str(needed),
                "-" if agent["speed_up"] is None else f"{agent['speed_up']:.1f}",
                "-" if seconds is None else f"{seconds:,.0f}",
                f"{agent['mean_rank'][final]:.2f}",
            )
        )
    header = (
        "agent",
        "wins / ties / losses",
        "p",
        "p (Holm)",
        "trials to reach",
        "speed-up",
        "seconds to reach",
        "rank",
    )
    table = ReportTable(
        f"Against {reference}",
        header,
        tuple(rows),
        f"Wins, ties and losses count tasks on which the final mean regret is below, equal to or above that of "
        f"{reference}. Seconds are those of the trained models and of the method together.",
        order.index(reference),
    )
    notes, figures = [], []
    found = summary["friedman"]
    if found is None:
        notes.append(
            f"Friedman's test and the critical-difference diagram need at least {LEAST_AGENTS} agents and "
            f"{LEAST_TASKS} tasks; there are {len(agents)} and {len(curves.tasks)}."
        )
    else:
        figures.append(
            ReportFigure(
                "critical-difference",
                "Critical-difference diagram",
                f"Mean ranks at the last trial over {found['tasks']} tasks. Friedman: chi-squared "
                f"{found['statistic']:.1f}, p {p_value_text(found['p_value'], '= ')}. Agents joined by a bar are not "
                f"told apart at the 5 % level (critical difference {found['critical_difference']:.2f}).",
                lambda: critical_difference_figure(curves),
            )
        )
    tables = [table]
    if summary["grpoformer"] is not None:
        tables.append(_grpoformer(summary["grpoformer"]))
    return Section("tests", "Comparisons", tuple(tables), tuple(figures), tuple(notes))


def _grpoformer(metrics: Mapping[str, Any]) -> ReportTable:
    rows = []
    for name in sorted(metrics, key=lambda name: (metrics[name]["mean_rank"], name)):
        one = metrics[name]
        numbers = [f"{one[key]:.4f}" for key in ("median_performance", "mean_performance")]
        beats, ties = (f"{100.0 * one[key]:.1f} %" for key in ("beats_random", "ties_with_random"))
        rows.append((name, beats, ties, *numbers, f"{one['mean_rank']:.2f}"))
    return ReportTable(
        "Metrics of GRPOformer",
        ("agent", "BtR", "ties with random", "MP", "MnP", "MnR"),
        tuple(rows),
        "Share of tasks on which the final score beats random search's (ties apart), median and mean of the final "
        f"score in [0, 1], and mean rank among {', '.join(sorted(metrics))} (arXiv 2509.17105; as we read it).",
    )


def _details(curves: RegretCurves, seed: int) -> Section:
    figures = [
        ReportFigure(
            "profile",
            "Performance profile",
            "For every regret on the horizontal axis the share of episodes (tasks and repetitions) that ended at or "
            "below it, with 95 % stratified bootstrap bands; higher is better.",
            lambda: profile_figure(curves, seed=seed),
        ),
        ReportFigure(
            "datasets",
            "Final regret by dataset",
            "One cell per agent and task, dark being bad, on a logarithmic scale; agents from the best mean down, "
            "tasks from the easiest to the hardest.",
            lambda: task_heatmap(curves),
        ),
    ]
    return Section("details", "By episode and dataset", figures=tuple(figures))


def _spaces(records: RecordTable, curves: RegretCurves, spaces: Sequence[str], split: str, seed: int) -> Section:
    figures = [
        ReportFigure(
            "spaces",
            "Final regret by space",
            "Means over the tasks of each space, dark being bad; the last column counts every space once.",
            lambda: space_heatmap(curves),
        )
    ]
    for space in spaces:

        def draw(space: str = space) -> Figure:
            mine = RecordTable(records.frame[records.frame["space"] == space])
            return regret_figure(mine, split, seed=seed)

        caption = "As above, of this space alone."
        figures.append(ReportFigure(f"regret-{_file(space)}", f"Regret against trials: {space}", caption, draw))
    return Section("spaces", "By space", figures=tuple(figures))


def _trace(records: RecordTable, configurations: ConfigurationTable, curves: RegretCurves) -> Section:
    """Show one run of the best agent, on the task where its final regret is the median."""
    import numpy as np

    final = {agent: values[:, -1] for agent, values in curves.values.items()}
    agent = min(final, key=lambda name: (float(final[name].mean()), name))
    _, space, task = curves.tasks[int(np.argsort(final[agent], kind="stable")[len(curves.tasks) // 2])]
    frame = configurations.frame
    mine = frame[(frame["agent"] == agent) & (frame["task"] == task) & (frame["space"] == space)]
    run, seed = min(map(str, mine["run"].unique())), int(mine["seed"].min())
    figure = ReportFigure(
        "trace",
        f"One run of {agent}",
        f"Task {task}, on which the final regret of {agent}, the best agent, is its median; seed {seed}. On top the "
        "scores and the incumbent, below the hyperparameters that were tried; rings mark trials that became the "
        "incumbent, the grey line is the incumbent's value.",
        lambda: trace_figure(configurations, records, agent, task, seed, run=run, space=space),
    )
    return Section("trace", "A single run", figures=(figure,))


def _label(name: str, agent: Mapping[str, Any]) -> str:
    return name if agent["runs"] == 1 else f"{name} ({agent['runs']} runs)"


def _interval(value: Mapping[str, float | None], digits: int = 4) -> str:
    if value["low"] is None:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
