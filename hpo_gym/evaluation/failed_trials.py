"""How trials ended where models are really trained: a failed one has the worst score, which is to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.live.measurement import STATUSES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ended", "trials_by_status"]

# How a training ended that went wrong; what the search space forbids was not trained.
_FAILURES = {position: name for position, name in enumerate(STATUSES) if name not in ("ok", "forbidden")}


@dataclass(frozen=True)
class Ended:
    """How one agent's trials ended.

    Args:
        evaluations: How many there were.
        failures: How many of them failed, by status; only those that occurred.
    """

    evaluations: int
    failures: dict[str, int]


def trials_by_status(records: RecordTable) -> dict[str, Ended]:
    """Return how the trials of every agent ended.

    Raises:
        InvalidSettingError: If no trial of a task ended well: then all regrets of the task would be 0.
    """
    frame = records.frame
    how = frame["status"].map(_FAILURES)
    for (source, space, task), mine in how.groupby(
        [frame[name] for name in ("source", "space", "task")], observed=True
    ):
        if mine.notna().all():
            told = ", ".join(f"{count} {name}" for name, count in _counts(mine).items())
            raise InvalidSettingError(
                f"Every training on {source}:{space} {task} failed ({told}), so that there is nothing to "
                "compare. The warnings above say why the first ones did; seconds and memory of a training are "
                "env.source_options."
            )
    return {str(agent): Ended(len(mine), _counts(mine)) for agent, mine in how.groupby(frame["agent"], observed=True)}


def _counts(how: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in how.value_counts().items()}
