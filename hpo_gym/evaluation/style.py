"""What every figure of an evaluation shares: one look per agent, log axes that hold a zero, labels that keep apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, require_names

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from hpo_gym.evaluation.curves import RegretCurves

__all__ = [
    "CROWD",
    "HEAT",
    "LOG_BUDGET",
    "MOST_AGENTS",
    "SIGNIFICANT",
    "AgentStyle",
    "agent_styles",
    "emphasised_agents",
    "extra_width",
    "label_line_ends",
    "literal",
    "marker_trials",
    "p_value_text",
    "plural",
    "show_trials",
    "spaces_title",
    "spread",
    "text_width",
    "verdict_text",
]

#: A corrected p-value below is called a difference.
SIGNIFICANT = 0.05

# Okabe and Ito (2008), "Color Universal Design"; yellow is left out, too pale on white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# Seven colours, five lines and nine shapes have no common divisor: agents that share a colour differ in the rest.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")

#: Most agents that one figure can tell apart.
MOST_AGENTS = len(_COLOURS) * len(_LINES)

#: With more agents than this, bands would cover each other: only the emphasised ones have them.
CROWD = 6

#: Colour map of van der Walt and Smith (2015): perceptually uniform, also to the colour-blind, and its lightness
#: changes evenly, so that it survives a copy in grey. Reversed: a large value is dark.
HEAT = "viridis_r"

#: From this budget on, half of a linear axis would show the last trials, where little happens.
LOG_BUDGET = 50

# A p-value below is the tail of an approximation that nobody trusts so far out, or 0 by underflow.
_LEAST_P = 1e-99

# Dots per inch of the PNG.
_DOTS = 150

# Inches that figures have for a name: "differential_evolution", as most are shorter.
_NAME_WIDTH = 1.7

# How many markers a line has, about, and over how many trials those of different agents are shifted.
_MARKED, _SHIFTS = 8, 5


@dataclass(frozen=True)
class AgentStyle:
    """The look of one agent in every figure of an evaluation.

    Args:
        index: Its place among the names in alphabetical order.
        colour: Hexadecimal colour.
        line: Line style of matplotlib.
        marker: Marker of matplotlib.
        filled: Whether the marker is filled; hollow ones tell apart what else would look alike in grey.
    """

    index: int
    colour: str
    line: Any
    marker: str
    filled: bool

    @property
    def face(self) -> str:
        """Colour inside the marker."""
        return self.colour if self.filled else "white"


def agent_styles(agents: Iterable[str]) -> dict[str, AgentStyle]:
    """Return the look of every agent; it depends on the set of names alone.

    Raises:
        InvalidSettingError: If there are more agents than can be told apart.
    """
    names = sorted(set(agents))
    if len(names) > MOST_AGENTS:
        raise InvalidSettingError(
            f"{len(names)} agents cannot be told apart in one figure; the most is {MOST_AGENTS}. Draw some of them at "
            "a time."
        )
    return {
        name: AgentStyle(
            index,
            _COLOURS[index % len(_COLOURS)],
            _LINES[index % len(_LINES)],
            _MARKERS[index % len(_MARKERS)],
            index // len(_COLOURS) % 2 == 0,
        )
        for index, name in enumerate(names)
    }


def emphasised_agents(final: Mapping[str, float], chosen: Sequence[str] | None) -> frozenset[str]:
    """Return the agents that stand out: those chosen, else all, or the best three of a crowd.

    Args:
        final: What decides by agent, the least being best.
        chosen: Names; ``None`` leaves it to the numbers.

    Raises:
        UnknownNameError: For a name that is not among the agents.
    """
    if chosen is not None:
        require_names("agent", chosen, final)
        return frozenset(chosen)
    ranked = sorted(final, key=lambda name: (final[name], name))
    return frozenset(ranked if len(ranked) <= CROWD else ranked[:3])


def marker_trials(style: AgentStyle, budget: int, log: bool) -> list[int]:
    """Return the indices (from 0) of the trials where an agent's line has its marker.

    They differ between agents, so that no marker hides another, and keep even distances on the axis.
    """
    import numpy as np

    shift = style.index % _SHIFTS
    if not log:
        return list(range(shift, budget, max(_SHIFTS, budget // _MARKED)))
    points = np.geomspace(1.0, budget, _MARKED) * (budget ** (shift / _SHIFTS / _MARKED))
    return sorted({round(float(point)) - 1 for point in points if round(float(point)) <= budget})


def show_trials(axes: Axes, budget: int, log: bool) -> None:
    """Scale the axis of trials 1 .. ``budget``, with ticks at round numbers and at the first trial."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    if log:
        axes.set_xscale("log")
        steps = [factor * 10**power for power in range(7) for factor in (1, 2, 5)]
        ticks = [float(tick) for tick in steps if tick <= budget]
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        # The first trial is the shared start: it gets its tick in place of 0.
        usual = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(1, budget)
        ticks = [1.0, *(tick for tick in usual if budget / 20 < tick <= budget and tick > 1)]
    axes.set_xticks(ticks)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray[Any, Any]:
    """Return places at least ``gap`` apart that stay close to the wanted ones, in the same order.

    The least sum of squared shifts: pool adjacent violators (Ayer et al., 1955) on what is left after the gaps.
    Where ``low .. high`` is too short for all of them the gap shrinks to what fits.

    Args:
        positions: Where each label would like to be.
        gap: Least distance of two labels.
        low: Least place.
        high: Greatest place.
    """
    import numpy as np

    wanted = np.asarray(positions, dtype=float)
    count = len(wanted)
    if count > 1:
        gap = min(gap, (high - low) / (count - 1))
    order = np.argsort(wanted, kind="stable")
    offsets = gap * np.arange(count)
    blocks: list[list[float]] = []
    for value in wanted[order] - offsets:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, weight = blocks.pop()
            before, others = blocks.pop()
            total = weight + others
            blocks.append([(mean * weight + before * others) / total, total])
    level = np.concatenate([np.full(int(weight), mean) for mean, weight in blocks])
    placed = np.clip(level, low, high - offsets[-1]) + offsets
    result = np.empty(count)
    result[order] = placed
    return result


