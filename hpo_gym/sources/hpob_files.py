"""HPO-B's published files: where they are, whether they are the published ones, and what they say of each task.

Source: Pineda Arango, Jomaa, Wistuba and Grabocka (2021), "HPO-B", arXiv 2106.06257; archives ``hpob-data.zip`` and
``saved-surrogates.zip``. Everything is found by name and read as JSON.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hpo_gym.errors import DataIntegrityError, DataMissingError, require_names
from hpo_gym.fingerprint import content_digest
from hpo_gym.sources.archives import ORIGIN_FILE
from hpo_gym.sources.bundle_files import write_atomic
from hpo_gym.sources.pinned import packaged_table
from hpo_gym.sources.store import cache_folder, data_places
from hpo_gym.tasks.datasets import DATA_FOLDER

__all__ = ["HPOB_SEEDS", "HPOBFiles", "HPOBIndex", "find_hpob", "hpob_columns", "load_json"]

#: Names of the sets of initial points, one for each repetition.
HPOB_SEEDS = ("test0", "test1", "test2", "test3", "test4")

_TABLES, _SURROGATES = "hpob-data", "saved-surrogates"
_STATISTICS = "summary-stats.json"
_HELD_OUT = {"val": "meta-validation-dataset.json", "test": "meta-test-dataset.json"}
_INITIAL = "bo-initializations.json"
_SURROGATE = re.compile(r"surrogate-(\d+)-(\d+)\.json")
_INITIAL_POINTS = 5

# Raised when what is kept in the cache changes.
_FORMAT = 3


@dataclass(frozen=True)
class HPOBIndex:
    """What the large tables say of every task, apart from their rows.

    Args:
        sides: ``val`` or ``test`` by space and dataset; any other dataset of a space is for training.
        initial: The initial points of test tasks by space and dataset: ``[S][P][D]`` nested lists.
    """

    sides: dict[str, dict[str, str]]
    initial: dict[str, dict[str, list[list[list[float]]]]]


@dataclass(frozen=True)
class HPOBFiles:
    """The two unpacked archives.

    Args:
        tables: Folder of ``hpob-data``.
        surrogates: Folder of ``saved-surrogates``.
        origin: SHA-256 of the archives they were unpacked from, by name; empty where nobody asked.
    """

    tables: Path
    surrogates: Path
    origin: dict[str, str]

    @cached_property
    def datasets(self) -> dict[str, list[str]]:
        """The datasets (OpenML task ids) that there are surrogates of, by space, in numerical order."""
        found: dict[str, list[str]] = {}
        for path in self.surrogates.iterdir():
            named = _SURROGATE.fullmatch(path.name)
            if named is not None:
                found.setdefault(named[1], []).append(named[2])
        return {space: sorted(found[space], key=int) for space in sorted(found, key=int)}

    def datasets_of(self, space: str) -> list[str]:
        """Return the datasets of a space.

        Raises:
            UnknownNameError: If there is no such space.
        """
        require_names("search space of HPO-B", [space], self.datasets)
        return self.datasets[space]

    def surrogate(self, space: str, dataset: str) -> Path:
        """Return the file of a surrogate."""
        return self.surrogates / f"surrogate-{space}-{dataset}.json"

    def extremes(self, space: str, dataset: str) -> tuple[float, float]:
        """Return the smallest and largest score of a task, as HPO-B scales with them.

        Raises:
            DataIntegrityError: If they are not known, or no accuracies.
        """
        path = self.surrogates / _STATISTICS
        try:
            facts = self._statistics[f"surrogate-{space}-{dataset}"]
            low, high = float(facts["y_min"]), float(facts["y_max"])
        except (KeyError, TypeError, ValueError) as error:
            raise _not_hpob(path, f"it holds no y_min and y_max of surrogate-{space}-{dataset}") from error
        if not -0.1 <= low <= high <= 1.1:
            raise _not_hpob(path, f"y_min={low:g} and y_max={high:g} of surrogate-{space}-{dataset} are no accuracies")
        return low, high

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        return load_json(self.surrogates / _STATISTICS)

    @cached_property
    def digest(self) -> str:
        """What the files are: of the archives where that is known, and of names, sizes and times."""
        paths = [*self.surrogates.iterdir(), *self.tables.iterdir()]
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)]
        return content_digest([("format", _FORMAT), ("origin", self.origin), ("states", states)])[:32]

    @property
    def cache(self) -> Path:
        """Where what was made of these files is kept."""
        return cache_folder() / "hpob-compiled" / self.digest

    def index(self) -> HPOBIndex:
        """Return what the large tables say, from the cache where it is there.

        Raises:
            DataIntegrityError: If a file is not as HPO-B describes it.
        """
        kept = self.cache / "index.json"
        # Where it is not there, or damaged, it is made again; where it cannot be kept, every time.
        with suppress(DataIntegrityError, TypeError):
            return HPOBIndex(**load_json(kept))
        index = self._read_index()
        with suppress(OSError):
            write_atomic(kept, json.dumps(asdict(index)).encode())
        return index

    def _read_index(self) -> HPOBIndex:
        sides: dict[str, dict[str, str]] = {}
        initial: dict[str, dict[str, list[list[list[float]]]]] = {}
        chosen = load_json(self.tables / _INITIAL)
        for side, name in _HELD_OUT.items():
            tables = load_json(self.tables / name)
            for space, datasets in tables.items():
                if not isinstance(datasets, dict):
                    raise _not_hpob(self.tables / name, f"space {space} holds a {type(datasets).__name__}")
                sides.setdefault(space, {}).update(dict.fromkeys(datasets, side))
                if side == "test":
                    initial[space] = {dataset: self._rows(datasets, chosen, space, dataset) for dataset in datasets}
        return HPOBIndex(sides, initial)

    def _rows(self, tables: Any, chosen: Any, space: str, dataset: str) -> list[list[list[float]]]:
        """Return the initial points of a test dataset: ``[S][P][D]``."""
        what = f"initial points of space {space}, dataset {dataset}"
        try:
            rows = [chosen[space][dataset][seed][:_INITIAL_POINTS] for seed in HPOB_SEEDS]
        except (KeyError, TypeError) as error:
            raise _not_hpob(self.tables / _INITIAL, f"{what}: {type(error).__name__}: {error}") from error
        try:
            x = tables[dataset]["X"]
            points = [[[float(value) for value in x[row]] for row in each] for each in rows]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _not_hpob(self.tables / _HELD_OUT["test"], f"{what}: {type(error).__name__}: {error}") from error
        widths = {len(point) for each in points for point in each}
        finite = all(math.isfinite(value) for each in points for point in each for value in point)
        if {len(each) for each in points} != {_INITIAL_POINTS} or len(widths) != 1 or not finite:
            raise _not_hpob(self.tables / _INITIAL, f"{what}: expected {_INITIAL_POINTS} rows of finite numbers each")
        return points


@cache
def _all_columns() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((DATA_FOLDER / "hpob_columns.json").read_text(encoding="utf-8"))
    return found


def hpob_columns(space: str) -> tuple[str, ...]:
    """Return the names of the encoded hyperparameters of a space in their order.

    They travel with the package (``variables_order`` of HPO-B's ``meta-dataset-descriptors.json``, which lies in its
    repository beside the archives).

    Raises:
        UnknownNameError: If HPO-B has no such space.
    """
    require_names("search space of HPO-B", [space], _all_columns())
    return tuple(_all_columns()[space])


def find_hpob(data_dir: str | None, verify: bool) -> HPOBFiles:
    """Return the folders of the two archives.

    Searched in order: ``data_dir``, ``$HPO_GYM_DATA``, the cache; in each ``hpob/hpob-data`` and
    ``hpob/saved-surrogates``.

    Args:
        data_dir: Data folder to search first.
        verify: Whether to refuse folders that were not unpacked from the pinned archives.

    Raises:
        DataMissingError: If one is in none of these places.
        DataIntegrityError: If it is of another archive, or nothing says of which.
    """
    found = {name: _find(name, data_dir) for name in (_TABLES, _SURROGATES)}
    origin = {name: _origin(path, name) for name, path in found.items()} if verify else {}
    return HPOBFiles(found[_TABLES], found[_SURROGATES], origin)


def _find(name: str, data_dir: str | None) -> Path:
    needed = _STATISTICS if name == _SURROGATES else _INITIAL
    places = data_places(data_dir)
    for place in places.values():
        folder = place / "hpob" / name
        if (folder / needed).is_file():
            return folder
    searched = ", ".join(f"{label} {place}" for label, place in places.items())
    raise DataMissingError(
        f"hpob/{name}/{needed} is missing; searched: {searched}. Run `python -m hpo_gym.download hpob` "
        f"(0.4 GB), or put the content of {name}.zip there."
    )


def _origin(folder: Path, name: str) -> str:
    expected = str(packaged_table().files[f"hpob/{name}.zip"].sha256)
    path = folder / ORIGIN_FILE
    found = path.read_text(encoding="ascii").strip() if path.is_file() else None
    if found != expected:
        known = "nothing says what it was unpacked from" if found is None else f"it was unpacked from SHA-256 {found}"
        raise DataIntegrityError(
            f"{folder} is not known to be HPO-B's: {known}, expected {expected}. Move it away and run `python -m "
            "hpo_gym.download hpob`, or take it as it is with source_options={'verify': False}."
        )
    return found


def load_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        DataIntegrityError: If the file is missing, damaged or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _not_hpob(path, str(error)) from error
    if not isinstance(content, dict):
        raise _not_hpob(path, f"it holds a {type(content).__name__}, expected an object")
    return content


def _not_hpob(path: Path, reason: str) -> DataIntegrityError:
    return DataIntegrityError(
        f"{path} is not as HPO-B publishes it ({reason}). Move its folder away and run "
        "`python -m hpo_gym.download hpob`."
    )
