"""The critical-difference diagram of Demsar (2006), "Statistical Comparisons of Classifiers over Multiple Data Sets".

``scikit_posthocs.critical_difference_diagram`` draws one, too. It is not used: importing it loads pyplot and
seaborn, it writes neither the number of tasks nor the Friedman test, and its labels leave the figure where
names are long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import literal, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpo_gym.evaluation.significance import FriedmanResult

__all__ = ["critical_difference_figure", "draw_critical_difference"]

_INK, _BAR = "#000000", "#0072B2"
# Heights in inches: a line of text, a bar of a clique, the axis with what stands above it.
_LINE, _CLIQUE, _HEAD = 0.23, 0.13, 1.05


def critical_difference_figure(curves: RegretCurves, trial: int | None = None, *, alpha: float = 0.05) -> Figure:
    """Draw the mean ranks at one trial, with a bar under agents that no test tells apart.

    Args:
        curves: What :func:`~hpo_gym.evaluation.regret_curves` returned.
        trial: When; ``None`` means when the budget is spent.
        alpha: Level of the Friedman test and of the critical difference.

    Raises:
        InvalidSettingError: For a trial beyond the budget, or too few agents or tasks for the test.
    """
    from hpo_gym.evaluation.significance import friedman

    shown = curves.check_trial(curves.budget if trial is None else trial)
    return draw_critical_difference(friedman(curves, trial=shown, alpha=alpha), shown, alpha)


def draw_critical_difference(result: FriedmanResult, trial: int, alpha: float = 0.05) -> Figure:
    """Draw what a Friedman test found; see :func:`critical_difference_figure`.

    Args:
        result: Statistic, p-value, mean ranks, critical difference and cliques.
        trial: When the regrets were compared, for the title.
        alpha: Level of the test, for the text.
    """
    from matplotlib.figure import Figure

    ranks = {agent: float(rank) for agent, rank in result.ranks.items()}
    order = sorted(ranks, key=lambda agent: (ranks[agent], agent))
    count = len(order)
    half = (count + 1) // 2
    bars = _bars(result, ranks)
    levels = max((level for *_, level in bars), default=-1) + 1
    height = _HEAD + levels * _CLIQUE + half * _LINE + 0.55
    # A character of 9 points takes about 0.075 inch; names stand outside the axis.
    side = 0.35 + 0.075 * (max(map(len, order)) + 7)
    middle = min(7.0, max(3.6, 0.45 * count))
    figure = Figure(figsize=(middle + 2 * side, height))
    axes = figure.add_axes((side / (middle + 2 * side), 0.0, middle / (middle + 2 * side), 1.0))
    axes.set_axis_off()
    # Down the page in inches, so that texts keep their distances however many there are.
    axes.set_ylim(height, 0.0)
    axes.set_xlim(1.0, float(count))
    ruler = _HEAD
    _draw_ruler(axes, count, ruler)
    _draw_difference(axes, result.critical_difference, count, ruler - 0.5)
    for index, (low, high, level) in enumerate(bars):
        depth = ruler + 0.14 + level * _CLIQUE
        reach = 0.012 * (count - 1)
        axes.plot(
            [low - reach, high + reach],
            [depth, depth],
            color=_BAR,
            linewidth=4,
            solid_capstyle="butt",
            clip_on=False,
            label=f"_clique {index}",
            zorder=4,
        )
    first = ruler + 0.14 + levels * _CLIQUE + 0.16
    outside = 0.12 / middle * (count - 1)
    for index, agent in enumerate(order):
        left = index < half
        row = index if left else count - 1 - index
        depth = first + row * _LINE
        end = 1.0 - outside if left else count + outside
        axes.plot(
            [end, ranks[agent], ranks[agent]],
            [depth, depth, ruler],
            color=_INK,
            linewidth=0.8,
            clip_on=False,
            label=f"_agent {agent}",
        )
        name, rank = literal(agent), f"{ranks[agent]:.2f}"
        axes.annotate(
            f"{name}  {rank}" if left else f"{rank}  {name}",
            (end, depth),
            xytext=(-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    figure.text(
        0.5, 1 - 0.2 / height, f"Mean ranks at trial {trial} (1 is best)", ha="center", va="center", fontsize=11
    )
    figure.text(0.5, 0.18 / height, _verdict(result, alpha), ha="center", va="center", fontsize=8.5)
    return figure


def _bars(result: FriedmanResult, ranks: dict[str, float]) -> list[tuple[float, float, int]]:
    """Return the bars of the cliques as lowest rank, highest rank and level, no two of one level touching."""
    spans = sorted(
        (min(ranks[agent] for agent in clique), max(ranks[agent] for agent in clique))
        for clique in result.cliques
        if len(clique) > 1
    )
    gap = 0.05 * (len(ranks) - 1)
    ends: list[float] = []
    bars = []
    for low, high in spans:
        level = next((index for index, end in enumerate(ends) if low - end > gap), len(ends))
        if level == len(ends):
            ends.append(high)
        else:
            ends[level] = high
        bars.append((low, high, level))
    return bars


def _draw_ruler(axes: Any, count: int, depth: float) -> None:
    axes.plot([1, count], [depth, depth], color=_INK, linewidth=1.2, clip_on=False, label="_ruler")
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [depth, depth - 0.09], color=_INK, linewidth=1.0, clip_on=False, label="_tick")
        axes.text(tick, depth - 0.13, str(tick), ha="center", va="bottom", fontsize=9)


def _draw_difference(axes: Any, difference: float, count: int, depth: float) -> None:
    """Draw the length of the critical difference, from rank 1 as far as the ruler reaches."""
    if not math.isfinite(difference):
        return
    reach = min(1.0 + difference, float(count))
    axes.plot([1.0, reach], [depth, depth], color=_INK, linewidth=1.6, clip_on=False, label="_critical difference")
    # A bar that is cut off has no right end.
    for end in (1.0, reach) if 1.0 + difference <= count else (1.0,):
        axes.plot([end, end], [depth - 0.05, depth + 0.05], color=_INK, linewidth=1.6, clip_on=False, label="_cap")
    text = f"CD = {difference:.2f}" if 1.0 + difference <= count else f"CD = {difference:.2f} (longer than the axis)"
    axes.annotate(text, (reach, depth), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)


def _verdict(result: FriedmanResult, alpha: float) -> str:
    p = float(result.p_value)
    shown = f"p = {p:.2g}" if p >= 1e-4 else f"p = {p:.1e}" if p >= 1e-99 else "p < 1e-99"
    verdict = (
        "bars join agents that cannot be told apart" if p < alpha else "no difference between agents can be claimed"
    )
    return (
        f"Friedman test on {plural(int(result.tasks), 'task')}: \u03c7\u00b2 = {float(result.statistic):.2f}, {shown}; "
        f"\u03b1 = {alpha:g}: {verdict}"
    )
