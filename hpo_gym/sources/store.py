"""Finding published files on disk, and checking them before they are used."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.sources.pinned import PinnedFile, PinnedTable, packaged_table

__all__ = ["cache_folder", "data_places", "find_file"]

# Files that were checked by this process: hashing a model at every gymnasium.make would cost more than the
# rest of it. A file that was changed since has another time stamp or size.
_CHECKED: set[tuple[str, int, int, PinnedFile]] = set()


def cache_folder() -> Path:
    """Return the folder for downloads and results: ``$HPO_GYM_CACHE``, or the user's cache."""
    import platformdirs

    return Path(os.environ.get("HPO_GYM_CACHE") or platformdirs.user_cache_dir("hpo_gym"))


def data_places(data_dir: str | None) -> dict[str, Path]:
    """Return the data folders in the order in which they are searched, by what named them.

    Args:
        data_dir: Data folder to search first.
    """
    named = {"data_dir": data_dir, "HPO_GYM_DATA": os.environ.get("HPO_GYM_DATA"), "cache": str(cache_folder())}
    return {name: Path(place).expanduser() for name, place in named.items() if place}


def find_file(relative: str, data_dir: str | None, table: PinnedTable | None = None) -> Path:
    """Return the first file of that name, checked against its pinned checksum where there is one.

    Searched in order: ``data_dir``, ``$HPO_GYM_DATA``, the cache.

    Args:
        relative: Path relative to a data folder, e.g. ``yahpo/rbv2_rpart/model.onnx``.
        data_dir: Data folder to search first.
        table: Pinned checksums; ``None`` means those of the package.

    Raises:
        DataMissingError: If the file is in none of these places.
        DataIntegrityError: If the first file found is not the published one.
    """
    table = packaged_table() if table is None else table
    places = data_places(data_dir)
    for place in places.values():
        path = place / relative
        if path.is_file():
            _check(path, relative, place, table)
            return path
    searched = ", ".join(f"{name} {place}" for name, place in places.items())
    raise DataMissingError(f"{relative} is missing; searched: {searched}. {_remedy(relative, None, table)}")


def _check(path: Path, relative: str, place: Path, table: PinnedTable) -> None:
    pinned = table.files.get(relative)
    if pinned is None:
        return
    try:
        state = path.stat()
        key = (os.path.abspath(path), state.st_mtime_ns, state.st_size, pinned)
        if key in _CHECKED:
            return
        problem = pinned.problem(path)
    except OSError as error:
        raise DataIntegrityError(f"{path} cannot be read: {error}. {_remedy(relative, place, table)}") from error
    if problem is not None:
        raise DataIntegrityError(f"{path} is corrupt: {problem}. {_remedy(relative, place, table)}")
    _CHECKED.add(key)


def _remedy(relative: str, place: Path | None, table: PinnedTable) -> str:
    """Return a sentence that says how to get the right file into ``place``, or anywhere if ``None``."""
    for scenario, files in table.scenarios().items():
        if relative in files:
            # The command writes into the cache, which is searched last: it would not replace this file.
            target = "" if place in (None, cache_folder()) else f" --to {shlex.quote(str(place))}"
            return f"Run `python -m hpo_gym.download yahpo {scenario}{target}`."
    folder = "a data folder (the data_dir argument or HPO_GYM_DATA)" if place is None else str(place)
    publication = table.publication(relative)
    origin = "" if publication is None else f" from {publication.origin},"
    return f"It cannot be downloaded by hpo_gym: put the file,{origin} at {relative} in {folder}."
