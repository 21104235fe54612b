"""The page of the study of the universal policy: search spaces that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.study import read_results
from agents.study_tables import SpaceCurves, curves_by_agent, parts_table, results_table
from agents.versions import versions_text
from hpo_gym.documents import fill_page, markdown_table

__all__ = ["ALONE", "COMMAND", "NAME", "SPACES", "write_page"]

NAME = "universal"
COMMAND = "python -m agents.universal_study"
SPACES = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")
#: The policy without its outcome model.
ALONE = "grpo_universal_alone"

_POLICY, _MODEL = "grpo_universal", "averaged_gp"
_RIVALS = ("gp", "tpe")
_SHOWN = (2, 3, 5, 8, 10, 15, 20, 25, 30)
_LAST = 25
_TESTED = (10, 25)


def write_page(documents: Path) -> str:
    """Fill the page from what was played; return it.

    Raises:
        DataMissingError: If the study was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    spaces = _spaces(frames[NAME])
    made = f"{facts['seeds']} repetitions per dataset, {facts['budget']} evaluations each, root seed 0."
    tables = {
        "universal_goal": lambda: _goal(spaces),
        "universal_parts": lambda: parts_table(spaces, _POLICY, (_MODEL, ALONE), (5, 10, 25)),
        "universal_results": lambda: "\n\n".join(
            results_table(space, _POLICY, _SHOWN, _TESTED, "policy") for space in spaces
        ),
        "universal_made": lambda: f"{made} {versions_text(facts['versions'])}.",
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _spaces(frame: Any) -> list[SpaceCurves]:
    found = []
    for space in dict.fromkeys(frame["space"]):
        rows = frame[frame["space"] == space]
        tasks = tuple(sorted(set(rows["task"])))
        found.append(SpaceCurves(str(space), tasks, curves_by_agent(rows, tasks)))
    return found


def _goal(spaces: list[SpaceCurves]) -> str:
    """Return at which trials a rival's mean regret is lower than the policy's."""
    rows, reached = [], 0
    for space in spaces:
        cells = []
        for rival in _RIVALS:
            worse = [trial for trial in range(2, _LAST + 1) if space.mean(_POLICY, trial) > space.mean(rival, trial)]
            cells.append(_ranges(worse) or "none")
        reached += cells == ["none"] * len(_RIVALS)
        rows.append([f"`{space.space}`", *cells])
    titles = ["unseen space", *(f"trials of 2 to {_LAST} at which {rival} is better" for rival in _RIVALS)]
    table = markdown_table(titles, rows, range(len(titles)))
    return f"{table}\n\nNever worse than either, up to trial {_LAST}: in {reached} of {len(spaces)} spaces."


def _ranges(trials: list[int]) -> str:
    """Return trials as ranges: ``2 to 4, 9``."""
    parts: list[list[int]] = []
    for trial in trials:
        if parts and trial == parts[-1][1] + 1:
            parts[-1][1] = trial
        else:
            parts.append([trial, trial])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in parts)
