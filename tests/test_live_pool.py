"""Warm workers, the cache in front of them, and the executors behind one interface."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import live_objectives as objectives
import psutil
import pytest
import torch
from live_suites import METRICS, one_column

from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, UnknownNameError
from hpo_gym.live import STATUSES, Limits, Measurement
from hpo_gym.live.cache import MeasurementCache
from hpo_gym.live.executors import ExecutorSettings, close_executors, open_executor, pickled
from hpo_gym.live.measurement import checked
from hpo_gym.live.pool import WorkerPool
from hpo_gym.live.surrogate import LiveSurrogate

LIMITS = Limits(seconds=60.0, memory=512)
SETTINGS = ExecutorSettings(workers=2, limits=LIMITS)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    crew = WorkerPool(2, LIMITS)
    yield crew
    crew.close()


@pytest.fixture(scope="module", autouse=True)
def shared() -> Iterator[None]:
    yield
    close_executors()


def surrogate(objective: Any, **settings: Any) -> LiveSurrogate:
    return LiveSurrogate(one_column(), [objective, objective], METRICS, SETTINGS, **settings)


def measure(live: LiveSurrogate, task: list[int], x: list[float], share: list[float] | None = None) -> Any:
    u = torch.tensor(x)[:, None]
    part = None if share is None else torch.tensor(share)
    return live.measure(torch.tensor(task), u, torch.ones_like(u, dtype=torch.bool), part)


def test_what_somebody_else_began_and_gave_up_is_measured_all_the_same() -> None:
    slow = objectives.sleeps(1.0)
    live = LiveSurrogate(one_column(), [slow], METRICS, ExecutorSettings(workers=1, limits=LIMITS))
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(measure(live, [0, 0], [0.9, 0.1])))
    waiting.start()
    while len(live.cache._running) < 2:
        time.sleep(0.001)
    # The one worker is at the first, so that nobody has begun the second.
    assert list(live.cache._running.values())[1].cancel()
    waiting.join(timeout=60.0)
    assert [STATUSES[code] for code in found[0].status.tolist()] == ["ok", "ok"]


def test_calls_are_made_in_other_processes(pool: WorkerPool) -> None:
    def where(*_: Any) -> dict[str, float]:
        return {"pid": float(os.getpid()), "parent": float(os.getppid())}

    found = pool.submit(pickled(where), {}, 1.0, 0).result().metrics
    assert found["pid"] in pool.pids and found["parent"] == os.getpid() != found["pid"]


def test_a_worker_stays_warm_and_keeps_what_an_objective_keeps() -> None:
    calls: list[int] = []

    def count(*_: Any) -> dict[str, float]:
        calls.append(1)
        return {"calls": float(len(calls)), "pid": float(os.getpid())}

    crew = WorkerPool(1, LIMITS)
    content = pickled(count)
    found = [crew.submit(content, {}, 1.0, 0).result().metrics for _ in range(5)]
    assert [each["calls"] for each in found] == [1, 2, 3, 4, 5] and len({each["pid"] for each in found}) == 1
    crew.close()


def test_an_objective_is_prepared_once_per_worker_and_off_the_clock(tmp_path: Path) -> None:
    crew = WorkerPool(1, Limits(seconds=60.0, memory=512))
    content = pickled(objectives.Prepared(str(tmp_path / "calls")))
    found = [crew.submit(content, {}, 1.0, 0).result() for _ in range(3)]
    assert [each.metrics["prepared"] for each in found] == [1.0, 1.0, 1.0]
    assert all(each.seconds < 0.3 for each in found)
    crew.close()


def test_calls_get_configuration_share_and_seed(pool: WorkerPool) -> None:
    def echo(configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
        assert configuration == {"x": 0.25, "kind": "a", "flag": None}
        return {"share": share, "seed": float(seed)}

    found = pool.submit(pickled(echo), {"x": 0.25, "kind": "a", "flag": None}, 0.5, 7).result()
    assert (found.status, dict(found.metrics)) == ("ok", {"share": 0.5, "seed": 7.0})


def test_no_more_workers_than_asked_for_and_than_needed() -> None:
    crew = WorkerPool(3, LIMITS)
    assert crew.pids == ()
    crew.submit(pickled(objectives.fine), {}, 1.0, 0).result()
    assert len(crew.pids) == 1
    futures = [crew.submit(pickled(objectives.sleeps(0.2)), {"x": 0.9}, 1.0, 0) for _ in range(8)]
    assert all(future.result().status == "ok" for future in futures)
    assert len(crew.pids) == 3
    crew.close()
    assert crew.pids == ()


def test_submitting_from_many_threads(pool: WorkerPool) -> None:
    content, results = pickled(objectives.fine), []

    def ask(number: int) -> None:
        for step in range(20):
            x = number + step / 32
            results.append(pool.submit(content, {"x": x}, 1.0, 0).result().metrics["accuracy"] == x)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160 and all(results)


def test_a_cancelled_call_is_never_made(tmp_path: Path) -> None:
    crew = WorkerPool(1, LIMITS)
    content = pickled(objectives.Prepared(str(tmp_path / "calls")))
    first = crew.submit(pickled(objectives.sleeps(0.3)), {"x": 0.9}, 1.0, 0)
    second = crew.submit(content, {}, 1.0, 0)
    assert second.cancel()
    assert first.result().status == "ok"
    assert crew.submit(pickled(objectives.fine), {}, 1.0, 0).result().status == "ok"
    assert not (tmp_path / "calls").exists()
    crew.close()


def test_a_thousand_evaluations_leak_nothing(pool: WorkerPool) -> None:
    content, me = pickled(objectives.fine), psutil.Process()
    faults = [pickled(objectives.raises), pickled(objectives.not_a_number), pickled(objectives.prints_and_raises)]

    def state() -> tuple[int, int, int]:
        return me.num_fds(), threading.active_count(), len(me.children(recursive=True))

    def some(count: int) -> None:
        futures = [pool.submit(faults[n % 3] if n % 10 == 0 else content, {"x": n}, 1.0, 0) for n in range(count)]
        assert sum(future.result().status == "ok" for future in futures) == count - count // 10

    some(100)  # both workers are there from here on
    before, resident = state(), me.memory_info().rss
    for _ in range(10):
        some(100)
    assert state() == before
    assert me.memory_info().rss - resident < 50 * 2**20


def test_a_worker_that_holds_on_to_memory_is_replaced() -> None:
    held: list[bytearray] = []

    def leak(*_: Any) -> dict[str, float]:
        held.append(bytearray(b"x" * (40 * 2**20)))
        return {"held": float(len(held))}

    crew = WorkerPool(1, Limits(seconds=60.0, memory=256))
    content = pickled(leak)
    counts = [crew.submit(content, {}, 1.0, 0).result() for _ in range(12)]
    assert {count.status for count in counts} == {"ok"}
    # Without a replacement the seventh would break the limit.
    assert max(count.metrics["held"] for count in counts) < 7
    crew.close()


def test_a_fork_of_the_parent_leaves_its_workers_alone(pool: WorkerPool) -> None:
    assert pool.submit(pickled(objectives.fine), {}, 1.0, 0).result().status == "ok"
    pids = pool.pids
    child = os.fork()
    if child == 0:
        # No way back into pytest, whatever happens.
        try:
            own = open_executor(SETTINGS).submit(pickled(objectives.fine), {}, 1.0, 0).result(60)
            close_executors()
            os._exit(0 if own.status == "ok" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.submit(pickled(objectives.fine), {}, 1.0, 0).result().status == "ok"
    assert pool.pids == pids


def test_no_configuration_is_trained_twice(tmp_path: Path) -> None:
    counted = objectives.Counted(tmp_path / "calls")
    live = surrogate(counted)
    first = measure(live, [0, 0, 1, 0], [0.25, 0.25, 0.25, 0.5])
    assert counted.calls() == ["0.250 1.00 0", "0.250 1.00 0", "0.500 1.00 0"]  # of two tasks
    again = measure(live, [0, 1, 0], [0.5, 0.25, 0.25])
    assert len(counted.calls()) == 3 and live.cache.hits == 4 and len(live.cache) == 3
    # A repeated configuration says what it took, not what looking it up took.
    assert again.seconds.tolist() == first.seconds[[3, 2, 0]].tolist()
    assert torch.equal(again.values, first.values[[3, 2, 0]])
    measure(live, [0, 0], [0.25, 0.25], [0.5, 1.0])
    assert counted.calls()[0] == "0.250 0.50 0" and len(counted.calls()) == 4
    measure(surrogate(counted, seed=3), [0], [0.25])
    assert "0.250 1.00 3" in counted.calls()


def test_a_copy_knows_what_was_measured_and_not_more(tmp_path: Path) -> None:
    counted = objectives.Counted(tmp_path / "calls")
    live = surrogate(counted)
    measure(live, [0], [0.25])
    for other in (copy.deepcopy(live), pickle.loads(pickle.dumps(live))):
        measure(other, [0, 0], [0.25, 0.75])
        assert len(other.cache) == 2 and len(live.cache) == 1
    assert len(counted.calls()) == 3


def test_one_training_for_all_who_ask_at_once() -> None:
    begun: list[Future[Measurement]] = []
    cache = MeasurementCache(most=2)

    def begin() -> Future[Measurement]:
        begun.append(Future())
        return begun[-1]

    question = (0, b"x", 1.0, 0)
    first, second = cache.ask(question, begin), cache.ask(question, begin)
    assert first is second and len(begun) == 1 and len(cache) == 0
    begun[0].set_result(Measurement("ok", {"a": 1.0}))
    assert cache.ask(question, begin) == Measurement("ok", {"a": 1.0}) and len(begun) == 1
    # What was not measured is asked for again.
    for other in ((1, b"x", 1.0, 0), (2, b"x", 1.0, 0)):
        cache.ask(other, begin)
        begun[-1].set_exception(EvaluationFailedError("no cluster"))
        cache.ask(other, begin)
        begun[-1].set_result(Measurement("error"))
    assert len(begun) == 5 and len(cache) == 2
    # The oldest made room.
    cache.ask(question, begin)
    assert len(begun) == 6


def test_measurements_with_failures_become_the_worst_legal_values() -> None:
    live = surrogate(objectives.Numbered(objectives.raises))
    found = measure(live, [0, 1, 0], [0.5, 0.9, 0.1])
    assert found.values.tolist() == [[0.5, 0.5], [0.0, 1.0], [pytest.approx(0.1), 0.5]]
    assert found.status.tolist() == [0, STATUSES.index("error"), 0] and found.status.dtype == torch.int64
    (failure,) = live.failures
    assert "this configuration is impossible" in failure.message


def test_an_interrupted_batch_leaves_nothing_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = objectives.Counted(tmp_path / "calls")
    live = surrogate(counted)
    asked: list[Any] = []
    ask = live.cache.ask

    def asking(*arguments: Any) -> Any:
        if len(asked) == 20:
            raise KeyboardInterrupt
        asked.append(ask(*arguments))
        return asked[-1]

    monkeypatch.setattr(live.cache, "ask", asking)
    with pytest.raises(KeyboardInterrupt):
        measure(live, [0] * 40, [n / 40 for n in range(40)])
    assert all(future.cancelled() or future.result().status == "ok" for future in asked)
    monkeypatch.undo()
    assert measure(live, [0], [0.975]).status.tolist() == [0]


def test_checked_names_what_is_wrong() -> None:
    fine = Measurement("ok", {"a": 1.0, "b": 2.0}, 0.5)
    assert checked(fine, ("a", "b")) is fine and fine.code == 0
    wrong = checked(Measurement("ok", {"a": float("inf")}, 0.5, "a warning"), ("a", "b"))
    assert (wrong.status, wrong.seconds) == ("invalid", 0.5)
    assert wrong.message == "a is inf, b is missing; a warning"
    failed = Measurement("crashed")
    assert checked(failed, ("a",)) is failed and failed.code == STATUSES.index("crashed")


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Limits(seconds=0.0), InvalidSettingError, "seconds=0.0"),
        (lambda: Limits(seconds=float("inf")), InvalidSettingError, "without a limit"),
        (lambda: Limits(seconds="60"), InvalidSettingError, "seconds='60'"),  # type: ignore[arg-type]
        (lambda: Limits(memory=10), InvalidSettingError, "memory=10"),
        (lambda: Limits(memory=True), InvalidSettingError, "memory=True"),
        (lambda: Measurement("fine"), UnknownNameError, "status 'fine'"),  # type: ignore[arg-type]
        (lambda: Measurement("ok", {}, float("nan")), InvalidSettingError, "seconds=nan"),
        (lambda: WorkerPool(0, LIMITS), InvalidSettingError, "workers=0"),
        (lambda: ExecutorSettings("dsk"), UnknownNameError, "Did you mean 'dask'"),
        (lambda: ExecutorSettings(workers=0), InvalidSettingError, "workers=0"),
        (lambda: ExecutorSettings("dask"), InvalidSettingError, "needs scheduler="),
        (lambda: ExecutorSettings("dask", 2, "tcp://x:1"), InvalidSettingError, "workers=2 has no effect"),
        (lambda: ExecutorSettings(scheduler="tcp://x:1"), InvalidSettingError, "no effect with executor='local'"),
        (lambda: surrogate(objectives.fine, seed=-1), InvalidSettingError, "seed=-1"),
        (lambda: surrogate(objectives.fine, least_share=0.0), InvalidSettingError, r"least_share=0\.0"),
        (lambda: LiveSurrogate(one_column(), [], METRICS), InvalidSettingError, "at least one objective"),
        (lambda: LiveSurrogate(one_column(), [objectives.fine], []), InvalidSettingError, "at least one metric"),
        (lambda: MeasurementCache(0), InvalidSettingError, "most=0"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_executors_are_shared_by_all_who_ask_alike() -> None:
    assert open_executor(SETTINGS) is open_executor(ExecutorSettings(workers=2, limits=Limits(60.0, 512)))
    assert open_executor(SETTINGS) is not open_executor(ExecutorSettings(workers=1, limits=LIMITS))


def test_a_cluster_that_is_not_there_is_named() -> None:
    pytest.importorskip("distributed")
    import dask

    # Nobody listens there, and nobody waits half a minute for it.
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(InvalidSettingError, match=r"no scheduler at 'tcp://127\.0\.0\.1:9'"),
    ):
        open_executor(ExecutorSettings("dask", scheduler="tcp://127.0.0.1:9", limits=LIMITS))


@pytest.fixture
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs distributed: pip install -e '.[dask]'")
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as running:
        yield running
        # Clients first: they would look for their scheduler.
        close_executors()


@pytest.mark.slow
def test_dask_workers_isolate_what_they_are_sent(cluster: Any) -> None:
    limits = Limits(seconds=2.0, memory=96)
    executor = open_executor(ExecutorSettings("dask", scheduler=cluster.scheduler_address, limits=limits))

    def send(objective: Any, x: float) -> Future[Measurement]:
        return executor.submit(pickled(objective), {"x": x}, 1.0, 0)

    def where(*_: Any) -> dict[str, float]:
        time.sleep(0.2)
        return {"pid": float(os.getpid()), "parent": float(os.getppid())}

    found = [future.result().metrics for future in [send(where, n / 8) for n in range(8)]]
    assert len({each["pid"] for each in found}) == 2
    # Each beside a worker of Dask, which is not restarted by what dies beside it.
    before = {worker.pid for worker in cluster.workers.values()}
    assert {each["parent"] for each in found} == before
    futures = {name: send(fault, 0.5) for name, (fault, _) in objectives.FAULTS.items() if name in FAULTS_THERE}
    assert {name: checked(future.result(), ("accuracy",)).status for name, future in futures.items()} == FAULTS_THERE
    assert {worker.pid for worker in cluster.workers.values()} == before

    live = LiveSurrogate(
        one_column(), [objectives.fine], METRICS, ExecutorSettings("dask", None, cluster.scheduler_address, limits)
    )
    assert measure(live, [0, 0, 0], [0.25, 0.5, 0.25]).values[:, 0].tolist() == [0.25, 0.5, 0.25]


FAULTS_THERE = {
    "segfault": "crashed",
    "ends_the_process": "crashed",
    "sleep_for_ever": "timeout",
    "allocate_without_end": "memory",
    "not_a_number": "invalid",
    "raises": "error",
}


@pytest.mark.slow
def test_ray_workers_isolate_what_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install -e '.[ray]'")
    # Ray's workers import what they are sent by name.
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here.parent}{os.pathsep}{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    executor = open_executor(ExecutorSettings("ray", limits=Limits(seconds=2.0, memory=96)))
    futures = {
        name: executor.submit(pickled(fault), {"x": 0.5}, 1.0, 0)
        for name, (fault, _) in objectives.FAULTS.items()
        if name in FAULTS_THERE
    }
    assert {name: checked(future.result(), ("accuracy",)).status for name, future in futures.items()} == FAULTS_THERE
    close_executors()


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InvalidSettingError, match="pip install ray"):
        open_executor(ExecutorSettings("ray", limits=LIMITS))
