"""The comparison as a table: for a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comparison_markdown", "comparison_table"]


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per agent, the lowest final regret first.

    Args:
        summary: What :func:`~hpo_gym.evaluation.summarise` returned.
    """
    from rich.table import Table
    from rich.text import Text

    # Text, because in a plain string rich would read "[...]" as markup and ":up:" as a picture.
    title, caption = Text(_title(summary)), Text(_caption(summary), justify="left")
    table = Table(title=title, caption=caption)
    header, *rows = _cells(summary)
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def comparison_markdown(summary: Mapping[str, Any]) -> str:
    """Return the same table as Markdown, with its title above and its caption below.

    Args:
        summary: What :func:`~hpo_gym.evaluation.summarise` returned.
    """
    header, *rows = [[cell.replace("|", r"\|") for cell in row] for row in _cells(summary)]
    rule = [":--" if index == 0 else "--:" for index in range(len(header))]
    lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
    return "\n".join([f"**{_title(summary)}**", "", *lines, "", _caption(summary), ""])


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"{', '.join(summary['spaces'])}: {summary['tasks']} {_plural('task', summary['tasks'])} x {summary['seeds']} "
        f"{_plural('seed', summary['seeds'])}, budget {summary['budget']}"
    )


def _caption(summary: Mapping[str, Any]) -> str:
    return (
        "Normalised regret of the incumbent, mean over tasks [95 % bootstrap interval over tasks]; lower is better. "
        f"Wins, ties and losses: tasks on which the final regret is below, equal to or above that of "
        f"{summary['reference']}. Trials to reach: when the mean regret is at most the final one of "
        f"{summary['reference']}."
    )


def _cells(summary: Mapping[str, Any]) -> list[list[str]]:
    reference, trials, agents = summary["reference"], summary["trials"], summary["agents"]
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
        compared = "-" if name == reference else f"{agent['wins']}/{agent['ties']}/{agent['losses']}"
        needed = agent["trials_to_reference"]
        rows.append([label, *regrets, compared, "never" if needed is None else str(needed)])
    return rows


def _interval(regret: Mapping[str, float | None]) -> str:
    if regret["low"] is None:
        return f"{regret['mean']:.4f}"
    return f"{regret['mean']:.4f} [{regret['low']:.4f}, {regret['high']:.4f}]"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
