"""From published incumbents to aggregates: the file format of HPO-B, and one function over all methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.evaluation.published.curves import CHOSEN_TRIALS, TRIALS, PublishedCurves
from hpo_gym.evaluation.published.methods import PublishedMethod

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FIRST_SEED", "aggregate_incumbents", "read_result_file"]

#: The only seed from whose initial points every method starts.
FIRST_SEED = "test0"

# HPO-B's own comparison rounds before it ranks.
_RANK_DECIMALS = 8


def aggregate_incumbents(
    incumbents: np.ndarray[Any, Any],
    spaces: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[str],
    methods: Sequence[PublishedMethod],
    chosen: Sequence[int] = CHOSEN_TRIALS,
) -> PublishedCurves:
    """Return the means, dataset by dataset values and counts of pairs of published runs.

    Curves that fall at some trial (13 of ``GP.json``) are averaged as they are, as in the published aggregates.
    Runs of a space that a file lacks (NAP's has 6 of 16) and entries after a file's end (``RF.json`` has 6) are
    NaN and make NaN of every mean that needs them; a mean never silently covers fewer runs than it says.

    Args:
        incumbents: Best score so far scaled to [0, 1], ``[M, R, 101]``; entry ``k`` is after ``k`` trials.
        spaces: Search space of each of the ``R`` runs.
        datasets: OpenML task id of each run.
        seeds: Seed of each run, ``test0`` .. ``test4``.
        methods: The ``M`` methods.
        chosen: Trials that are kept per dataset.

    Raises:
        DataIntegrityError: If shapes do not fit together, a run is there twice, a dataset has no run ``test0``, or
            an incumbent lies outside [0, 1].
    """
    import numpy as np

    runs = list(zip(spaces, datasets, seeds, strict=True))
    expected = (len(methods), len(runs), TRIALS + 1)
    if incumbents.shape != expected:
        raise DataIntegrityError(
            f"Incumbents have shape {incumbents.shape}, expected {expected} (methods, runs, entries)."
        )
    if len(set(runs)) < len(runs):
        raise DataIntegrityError("A run (space, dataset, seed) is there more than once.")
    if (incumbents < 0.0).any() or (incumbents > 1.0).any():
        raise DataIntegrityError("Incumbents must be scaled to [0, 1] per dataset.")
    regret = 1.0 - incumbents.astype(np.float64)
    space_of = np.array(spaces, dtype=str)
    names = tuple(sorted(set(spaces)))
    pairs = tuple(sorted({(space, dataset) for space, dataset, _ in runs}))
    means, first = [], []
    for pair in pairs:
        mine = [index for index, run in enumerate(runs) if run[:2] == pair]
        start = [index for index in mine if runs[index][2] == FIRST_SEED]
        if not start:
            raise DataIntegrityError(f"Dataset {pair[1]} of space {pair[0]} has no run {FIRST_SEED!r}.")
        means.append(regret[:, mine][:, :, list(chosen)].mean(axis=1))
        first.append(regret[:, start[0], list(chosen)])
    final = np.round(incumbents[:, :, -1].astype(np.float64), _RANK_DECIMALS)
    return PublishedCurves(
        methods=tuple(methods),
        spaces=names,
        runs=np.array([int((space_of == name).sum()) for name in names]),
        regret=np.stack([regret[:, space_of == name].mean(axis=1) for name in names], axis=1),
        datasets=pairs,
        chosen=tuple(chosen),
        dataset_regret=np.stack(means, axis=1),
        first_seed_regret=np.stack(first, axis=1),
        better=(final[:, None] > final[None]).sum(axis=2),
        ties=(final[:, None] == final[None]).sum(axis=2),
    )


def read_result_file(
    path: str | Path, spaces: Sequence[str], datasets: Sequence[str], seeds: Sequence[str]
) -> np.ndarray[Any, Any]:
    """Read a result file ``{space: {dataset: {seed: [incumbent, ...]}}}`` of HPO-B, FSBO, OptFormer or NAP.

    Args:
        path: The JSON file.
        spaces: Search space of each of the ``R`` wanted runs.
        datasets: OpenML task id of each run.
        seeds: Seed of each run.

    Returns:
        Incumbents, float64 ``[R, 101]``; NaN after a curve's end, and throughout where the file has no such run.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If the file is no such JSON, or a curve has more than 101 entries.
    """
    import numpy as np

    if not Path(path).is_file():
        raise DataMissingError(f"There is no result file {path}: give one of HPO-B, FSBO, OptFormer or NAP.")
    found = np.full((len(spaces), TRIALS + 1), np.nan)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        for row, (space, dataset, seed) in enumerate(zip(spaces, datasets, seeds, strict=True)):
            values = np.asarray(content.get(space, {}).get(dataset, {}).get(seed, []), dtype=np.float64)
            if values.ndim != 1 or len(values) > TRIALS + 1:
                raise DataIntegrityError(
                    f"{path}: the run {space}/{dataset}/{seed} has shape {values.shape}; "
                    f"expected a list of at most {TRIALS + 1} incumbents."
                )
            found[row, : len(values)] = values
    except (ValueError, AttributeError, TypeError) as error:
        raise DataIntegrityError(
            f"{path} is no result file of HPO-B ({error}); expected {{space: {{dataset: {{seed: [incumbents]}}}}}}."
        ) from error
    return found
