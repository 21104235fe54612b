"""What the tests of figures draw, and what they read from a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from hpo_gym.evaluation import RecordTable

#: Final regret by agent, then task, then repetition; the first trial is 0.95 for everybody.
#:
#: =====  ==============  ==============  ==============  ====
#: agent  task 0 (one)    task 1 (one)    task 2 (two)    mean
#: =====  ==============  ==============  ==============  ====
#: ada    0.1, 0.3: 0.2   0.0, 0.0: 0.0   0.4, 0.4: 0.4   0.2
#: bob    0.2, 0.2: 0.2   0.1, 0.3: 0.2   0.1, 0.1: 0.1   1/6
#: cy     0.5, 0.7: 0.6   0.9, 0.9: 0.9   0.4, 0.4: 0.4   19/30
#: mean   1/3             11/30           3/10
#: =====  ==============  ==============  ==============  ====
FINAL = {
    "ada": [[0.1, 0.3], [0.0, 0.0], [0.4, 0.4]],
    "bob": [[0.2, 0.2], [0.1, 0.3], [0.1, 0.1]],
    "cy": [[0.5, 0.7], [0.9, 0.9], [0.4, 0.4]],
}
SPACES = ("one", "one", "two")


def table(
    final: dict[str, list[list[float]]], spaces: Sequence[str] = SPACES, first: float | None = 0.95
) -> RecordTable:
    """Return records of one space per task; one trial with ``first=None``, else two."""
    rows = [
        (agent, space, f"custom:{task}", seed, trial, regret)
        for agent, tasks in final.items()
        for task, (space, seeds) in enumerate(zip(spaces, tasks, strict=True))
        for seed, last in enumerate(seeds)
        for trial, regret in enumerate([last] if first is None else [first, last], start=1)
    ]
    frame = pd.DataFrame(rows, columns=["agent", "space", "task", "seed", "trial", "regret"])
    frame["score"] = frame["metric"] = frame["incumbent"] = 1.0 - frame["regret"]
    frame = frame.assign(run="", source="made", dataset=frame["task"], spent=frame["trial"], fidelity=1.0)
    return RecordTable(frame.assign(seconds=np.nan, agent_seconds=0.0))


def made(agents: Sequence[str], tasks: int, seeds: int, first: float | None = 0.95) -> RecordTable:
    draws = np.random.default_rng(0)
    final = {agent: draws.uniform(0.001, 0.9, (tasks, seeds)).round(4).tolist() for agent in agents}
    return table(final, ["one", "two", *["three"] * (tasks - 2)][:tasks], first)


def lines(figure: Figure, axes: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the data of every line by its label."""
    found = figure.axes[axes].get_lines()
    return {str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found}


def texts(figure: Figure) -> list[str]:
    return [text for each in figure.findobj(Text) if (text := each.get_text().strip())]
