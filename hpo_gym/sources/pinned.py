"""Checksums of published files, and where those files are published.

The packaged table ``data/pinned_files.json`` carries facts only: for every file that this project has had in
hand its size and SHA-256, and for every file of the YAHPO scenarios git's object id at the pinned commit, so
that a file can be checked that was never here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hpo_gym.errors import DataIntegrityError

__all__ = ["PACKAGED_TABLE", "PinnedFile", "PinnedTable", "Publication", "packaged_table", "read_table"]

#: Where the table lies inside the package.
PACKAGED_TABLE = Path(__file__).resolve().parent.parent / "data" / "pinned_files.json"


@dataclass(frozen=True)
class PinnedFile:
    """What is known about the content of a published file.

    Args:
        size: Its length in bytes.
        sha256: Its SHA-256 in hexadecimal.
        git_blob: Its object id in git: the SHA-1 of ``b"blob <size>\\0"`` and its content, in hexadecimal.
    """

    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    def problem(self, path: Path) -> str | None:
        """Return what is wrong with a file, with what was found and what was expected, or ``None``.

        Args:
            path: An existing file; it is read once, the strongest known checksum is compared.

        Raises:
            OSError: If the file cannot be read.
        """
        size = path.stat().st_size
        if self.sha256 is not None:
            kind, expected = "SHA-256", self.sha256
            digest = hashlib.sha256()
        elif self.git_blob is not None:
            kind, expected = "git blob id", self.git_blob
            # SHA-1 is git's choice: it is all that is published of a file that was never here.
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        else:
            return None
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        found = digest.hexdigest()
        if found == expected and self.size in (None, size):
            return None
        length = "" if self.size is None else f" and {self.size:,} bytes"
        return f"its {kind} is {found} ({size:,} bytes), expected {expected}{length}"


@dataclass(frozen=True)
class Publication:
    """Where files come from.

    Args:
        origin: Repository, version and commit.
        licence: Licence of the files.
        urls: Templates of their addresses; ``{path}`` stands for the path within the publication. Empty where
            they cannot be downloaded.
    """

    origin: str
    licence: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class PinnedTable:
    """Pinned files and their publications.

    Args:
        files: By path relative to a data folder, e.g. ``yahpo/rbv2_rpart/model.onnx``.
        publications: By the first part of that path.
    """

    files: Mapping[str, PinnedFile] = field(default_factory=dict)
    publications: Mapping[str, Publication] = field(default_factory=dict)

    def publication(self, relative: str) -> Publication | None:
        """Return where a file is published, or ``None`` where that is not known."""
        return self.publications.get(relative.partition("/")[0])

    def scenarios(self) -> dict[str, list[str]]:
        """Return the files of every YAHPO scenario that can be downloaded, relative to a data folder."""
        found: dict[str, list[str]] = {}
        for relative, pinned in sorted(self.files.items()):
            parts = relative.split("/")
            if parts[0] == "yahpo" and len(parts) == 3 and pinned.git_blob is not None:
                found.setdefault(parts[1], []).append(relative)
        return {name: files for name, files in found.items() if f"yahpo/{name}/model.onnx" in files}


def read_table(path: Path) -> PinnedTable:
    """Read a table of pinned files.

    Raises:
        DataIntegrityError: If it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return PinnedTable(
            files={relative: PinnedFile(**facts) for relative, facts in values["files"].items()},
            publications={
                name: Publication(facts["origin"], facts["licence"], tuple(facts["urls"]))
                for name, facts in values["publications"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataIntegrityError(f"{path} is no table of pinned files ({error!r}). Reinstall hpo_gym.") from error


@cache
def packaged_table() -> PinnedTable:
    """Return the table that travels with the package."""
    return read_table(PACKAGED_TABLE)
