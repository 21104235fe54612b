"""From records to curves: the mean regret of every agent on every task, refused where anything is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.evaluation.records import RecordTable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["RegretCurves", "regret_curves"]

_BUDGET_TOLERANCE = 1e-3


@dataclass(frozen=True)
class RegretCurves:
    """Mean regret of every agent on every task after 1, 2, ... ``budget`` full evaluations.

    With multi-fidelity, an entry is the regret after the last trial that this budget paid for.

    Args:
        tasks: ``(source, space, task)`` of the ``N`` tasks, sorted.
        seeds: Repetitions per task and run.
        budget: Full evaluations per episode, ``T``.
        runs: Number of training runs of every agent.
        values: float64 ``[N, T]`` by agent, means over seeds and runs.
    """

    tasks: tuple[tuple[str, str, str], ...]
    seeds: int
    budget: int
    runs: Mapping[str, int]
    values: Mapping[str, np.ndarray[Any, Any]]

    def of(self, agent: str, role: str = "agent") -> np.ndarray[Any, Any]:
        """Return the curves of one agent, ``[N, T]``.

        Raises:
            UnknownNameError: If there is no such agent.
        """
        if agent not in self.values:
            raise unknown_name(role, agent, self.values)
        return self.values[agent]

    def check_trial(self, trial: int) -> int:
        """Return ``trial`` if every episode reached it.

        Raises:
            InvalidSettingError: If it is no integer in ``1 .. budget``.
        """
        if not isinstance(trial, int) or isinstance(trial, bool) or not 1 <= trial <= self.budget:
            raise InvalidSettingError(
                f"Trial {trial!r} is not in 1 .. {self.budget}: these episodes spent {self.budget} full "
                "evaluations. Choose an earlier trial, or evaluate with a larger budget."
            )
        return trial


def regret_curves(records: RecordTable) -> RegretCurves:
    """Return the mean regret curves of all agents; the order of rows and agents changes nothing.

    Raises:
        InvalidSettingError: If the table is empty, an agent lacks an episode or a trial that others have (both
            named), budgets differ, or regret is unknown.
    """
    import numpy as np

    frame = records.frame
    if len(frame) == 0:
        raise InvalidSettingError("The record table is empty: evaluate at least one agent first.")
    unknown = frame["regret"].isna()
    if unknown.any():
        source, space = frame.loc[unknown, ["source", "space"]].iloc[0]
        raise InvalidSettingError(
            f"Regret on {source}:{space} is NaN: the range of its tasks is not known. Find and cache it once with "
            f"`python -m hpo_gym.find_optima {source} {space}`, and evaluate again."
        )
    contenders, contender = _labels(frame, ["agent", "run"])
    tasks, task = _labels(frame, ["source", "space", "task"])
    repetitions, repetition = np.unique(frame["seed"].to_numpy(), return_inverse=True)
    shape = (len(contenders), len(tasks), len(repetitions))
    episode = np.ravel_multi_index((contender, task, repetition), shape)

    def named(index: int) -> str:
        which, on, seed = (int(i) for i in np.unravel_index(index, shape))
        (agent, run), (source, space, name) = contenders[which], tasks[on]
        return f"agent {agent!r}{f' (run {run!r})' if run else ''}, task {source}:{space} {name}, seed {seed}"

    trial = frame["trial"].to_numpy()
    _check_complete(episode, trial, int(np.prod(shape)), named)
    order = np.lexsort((trial, episode))
    episode, spent = episode[order], frame["spent"].to_numpy()[order]
    budget = int(np.ceil(spent.max() - _BUDGET_TOLERANCE))
    # A trial shows from the first whole number of evaluations that pays for it.
    column = np.clip(np.ceil(spent - _BUDGET_TOLERANCE).astype(np.int64), 1, budget) - 1
    last = np.zeros(int(np.prod(shape)))
    last[episode] = spent
    if (last <= budget - 1 + _BUDGET_TOLERANCE).any():
        least = int(last.argmin())
        raise InvalidSettingError(
            f"Budgets differ: {named(least)} spent {last[least]:g} full evaluations, another episode {budget}. "
            "Evaluate every agent with the same budget."
        )
    position = np.full((len(last), budget), -1)
    # Where several trials fall into one column, the last one written is the latest: rows are in order.
    position[episode, column] = np.arange(len(episode))
    if (position[:, 0] < 0).any():
        first = int(position[:, 0].argmin())
        raise InvalidSettingError(
            f"The first trial of {named(first)} costs more than one full evaluation: regret after 1 is undefined. "
            "Record spent in full evaluations."
        )
    position = np.maximum.accumulate(position, axis=1)
    curves = frame["regret"].to_numpy()[order][position].reshape(*shape, budget)
    agents = sorted({agent for agent, _ in contenders})
    runs = {agent: [index for index, (name, _) in enumerate(contenders) if name == agent] for agent in agents}
    return RegretCurves(
        tasks=tuple((source, space, name) for source, space, name in tasks),
        seeds=len(repetitions),
        budget=budget,
        runs={agent: len(indices) for agent, indices in runs.items()},
        values={agent: curves[indices].mean(axis=(0, 2)) for agent, indices in runs.items()},
    )


def _labels(frame: pd.DataFrame, columns: list[str]) -> tuple[list[tuple[str, ...]], np.ndarray[Any, Any]]:
    """Return the different values of text columns, sorted, and which one every row has."""
    import numpy as np

    code = np.zeros(len(frame), dtype=np.int64)
    for name in columns:
        code = code * len(frame[name].cat.categories) + frame[name].cat.codes.to_numpy()
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    labels = [tuple(map(str, row)) for row in frame[columns].iloc[first].itertuples(index=False)]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels))
    return [labels[index] for index in order], rank[which]


def _check_complete(
    episode: np.ndarray[Any, Any], trial: np.ndarray[Any, Any], episodes: int, named: Callable[[int], str]
) -> None:
    import numpy as np

    count = np.bincount(episode, minlength=episodes)
    missing = np.flatnonzero(count == 0)
    if len(missing):
        raise InvalidSettingError(
            f"{len(missing)} episode(s) of {episodes} are missing, the first being {named(int(missing[0]))}. "
            "Every agent must play the same tasks and seeds: evaluate what is missing, or drop it for all."
        )
    highest = np.zeros(episodes, dtype=np.int64)
    np.maximum.at(highest, episode, trial)
    different = len(np.unique(episode * (int(trial.max()) + 1) + trial))
    broken = np.flatnonzero(count != highest)
    if len(broken) or different != len(episode):
        where = f" (first: {named(int(broken[0]))})" if len(broken) else ""
        raise InvalidSettingError(
            f"Trials are missing or doubled{where}: every episode must hold each of its trials 1, 2, ... once. "
            "Read the record tables again, and join every one once."
        )
