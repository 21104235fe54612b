"""The performance profile: on which share of the tasks an agent gets below any regret one may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.metrics import LEAST_REGRET
from hpo_gym.evaluation.style import (
    CROWD,
    agent_styles,
    emphasised_agents,
    extra_width,
    literal,
    plural,
    spaces_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["profile_figure"]

_THRESHOLDS = 161


def profile_figure(
    curves: RegretCurves, trial: int | None = None, *, seed: int = 0, emphasised: Sequence[str] | None = None
) -> Figure:
    """Draw for every agent the share of episodes whose regret is at most tau, against tau, with 95 % bands.

    Performance profiles of Dolan and More (2002) in the form of Agarwal et al. (2021), "Deep Reinforcement Learning
    at the Edge of the Statistical Precipice", section 4.2: score distributions with stratified bootstrap bands.

    Args:
        curves: What :func:`~hpo_gym.evaluation.regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.
        seed: Root of the resampling stream.
        emphasised: Agents with a thick line and a band; ``None`` means all of up to
            :data:`~hpo_gym.evaluation.style.CROWD` agents, and of more the three with the lowest mean regret.

    Raises:
        InvalidSettingError: For a trial beyond the budget, or more agents than can be told apart.
        UnknownNameError: For an emphasised agent that takes no part.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from hpo_gym.evaluation.profiles import performance_profile

    shown_trial = curves.check_trial(trial)
    styles = agent_styles(curves.values)
    final = {agent: float(values[:, shown_trial - 1].mean()) for agent, values in curves.values.items()}
    shown = emphasised_agents(final, emphasised)
    # Left of the least regret but 0 nothing changes; episodes that reached 0 stand at the left edge.
    regrets = np.concatenate([episodes[:, :, shown_trial - 1].ravel() for episodes in curves.episodes.values()])
    left = float(min(regrets[regrets > LEAST_REGRET], default=2.0 * LEAST_REGRET)) / 2.0
    # Right of the greatest regret everybody is at 100 %.
    right = max(min(1.0, float(regrets.max()) * 1.5), 10.0 * left)
    thresholds = np.geomspace(left, right, _THRESHOLDS)
    profile = performance_profile(curves, shown_trial, thresholds, seed=seed)
    banded = any(np.isfinite(profile.low[agent]).all() for agent in shown)
    width, height = (8.0, 5.0) if len(final) > CROWD else (7.0, 4.4)
    figure = Figure(figsize=(width + extra_width(final, 10), height), layout="constrained")
    axes = figure.add_subplot()
    # The legend's order is that of the shares of good results, as far as one number can say it.
    for agent in sorted(final, key=lambda agent: (final[agent], agent)):
        style, stands_out = styles[agent], agent in shown
        share = profile.share[agent]
        every = max(1, len(share) // 8)
        axes.plot(
            thresholds,
            share,
            drawstyle="steps-post",
            color=style.colour,
            linestyle=style.line,
            linewidth=1.8 if stands_out else 0.9,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=5 if stands_out else 4,
            markevery=(every * (style.index % 5) // 5, every),
            zorder=3 if stands_out else 2,
            label=literal(agent),
        )
        if stands_out:
            axes.fill_between(
                thresholds,
                profile.low[agent],
                profile.high[agent],
                step="post",
                color=style.colour,
                alpha=0.1,
                linewidth=0,
            )
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(0.0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(which="major", alpha=0.35, linewidth=0.6)
    axes.set_xlabel("normalised regret \u03c4")
    bands = "95 % bands" if len(shown) == len(final) else "95 % bands of thick lines"
    meaning = "share of episodes with regret \u2264 \u03c4"
    # One repetition per task leaves nothing to resample.
    axes.set_ylabel(f"{meaning}\n({bands})" if banded else meaning)
    counts = f"{plural(len(curves.tasks), 'task')} \u00d7 {plural(curves.seeds, 'seed')}"
    axes.set_title(f"{spaces_title(curves)}, trial {shown_trial}: {counts}", fontsize=11)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, handlelength=3.5)
    return figure
