"""What was played already, on disk: a killed evaluation goes on where it stopped, a larger one keeps what it has."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import asdict, fields
from typing import ClassVar

from hpo_gym.blob_store import BlobStore
from hpo_gym.evaluation.loop import Played

__all__ = ["CellStore"]


class CellStore(BlobStore):
    """Played units by the fingerprint of everything that decides them, in one SQLite file.

    One process at a time may write.

    Args:
        path: The file; it is made where it is missing.

    Raises:
        As :class:`hpo_gym.blob_store.BlobStore`.
    """

    table: ClassVar[str] = "cells"
    column: ClassVar[str] = "trials"
    content: ClassVar[str] = "played episodes"
    remedy: ClassVar[str] = "Delete it and evaluate again."
    elsewhere: ClassVar[str] = "output=<folder>"
    exclusive: ClassVar[bool] = True

    def get(self, key: str) -> Played | None:
        """Return what was played under a key, or ``None``.

        Raises:
            DataIntegrityError: If it cannot be read.
        """
        import numpy as np

        found = self.get_blob(key)
        if found is None:
            return None
        try:
            with np.load(io.BytesIO(found), allow_pickle=False) as columns:
                return Played(**{field.name: columns[field.name] for field in fields(Played)})
        except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise self.corrupt(error) from error

    def put(self, key: str, played: Played) -> None:
        """Keep what was played; once this returns, no kill of the process loses it."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(played))
        self.put_blob(key, buffer.getvalue())
