"""The comparison as a table: for a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from hpo_gym.documents import markdown_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comparison_markdown", "comparison_table"]

# A line and a blank on either side of every column.
_BORDER = 3


def comparison_table(summary: Mapping[str, Any], width: int | None = None) -> Table:
    """Return one row per agent, the lowest final regret first.

    Args:
        summary: What :func:`~hpo_gym.evaluation.summarise` returned.
        width: Columns of the terminal; trials that do not fit are left out, the last one never. ``None`` shows all.
    """
    from rich.table import Table
    from rich.text import Text

    trials = list(summary["trials"])
    while width is not None and len(trials) > 1 and _least_width(summary, trials) > width:
        # All begin alike, so that of two trials the later one says more.
        trials.pop(0)
    left_out = [trial for trial in summary["trials"] if trial not in trials]
    note = f" Left out for lack of width: regret at {', '.join(map(str, left_out))}." if left_out else ""
    # Text, because in a plain string rich would read "[...]" as markup and ":up:" as a picture.
    title, caption = Text(_title(summary)), Text(_caption(summary) + note, justify="left")
    # Without an outer edge two trials fit into 80 columns.
    table = Table(title=title, caption=caption, show_edge=False)
    header, *rows = _cells(summary, trials)
    for index, (name, least) in enumerate(zip(header, _least_widths(summary, trials), strict=True)):
        justify: Literal["left", "right"] = "left" if index == 0 else "right"
        # Of columns that may be broken, rich narrows the widest first, even beyond what it holds.
        whole = index <= len(trials)
        table.add_column(Text(name), justify=justify, overflow="fold", min_width=least, no_wrap=whole)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def comparison_markdown(summary: Mapping[str, Any]) -> str:
    """Return the same table as Markdown, with its title above and its caption below.

    Args:
        summary: What :func:`~hpo_gym.evaluation.summarise` returned.
    """
    header, *rows = _cells(summary, summary["trials"])
    table = markdown_table(header, rows, wordy=(0,))
    return "\n".join([f"**{_title(summary)}**", "", table, "", _caption(summary), ""])


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"{', '.join(summary['spaces'])}: {summary['tasks']} {_plural('task', summary['tasks'])} x {summary['seeds']} "
        f"{_plural('seed', summary['seeds'])}, budget {summary['budget']}"
    )


def _caption(summary: Mapping[str, Any]) -> str:
    regret = (
        "Regret of the incumbent relative to what these agents found (0: the best of all, 1: the worst start)"
        if summary["relative"]
        else "Normalised regret of the incumbent"
    )
    return (
        f"{regret}, mean over tasks [95 % bootstrap interval over tasks]; lower is better. "
        f"Wins, ties and losses: tasks on which the final regret is below, equal to or above that of "
        f"{summary['reference']}; p: Wilcoxon's signed-rank test over tasks, with Holm's correction over agents. "
        f"Trials to reach: when the mean regret is at most the final one of "
        f"{summary['reference']}.{_failures(summary)}"
    )


def _failures(summary: Mapping[str, Any]) -> str:
    """Say how many trainings failed, where any did."""
    told = [
        f"{agent} {sum(failures.values())} of {one['evaluations']} "
        f"({', '.join(f'{count} {status}' for status, count in failures.items())})"
        for agent, one in summary["agents"].items()
        if (failures := one.get("failures"))
    ]
    return f" Trainings that failed, and count as the worst score: {'; '.join(told)}." if told else ""


def _least_widths(summary: Mapping[str, Any], trials: Sequence[int]) -> list[int]:
    """Return how narrow each column may be without a broken number: the last two may break between words."""
    header, *rows = _cells(summary, trials)
    # The names and the regrets stay in one line, headers and all.
    return [
        max(map(len, cells if index <= len(trials) else " ".join(cells).split()))
        for index, cells in enumerate(zip(header, *rows, strict=True))
    ]


def _least_width(summary: Mapping[str, Any], trials: Sequence[int]) -> int:
    return sum(_BORDER + least for least in _least_widths(summary, trials)) - 1


def _cells(summary: Mapping[str, Any], trials: Sequence[int]) -> list[list[str]]:
    reference, agents = summary["reference"], summary["agents"]
    header = [
        "agent",
        *(f"regret at {trial}" for trial in trials),
        f"W/T/L vs {reference}",
        f"trials to reach {reference}",
    ]
    rows = [header]
    for name in sorted(agents, key=lambda name: (agents[name]["regret"][str(trials[-1])]["mean"], name)):
        agent = agents[name]
        label = name if agent["runs"] == 1 else f"{name} ({agent['runs']} runs)"
        regrets = [_interval(agent["regret"][str(trial)]) for trial in trials]
        counts = f"{agent['wins']}/{agent['ties']}/{agent['losses']}"
        compared = "-" if name == reference else f"{counts} {_p_value(agent['corrected_p'])}"
        needed = agent["trials_to_reference"]
        rows.append([label, *regrets, compared, "never" if needed is None else str(needed)])
    return rows


def _interval(regret: Mapping[str, float | None]) -> str:
    if regret["low"] is None:
        return f"{regret['mean']:.4f}"
    return f"{regret['mean']:.4f} [{regret['low']:.4f}, {regret['high']:.4f}]"


def _p_value(value: float) -> str:
    return "p<0.001" if value < 0.001 else f"p={value:.3f}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
