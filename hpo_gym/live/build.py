"""Live objectives in one call: a preset on a named dataset, or anyone's estimator on anyone's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, require_names, unknown_name
from hpo_gym.live.datasets import DataSource, data_source, store_arrays
from hpo_gym.live.frames import TaskChoice
from hpo_gym.live.live_objective import LiveObjective
from hpo_gym.live.presets import GRPOFORMER_FAMILIES, TaskType
from hpo_gym.live.user_model import UserModel, takes_fit
from hpo_gym.live.validation import Validation, make_splits
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.spec import SpaceSpec

if TYPE_CHECKING:
    import pandas as pd
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import ArrayLike

__all__ = ["grpoformer_objective", "objective", "own_model", "preset_objective"]


def preset_objective(family: str, data: str | Path | DataSource, **settings: Any) -> LiveObjective:
    """Return the objective of a model family with its own search space.

    Args:
        family: One of :data:`hpo_gym.live.models.FAMILIES`, e.g. ``"rf"``.
        data: ``"sklearn:digits"``, ``"openml:61"``, ``"openml-task:59"`` or the path of a CSV or Parquet file.
        settings: Other arguments of :class:`LiveObjective`.

    Raises:
        UnknownNameError: For an unknown family, dataset, metric or fidelity.
        DataMissingError: If there is no such file.
        InvalidSettingError: If a library is missing or a setting is out of its range.
    """
    named = settings.get("metrics")
    if isinstance(named, str):
        settings["metrics"] = (named,)
    own = [item.name for item in fields(LiveObjective) if item.name not in ("model", "data")]
    require_names("argument of preset_objective", settings, own)
    return LiveObjective(family, data_source(data), **settings)


def grpoformer_objective(family: str, data: str | Path | DataSource, **settings: Any) -> LiveObjective:
    """Return a scenario of GRPOformer (Guo, Pan and Zhai 2025, arXiv 2509.17105) as its released code trains it.

    A third of the rows for testing (of an OpenML task: its official split), a third of the others, stratified with the
    seed 1, for validation, a tenth of the training rows for training, but no fewer than ten per class or 1/512; 128
    trees or rounds, or 100 epochs. The released code draws other rows at every call and some of them from the
    validation rows; here they are always the same training rows. The data is loaded, to count them.
    :data:`hpo_gym.evaluation.published.GRPOFORMER_36` has the tasks and budgets.

    Args:
        family: One of :data:`hpo_gym.live.presets.GRPOFORMER_FAMILIES`.
        data: As for :func:`preset_objective`; a classification task.
        settings: Other arguments of :class:`LiveObjective`, instead of the published ones.

    Raises:
        UnknownNameError: For another family, or a metric that is not for what the data is for.
        InvalidSettingError: As for :func:`preset_objective`.
        DataError: If the data cannot be loaded.
    """
    if family not in GRPOFORMER_FAMILIES:
        raise unknown_name("model family of GRPOformer", family, GRPOFORMER_FAMILIES)
    published = {
        "metrics": ("accuracy", "balanced_accuracy", "f1_macro", "precision_macro"),
        "validation": Validation("holdout", share=0.33, test_share=0.33, seed=1),
    }
    made = preset_objective(family, data, **{**published, **settings})
    return made if "subsample" in settings else replace(made, subsample=_published_share(made))


def _published_share(objective: LiveObjective) -> float:
    """Return the share of the training rows that GRPOformer's released code trains on."""
    table = objective.table
    rows = min(len(split.train) for split in make_splits(table, objective.validation).folds)
    return min(1.0, max(0.1, 10 * len(table.classes) / rows, 1.0 / 512.0))


