"""The configurations that episodes end with, scored by something else than what they were searched on.

An optimiser finds the faults of a response surface before it finds good configurations. Whether a gain is genuine is
seen when its winners are scored by what the surface was fitted to: the published surrogate, or genuine runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import ConfigurationTable, EvaluationResult
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.spaces import Column, SearchSpace
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import TaskSuite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["SURFACE_OPTIMUM", "Winners", "beside_genuine_runs", "score_exactly", "surface_optimum", "winners_of"]

#: Who "plays" the best configuration that is known of the surface itself: nobody can find a better winner there.
SURFACE_OPTIMUM = "surface_optimum"

# Values went through single precision; what lies further outside than its rounding belongs to another space.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Winners:
    """Incumbents of episodes, one row for each episode and number of evaluations.

    Args:
        frame: ``agent``, ``task`` (``str(TaskRef)``), ``seed``, ``trial`` (evaluations until then), ``score`` (in
            ``[0, 1]``) and ``regret`` by the surface that was searched, then a column for each hyperparameter, as in a
            :class:`~hpo_gym.evaluation.ConfigurationTable`.
        hyperparameters: What these are, in the order of their columns.
    """

    frame: pd.DataFrame
    hyperparameters: tuple[Column, ...]

    def points(self, space: SearchSpace) -> Tensor:
        """Return the configurations in a space with the same hyperparameters, by their names: float64 ``[R, D]``.

        Raises:
            InvalidSettingError: If the space has other hyperparameters, or a value lies outside it.
        """
        mine, theirs = {column.name for column in self.hyperparameters}, set(space.names)
        if mine != theirs:
            raise InvalidSettingError(
                f"The winners have the hyperparameters {sorted(mine)}, the space that is to score them "
                f"{sorted(theirs)}. Give the suite that their surface was fitted to."
            )
        columns = [_numbers(self.frame[column.name], column) for column in space.spec.columns]
        return space.encode(torch.stack(columns, 1).to(space.device))


def _numbers(values: pd.Series[Any], column: Column) -> Tensor:
    """Return natural values of a hyperparameter, choices by position, NaN where inactive: float64 ``[R]``."""
    if column.is_numeric:
        found = torch.from_numpy(values.to_numpy(dtype="float64", copy=True))
        slack = _ROUNDING * max(abs(column.lower), abs(column.upper))
        outside = (found < column.lower - slack) | (found > column.upper + slack)
        allowed = f"[{column.lower}, {column.upper}]"
    else:
        positions = {str(choice): float(index) for index, choice in enumerate(column.choices)}
        inactive = torch.from_numpy(values.isna().to_numpy(copy=True))
        found = torch.tensor([positions.get(str(value), torch.nan) for value in values], dtype=torch.float64)
        outside = found.isnan() & ~inactive
        allowed = ", ".join(positions)
    if bool(outside.any()):
        value = values.iloc[int(outside.nonzero()[0])]
        raise InvalidSettingError(
            f"{column.name}={value!r} lies outside {allowed}. Give the suite that the surface was fitted to."
        )
    return found


def winners_of(result: EvaluationResult, trials: Sequence[int]) -> Winners:
    """Return the best configuration of every episode after some numbers of evaluations.

    Of equally good ones it is the first.

    Args:
        result: Complete, every trial a full evaluation.
        trials: The numbers of evaluations.

    Raises:
        InvalidSettingError: If an episode is shorter.
    """
    import pandas as pd

    frame = result.records.frame
    budget = int(frame["trial"].max())
    parts = []
    for trial in trials:
        if not 1 <= trial <= budget:
            raise InvalidSettingError(f"trial={trial!r} must lie in 1 .. {budget}, the evaluations of an episode.")
        until = frame[frame["trial"] <= trial]
        best = until.groupby(["agent", "run", "task", "seed"], observed=True)["score"].idxmax().to_numpy()
        # The regret of a row is that of the incumbent, which here is the row itself.
        rows = frame.loc[best, ["agent", "task", "seed", "score", "regret"]].astype({"agent": str, "task": str})
        names = [column.name for column in result.configurations.hyperparameters]
        parts.append(pd.concat([rows.assign(trial=trial), result.configurations.frame.loc[best, names]], axis=1))
    return Winners(pd.concat(parts, ignore_index=True), result.configurations.hyperparameters)


def surface_optimum(suite: TaskSuite, tasks: Sequence[str], trials: Sequence[int]) -> Winners:
    """Return the best configurations that are known of a surface, as if they had been found by each of some trials.

    Args:
        suite: The surface; its range must be known.
        tasks: ``str(TaskRef)`` of tasks.
        trials: Numbers of evaluations.
    """
    import pandas as pd

    known = suite.require_range()
    rows = suite.subset([TaskRef.parse(task) for task in tasks])
    constants = {"agent": SURFACE_OPTIMUM, "run": "", "source": suite.spec.source, "space": suite.name, "seed": 0}
    keys = pd.concat([pd.DataFrame({**constants, "task": tasks, "trial": trial}) for trial in trials])
    keys = keys.reset_index(drop=True)
    numbers = suite.space.decode(known.best_u[rows].double()).repeat(len(trials), 1).cpu().numpy()
    columns = suite.space.spec.columns
    frame = ConfigurationTable.from_numbers(keys, numbers, columns).frame.drop(columns=["run", "source", "space"])
    best = known.best[rows].repeat(len(trials)).double().cpu().numpy()
    return Winners(frame.assign(score=best, regret=0.0), columns)


@torch.no_grad()
def score_exactly(winners: Winners, exact: TaskSuite) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return score and normalised regret of winners by another suite over the same hyperparameters.

    Args:
        winners: ``R`` of them.
        exact: What scores them; its range, on which the regret lies, must be known.

    Returns:
        Scores in ``[0, 1]`` and regrets ``(best - score) / (best - worst)``, float64 ``[R]``; a regret may be a little
        below 0 where a winner beats the best that is known.

    Raises:
        InvalidSettingError: If the space has other hyperparameters, or the range is not known.
        UnknownNameError: If the suite lacks a task.
    """
    u = winners.points(exact.space).float()
    task = exact.subset([TaskRef.parse(text) for text in winners.frame["task"]])
    score = exact.evaluate(task, u, exact.space.active(u)).score
    return score.double().cpu().numpy(), exact.regret(task, score).double().cpu().numpy()