def label_line_ends(axes: Axes, ends: Mapping[str, float], styles: Mapping[str, AgentStyle], trial: int) -> None:
    """Write every agent's name beside the right end of its line, none over another.

    Args:
        axes: Linear in y, with its final limits.
        ends: Value of each agent's line at its right end, in data units.
        styles: Look of each agent.
        trial: Where the lines end.
    """
    bottom, top = axes.get_ylim()
    low, high = min(bottom, top), max(bottom, top)
    names = list(ends)
    # The least distance is a line of text: 0.19 inch in an axes of known height.
    figure = axes.get_figure(root=True)
    height = figure.get_figheight() if figure is not None else 1.0
    gap = (high - low) * 0.19 / (0.8 * height)
    for name, place in zip(names, spread([ends[name] for name in names], gap, low, high), strict=True):
        style = styles[name]
        share = (place - bottom) / (top - bottom)
        axes.annotate(
            "",
            (trial, ends[name]),
            xytext=(1.05, share),
            xycoords="data",
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": style.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
            annotation_clip=False,
        )
        axes.plot(
            [1.065],
            [share],
            transform=axes.transAxes,
            clip_on=False,
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            markersize=6,
            label="_end",
        )
        axes.annotate(literal(name), (1.09, share), xycoords="axes fraction", va="center", fontsize=9)


def literal(text: str) -> str:
    """Return text that matplotlib writes as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in inches, as a PNG of :func:`~hpo_gym.evaluation.save_figure` shows it.

    Args:
        text: Plain text, no formula.
        size: Of the font, in points.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg(1, 1, _DOTS)
    return float(renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0]) / _DOTS


def extra_width(agents: Iterable[str], size: float) -> float:
    """Return by how many inches a figure has to be wider for its longest name, so that its axes are not narrower.

    Args:
        agents: Names, of which one of 1.7 inches has its place anyway.
        size: Of the font, in points.
    """
    return max(0.0, max(text_width(agent, size) for agent in agents) - _NAME_WIDTH)


def p_value_text(p_value: float, sign: str = "") -> str:
    """Return a p-value with two digits, ``0.031`` or ``3.3e-23``; one too small to be a number is ``< 1e-99``.

    Args:
        p_value: In ``[0, 1]``.
        sign: What stands before a number: ``"= "`` where the text goes on from a ``p``.
    """
    return f"< {_LEAST_P:.0e}" if p_value < _LEAST_P else f"{sign}{p_value:.2g}"


def verdict_text(p_value: float, better: bool) -> str:
    """Return ``better than`` or ``worse than`` where a test finds a difference at 5 %, else ``not told apart from``."""
    if p_value >= SIGNIFICANT:
        return "not told apart from"
    return "better than" if better else "worse than"


def plural(count: int, word: str) -> str:
    """Return ``1 task`` or ``2 tasks``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def spaces_title(curves: RegretCurves) -> str:
    """Return the names of up to three spaces, or how many there are."""
    spaces = sorted({space for _, space, _ in curves.tasks})
    return literal(", ".join(spaces)) if len(spaces) <= 3 else plural(len(spaces), "space")
