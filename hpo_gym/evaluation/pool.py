"""Episodes in worker processes: one torch thread each, no orphan, and a death or an exception is one failed unit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for

import torch

from hpo_gym.errors import HPOGymError, InvalidSettingError
from hpo_gym.evaluation.loop import Played, Stage, Unit
from hpo_gym.threads import one_thread

__all__ = ["Outcome", "attempt", "play_here", "play_in_processes"]

# Read by the numerical libraries when a worker loads them. Small matrices gain nothing from threads, and as many
# threads per worker as there are cores make all of them slower.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: its trials, or why there are none."""

    stage: int
    unit: Unit
    played: Played | None
    error: str = ""


Work = tuple[int, Unit]


def play_here(stages: Mapping[int, Stage], work: Sequence[Work]) -> Iterator[Outcome]:
    """Play units one after the other in this process, on one torch thread as workers do."""
    for index, unit in work:
        with one_thread():
            yield attempt(stages[index], index, unit)


def play_in_processes(stages: Mapping[int, Stage], work: Sequence[Work], workers: int) -> Iterator[Outcome]:
    """Play units in ``workers`` processes; yield what became of each as it ends, in no order.

    Raises:
        InvalidSettingError: If a contender or the suite cannot be sent to another process.
    """
    try:
        # One string of all stages: they share their suite.
        content = pickle.dumps(dict(stages))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        names = ", ".join(sorted({stage.contender.name for stage in stages.values()}))
        raise InvalidSettingError(
            f"{names}: cannot be sent to worker processes ({error}). Use workers=1, or make begin an object of a class "
            "that can be pickled."
        ) from error
    waiting = list(reversed(work))
    alone: list[Work] = []
    with _environment(_ONE_THREAD):
        while waiting:
            in_flight = yield from _play_until_death(content, waiting, workers)
            # Which of them took its worker down shows when each is played by itself.
            alone.extend(in_flight)
        for item in alone:
            died = yield from _play_until_death(content, [item], 1)
            if died:
                yield Outcome(*item, None, "The worker process died (killed, out of memory, or crashed).")


def _play_until_death(content: bytes, waiting: list[Work], workers: int) -> Generator[Outcome, None, list[Work]]:
    """Play what is waiting; if a worker dies, return what was being played (``[]`` at the end)."""
    context = multiprocessing.get_context("spawn")
    # Nobody writes to it: it ends when this process closes its end, or dies, and every worker ends with it.
    lifeline, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(content, lifeline))
    running: dict[Future[Outcome], Work] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                item = waiting.pop()
                try:
                    with _uninterrupted():
                        running[pool.submit(_play_in_worker, *item)] = item
                except BrokenProcessPool:
                    waiting.append(item)
                    return list(running.values())
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                item = running[future]
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    return list(running.values())
                del running[future]
                yield outcome
        return []
    finally:
        if running:
            # After an interruption nobody waits for what was being played.
            held.close()
        pool.shutdown(cancel_futures=True)
        held.close()
        lifeline.close()


_stages: dict[int, Stage] = {}


def _begin_worker(content: bytes, lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _stages.update(pickle.loads(content))


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end is closed: a pool's workers would wait for ever."""
    wait_for([lifeline])
    os._exit(1)


def _play_in_worker(index: int, unit: Unit) -> Outcome:
    return attempt(_stages[index], index, unit)


def attempt(stage: Stage, index: int, unit: Unit, report: Callable[[float], None] | None = None) -> Outcome:
    """Play a unit; an error becomes part of the outcome."""
    try:
        return Outcome(index, unit, stage.play(unit, report))
    except HPOGymError as error:
        return Outcome(index, unit, None, str(error))
    except Exception:  # of whatever library: it is reported in full, and the other units go on
        return Outcome(index, unit, None, traceback.format_exc(limit=-6))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C while processes are started: they inherit that, and would all print a traceback of their own."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that new processes inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
