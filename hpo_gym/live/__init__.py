"""Real training as an objective: what is trained (datasets, models), and where it runs (isolated workers, clusters).

Everything is imported on first use: ``import hpo_gym.live`` needs no machine-learning library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_gym.lazy_names import lazy_names

if TYPE_CHECKING:
    from hpo_gym.live.build import grpoformer_objective, objective, own_model, preset_objective
    from hpo_gym.live.datasets import DataSource, data_source, load_table, store_arrays
    from hpo_gym.live.executors import ExecutorSettings, close_executors
    from hpo_gym.live.limits import Limits
    from hpo_gym.live.live_objective import LiveObjective
    from hpo_gym.live.measurement import STATUSES, Measurement
    from hpo_gym.live.openml_data import OpenMLSettings
    from hpo_gym.live.refitting import refit
    from hpo_gym.live.suite import live_suite, suite_of
    from hpo_gym.live.surrogate import LiveSurrogate
    from hpo_gym.live.user_model import UserModel
    from hpo_gym.live.validation import Validation

__all__ = [
    "STATUSES",
    "DataSource",
    "ExecutorSettings",
    "Limits",
    "LiveObjective",
    "LiveSurrogate",
    "Measurement",
    "OpenMLSettings",
    "UserModel",
    "Validation",
    "close_executors",
    "data_source",
    "grpoformer_objective",
    "live_suite",
    "load_table",
    "objective",
    "own_model",
    "preset_objective",
    "refit",
    "store_arrays",
    "suite_of",
]

_LAZY = {
    "LiveSurrogate": "surrogate",
    "suite_of": "suite",
    "live_suite": "suite",
    "close_executors": "executors",
    "ExecutorSettings": "executors",
    "store_arrays": "datasets",
    "preset_objective": "build",
    "grpoformer_objective": "build",
    "objective": "build",
    "refit": "refitting",
    "own_model": "build",
    "load_table": "datasets",
    "data_source": "datasets",
    "Validation": "validation",
    "UserModel": "user_model",
    "OpenMLSettings": "openml_data",
    "LiveObjective": "live_objective",
    "DataSource": "datasets",
    "Limits": "limits",
    "Measurement": "measurement",
    "STATUSES": "measurement",
}

__getattr__ = lazy_names(__name__, _LAZY)
