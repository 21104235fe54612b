"""From played episodes to the record table and the table of configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.loop import Played, Stage
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.tasks.datasets import dataset_key

__all__ = ["assemble"]

_NUMBERS = ("score", "incumbent", "spent", "fidelity", "seconds", "agent_seconds", "status")


def assemble(stages: Sequence[Stage], played: Sequence[Sequence[Played]]) -> tuple[RecordTable, ConfigurationTable]:
    """Return the tables of what was played: contenders in their order, episodes and trials in theirs.

    Args:
        stages: Who played where; all on one suite.
        played: What each played, in any order.
    """
    import numpy as np

    tables: list[RecordTable] = []
    numbers: list[np.ndarray[Any, Any]] = []
    for stage, parts in zip(stages, played, strict=True):
        if parts:
            ordered = sorted(parts, key=lambda part: int(part.episode[0]))
            tables.append(_records(stage, ordered))
            numbers.extend(part.numbers for part in ordered)
    columns = stages[0].engine.suite.space.spec.columns
    if not tables:
        empty = _records(stages[0], [])
        return empty, ConfigurationTable.from_numbers(empty.frame, np.empty((0, len(columns))), columns)
    records = RecordTable.concat(tables)
    return records, ConfigurationTable.from_numbers(records.frame, np.concatenate(numbers), columns)


def _records(stage: Stage, parts: Sequence[Played]) -> RecordTable:
    import numpy as np
    import pandas as pd
    import torch

    suite, tasks = stage.engine.suite, stage.engine.tasks.cpu().numpy()

    def joined(name: str) -> np.ndarray[Any, Any]:
        return np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0)

    episode = joined("episode").astype(np.int64)
    task, repetition = tasks[episode % len(tasks)], episode // len(tasks)
    columns: dict[str, Any] = {name: joined(name) for name in _NUMBERS}
    score, incumbent = (torch.from_numpy(columns[name]).to(suite.device) for name in ("score", "incumbent"))
    columns["metric"] = suite.to_metric(score).cpu().numpy()
    columns["regret"] = np.full(len(task), np.nan)
    if suite.known_range is not None:
        position = torch.from_numpy(task).to(suite.device)
        columns["regret"] = suite.regret(position, incumbent.float()).double().cpu().numpy()
    columns |= {"seed": repetition, "trial": joined("trial").astype(np.int64)}
    keys = [dataset_key(ref) for ref in suite.tasks]
    datasets = sorted(set(keys))
    dataset = np.array([datasets.index(key) for key in keys])[task]
    constants = {
        "agent": stage.contender.name,
        "run": stage.contender.run,
        "source": suite.spec.source,
        "space": suite.name,
    }
    zeros = np.zeros(len(task), dtype=np.int8)
    text = {name: pd.Categorical.from_codes(zeros, [value]) for name, value in constants.items()}
    text["task"] = pd.Categorical.from_codes(task, [str(ref) for ref in suite.tasks])
    text["dataset"] = pd.Categorical.from_codes(dataset, datasets)
    return RecordTable(pd.DataFrame(text | columns))
