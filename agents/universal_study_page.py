"""The page of the study of the universal policy: search spaces that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.study import mean_curves, read_results
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import bootstrap_interval, pairwise_tests
from hpo_gym.evaluation.style import p_value_text

if TYPE_CHECKING:
    import numpy as np

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
_INTERVALS = (10, 25)

_Curves = dict[str, "np.ndarray[Any, Any]"]


def write_page(documents: Path) -> str:
    """Fill the page from what was played; return it.

    Raises:
        DataMissingError: If the study was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    frame = frames[NAME]
    spaces = {space: _curves(frame[frame["space"] == space]) for space in dict.fromkeys(frame["space"])}
    tables = {
        "universal_goal": lambda: _goal(spaces),
        "universal_parts": lambda: _parts(spaces),
        "universal_results": lambda: "\n\n".join(_results(space, curves) for space, curves in spaces.items()),
        "universal_made": lambda: (
            f"{facts['seeds']} repetitions per dataset, {facts['budget']} evaluations each, root seed 0. "
            + ", ".join(f"{k} {v}" for k, v in sorted(facts["versions"].items()) if isinstance(v, str))
            + "."
        ),
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _curves(rows: Any) -> _Curves:
    """Return the regret of each agent on each dataset, float64 ``[N, T]``."""
    import numpy as np

    tasks = sorted(set(rows["task"]))
    found = {}
    for agent, each in rows.groupby("agent", sort=True):
        curves = each.set_index("task")["regret"]
        found[str(agent)] = np.stack([curves[task] for task in tasks]).astype("float64")
    return found


def _goal(spaces: dict[str, _Curves]) -> str:
    """Return at which trials a rival's mean regret is lower than the policy's."""
    rows, reached = [], 0
    for space, curves in spaces.items():
        mine = curves[_POLICY].mean(0)
        cells = []
        for rival in _RIVALS:
            theirs = curves[rival].mean(0)
            worse = [trial for trial in range(2, _LAST + 1) if mine[trial - 1] > theirs[trial - 1]]
            cells.append(_ranges(worse) or "none")
        reached += cells == ["none"] * len(_RIVALS)
        rows.append([f"`{space}`", *cells])
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


def _parts(spaces: dict[str, _Curves]) -> str:
    rows = []
    for space, curves in spaces.items():
        for part in (_MODEL, ALONE):
            cells = []
            for trial in (5, 10, 25):
                pair = {name: curves[name] for name in (_POLICY, part)}
                test = pairwise_tests(mean_curves(_units(space, curves), pair), _POLICY, trial)[part]
                mine, theirs = (float(curves[name][:, trial - 1].mean()) for name in (_POLICY, part))
                won = f"{test.losses}/{test.ties}/{test.wins}, p {p_value_text(test.corrected_p)}"
                cells.append(f"{mine:.4f} against {theirs:.4f} ({won})")
            rows.append([f"`{space}`", f"`{part}`", *cells])
    return markdown_table(["space", "part", "at 5", "at 10", "at 25"], rows, range(5))


def _units(space: str, curves: _Curves) -> list[tuple[str, str, str]]:
    return [("bundled", space, str(row)) for row in range(len(curves[_POLICY]))]


def _results(space: str, curves: _Curves) -> str:
    lowest = {trial: min(values[:, trial - 1].mean() for values in curves.values()) for trial in _SHOWN}
    tests = {trial: pairwise_tests(mean_curves(_units(space, curves), curves), _POLICY, trial) for trial in _INTERVALS}
    rows = []
    for agent in sorted(curves, key=lambda name: float(curves[name][:, 9].mean())):
        cells = []
        for trial in _SHOWN:
            values = curves[agent][:, trial - 1]
            text = f"{values.mean():.4f}"
            if trial in _INTERVALS:
                low, high = bootstrap_interval(values[:, None])
                text = f"{text} [{low[0]:.4f}, {high[0]:.4f}]"
            cells.append(f"**{text}**" if values.mean() == lowest[trial] else text)
        for by_agent in tests.values():
            test = by_agent.get(agent)
            cells.append(
                "" if test is None else f"{test.losses}/{test.ties}/{test.wins}, {p_value_text(test.corrected_p, '= ')}"
            )
        rows.append([f"`{agent}`", *cells])
    titles = ["agent", *(f"at {trial}" for trial in _SHOWN), "policy W/T/L, p at 10", "at 25"]
    return f"### {space}\n\n{len(curves[_POLICY])} held-out datasets.\n\n{markdown_table(titles, rows, (0,))}"
