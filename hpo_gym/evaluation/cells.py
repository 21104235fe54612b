"""What was played already, on disk: a killed evaluation goes on where it stopped, a larger one keeps what it has."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from hpo_gym.errors import DataIntegrityError, InvalidSettingError
from hpo_gym.evaluation.loop import Played

__all__ = ["CellStore"]

_VERSION = 1


class CellStore:
    """Played units by the fingerprint of everything that decides them, in one SQLite file.

    A unit is there as a whole or not at all, whatever happens to the process: SQLite commits it in one transaction.
    One process at a time may write.

    Args:
        path: The file; it is made where it is missing.

    Raises:
        DataIntegrityError: If it is no such file, or one of another version.
        InvalidSettingError: If another process is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise InvalidSettingError(
                f"{path} cannot be written to ({error}): another evaluation seems to run in this folder. Wait for it, "
                "or write elsewhere with output=<folder>."
            ) from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise DataIntegrityError(
                f"{path} holds no played episodes ({error}). Delete it and evaluate again."
            ) from error

    def _open(self) -> None:
        connection = self._connection
        # Locked from the first statement to the end: what two processes played at once would be played twice.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN EXCLUSIVE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            connection.execute("ROLLBACK")
            raise sqlite3.DatabaseError(f"format {version}, this package reads {_VERSION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, trials BLOB NOT NULL)")
        connection.execute("COMMIT")

    def __enter__(self) -> CellStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM cells").fetchone()[0])

    @staticmethod
    def key(identity: Mapping[str, Any]) -> str:
        """Return the fingerprint of plain values."""
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Played | None:
        """Return what was played under a key, or ``None``.

        Raises:
            DataIntegrityError: If it cannot be read.
        """
        import numpy as np

        found = self._connection.execute("SELECT trials FROM cells WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        try:
            with np.load(io.BytesIO(found[0]), allow_pickle=False) as columns:
                return Played(**{field.name: columns[field.name] for field in fields(Played)})
        except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataIntegrityError(
                f"{self.path}: the trials under {key} cannot be read ({error}). Delete the file and evaluate again."
            ) from error

    def put(self, key: str, played: Played) -> None:
        """Keep what was played; once this returns, no kill of the process loses it."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(played))
        self._connection.execute("INSERT OR REPLACE INTO cells VALUES (?, ?)", (key, buffer.getvalue()))

    def close(self) -> None:
        """Let other processes write."""
        self._connection.close()
