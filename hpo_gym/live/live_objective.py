"""A live objective: one call trains one configuration and returns its metrics."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import (
    InvalidSettingError,
    require_booleans,
    require_integer,
    require_names,
    require_number,
    unknown_name,
)
from hpo_gym.live.coded import require_positions, with_coded_classes
from hpo_gym.live.datasets import DataSource, load_table
from hpo_gym.live.fit import Fit
from hpo_gym.live.libraries import require_library
from hpo_gym.live.models import find_family
from hpo_gym.live.prepared_rows import rows_of_fold, splits_of
from hpo_gym.live.preprocessing import make_preprocessor
from hpo_gym.live.presets import TaskType, preset_space
from hpo_gym.live.scoring import (
    DEFAULT_METRICS,
    SCORES,
    TEST_PREFIX,
    check_parts,
    check_scores,
    find_score,
    metric_of,
    score_model,
)
from hpo_gym.live.user_model import UserModel, learned_by
from hpo_gym.live.validation import Validation, beginning_with, subsample
from hpo_gym.seeding import stream_seed
from hpo_gym.spaces.columns import Value
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.threads import one_thread

if TYPE_CHECKING:
    from hpo_gym.live.table import Table
    from hpo_gym.spaces import SearchSpace
    from hpo_gym.surrogates.base import Metric

__all__ = ["FIDELITIES", "FidelityKind", "LiveObjective"]

FloatArray = NDArray[np.float64]

FidelityKind = Literal["auto", "subsample", "iterations"]
#: What a share of a full evaluation is a share of.
FIDELITIES = get_args(FidelityKind)


@dataclass(frozen=True)
class LiveObjective:
    """Train a model of a family on a dataset and validate it: a function of (configuration, share, seed).

    Plain data, so that it can be sent to another process, which loads the dataset on its first call and keeps it. The
    same configuration, share and seed give the same metrics, on one machine to the last bit.

    Args:
        model: Name of a model family (see :data:`~hpo_gym.live.models.FAMILIES`), or a user's own model.
        data: What it is trained on.
        metrics: Names of metrics; the first is optimised. Empty: :data:`~hpo_gym.live.scoring.DEFAULT_METRICS`.
        validation: Which rows are trained and validated on, and which are test rows.
        fidelity: What ``share`` is a share of: ``subsample``, the training rows of every fold; ``iterations``, trees,
            rounds or epochs; ``auto``, iterations where the model has such.
        iterations: Iterations of a full evaluation; ``None``: the family's own.
        subsample: Share of the training rows that a full evaluation sees, in (0, 1]; GRPOformer's scenarios take 0.1.
        preprocess: Whether features are imputed, standardised and one-hot coded, learned on the training rows of each
            fold. Without, a model sees numbers, with NaN where missing and the number of the level where categorical.

    Raises:
        UnknownNameError: For an unknown family, metric or fidelity.
        InvalidSettingError: If the family's library is not installed, or a setting is out of its range.
    """

    model: str | UserModel
    data: DataSource
    metrics: tuple[str, ...] = ()
    validation: Validation = field(default_factory=Validation)
    fidelity: FidelityKind = "auto"
    iterations: int | None = None
    subsample: float = 1.0
    preprocess: bool = True

    def __post_init__(self) -> None:
        require_library("sklearn", "A live objective")
        if isinstance(self.model, str):
            find_family(self.model)
        if self.fidelity not in FIDELITIES:
            raise unknown_name("fidelity", self.fidelity, FIDELITIES)
        if self.iterations is not None:
            require_integer("iterations", self.iterations, 1)
        if self._full_iterations == 0 and (self.fidelity == "iterations" or self.iterations is not None):
            raise InvalidSettingError(
                f"{self._model_name} is not trained in iterations: leave iterations=None and use fidelity='subsample'."
            )
        says = "must lie in (0, 1]: a share of the training rows"
        require_number("subsample", self.subsample, says, lambda share: 0.0 < share <= 1.0)
        if not isinstance(self.validation, Validation):
            raise InvalidSettingError(
                f"validation={self.validation!r} must be a Validation, e.g. Validation('cross-validation')."
            )
        require_booleans(self)
        self._check_metric_names()

    def _check_metric_names(self) -> None:
        repeated = sorted({name for name in self.metrics if self.metrics.count(name) > 1})
        if repeated:
            raise InvalidSettingError(f"metrics={self.metrics} name {repeated} twice.")
        # What the data is for is known once it is there, which it need not be where the objective is made.
        tasks = {find_score(name).task for name in self.metrics}
        if len(tasks) > 1:
            raise InvalidSettingError(f"metrics={self.metrics} mix those of classification and of regression.")

    @property
    def _model_name(self) -> str:
        return self.model if isinstance(self.model, str) else self.model.name

    @property
    def _full_iterations(self) -> int:
        """Iterations of a full evaluation; 0 for a model without such."""
        own = find_family(self.model).iterations if isinstance(self.model, str) else self.model.iterations
        return own if self.iterations is None or own == 0 else self.iterations

    @property
    def fidelity_kind(self) -> Literal["subsample", "iterations"]:
        """What ``share`` is a share of."""
        if self.fidelity == "auto":
            return "iterations" if self._full_iterations else "subsample"
        return self.fidelity

    @property
    def table(self) -> Table:
        """The dataset; loaded on first use."""
        return load_table(self.data)

    @property
    def spec(self) -> SpaceSpec:
        """The search space as plain data; loads the dataset to know what is learned."""
        return preset_space(self.model, self.table.task) if isinstance(self.model, str) else self.model.spec

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        from hpo_gym.spaces import SearchSpace

        return SearchSpace(self.spec)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all metrics that a call returns, those of the test rows last.

        Raises:
            UnknownNameError: If a metric is not of what is learned.
            InvalidSettingError: If a metric needs classes that are not in all parts, or as :meth:`require_fitting`.
        """
        table = self.table
        self.require_fitting()
        names = self.metrics or DEFAULT_METRICS[table.task]
        check_scores(names, table.task)
        splits = splits_of(self.data, self.validation)
        tested = [splits.test] if len(splits.test) else []
        check_parts(names, table, [*(split.validation for split in splits.folds), *tested])
        return (*names, *(f"{TEST_PREFIX}{name}" for name in names)) if tested else names

    def require_fitting(self) -> None:
        """Refuse an estimator that is not for what the data is for; loads the data.

        Raises:
            InvalidSettingError: If a classifier is to learn numbers, or a regressor classes, or a network for images
                what is none, or it chooses columns by name or where they are moved.
            UnknownNameError: If it weighs a class that is none.
        """
        model = find_family(self.model) if isinstance(self.model, str) else self.model
        if model.images and self.table.image is None:
            raise InvalidSettingError(
                f"{model.name} needs images, and {self.table.name} is none: use 'sklearn:digits', or store_arrays(..., "
                "image=(channels, height, width))."
            )
        task = self.table.task
        if isinstance(self.model, str):
            return
        self._require_for(self.model.learns, task)
        if hasattr(self.model.estimator, "get_params") and not isinstance(self.model.estimator, type):
            from sklearn.base import clone

            require_positions(self.model.estimator, self.table, self.preprocess)
            with_coded_classes(clone(self.model.estimator), self.table.classes)

    def _require_for(self, learns: TaskType | None, task: TaskType) -> None:
        if learns not in (None, task):
            kinds = {"classification": "a classifier", "regression": "a regressor", None: ""}
            raise InvalidSettingError(
                f"{self._model_name} is {kinds[learns]}, and {self.table.name} is for {task} (unless task= says "
                "otherwise, targets that are floating point numbers are for regression, and others for "
                f"classification). Give task={learns!r}, or another estimator."
            )

    @property
    def metric_definitions(self) -> tuple[Metric, ...]:
        """Direction and bounds of :attr:`metric_names`."""
        return tuple(metric_of(name, self.table) for name in self.metric_names)

    def prepare(self) -> None:
        """Load the data and the libraries that all models need: a worker does so once, before a call is timed."""
        _thread_pools()
        make_preprocessor(self.table)
        splits_of(self.data, self.validation)

    def __call__(self, configuration: Mapping[str, Value], share: float = 1.0, seed: int = 0) -> dict[str, float]:
        """Train and validate; computed on one thread.

        Args:
            configuration: Active hyperparameters in natural units.
            share: Share of a full evaluation, in (0, 1] (see ``fidelity``).
            seed: Seed of the models; folds and subsamples do not depend on it.

        Returns:
            Metrics by name, each the mean over the folds. ``test_<name>`` is that of the same models on the test rows:
            it is to be reported, never to be optimised.

        Raises:
            InvalidSettingError: If the share or the seed is out of its range, or the data cannot be split.
            UnknownNameError: For an unknown hyperparameter.
            Exception: Whatever the training raises.
        """
        if not 0.0 < share <= 1.0:
            raise InvalidSettingError(f"share={share!r} must lie in (0, 1]: 1 is a full evaluation.")
        table, names = self.table, self.metric_names
        bare = names[: len(names) // 2] if names[-1].startswith(TEST_PREFIX) else names
        splits = splits_of(self.data, self.validation)
        found = []
        # A diverging network warns at every step: what matters is in the metrics.
        with warnings.catch_warnings(), _thread_pools().limit(limits=1), one_thread():
            warnings.simplefilter("ignore")
            for index in range(len(splits.folds)):
                fold_seed = stream_seed(seed, "live", index) % 2**32
                found.append(self._evaluate(table, index, configuration, share, fold_seed, bare))
        return {name: float(np.mean([scores[name] for scores in found])) for name in names}

    def fit_of(self, table: Table, rows: int, features: int, seed: int) -> Fit:
        """Return what a model of a full training is told.

        Args:
            table: What it is trained on.
            rows: How many of its rows.
            features: Columns after preprocessing.
            seed: Of the model.
        """
        return Fit(
            table.task,
            rows=rows,
            features=features,
            classes=len(table.classes),
            iterations=max(1, self._full_iterations),
            seed=seed,
            # One-hot coded columns are no pixels.
            image=None if table.categorical else table.image,
        )

    def build(self, configuration: Mapping[str, Value], fit: Fit, table: Table) -> Any:
        """Return an unfitted estimator of numbered classes.

        Raises:
            UnknownNameError: For an unknown hyperparameter, or the weight of a class that is none.
            InvalidSettingError: If the estimator is not for what the data is for.
            Exception: Whatever the user's function raises.
        """
        self._check_configuration(configuration)
        if isinstance(self.model, str):
            return find_family(self.model).build(configuration, fit)
        made = self.model.build(configuration, fit)
        # What a function makes is known only now.
        self._require_for(learned_by(made), fit.task)
        return with_coded_classes(made, table.classes)

    def _check_configuration(self, configuration: Mapping[str, Value]) -> None:
        allowed = self.spec.names
        require_names("hyperparameter", configuration, allowed)

    def _evaluate(
        self,
        table: Table,
        fold: int,
        configuration: Mapping[str, Value],
        share: float,
        seed: int,
        names: Sequence[str],
    ) -> dict[str, float]:
        by_rows = self.fidelity_kind == "subsample"
        splits = splits_of(self.data, self.validation)
        split = splits.folds[fold]
        # Fewer rows than classes, or a class without a row, is no smaller training but another problem.
        least = max(2, 2 * len(table.classes))
        folds = find_family(self.model).calibration_folds if isinstance(self.model, str) else 0
        if folds and _need_probabilities(names) and table.classes:
            least = max(least, beginning_with(table.target[split.train], folds))
        train = subsample(split.train, self.subsample * (share if by_rows else 1.0), least)
        iterations = max(1, round(self._full_iterations * (1.0 if by_rows else share)))
        features, held, test = rows_of_fold(self.data, self.validation, fold, len(train), self.preprocess)
        told = self.fit_of(table, len(train), features.shape[1], seed)
        told = replace(told, iterations=iterations, probabilities=_need_probabilities(names))
        fitted = self.build(configuration, told, table)
        fitted.fit(features, table.target[train])
        scores = score_model(fitted, held, table.target[split.validation], names)
        if len(test):
            tested = score_model(fitted, test, table.target[splits.test], names)
            scores |= {f"{TEST_PREFIX}{name}": value for name, value in tested.items()}
        return scores


def _need_probabilities(names: Iterable[str]) -> bool:
    return any(SCORES[name].probabilities for name in names)


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    """Return a handle on the thread pools of the numerical libraries, which takes as long to find as a fit may take."""
    # Pools of libraries that are loaded later are not limited: scikit-learn's come with these two.
    import scipy.linalg  # noqa: F401
    import sklearn.metrics  # noqa: F401
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
