"""The six spaces of the bundle: what each is fitted to, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpo_gym.fitting.runs import RunFitSettings
from hpo_gym.fitting.train import FitSettings
from hpo_gym.surrogates.compact import CompactArchitecture

__all__ = ["RUN_RECIPES", "SURROGATE_RECIPES", "RunRecipe", "SurrogateRecipe"]


@dataclass(frozen=True)
class SurrogateRecipe:
    """A space fitted to a published YAHPO surrogate.

    Args:
        space: Name of the embedded space.
        scenario: The YAHPO scenario.
        settings: How the network is fitted.
    """

    space: str
    scenario: str
    settings: FitSettings


@dataclass(frozen=True)
class RunRecipe:
    """A space fitted to genuine OpenML runs.

    Args:
        space: Name of the embedded space.
        file: Table below ``openml_runs`` in the data folder.
        flow: OpenML flow whose runs these are.
        settings: How the ensemble is fitted.
        metric: Metric column.
        log: Hyperparameters on a log scale.
        rename: The hyperparameter columns, and the names they get.
    """

    space: str
    file: str
    flow: int
    settings: RunFitSettings = field(default_factory=RunFitSettings)
    metric: str = "predictive_accuracy"
    log: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)


SURROGATE_RECIPES = (
    SurrogateRecipe(
        "rpart",
        "rbv2_rpart",
        FitSettings(CompactArchitecture(96, 96, 2), samples_per_task=12_000, steps=4_000),
    ),
    SurrogateRecipe(
        "xgboost",
        "rbv2_xgboost",
        FitSettings(CompactArchitecture(128, 128, 2), samples_per_task=16_000, steps=7_000),
    ),
    SurrogateRecipe(
        "ranger",
        "rbv2_ranger@v2",
        FitSettings(CompactArchitecture(96, 96, 2), samples_per_task=12_000, steps=5_000),
    ),
    SurrogateRecipe(
        "lcbench",
        "lcbench",
        FitSettings(CompactArchitecture(128, 96, 2), samples_per_task=40_000, steps=5_000),
    ),
)

RUN_RECIPES = (
    RunRecipe(
        "adaboost",
        "adaboost.arff",
        6970,
        log=("adaboostclassifier__learning_rate",),
        rename={
            "adaboostclassifier__algorithm": "algorithm",
            "adaboostclassifier__learning_rate": "learning_rate",
            "adaboostclassifier__base_estimator__max_depth": "max_depth",
            "adaboostclassifier__n_estimators": "n_estimators",
            "columntransformer__numeric__imputer__strategy": "imputation",
        },
    ),
    RunRecipe(
        "random_forest",
        "random_forest.arff",
        6969,
        rename={
            "randomforestclassifier__bootstrap": "bootstrap",
            "randomforestclassifier__criterion": "criterion",
            "randomforestclassifier__max_depth": "max_depth",
            "randomforestclassifier__max_features": "max_features",
            "randomforestclassifier__max_leaf_nodes": "max_leaf_nodes",
            "randomforestclassifier__min_samples_leaf": "min_samples_leaf",
            "randomforestclassifier__min_samples_split": "min_samples_split",
            "randomforestclassifier__min_weight_fraction_leaf": "min_weight_fraction_leaf",
            "randomforestclassifier__n_estimators": "n_estimators",
            "columntransformer__numeric__imputer__strategy": "imputation",
        },
    ),
)
