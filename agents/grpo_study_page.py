"""The page of the GRPO study: tables against the leaderboard, and how close the goals of the project are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.grpo_study_figure import regret_panels
from agents.leaderboard_page import read_curves
from agents.study import mean_curves, read_results
from agents.winners_study_page import winners_tables
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import bootstrap_interval, pairwise_tests, save_figure
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import p_value_text

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ALONE", "NAME", "TRANSFER", "SpaceCurves", "write_page"]

NAME = "grpo"
COMMAND = "python -m agents.grpo_study"
#: The policy without its outcome model, and the outcome model without the policy.
ALONE, TRANSFER = "grpo_alone", "transfer_gp"

_SHOWN = (2, 5, 10, 20, 30, 50, 100)
_OURS = (NAME, ALONE, TRANSFER)
_FIGURE = ("random", "portfolio", "tpe", "gp", "cmaes")


@dataclass(frozen=True)
class SpaceCurves:
    """Regret of every agent on every test dataset of a space.

    Args:
        space: Its name.
        tasks: The ``N`` datasets.
        values: float64 ``[N, T]`` by agent; ours first, then those of the leaderboard.
    """

    space: str
    tasks: tuple[str, ...]
    values: dict[str, np.ndarray[Any, Any]]

    @property
    def classical(self) -> list[str]:
        """Agents of the leaderboard."""
        return [agent for agent in self.values if agent not in _OURS]

    def mean(self, agent: str, trial: int) -> float:
        """Return the mean regret over datasets after ``trial`` evaluations."""
        return float(self.values[agent][:, trial - 1].mean())

    def strongest(self, trial: int) -> str:
        """Return the classical method of the lowest mean regret after ``trial`` evaluations."""
        return min(self.classical, key=lambda agent: self.mean(agent, trial))

    @property
    def units(self) -> list[tuple[str, str, str]]:
        """What is compared: the datasets."""
        return [("bundled", self.space, task) for task in self.tasks]

    def curves(self) -> RegretCurves:
        """Return what tests take."""
        return mean_curves(self.units, self.values)


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
        "grpo_results": lambda: "\n\n".join(_results(space) for space in spaces),
        "grpo_goals": lambda: _goals(spaces),
        "grpo_adds": lambda: _adds(spaces),
        "grpo_search": lambda: _search(spaces),
        "grpo_figure": lambda: "![Regret against evaluations, a panel for each search space](figures/grpo.png)",
        "grpo_made": lambda: _made(facts),
        "winners": lambda: winners_tables(folder / "data"),
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _spaces(frame: Any, documents: Path) -> list[SpaceCurves]:
    import numpy as np

    board = read_curves(documents)
    found = []
    for space in dict.fromkeys(frame["space"]):
        mine = frame[frame["space"] == space]
        tasks = tuple(sorted(set(mine["task"])))
        values = {}
        for rows in (mine, board[board["board"] == space]):
            for agent, each in rows.groupby("agent", sort=True):
                curves = each.set_index("task")["regret"]
                if set(curves.index) == set(tasks):
                    values[str(agent)] = np.stack([curves[task] for task in tasks]).astype("float64")
        ordered = {agent: values.pop(agent) for agent in _OURS if agent in values}
        found.append(SpaceCurves(str(space), tasks, ordered | values))
    return found


def _results(space: SpaceCurves) -> str:
    tests = {trial: pairwise_tests(space.curves(), NAME, trial) for trial in (10, 100)}
    lowest = {trial: min(space.mean(agent, trial) for agent in space.values) for trial in _SHOWN}
    rows = []
    for agent in sorted(space.values, key=lambda agent: space.mean(agent, 10)):
        cells = []
        for trial in _SHOWN:
            text = f"{space.mean(agent, trial):.4f}"
            if trial in (10, 100):
                low, high = bootstrap_interval(space.values[agent][:, trial - 1, None])
                text = f"{text} [{low[0]:.4f}, {high[0]:.4f}]"
            cells.append(f"**{text}**" if space.mean(agent, trial) == lowest[trial] else text)
        for by_agent in tests.values():
            test = by_agent.get(agent)
            # Turned round: the table says how GRPO does against each.
            won = (
                "" if test is None else f"{test.losses}/{test.ties}/{test.wins}, {p_value_text(test.corrected_p, '= ')}"
            )
            cells.append(won)
        rows.append([f"`{agent}`", *cells])
    titles = ["agent", *(f"at {trial}" for trial in _SHOWN), "GRPO W/T/L, p at 10", "at 100"]
    table = markdown_table(titles, rows, (0,))
    return f"### {space.space}\n\n{len(space.tasks)} held-out datasets.\n\n{table}"


def _goals(spaces: list[SpaceCurves]) -> str:
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


def _adds(spaces: list[SpaceCurves]) -> str:
    """Return what the policy adds to the outcome model, and the outcome model to the policy."""
    rows = []
    for space in spaces:
        for part in (TRANSFER, ALONE):
            if part not in space.values:
                rows.append([f"`{space.space}`", f"`{part}`", *["not played"] * 3])
                continue
            cells = []
            for trial in (5, 10, 100):
                test = pairwise_tests(mean_curves(space.units, {n: space.values[n] for n in (NAME, part)}), NAME, trial)
                won, p_value = test[part], p_value_text(test[part].corrected_p)
                means = f"{space.mean(NAME, trial):.4f} against {space.mean(part, trial):.4f}"
                cells.append(f"{means} ({won.losses}/{won.ties}/{won.wins}, p {p_value})")
            rows.append([f"`{space.space}`", f"`{part}`", *cells])
    return markdown_table(["space", "part", "at 5", "at 10", "at 100"], rows, range(5))


def _search(spaces: list[SpaceCurves]) -> str:
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
    used = ", ".join(f"{name} {value}" for name, value in sorted(facts["versions"].items()) if isinstance(value, str))
    return f"{facts['seeds']} repetitions per dataset, {facts['budget']} evaluations each, root seed 0. {used}."
