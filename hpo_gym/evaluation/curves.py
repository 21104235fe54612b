"""From records to curves: the mean regret of every agent on every task, refused where anything is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.evaluation.layout import check_trial
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.tasks.unknown_range import range_remedy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["RegretCurves", "regret_curves"]


# Sources whose tasks have no range that could be known beforehand.
_MEASURED = ("live",)
# Below this a difference of scores is rounding.
_LEAST_RANGE = 1e-6


@dataclass(frozen=True)
class RegretCurves:
    """Regret of every agent on every task after 1, 2, ... ``budget`` full evaluations.

    With multi-fidelity, an entry is the regret after the last trial that this budget paid for.

    Args:
        tasks: ``(source, space, task)`` of the ``N`` tasks, sorted.
        seeds: Repetitions per task and run.
        budget: Full evaluations per episode, ``T``.
        runs: Number of training runs of every agent, sorted by agent.
        values: float64 ``[N, T]`` by agent, means over seeds and runs.
        episodes: float64 ``[N, R, T]`` by agent: every repetition, ordered by run, then seed; ``R`` is runs x
            seeds and differs between agents with different numbers of runs.
        relative: Whether some regrets are relative to what was found by these agents (see :func:`regret_curves`).
    """

    tasks: tuple[tuple[str, str, str], ...]
    seeds: int
    budget: int
    runs: Mapping[str, int]
    values: Mapping[str, np.ndarray[Any, Any]]
    episodes: Mapping[str, np.ndarray[Any, Any]]
    relative: bool = False

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the agents, sorted."""
        return tuple(self.values)

    @property
    def spaces(self) -> tuple[str, ...]:
        """``"source:space"`` of each of the ``N`` tasks."""
        return tuple(f"{source}:{space}" for source, space, _ in self.tasks)

    def of(self, agent: str, role: str = "agent") -> np.ndarray[Any, Any]:
        """Return the curves of one agent, ``[N, T]``.

        Raises:
            UnknownNameError: If there is no such agent.
        """
        if agent not in self.values:
            raise unknown_name(role, agent, self.values)
        return self.values[agent]

    def check_trial(self, trial: int | None) -> int:
        """Return ``trial`` if every episode reached it; ``None`` means the last one, when the budget is spent.

        Raises:
            InvalidSettingError: If it is no integer in ``1 .. budget``.
        """
        return check_trial(trial, self.budget)

    def column(self, trial: int | None) -> int:
        """Return the index of a trial in the last dimension; ``None`` means when the budget is spent.

        Raises:
            InvalidSettingError: If it is no integer in ``1 .. budget``.
        """
        return check_trial(trial, self.budget) - 1


def regret_curves(records: RecordTable) -> RegretCurves:
    """Return the regret curves of all agents; the order of rows and agents changes nothing.

    Where models are really trained (``source`` is ``live``) nobody knows the best configuration. There regret is
    relative to what the agents of this table found: 0 is the best incumbent of any of them on the task, 1 the worst
    first one, so that it changes with who takes part.

    Raises:
        InvalidSettingError: If the table is empty, an agent lacks an episode or a trial that others have (both
            named), budgets differ, or regret is unknown.
    """
    import numpy as np

    layout = records.layout
    frame = records.frame
    regret = frame["regret"].to_numpy(copy=True)
    relative = (frame["regret"].isna() & frame["source"].isin(_MEASURED)).to_numpy()
    if relative.any():
        regret[relative] = _relative_regret(frame[relative])
    unknown = np.isnan(regret)
    if unknown.any():
        source, space = frame.loc[unknown, ["source", "space"]].iloc[0]
        raise InvalidSettingError(
            f"Regret on {source}:{space} is NaN: the range of its tasks is not known. {range_remedy(source, space)} "
            "A metric or restriction that the environments were asked for belongs to the range, too (--metric, "
            "--restriction). Then evaluate again."
        )
    episodes = layout.by_agent(regret)
    names = [agent for agent, _ in layout.contenders]
    return RegretCurves(
        tasks=layout.tasks,
        seeds=layout.seeds,
        budget=layout.budget,
        runs={agent: names.count(agent) for agent in episodes},
        values={agent: values.mean(axis=1) for agent, values in episodes.items()},
        episodes=episodes,
        relative=bool(relative.any()),
    )


def _relative_regret(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return how far each incumbent is from the best that was found on its task, float64 ``[R]`` in ``[0, 1]``."""
    import numpy as np

    tasks = frame.groupby(["source", "space", "task"], observed=True)["incumbent"]
    best, worst = tasks.transform("max").to_numpy(), tasks.transform("min").to_numpy()
    span = best - worst
    return np.where(span > _LEAST_RANGE, (best - frame["incumbent"].to_numpy()) / np.maximum(span, _LEAST_RANGE), 0.0)
