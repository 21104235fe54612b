"""Some tasks of a split, drawn once per seed: what it takes to ask how many training datasets a method needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator
from hpo_gym.tasks.ref import TaskRef

__all__ = ["check_subset", "subset_of"]


def check_subset(max_tasks: int | None, tasks_seed: int) -> None:
    """Refuse impossible values.

    Args:
        max_tasks: How many tasks, at least 1; ``None``: all.
        tasks_seed: Which ones, at least 0.

    Raises:
        InvalidSettingError: Also for a ``tasks_seed`` that draws nothing.
    """
    require_integer("tasks_seed", tasks_seed, 0)
    if max_tasks is not None:
        require_integer("max_tasks", max_tasks, 1, "leave it out for all tasks of the split")
    elif tasks_seed:
        raise InvalidSettingError(
            f"tasks_seed={tasks_seed} has no effect without max_tasks: all tasks of the split are used. Leave it out, "
            "or say how many with max_tasks=<number>."
        )


def subset_of(
    positions: Sequence[int], tasks: Sequence[TaskRef], max_tasks: int | None, tasks_seed: int, split: str
) -> list[int]:
    """Return the positions of the first ``max_tasks`` tasks of one shuffle per seed, in their order in the suite.

    A smaller subset of one seed is part of a larger one. The order in which a source lists its tasks plays no part.

    Args:
        positions: Positions of the split's tasks in the suite.
        tasks: The suite's tasks.
        max_tasks: How many, at least 1; ``None``: all.
        tasks_seed: Which ones.
        split: Name of the split, for messages.

    Raises:
        InvalidSettingError: If there are not so many.
    """
    check_subset(max_tasks, tasks_seed)
    if max_tasks is None:
        return list(positions)
    if max_tasks > len(positions):
        raise InvalidSettingError(
            f"max_tasks={max_tasks}, but split {split!r} holds {len(positions)} tasks. Ask for at most so many, or "
            "leave max_tasks out for all."
        )
    by_name = sorted(positions, key=lambda position: tasks[position])
    # On the CPU whatever the device: every device has a stream of its own.
    order = torch.randperm(len(by_name), generator=generator(tasks_seed, "tasks"))
    return sorted(by_name[index] for index in order[:max_tasks].tolist())
