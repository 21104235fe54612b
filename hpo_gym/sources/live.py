"""Suites whose evaluations are trainings: a model family on scikit-learn's, OpenML's or the user's own datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, require_names, unknown_name
from hpo_gym.sources.trainings import MEASURED, refuse_data_dir, settings_of
from hpo_gym.tasks.suite import TaskSuite

if TYPE_CHECKING:
    from hpo_gym.live.datasets import DataSource
    from hpo_gym.live.user_model import UserModel
    from hpo_gym.live.validation import Validation

__all__ = ["DEFAULT_DATASETS", "DEFAULT_SPACE", "load_live"]

DEFAULT_SPACE = "svm"

#: Real datasets that come with scikit-learn, in an order that gives every split one (``train``, ``test``, ``train``,
#: ``val``). Those that are OpenML datasets, too, are on the side of the published partition: digits is part of
#: optdigits (28, train), breast_cancer is wdbc (1510, val).
DEFAULT_DATASETS = ("sklearn:digits", "sklearn:wine", "sklearn:iris", "sklearn:breast_cancer")

_IMAGES = ("sklearn:digits",)

# What may be said of a dataset.
_OF_DATASETS = ("name", "target", "task", "drop")


def load_live(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    datasets: Sequence[str | Mapping[str, Any]] | None = None,
    executor: str = "local",
    workers: int | None = None,
    scheduler: str | None = None,
    seconds: float = 120.0,
    memory: int = 4096,
    seed: int = 0,
    trainings: str | None = None,
    validation: Mapping[str, Any] | None = None,
    fidelity: str = "auto",
    iterations: int | None = None,
    subsample: float = 1.0,
    preprocess: bool = True,
) -> TaskSuite:
    """Load a model family and datasets to train it on.

    Args:
        space: A model family (:data:`hpo_gym.live.models.FAMILIES`); ``None`` means ``svm``. Or one with the search
            space and the metric of an embedded response surface
            (:data:`hpo_gym.live.embedded_models.EMBEDDED_FAMILIES`), which preprocesses and has its iterations itself.
            Or ``<module>:<name>``, a :class:`hpo_gym.live.UserModel` of your own.
        metric: Any of :data:`hpo_gym.live.scoring.SCORES`; ``None`` means accuracy, or r2 for regression.
        protocol: Split protocol; datasets without an OpenML id are on the side of their position.
        data_dir: Must be ``None``: datasets name their files, and OpenML's are cached by the ``openml`` package.
        datasets: ``sklearn:<name>``, ``openml:<dataset id>``, ``openml-task:<task id>``, or paths of CSV or Parquet
            files; or mappings with ``name`` and any of ``target``, ``task`` and ``drop`` (see
            :class:`hpo_gym.live.DataSource`); ``None`` means :data:`DEFAULT_DATASETS`, of a family that needs images
            those with images.
        executor: ``local`` (worker processes here), ``dask`` or ``ray``.
        workers: Processes of ``local``; ``None``: one per core.
        scheduler: Address of a cluster.
        seconds: Most wall time of a training, > 0.
        memory: Most resident memory of a training in megabytes, at least 64.
        seed: Of every training, at least 0.
        trainings: A file where finished trainings are kept, and from where they are taken: whoever was killed begins
            again and trains only what was not trained before. ``None``: none.
        validation: Fields of :class:`hpo_gym.live.validation.Validation`; ``None``: a holdout, and half of the
            rows for a family of the embedded surfaces, as :func:`hpo_gym.live.embedded_suite.embedded_suite` has it.
        fidelity, iterations, subsample, preprocess: See :class:`hpo_gym.live.live_objective.LiveObjective`.

    Raises:
        UnknownNameError: For an unknown family, dataset, metric, executor or setting.
        InvalidSettingError: For an argument outside its range, or a library that is not installed.
        DataError: If a dataset cannot be loaded.
    """
    from hpo_gym.live.embedded_models import EMBEDDED_FAMILIES
    from hpo_gym.live.executors import ExecutorSettings
    from hpo_gym.live.limits import Limits
    from hpo_gym.live.live_objective import LiveObjective
    from hpo_gym.live.models import FAMILIES
    from hpo_gym.live.suite import suite_of
    from hpo_gym.live.validation import Validation

    refuse_data_dir("live", data_dir)
    settings = ExecutorSettings(executor, workers, scheduler, Limits(seconds, memory))
    validated = None if validation is None else settings_of(Validation, "validation", validation)
    common: dict[str, Any] = {
        "protocol": protocol,
        "executor": settings,
        "seed": seed,
        "trainings": trainings,
        "notes": (MEASURED,),
    }
    if space is not None and space in EMBEDDED_FAMILIES:
        own = {"metric": metric, "fidelity": fidelity, "iterations": iterations, "preprocess": preprocess}
        return _embedded(space, own, _sources(datasets, False), subsample, validated, common)
    model, images = _model(space or DEFAULT_SPACE, [*FAMILIES, *EMBEDDED_FAMILIES])
    chosen: dict[str, Any] = {
        "validation": validated or Validation(),
        "fidelity": fidelity,
        "iterations": iterations,
        "subsample": subsample,
        "preprocess": preprocess,
    }
    sources = _sources(datasets, images)
    objectives = [LiveObjective(model, source, _metrics(metric), **chosen) for source in sources]
    provenance = {"datasets": [source.data.name for source in objectives]}
    # A model of one's own is called as it is asked for: two may have one estimator.
    name = model if isinstance(model, str) else str(space)
    return suite_of(objectives, name, metric=metric, provenance=provenance, **common)


def _model(space: str, known: Sequence[str]) -> tuple[str | UserModel, bool]:
    """Return a model, and whether it needs images."""
    from hpo_gym.live.models import find_family
    from hpo_gym.live.named_model import is_model_name, named_model

    if is_model_name(space):
        own = named_model(space)
        return own, own.images
    if space not in known:
        remedy = "Or a model of your own: <module>:<name>."
        raise unknown_name("model family", space, known, remedy)
    family = find_family(space)
    return family.name, family.images


def _embedded(
    family: str,
    own: Mapping[str, Any],
    sources: Sequence[DataSource],
    subsample: float,
    validation: Validation | None,
    common: Mapping[str, Any],
) -> TaskSuite:
    """Return the suite of a family that decides some arguments itself, of which none may be given."""
    from hpo_gym.live.embedded_suite import LiveData, embedded_suite

    decided: dict[str, tuple[Any, ...]] = {"fidelity": ("auto", "subsample"), "preprocess": (True,)}
    for name, value in own.items():
        allowed = decided.get(name, (None,))
        if value not in allowed:
            raise InvalidSettingError(
                f"{name}={value!r}: live training in the search space of the surface {family!r} decides that itself. "
                f"Leave it out ({name}={allowed[0]!r})."
            )
    return embedded_suite(
        family,
        {source.task_ref: LiveData(source, subsample) for source in sources},
        validation=validation,
        provenance={"datasets": [source.name for source in sources]},
        **common,
    )


def _sources(datasets: Sequence[str | Mapping[str, Any]] | None, images: bool) -> list[DataSource]:
    """Return what is trained on."""
    from hpo_gym.live.datasets import data_source

    if datasets is None:
        return [data_source(name) for name in (_IMAGES if images else DEFAULT_DATASETS)]
    listed = isinstance(datasets, Sequence) and not isinstance(datasets, str) and bool(datasets)
    if not listed or not all(isinstance(each, str | Mapping) for each in datasets):
        raise InvalidSettingError(
            f"datasets={datasets!r} must be a list of names, e.g. ['sklearn:digits', 'openml:61', 'rows.csv'], or of "
            "mappings, e.g. [{'name': 'rows.csv', 'target': 'price', 'task': 'regression', 'drop': ['id']}]."
        )
    return [data_source(each) if isinstance(each, str) else _described(each) for each in datasets]


def _described(told: Mapping[str, Any]) -> DataSource:
    """Return a dataset of its name and what is to be known besides."""
    from hpo_gym.live.datasets import data_source

    require_names("setting of a dataset", told, _OF_DATASETS)
    if "name" not in told:
        raise InvalidSettingError(f"datasets: {dict(told)!r} has no name. Write {{'name': 'rows.csv', ...}}.")
    settings = {key: value for key, value in told.items() if key != "name" and value is not None}
    if isinstance(settings.get("drop"), list):
        settings["drop"] = tuple(settings["drop"])
    return data_source(str(told["name"]), **settings)


def _metrics(metric: str | None) -> tuple[str, ...]:
    """Return what is measured: what is usual, and what is asked for."""
    from hpo_gym.live.scoring import DEFAULT_METRICS, SCORES, TEST_PREFIX

    if metric is None:
        return ()
    if metric.startswith(TEST_PREFIX):
        raise InvalidSettingError(
            f"metric={metric!r} is that of the test rows, which is reported and never optimised. Use "
            f"metric={metric.removeprefix(TEST_PREFIX)!r}."
        )
    if metric not in SCORES:
        raise unknown_name("metric", metric, SCORES)
    usual = DEFAULT_METRICS[SCORES[metric].task]
    return (metric, *(name for name in usual if name != metric))