def beside_genuine_runs(winners: Winners, runs: RunTable) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what genuine runs reached on the datasets of winners: the best of all, and the one nearest to each.

    Args:
        winners: ``R`` of them, on OpenML tasks.
        runs: Runs whose first metric is what the surface was fitted to; over the same hyperparameters.

    Returns:
        The largest metric of any run on the dataset, and that of the run whose configuration is nearest (Euclidean, in
        the unit cube, choices a whole unit apart), both float64 ``[R]``.

    Raises:
        InvalidSettingError: If the table has other hyperparameters, or lacks a task.
    """
    space = SearchSpace(runs.spec)
    points, reached = _spread(winners.points(space), space), runs.values[:, 0].double()
    tried = _spread(runs.u.double(), space)
    position = {identity: index for index, identity in enumerate(runs.task_ids)}
    best, nearest = torch.empty(len(points)).double(), torch.empty(len(points)).double()
    tasks = winners.frame["task"].to_numpy()
    for text in dict.fromkeys(tasks):
        task = TaskRef.parse(text).id
        if task not in position:
            raise InvalidSettingError(f"There is no genuine run on task {text}. Give the runs that the surface fits.")
        here, there = torch.from_numpy(tasks == text), runs.task == position[task]
        best[here] = reached[there].max()
        nearest[here] = reached[there][torch.cdist(points[here], tried[there]).argmin(1)]
    return best.numpy(), nearest.numpy()


def _spread(u: Tensor, space: SearchSpace) -> Tensor:
    """Return points with choices as indicator columns, any two different ones a unit apart: ``[R, E]``."""
    numbers, parts = space.numbers(u), []
    for index, column in enumerate(space.spec.columns):
        if column.is_numeric:
            parts.append(u[:, index : index + 1])
        else:
            parts.append(torch.nn.functional.one_hot(numbers[:, index].long(), len(column.choices)) * 0.5**0.5)
    return torch.cat(parts, 1)
