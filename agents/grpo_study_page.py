"""The page of the GRPO study: tables against the leaderboard, and how close the goals of the project are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.grpo_study_figure import regret_panels
from agents.leaderboard_page import read_curves
from agents.study import read_results
from agents.study_tables import SpaceCurves, curves_by_agent, parts_table, results_table
from agents.versions import versions_text
from agents.winners_study_page import winners_tables
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import save_figure

__all__ = ["ALONE", "NAME", "TRANSFER", "BoardCurves", "write_page"]

NAME = "grpo"
COMMAND = "python -m agents.grpo_study"
#: The policy without its outcome model, and the outcome model without the policy.
ALONE, TRANSFER = "grpo_alone", "transfer_gp"

_SHOWN = (2, 5, 10, 20, 30, 50, 100)
_TESTED = (10, 100)
_OURS = (NAME, ALONE, TRANSFER)
_FIGURE = ("random", "portfolio", "tpe", "gp", "portfolio_gp")


@dataclass(frozen=True)
class BoardCurves(SpaceCurves):
    """Ours first, then the agents of the leaderboard."""

    @property
    def classical(self) -> list[str]:
        """Agents of the leaderboard."""
        return [agent for agent in self.values if agent not in _OURS]

    def strongest(self, trial: int) -> str:
        """Return the classical method of the lowest mean regret after ``trial`` evaluations."""
        return min(self.classical, key=lambda agent: self.mean(agent, trial))


def write_page(documents: Path) -> str:
    """Fill the page and draw its figure; return the page.

    Raises:
        DataMissingError: If the study, or the leaderboard, was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    spaces = _spaces(frames[NAME], documents)
    shown = [agent for agent in (*_OURS, *_FIGURE) if any(agent in space.values for space in spaces)]
    save_figure(regret_panels(spaces, shown), folder / "figures" / NAME)
    tables = {
        "grpo_results": lambda: "\n\n".join(results_table(space, NAME, _SHOWN, _TESTED, "GRPO") for space in spaces),
        "grpo_goals": lambda: _goals(spaces),
        "grpo_adds": lambda: parts_table(spaces, NAME, (TRANSFER, ALONE), (5, 10, 100)),
        "grpo_search": lambda: _search(spaces),
        "grpo_figure": lambda: "![Regret against evaluations, a panel for each search space](figures/grpo.png)",
        "grpo_made": lambda: _made(facts),
        "winners": lambda: winners_tables(folder / "data"),
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _spaces(frame: Any, documents: Path) -> list[BoardCurves]:
    board = read_curves(documents)
    found = []
    for space in dict.fromkeys(frame["space"]):
        mine = frame[frame["space"] == space]
        tasks = tuple(sorted(set(mine["task"])))
        values = curves_by_agent(mine, tasks) | curves_by_agent(board[board["board"] == space], tasks)
        ordered = {agent: values.pop(agent) for agent in _OURS if agent in values}
        found.append(BoardCurves(str(space), tasks, ordered | values))
    return found


def _goals(spaces: list[BoardCurves]) -> str:
    rows = []
    for space in spaces:
        cells = [f"`{space.space}`"]
        for ours, other, theirs in ((10, "tpe", 50), (10, "gp", 25), (30, "tpe", 100), (30, "gp", 50)):
            if other not in space.values:
                cells.append("not played")
                continue
            mine, reference = space.mean(NAME, ours), space.mean(other, theirs)
            cells.append(f"{'yes' if mine <= reference else 'no'}: {mine:.4f}, {reference:.4f}")
        worse = [t for t in range(2, 31) if space.mean(NAME, t) > space.mean(space.strongest(t), t)]
        cells.append(", ".join(f"{t} ({space.strongest(t)})" for t in worse) or "none")
        best = space.strongest(100)
        mine, reference = space.mean(NAME, 10), space.mean(best, 100)
        reached = next((t for t in range(1, 101) if space.mean(NAME, t) <= reference), None)
        verdict = "yes" if mine <= reference else "no"
        cells.append(f"{verdict}: {mine:.4f}, {reference:.4f} ({best}); GRPO is there at {reached or 'no trial'}")
        rows.append(cells)
    titles = [
        "space",
        "@10 <= TPE@50",
        "@10 <= GP@25",
        "@30 <= TPE@100",
        "@30 <= GP@50",
        "trials of 2 to 30 at which a baseline is better",
        "@10 <= best classical @100",
    ]
    return markdown_table(titles, rows, range(len(titles)))


def _search(spaces: list[BoardCurves]) -> str:
    rows = []
    for space in spaces:
        shares = []
        for agent, first in ((NAME, 10), (ALONE, 10), ("gp", 30)):
            if agent not in space.values:
                shares.append("not played")
                continue
            before, after = space.mean(agent, first), space.mean(agent, 100)
            shares.append(f"{100.0 * (1.0 - after / before):.0f} %")
        rows.append([f"`{space.space}`", *shares])
    titles = ["space", "GRPO, 10 to 100", "policy alone, 10 to 100", "GP, 30 to 100"]
    return markdown_table(titles, rows, (0,))


def _made(facts: dict[str, Any]) -> str:
    repetitions = f"{facts['seeds']} repetitions per dataset, {facts['budget']} evaluations each, root seed 0."
    return f"{repetitions} {versions_text(facts['versions'])}."
