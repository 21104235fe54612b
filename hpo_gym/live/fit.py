"""What a model is told of the training that it is built for."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.presets import TaskType

__all__ = ["Fit"]

_MOST_SEED = 2**32


@dataclass(frozen=True)
class Fit:
    """What a model is built for.

    Args:
        task: What it learns.
        rows: Training rows.
        features: Columns after preprocessing.
        classes: Number of classes; 0 for regression.
        iterations: Trees, rounds or epochs, at least 1.
        seed: Seed of everything random about it, in ``[0, 2**32)``.
        probabilities: Whether a metric needs probabilities of classes.
        image: Channels, height and width where features are pixels.
    """

    task: TaskType
    rows: int
    features: int
    classes: int
    iterations: int
    seed: int
    probabilities: bool = False
    image: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 0 <= self.seed < _MOST_SEED:
            raise InvalidSettingError(
                f"iterations={self.iterations} must be at least 1 and seed={self.seed} in [0, 2**32)."
            )

    @property
    def classification(self) -> bool:
        """Whether classes are learned."""
        return self.task == "classification"
