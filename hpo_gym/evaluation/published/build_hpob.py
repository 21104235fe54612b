"""``python -m hpo_gym.evaluation.published.build_hpob``: make the shipped reference curves from the incumbents.

Needs ``hpob/published_incumbents.npz`` (``incumbents [method, run, 101]``, ``methods``, and ``space``, ``dataset``,
``seed`` of the runs) below ``--data-dir`` or ``$HPO_GYM_DATA``. The incumbents themselves are not shipped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError
from hpo_gym.evaluation.published.aggregates import aggregate_incumbents
from hpo_gym.evaluation.published.curves import PublishedCurves
from hpo_gym.evaluation.published.methods import PUBLISHED_METHODS
from hpo_gym.evaluation.published.shipped import DATA_FOLDER, write_curves
from hpo_gym.sources.bundle_files import sha256

if TYPE_CHECKING:
    import numpy as np

__all__ = ["INCUMBENTS", "main", "read_incumbents"]

#: Where the incumbents lie in a data folder.
INCUMBENTS = Path("hpob") / "published_incumbents.npz"


def read_incumbents(path: Path) -> tuple[PublishedCurves, dict[str, Any]]:
    """Aggregate the incumbents of all published methods.

    Args:
        path: The ``.npz`` file; read without unpickling.

    Returns:
        The aggregates, and the origin of the incumbents.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If a method is missing, unexpected, or not the copy of another that it should be.
    """
    import numpy as np

    if not path.is_file():
        raise DataMissingError(f"{path} is missing: give --data-dir, or set HPO_GYM_DATA, to a folder that holds it.")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in ("incumbents", "methods", "space", "dataset", "seed")}
    files = [str(name) for name in arrays["methods"]]
    expected = [name for method in PUBLISHED_METHODS for name in (method.name, *method.aliases)]
    if sorted(files) != sorted(expected):
        odd = sorted(set(files) ^ set(expected))
        raise DataIntegrityError(f"{path} does not hold the {len(expected)} expected result files; differing: {odd}.")
    incumbents = arrays["incumbents"]
    for method in PUBLISHED_METHODS:
        for alias in method.aliases:
            if not np.array_equal(incumbents[files.index(alias)], incumbents[files.index(method.name)]):
                raise DataIntegrityError(f"{path}: {alias} is not the copy of {method.name} that it should be.")
    chosen = incumbents[[files.index(method.name) for method in PUBLISHED_METHODS]]
    spaces, datasets, seeds = ([str(value) for value in arrays[name]] for name in ("space", "dataset", "seed"))
    source = {
        "incumbents": path.name,
        "sha256": sha256(path.read_bytes()),
        "files": len(files),
        "runs_per_file": incumbents.shape[1],
        "non_monotone_curves": _falling(chosen),
        "paper": "Pineda Arango et al. (2021), HPO-B, arXiv 2106.06257",
        "repositories": {method.repository: method.licence for method in PUBLISHED_METHODS},
        "licence": "Facts tabulated from result files under MIT (HPO-B), BSD-3-Clause (FSBO), Apache-2.0 (OptFormer).",
        "made_by": "python -m hpo_gym.evaluation.published.build_hpob",
    }
    return aggregate_incumbents(chosen, spaces, datasets, seeds, PUBLISHED_METHODS), source


def _falling(incumbents: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return by method how many curves fall at some trial, where any does."""
    counts = ((incumbents[:, :, 1:] < incumbents[:, :, :-1]).any(axis=2)).sum(axis=1)
    return {method.name: int(count) for method, count in zip(PUBLISHED_METHODS, counts, strict=True) if count}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.evaluation.published.build_hpob", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_GYM_DATA"), help="data folder")
    parser.add_argument("--output", type=Path, default=DATA_FOLDER, help="folder to write to; default: the package")
    options = parser.parse_args(arguments)
    if options.data_dir is None:
        parser.error("give --data-dir, or set HPO_GYM_DATA")
    try:
        curves, source = read_incumbents(Path(options.data_dir) / INCUMBENTS)
        size = write_curves(curves, source, options.output)
    except HPOGymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(curves.methods)} methods, {int(curves.runs.sum())} runs each: {size} bytes -> {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
