"""Finished trainings on disk: who was killed trains only what was not trained before."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import live_objectives as objectives
import pytest
import torch
from live_suites import EXECUTOR, METRICS, SPACE, one_column

from hpo_gym.errors import DataError, DataIntegrityError, InvalidSettingError
from hpo_gym.live import STATUSES, libraries
from hpo_gym.live.cache import MeasurementCache
from hpo_gym.live.executors import ExecutorSettings, close_executors
from hpo_gym.live.kept_trainings import KeptTrainings
from hpo_gym.live.limits import Limits
from hpo_gym.live.measurement import Measurement
from hpo_gym.live.surrogate import LiveSurrogate
from hpo_gym.sources import load_suite
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Measured


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    close_executors()


def neighbours(file: Path | None, widths: tuple[float, ...] = (0.4, 0.8), **settings: Any) -> LiveSurrogate:
    given = {"executor": EXECUTOR, **settings}
    trained = [objectives.NearestNeighbours(width) for width in widths]
    return LiveSurrogate(SearchSpace(SPACE), trained, METRICS, trainings=file, **given)


def measured(surrogate: LiveSurrogate, task: int = 0, rows: int = 6) -> Measured:
    space = SearchSpace(SPACE)
    u = space.sample(rows, torch.Generator().manual_seed(3))
    return surrogate.measure(torch.full((rows,), task), u, space.active(u), torch.full((rows,), 1.0))


def equal(first: Measured, second: Measured) -> bool:
    """Whether two answers are the same training: nothing else takes the same time to the last bit."""
    return torch.equal(first.values, second.values) and torch.equal(first.seconds, second.seconds)


def test_what_was_trained_is_found_by_the_next_process_and_by_copies(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "trainings.sqlite"
    begun = neighbours(file)
    first = measured(begun)
    known = len(begun.cache)
    assert begun.cache.hits == 6 - known and len(KeptTrainings(file)) == known
    again = neighbours(file)
    assert equal(measured(again), first) and again.cache.hits == 6
    # Tasks are told by their objective, and not by their place.
    assert equal(measured(neighbours(file, widths=(1.0, 0.4)), task=1), first)
    for surrogate in (pickle.loads(pickle.dumps(neighbours(file))), copy.deepcopy(neighbours(file))):
        assert equal(measured(surrogate), first)
    assert torch.equal(begun.identity, neighbours(None).identity), "where trainings are kept changes none"


@pytest.mark.parametrize(
    ("widths", "settings"),
    [
        ((0.5,), {}),
        ((0.4,), {"seed": 1}),
        ((0.4,), {"executor": ExecutorSettings(workers=2, limits=Limits(seconds=29.0, memory=1024))}),
    ],
    ids=["objective", "seed", "limits"],
)
def test_what_decides_a_training_is_part_of_what_it_is_found_by(
    tmp_path: Path, widths: tuple[float, ...], settings: dict[str, Any]
) -> None:
    file = tmp_path / "trainings.sqlite"
    measured(neighbours(file))
    before = len(KeptTrainings(file))
    measured(neighbours(file, widths, **settings))
    assert len(KeptTrainings(file)) == 2 * before


def test_another_library_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trainings.sqlite"
    before = neighbours(file)
    first = measured(before)
    monkeypatch.setattr("hpo_gym.live.surrogate.model_versions", lambda: {"scikit-learn": "99.0"})
    later = neighbours(file)
    assert not torch.equal(before.identity, later.identity) and not equal(measured(later), first)


@pytest.mark.parametrize(
    ("fault", "status", "kept", "seconds"),
    [
        (objectives.raises, "error", False, 30.0),
        (objectives.segfault, "crashed", False, 30.0),
        (objectives.raise_memory_error, "memory", False, 30.0),
        (objectives.sleep_for_ever, "timeout", True, 0.5),
        (objectives.not_a_number, "invalid", True, 30.0),
    ],
)
def test_what_may_be_otherwise_tomorrow_is_tried_again(
    tmp_path: Path, fault: Any, status: str, kept: bool, seconds: float
) -> None:
    file = tmp_path / "trainings.sqlite"
    executor = ExecutorSettings(workers=1, limits=Limits(seconds, memory=1024))

    def surrogate() -> LiveSurrogate:
        return LiveSurrogate(one_column(), [objectives.Numbered(fault)], METRICS, executor, trainings=file)

    u, first = torch.tensor([[0.9]]), surrogate()
    active = torch.ones(1, 1, dtype=torch.bool)
    found = first.measure(torch.tensor([0]), u, active)
    assert STATUSES[int(found.status)] == status and len(KeptTrainings(file)) == int(kept)
    later = surrogate()
    again = later.measure(torch.tensor([0]), u, active)
    assert torch.equal(again.status, found.status) and later.cache.hits == int(kept)
    assert torch.equal(again.values, found.values)
    assert [each.status for each in later.failures] == [status], "what failed is told, whoever had trained it"


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_live_trainings

if __name__ == "__main__":
    test_live_trainings.search(Path({file!r}), 5)
    print("trained", flush=True)
    sys.stdin.read()
"""


