"""The learning curves of the study of exploration policies, one figure for each space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.exploration_study_results import Study, mean_series
from hpo_gym.evaluation import bootstrap_interval
from hpo_gym.evaluation.style import agent_styles, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["learning_figure"]


def learning_figure(study: Study, space: str) -> Figure:
    """Draw regret against environment steps, means over seeds with 95 % intervals over seeds.

    Left: the policy without exploration on validation datasets, which chooses the policy that is kept. Right: what
    the exploring policy reaches on training datasets.

    Args:
        study: The results.
        space: Which space.
    """
    import numpy as np
    from matplotlib.figure import Figure

    styles = agent_styles(study.facts["policies"])
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    titles = {"validation": "validation datasets, no exploration", "training": "training datasets, exploring"}
    for axes, (series, title) in zip(panels, titles.items(), strict=True):
        for policy in study.policies(space):
            steps, values = mean_series(study, space, policy, series)
            style, mean = styles[policy], values.mean(axis=0)
            look = {"color": style.colour, "linestyle": style.line}
            every = (style.index % max(1, len(steps) // 5), max(1, len(steps) // 5))
            axes.plot(steps, mean, **look, marker=style.marker, markersize=4, markevery=every, label=policy)
            low, high = bootstrap_interval(values, resamples=2000)
            if not np.isnan(low).any():
                axes.fill_between(steps, low, high, color=style.colour, alpha=0.1, linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("environment steps")
        axes.set_yscale("log")
        axes.grid(which="both", alpha=0.3, linewidth=0.5)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(which="both", labelsize=8)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].set_ylabel(f"normalised regret after {study.facts['trials'][-1]} evaluations", fontsize=9)
    counts = {len(mean_series(study, space, policy, "validation")[1]) for policy in study.policies(space)}
    seeds = f"{'up to ' if len(counts) > 1 else ''}{plural(max(counts), 'training seed')}"
    figure.suptitle(f"{space}: mean of {seeds}, 95 % interval over seeds", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.5, fontsize=9)
    return figure
