"""Several contenders in one evaluation: processes, failures, and going on after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_contenders import climber
from torch import Tensor

from hpo_gym.errors import DataIntegrityError, EvaluationFailedError, InvalidSettingError
from hpo_gym.evaluation import CellStore, Contender, EpisodicContender, EvaluationResult, Rules, evaluate, evaluate_all
from hpo_gym.mdp.observations import Observation
from hpo_gym.testing.tiny import conditional_suite, fidelity_suite, quadratic_suite

RULES = Rules(split="all", seeds=2, budget=6)


def uniform(width: int = 2, name: str = "uniform") -> Contender:
    def act(seen: Observation, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        assert isinstance(seen, Tensor)
        return torch.rand((len(seen), width), generator=draws)

    return Contender(name, "", "continuous", "flat", act, {"width": width})


def same(first: EvaluationResult, second: EvaluationResult) -> bool:
    keys = ["agent", "task", "seed", "trial"]
    left, right = (one.records.reproducible.sort_values(keys, ignore_index=True) for one in (first, second))
    configurations = first.configurations.frame.equals(second.configurations.frame)
    return left.astype({"agent": str}).equals(right.astype({"agent": str})) and configurations


def test_worker_processes_change_nothing() -> None:
    contenders = [climber(), uniform(), climber("again"), climber("broken", raises_at=3)]
    here = evaluate_all(contenders, quadratic_suite(), RULES)
    there = evaluate_all(contenders, quadratic_suite(), RULES, workers=2)
    assert same(here, there)
    assert len(here.records) == 3 * 6 * 2 * 6
    for result in (here, there):
        assert {failure.agent for failure in result.failures} == {"broken"} and len(result.failures) == 12
        assert "ArithmeticError: it was told to fail at trial 3" in result.failures[0].error
    # One seed tree, and no name in it.
    frame = here.records.reproducible
    twins = [
        frame[frame["agent"] == name].drop(columns="agent").reset_index(drop=True) for name in ("climber", "again")
    ]
    assert twins[0].equals(twins[1])


def test_one_contender_alone_plays_what_it_plays_among_others() -> None:
    alone = evaluate(climber(), quadratic_suite(), split="all", seeds=2, budget=6).reproducible
    among = evaluate_all([uniform(), climber()], quadratic_suite(), RULES).records.reproducible
    mine = among[among["agent"] == "climber"].reset_index(drop=True)
    assert alone.astype({"agent": str}).equals(mine.astype({"agent": str}))


def test_a_method_remembers_its_own_episode_and_no_other() -> None:
    records = evaluate(climber(), quadratic_suite(), split="all", seeds=3, budget=30).frame
    final = records.groupby(["task", "seed"], observed=True)["regret"].last()
    first = records.groupby(["task", "seed"], observed=True)["regret"].first()
    assert final.mean() < 0.3 * first.mean()


@pytest.mark.parametrize("settings", [{}, {"start": "random"}])
def test_repetitions_that_are_added_are_those_of_a_longer_evaluation(settings) -> None:
    shared = {"split": "all", "budget": 6, "initial_points": 1, "settings": settings}
    whole = evaluate(climber(), quadratic_suite(), seeds=5, **shared)
    shares: list[float] = []
    later = evaluate(climber(), quadratic_suite(), seeds=3, first_seed=2, progress=shares.append, **shared)
    expected = whole.reproducible.query("seed >= 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(later.reproducible.reset_index(drop=True), expected)
    assert min(shares) > 0.0 and shares[-1] == pytest.approx(1.0)
    with pytest.raises(InvalidSettingError, match="first_seed=-1"):
        Rules(first_seed=-1)


def test_configurations_are_those_that_were_tried() -> None:
    suite = conditional_suite()
    result = evaluate_all([uniform(5)], suite, Rules(split="all", seeds=2, budget=5))
    table, frame = result.configurations.frame, result.records.frame
    names = [column.name for column in result.configurations.hyperparameters]
    assert names == list(suite.space.names)
    for key in ("agent", "task", "seed", "trial"):
        assert (table[key].astype(str) == frame[key].astype(str)).all()
    for row in range(0, len(table), 7):
        values = table.iloc[row][names]
        given = {name: value for name, value in values.items() if value == value and value is not None}
        for name in given:
            if suite.space.spec.columns[suite.space.spec.position(name)].kind == "integer":
                given[name] = int(given[name])
        u = suite.space.from_dicts([given]).float()
        assert set(suite.space.to_dicts(u)[0]) == set(given), "exactly the active hyperparameters are there"
        task = torch.tensor([suite.position(str(frame["task"].iloc[row]))])
        score = suite.evaluate(task, u, suite.space.active(u)).score * suite.space.legal(u)
        assert float(score) == pytest.approx(frame["score"].iloc[row], abs=1e-5)


def test_initial_points_are_shared_and_charged() -> None:
    rules = Rules(split="all", seeds=2, budget=7, initial_points=3)
    result = evaluate_all([climber(), uniform()], quadratic_suite(), rules)
    tables = [
        result.configurations.frame[result.configurations.frame["agent"] == name].reset_index(drop=True)
        for name in ("climber", "uniform")
    ]
    early = tables[0]["trial"] <= 4
    columns = ["task", "seed", "trial", *(column.name for column in result.configurations.hyperparameters)]
    assert tables[0][early][columns].equals(tables[1][early][columns])
    assert not tables[0][~early][columns].equals(tables[1][~early][columns])
    assert (result.records.frame.groupby(["agent", "task", "seed"], observed=True)["trial"].max() == 7).all()
    points = tables[0][tables[0]["trial"] == 2][columns[3:]].to_numpy()
    assert len(np.unique(points, axis=0)) == len(points), "every (task, seed) has its own"


def test_initial_points_are_full_evaluations() -> None:
    settings = {"multi_fidelity": True}
    rules = Rules(split="all", seeds=1, budget=4, initial_points=2, settings=settings)
    frame = evaluate_all([uniform(3)], fidelity_suite(), rules).records.frame
    assert (frame[frame["trial"] <= 3]["fidelity"] == 1.0).all()
    assert (frame[frame["trial"] > 3]["fidelity"] < 1.0).any()


def test_methods_on_a_grid_cannot_be_put_on_initial_points() -> None:
    walk = Contender("walk", "", "grid_step", "flat", lambda seen, mask, draws: mask.float().argmax(1))
    with pytest.raises(InvalidSettingError, match=r"'walk'.*initial_points=2"):
        evaluate_all([walk], quadratic_suite(), Rules(split="all", initial_points=2))
    with pytest.raises(InvalidSettingError, match=r"initial_points=5.*budget=5"):
        Rules(budget=5, initial_points=5)


def test_a_failed_episode_is_named_and_the_others_are_played() -> None:
    contenders = [climber("broken", raises_at=3), climber()]
    result = evaluate_all(contenders, quadratic_suite(), RULES)
    assert {failure.agent for failure in result.failures} == {"broken"}
    assert len(result.failures) == 12 and {failure.seed for failure in result.failures} == {0, 1}
    assert "ArithmeticError: it was told to fail at trial 3" in result.failures[0].error
    assert len(result.records) == 12 * 6
    with pytest.raises(EvaluationFailedError, match=r"12 episode\(s\) failed.*'broken'"):
        result.require_complete()


def test_a_worker_that_dies_takes_no_other_episode_with_it() -> None:
    contenders = [climber(), climber("deadly", dies_at=2), climber("third")]
    result = evaluate_all(contenders, quadratic_suite(), Rules(split="test", seeds=1, budget=4), workers=2)
    assert {failure.agent for failure in result.failures} == {"deadly"}
    assert all("died" in failure.error for failure in result.failures)
    played = result.records.frame.groupby("agent", observed=True)["task"].nunique()
    assert played["climber"] == played["third"] == len(result.failures)


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    local = EpisodicContender("local", "", "continuous", "history", lambda: climber().begin())
    with pytest.raises(InvalidSettingError, match=r"local.*workers=1"):
        evaluate_all([local], quadratic_suite(), RULES, workers=2)
    assert len(evaluate_all([local], quadratic_suite(), RULES).records) == 72


def test_played_episodes_are_not_played_again(tmp_path: Path) -> None:
    log = tmp_path / "played.txt"
    contenders = [climber(log=str(log)), uniform()]
    with CellStore(tmp_path / "cells.sqlite") as store:
        whole = evaluate_all(contenders, quadratic_suite(), RULES, store=store)
    assert whole.reused == 0
    lines = log.read_text()
    with CellStore(tmp_path / "cells.sqlite") as store:
        again = evaluate_all(contenders, quadratic_suite(), RULES, store=store)
        assert again.reused == 24 and log.read_text() == lines
        assert same(whole, again)
        assert again.records.frame["agent_seconds"].equals(whole.records.frame["agent_seconds"])
        # More seeds keep what episodic methods have; a batch is one unit, and is played anew.
        more = evaluate_all(contenders, quadratic_suite(), Rules(split="all", seeds=3, budget=6), store=store)
        assert more.reused == 12
        other = evaluate_all([climber(raises_at=99)], quadratic_suite(), RULES, store=store)
        assert other.reused == 0, "other settings are another method"
        assert evaluate_all(contenders, quadratic_suite(seed=1), RULES, store=store).reused == 0, "other data"


def test_failed_episodes_are_tried_again(tmp_path: Path) -> None:
    with CellStore(tmp_path / "cells.sqlite") as store:
        broken = evaluate_all([climber("one", raises_at=3)], quadratic_suite(), RULES, store=store)
        assert len(broken.failures) == 12 and len(store) == 0


def test_two_processes_do_not_write_one_store(tmp_path: Path) -> None:
    with CellStore(tmp_path / "cells.sqlite"), pytest.raises(InvalidSettingError, match="Another evaluation runs"):
        CellStore(tmp_path / "cells.sqlite")


def test_a_store_that_is_none_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "cells.sqlite"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(DataIntegrityError, match=r"cells\.sqlite.*Delete it"):
        CellStore(path)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataIntegrityError, match="format 99"):
        CellStore(other)


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from evaluation_contenders import climber
from hpo_gym.evaluation import CellStore, Rules, evaluate_all
from hpo_gym.testing.tiny import quadratic_suite

if __name__ == "__main__":
    with CellStore(Path({folder!r}) / "cells.sqlite") as store:
        rules = Rules(split="all", seeds=5, budget=6)
        contender = climber(pause=0.01, log={log!r})
        evaluate_all([contender], quadratic_suite(), rules, store=store, workers=2)
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    log, script = tmp_path / "log.txt", tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path), log=str(log)))
    process = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60.0
    # Killed at some moment after so many episodes are kept.
    while _kept(tmp_path) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < _kept(tmp_path) < 30
    workers = {int(line.split()[0]) for line in log.read_text().splitlines()}
    deadline = time.monotonic() + 10.0
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, workers)), "a worker outlived its evaluation"
    with CellStore(tmp_path / "cells.sqlite") as store:
        kept = len(store)
        resumed = evaluate_all([climber()], quadratic_suite(), Rules(split="all", seeds=5, budget=6), store=store)
    assert 0 < resumed.reused == kept < 30
    unbroken = evaluate(climber(), quadratic_suite(), split="all", seeds=5, budget=6).reproducible
    assert resumed.records.reproducible.equals(unbroken)


def _kept(folder: Path) -> int:
    path = folder / "log.txt"
    # Every episode acts five times; what was acted on twice was killed between.
    return sum(line.endswith(" 5") for line in path.read_text().splitlines()) - 2 if path.exists() else 0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split(")")[-1].split()[0] != "Z" if os.name == "posix" else True
