"""The numbers of the study of Sequential Policy Gradient: its result files, and what is compared of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agents.study import mean_curves
from hpo_gym.evaluation import PairedTest, pairwise_tests

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["LEVEL", "NONE", "START", "Study", "direction"]

LEVEL = 0.05
#: Training as long without anything, and the weights that all methods begin with.
NONE, START = "none", "start"


@dataclass(frozen=True)
class Study:
    """The results of the study.

    Args:
        rows: ``regime``, ``task``, ``seed``, ``method`` and the figures, one row per training.
        facts: What they were made with.
    """

    rows: pd.DataFrame
    facts: Mapping[str, Any]

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order of the page."""
        return list(self.facts["tasks"])

    @property
    def forms(self) -> list[str]:
        """SPG's forms."""
        return [form["name"] for form in self.facts["forms"]]

    @property
    def regimes(self) -> list[str]:
        """The regimes."""
        return [regime["name"] for regime in self.facts["regimes"]]

    def methods(self, regime: str) -> list[str]:
        """Return all methods of a regime, SPG's forms last."""
        known = [START, *self.facts["controls"], *self.forms]
        there = set(self.rows.loc[self.rows["regime"] == regime, "method"])
        return [method for method in known if method in there]

    def values(self, regime: str, method: str, figure: str) -> np.ndarray[Any, Any]:
        """Return a figure of a method, float64 ``[S, N]``: ``S`` seeds, ``N`` tasks."""
        values: np.ndarray[Any, Any] = self._pivoted[regime, method][figure][self.tasks].to_numpy(dtype=float)
        return values

    @cached_property
    def _pivoted(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The rows by regime and method: one row per seed, columns by figure and task."""
        return {
            key: part.set_index(["seed", "task"]).drop(columns=["regime", "method"]).unstack("task").sort_index()
            for key, part in self.rows.groupby(["regime", "method"])
        }

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], dict[str, PairedTest]]:
        """What :meth:`compare` says of the mean over tasks, by regime and form."""
        return {(regime, form): self.compare(regime, form) for regime in self.regimes for form in self.forms}

    def compare(self, regime: str, form: str, task: str | None = None) -> dict[str, PairedTest]:
        """Test a form's test errors against every control over seeds, Holm over the controls.

        Args:
            regime: The regime.
            form: One of SPG's; ``wins`` of a test are seeds on which *the control's* error is lower.
            task: The task; ``None``: the mean over tasks.
        """
        chosen = slice(None) if task is None else [self.tasks.index(task)]
        methods = [form, *self.facts["controls"]]
        errors = {name: self.values(regime, name, "error")[:, chosen].mean(1)[:, None] for name in methods}
        units = [("", "", str(seed)) for seed in range(len(errors[form]))]
        return pairwise_tests(mean_curves(units, errors), form)

    def difference(self, regime: str, form: str, control: str, task: str | None = None) -> np.ndarray[Any, Any]:
        """Return a form's test error minus a control's in points, ``[S]``; the mean over tasks for ``None``."""
        chosen = slice(None) if task is None else [self.tasks.index(task)]
        gap = self.values(regime, form, "error") - self.values(regime, control, "error")
        difference: np.ndarray[Any, Any] = 100.0 * gap[:, chosen].mean(1)
        return difference

    def cost(self, regime: str, method: str) -> np.ndarray[Any, Any]:
        """Return the seconds of a method over those of training without anything, ``[N]``."""
        mine, alone = (self.values(regime, name, "seconds").sum(0) for name in (method, NONE))
        ratio: np.ndarray[Any, Any] = mine / alone
        return ratio


def direction(test: PairedTest) -> int:
    """Return -1 where SPG's error is significantly lower than a control's, 1 where it is higher, else 0."""
    if test.corrected_p >= LEVEL:
        return 0
    return -1 if test.losses > test.wins else 1