def objective(
    estimator: Any,
    space: ConfigurationSpace | SearchSpace | SpaceSpec,
    X: pd.DataFrame | ArrayLike | str | Path | DataSource,
    y: pd.Series | ArrayLike | None = None,
    *,
    metric: str | tuple[str, ...] = (),
    iterations: tuple[str, int] | None = None,
    task: TaskChoice = "auto",
    name: str = "",
    image: tuple[int, int, int] | None = None,
    **settings: Any,
) -> LiveObjective:
    """Return the objective of a user's own estimator.

    Args:
        estimator: An estimator of scikit-learn's interface, or a class or function that makes one of hyperparameters
            given as keywords (see :class:`UserModel`).
        space: Its hyperparameters.
        X: Features: a data frame or numbers ``[n, p]``, which are written to the cache folder so that other processes
            can read them; or the name of a dataset or the path of a file, which hold the target, too.
        y: Targets ``[n]``; floating point numbers are for regression.
        metric: One metric, or several of which the first is optimised.
        iterations: Parameter that counts trees, rounds or epochs, and its value in a full evaluation:
            ``("n_estimators", 100)``. It is then the fidelity.
        task: What is learned.
        name: What messages call the data, default: ``"arrays"``.
        image: Channels, height and width where features are pixels.
        settings: Other arguments of :class:`LiveObjective`.

    Raises:
        UnknownNameError: For an unknown parameter, metric, dataset or fidelity.
        DataMissingError: If there is no such file.
        InvalidSettingError: If data or settings are of no use.
        OSError: If the data cannot be written.
    """
    if isinstance(X, str | Path | DataSource):
        if y is not None or name or image is not None:
            raise InvalidSettingError(f"X={str(X)!r} names data with a target: leave out y, name and image.")
        data = data_source(X) if task == "auto" else data_source(X, task=task)
    elif y is None:
        raise InvalidSettingError("X without y: give the targets, or the name of a dataset or the path of a file as X.")
    else:
        data = store_arrays(X, y, name=name or "arrays", task=task, image=image)
    model = own_model(estimator, space, iterations=iterations)
    _check_settings(settings)
    made = LiveObjective(model, data, (metric,) if isinstance(metric, str) else metric, **settings)
    if data.kind == "table":
        # The data is here: better said now than when it is trained on.
        made.require_fitting()
    return made


def own_model(
    estimator: Any,
    space: ConfigurationSpace | SearchSpace | SpaceSpec,
    *,
    iterations: tuple[str, int] | int | None = None,
    task: TaskType | None = None,
    images: bool = False,
    name: str = "",
) -> UserModel:
    """Return a user's own estimator with its search space, to be trained on any data.

    In a module of your own it can be named on a command line: ``env=live env.space=<module>:<name>``.

    Args:
        estimator, space: As for :func:`objective`.
        iterations: As for :func:`objective`; a number for a function that asks for ``fit``: ``fit.iterations`` of a
            full evaluation.
        task: What it learns, where the estimator does not say so itself.
        images: Whether it needs images.
        name: What messages call it; default: the estimator's own.

    Raises:
        UnknownNameError: For an unknown parameter.
        InvalidSettingError: If the estimator, the space or the iterations are of no use.
    """
    named = isinstance(iterations, tuple | list) and len(iterations) == 2
    if iterations is not None and not named and not (isinstance(iterations, int) and takes_fit(estimator)):
        raise InvalidSettingError(
            f"iterations={iterations!r} must be a parameter and its value in a full evaluation: ('n_estimators', 100); "
            "or a number, of a function that asks for `fit` and does fit.iterations of them."
        )
    parameter, full = iterations if isinstance(iterations, tuple | list) else ("", iterations or 0)
    own = estimator.__name__ if hasattr(estimator, "__name__") else type(estimator).__name__
    return UserModel(estimator, _spec(space), name or own, parameter, full, task, images)


def _check_settings(settings: Mapping[str, Any]) -> None:
    if "target" in settings:
        raise InvalidSettingError(
            f"target={settings['target']!r} belongs to the data: give hpo_gym.live.data_source(<path>, target=...) as "
            "X."
        )
    own = [item.name for item in fields(LiveObjective) if item.name not in ("model", "data", "metrics")]
    require_names("argument of objective", settings, [*own, "metric", "task", "name", "image"])


def _spec(space: ConfigurationSpace | SearchSpace | SpaceSpec) -> SpaceSpec:
    from ConfigSpace import ConfigurationSpace

    if isinstance(space, SpaceSpec):
        return space
    if not isinstance(space, SearchSpace | ConfigurationSpace):
        raise InvalidSettingError(
            f"space={space!r} must be a ConfigSpace.ConfigurationSpace, e.g. "
            "ConfigurationSpace({'max_depth': (1, 20)}), or a SearchSpace."
        )
    return (space if isinstance(space, SearchSpace) else SearchSpace.from_configspace(space)).spec