def search(file: Path, points: int) -> list[Measured]:
    """Measure some points, one after another."""
    executor = ExecutorSettings(workers=1, limits=Limits(seconds=30.0, memory=1024))
    surrogate = LiveSurrogate(one_column(), [objectives.sleeps(0.1)], METRICS, executor, trainings=file)
    one = torch.ones(1, 1, dtype=torch.bool)
    places = torch.linspace(0.51, 1.0, 30)[:points, None]
    return [surrogate.measure(torch.tensor([0]), place[None], one) for place in places]


@pytest.mark.slow
def test_what_a_killed_process_had_trained_is_not_trained_again(tmp_path: Path) -> None:
    file, script = tmp_path / "trainings.sqlite", tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), file=str(file)))
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "trained\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with sqlite3.connect(file) as connection:
        kept = [json.loads(blob) for (blob,) in connection.execute("SELECT measurement FROM trainings")]
    assert len(kept) == 5
    resumed = search(file, 8)
    # Trained again, they would have taken another time.
    seconds = [float(each.seconds) for each in resumed[:5]]
    assert sorted(seconds) == pytest.approx(sorted(each["seconds"] for each in kept), rel=1e-6)
    assert len(KeptTrainings(file)) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_locks_and_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "trainings.sqlite"
    cache = MeasurementCache(file=file, objectives=[b"one"])

    def found(value: float) -> Callable[[], Future[Measurement]]:
        def measure() -> Future[Measurement]:
            future: Future[Measurement] = Future()
            future.set_result(Measurement("ok", {"accuracy": value}))
            return future

        return measure

    def ask(point: bytes, value: float) -> Measurement:
        answer = cache.ask((0, point, 1.0, 0), found(value))
        measurement = answer.result() if isinstance(answer, Future) else answer
        cache.wait_kept((0, point, 1.0, 0))
        return measurement

    ask(b"before", 0.25)
    # As if a thread that does not live on in the child had been about to keep something.
    with cache._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                again, new = ask(b"before", 0.75), ask(b"in the child", 0.5)
                status = 0 if (again.metrics["accuracy"], new.metrics["accuracy"]) == (0.25, 0.5) else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(b"in the child", 0.75).metrics == {"accuracy": 0.5}
    assert len(KeptTrainings(file)) == 2


def test_whoever_looks_something_up_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    file = tmp_path / "trainings.sqlite"
    cache = MeasurementCache(file=file, objectives=[b"one"])

    def measured_at_once() -> Future[Measurement]:
        future: Future[Measurement] = Future()
        future.set_result(Measurement("ok", {"accuracy": 0.5}))
        return future

    other = sqlite3.connect(file, isolation_level=None)
    # Another process that writes: nobody else may, and all may read.
    other.execute("BEGIN IMMEDIATE")
    asked = threading.Thread(
        target=lambda: [cache.ask((0, point, 1.0, 0), measured_at_once) for point in (b"a", b"b")], daemon=True
    )
    asked.start()
    asked.join(timeout=30)
    waited = asked.is_alive()
    other.execute("ROLLBACK")
    other.close()
    assert not waited
    for point in (b"a", b"b"):
        cache.wait_kept((0, point, 1.0, 0))
    assert len(KeptTrainings(file)) == 2


