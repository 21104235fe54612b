"""HPO-B's surrogates as task suites, read without XGBoost and without HPO-B's own handler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_gym.errors import DataError, DataIntegrityError, require_names
from hpo_gym.sources.bundle_files import read_kept, write_kept
from hpo_gym.sources.hpob_files import HPOB_SEEDS, HPOBFiles, HPOBIndex, find_hpob, hpob_columns, load_json
from hpo_gym.sources.slow_work import telling_progress
from hpo_gym.sources.temporaries import one_writer
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.spaces.columns import Column
from hpo_gym.surrogates.hpob import ACCURACY, SCALED_ACCURACY, HPOBSurrogate
from hpo_gym.surrogates.trees import TREE_TENSORS, TreeSurrogate, stack_trees
from hpo_gym.surrogates.xgboost_json import BoostedTrees, read_booster
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite
from hpo_gym.warned import warn_user

__all__ = ["DEFAULT_SPACE", "load_hpob"]

#: XGBoost with 16 encoded columns and six test datasets.
DEFAULT_SPACE = "5971"

_METRICS = (SCALED_ACCURACY.name, ACCURACY.name)
# Trees have no gradient.
_SEARCH = OptimumSearch(sobol=2_048, starts=4, rounds=1, gradient_steps=0)
_METHODS = {
    SCALED_ACCURACY.name: "0 and 1 by definition, as HPO-B scales and clips",
    ACCURACY.name: "y_min and y_max of HPO-B's summary-stats.json, or what was found beyond them",
}
_NOTES = (
    "Columns are HPO-B's encoding: indicators of choices (.ohe) and of missing values (.na) are numbers in [0, 1], and "
    "need not belong to any legal configuration, as in the published continuous comparisons.",
)


def load_hpob(
    space: str | int | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    verify: bool = True,
) -> TaskSuite:
    """Load a search space of HPO-B: XGBoost surrogates of accuracy, one for each dataset.

    The first use reads some hundred megabytes of JSON and keeps what it made of them in the cache.

    Args:
        space: Its id, an OpenML flow, e.g. ``"5971"``; ``None`` means that. 176 have surrogates, 16 of them validation
            and test datasets.
        metric: ``scaled_accuracy``, which HPO-B compares: a task's accuracy as a share of its known range, clipped;
            its regret is 1 minus that. Or ``accuracy``. ``None`` means the first.
        protocol: Split protocol; meta-features are standardised on its training tasks. ``per-space`` is HPO-B v3's own.
        data_dir: Folder that holds ``hpob/hpob-data/`` and ``hpob/saved-surrogates/``; ``None`` means the usual search
            order.
        verify: Whether to refuse files that were not unpacked from the pinned archives.

    Raises:
        UnknownNameError: For an unknown space or metric.
        DataMissingError: If the files are nowhere.
        DataIntegrityError: If they are not as HPO-B publishes them.
    """
    name, metric = DEFAULT_SPACE if space is None else str(space), metric or SCALED_ACCURACY.name
    require_names("metric of HPO-B", [metric], _METRICS)
    files = find_hpob(data_dir, verify)
    datasets, columns = files.datasets_of(name), hpob_columns(name)
    spec = SpaceSpec(tuple(Column(column, "float", 0.0, 1.0, default=0.5) for column in columns), {})
    tasks = tuple(TaskRef("openml-task", dataset) for dataset in datasets)
    tensors, index = _kept_or_made(name, files, spec, tasks), files.index()
    sides = tuple(index.sides.get(name, {}).get(dataset, "train") for dataset in datasets)
    provenance = {"sha256": files.origin, "verified": bool(files.origin), "digest": files.digest, "seeds": HPOB_SEEDS}
    surrogate = _surrogate(tensors, len(columns))
    return TaskSuite(
        SuiteSpec(name, "hpob", metric, tasks, None, _NOTES, provenance, sides),
        SearchSpace(spec),
        surrogate,
        suite_meta_features(name, protocol, tasks, sides),
        _known_range(metric, tensors, surrogate),
        initial_points=_initial_points(name, files, index, datasets, len(columns)),
    )


def _surrogate(tensors: dict[str, Tensor], columns: int) -> HPOBSurrogate:
    trees = TreeSurrogate({part: tensors[part] for part in TREE_TENSORS}, columns, ACCURACY)
    return HPOBSurrogate(trees, tensors["extremes"])


def _known_range(metric: str, tensors: dict[str, Tensor], surrogate: HPOBSurrogate) -> KnownRange:
    worst, best = tensors["extremes"].unbind(1)
    median = tensors["median"]
    if metric == ACCURACY.name:
        worst, best = torch.minimum(worst, tensors["lowest"]), torch.maximum(best, tensors["found"])
    else:
        median = surrogate.scaled(torch.arange(len(median)), median)
        worst, best = torch.zeros_like(worst), (best > worst).float()
    method = f"{_METHODS[metric]}; median and the best configuration: {_SEARCH.describe()}"
    return KnownRange(worst, median, best, tensors["best_u"], method)


def _kept_or_made(name: str, files: HPOBFiles, spec: SpaceSpec, tasks: Sequence[TaskRef]) -> dict[str, Tensor]:
    """Return the tensors of a space, from the cache where they are there."""
    folder = files.cache / name
    kept, made = read_kept(name, folder), None
    if kept is not None:
        return kept[1]
    try:
        with one_writer(folder):
            kept = read_kept(name, folder)
            if kept is not None:
                return kept[1]
            made = _make(name, files, spec, tasks, f"kept in {folder}")
            write_kept(name, {"space": name, "tasks": [str(task) for task in tasks]}, made, folder)
    except DataError:
        raise
    except OSError as error:
        warn_user(
            f"What was made of HPO-B's space {name} cannot be kept ({error}), and is made again every time. Name a "
            "folder that can be written to with HPO_GYM_CACHE."
        )
    return made or _make(name, files, spec, tasks, "not kept")


def _make(name: str, files: HPOBFiles, spec: SpaceSpec, tasks: Sequence[TaskRef], kept: str) -> dict[str, Tensor]:
    """Return trees, extremes, and what a search finds of every task: all as accuracies."""
    with telling_progress(f"reading the {len(tasks)} surrogates of HPO-B's space {name}", kept) as report:
        boosters = []
        for done, task in enumerate(tasks):
            boosters.append(_booster(files, name, task.id, len(spec.columns)))
            report(0.5 * (done + 1) / len(tasks))
        tensors = stack_trees(boosters)
        tensors["extremes"] = torch.tensor([files.extremes(name, task.id) for task in tasks])
        features = torch.zeros(len(tasks), 0)
        suite_spec = SuiteSpec(name, "hpob", ACCURACY.name, tuple(tasks))
        suite = TaskSuite(suite_spec, SearchSpace(spec), _surrogate(tensors, len(spec.columns)), features)
        found = find_known_range(suite, _SEARCH, lambda stage, share: report(0.5 + 0.5 * share))
    return tensors | {"lowest": found.worst, "median": found.median, "found": found.best, "best_u": found.best_u}


def _booster(files: HPOBFiles, space: str, dataset: str, columns: int) -> BoostedTrees:
    path = files.surrogate(space, dataset)
    try:
        booster = read_booster(load_json(path))
        if booster.num_features != columns:
            raise ValueError(f"it has {booster.num_features} features, space {space} has {columns} columns")
    except ValueError as error:
        raise DataIntegrityError(
            f"{path} is no surrogate of HPO-B: {error}. Move its folder away and run `python -m hpo_gym.download hpob`."
        ) from error
    return booster


def _initial_points(
    name: str, files: HPOBFiles, index: HPOBIndex, datasets: Sequence[str], columns: int
) -> Tensor | None:
    """Return the initial points of the test tasks, NaN for others; ``None`` where the space has no test task."""
    given = index.initial.get(name)
    if not given:
        return None
    missing = sorted(set(given) - set(datasets))
    if missing:
        raise DataIntegrityError(
            f"{files.surrogates} has no surrogate of {len(missing)} test dataset(s) of space {name}: "
            f"{', '.join(missing[:5])}. Run `python -m hpo_gym.download hpob`."
        )
    points = {dataset: torch.tensor(sets, dtype=torch.float32) for dataset, sets in given.items()}
    first = next(iter(points.values()))
    if first.shape[2] != columns:
        raise DataIntegrityError(
            f"The rows of space {name} in {files.tables} have {first.shape[2]} columns, expected {columns}. Move the "
            "folder away and run `python -m hpo_gym.download hpob`."
        )
    unknown = torch.full_like(first, torch.nan)
    return torch.stack([points.get(dataset, unknown) for dataset in datasets], 1).clamp(0.0, 1.0)
