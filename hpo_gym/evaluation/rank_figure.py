"""Mean rank against trials: who is ahead when, whatever the size of the differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import (
    LOG_BUDGET,
    agent_styles,
    extra_width,
    label_line_ends,
    marker_trials,
    plural,
    show_trials,
    spaces_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["rank_figure"]


def rank_figure(curves: RegretCurves, *, log_trials: bool | None = None) -> Figure:
    """Draw every agent's mean rank over tasks against trials; rank 1, the lowest regret, is on top.

    Args:
        curves: What :func:`~hpo_gym.evaluation.regret_curves` returned, ``N`` tasks and ``T`` trials.
        log_trials: Whether the axis of trials is logarithmic; ``None`` means from a budget of 50 on.

    Raises:
        InvalidSettingError: If there are fewer than two agents, or more than can be told apart.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from hpo_gym.evaluation.metrics import mean_ranks

    styles = agent_styles(curves.values)
    ranks = mean_ranks(curves)
    count, budget = len(ranks), curves.budget
    log = budget >= LOG_BUDGET if log_trials is None else log_trials
    figure = Figure(figsize=(7.5 + extra_width(ranks, 9), max(3.6, 0.24 * count + 1.2)), layout="constrained")
    axes = figure.add_subplot()
    trials = np.arange(1, budget + 1)
    for agent in sorted(ranks):
        style = styles[agent]
        axes.plot(
            trials,
            ranks[agent],
            color=style.colour,
            linestyle=style.line,
            linewidth=1.5,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=5,
            markevery=marker_trials(style, budget, log),
            label=agent,
        )
    show_trials(axes, budget, log)
    axes.margins(x=0.02)
    values = np.concatenate([ranks[agent] for agent in ranks])
    margin = 0.04 * max(float(np.ptp(values)), 0.5)
    axes.set_ylim(float(values.max()) + margin, float(values.min()) - margin)
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.grid(which="major", alpha=0.35, linewidth=0.6)
    # With partial evaluations it is the budget that has been spent; otherwise the two are the same.
    axes.set_xlabel("trial (full evaluations spent)")
    axes.set_ylabel(f"mean rank of {count} agents (1 is best)")
    axes.set_title(f"{spaces_title(curves)}: ranks on {plural(len(curves.tasks), 'task')}", fontsize=11)
    label_line_ends(axes, {agent: float(ranks[agent][-1]) for agent in sorted(ranks)}, styles, budget)
    return figure