def test_every_module_of_live_training_decides_what_is_measured_or_is_known_not_to() -> None:
    there = {file.stem for file in Path(libraries.__file__).parent.glob("*.py")}
    how = {"cache", "executors", "guard", "kept_trainings", "limits", "measurement", "pool", "process", "worker"}
    what = {
        "__init__",
        "build",
        "code_origin",
        "described_parts",
        "description",
        "libraries",
        "named_model",
        "suite",
        "surrogate",
    }
    others = {"openml_runs_fetch", "qualities", "refitting"}
    assert there == {*libraries._TRAINING, *how, *what, *others}


def test_results_of_other_code_are_other_results(monkeypatch: pytest.MonkeyPatch) -> None:
    before = neighbours(None).identity
    assert torch.equal(neighbours(None).identity, before)
    monkeypatch.setattr("hpo_gym.live.surrogate.training_code", lambda: "changed")
    assert not torch.equal(neighbours(None).identity, before)


def test_a_file_that_is_none_names_itself_and_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "trainings.sqlite"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(DataIntegrityError, match=r"trainings\.sqlite.*Delete it, and train again"):
        neighbours(file)
    file.unlink()
    measured(neighbours(file))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE trainings SET measurement = X'7B7D'")
    with pytest.raises(DataIntegrityError, match="finished trainings"):
        measured(neighbours(file))


def test_a_training_that_cannot_be_kept_is_told_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surrogate = neighbours(tmp_path / "trainings.sqlite")

    def full(*_: Any) -> None:
        raise DataError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(KeptTrainings, "put", full)
        for _ in range(2):
            with pytest.raises(DataError, match="the disk is full"):
                measured(surrogate, rows=1)
    measured(surrogate, rows=1)
    assert len(KeptTrainings(tmp_path / "trainings.sqlite")) == 1 and surrogate.cache.hits == 2


def test_a_path_that_cannot_be_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for file, error, says in (
        (5, InvalidSettingError, "trainings=5 must be the path of a file"),
        (tmp_path / "file" / "trainings.sqlite", DataError, "file/trainings.sqlite cannot be made"),
        (tmp_path, DataError, "cannot be read or written"),
    ):
        with pytest.raises(error, match=says):
            neighbours(file)  # type: ignore[arg-type]
    with KeptTrainings(tmp_path / "trainings.sqlite") as store:
        pass
    with pytest.raises(InvalidSettingError, match="is closed"):
        len(store)


def test_an_objective_that_another_process_cannot_tell_is_refused(tmp_path: Path) -> None:
    class Opaque:
        def __init__(self) -> None:
            # Another process may have them in another order.
            self.steps = {lambda value: value + 1.0, lambda value: value * 2.0}

        def __call__(self, configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
            return {"accuracy": 0.5, "error": 0.5}

    made = [Opaque()]
    assert not LiveSurrogate(one_column(), made, METRICS).identity_is_stable
    with pytest.raises(InvalidSettingError, match="could not tell this objective from others"):
        LiveSurrogate(one_column(), made, METRICS, trainings=tmp_path / "trainings.sqlite")
    assert not list(tmp_path.iterdir())


def test_sources_keep_trainings(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    file = tmp_path / "trainings.sqlite"
    counts = []
    for source, space in (("live", "knn"), ("live", "rpart"), ("grpoformer", "svm")):
        for _ in range(2):
            suite = load_suite(source, space, datasets=["sklearn:iris"], workers=1, trainings=str(file))
            u = suite.space.default()[None]
            suite.evaluate(torch.tensor([0]), u, suite.space.active(u))
            counts.append(len(KeptTrainings(file)))
    assert counts == [1, 1, 2, 2, 3, 3]
