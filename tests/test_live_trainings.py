"""Finished trainings on disk: who was killed trains only what was not trained before."""

from __future__ import annotations

import copy
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live_objectives as objectives
import pytest
import torch
from live_suites import EXECUTOR, METRICS, SPACE, one_column

from hpo_gym.errors import DataError, DataIntegrityError, InvalidSettingError
from hpo_gym.live import STATUSES
from hpo_gym.live.executors import ExecutorSettings, close_executors
from hpo_gym.live.kept_trainings import KeptTrainings
from hpo_gym.live.limits import Limits
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
    ("fault", "status", "kept"),
    [
        (objectives.raises, "error", False),
        (objectives.segfault, "crashed", False),
        (objectives.sleep_for_ever, "timeout", True),
        (objectives.not_a_number, "invalid", True),
    ],
)
def test_errors_and_crashes_are_tried_again(tmp_path: Path, fault: Any, status: str, kept: bool) -> None:
    file = tmp_path / "trainings.sqlite"
    executor = ExecutorSettings(workers=1, limits=Limits(seconds=0.5, memory=1024))

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


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_live_trainings

if __name__ == "__main__":
    test_live_trainings.slow_search(Path({file!r}))
"""


def slow_search(file: Path | None) -> list[Measured]:
    """Measure 30 points, one after another."""
    executor = ExecutorSettings(workers=1, limits=Limits(seconds=30.0, memory=1024))
    surrogate = LiveSurrogate(one_column(), [objectives.sleeps(0.1)], METRICS, executor, trainings=file)
    points = torch.linspace(0.51, 1.0, 30)[:, None]
    one = torch.ones(1, 1, dtype=torch.bool)
    return [surrogate.measure(torch.tensor([0]), point[None], one) for point in points]


@pytest.mark.slow
def test_a_killed_process_loses_the_training_under_way_and_no_other(tmp_path: Path) -> None:
    file, script = tmp_path / "trainings.sqlite", tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), file=str(file)))
    process = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 120.0
    while process.poll() is None and time.monotonic() < deadline:
        # Read while the other process writes.
        if file.exists() and len(KeptTrainings(file)) >= 5:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(KeptTrainings(file))
    assert 5 <= kept < 30
    begun = time.monotonic()
    resumed = slow_search(file)
    assert len(resumed) == len(KeptTrainings(file)) == 30
    # Those that were kept took no time, whatever the machine does.
    assert time.monotonic() - begun > (30 - kept) * 0.1
    again = slow_search(file)
    assert all(map(equal, resumed, again))


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


def test_a_training_that_cannot_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = neighbours(tmp_path / "trainings.sqlite", executor=ExecutorSettings(workers=1))

    def full(*_: Any) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr(KeptTrainings, "put", full)
    with pytest.raises(DataError, match="the disk is full"):
        for rows in range(1, 7):
            measured(surrogate, rows=rows)


def test_an_objective_that_another_process_cannot_tell_is_refused(tmp_path: Path) -> None:
    class Opaque:
        def __call__(self, configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
            return {"accuracy": 0.5, "error": 0.5}

        def __reduce__(self) -> Any:
            return (Opaque, ())

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
