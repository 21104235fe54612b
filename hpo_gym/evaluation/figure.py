"""Regret against trials: a figure for the screen, for print and for the colour-blind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.metrics import LEAST_REGRET
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.statistics import bootstrap_interval
from hpo_gym.evaluation.style import (
    CROWD,
    LOG_BUDGET,
    agent_styles,
    emphasised_agents,
    extra_width,
    literal,
    marker_trials,
    plural,
    show_trials,
    spaces_title,
)
from hpo_gym.sources.temporaries import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["regret_figure", "save_figure"]

_RESAMPLES = 2000
# At how many trials bands are computed, at most.
_BANDED = 50


def regret_figure(
    records: RecordTable,
    split: str,
    *,
    seed: int = 0,
    emphasised: Sequence[str] | None = None,
    log_trials: bool | None = None,
) -> Figure:
    """Draw every agent's mean normalised regret against trials, with its 95 % interval over tasks.

    Args:
        records: The trials.
        split: The split they come from, for the title.
        seed: Root of the resampling stream.
        emphasised: Agents that stand out: a thick line and a band. ``None`` means all of up to
            :data:`~hpo_gym.evaluation.style.CROWD` agents, and of more the three with the lowest final regret.
        log_trials: Whether the axis of trials is logarithmic; ``None`` means from a budget of 50 on.

    Raises:
        InvalidSettingError: If the records cannot be compared, or hold more agents than can be told apart.
        UnknownNameError: For an emphasised agent that takes no part.
    """
    import numpy as np
    from matplotlib.figure import Figure

    curves = regret_curves(records)
    styles = agent_styles(curves.values)
    final = {agent: float(values[:, -1].mean()) for agent, values in curves.values.items()}
    shown = emphasised_agents(final, emphasised)
    crowded = len(final) > CROWD
    log = curves.budget >= LOG_BUDGET if log_trials is None else log_trials
    width, height = (8.0, 5.0) if crowded else (7.0, 4.4)
    figure = Figure(figsize=(width + extra_width(final, 10), height), layout="constrained")
    axes = figure.add_subplot()
    trials = np.arange(1, curves.budget + 1)
    # Between trials so close a band is a straight line; thousands of bootstraps would draw the same.
    chosen = trials if curves.budget <= _BANDED else np.geomspace(1, curves.budget, _BANDED)
    banded = np.unique(np.round(chosen).astype(int))
    floor = _floor(curves)
    # Best last, so that the legend's order is that of the lines' right ends, from top to bottom.
    for agent in sorted(final, key=lambda agent: (-final[agent], agent)):
        values, style = curves.values[agent], styles[agent]
        runs, stands_out = curves.runs[agent], agent in shown
        axes.plot(
            trials,
            np.maximum(values.mean(axis=0), floor),
            color=style.colour,
            linestyle=style.line,
            linewidth=1.8 if stands_out else 0.9,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=5 if stands_out else 4,
            markevery=marker_trials(style, curves.budget, log),
            zorder=3 if stands_out else 2,
            label=literal(agent if runs == 1 else f"{agent} ({runs} runs)"),
        )
        if not stands_out:
            continue
        low, high = bootstrap_interval(values[:, banded - 1], seed=seed, resamples=_RESAMPLES)
        low, high = np.maximum(low, floor), np.maximum(high, floor)
        axes.fill_between(banded, low, high, color=style.colour, alpha=0.07, linewidth=0)
        # Where bands overlap their colours mix; their edges stay what they are.
        for edge in (low, high):
            axes.plot(banded, edge, color=style.colour, linestyle=style.line, linewidth=0.7, alpha=0.6)
    _label_axes(axes, records, curves, split, floor, every=len(shown) == len(final))
    show_trials(axes, curves.budget, log)
    return figure


def _floor(curves: RegretCurves) -> float:
    """Return the least regret that a log axis shows: 0 itself has no place on it."""
    import numpy as np

    means = np.concatenate([values.mean(axis=0) for values in curves.values.values()])
    positive = means[means > LEAST_REGRET]
    if len(positive) == len(means) or len(positive) == 0:
        return LEAST_REGRET
    return float(max(LEAST_REGRET, positive.min() / 3.0))


def _label_axes(
    axes: Any, records: RecordTable, curves: RegretCurves, split: str, floor: float, *, every: bool
) -> None:
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    part = "all splits" if split == "all" else f"{split} split"
    counts = f"{plural(len(curves.tasks), 'task')} \u00d7 {plural(curves.seeds, 'seed')}"
    axes.set_title(f"{spaces_title(curves)}, {part}: {counts}", fontsize=11)
    partial = bool((records.frame["spent"] < records.frame["trial"] - 1e-3).any())
    axes.set_xlabel("budget spent (full evaluations)" if partial else "trial")
    interval = "95 % interval" if every else "95 % interval of thick lines"
    shown = f"mean over tasks, {interval}" if len(curves.tasks) > 1 else "one task"
    axes.set_ylabel(f"normalised regret\n({shown})")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low < floor:
        axes.set_ylim(bottom=floor * 0.9)
    if any(float(values.mean(axis=0).min()) < floor for values in curves.values.values()):
        note = f"regrets below {floor:.0e} are drawn here"
        axes.annotate(note, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=8, color="#444444")
    decades = high / max(low, floor)
    if decades < 300.0:
        # Few powers of ten, or none, lie on a short axis.
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 30.0 else (1.0, 2.0, 5.0))
        )
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.yaxis.set_major_formatter(LogFormatterSciNotation())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.02)
    axes.grid(which="major", alpha=0.35, linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, handlelength=3.5)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` with the suffixes ``.png`` (150 dots per inch) and ``.svg``; return both paths.

    A reader sees whole files or none. Text of the SVG stays text.
    """
    from matplotlib import rc_context

    stem = Path(path)
    written = []
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):
        target = stem.with_name(f"{stem.name}.{kind}")
        with replacing(target) as temporary, rc_context({"svg.fonttype": "none", "svg.hashsalt": "hpo_gym"}):
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
        written.append(target)
    return written[0], written[1]
