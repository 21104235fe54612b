"""Regret against trials: a figure for the screen, for print and for the colour-blind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.statistics import bootstrap_interval
from hpo_gym.sources.temporaries import discard, temporary_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["regret_figure", "save_figure"]

# Okabe and Ito (2008), "Color Universal Design"; yellow is left out, too pale on white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_AGENTS = len(_COLOURS) * len(_LINES)
_LEAST_REGRET = 1e-6
_RESAMPLES = 2000


def regret_figure(records: RecordTable, split: str, *, seed: int = 0) -> Figure:
    """Draw every agent's mean normalised regret against trials, with its 95 % interval over tasks.

    Args:
        records: The trials.
        split: The split they come from, for the title.
        seed: Root of the resampling stream.

    Raises:
        InvalidSettingError: If the records cannot be compared, or hold more agents than can be told apart.
    """
    import numpy as np
    from matplotlib.figure import Figure

    curves = regret_curves(records)
    if len(curves.values) > _MOST_AGENTS:
        raise InvalidSettingError(
            f"{len(curves.values)} agents cannot be told apart in one figure; the most is {_MOST_AGENTS}. Draw some "
            "of them at a time."
        )
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    trials = np.arange(1, curves.budget + 1)
    # Best last, so that the legend's order is that of the lines' right ends, from top to bottom.
    final = {agent: float(values[:, -1].mean()) for agent, values in curves.values.items()}
    styles = {agent: index for index, agent in enumerate(sorted(curves.values))}
    floor = _floor(curves)
    for agent in sorted(final, key=lambda agent: (-final[agent], agent)):
        values, index = curves.values[agent], styles[agent]
        mean = values.mean(axis=0)
        low, high = bootstrap_interval(values, seed=seed, resamples=_RESAMPLES)
        colour, line = _COLOURS[index % len(_COLOURS)], _LINES[index % len(_LINES)]
        runs = curves.runs[agent]
        axes.plot(
            trials,
            np.maximum(mean, floor),
            color=colour,
            linestyle=line,
            linewidth=1.8,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            # Markers of different agents at different trials, so that none hides another.
            markevery=(index % 5, max(5, curves.budget // 8)),
            label=agent if runs == 1 else f"{agent} ({runs} runs)",
        )
        low, high = np.maximum(low, floor), np.maximum(high, floor)
        axes.fill_between(trials, low, high, color=colour, alpha=0.07, linewidth=0)
        # Where bands overlap their colours mix; their edges stay what they are.
        for edge in (low, high):
            axes.plot(trials, edge, color=colour, linestyle=line, linewidth=0.7, alpha=0.6)
    _label_axes(axes, records, curves, split, floor)
    return figure


def _floor(curves: RegretCurves) -> float:
    """Return the least regret that a log axis shows: 0 itself has no place on it."""
    import numpy as np

    means = np.concatenate([values.mean(axis=0) for values in curves.values.values()])
    positive = means[means > _LEAST_REGRET]
    if len(positive) == len(means) or len(positive) == 0:
        return _LEAST_REGRET
    return float(max(_LEAST_REGRET, positive.min() / 3.0))


def _label_axes(axes: Any, records: RecordTable, curves: RegretCurves, split: str, floor: float) -> None:
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

    spaces = ", ".join(sorted({space for _, space, _ in curves.tasks}))
    seeds = f"{curves.seeds} seed{'s' if curves.seeds > 1 else ''}"
    tasks = f"{len(curves.tasks)} task{'s' if len(curves.tasks) > 1 else ''}"
    part = "all splits" if split == "all" else f"{split} split"
    axes.set_title(f"{spaces}, {part}: {tasks} \u00d7 {seeds}", fontsize=11)
    partial = bool((records.frame["spent"] < records.frame["trial"] - 1e-3).any())
    axes.set_xlabel("budget spent (full evaluations)" if partial else "trial")
    shown = "mean over tasks, 95 % interval" if len(curves.tasks) > 1 else "one task"
    axes.set_ylabel(f"normalised regret\n({shown})")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low < floor:
        axes.set_ylim(bottom=floor * 0.9)
    if any(float(values.mean(axis=0).min()) < floor for values in curves.values.values()):
        note = f"regrets below {floor:.0e} are drawn here"
        axes.annotate(note, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=8, color="#444444")
    if high / max(low, floor) < 30.0:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.yaxis.set_major_formatter(LogFormatterSciNotation())
    axes.yaxis.set_minor_formatter(NullFormatter())
    # The first trial is the shared start: it gets its tick in place of 0.
    usual = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(1, curves.budget)
    ticks = [tick for tick in usual if curves.budget / 20 < tick <= curves.budget]
    axes.set_xticks([1, *ticks])
    axes.margins(x=0.02)
    axes.grid(which="major", alpha=0.35, linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, handlelength=3.5)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` with the suffixes ``.png`` (150 dots per inch) and ``.svg``; return both paths.

    A reader sees whole files or none. Text of the SVG stays text.
    """
    from matplotlib import rc_context

    stem = Path(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):
        target = stem.with_name(f"{stem.name}.{kind}")
        temporary = temporary_path(target)
        try:
            with rc_context({"svg.fonttype": "none", "svg.hashsalt": "hpo_gym"}):
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
            os.replace(temporary, target)
        finally:
            discard(temporary)
        written.append(target)
    return written[0], written[1]
