"""What tables of ``docs/studies`` are made of: the curves of a space, cells with intervals, cells of paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.study import mean_curves
from hpo_gym.documents import markdown_table
from hpo_gym.evaluation import bootstrap_interval, pairwise_tests
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.style import p_value_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from hpo_gym.evaluation.significance import PairedTest

__all__ = ["SpaceCurves", "against", "curve_frame", "curves_by_agent", "interval", "parts_table", "results_table"]


@dataclass(frozen=True)
class SpaceCurves:
    """Regret of every agent on every test dataset of a space.

    Args:
        space: Its name.
        tasks: The ``N`` datasets.
        values: float64 ``[N, T]`` by agent: means over repetitions.
    """

    space: str
    tasks: tuple[str, ...]
    values: dict[str, np.ndarray[Any, Any]]

    def mean(self, agent: str, trial: int) -> float:
        """Return the mean regret over datasets after ``trial`` evaluations."""
        return float(self.values[agent][:, trial - 1].mean())

    @property
    def units(self) -> list[tuple[str, str, str]]:
        """What is compared: the datasets."""
        return [("bundled", self.space, task) for task in self.tasks]

    def tests(self, agent: str, trial: int, others: Sequence[str] | None = None) -> dict[str, PairedTest]:
        """Return the paired tests of an agent against others (``None``: all) after ``trial`` evaluations."""
        names = self.values if others is None else (agent, *others)
        return pairwise_tests(mean_curves(self.units, {name: self.values[name] for name in names}), agent, trial)


def curve_frame(space: str, curves: RegretCurves) -> pd.DataFrame:
    """Return curves as rows that a study keeps: ``space``, ``agent``, ``task``, ``regret`` (float32 ``[T]``)."""
    import pandas as pd

    tasks = [task for _, _, task in curves.tasks]
    rows = [
        (space, agent, task, regret)
        for agent, values in curves.values.items()
        for task, regret in zip(tasks, values.astype("float32"), strict=True)
    ]
    return pd.DataFrame(rows, columns=["space", "agent", "task", "regret"])


def curves_by_agent(rows: pd.DataFrame, tasks: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return float64 ``[N, T]`` by agent from rows of :func:`curve_frame`, of agents that played just ``tasks``."""
    import numpy as np

    values = {}
    for agent, each in rows.groupby("agent", sort=True):
        curves = each.set_index("task")["regret"]
        if set(curves.index) == set(tasks):
            values[str(agent)] = np.stack([curves[task] for task in tasks]).astype("float64")
    return values


def interval(values: np.ndarray[Any, Any]) -> str:
    """Return the mean of ``[N]`` values with its 95 % bootstrap interval, as a cell."""
    low, high = bootstrap_interval(values[:, None])
    return f"{values.mean():.4f} [{low[0]:.4f}, {high[0]:.4f}]"


def against(test: PairedTest | None) -> str:
    """Return wins, ties, losses and p of the agent that tests were made for, against the one of this test; or nothing.

    A test counts for the other agent; tables say how ours does, so that it is turned round.
    """
    return "" if test is None else f"{test.losses}/{test.ties}/{test.wins}, {p_value_text(test.corrected_p, '= ')}"


def results_table(space: SpaceCurves, ours: str, shown: Sequence[int], tested: Sequence[int], title: str) -> str:
    """Return the table of a space: a row per agent, the best at ten evaluations first.

    Args:
        space: What was played.
        ours: The agent that the paired tests are made for.
        shown: Evaluations with a column.
        tested: Those of ``shown`` with intervals and paired tests.
        title: What ``ours`` is called above the tests.
    """
    tests = {trial: space.tests(ours, trial) for trial in tested}
    lowest = {trial: min(space.mean(agent, trial) for agent in space.values) for trial in shown}
    rows = []
    for agent in sorted(space.values, key=lambda agent: space.mean(agent, 10)):
        cells = [f"`{agent}`"]
        for trial in shown:
            mean = space.mean(agent, trial)
            text = interval(space.values[agent][:, trial - 1]) if trial in tested else f"{mean:.4f}"
            cells.append(f"**{text}**" if mean == lowest[trial] else text)
        rows.append([*cells, *(against(by_agent.get(agent)) for by_agent in tests.values())])
    first, *others = tested
    names = [f"{title} W/T/L, p at {first}", *(f"at {trial}" for trial in others)]
    table = markdown_table(["agent", *(f"at {trial}" for trial in shown), *names], rows, (0,))
    return f"### {space.space}\n\n{len(space.tasks)} held-out datasets.\n\n{table}"


def parts_table(spaces: Sequence[SpaceCurves], ours: str, parts: Sequence[str], trials: Sequence[int]) -> str:
    """Return how an agent does against each of its parts alone: means, and paired tests of these two."""
    rows = []
    for space in spaces:
        for part in parts:
            cells = ["not played"] * len(trials)
            if part in space.values:
                tests = {trial: space.tests(ours, trial, (part,))[part] for trial in trials}
                cells = [
                    f"{space.mean(ours, trial):.4f} against {space.mean(part, trial):.4f} "
                    f"({test.losses}/{test.ties}/{test.wins}, p {p_value_text(test.corrected_p)})"
                    for trial, test in tests.items()
                ]
            rows.append([f"`{space.space}`", f"`{part}`", *cells])
    titles = ["space", "part", *(f"at {trial}" for trial in trials)]
    return markdown_table(titles, rows, range(len(titles)))
