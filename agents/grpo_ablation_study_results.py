"""What the ablation study of GRPO keeps, and what was played in a search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.grpo_ablations import VARIANTS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["COMMAND", "LOGGED", "NAME", "RANDOM", "TRAINING", "TRIALS", "SpaceAblations", "ablations_of"]

#: Names of the result files: regrets with their facts, and what the trainings logged.
NAME, TRAINING = "grpo-ablations", "grpo-ablations-training"
COMMAND = "python -m agents.grpo_ablation_study"
RANDOM = "random"
#: Evaluations after which regret is kept.
TRIALS = (5, 10, 20, 30)
#: What is kept of a training, and what TensorBoard calls it.
LOGGED = {
    "returns": "episode/return",
    "churn": "agent/churn",
    "divergence": "agent/divergence",
    "clipped": "agent/clipped",
}


@dataclass(frozen=True)
class SpaceAblations:
    """What was played in a space.

    Args:
        space: Its name.
        tasks: The ``N`` test datasets.
        values: Regret after :data:`TRIALS` of each of ``S`` trainings, float64 ``[N, S, K]`` by variant, means over
            repetitions; of random search, as many groups of episodes.
    """

    space: str
    tasks: tuple[str, ...]
    values: Mapping[str, np.ndarray[Any, Any]]

    def of_seeds(self, variant: str, trial: int) -> np.ndarray[Any, Any]:
        """Return the mean regret of each training over datasets after ``trial`` evaluations, ``[S]``."""
        means: np.ndarray[Any, Any] = self.values[variant][:, :, TRIALS.index(trial)].mean(0)
        return means


def ablations_of(space: str, rows: pd.DataFrame) -> SpaceAblations:
    """Return what was played in a space from the rows of the study's regrets."""
    import numpy as np

    tasks = tuple(sorted(set(rows["task"])))
    values = {}
    for variant in (*VARIANTS, RANDOM):
        mine = rows[rows["variant"] == variant].sort_values(["task", "seed"])
        if len(mine):
            values[variant] = np.stack(mine["regret"].tolist()).astype("float64").reshape(len(tasks), -1, len(TRIALS))
    return SpaceAblations(space, tasks, values)
