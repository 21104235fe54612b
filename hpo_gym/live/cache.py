"""What was measured before, and what is being measured: no configuration is trained twice."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from hpo_gym.errors import require_integer
from hpo_gym.live.kept_trainings import KeptTrainings
from hpo_gym.live.measurement import Measurement

__all__ = ["MeasurementCache", "Question"]

#: What decides a measurement: task, configuration as bytes, share of a full evaluation, seed.
Question = tuple[int, bytes, float, int]


class MeasurementCache:
    """Measurements by what decides them; of more than ``most`` the one that was asked for least recently goes.

    Failures are kept like all others: a configuration that took its worker down is not tried again. Safe to use from
    several threads. A copy, and the cache of a forked process, holds what was measured, and nothing of what is under
    way.

    Args:
        most: Measurements to keep in memory, at least 1.
        file: Where finished trainings are kept for other processes, too; ``None``: nowhere.
        objectives: What tells the objective of each task, as bytes, from all others; with ``file``.

    Raises:
        As :class:`hpo_gym.live.kept_trainings.KeptTrainings`.
    """

    def __init__(self, most: int = 100_000, file: Path | None = None, objectives: Sequence[bytes] = ()) -> None:
        require_integer("most", most, 1)
        self._most, self._file, self._objectives = most, file, tuple(objectives)
        self._known: OrderedDict[Question, Measurement] = OrderedDict()
        #: Questions that were answered without a measurement of their own.
        self.hits = 0
        self._begin()
        # Said now, and not when the first training has ended.
        self._opened()

    def _begin(self) -> None:
        """Begin in this process, with what is known."""
        self._running: dict[Question, Future[Measurement]] = {}
        self._lock = threading.Condition()
        # One writer: an executor's thread has workers to watch, and a disk may be slow. It has the file open for
        # itself, or whoever looks something up, with the lock that that thread needs, would wait for it.
        self._writer: ThreadPoolExecutor | None = None
        self._writing: dict[Question, tuple[Measurement, Future[None]]] = {}
        self._store: KeptTrainings | None = None
        self._writer_store: KeptTrainings | None = None
        _caches.add(self)

    def _opened(self) -> KeptTrainings | None:
        with self._lock:
            if self._file is not None and self._store is None:
                self._store = KeptTrainings(self._file)
            return self._store

    def __len__(self) -> int:
        return len(self._known)

    def ask(
        self,
        question: Question,
        measure: Callable[[], Future[Measurement]],
        tell: Callable[[Measurement], None] = lambda _: None,
    ) -> Measurement | Future[Measurement]:
        """Return the answer, or that to come: what ``measure`` begins, unless it is being found already.

        Args:
            question: What is asked.
            measure: Begins the measurement.
            tell: Called with what another process had measured.

        Raises:
            DataError: If kept measurements cannot be read.
        """
        with self._lock:
            found = self._known.get(question)
            if found is not None:
                self.hits += 1
                self._known.move_to_end(question)
                return found
            if question in self._running:
                self.hits += 1
                return self._running[question]
            store = self._opened()
            kept = None if store is None else store.get(self._key(question))
            if kept is not None:
                self.hits += 1
                self._remember(question, kept)
                tell(kept)
                return kept
            future = measure()
            self._running[question] = future
        # Outside the lock: a future that is done already calls back at once.
        future.add_done_callback(lambda done: self._keep(question, done))
        return future

    def wait_kept(self, question: Question) -> None:
        """Wait until a measurement whose result is there is kept, too.

        Raises:
            DataError: If it cannot be written; whoever asks for it again has it written again.
        """
        with self._lock:
            self._lock.wait_for(lambda: question not in self._running)
            if question not in self._writing:
                return
            measurement, written = self._writing[question]
        if written.done() and written.exception() is not None:
            # It was tried before, and may do now.
            written = self._write(question, measurement)
        written.result()
        with self._lock:
            self._writing.pop(question, None)

    def _keep(self, question: Question, future: Future[Measurement]) -> None:
        with self._lock:
            self._running.pop(question, None)
            self._lock.notify_all()
            if future.cancelled() or future.exception() is not None:
                return
            self._remember(question, future.result())
            if self._file is not None:
                self._write(question, future.result())

    def _write(self, question: Question, measurement: Measurement) -> Future[None]:
        with self._lock:
            self._writer = self._writer or ThreadPoolExecutor(1, "kept trainings")
            written = self._writer.submit(self._put, self._key(question), measurement)
            self._writing[question] = measurement, written
            return written

    def _put(self, key: str, measurement: Measurement) -> None:
        assert self._file is not None  # there is a file to write to
        self._writer_store = self._writer_store or KeptTrainings(self._file)
        self._writer_store.put(key, measurement)

    def _remember(self, question: Question, measurement: Measurement) -> None:
        self._known[question] = measurement
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def _key(self, question: Question) -> str:
        task, configuration, share, seed = question
        return KeptTrainings.key_of(self._objectives[task], configuration, share, seed)

    def __getstate__(self) -> dict[str, object]:
        with self._lock:
            copied = {name: getattr(self, name) for name in ("_most", "_file", "_objectives", "hits")}
            return {**copied, "_known": self._known.copy()}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()


_caches: weakref.WeakSet[MeasurementCache] = weakref.WeakSet()
# A child must not close what its parent has opened: SQLite forbids it.
_of_parents: list[KeptTrainings] = []


def _begin_all() -> None:
    """Let a forked process have locks that nobody holds, and files of its own."""
    for cache in _caches:
        _of_parents.extend(store for store in (cache._store, cache._writer_store) if store is not None)
        cache._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
