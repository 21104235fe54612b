"""Calls of live objectives in warm worker processes, under limits of time and memory."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, require_integer
from hpo_gym.live.limits import Limits
from hpo_gym.live.measurement import Measurement
from hpo_gym.live.process import Guard, WorkerProcess

__all__ = ["WorkerPool"]

# What importing the libraries of an objective may take, on a cold disk; it is no part of the time that is measured.
_STARTUP_SECONDS = 300.0
# How often the memory of a running call is looked at: of the worker itself, and of all its descendants.
_LOOK_SECONDS = 0.1
_LOOK_AT_ALL_SECONDS = 0.5
# An idle worker that still holds this share of the limit is replaced: the next call has a right to all of it.
_KEPT_SHARE = 0.5
# Idle workers end after this time: they hold libraries and data.
_IDLE_SECONDS = 300.0
_MEGABYTE = 2**20
# Results are numbers by name and a message of bounded length.
_LONGEST_FRAME = 2**20


@dataclass
class _Call:
    """One call of an objective, from submission to result."""

    content: bytes
    future: Future[Measurement]
    sent: float = math.inf
    started: float = math.inf


@dataclass
class _Worker:
    """A process and what it is doing; ``ready`` once it has answered for the first time."""

    process: WorkerProcess
    ready: bool = False
    call: _Call | None = None
    idle_since: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    looked_at_all: float = 0.0

    def deadline(self, limits: Limits) -> float:
        if self.call is None:
            return self.idle_since + _IDLE_SECONDS
        begun = self.call.started
        return begun + limits.seconds if begun < math.inf else self.call.sent + _STARTUP_SECONDS


class WorkerPool:
    """Worker processes that each make one call at a time; a call that breaks its limits takes only its worker with it.

    A thread starts, watches and ends the workers: as many as there are calls, at most ``workers``. They stay warm, and
    end when they have been idle for five minutes, with :meth:`close`, and with this process, however that ends.
    Safe to use from several threads.

    Args:
        workers: Most processes at once, at least 1.
        limits: What a call may take.

    Raises:
        InvalidSettingError: For an impossible number.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        require_integer("workers", workers, 1)
        self.workers, self.limits = workers, limits
        self._waiting: deque[_Call] = deque()
        self._crew: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = self._silent = False
        self._guard: Guard | None = None
        self._bell, self._button = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._button, False)
        self._thread = threading.Thread(target=self._supervise, name="hpo_gym live workers", daemon=True)
        self._thread.start()

    def submit(
        self, objective: bytes, configuration: Mapping[str, Any], share: float, seed: int
    ) -> Future[Measurement]:
        """Call an objective in a worker.

        Args:
            objective: The pickled objective (see :func:`hpo_gym.live.executors.pickled`).
            configuration: Active hyperparameters in natural units.
            share: Of a full evaluation, in (0, 1].
            seed: Given to the objective.

        Returns:
            The measurement to come. It raises EvaluationFailedError only where no worker can be started or the
            objective cannot be unpickled there: that is no property of the configuration.

        Raises:
            InvalidSettingError: If the pool is closed.
        """
        content = pickle.dumps((objective, dict(configuration), share, seed), pickle.HIGHEST_PROTOCOL)
        call = _Call(content, Future())
        with self._lock:
            if self._closed:
                raise InvalidSettingError("This pool of workers is closed. Make another.")
            self._waiting.append(call)
        self._ring()
        return call.future

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the workers at this moment."""
        return tuple(worker.process.pid for worker in list(self._crew))

    def close(self) -> None:
        """Kill all workers; what was not done is cancelled."""
        with self._lock:
            self._closed = True
        self._ring()
        self._thread.join()

    def _ring(self) -> None:
        # A full pipe has rung already. After the end its number may be that of somebody else's file.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._silent:
                os.write(self._button, b".")

    def _supervise(self) -> None:
        reason: BaseException | None = None
        try:
            while not self._closed:
                self._hand_out()
                self._look(time.monotonic())
                self._listen()
        except BaseException as error:  # nobody may wait for ever for what this thread would have done
            reason = error
            raise
        finally:
            self._finish(reason)

    def _finish(self, reason: BaseException | None) -> None:
        with self._lock:
            self._closed = True
            left = [*self._waiting, *(worker.call for worker in self._crew if worker.call is not None)]
            self._waiting.clear()
        for worker in self._crew:
            worker.process.end()
        self._crew.clear()
        if self._guard is not None:
            self._guard.close()
        with self._lock:
            self._silent = True
            os.close(self._bell)
            os.close(self._button)
        for call in left:
            if reason is not None:
                call.future.set_exception(reason)
            elif not call.future.cancel():
                call.future.set_exception(EvaluationFailedError("The pool of workers was closed during this call."))

    def _hand_out(self) -> None:
        """Give waiting calls to idle workers, and start workers where there are too few."""
        while self._waiting:
            worker = next((worker for worker in self._crew if worker.call is None), None)
            if worker is None and len(self._crew) >= self.workers:
                return
            call = self._waiting.popleft()
            if not call.future.set_running_or_notify_cancel():
                continue
            if worker is None:
                try:
                    self._guard = self._guard or Guard()
                    worker = _Worker(WorkerProcess(self._guard))
                except InvalidSettingError as error:
                    call.future.set_exception(error)
                    continue
                except OSError as error:
                    # Too many open files, too little memory: no property of the configuration, and it may pass.
                    call.future.set_exception(EvaluationFailedError(f"No worker process can be started here: {error}"))
                    continue
                self._crew.append(worker)
            call.sent = time.monotonic()
            worker.call = call
            try:
                worker.process.send(call.content)
            except BrokenPipeError:
                self._bury(worker)

    def _listen(self) -> None:
        """Wait until something happens, and see to it."""
        sources: dict[Any, _Worker] = {}
        for worker in self._crew:
            process = worker.process
            sources |= dict.fromkeys((process.connection, process.output), worker)
            if process.ended is not None:
                sources[process.ended] = worker
        for source in wait([self._bell, *sources], self._patience(time.monotonic())):
            if source == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
                continue
            worker = sources[source]
            if worker not in self._crew:
                continue
            if source is worker.process.connection:
                self._receive(worker)
            elif source == worker.process.output:
                worker.process.drain()
            elif not worker.process.connection.poll():
                # What it said before it died comes first.
                self._bury(worker)

    def _patience(self, now: float) -> float | None:
        """Return how many seconds nothing needs to be done; ``None``: for ever."""
        if not self._crew:
            return None
        until = min(worker.deadline(self.limits) for worker in self._crew) - now
        busy = any(worker.call is not None for worker in self._crew)
        return max(0.0, min(until, _LOOK_SECONDS) if busy else until)

    def _receive(self, worker: _Worker) -> None:
        call = worker.call
        try:
            frame = worker.process.connection.recv_bytes(_LONGEST_FRAME)
            said = {} if frame in (b"r", b"s") else json.loads(frame)
        except (EOFError, OSError, ValueError):
            # It died, or the objective wrote to what is none of its own.
            self._bury(worker)
            return
        if frame == b"r":
            worker.ready = True
        elif frame == b"s" and call is not None:
            call.started = time.monotonic()
        elif call is not None:
            self._conclude(worker, call, said)

    def _conclude(self, worker: _Worker, call: _Call, said: dict[str, Any]) -> None:
        """Take a result."""
        process = worker.process
        process.drain()
        worker.call, worker.idle_since = None, time.monotonic()
        if "setup" in said:
            error = EvaluationFailedError(
                f"A worker process cannot load the objective:\n{said['setup']}\nIt must be importable, or picklable by "
                "value, wherever it is evaluated."
            )
            call.future.set_exception(error)
            return
        printed = process.printed if said["status"] in ("error", "memory") else ""
        message = "\n".join(part for part in (said["message"], printed) if part)
        too_large = process.resident(descendants=False) > _KEPT_SHARE * self.limits.memory * _MEGABYTE
        if said["soiled"] or too_large:
            # It left processes behind or closed what the next call would print to, or holds on to memory.
            self._dismiss(worker)
        call.future.set_result(Measurement(said["status"], said["metrics"], said["seconds"], message))

    def _look(self, now: float) -> None:
        """End what has taken too long or too much."""
        for worker in list(self._crew):
            call = worker.call
            if call is None:
                if now >= worker.deadline(self.limits):
                    self._dismiss(worker)
            elif worker.process.connection.poll():
                # It has something to say: whoever is late is this thread.
                continue
            elif now >= worker.deadline(self.limits) and call.started == math.inf:
                # No property of the configuration: a file system that is slow today, for example.
                self._dismiss(worker)
                late = f"Loading the objective took longer than the limit of {_STARTUP_SECONDS:g} s"
                call.future.set_exception(EvaluationFailedError(f"{late}.\n{worker.process.printed}".strip()))
            elif now >= worker.deadline(self.limits):
                late = f"the call took longer than the limit of {self.limits.seconds:g} s"
                self._stop(worker, call, "timeout", late, now)
            elif now - worker.looked >= _LOOK_SECONDS:
                everything = now - worker.looked_at_all >= _LOOK_AT_ALL_SECONDS
                worker.looked = now
                worker.looked_at_all = now if everything else worker.looked_at_all
                resident = worker.process.resident(everything) / _MEGABYTE
                if resident > self.limits.memory:
                    taken = f"the call held {resident:.0f} MB, more than the limit of {self.limits.memory} MB"
                    self._stop(worker, call, "memory", taken, now)
                elif worker.process.ended is None and worker.process.returncode is not None:
                    self._bury(worker)

    def _stop(self, worker: _Worker, call: _Call, status: Any, why: str, now: float) -> None:
        self._dismiss(worker)
        printed = worker.process.printed
        message = f"{why}\n{printed}" if printed else why
        begun = call.sent if call.started == math.inf else call.started
        call.future.set_result(Measurement(status, {}, now - begun, message))

    def _bury(self, worker: _Worker) -> None:
        """Take leave of a worker that died."""
        now = time.monotonic()
        status = self._dismiss(worker)
        call, printed = worker.call, worker.process.printed
        if call is None:
            return
        how = f"exited with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        message = f"the process {how}\n{printed}".strip()
        if not worker.ready:
            error = EvaluationFailedError(f"No worker process can be started here: {message}")
            call.future.set_exception(error)
        else:
            begun = call.sent if call.started == math.inf else call.started
            call.future.set_result(Measurement("crashed", {}, now - begun, message))

    def _dismiss(self, worker: _Worker) -> int:
        self._crew.remove(worker)
        return worker.process.end()
