"""What was measured before, and what is being measured: no configuration is trained twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from hpo_gym.errors import HPOGymError, require_integer
from hpo_gym.live.kept_trainings import KeptTrainings
from hpo_gym.live.measurement import Measurement

__all__ = ["MeasurementCache", "Question"]

#: What decides a measurement: task, configuration as bytes, share of a full evaluation, seed.
Question = tuple[int, bytes, float, int]


class MeasurementCache:
    """Measurements by what decides them; of more than ``most`` the one that was asked for least recently goes.

    Failures are kept like all others: a configuration that took its worker down is not tried again. Safe to use from
    several threads. A copy holds what was measured, and nothing of what is under way.

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
        self._store = None if file is None else KeptTrainings(file)
        self._known: OrderedDict[Question, Measurement] = OrderedDict()
        self._running: dict[Question, Future[Measurement]] = {}
        self._lock = threading.Condition()
        self._unkept: Exception | None = None
        #: Questions that were answered without a measurement of their own.
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def ask(self, question: Question, measure: Callable[[], Future[Measurement]]) -> Measurement | Future[Measurement]:
        """Return the answer, or that to come: what ``measure`` begins, unless it is being found already.

        Raises:
            DataError: If an earlier measurement could not be kept, or kept ones cannot be read.
        """
        with self._lock:
            self._raise_unkept()
            found = self._known.get(question)
            if found is not None:
                self.hits += 1
                self._known.move_to_end(question)
                return found
            if question in self._running:
                self.hits += 1
                return self._running[question]
            kept = None if self._store is None else self._store.get(self._key(question))
            if kept is not None:
                self.hits += 1
                self._remember(question, kept)
                return kept
            future = measure()
            self._running[question] = future
        # Outside the lock: a future that is done already calls back at once.
        future.add_done_callback(lambda done: self._keep(question, done))
        return future

    def wait_kept(self, question: Question) -> None:
        """Wait until a measurement whose result is there is kept, too: those who wait for it hear of it first.

        Raises:
            DataError: If it could not be kept.
        """
        with self._lock:
            self._lock.wait_for(lambda: question not in self._running)
            self._raise_unkept()

    def _raise_unkept(self) -> None:
        # It was found in a thread of an executor, where nobody would hear of it.
        if self._unkept is not None:
            raise self._unkept

    def _keep(self, question: Question, future: Future[Measurement]) -> None:
        with self._lock:
            self._running.pop(question, None)
            self._lock.notify_all()
            if future.cancelled() or future.exception() is not None:
                return
            self._remember(question, future.result())
            if self._store is not None:
                try:
                    self._store.put(self._key(question), future.result())
                except HPOGymError as error:
                    self._unkept = error

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
        self._running, self._lock, self._unkept = {}, threading.Condition(), None
        self._store = None if self._file is None else KeptTrainings(self._file)
