"""Figures of the ablation study of GRPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.grpo_ablation_study_results import SpaceAblations
from agents.grpo_ablations import BASE, CHURN, DATASETS
from hpo_gym.evaluation import bootstrap_interval
from hpo_gym.evaluation.style import agent_styles, plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


__all__ = ["ablation_figure"]

_TRIALS = (5, 10, 30)


def ablation_figure(space: SpaceAblations, training: pd.DataFrame, datasets: int) -> Figure:
    """Draw regret against the number of training datasets, and returns in training by weight of churn regularisation.

    Args:
        space: What was played.
        training: What its trainings logged.
        datasets: How many training datasets the base has.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = {**DATASETS, BASE: datasets}
    there = [variant for variant in counts if variant in space.values]
    styles = agent_styles([f"{trial} evaluations" for trial in _TRIALS])
    for trial in _TRIALS:
        style, label = styles[f"{trial} evaluations"], f"{trial} evaluations"
        values = [space.of_seeds(variant, trial) for variant in there]
        bounds = np.array([[edge[0] for edge in bootstrap_interval(each[:, None])] for each in values]).T
        means = np.array([each.mean() for each in values])
        left.errorbar(
            [counts[variant] for variant in there],
            means,
            yerr=np.abs(bounds - means),
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markersize=5,
            capsize=3,
            label=label,
        )
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xticks(*_ticks([counts[variant] for variant in there]))
    left.xaxis.set_minor_locator(_no_ticks())
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.set_xlabel("training datasets")
    left.set_ylabel("normalised regret on held-out datasets")
    left.set_title("data efficiency, 95 % interval over trainings", fontsize=10)
    names = {variant: f"weight {weight:g}" for variant, weight in CHURN.items() if variant in space.values}
    looks = agent_styles(names.values())
    for variant, name in names.items():
        mine = training[training["variant"] == variant]
        steps, returns = mine["steps"].iloc[0], np.stack(mine["returns"].tolist())
        low, high = bootstrap_interval(returns)
        look = looks[name]
        right.plot(
            steps,
            returns.mean(0),
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markersize=4,
            markevery=(look.index, len(names)),
            label=name,
        )
        right.fill_between(steps, low, high, color=look.colour, alpha=0.1, linewidth=0)
    right.set_xlabel("environment steps")
    right.set_ylabel("return of an episode in training")
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.set_title("policy churn regularisation, 95 % band over trainings", fontsize=10)
    for axes in (left, right):
        axes.grid(which="major", alpha=0.35, linewidth=0.6)
        axes.tick_params(which="both", labelsize=8)
        axes.legend(frameon=False, fontsize=9, handlelength=3.2)
    trainings = plural(space.values[BASE].shape[1], "training")
    figure.suptitle(f"{space.space}: {trainings} of each variant, {plural(len(space.tasks), 'dataset')}", fontsize=11)
    return figure


def _ticks(counts: Sequence[int]) -> tuple[list[int], list[str]]:
    """Return ticks and their labels; of two that are close, the second names both."""
    ticks, labels = sorted(counts), [str(count) for count in sorted(counts)]
    for place in range(1, len(ticks)):
        if ticks[place] < 1.2 * ticks[place - 1]:
            labels[place - 1 : place + 1] = ["", f"{labels[place - 1]}, {labels[place]}"]
    return ticks, labels


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
