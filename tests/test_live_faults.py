"""The fault drill: whatever an objective does, there is a measurement, the episode goes on, and nothing is left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import live_objectives as objectives
import psutil
import pytest
from live_suites import faulty_suite

from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.errors import EvaluationFailedError, InvalidSettingError
from hpo_gym.evaluation import Contender, evaluate
from hpo_gym.live import STATUSES, Limits
from hpo_gym.live import pool as pool_module
from hpo_gym.live.executors import close_executors, pickled
from hpo_gym.live.measurement import checked
from hpo_gym.live.pool import WorkerPool
from hpo_gym.live.process import Guard, WorkerProcess

# So little memory that even a machine with much else to do is through with it before the time is.
LIMITS = Limits(seconds=2.0, memory=96)
# What acceptance allows: a limit is honoured within two seconds.
LATE = 2.0
MARK = "HPO_GYM_TEST_MARK"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers are POSIX processes")


def marked(mark: str) -> list[psutil.Process]:
    """Return all living processes that were started, however indirectly, while a mark was set."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.pid != os.getpid()]


def none_left(mark: str, allowed: int = 0) -> bool:
    """Wait until at most so many marked processes live: what is killed takes a moment to end."""
    until = time.monotonic() + 20.0
    while len(marked(mark)) > allowed:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """Mark every process that is started from here on."""
    os.environ[MARK] = uuid.uuid4().hex
    yield os.environ[MARK]
    del os.environ[MARK]


@pytest.fixture(scope="module")
def pool(mark: str) -> Iterator[WorkerPool]:
    crew = WorkerPool(1, LIMITS)
    yield crew
    crew.close()
    # The environments here have workers of their own.
    close_executors()
    assert none_left(mark)


