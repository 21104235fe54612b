"""How trials ended where models are really trained: a failed one has the worst score, which is to be told."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.live.measurement import STATUSES

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
    failed = frame["status"].isin(list(_FAILURES))
    keys = [frame[name] for name in ("source", "space", "task")]
    hopeless = failed.groupby(keys, observed=True).all()
    if hopeless.any():
        source, space, task = hopeless.index[hopeless.argmax()]
        why = frame["status"].map(_FAILURES)[(frame["task"] == task) & (frame["space"] == space)].value_counts()
        told = ", ".join(f"{count} {name}" for name, count in why.items())
        raise InvalidSettingError(
            f"Every training on {source}:{space} {task} failed ({told}), so that there is nothing to compare. The "
            "warnings above say why the first ones did; seconds and memory of a training are env.source_options."
        )
    counted = frame[failed].groupby(["agent", "status"], observed=True).size()
    found = {}
    for agent, count in frame["agent"].value_counts().items():
        mine = counted[agent] if agent in counted.index.get_level_values(0) else {}
        found[str(agent)] = Ended(int(count), {_FAILURES[int(status)]: int(many) for status, many in mine.items()})
    return found
