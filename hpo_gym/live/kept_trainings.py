"""Finished trainings on disk: whoever was killed begins again and trains only what was not trained before."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar

from hpo_gym.blob_store import BlobStore
from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.measurement import Measurement

__all__ = ["KeptTrainings"]

# What these say may be different tomorrow: a library that is missing, a machine that was short of memory for others.
_TRIED_AGAIN = ("error", "crashed", "memory")


class KeptTrainings(BlobStore):
    """Measurements by what decides them, in one SQLite file; several processes may use it at once.

    Kept is what a training itself decides: its metrics, or that it is too slow or diverges. What raised, crashed or had
    too little memory is tried again by the next process.

    Args:
        path: The file; it is made where it is missing.

    Raises:
        As :class:`hpo_gym.blob_store.BlobStore`.
    """

    table: ClassVar[str] = "trainings"
    column: ClassVar[str] = "measurement"
    content: ClassVar[str] = "finished trainings"
    remedy: ClassVar[str] = "Delete it, and train again."
    elsewhere: ClassVar[str] = "another trainings=<file>"
    exclusive: ClassVar[bool] = False

    def get(self, key: str) -> Measurement | None:
        """Return a measurement, or ``None``.

        Raises:
            DataIntegrityError: If it cannot be read.
        """
        found = self.get_blob(key)
        if found is None:
            return None
        try:
            return Measurement(**json.loads(found))
        except (ValueError, TypeError, InvalidSettingError) as error:
            raise self.corrupt(error) from error

    def put(self, key: str, measurement: Measurement) -> None:
        """Keep a measurement, unless it is to be tried again."""
        if measurement.status in _TRIED_AGAIN:
            return
        told = {
            "status": measurement.status,
            "metrics": dict(measurement.metrics),
            "seconds": measurement.seconds,
            "message": measurement.message,
        }
        self.put_blob(key, json.dumps(told).encode())

    @staticmethod
    def key_of(objective: bytes, configuration: bytes, share: float, seed: int) -> str:
        """Return the key of a training.

        Args:
            objective: Digest of everything else that decides it.
            configuration: The configuration as bytes.
            share, seed: As the objective is called.
        """
        content = hashlib.sha256(objective)
        content.update(f"{len(configuration)}:{share!r}:{seed}:".encode())
        content.update(configuration)
        return content.hexdigest()