@pytest.mark.parametrize("name", objectives.FAULTS)
def test_every_fault_is_survived(pool: WorkerPool, mark: str, name: str) -> None:
    fault, status = objectives.FAULTS[name]
    # A worker that waits: the clock of the one who asks is not to count its start.
    pool.submit(pickled(objectives.fine), {"x": 0.5}, 1.0, 0).result()
    begun = time.monotonic()
    found = checked(pool.submit(pickled(fault), {"x": 0.5}, 1.0, 0).result(), ("accuracy", "error"))
    waited = time.monotonic() - begun
    assert found.status == status, found.message
    assert found.seconds <= waited < LIMITS.seconds + LATE
    if status == "timeout":
        assert found.seconds >= LIMITS.seconds
    # The next call is none the worse for it, and nothing but one worker and its guard lives.
    after = pool.submit(pickled(objectives.fine), {"x": 0.5}, 1.0, 0).result()
    assert (after.status, dict(after.metrics)) == ("ok", {"accuracy": 0.5, "error": 0.5})
    assert none_left(mark, allowed=2)
    assert len(pool.pids) <= 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (objectives.segfault, "SIGSEGV"),
        (objectives.ends_the_process, "exited with status 3"),
        (objectives.sleep_for_ever, "limit of 2 s"),
        (objectives.allocate_without_end, "limit of 96 MB"),
        (objectives.not_a_number, "accuracy is nan"),
        (objectives.forgets_a_metric, "error is missing"),
        (objectives.no_numbers, "accuracy is no number"),
        (objectives.no_metrics, "returned float"),
        (objectives.raises, "ValueError: this configuration is impossible"),
        (objectives.prints_and_raises, "the last words"),
        (objectives.storms, "20000 warning(s), the last: RuntimeWarning: warning 19999"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_message_says_what_happened(pool: WorkerPool, fault: object, says: str) -> None:
    found = checked(pool.submit(pickled(fault), {"x": 0.5}, 1.0, 0).result(), ("accuracy", "error"))  # type: ignore[arg-type]
    assert says in found.message
    assert len(found.message) < 20_000


def test_standard_input_is_empty(pool: WorkerPool) -> None:
    assert pool.submit(pickled(objectives.reads_input), {}, 1.0, 0).result().metrics["accuracy"] == 0.0


PARENT = """
import sys, time
sys.path[:0] = {path!r}
import live_objectives as objectives
from hpo_gym.live import Limits
from hpo_gym.live.executors import pickled
from hpo_gym.live.pool import WorkerPool
from hpo_gym.live.process import Guard, WorkerProcess

pool = WorkerPool(3, Limits(seconds=1000.0, memory=1024))
for fault in (objectives.spin_without_letting_go, objectives.sleep_for_ever):
    pool.submit(pickled(fault), {{"x": 0.5}}, 1.0, 0)
pool.submit(pickled(objectives.fine), {{"x": 0.5}}, 1.0, 0).result()
print(*pool.pids, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(mark: str, number: signal.Signals) -> None:
    mine = uuid.uuid4().hex
    tests = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(path=[str(tests), str(tests.parent)])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {MARK: mine},
    )
    assert parent.stdout is not None
    pids = parent.stdout.readline().split()
    # Three workers, their guard, and the parent.
    assert len(pids) == 3 and len(marked(mine)) == 5
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    assert none_left(mine)


@pytest.mark.parametrize("name", ["segfault", "sleep_for_ever", "not_a_number", "forks"])
def test_the_episode_goes_on(name: str) -> None:
    fault, status = objectives.FAULTS[name]
    env = HPOEnv(source=faulty_suite(fault, LIMITS), split="all", action="continuous", budget=5)
    _, info = env.reset(seed=0)
    assert (info["status"], info["score"]) == (0, 0.5)
    _, reward, done, _, info = env.step([0.6])
    assert (STATUSES[info["status"]], done) == ("ok", False) and info["score"] == pytest.approx(0.6)
    _, reward, done, _, info = env.step([0.9])
    assert STATUSES[info["status"]] == status and not done
    if status != "ok":
        # The worst legal values: an accuracy of 0 and an error of 1.
        assert (reward, info["score"], info["metrics"].tolist()) == (0.0, 0.0, [0.0, 1.0])
        assert env.suite.surrogate.failures[-1].status == status
    assert info["seconds"] >= 0.0 and 0.0 <= info["cost"] <= 1.0 and not info["clipped"]
    assert info["incumbent"] >= 0.6 - 1e-6
    _, _, done, _, info = env.step([0.7])
    assert info["score"] == pytest.approx(0.7) and not done
    # What took a worker down is remembered, not tried again.
    _, _, done, _, again = env.step([0.9])
    assert STATUSES[again["status"]] == status and done
    assert env.suite.surrogate.cache.hits == 1


def test_a_fault_at_reset_is_survived() -> None:
    suite = faulty_suite(objectives.ends_the_process, LIMITS, above=0.4)
    envs = HPOVectorEnv(3, source=suite, split="all", action="continuous", budget=2)
    _, info = envs.reset(seed=0)
    assert info["status"].tolist() == [STATUSES.index("crashed")] * 3 and info["score"].tolist() == [0.0] * 3
    _, reward, done, _, info = envs.step(envs.action_space.low + 0.25)
    assert done.all() and reward.tolist() == pytest.approx([0.25] * 3)
    assert info["final_info"]["status"].tolist() == [0] * 3
    # The rows have begun again: at the default, which crashes.
    assert info["status"].tolist() == [STATUSES.index("crashed")] * 3


def test_rows_fail_by_themselves() -> None:
    envs = HPOVectorEnv(4, source=faulty_suite(objectives.segfault, LIMITS), split="all", action="continuous", budget=4)
    envs.reset(seed=0)
    action = envs.action_space.low.copy()
    action[:, 0] = [0.1, 0.9, 0.2, 0.95]
    _, _, _, _, info = envs.step(action)
    assert info["status"].tolist() == [0, STATUSES.index("crashed"), 0, STATUSES.index("crashed")]
    assert info["score"].tolist() == pytest.approx([0.1, 0.0, 0.2, 0.0])


def test_no_record_is_lost() -> None:
    suite = faulty_suite(objectives.ends_the_process, LIMITS, above=0.5)

    def rise(observation: object, mask: object, draws: object) -> object:
        import torch

        return torch.rand(3, 1, generator=draws)  # type: ignore[arg-type]

    records = evaluate(Contender("random", "", "continuous", "flat", rise), suite, split="all", seeds=3, budget=6)  # type: ignore[arg-type]
    assert len(records) == 3 * 6
    failed = records.frame["score"] == 0.0
    assert 0 < failed.sum() < len(records)
    assert records.frame["seconds"].notna().all() and records.frame["regret"].isna().all()


class NotThere:
    """Pickled here, and nowhere to be found there."""

    def __call__(self, configuration: dict[str, object], share: float, seed: int) -> dict[str, float]:
        return {"accuracy": 1.0}

    def __reduce__(self) -> tuple[object, ...]:
        return (__import__, ("no_module_of_that_name",))


def test_an_objective_that_cannot_be_loaded_is_the_users_mistake(pool: WorkerPool) -> None:
    with pytest.raises(EvaluationFailedError, match="no_module_of_that_name"):
        pool.submit(pickled(NotThere()), {}, 1.0, 0).result()
    assert pool.submit(pickled(objectives.fine), {}, 1.0, 0).result().status == "ok"


def test_a_worker_that_cannot_be_started_fails_the_call_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    start, attempts = pool_module.WorkerProcess, []

    def begin(guard: Guard) -> WorkerProcess:
        attempts.append(guard)
        if len(attempts) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return start(guard)

    monkeypatch.setattr(pool_module, "WorkerProcess", begin)
    crew = WorkerPool(1, Limits(seconds=60.0, memory=256))
    try:
        with pytest.raises(EvaluationFailedError, match=r"No worker .* started here: .*Too many open files"):
            crew.submit(pickled(objectives.fine), {}, 1.0, 0).result(timeout=30.0)
        assert crew.submit(pickled(objectives.fine), {}, 1.0, 0).result(timeout=60.0).status == "ok"
    finally:
        crew.close()
        crew.close()


def test_the_time_for_loading_is_not_taken_off_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = WorkerPool(1, Limits(seconds=60.0, memory=256))
    try:
        # A warm worker begins at once, whatever the limit of loading.
        assert crew.submit(pickled(objectives.fine), {}, 1.0, 0).result(timeout=60.0).status == "ok"
        monkeypatch.setattr(pool_module, "_STARTUP_SECONDS", 3.0)
        assert crew.submit(pickled(objectives.sleeps(4.0)), {"x": 1.0}, 1.0, 0).result(timeout=60.0).status == "ok"
    finally:
        crew.close()


def test_an_objective_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(InvalidSettingError, match="frozen dataclass"):
        pickled(objectives.Numbered(threading.Lock()))


def test_closing_ends_what_runs_and_what_waits(mark: str) -> None:
    crew = WorkerPool(1, Limits(seconds=1000.0, memory=256))
    running = crew.submit(pickled(objectives.sleep_for_ever), {}, 1.0, 0)
    waiting = crew.submit(pickled(objectives.fine), {}, 1.0, 0)
    while not crew.pids:
        time.sleep(0.01)
    crew.close()
    with pytest.raises(EvaluationFailedError, match="closed"):
        running.result()
    assert waiting.cancelled()
    with pytest.raises(InvalidSettingError, match="closed"):
        crew.submit(pickled(objectives.fine), {}, 1.0, 0)
