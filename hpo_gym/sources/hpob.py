"""HPO-B's surrogates as task suites, read without XGBoost and without HPO-B's own handler."""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.errors import DataIntegrityError, unknown_name
from hpo_gym.sources.bundle_files import read_kept, write_bundle
from hpo_gym.sources.hpob_files import HPOB_SEEDS, HPOBFiles, HPOBIndex, find_hpob, load_json
from hpo_gym.sources.slow_work import telling_progress
from hpo_gym.sources.temporaries import one_writer
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.spaces.spec import Column
from hpo_gym.surrogates.base import Metric
from hpo_gym.surrogates.trees import TREE_TENSORS, TreeSurrogate, stack_trees
from hpo_gym.surrogates.xgboost_json import BoostedTrees, read_booster
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SPACE", "load_hpob"]

#: XGBoost with 16 encoded columns and six test datasets.
DEFAULT_SPACE = "5971"

_ACCURACY = Metric("accuracy", False, 0.0, 1.0)
_RANGE = ("worst", "median", "best", "best_u")
# Trees have no gradient.
_SEARCH = OptimumSearch(sobol=2_048, starts=4, rounds=1, gradient_steps=0)
_FOUND = (
    "worst and best: y_min and y_max of HPO-B's summary-stats.json, with which it scales; median and the best "
    f"configuration: {_SEARCH.describe()}"
)
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
        metric: ``accuracy``, which is all there is.
        protocol: Split protocol; meta-features are standardised on its training tasks. ``per-space`` is HPO-B v3's own.
        data_dir: Folder that holds ``hpob/hpob-data/`` and ``hpob/saved-surrogates/``; ``None`` means the usual search
            order.
        verify: Whether to refuse files that were not unpacked from the pinned archives.

    Raises:
        UnknownNameError: For an unknown space or metric.
        DataMissingError: If the files are nowhere.
        DataIntegrityError: If they are not as HPO-B publishes them.
    """
    name = DEFAULT_SPACE if space is None else str(space)
    if metric not in (None, _ACCURACY.name):
        raise unknown_name("metric of HPO-B", metric, [_ACCURACY.name])
    files = find_hpob(data_dir, verify)
    datasets, columns = files.datasets_of(name), files.columns(name)
    spec = SpaceSpec(tuple(Column(column, "float", 0.0, 1.0, default=0.5) for column in columns), {})
    tasks = tuple(TaskRef("openml-task", dataset) for dataset in datasets)
    with one_writer(files.cache / name):
        tensors, index = _compiled(name, files, spec, tasks)
    worst, median, best, best_u = (tensors[part] for part in _RANGE)
    known = KnownRange(worst, median, best, best_u, _FOUND)
    sides = tuple(index.sides.get(name, {}).get(dataset, "train") for dataset in datasets)
    provenance = {"sha256": files.origin, "verified": bool(files.origin), "digest": files.digest, "seeds": HPOB_SEEDS}
    return TaskSuite(
        SuiteSpec(name, "hpob", _ACCURACY.name, tasks, None, _NOTES, provenance, sides),
        SearchSpace(spec),
        TreeSurrogate({part: tensors[part] for part in TREE_TENSORS}, len(columns), _ACCURACY),
        suite_meta_features(name, protocol, tasks, sides),
        known,
        initial_points=_initial_points(name, files, index, datasets, len(columns)),
    )


def _compiled(
    name: str, files: HPOBFiles, spec: SpaceSpec, tasks: tuple[TaskRef, ...]
) -> tuple[dict[str, Tensor], HPOBIndex]:
    """Return the tensors of a space and what is known of its tasks, from the cache where they are there."""
    folder = files.cache / name
    kept = read_kept(name, folder)
    if kept is not None:
        return kept[1], files.index()
    doing = f"reading the {len(tasks)} surrogates of HPO-B's space {name}"
    with telling_progress(doing, f"kept in {folder}") as report:
        boosters = []
        for done, task in enumerate(tasks):
            boosters.append(_booster(files, name, task.id, len(spec.columns)))
            report(0.5 * (done + 1) / len(tasks))
        tensors = stack_trees(boosters)
        surrogate = TreeSurrogate(tensors, len(spec.columns), _ACCURACY)
        suite = TaskSuite(
            SuiteSpec(name, "hpob", _ACCURACY.name, tasks), SearchSpace(spec), surrogate, torch.zeros(len(tasks), 0)
        )
        found = find_known_range(suite, _SEARCH, lambda stage, share: report(0.5 + 0.4 * share))
        extremes = torch.tensor([files.extremes(name, task.id) for task in tasks]).clamp(0.0, 1.0)
        tensors |= {"worst": extremes[:, 0], "median": found.median, "best": extremes[:, 1], "best_u": found.best_u}
        index = files.index()
        report(1.0)
    write_bundle(name, {"space": name, "tasks": [str(task) for task in tasks]}, tensors, folder)
    return tensors, index


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


def _initial_points(name: str, files: HPOBFiles, index: HPOBIndex, datasets: list[str], columns: int) -> Tensor | None:
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
    wrong = next((dataset for dataset, sets in points.items() if sets.ndim != 3 or sets.shape[2] != columns), None)
    if wrong is not None:
        raise DataIntegrityError(f"The initial points of {wrong} in {files.tables} do not have {columns} columns.")
    first = next(iter(points.values()))
    unknown = torch.full_like(first, torch.nan)
    return torch.stack([points.get(dataset, unknown) for dataset in datasets], 1).clamp(0.0, 1.0)
