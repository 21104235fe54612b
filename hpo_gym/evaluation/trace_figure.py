"""The trace of one run: which configurations a method tried, in what order, and what came of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.style import HEAT, literal, show_trials
from hpo_gym.spaces.columns import Column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["trace_figure"]

_KEYS = ("agent", "run", "source", "space", "task", "seed")
_INCUMBENT = "#D55E00"
_GUIDE = "#777777"
# More choices than this get a name on every other row only.
_NAMED_CHOICES = 10
# The worst tenth of the scores shares one colour: one failed trial would take most of the scale.
_WORST_SHARE = 0.1
# Areas of the points of a trial that cost nothing and of a full evaluation, in square points.
_SMALLEST, _LARGEST = 5.0, 22.0
# Share of a hyperparameter's range that is left free for the crosses of inactive trials.
_CROSSES = 0.22


@dataclass(frozen=True)
class _Look:
    """Colour scale of the scores, areas, trials that changed the incumbent, and the incumbent's at every trial."""

    norm: Any
    areas: Any
    improved: Any
    incumbent: Any


def trace_figure(
    configurations: ConfigurationTable,
    records: RecordTable,
    agent: str,
    task: str,
    seed: int,
    *,
    run: str | None = None,
    space: str | None = None,
) -> Figure:
    """Draw one episode: its scores on top, and below one panel per hyperparameter, all against trials.

    Panels follow the order of the space, row by row. Colour is the score of a trial, dark being good. A ring marks a
    trial that became the incumbent, the grey line is the incumbent's value, and a cross at the lower edge marks
    trials in which a hyperparameter was inactive. Trials of less than a full evaluation are smaller points. Constants
    are left out.

    Args:
        configurations: What was tried.
        records: What came of it; holds every trial of the episode.
        agent: Name of the method.
        task: The task, as in the records.
        seed: Number of the repetition.
        run: Name of the training run; needed where the agent has several.
        space: Name of the search space; needed where the task belongs to several.

    Raises:
        UnknownNameError: For an agent, task, run or space that is not in the configurations.
        InvalidSettingError: If that does not name one episode, or the records lack some of its trials.
    """
    import numpy as np
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    episode = _episode(configurations, records, agent, task, seed, run, space)
    trials, scores = episode["trial"].to_numpy(), episode["score"].to_numpy()
    incumbent = episode["incumbent"].to_numpy()
    improved = np.diff(incumbent, prepend=-math.inf) > 0.0
    # The last trial that improved is the incumbent's, at every trial.
    holder = np.maximum.accumulate(np.where(improved, np.arange(len(trials)), 0))
    low, high = float(np.quantile(scores, _WORST_SHARE)), float(scores.max())
    fidelity = episode["fidelity"].to_numpy()
    areas = _SMALLEST + (_LARGEST - _SMALLEST) * fidelity
    cut = low < high and float(scores.min()) < low
    look = _Look(Normalize(low if low < high else high - 1e-6, high), areas, improved, holder)

    panels = [column for column in configurations.hyperparameters if column.kind != "constant"]
    columns = 1 if len(panels) <= 3 else 2 if len(panels) <= 12 else 3
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.9 * columns + 1.3 if columns > 1 else 6.5, 2.5 + 1.25 * rows), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.5, *[1.0] * rows])
    top = figure.add_subplot(grid[0, :])
    points = _draw_scores(top, trials, scores, incumbent, look)
    shown = [top]
    for index, column in enumerate(panels):
        row, place = divmod(index, columns)
        axes = figure.add_subplot(grid[1 + row, place], sharex=top)
        _draw_hyperparameter(axes, column, episode, look, last=index + columns >= len(panels))
        if row == rows - 1:
            axes.set_xlabel("trial", fontsize=9)
        shown.append(axes)
    show_trials(top, int(trials[-1]), False)
    name = f"{agent} ({episode['run'].iloc[0]})" if episode["run"].iloc[0] else agent
    title = f"{name} on {episode['space'].iloc[0]} {task}, seed {seed}: {len(trials)} trials"
    figure.suptitle(literal(title), fontsize=11)
    bar = figure.colorbar(points, ax=shown, extend="min" if cut else "neither", aspect=35, pad=0.02)
    bar.set_label("score of the trial (dark is good)")
    return figure


def _episode(
    configurations: ConfigurationTable,
    records: RecordTable,
    agent: str,
    task: str,
    seed: int,
    run: str | None,
    space: str | None,
) -> pd.DataFrame:
    """Return one episode in order: its configurations with ``score``, ``incumbent`` and ``fidelity``."""
    frame = configurations.frame
    for name, value in (("agent", agent), ("task", task), ("run", run), ("space", space)):
        if value is None:
            continue
        found = frame[frame[name].astype(str) == value]
        if len(found) == 0:
            raise unknown_name(name, value, sorted(set(map(str, frame[name]))), "Choose one that was evaluated.")
        frame = found
    seeds = sorted(set(frame["seed"].tolist()))
    frame = frame[frame["seed"] == seed]
    if len(frame) == 0:
        raise InvalidSettingError(
            f"seed={seed!r}: {agent!r} played task {task} with seeds {seeds}. Choose one of them."
        )
    for name in ("run", "source", "space"):
        several = sorted(set(map(str, frame[name])))
        if len(several) > 1:
            raise InvalidSettingError(
                f"{agent!r}, task {task}, seed {seed} is several episodes: {name} is one of {', '.join(several)}. Name "
                f"the {name}, or give the configurations of one alone."
            )
    mask = records.frame["seed"] == seed
    for name in _KEYS[:-1]:
        mask &= records.frame[name].astype(str) == str(frame[name].iloc[0])
    results = records.frame.loc[mask, ["trial", "score", "incumbent", "fidelity"]]
    joined = frame.merge(results, on="trial", how="left", validate="one_to_one").sort_values("trial")
    missing = joined.loc[joined["score"].isna(), "trial"].tolist()
    if missing:
        raise InvalidSettingError(
            f"The records lack {len(missing)} trial(s) of {agent!r} on task {task}, seed {seed}, the first being "
            f"{missing[0]}. Give the records of the same evaluation."
        )
    return joined.reset_index(drop=True)


