"""The critical-difference diagram of Demsar (2006), "Statistical Comparisons of Classifiers over Multiple Data Sets".

``scikit_posthocs.critical_difference_diagram`` draws one, too. It is not used: importing it loads pyplot and
seaborn, it writes neither the number of tasks nor the Friedman test, and its labels leave the figure where
names are long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import literal, p_value_text, plural, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpo_gym.evaluation.significance import FriedmanResult

__all__ = ["critical_difference_figure", "draw_critical_difference"]

_INK, _BAR = "#000000", "#0072B2"
# Heights in inches: a line of text, a bar of a clique, the axis with what stands above it.
_LINE, _CLIQUE, _HEAD = 0.23, 0.13, 0.98
# Width of the axis in inches: so much for every agent, within these limits.
_PER_AGENT, _NARROWEST, _WIDEST = 0.42, 3.4, 6.0
# Inches: from the axis to a name, and from a text to the edge of the figure.
_OUTSIDE, _MARGIN = 0.12, 0.2
# How far a bar stands out beyond the ranks at its ends, in inches; it never reaches another agent.
_REACH = 0.04
# Sizes of text in points.
_SIZE, _VERDICT_SIZE = 9.0, 8.5


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

    shown = curves.check_trial(trial)
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
    height = _HEAD + levels * _CLIQUE + half * _LINE + 0.5
    labels = [_label(agent, ranks[agent], left=index < half) for index, agent in enumerate(order)]
    middle = min(_WIDEST, max(_NARROWEST, _PER_AGENT * count))
    west, east = (
        _OUTSIDE + 0.05 + _MARGIN + max((text_width(label, _SIZE) for label in side), default=0.0)
        for side in (labels[:half], labels[half:])
    )
    verdict = _verdict(result, alpha)
    # The lines of text above and below are centred on the axis.
    centred = text_width(verdict, _VERDICT_SIZE) / 2 + _MARGIN - middle / 2
    west, east = max(west, centred), max(east, centred)
    width = west + middle + east
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((west / width, 0.0, middle / width, 1.0))
    axes.set_axis_off()
    # Down the page in inches, so that texts keep their distances however many there are.
    axes.set_ylim(height, 0.0)
    axes.set_xlim(1.0, float(count))
    ruler = _HEAD
    _draw_ruler(axes, count, ruler)
    _draw_difference(axes, result.critical_difference, count, ruler - 0.5)
    for index, (low, high, level) in enumerate(bars):
        depth = ruler + 0.14 + level * _CLIQUE
        axes.plot(
            _ends(low, high, ranks, _REACH / middle * (count - 1)),
            [depth, depth],
            color=_BAR,
            linewidth=4,
            solid_capstyle="butt",
            clip_on=False,
            label=f"_clique {index}",
            zorder=4,
        )
    first = ruler + 0.14 + levels * _CLIQUE + 0.16
    outside = _OUTSIDE / middle * (count - 1)
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
        axes.annotate(
            literal(labels[index]),
            (end, depth),
            xytext=(-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=_SIZE,
            annotation_clip=False,
        )
    centre = (west + middle / 2) / width
    title = f"Mean ranks at trial {trial} (1 is best)"
    figure.text(centre, 1 - 0.2 / height, title, ha="center", va="center", fontsize=11)
    figure.text(centre, 0.18 / height, verdict, ha="center", va="center", fontsize=_VERDICT_SIZE)
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


def _ends(low: float, high: float, ranks: dict[str, float], reach: float) -> list[float]:
    """Return where a bar begins and ends: a little beyond its ranks, and at most half way to the next agent."""
    below = [rank for rank in ranks.values() if rank < low]
    above = [rank for rank in ranks.values() if rank > high]
    return [
        low - min(reach, (low - max(below)) / 2 if below else reach),
        high + min(reach, (min(above) - high) / 2 if above else reach),
    ]


def _label(agent: str, rank: float, *, left: bool) -> str:
    return f"{agent}  {rank:.2f}" if left else f"{rank:.2f}  {agent}"


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
    verdict = (
        "bars join agents that cannot be told apart" if p < alpha else "no difference between agents can be claimed"
    )
    return (
        f"Friedman test on {plural(int(result.tasks), 'task')}: \u03c7\u00b2 = {float(result.statistic):.2f}, "
        f"p {p_value_text(p, '= ')}; "
        f"\u03b1 = {alpha:g}: {verdict}"
    )
