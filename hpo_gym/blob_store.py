"""Blobs by key in one SQLite file: each is there as a whole or not at all, whatever happens to the process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from hpo_gym.errors import DataError, DataIntegrityError, InvalidSettingError

__all__ = ["BlobStore"]


class BlobStore:
    """A table of keys and blobs. Safe to use from several threads, and in the process that opened it.

    Args:
        path: The file; it is made where it is missing, with its folder.

    Raises:
        DataIntegrityError: If it is no such file, or one of another version.
        DataError: If it cannot be read or written.
        InvalidSettingError: If another process is writing to it.
    """

    #: Version of what the blobs hold.
    version: ClassVar[int] = 1
    #: Name of the table and of the column of blobs.
    table: ClassVar[str]
    column: ClassVar[str]
    #: What the blobs are called, and what to do where they cannot be read, are locked or cannot be written.
    content: ClassVar[str]
    remedy: ClassVar[str]
    elsewhere: ClassVar[str]
    #: Whether one process at a time may have the file open.
    exclusive: ClassVar[bool]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"The folder of {path} cannot be made ({error}). Write elsewhere with {self.elsewhere}."
            ) from error
        self._closed = False
        with self._named_errors():
            # What does not lock the file waits for others that are writing.
            self._connection = sqlite3.connect(
                path, timeout=1.0 if self.exclusive else 60.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._open()
            except sqlite3.Error:
                self._connection.close()
                raise

    def _open(self) -> None:
        connection = self._connection
        if self.exclusive:
            # Locked from the first statement to the end: what two processes played at once would be played twice.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN EXCLUSIVE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, self.version):
            connection.execute("ROLLBACK")
            raise sqlite3.DatabaseError(f"format {version}, this package reads {self.version}")
        connection.execute(f"PRAGMA user_version = {self.version}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table} (key TEXT PRIMARY KEY, {self.column} BLOB NOT NULL)"
        )
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say of an error of SQLite which file it is about, and what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InvalidSettingError(
                    f"Another evaluation runs in {self.path.parent} and holds {self.path.name}. Wait for it, or write "
                    f"elsewhere with {self.elsewhere}."
                ) from error
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise self.corrupt(error) from error
            raise DataError(
                f"{self.path} cannot be read or written ({error}). Check that the disk has room and the folder can be "
                f"written to, or write elsewhere with {self.elsewhere}."
            ) from error
        except sqlite3.DatabaseError as error:
            raise self.corrupt(error) from error

    def corrupt(self, error: Exception) -> DataIntegrityError:
        """Return the error that says that the file cannot be used, and what to do."""
        return DataIntegrityError(f"{self.path} holds no {self.content} that can be read ({error}). {self.remedy}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._named_errors():
            if self._closed:
                raise InvalidSettingError(f"{self.path} is closed: open it again.")
            yield self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with self._locked() as connection:
            return int(connection.execute(f"SELECT COUNT(*) FROM {self.table}").fetchone()[0])

    @staticmethod
    def key(identity: Mapping[str, Any]) -> str:
        """Return the fingerprint of plain values."""
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get_blob(self, key: str) -> bytes | None:
        """Return what is kept under a key, or ``None``."""
        with self._locked() as connection:
            query = f"SELECT {self.column} FROM {self.table} WHERE key = ?"
            found = connection.execute(query, (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def put_blob(self, key: str, blob: bytes) -> None:
        """Keep something; once this returns, no kill of the process loses it."""
        with self._locked() as connection:
            connection.execute(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?)", (key, blob))

    def close(self) -> None:
        """Let other processes write."""
        with self._lock:
            self._closed = True
            self._connection.close()
