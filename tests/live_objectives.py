"""Objectives for tests of live environments: tiny ones that train in no time, and faulty ones.

Of the standard library and, where they are called, NumPy: a worker that died must be back in a moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NearestNeighbours:
    """Nearest neighbours in NumPy on three classes of points: a real training of half a millisecond."""

    width: float

    def __call__(self, configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
        import numpy as np

        train, labels, held, wanted = _points(self.width)
        count = max(3, round(share * len(train)))
        train, labels = train[:count], labels[:count]
        distance = np.abs(held[:, None] - train) ** configuration["power"]
        nearest = np.argsort(distance.sum(2), axis=1, kind="stable")[:, : min(configuration["neighbours"], count)]
        votes = np.stack([(labels[nearest] == label).sum(1) for label in range(3)], 1)
        right = votes.argmax(1) == wanted
        return {"accuracy": float(right.mean()), "error": float(1.0 - right.mean())}


@lru_cache
def _points(width: float) -> tuple[Any, ...]:
    import numpy as np

    draws = np.random.Generator(np.random.PCG64(round(1000 * width)))
    labels = draws.integers(0, 3, 240)
    points = draws.normal(0.0, width, (240, 2)) + np.stack([labels == 1, labels == 2], 1)
    return points[:180], labels[:180], points[180:], labels[180:]


def fine(configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
    return {"accuracy": share * configuration.get("x", 0.5), "error": 0.5}


def segfault(*_: Any) -> Any:
    return ctypes.string_at(0)


def sleep_for_ever(*_: Any) -> Any:
    while True:
        time.sleep(3600)


def spin_without_letting_go(*_: Any) -> Any:
    # A loop in C that holds the global lock and takes no signals.
    return sum(range(10**15))


def allocate_without_end(*_: Any) -> Any:
    held = []
    while True:
        held.append(bytearray(8 * 2**20))


def allocate_in_a_child(*_: Any) -> Any:
    if os.fork() == 0:
        allocate_without_end()
    time.sleep(3600)


def raise_memory_error(*_: Any) -> Any:
    raise MemoryError("no more")


def not_a_number(*_: Any) -> Any:
    return {"accuracy": float("nan"), "error": 0.5}


def infinite(*_: Any) -> Any:
    return {"accuracy": 0.5, "error": float("inf")}


def forgets_a_metric(*_: Any) -> Any:
    return {"accuracy": 0.5}


def no_numbers(*_: Any) -> Any:
    return {"accuracy": "high", "error": None}


def no_metrics(*_: Any) -> Any:
    return 0.5


def raises(*_: Any) -> Any:
    raise ValueError("this configuration is impossible")


def raises_what_cannot_be_shown(*_: Any) -> Any:
    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Unshowable


def leaves(*_: Any) -> Any:
    sys.exit(3)


def ends_the_process(*_: Any) -> Any:
    os._exit(3)


def kills_itself(*_: Any) -> Any:
    os.kill(os.getpid(), 9)


def forks(*_: Any) -> Any:
    os.fork()
    return {"accuracy": 0.5, "error": 0.5}


def leaves_a_daemon(*_: Any) -> Any:
    """Leave a process of another session behind, whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    return {"accuracy": 0.5, "error": 0.5}


def prints_a_megabyte(*_: Any) -> Any:
    print("x" * 2**20)
    sys.stderr.write("y" * 2**20)
    return {"accuracy": 0.5, "error": 0.5}


def prints_and_raises(*_: Any) -> Any:
    print("the last words", flush=True)
    raise ValueError("after them")


def storms(*_: Any) -> Any:
    for number in range(20_000):
        warnings.warn(f"warning {number}", RuntimeWarning, stacklevel=1)
    return {"accuracy": 0.5, "error": 0.5}


def reads_input(*_: Any) -> Any:
    return {"accuracy": float(len(sys.stdin.read())), "error": 0.5}


def writes_everywhere(*_: Any) -> Any:
    """Write to every open file, the connection to the pool among them."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"no message of this protocol")
    return {"accuracy": 0.5, "error": 0.5}


def closes_everything(*_: Any) -> Any:
    os.closerange(0, 256)
    return {"accuracy": 0.5, "error": 0.5}


def closes_its_output(*_: Any) -> Any:
    sys.stdout.close()
    sys.stderr.close()
    return {"accuracy": 0.5, "error": 0.5}


#: Every faulty objective and the status that it ends in.
FAULTS: dict[str, tuple[Any, str]] = {
    objective.__name__: (objective, status)
    for status, objectives in {
        "crashed": (segfault, ends_the_process, kills_itself, writes_everywhere, closes_everything),
        "timeout": (sleep_for_ever, spin_without_letting_go),
        "memory": (allocate_without_end, allocate_in_a_child, raise_memory_error),
        "invalid": (not_a_number, infinite, forgets_a_metric, no_numbers, no_metrics),
        "error": (raises, raises_what_cannot_be_shown, leaves, prints_and_raises),
        "ok": (forks, leaves_a_daemon, prints_a_megabyte, storms, reads_input, closes_its_output),
    }.items()
    for objective in objectives
}


@dataclass(frozen=True)
class Numbered:
    """Faulty for ``x`` above the number; fine else."""

    fault: Any
    above: float = 0.75

    def __call__(self, configuration: dict[str, Any], share: float, seed: int) -> Any:
        return (self.fault if configuration["x"] > self.above else fine)(configuration, share, seed)


def sleeps(seconds: float) -> Any:
    """Return an objective that takes ``seconds`` for ``x`` above a half, and nothing else."""
    return partial(_sleep, seconds)


def _sleep(seconds: float, configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
    time.sleep(seconds if configuration["x"] > 0.5 else 0.0)
    return fine(configuration, share, seed)


class Prepared:
    """Counts what was prepared, in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def prepare(self) -> None:
        time.sleep(0.3)
        with open(self.path, "a") as file:
            file.write("prepared\n")

    def __call__(self, *_: Any) -> dict[str, float]:
        return {"prepared": float(len(Path(self.path).read_text().splitlines()))}


class Counted:
    """An objective that writes down every call."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __call__(self, configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
        with open(self.path, "a") as file:
            file.write(f"{configuration['x']:.3f} {share:.2f} {seed}\n")
        return fine(configuration, share, seed)

    def calls(self) -> list[str]:
        return sorted(Path(self.path).read_text().splitlines())
