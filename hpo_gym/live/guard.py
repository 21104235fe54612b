"""The program of a guard process: when the process that started it is gone, however it went, so are its workers.

A worker may hang in code that never gives up Python's global lock: it cannot notice that its parent was killed. The
guard does nothing but wait for that. It reads lines ``+<pid>`` and ``-<pid>``: workers that began and ended. Like a
worker it is run as a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["kill_tree", "main"]

# Descendants are killed until none is left; each round sees those that were begun during the one before.
_MOST_ROUNDS = 100
_ROUND_SECONDS = 0.01


def main() -> None:
    """Read until the end of standard input, then kill what is left."""
    # The parent's Ctrl-C is no reason to end before it does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    workers: set[int] = set()
    for line in sys.stdin.buffer:
        change = workers.add if line.startswith(b"+") else workers.discard
        change(int(line[1:]))
    for pid in workers:
        kill_tree(pid)


def kill_tree(pid: int) -> None:
    """Kill a worker, which leads a process group and adopts orphans, and all its descendants.

    The worker is stopped first and killed last: as long as it is there, whatever loses its parent is its child.
    """
    import psutil

    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGSTOP)
    with contextlib.suppress(psutil.NoSuchProcess):
        worker = psutil.Process(pid)
        nothing = 0
        for _ in range(_MOST_ROUNDS):
            victims = [child for child in worker.children(recursive=True) if _lives(child)]
            for victim in victims:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    victim.kill()
            psutil.wait_procs(victims, timeout=_ROUND_SECONDS)
            # A process may begin another and end while the list is made; the next list has it.
            nothing = 0 if victims else nothing + 1
            if nothing == 2:
                break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _lives(process: psutil.Process) -> bool:
    """Return whether a process is more than an entry that nobody has taken leave of."""
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
