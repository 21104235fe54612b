"""Regret against evaluations, a panel for each search space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hpo_gym.evaluation.metrics import LEAST_REGRET
from hpo_gym.evaluation.style import agent_styles, literal, marker_trials, plural

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = ["regret_panels"]

_COLUMNS = 3


class Panel(Protocol):
    """What a panel shows."""

    @property
    def space(self) -> str:
        """The search space."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The datasets."""

    @property
    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Regret, ``[N, T]`` by agent."""


def regret_panels(spaces: Sequence[Panel], agents: Sequence[str]) -> Figure:
    """Draw the mean regret over datasets of some agents, both axes logarithmic.

    Args:
        spaces: At least one.
        agents: Names; where a space lacks one, its panel does.
    """
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(spaces))
    lines = -(-len(spaces) // columns)
    figure = Figure(figsize=(0.6 + 3.9 * columns, 0.9 + 3.1 * lines), layout="constrained")
    styles = agent_styles(agents)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for axes, space in zip(panels, spaces, strict=False):
        for agent in agents:
            if agent not in space.values:
                continue
            mean = space.values[agent].mean(0).clip(min=LEAST_REGRET)
            style = styles[agent]
            (line,) = axes.plot(
                range(1, len(mean) + 1),
                mean,
                color=style.colour,
                linestyle=style.line,
                linewidth=2.4 if agent == agents[0] else 1.4,
                marker=style.marker,
                markerfacecolor=style.face,
                markersize=4,
                markevery=[trial - 1 for trial in marker_trials(style, len(mean), log=True)],
                label=literal(agent),
            )
            handles[agent] = line
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
        axes.set_title(literal(f"{space.space} ({plural(len(space.tasks), 'dataset')})"), fontsize=11)
        axes.grid(which="major", alpha=0.35, linewidth=0.6)
    for axes in panels[len(spaces) :]:
        axes.set_visible(False)
    figure.supxlabel("evaluations", fontsize=11)
    figure.supylabel("normalised regret, mean over held-out datasets", fontsize=11)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False, handlelength=3.2
    )
    return figure
