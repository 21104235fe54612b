"""Regret against the number of training datasets, space by space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.transfer_series import PORTFOLIO, RANDOM, SpaceSeries
from hpo_gym.evaluation.metrics import LEAST_REGRET
from hpo_gym.evaluation.style import AgentStyle, agent_styles, literal, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["transfer_figure"]

_COLUMNS = 2


def transfer_figure(spaces: Sequence[SpaceSeries], trial: int) -> Figure:
    """Draw a panel for each space: a line with a band per agent, one of the portfolio, and levels of references.

    Args:
        spaces: At least one.
        trial: When regret was measured, for the label.
    """
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(spaces))
    lines = -(-len(spaces) // columns)
    figure = Figure(figsize=(0.6 + 4.1 * columns, 1.0 + 3.2 * lines), layout="constrained")
    styles = agent_styles({series.agent for space in spaces for series in space.series})
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, space in zip(panels, spaces, strict=False):
        _draw(axes, space, styles)
    for axes in panels[len(spaces) :]:
        axes.set_visible(False)
    figure.supxlabel("training datasets", fontsize=11)
    figure.supylabel(f"normalised regret after {plural(trial, 'evaluation')}", fontsize=11)
    handles: dict[str, Any] = {}
    for axes in panels[: len(spaces)]:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False, handlelength=3.2
    )
    return figure


def _draw(axes: Any, space: SpaceSeries, styles: dict[str, AgentStyle]) -> None:
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    for agent in sorted({series.agent for series in space.series if series.datasets}):
        mine = sorted((each for each in space.series if each.agent == agent), key=lambda each: each.datasets)
        style, counts = styles[agent], [each.datasets for each in mine]
        axes.plot(
            counts,
            [max(each.mean, LEAST_REGRET) for each in mine],
            color=style.colour,
            linestyle=style.line,
            linewidth=1.8,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=5,
            zorder=3,
            label=literal(f"{agent} of the same datasets" if agent == PORTFOLIO else agent),
        )
        bands = np.maximum([each.band() for each in mine], LEAST_REGRET)
        axes.fill_between(counts, *bands.T, color=style.colour, alpha=0.12, linewidth=0)
    # Told apart in grey, too, and from every line with markers.
    levels = {RANDOM: (space.random, "-"), f"{PORTFOLIO} of all datasets": (space.portfolio(space.training), ":")}
    for label, (level, line) in levels.items():
        if level is not None:
            colour = styles[level.agent].colour
            axes.axhline(max(level.mean, LEAST_REGRET), color=colour, linestyle=line, linewidth=1.1, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    counts = sorted({series.datasets for series in space.series if series.datasets})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    # Few powers of ten, or none, lie on a short axis.
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 30.0 else (1.0, 2.0, 5.0))
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(literal(f"{space.name} ({plural(space.tests, 'test dataset')})"), fontsize=11)
    axes.grid(which="major", alpha=0.35, linewidth=0.6)
