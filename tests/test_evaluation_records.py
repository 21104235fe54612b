"""The record table: columns, joining, files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.evaluation import COLUMNS, Contender, RecordTable, evaluate
from hpo_gym.testing.tiny import fidelity_suite, quadratic_suite


def contender(name: str, run: str = "") -> Contender:
    return Contender(
        name, run, "continuous", "flat", lambda seen, mask, draws: torch.rand((len(seen), 2), generator=draws)
    )


@pytest.fixture(scope="module")
def records() -> RecordTable:
    return evaluate(contender("one"), quadratic_suite(), seeds=2, budget=4)


def test_the_columns_are_the_published_ones_in_order(records: RecordTable) -> None:
    assert tuple(records.frame.columns) == COLUMNS
    assert records.agents == ("one",)
    assert RecordTable(records.frame[list(reversed(COLUMNS))]).frame.equals(records.frame)


def test_a_parquet_file_gives_the_same_table_back(records: RecordTable, tmp_path: Path) -> None:
    other = evaluate(contender("two"), fidelity_suite(), seeds=1, budget=3)
    both = RecordTable.concat([records, other])
    path = both.to_parquet(tmp_path / "folder" / "records.parquet")
    back = RecordTable.from_parquet(path)
    pd.testing.assert_frame_equal(back.frame, both.frame)
    assert pd.read_parquet(path, columns=["trial"])["trial"].max() == 4


def test_a_start_may_be_worse_than_the_worst_that_is_known(records: RecordTable, tmp_path: Path) -> None:
    worse = RecordTable(records.frame.assign(regret=records.frame["regret"] + 1.67))
    back = RecordTable.from_parquet(worse.to_parquet(tmp_path / "records.parquet"))
    pd.testing.assert_frame_equal(back.frame, worse.frame)
    endless = RecordTable(records.frame.assign(regret=float("inf")))
    with pytest.raises(DataIntegrityError, match="regret"):
        RecordTable.from_parquet(endless.to_parquet(tmp_path / "endless.parquet"))


def test_writing_leaves_no_other_file_and_replaces_the_old_one(records: RecordTable, tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(b"an older file")
    records.to_parquet(path)
    assert os.listdir(tmp_path) == ["records.parquet"]
    assert len(RecordTable.from_parquet(path)) == len(records)


def test_a_failed_write_keeps_the_old_file(records: RecordTable, tmp_path: Path) -> None:
    path = records.to_parquet(tmp_path / "records.parquet")
    before = path.read_bytes()
    unwritable = RecordTable(records.frame)
    # Nothing that Parquet can hold.
    unwritable.frame["run"] = pd.Categorical([object()] * len(records))
    with pytest.raises(Exception, match="object"):
        unwritable.to_parquet(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["records.parquet"]


def test_joining_keeps_every_row_whatever_the_order(records: RecordTable) -> None:
    tables = [records, *(evaluate(contender("two", run), quadratic_suite(), seeds=2, budget=4) for run in ("b", "a"))]
    joined = RecordTable.concat(tables)
    assert len(joined) == 3 * len(records) and joined.agents == ("one", "two")
    backwards = RecordTable.concat(tables[::-1])
    order = ["agent", "run", "task", "seed", "trial"]
    pd.testing.assert_frame_equal(
        joined.frame.sort_values(order, ignore_index=True), backwards.frame.sort_values(order, ignore_index=True)
    )


def test_joining_the_same_episodes_twice_is_refused(records: RecordTable) -> None:
    with pytest.raises(
        InvalidSettingError, match=r"2 episode\(s\) are in several.*agent=one.*seed=0\. .*Contender\.run"
    ):
        RecordTable.concat([records, records])
    with pytest.raises(InvalidSettingError, match="at least one"):
        RecordTable.concat([])


def test_a_table_with_other_columns_is_refused(records: RecordTable) -> None:
    with pytest.raises(InvalidSettingError, match="lacks regret and has besides regrets"):
        RecordTable(records.frame.rename(columns={"regret": "regrets"}))


def test_files_that_are_missing_or_broken_are_named(records: RecordTable, tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"nowhere\.parquet"):
        RecordTable.from_parquet(tmp_path / "nowhere.parquet")
    broken = tmp_path / "broken.parquet"
    records.to_parquet(broken)
    broken.write_bytes(broken.read_bytes()[:-50])
    with pytest.raises(DataIntegrityError, match=r"broken\.parquet is no record table"):
        RecordTable.from_parquet(broken)
    records.frame[["agent", "trial"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataIntegrityError, match="lacks run"):
        RecordTable.from_parquet(tmp_path / "other.parquet")


def test_importing_the_evaluation_loads_nothing_heavy_and_no_agent() -> None:
    script = "import sys, hpo_gym\nprint(*sys.modules)\nimport hpo_gym.evaluation\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    package, evaluation = (set(line.split()) for line in done.stdout.splitlines()[-2:])
    assert "hpo_gym.evaluation" not in package
    assert "hpo_gym.evaluation.loop" in evaluation
    heavy = {"pandas", "pyarrow", "matplotlib", "scipy", "rich", "agents"}
    assert not heavy & {name.partition(".")[0] for name in evaluation}
