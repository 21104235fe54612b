"""What was played already, on disk: a killed evaluation goes on where it stopped, a larger one keeps what it has."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from hpo_gym.errors import DataError, DataIntegrityError, InvalidSettingError
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
        DataError: If it cannot be read or written.
        InvalidSettingError: If another process is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._named_errors():
            self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            try:
                self._open()
            except sqlite3.Error:
                self._connection.close()
                raise

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say of an error of SQLite which file it is about, and what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InvalidSettingError(
                    f"Another evaluation runs in {self.path.parent} and holds {self.path.name}. Wait for it, or write "
                    "elsewhere with output=<folder>."
                ) from error
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise self._corrupt(error) from error
            raise DataError(
                f"{self.path} cannot be read or written ({error}). Check that the disk has room and the folder can be "
                "written to, or write elsewhere with output=<folder>."
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> DataIntegrityError:
        return DataIntegrityError(
            f"{self.path} holds no played episodes that can be read ({error}). Delete it and evaluate again."
        )

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

        with self._named_errors():
            found = self._connection.execute("SELECT trials FROM cells WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        try:
            with np.load(io.BytesIO(found[0]), allow_pickle=False) as columns:
                return Played(**{field.name: columns[field.name] for field in fields(Played)})
        except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise self._corrupt(error) from error

    def put(self, key: str, played: Played) -> None:
        """Keep what was played; once this returns, no kill of the process loses it."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(played))
        with self._named_errors():
            self._connection.execute("INSERT OR REPLACE INTO cells VALUES (?, ?)", (key, buffer.getvalue()))

    def close(self) -> None:
        """Let other processes write."""
        self._connection.close()
