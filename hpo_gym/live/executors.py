"""Where live objectives are called: worker processes here, or those of a Dask or a Ray cluster.

Everywhere the call itself is made in an isolated process under the same limits: on a cluster, in a worker process of
its own beside the cluster's.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from hpo_gym.errors import InvalidSettingError, require_integer, unknown_name
from hpo_gym.live.limits import Limits
from hpo_gym.live.measurement import Measurement
from hpo_gym.live.pool import WorkerPool

__all__ = ["EXECUTORS", "EvaluationExecutor", "ExecutorSettings", "close_executors", "open_executor", "pickled"]

#: What ``executor=`` may be.
EXECUTORS = ("local", "dask", "ray")


class EvaluationExecutor(Protocol):
    """Calls objectives somewhere, in the manner of :mod:`concurrent.futures`."""

    def submit(
        self, objective: bytes, configuration: Mapping[str, Any], share: float, seed: int
    ) -> Future[Measurement]:
        """Call a pickled objective; whatever it does, there will be a measurement."""

    def close(self) -> None:
        """Give back everything; what was not done is cancelled."""


@dataclass(frozen=True)
class ExecutorSettings:
    """Where and under which limits objectives are called.

    Args:
        kind: One of :data:`EXECUTORS`.
        workers: Most calls at once in this process's pool; ``None``: one per core that this process may use. On a
            cluster its own size decides.
        scheduler: Address of the cluster: ``tcp://host:8786`` for Dask; for Ray ``auto`` or an address, and ``None``
            begins a cluster on this machine.
        limits: What a call may take.

    Raises:
        UnknownNameError: For an unknown kind.
        InvalidSettingError: For an impossible value or combination.
    """

    kind: str = "local"
    workers: int | None = None
    scheduler: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.kind not in EXECUTORS:
            raise unknown_name("executor", self.kind, EXECUTORS)
        if self.workers is not None:
            require_integer("workers", self.workers, 1, "leave it out for one per core")
            if self.kind != "local":
                raise InvalidSettingError(
                    f"workers={self.workers} has no effect with executor={self.kind!r}, whose cluster has a size of "
                    "its own. Leave it out."
                )
        if self.kind == "local" and self.scheduler is not None:
            raise InvalidSettingError(
                f"scheduler={self.scheduler!r} has no effect with executor='local'. Give executor='dask' or 'ray' too."
            )
        if self.kind == "dask" and not self.scheduler:
            raise InvalidSettingError(
                "executor='dask' needs scheduler='tcp://<host>:8786', the address of its scheduler. Start one with "
                "`dask scheduler` and `dask worker <address>`, or with distributed.LocalCluster in Python."
            )


def pickled(objective: Callable[..., Any]) -> bytes:
    """Return an objective as bytes; functions of ``__main__`` travel by value, others by the name of their module.

    Raises:
        InvalidSettingError: If it cannot be pickled.
    """
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(objective)
    except Exception as error:  # pickling runs code of whatever the objective holds
        raise InvalidSettingError(
            f"The objective {objective!r} cannot be sent to a worker process ({type(error).__name__}: {error}). Make "
            "it a frozen dataclass of plain data with __call__, and let it read its data when it is called."
        ) from error
    return content


# One executor per settings and process: environments come and go, and warm workers are worth keeping.
_open: dict[ExecutorSettings, EvaluationExecutor] = {}
_lock = threading.Lock()


def open_executor(settings: ExecutorSettings) -> EvaluationExecutor:
    """Return this process's executor for ``settings``; all who ask share it.

    Raises:
        InvalidSettingError: If its library is missing, or its cluster cannot be reached.
    """
    with _lock:
        if settings not in _open:
            _open[settings] = _KINDS[settings.kind](settings)
        return _open[settings]


def close_executors() -> None:
    """Close every executor of this process; it happens by itself when the process ends."""
    with _lock:
        executors = list(_open.values())
        _open.clear()
    # Without the lock: what is cancelled calls back, and may wait for somebody who asks for an executor.
    for executor in executors:
        executor.close()


def _forget_executors() -> None:
    """A fork inherits neither threads nor workers."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


atexit.register(close_executors)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_executors)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _local(settings: ExecutorSettings) -> EvaluationExecutor:
    return WorkerPool(settings.workers or _cores(), settings.limits)


def _measure(
    objective: bytes, configuration: Mapping[str, Any], share: float, seed: int, workers: int, limits: Limits
) -> Measurement:
    """Call an objective in the pool of this process, which is a worker of a cluster."""
    pool = open_executor(ExecutorSettings("local", workers, None, limits))
    return pool.submit(objective, configuration, share, seed).result()


def _measure_in_dask(
    objective: bytes, configuration: Mapping[str, Any], share: float, seed: int, limits: Limits
) -> Measurement:
    from distributed import get_worker

    # As many at once as the worker has threads, which is what the scheduler counts on.
    return _measure(objective, configuration, share, seed, get_worker().state.nthreads, limits)


class _Dask:
    def __init__(self, settings: ExecutorSettings) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise _missing(settings, "distributed") from error
        try:
            self._client = Client(settings.scheduler, set_as_default=False)
        except (OSError, ValueError) as error:
            raise _unreachable(settings, error) from error
        # Measured times make no call the same as another.
        self._executor = self._client.get_executor(pure=False)
        self._limits = settings.limits

    def submit(
        self, objective: bytes, configuration: Mapping[str, Any], share: float, seed: int
    ) -> Future[Measurement]:
        future: Future[Measurement] = self._executor.submit(
            _measure_in_dask, objective, dict(configuration), share, seed, self._limits
        )
        return future

    def close(self) -> None:
        self._client.close()


class _Ray:
    def __init__(self, settings: ExecutorSettings) -> None:
        try:
            import ray
        except ImportError as error:
            raise _missing(settings, "ray") from error
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address=settings.scheduler, log_to_driver=False)
            except (ConnectionError, ValueError) as error:
                raise _unreachable(settings, error) from error
        self._call = ray.remote(num_cpus=1)(_measure)
        self._limits = settings.limits

    def submit(
        self, objective: bytes, configuration: Mapping[str, Any], share: float, seed: int
    ) -> Future[Measurement]:
        # A worker of Ray does one thing at a time.
        reference = self._call.remote(objective, dict(configuration), share, seed, 1, self._limits)
        future: Future[Measurement] = reference.future()
        return future

    def close(self) -> None:
        self._ray.shutdown()


_KINDS: dict[str, Callable[[ExecutorSettings], EvaluationExecutor]] = {"local": _local, "dask": _Dask, "ray": _Ray}


def _missing(settings: ExecutorSettings, package: str) -> InvalidSettingError:
    return InvalidSettingError(
        f"executor={settings.kind!r} needs the package {package!r}, which is not installed: `pip install {package}`. "
        "executor='local' needs nothing."
    )


def _unreachable(settings: ExecutorSettings, error: Exception) -> InvalidSettingError:
    return InvalidSettingError(
        f"executor={settings.kind!r}: there is no scheduler at {settings.scheduler!r} ({error}). Start one, or use "
        "executor='local'."
    )
