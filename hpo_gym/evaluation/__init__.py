"""Evaluation: one loop, one counter, records of every trial, statistics, a table and a figure.

Nothing here knows an agent by name: whoever has one wraps its ``act`` in a :class:`Contender`.
"""

from __future__ import annotations

from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.figure import regret_figure, save_figure
from hpo_gym.evaluation.loop import Contender, evaluate
from hpo_gym.evaluation.records import COLUMNS, RecordTable
from hpo_gym.evaluation.statistics import (
    WinsTiesLosses,
    bootstrap_interval,
    chosen_trials,
    summarise,
    trials_to_reach,
    wins_ties_losses,
)
from hpo_gym.evaluation.table import comparison_markdown, comparison_table

__all__ = [
    "COLUMNS",
    "Contender",
    "RecordTable",
    "RegretCurves",
    "WinsTiesLosses",
    "bootstrap_interval",
    "chosen_trials",
    "comparison_markdown",
    "comparison_table",
    "evaluate",
    "regret_curves",
    "regret_figure",
    "save_figure",
    "summarise",
    "trials_to_reach",
    "wins_ties_losses",
]
