"""One worker process as the pool sees it: start, send, read, measure, kill."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import weakref
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_gym.errors import InvalidSettingError
from hpo_gym.live.guard import kill_tree

if TYPE_CHECKING:
    import psutil

__all__ = ["Guard", "WorkerProcess"]

_FOLDER = Path(__file__).resolve().parent
# Read by numerical libraries when they are loaded. As many threads per worker as there are cores would make all of
# the workers slower.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# What of a call's output is kept, and how much is read at a time.
_KEPT_OUTPUT = 8_192
_READ_AT_ONCE = 65_536
_MOST_READS = 64

# A process forked off this one must not hold what tells the guard that this one lives.
_open: weakref.WeakSet[Guard | WorkerProcess] = weakref.WeakSet()


class Guard:
    """The process that kills workers when this process dies (see :mod:`hpo_gym.live.guard`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_FOLDER / "guard.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _open.add(self)

    def watch(self, pid: int) -> None:
        """Kill the worker when this process dies."""
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The worker has ended."""
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        # Somebody may have killed the guard: the workers are no worse for it while this process lives.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._input(), line.encode())

    def _input(self) -> int:
        assert self._process.stdin is not None  # a pipe was asked for
        return self._process.stdin.fileno()

    def close(self) -> None:
        """End the guard, which kills the workers that it still watches."""
        _open.discard(self)
        assert self._process.stdin is not None  # a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def forget_in_fork(self) -> None:
        """Give up what a fork inherited."""
        os.close(self._input())


class WorkerProcess:
    """A worker process (see :mod:`hpo_gym.live.worker`), the leader of a session of its own.

    Args:
        guard: Who kills it when this process dies.

    Raises:
        InvalidSettingError: On a system without process groups (Windows).
    """

    def __init__(self, guard: Guard) -> None:
        if os.name != "posix":
            raise InvalidSettingError(
                f"Live training in isolated workers needs a POSIX system, and this is {sys.platform!r}. Use WSL, or "
                "executor='dask' with workers on another machine."
            )
        import psutil

        mine, theirs = socket.socketpair()
        self.output, written = os.pipe()
        os.set_blocking(self.output, False)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_FOLDER / "worker.py"), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=os.environ | _ONE_THREAD,
            )
        finally:
            theirs.close()
            os.close(written)
        self.pid = self._process.pid
        guard.watch(self.pid)
        self._guard = guard
        self._seen: psutil.Process = psutil.Process(self.pid)
        self.connection = Connection(mine.detach())
        # Readable once the process has ended; systems without it are asked at every round.
        self.ended: int | None = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._tail = b""
        _open.add(self)
        with contextlib.suppress(BrokenPipeError):  # it died: the pool will see
            self.connection.send_bytes(json.dumps(sys.path).encode())

    def send(self, content: bytes) -> None:
        """Send a call.

        Raises:
            BrokenPipeError: If the process has died.
        """
        self.drain()
        self._tail = b""
        self.connection.send_bytes(content)

    def drain(self) -> None:
        """Read what was printed, and keep the end of it."""
        for _ in range(_MOST_READS):
            try:
                new = os.read(self.output, _READ_AT_ONCE)
            except BlockingIOError:
                return
            if not new:
                return
            self._tail = (self._tail + new)[-_KEPT_OUTPUT:]

    @property
    def printed(self) -> str:
        """The end of what the current call printed."""
        return self._tail.decode(errors="replace").strip()

    @property
    def returncode(self) -> int | None:
        """The exit status; negative for a signal; ``None`` while the process runs."""
        return self._process.poll()

    def resident(self, descendants: bool) -> int:
        """Return the resident memory in bytes, of all descendants too if asked for; 0 for a process that has ended."""
        import psutil

        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            total = self._seen.memory_info().rss
            if descendants and _may_have_children(self.pid):
                for child in self._seen.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        total += child.memory_info().rss
        return int(total)

    def end(self) -> int:
        """Kill the process and all its descendants, give back what it held, and return its exit status."""
        _open.discard(self)
        kill_tree(self.pid)
        status = self._process.wait()
        self._guard.forget(self.pid)
        self.drain()
        self.connection.close()
        os.close(self.output)
        if self.ended is not None:
            os.close(self.ended)
        return status

    def forget_in_fork(self) -> None:
        """Give up what a fork inherited."""
        self.connection.close()
        os.close(self.output)
        if self.ended is not None:
            os.close(self.ended)


def _may_have_children(pid: int) -> bool:
    """Return whether it is worth looking through all processes of the machine, which takes milliseconds."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return any((thread / "children").read_bytes() for thread in threads.iterdir())
    except OSError:  # not Linux, a kernel that does not tell, or a thread that has just ended
        return True


def _forget_all() -> None:
    for held in list(_open):
        held.forget_in_fork()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
