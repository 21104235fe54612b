"""The program of a worker process: one call of an objective at a time, whatever the objective does.

It is run as a file and imports the standard library only, so that a worker starts in a moment and holds no library
that its objective does not need. Frames on its connection:

======================================================= ==========================================================
from the pool                                           from the worker
======================================================= ==========================================================
JSON: the module search path, once                      ``r``: ready, once
pickle: objective (bytes), configuration, share, seed   ``s``: the objective is prepared, the clock starts;
                                                        JSON: the result, or under ``setup`` why it is not there
======================================================= ==========================================================

An objective may have a method ``prepare()``, which is called once in every worker before its first call: reading data
and importing libraries is no part of the time that is measured.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import pickle
import sys
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["main"]

# Objectives that stay unpickled: what they keep in their modules' globals stays, too.
_MOST_OBJECTIVES = 256
_LONGEST_MESSAGE = 4_000
_PR_SET_CHILD_SUBREAPER = 36


def main(descriptor: int) -> None:
    """Serve until the other end of the connection is closed."""
    connection = Connection(descriptor)
    own = os.getpid()
    _adopt_orphans()
    # What a fork of the objective writes or reads there would be taken for this worker's.
    os.register_at_fork(after_in_child=connection.close)
    faulthandler.enable()
    sys.path[:] = json.loads(connection.recv_bytes())
    connection.send_bytes(b"r")
    objectives: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()
    while True:
        try:
            content, configuration, share, seed = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
        try:
            objective = _objective(objectives, content)
        except BaseException:  # whatever an import raises: the pool tells its user
            connection.send_bytes(json.dumps({"setup": _end_of_traceback()}).encode())
            continue
        connection.send_bytes(b"s")
        result = _evaluate(objective, configuration, share, seed)
        if os.getpid() != own:
            # The objective forked, and this is the child: the parent answers.
            os._exit(0)
        result["soiled"] = _has_children() | _has_lost_output()
        try:
            connection.send_bytes(json.dumps(result).encode())
        except OSError:
            os._exit(0)


def _objective(known: OrderedDict[bytes, Callable[..., Any]], content: bytes) -> Callable[..., Any]:
    if content not in known:
        objective = pickle.loads(content)
        getattr(objective, "prepare", _nothing)()
        known[content] = objective
        if len(known) > _MOST_OBJECTIVES:
            known.popitem(last=False)
    known.move_to_end(content)
    return known[content]


def _nothing() -> None:
    """What an objective without ``prepare`` does before its first call."""


def _evaluate(objective: Callable[..., Any], configuration: dict[str, Any], share: float, seed: int) -> dict[str, Any]:
    """Call the objective; return status, metrics, seconds and message."""
    told = _Warnings()
    metrics: dict[str, float] = {}
    status, message = "ok", ""
    begun = time.perf_counter()
    try:
        # Python remembers every text it ever warned with unless all are shown: a storm would be a leak.
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = told
            returned = objective(configuration, share, seed)
        seconds = time.perf_counter() - begun
        metrics, wrong = _numbers(returned)
        if wrong:
            status, message = "invalid", wrong
    except MemoryError:
        seconds = time.perf_counter() - begun
        status, message = "memory", _end_of_traceback()
    except BaseException:  # SystemExit and KeyboardInterrupt are the objective's own here
        seconds = time.perf_counter() - begun
        status, message = "error", _end_of_traceback()
    text = "; ".join(part for part in (message, told.summary()) if part)
    return {"status": status, "metrics": metrics, "seconds": seconds, "message": text}


class _Warnings:
    """Counts warnings and keeps the last: printing them would take longer than many trainings."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def __call__(self, message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        self.count += 1
        self.last = f"{category.__name__}: {message}"[:_LONGEST_MESSAGE]

    def summary(self) -> str:
        if not self.count:
            return ""
        return f"{self.count} warning(s), the last: {' '.join(self.last.split())[:500]}"


def _numbers(returned: Any) -> tuple[dict[str, float], str]:
    """Return what an objective returned as numbers by name, and what is wrong with it."""
    if not isinstance(returned, Mapping):
        return {}, f"an objective returns its metrics by name, and this one returned {type(returned).__name__}"
    numbers, wrong = {}, []
    for name, value in returned.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            wrong.append(f"{name} is no number ({type(value).__name__}: {error})"[:300])
    wrong += [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    return numbers, ", ".join(wrong)


def _end_of_traceback() -> str:
    return traceback.format_exc(limit=-6)[-_LONGEST_MESSAGE:].strip()


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (Linux), so that none gets out of sight."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _has_children() -> bool:
    """Return whether a process that the objective started still runs; take leave of those that ended."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False


def _has_lost_output() -> bool:
    """Show what was printed, and return whether the next call could not print."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return True
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]))
