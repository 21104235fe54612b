"""What was measured before, and what is being measured: no configuration is trained twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from hpo_gym.errors import require_integer
from hpo_gym.live.measurement import Measurement

__all__ = ["MeasurementCache", "Question"]

#: What decides a measurement: task, configuration as bytes, share of a full evaluation, seed.
Question = tuple[int, bytes, float, int]


class MeasurementCache:
    """Measurements by what decides them; of more than ``most`` the one that was asked for least recently goes.

    Failures are kept like all others: a configuration that took its worker down is not tried again. Safe to use from
    several threads. A copy holds what was measured, and nothing of what is under way.

    Args:
        most: Measurements to keep, at least 1.
    """

    def __init__(self, most: int = 100_000) -> None:
        require_integer("most", most, 1)
        self._most = most
        self._known: OrderedDict[Question, Measurement] = OrderedDict()
        self._running: dict[Question, Future[Measurement]] = {}
        self._lock = threading.Lock()
        #: Questions that were answered without a measurement of their own.
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def ask(self, question: Question, measure: Callable[[], Future[Measurement]]) -> Measurement | Future[Measurement]:
        """Return the answer, or that to come: what ``measure`` begins, unless it is being found already."""
        with self._lock:
            found = self._known.get(question)
            if found is not None:
                self.hits += 1
                self._known.move_to_end(question)
                return found
            if question in self._running:
                self.hits += 1
                return self._running[question]
            future = measure()
            self._running[question] = future
        # Outside the lock: a future that is done already calls back at once.
        future.add_done_callback(lambda done: self._keep(question, done))
        return future

    def _keep(self, question: Question, future: Future[Measurement]) -> None:
        with self._lock:
            self._running.pop(question, None)
            if future.cancelled() or future.exception() is not None:
                return
            self._known[question] = future.result()
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def __getstate__(self) -> dict[str, object]:
        with self._lock:
            return {"_most": self._most, "_known": self._known.copy(), "hits": self.hits}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._running, self._lock = {}, threading.Lock()
