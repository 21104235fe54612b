"""Where the rows of a record table stand, episode by episode, refused where anything is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["EpisodeLayout", "check_trial", "episode_layout"]

_BUDGET_TOLERANCE = 1e-3


@dataclass(frozen=True)
class EpisodeLayout:
    """Where the rows of a complete record table stand once episodes are sorted and have one column per evaluation.

    Args:
        contenders: ``(agent, run)`` of each of the ``C`` contenders, sorted.
        tasks: ``(source, space, task)`` of each of the ``N`` tasks, sorted.
        seeds: Number of repetitions ``S`` per contender and task.
        budget: Full evaluations per episode, ``T``.
        order: Rows of the table, sorted by episode, then trial.
        episode: The episode of each row in that order, from 0 to ``C * N * S - 1``.
        trial: Its trial, from 1.
        position: int64 ``[C * N * S, T]``: the last row, in that order, that each budget paid for.
    """

    contenders: tuple[tuple[str, str], ...]
    tasks: tuple[tuple[str, str, str], ...]
    seeds: int
    budget: int
    order: np.ndarray[Any, Any]
    episode: np.ndarray[Any, Any]
    trial: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]

    def column(self, trial: int | None) -> int:
        """Return the index of a trial in the last dimension, as that of regret curves does."""
        return check_trial(trial, self.budget) - 1

    def by_agent(self, column: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return a column of the table as ``[N, R, T]`` by agent, repetitions ordered by run, then seed."""
        return self._split(column[self.order])

    def cumulative(self, column: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the sums of a column since the beginning of each episode, as :meth:`by_agent` does.

        NaN from the first trial on whose value is NaN.
        """
        import numpy as np

        trials = np.zeros((len(self.position), int(self.trial.max())))
        trials[self.episode, self.trial - 1] = column[self.order]
        return self._split(trials.cumsum(axis=1)[self.episode, self.trial - 1])

    def _split(self, values: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        grid = values[self.position].reshape(len(self.contenders), len(self.tasks), self.seeds, self.budget)
        runs: dict[str, list[int]] = {}
        for index, (agent, _) in enumerate(self.contenders):
            runs.setdefault(agent, []).append(index)
        shape = (len(self.tasks), -1, self.budget)
        return {agent: grid[indices].swapaxes(0, 1).reshape(shape) for agent, indices in runs.items()}


def episode_layout(frame: pd.DataFrame) -> EpisodeLayout:
    """Return how a table's rows become arrays, and refuse a table with a hole.

    Args:
        frame: That of a :class:`~hpo_gym.evaluation.RecordTable`, ``R`` rows.

    Raises:
        InvalidSettingError: If the table is empty, an agent lacks an episode or a trial that others have (both
            named), or budgets differ.
    """
    import numpy as np

    if len(frame) == 0:
        raise InvalidSettingError("The record table is empty: evaluate at least one agent first.")
    contenders, contender = _labels(frame, ["agent", "run"])
    tasks, task = _labels(frame, ["source", "space", "task"])
    repetitions, repetition = np.unique(frame["seed"].to_numpy(), return_inverse=True)
    shape = (len(contenders), len(tasks), len(repetitions))
    episode = np.ravel_multi_index((contender, task, repetition), shape)

    def named(index: int) -> str:
        which, on, seed = (int(i) for i in np.unravel_index(index, shape))
        (agent, run), (source, space, name) = contenders[which], tasks[on]
        repeated = int(repetitions[seed])
        return f"agent {agent!r}{f' (run {run!r})' if run else ''}, task {source}:{space} {name}, seed {repeated}"

    trial = frame["trial"].to_numpy()
    # Rows are mostly in order already, which a stable sort of one key takes advantage of.
    order = np.argsort(episode * (int(trial.max()) + 1) + trial, kind="stable")
    episode, trial, spent = episode[order], trial[order], frame["spent"].to_numpy()[order]
    _check_complete(episode, trial, int(np.prod(shape)), named)
    budget = int(np.ceil(spent.max() - _BUDGET_TOLERANCE))
    return EpisodeLayout(
        contenders=tuple((agent, run) for agent, run in contenders),
        tasks=tuple((source, space, name) for source, space, name in tasks),
        seeds=len(repetitions),
        budget=budget,
        order=order,
        episode=episode,
        trial=trial,
        position=_positions(episode, spent, int(np.prod(shape)), budget, named),
    )


def _positions(
    episode: np.ndarray[Any, Any],
    spent: np.ndarray[Any, Any],
    episodes: int,
    budget: int,
    named: Callable[[int], str],
) -> np.ndarray[Any, Any]:
    """Return the last row that each whole number of evaluations paid for, ``[episodes, budget]``."""
    import numpy as np

    # A trial shows from the first whole number of evaluations that pays for it.
    column = np.clip(np.ceil(spent - _BUDGET_TOLERANCE).astype(np.int64), 1, budget) - 1
    last = np.zeros(episodes)
    last[episode] = spent
    if (last <= budget - 1 + _BUDGET_TOLERANCE).any():
        least = int(last.argmin())
        raise InvalidSettingError(
            f"Budgets differ: {named(least)} spent {last[least]:g} full evaluations, another episode {budget}. "
            "Evaluate every agent with the same budget."
        )
    position = np.full((episodes, budget), -1)
    # Where several trials fall into one column, the last one written is the latest: rows are in order.
    position[episode, column] = np.arange(len(episode))
    if (position[:, 0] < 0).any():
        first = int(position[:, 0].argmin())
        raise InvalidSettingError(
            f"The first trial of {named(first)} costs more than one full evaluation: regret after 1 is undefined. "
            "Record spent in full evaluations."
        )
    return np.maximum.accumulate(position, axis=1)


def check_trial(trial: int | None, budget: int) -> int:
    """Return a trial that every episode reached; ``None`` means the last one.

    Raises:
        InvalidSettingError: If it is no integer in ``1 .. budget``.
    """
    if trial is None:
        return budget
    if not isinstance(trial, int) or isinstance(trial, bool) or not 1 <= trial <= budget:
        raise InvalidSettingError(
            f"Trial {trial!r} is not in 1 .. {budget}: these episodes spent {budget} full "
            "evaluations. Choose an earlier trial, or evaluate with a larger budget."
        )
    return trial


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
    """Refuse rows, sorted by episode and trial, of which one is missing or there twice."""
    import numpy as np

    count = np.bincount(episode, minlength=episodes)
    missing = np.flatnonzero(count == 0)
    if len(missing):
        raise InvalidSettingError(
            f"{len(missing)} episode(s) of {episodes} are missing, the first being {named(int(missing[0]))}. "
            "Every agent must play the same tasks and seeds: evaluate what is missing, or drop it for all."
        )
    first = np.cumsum(count) - count
    broken = np.flatnonzero(trial != np.arange(len(trial)) - first[episode] + 1)
    if len(broken):
        raise InvalidSettingError(
            f"Trials are missing or doubled (first: {named(int(episode[broken[0]]))}): every episode must hold each of "
            "its trials 1, 2, ... once. Read the record tables again, and join every one once."
        )
