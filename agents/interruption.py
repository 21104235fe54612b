"""Ctrl-C as a request to stop at a point from which training can go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Interruption"]

_NOTICE = b"\nstopping after this step, with a checkpoint; press Ctrl-C again to abort without one\n"


class Interruption:
    """Within its context the first Ctrl-C sets :attr:`requested`; the next one does what it did before.

    Only the main thread may decide about signals: in another one nothing changes, nor where Ctrl-C is ignored.

    Args:
        repeated: Whether one Ctrl-C may arrive several times, as from ``torchrun``, which passes on what its processes
            have already got from the terminal: later ones change nothing then.
    """

    def __init__(self, repeated: bool = False) -> None:
        self.requested = False
        self._repeated = repeated
        self._before: Any = None

    def __enter__(self) -> Interruption:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._repeated and self.requested:
            return
        self.requested = True
        if not self._repeated:
            signal.signal(signal.SIGINT, self._before)
        # A measurement or an update may still take seconds. print() must not be called from a signal handler: it
        # may have interrupted another print().
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE)
