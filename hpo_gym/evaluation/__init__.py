"""Evaluation: one loop, one counter, records of every trial, statistics, a table and a figure.

Nothing here knows an agent by name: whoever has one wraps its ``act`` in a :class:`Contender`.
"""

from __future__ import annotations

from hpo_gym.evaluation.cells import CellStore
from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.contender import Contender, EpisodicContender
from hpo_gym.evaluation.curves import RegretCurves, regret_curves
from hpo_gym.evaluation.figure import regret_figure, save_figure
from hpo_gym.evaluation.loop import Rules
from hpo_gym.evaluation.metrics import (
    GRPOformerMetrics,
    HPOBAggregate,
    area_under_curve,
    best_score,
    grpoformer_metrics,
    hpob_aggregate,
    log_regret,
    mean_ranks,
    seconds_to_reach,
    trials_to_reach,
)
from hpo_gym.evaluation.profiles import Profile, performance_profile
from hpo_gym.evaluation.records import COLUMNS, RecordTable
from hpo_gym.evaluation.robust import interquartile_mean, stratified_interval
from hpo_gym.evaluation.run import EvaluationResult, Failure, evaluate, evaluate_all
from hpo_gym.evaluation.significance import (
    AllPairs,
    FriedmanResult,
    PairedTest,
    WinsTiesLosses,
    all_pairs,
    critical_difference,
    friedman,
    pairwise_tests,
    wins_ties_losses,
)
from hpo_gym.evaluation.statistics import bootstrap_interval, chosen_trials, summarise
from hpo_gym.evaluation.table import comparison_markdown, comparison_table

__all__ = [
    "COLUMNS",
    "AllPairs",
    "CellStore",
    "ConfigurationTable",
    "Contender",
    "EpisodicContender",
    "EvaluationResult",
    "Failure",
    "FriedmanResult",
    "GRPOformerMetrics",
    "HPOBAggregate",
    "PairedTest",
    "Profile",
    "RecordTable",
    "RegretCurves",
    "Rules",
    "WinsTiesLosses",
    "all_pairs",
    "area_under_curve",
    "best_score",
    "bootstrap_interval",
    "chosen_trials",
    "comparison_markdown",
    "comparison_table",
    "critical_difference",
    "evaluate",
    "evaluate_all",
    "friedman",
    "grpoformer_metrics",
    "hpob_aggregate",
    "interquartile_mean",
    "log_regret",
    "mean_ranks",
    "pairwise_tests",
    "performance_profile",
    "regret_curves",
    "regret_figure",
    "save_figure",
    "seconds_to_reach",
    "stratified_interval",
    "summarise",
    "trials_to_reach",
    "wins_ties_losses",
]