def _draw_scores(axes: Any, trials: Any, scores: Any, incumbent: Any, look: _Look) -> Any:
    points = _points(axes, trials, scores, scores, look)
    axes.step(
        trials, incumbent, where="post", color=_INCUMBENT, linewidth=1.4, zorder=2, label="incumbent (best so far)"
    )
    for trial in trials[look.improved]:
        axes.axvline(trial, color=_INCUMBENT, alpha=0.25, linewidth=0.7, zorder=0)
    if look.areas.min() < _LARGEST:
        style = {"c": "none", "s": (_SMALLEST + _LARGEST) / 2, "edgecolors": _GUIDE, "linewidths": 0.8}
        axes.scatter([], [], label="part of a full evaluation", **style)
    axes.set_ylabel("score")
    axes.set_xlabel("trial", fontsize=8, labelpad=1)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.02)
    axes.grid(alpha=0.3, linewidth=0.5)
    # Above the axis, where it hides no trial.
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        ncols=3,
        fontsize=8,
        columnspacing=1.2,
        handletextpad=0.4,
        frameon=False,
        borderaxespad=0.1,
    )
    return points


def _draw_hyperparameter(axes: Any, column: Column, episode: pd.DataFrame, look: _Look, *, last: bool) -> None:
    import numpy as np

    trials, scores = episode["trial"].to_numpy(), episode["score"].to_numpy()
    values = _numbers(column, episode)
    held = values[look.incumbent]
    axes.step(trials, held, where="post", color=_GUIDE, linewidth=1.0, zorder=1, label="_incumbent")
    for trial in trials[look.improved]:
        axes.axvline(trial, color=_INCUMBENT, alpha=0.25, linewidth=0.7, zorder=0)
    active = ~np.isnan(values)
    _points(axes, trials, values, scores, look, active)
    if not active.all():
        rest = trials[~active]
        axes.plot(
            rest,
            np.full(len(rest), 0.04),
            transform=axes.get_xaxis_transform(),
            linestyle="",
            marker="x",
            markersize=3.5,
            color=_GUIDE,
            label="_inactive",
        )
        axes.set_title("\u00d7 inactive", fontsize=7, loc="right", pad=3, color=_GUIDE)
    if column.is_numeric:
        _numeric_axis(axes, column, below=0.08 if active.all() else _CROSSES)
    else:
        step = 1 if len(column.choices) <= _NAMED_CHOICES else 2
        names = [literal(str(choice)) for choice in column.choices]
        axes.set_yticks(range(0, len(names), step), names[::step])
        axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title(literal(column.name), fontsize=9, loc="left", pad=3)
    axes.tick_params(labelsize=7.5, labelbottom=last)
    axes.grid(alpha=0.3, linewidth=0.5)


def _points(axes: Any, trials: Any, values: Any, scores: Any, look: _Look, active: Any = None) -> Any:
    """Draw trials as points coloured by score, those that became the incumbent in a ring."""
    mask = slice(None) if active is None else active
    ringed = look.improved if active is None else look.improved & active
    points = axes.scatter(
        trials[mask],
        values[mask],
        c=scores[mask],
        norm=look.norm,
        cmap=HEAT,
        s=look.areas[mask],
        edgecolors=_GUIDE,
        linewidths=0.4,
        zorder=3,
        label="_trials",
    )
    axes.scatter(
        trials[ringed],
        values[ringed],
        s=62,
        facecolors="none",
        edgecolors=_INCUMBENT,
        linewidths=1.3,
        zorder=4,
        label="becomes the incumbent" if active is None else "_improved",
    )
    return points


def _numbers(column: Column, episode: pd.DataFrame) -> Any:
    """Return a hyperparameter's values as numbers, choices by position, NaN where inactive."""
    import numpy as np

    if column.is_numeric:
        return episode[column.name].to_numpy(dtype=float)
    position = {str(choice): float(index) for index, choice in enumerate(column.choices)}
    present = episode[column.name].notna().to_numpy()
    values = np.full(len(episode), math.nan)
    values[present] = [position[str(value)] for value in episode[column.name][present]]
    return values


def _numeric_axis(axes: Any, column: Column, *, below: float) -> None:
    """Scale an axis to a hyperparameter's range, with that share of it left free below, and a little above."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    low, high = column.lower, column.upper
    if column.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
        # Less than two decades may hold a single power of ten, or none.
        if high / low < 100.0:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(low / (high / low) ** below, high * (high / low) ** 0.08)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=column.kind == "integer"))
        axes.set_ylim(low - below * (high - low), high + 0.08 * (high - low))
