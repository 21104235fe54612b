"""Who is good where: final regret by task and by search space as heat maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import HEAT, extra_width, literal, plural

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = ["space_heatmap", "task_heatmap"]

# Regrets below a ten-thousandth of a task's range have one colour: what differs there matters to nobody, and
# would take most of the scale.
_LEAST_COLOUR = 1e-4
# Tasks beside each other whose names can be read in print; more go into further rows of panels.
_TASKS_PER_PANEL = 45
_WHITE, _BLACK = "#ffffff", "#000000"


def task_heatmap(curves: RegretCurves, trial: int | None = None) -> Figure:
    """Draw the regret of every agent on every task as colour.

    Agents are sorted by their mean over tasks, the best on top; tasks by their mean over agents, the easiest at the
    left. More than 45 tasks are continued in panels below.

    Args:
        curves: What :func:`~hpo_gym.evaluation.regret_curves` returned, ``N`` tasks.
        trial: When; ``None`` means when the budget is spent.

    Raises:
        InvalidSettingError: For a trial beyond the budget.
    """
    import numpy as np
    from matplotlib.figure import Figure

    shown = curves.check_trial(trial)
    agents, values = _sorted_agents({agent: curves.values[agent][:, shown - 1] for agent in curves.values})
    difficulty = values.mean(axis=0)
    order = sorted(range(len(curves.tasks)), key=lambda index: (difficulty[index], curves.tasks[index]))
    names = _task_names(curves)
    panels = math.ceil(len(order) / _TASKS_PER_PANEL)
    width = math.ceil(len(order) / panels)
    longest = max(len(names[index]) for index in order)
    # Inches: a row of colours, and the names of the tasks, which stand upright, below every panel.
    row, foot = 0.19, 0.25 + 0.062 * longest
    height = panels * (row * len(agents) + foot) + 1.1
    wide = min(10.0, max(5.0, 2.6 + 0.21 * width)) + extra_width(agents, 8)
    figure = Figure(figsize=(wide, height), layout="constrained")
    grid = figure.subplots(panels, 1, squeeze=False)[:, 0]
    norm, extend = _colours(values)
    for panel, axes in enumerate(grid):
        chosen = order[panel * width : (panel + 1) * width]
        mesh = axes.pcolormesh(
            np.maximum(values[:, chosen], norm.vmin), norm=norm, cmap=HEAT, edgecolors=_WHITE, linewidth=0.3
        )
        # As wide as the others, so that the colours of a last, shorter panel are as large.
        axes.set_xlim(0, width)
        axes.set_xticks(np.arange(len(chosen)) + 0.5, [names[index] for index in chosen], rotation=90, fontsize=7)
        _agent_rows(axes, agents)
    grid[-1].set_xlabel(f"task ({_what_is_named(curves)}easiest first)")
    figure.suptitle(f"Normalised regret at trial {shown} on {plural(len(order), 'task')}", fontsize=11)
    bar = figure.colorbar(mesh, ax=list(grid), extend=extend, location="bottom", aspect=45, pad=0.02, shrink=0.7)
    _label_colours(bar, "normalised regret (light is good)")
    return figure


def space_heatmap(curves: RegretCurves, trial: int | None = None) -> Figure:
    """Draw the mean regret of every agent on every search space, as colour and as number.

    The last column is the mean over spaces, each space counting once; agents are sorted by it, the best on top.

    Args:
        curves: What :func:`~hpo_gym.evaluation.regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.

    Raises:
        InvalidSettingError: For a trial beyond the budget.
    """
    import numpy as np
    from matplotlib.figure import Figure

    shown = curves.check_trial(trial)
    spaces = sorted({(source, space) for source, space, _ in curves.tasks})
    sources = {source for source, _ in spaces}
    of_space = [np.array([task[:2] == space for task in curves.tasks]) for space in spaces]
    agents, values = _sorted_agents(
        {
            agent: np.array([column[:, shown - 1][mask].mean() for mask in of_space])
            for agent, column in curves.values.items()
        }
    )
    names = [
        f"{space if len(sources) == 1 else f'{source}:{space}'}\n({plural(int(mask.sum()), 'task')})"
        for (source, space), mask in zip(spaces, of_space, strict=True)
    ]
    table = np.column_stack([values, values.mean(axis=1)])
    # A narrow gap sets the mean apart from what it is the mean of.
    left = np.append(np.arange(len(spaces), dtype=float), len(spaces) + 0.15)
    longest = max(len(line) for name in names for line in name.split("\n"))
    wide = max(4.6, 2.4 + 0.72 * len(left)) + extra_width(agents, 8)
    size = (wide, 1.9 + 0.26 * len(agents) + 0.055 * longest)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    norm, extend = _colours(table)
    for column, start in enumerate(left):
        mesh = axes.pcolormesh(
            [start, start + 1.0],
            np.arange(len(agents) + 1),
            np.maximum(table[:, [column]], norm.vmin),
            norm=norm,
            cmap=HEAT,
            edgecolors=_WHITE,
            linewidth=0.6,
        )
        for index in range(len(agents)):
            value = float(table[index, column])
            colour = mesh.cmap(norm(max(value, norm.vmin)))
            axes.text(
                start + 0.5,
                index + 0.5,
                _short(value),
                ha="center",
                va="center",
                fontsize=8,
                color=_BLACK if _luminance(colour) > 0.18 else _WHITE,
            )
    axes.set_xlim(0, left[-1] + 1.0)
    axes.set_xticks(left + 0.5, [*map(literal, names), "mean of\nspaces"], rotation=35, ha="right", fontsize=8)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
    _agent_rows(axes, agents)
    axes.set_title(f"Mean normalised regret at trial {shown}", fontsize=11)
    bar = figure.colorbar(mesh, ax=axes, extend=extend, pad=0.02)
    _label_colours(bar, "normalised regret\n(light is good)")
    return figure


def _sorted_agents(by_agent: dict[str, np.ndarray[Any, Any]]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the agents by their mean, the least first, and their values: float64 ``[A, K]``."""
    import numpy as np

    agents = sorted(by_agent, key=lambda agent: (float(by_agent[agent].mean()), agent))
    return agents, np.stack([by_agent[agent] for agent in agents])


def _colours(values: np.ndarray[Any, Any]) -> tuple[Any, str]:
    """Return a logarithmic scale of colours for some regrets, and at which end it is cut off."""
    from matplotlib.colors import LogNorm

    low = max(_LEAST_COLOUR, float(values.min()))
    high = max(float(values.max()), 10.0 * low if float(values.max()) <= _LEAST_COLOUR else 1.5 * low)
    return LogNorm(low, high), "min" if float(values.min()) < low else "neither"


def _label_colours(bar: Any, text: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = bar.vmin, bar.vmax
    if high / low < 300.0:
        # Few powers of ten, or none, lie on a short scale.
        bar.locator = LogLocator(subs=(1.0, 2.0, 5.0))
        bar.formatter = "{x:g}"
        bar.minorticks_off()
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.update_ticks()
    bar.set_label(text)


def _agent_rows(axes: Any, agents: list[str]) -> None:
    import numpy as np

    axes.set_yticks(np.arange(len(agents)) + 0.5, [literal(agent) for agent in agents], fontsize=8)
    axes.set_ylim(len(agents), 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _task_names(curves: RegretCurves) -> list[str]:
    """Return what tells tasks apart: the id, and before it the space and the kind where there are several."""
    spaces = {(source, space) for source, space, _ in curves.tasks}
    kinds = {task.partition(":")[0] for *_, task in curves.tasks}
    names = []
    for source, space, task in curves.tasks:
        name = task.partition(":")[2] or task if len(kinds) == 1 else task
        if len({each for each, _ in spaces}) > 1:
            name = f"{source} {space} {name}"
        elif len(spaces) > 1:
            name = f"{space} {name}"
        names.append(literal(name))
    return names


def _what_is_named(curves: RegretCurves) -> str:
    """Return which kind of id the names of the tasks are, where all have one kind."""
    kinds = {task.partition(":")[0] for *_, task in curves.tasks if ":" in task}
    return f"{kinds.pop()} id, " if len(kinds) == 1 else ""


def _short(value: float) -> str:
    """Return a regret with three digits at most: ``0.123``, ``0.0012``, ``3e-05``."""
    if value == 0.0:
        return "0"
    return f"{value:.3f}" if value >= 0.00995 else f"{value:.4f}" if value >= 1e-3 else f"{value:.0e}"


def _luminance(colour: tuple[float, float, float, float]) -> float:
    """Return the relative luminance of a colour (WCAG 2.1): black and white read equally well on 0.18."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
