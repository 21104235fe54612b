"""A dataset in memory: one matrix of numbers, ready to be split and to be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.presets import TaskType

__all__ = ["Table"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Names that an error lists before it only counts.
_LISTED = 5


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one dataset, ``n`` of them with ``p`` features.

    Args:
        name: What messages call it.
        values: Features, float64 ``[n, p]``; a categorical one holds the number of its level; NaN where missing.
        target: Class numbers, int64 ``[n]`` in ``[0, C)``, or values, float64 ``[n]``.
        columns: Names of the ``p`` features.
        levels: Number of levels of each feature; 0 for a numeric one.
        classes: Names of the ``C`` classes; empty for regression.
        qualities: The 20 qualities of :data:`hpo_gym.tasks.datasets.QUALITIES`, in that order.
        image: Channels, height and width where the features are the pixels of an image.
        folds: Official splits, int16 ``[R, n]``: in which fold of each repetition a row is a test row, -1 for none.
        provenance: Where it came from.

    Raises:
        InvalidSettingError: If nothing can be learned from it: too few rows, one class only, a constant target, no
            feature that varies, infinite values, a missing target, or a feature without a single value.
    """

    name: str
    values: FloatArray
    target: IntArray | FloatArray
    columns: tuple[str, ...]
    levels: tuple[int, ...]
    classes: tuple[str, ...]
    qualities: tuple[float, ...]
    image: tuple[int, int, int] | None = None
    folds: NDArray[np.int16] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, features = self.values.shape
        if rows != len(self.target):
            raise InvalidSettingError(
                f"{self.name} has {rows} rows of features and {len(self.target)} targets: give as many of both."
            )
        if rows < 2:
            raise InvalidSettingError(f"{self.name} has {rows} row(s): nothing can be learned from fewer than 2.")
        self._check_target()
        self._check_features()
        if self.image is not None and int(np.prod(self.image)) != features:
            raise InvalidSettingError(
                f"{self.name} has {features} features, which are no images of shape {self.image}."
            )

    def _check_target(self) -> None:
        if self.task == "regression":
            if not np.isfinite(self.target).all():
                raise InvalidSettingError(
                    f"The target of {self.name} is missing or infinite in {int((~np.isfinite(self.target)).sum())} "
                    "rows: remove them."
                )
            if float(np.ptp(self.target)) == 0.0:
                raise InvalidSettingError(f"The target of {self.name} is constant ({self.target[0]:g}).")
            return
        present = np.unique(self.target)
        if len(present) < 2:
            raise InvalidSettingError(
                f"{self.name} has one class only ({self.classes[int(present[0])]!r}): a classifier needs two."
            )

    def _check_features(self) -> None:
        if not self.columns:
            raise InvalidSettingError(f"{self.name} has no features: only the target is left.")
        infinite = self._named(np.isinf(self.values).any(0))
        if infinite:
            raise InvalidSettingError(f"{self.name} has infinite values in {infinite}: replace them, or make them NaN.")
        empty = np.isnan(self.values).all(0)
        if empty.any():
            raise InvalidSettingError(
                f"{self.name} has no value at all in {self._named(empty)}: leave such columns out (of a file: "
                "data_source(<path>, drop=(...)))."
            )
        if not (np.nanmax(self.values, 0) > np.nanmin(self.values, 0)).any():
            raise InvalidSettingError(
                f"Every feature of {self.name} is constant ({self._named(~empty)}): nothing can be learned from it."
            )

    def _named(self, chosen: NDArray[np.bool_] | np.bool_) -> str:
        names = [repr(name) for name, taken in zip(self.columns, np.atleast_1d(chosen), strict=True) if taken]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return ", ".join(names[:_LISTED]) + more

    @property
    def task(self) -> TaskType:
        """What is learned."""
        return "classification" if self.classes else "regression"

    @property
    def num_rows(self) -> int:
        """``n``."""
        return len(self.target)

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions of the categorical features."""
        return tuple(index for index, count in enumerate(self.levels) if count)

    @property
    def numeric(self) -> tuple[int, ...]:
        """Positions of the numeric features."""
        return tuple(index for index, count in enumerate(self.levels) if not count)
