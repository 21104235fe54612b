"""Datasets and tasks of OpenML: the real client against a server on loopback, which also misbehaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from openml_server import ROWS, OpenMLServer, begin_clean, rows, server_for_tests

from hpo_gym import load_suite
from hpo_gym.errors import DataError, DataIntegrityError, DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.live import DataSource, LiveObjective, OpenMLSettings, Validation, load_table
from hpo_gym.live.openml_data import download_openml, failure, openml_table
from hpo_gym.live.openml_fetch import fetch, main
from hpo_gym.live.validation import make_splits

pytestmark = pytest.mark.skipif(find_spec("openml") is None, reason="needs the extra openml")

DATA, DESCRIPTION, TASK, SPLITS = "/data/v1/", "/api/v1/xml/data/3", "/api/v1/xml/task/", "/api_splits/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenMLServer]:
    with server_for_tests(str(tmp_path_factory.mktemp("openml"))) as running:
        yield running


@pytest.fixture
def clean(server: OpenMLServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenMLServer:
    return begin_clean(server, monkeypatch, tmp_path)


def fetched(server: OpenMLServer, folder: Path, kind: str = "dataset", identity: int = 3, form: str = "arff") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    fetch(kind, identity, folder, server.api, 1, form)
    return folder


def cached(server: OpenMLServer, tmp_path: Path, kind: str, identity: int) -> OpenMLSettings:
    """Put what the server has into the cache without a process of its own, which takes seconds to start."""
    host = server.api.split("/")[2].replace(":", "_")
    fetched(server, tmp_path / "cache" / "openml" / host / f"{kind}s" / str(identity), kind, identity)
    return OpenMLSettings(server.api)


def test_a_dataset_comes_from_the_server_once(clean: OpenMLServer, tmp_path: Path) -> None:
    settings = OpenMLSettings(clean.api, retries=1)
    table = openml_table("dataset", 3, settings)
    assert table.columns == ("length", "width", "colour") and table.levels == (0, 0, 3)
    assert table.classes == ("no", "yes") and table.provenance["dropped"] == ["remark"]
    truth = rows()
    np.testing.assert_allclose(table.values[:, 0], [float(row[0]) for row in truth])
    assert np.flatnonzero(np.isnan(table.values[:, 1])).tolist() == list(range(0, ROWS, 10))
    assert [table.classes[label] for label in table.target] == [row[4] for row in truth]

    folder = download_openml("dataset", 3, settings)
    assert sorted(os.listdir(folder)) == ["about.json", "data.parquet"]
    assert os.listdir(folder.parent) == ["3"] and os.listdir(tmp_path / "temporary") == []
    asked = len(clean.requests)
    again = openml_table("dataset", 3, settings)
    assert len(clean.requests) == asked
    np.testing.assert_array_equal(again.values, table.values)


def test_what_went_wrong_in_the_process_of_the_download_is_raised_here(
    clean: OpenMLServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean.faults[DATA] = "500"
    command = ["dataset", "3", str(tmp_path), "--server", clean.api, "--retries", "1"]
    status = main(command)
    said = f"some library prints\n{capsys.readouterr().out}"
    error = failure("OpenML dataset 3", CompletedProcess(command, status, said, ""))
    assert isinstance(error, DataMissingError) and "the server answered 500" in str(error)
    killed = failure("OpenML dataset 3", CompletedProcess(command, -9, "", "first\nlast words\n"))
    assert isinstance(killed, DataMissingError) and "exit status -9: last words" in str(killed)


def test_a_server_that_never_answers_is_given_up(clean: OpenMLServer, tmp_path: Path) -> None:
    clean.faults[DESCRIPTION] = "hang"
    with pytest.raises(DataMissingError, match=r"did not arrive from .* within 2 s.*OpenMLSettings\(timeout="):
        download_openml("dataset", 3, OpenMLSettings(clean.api, timeout=2.0, retries=1))
    assert [path for path in (tmp_path / "cache").rglob("*") if not path.is_dir() or "part" in path.name] == []
    assert os.listdir(tmp_path / "temporary") == []


def test_official_folds_of_a_cross_validation_partition_the_rows(clean: OpenMLServer, tmp_path: Path) -> None:
    settings = cached(clean, tmp_path, "task", 31)
    table = openml_table("task", 31, settings)
    assert table.folds is not None and table.folds.shape == (2, ROWS) and table.task == "classification"
    expected = [(row // 3 + 1) % 3 for row in range(ROWS)]
    assert table.folds[1].tolist() == expected

    official = make_splits(table, Validation("official", repeat=1))
    assert len(official.folds) == 3 and len(official.test) == 0
    for fold, split in enumerate(official.folds):
        assert split.validation.tolist() == [row for row in range(ROWS) if expected[row] == fold]
        assert sorted([*split.train, *split.validation]) == list(range(ROWS))

    holdout = make_splits(table, Validation("holdout", fold=2))
    assert holdout.test.tolist() == np.flatnonzero(table.folds[0] == 2).tolist()
    assert not set(holdout.test) & {*holdout.folds[0].train, *holdout.folds[0].validation}
    with pytest.raises(InvalidSettingError, match=r"repeat=2 .* 2 repetition"):
        make_splits(table, Validation("official", repeat=2))
    with pytest.raises(InvalidSettingError, match=r"fold=3 .* 3 folds"):
        make_splits(table, Validation(fold=3))


def test_a_live_objective_trains_on_a_task_with_an_official_holdout(clean: OpenMLServer, tmp_path: Path) -> None:
    settings = cached(clean, tmp_path, "task", 32)
    source = DataSource("openml-task:32", openml=settings)
    splits = make_splits(load_table(source), Validation())
    assert splits.test.tolist() == [row for row in range(ROWS) if (row // 3) % 3 == 0]
    scores = LiveObjective("knn", source, ("accuracy",))({"n_neighbors": 3, "weights": "uniform", "p": 2})
    assert set(scores) == {"accuracy", "test_accuracy"} and scores["test_accuracy"] > 0.6


@pytest.mark.slow
def test_scenarios_that_cannot_be_had_are_left_out_by_name(
    clean: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cached(clean, tmp_path, "task", 32)
    sets = {"openml": ("openml-task:32", "openml-task:99")}
    monkeypatch.setattr("hpo_gym.sources.grpoformer.DATASET_SETS", sets)
    given: dict[str, Any] = {"openml": {"server": settings.server, "retries": 1}, "workers": 1}
    suite = load_suite("grpoformer", "svm", datasets="openml", **given)
    assert [str(task) for task in suite.tasks] == ["openml-task:32"]
    assert "Unknown task" in suite.spec.provenance["left_out"]["openml-task:99"]
    assert any("openml-task:99 is left out" in note for note in suite.spec.notes)
    clean.faults[TASK] = "500"
    for datasets, words in (("openml", "datasets='bundled'"), (["openml-task:99"], "99")):
        # Of a set what can be had is played; what was named has to be there.
        monkeypatch.setattr("hpo_gym.sources.grpoformer.DATASET_SETS", {"openml": ("openml-task:99",)})
        with pytest.raises(DataMissingError, match=words):
            load_suite("grpoformer", "svm", datasets=datasets, **given)


@pytest.mark.parametrize("form", ["arff", "parquet"])
def test_both_file_formats_hold_the_same_table(clean: OpenMLServer, tmp_path: Path, form: str) -> None:
    folder = fetched(clean, tmp_path / form, form=form)
    assert any(path.endswith(".pq") for path in clean.requests) == (form == "parquet")
    about = json.loads((folder / "about.json").read_text())
    assert [column["kind"] for column in about["columns"]] == ["numeric", "numeric", "nominal", "text", "nominal"]
    assert about["columns"][4]["levels"] == ["no", "yes"] and about["licence"] == "CC0"


FAULTS = [
    (DESCRIPTION, "404", DataMissingError, "answered 404"),
    (DESCRIPTION, "drop", DataMissingError, "cannot be downloaded"),
    (DESCRIPTION, "shorten", DataIntegrityError, "cannot be read"),
    (DESCRIPTION, "garbage", DataIntegrityError, "cannot be read"),
    (DATA, "404", DataMissingError, "answered 404"),
    (DATA, "truncate", DataIntegrityError, "broke off"),
    (DATA, "shorten", DataIntegrityError, "arrived damaged"),
    (DATA, "garbage", DataIntegrityError, "arrived damaged"),
    (TASK, "500", DataMissingError, "answered 500"),
    (TASK, "garbage", DataIntegrityError, "cannot be read"),
    (SPLITS, "404", DataMissingError, "answered 404"),
    (SPLITS, "truncate", DataIntegrityError, "broke off"),
    (SPLITS, "shorten", DataIntegrityError, "cannot be read"),
    (SPLITS, "lines", DataIntegrityError, "do not partition the 60 rows"),
    (SPLITS, "garbage", DataIntegrityError, "cannot be read"),
]


@pytest.mark.parametrize(("path", "fault", "kind", "said"), FAULTS, ids=[f"{row[0]}-{row[1]}" for row in FAULTS])
def test_every_fault_is_named_and_leaves_nothing(
    clean: OpenMLServer, tmp_path: Path, path: str, fault: str, kind: type[DataError], said: str
) -> None:
    clean.faults[path] = fault
    with pytest.raises(kind, match=rf"OpenML task 31 .*{said}|task 31 {said}"):
        fetched(clean, tmp_path / "target", "task", 31)
    assert list((tmp_path / "target").iterdir()) == [] and os.listdir(tmp_path / "temporary") == []
    assert any(asked.startswith(path) for asked in clean.requests)


@pytest.mark.parametrize("fault", ["truncate", "shorten", "garbage"])
def test_a_damaged_parquet_file_is_refused(clean: OpenMLServer, tmp_path: Path, fault: str) -> None:
    clean.faults["/datasets/"] = fault
    with pytest.raises(DataIntegrityError, match=r"OpenML dataset 3 .*(broke off|cannot be read)"):
        fetched(clean, tmp_path / "target", form="parquet")
    assert list((tmp_path / "target").iterdir()) == [] and os.listdir(tmp_path / "temporary") == []


def test_where_there_is_no_parquet_file_the_arff_file_is_taken(clean: OpenMLServer, tmp_path: Path) -> None:
    clean.faults["/datasets/"] = "404"
    assert (fetched(clean, tmp_path / "target", form="parquet") / "data.parquet").is_file()
    assert any(path.startswith(DATA) for path in clean.requests)


@pytest.mark.parametrize(
    ("kind", "identity", "said"), [("dataset", 9, "Unknown dataset"), ("task", 99, "Unknown task")]
)
def test_an_unknown_id_says_so(clean: OpenMLServer, tmp_path: Path, kind: str, identity: int, said: str) -> None:
    with pytest.raises(DataMissingError, match=rf"OpenML {kind} {identity} .*{said}.*Check the id"):
        fetched(clean, tmp_path / "target", kind, identity)


def test_a_task_that_is_no_supervised_one_is_refused(clean: OpenMLServer, tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"task of Clustering.*supervised"):
        fetched(clean, tmp_path / "target", "task", 33)


def test_targets_are_checked(clean: OpenMLServer, tmp_path: Path) -> None:
    settings = cached(clean, tmp_path, "dataset", 4)
    with pytest.raises(InvalidSettingError, match=r"declares no default target.*target="):
        openml_table("dataset", 4, settings)
    with pytest.raises(UnknownNameError, match=r"'lenght'.*Did you mean 'length'"):
        openml_table("dataset", 4, settings, target="lenght")
    table = openml_table("dataset", 4, settings, target="length", drop=("class",))
    assert table.task == "regression" and table.columns == ("width", "colour")


def test_a_changed_cache_names_the_file_both_hashes_and_the_repair(clean: OpenMLServer, tmp_path: Path) -> None:
    settings = cached(clean, tmp_path, "dataset", 3)
    (file,) = (tmp_path / "cache").rglob("data.parquet")
    before = json.loads((file.parent / "about.json").read_text())["sha256"]["data.parquet"]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DataIntegrityError, match=rf"data\.parquet is corrupt: .*expected {before}.*Remove the folder"):
        openml_table("dataset", 3, settings)
    file.unlink()
    with pytest.raises(DataIntegrityError, match="it is missing"):
        openml_table("dataset", 3, settings)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidSettingError, match=r"server='www\.openml\.org'.*looks like https://"):
        OpenMLSettings("www.openml.org")
    with pytest.raises(InvalidSettingError, match=r"timeout=0 .*above 0"):
        OpenMLSettings(timeout=0)
    with pytest.raises(InvalidSettingError, match="retries=0"):
        OpenMLSettings(retries=0)
    with pytest.raises(UnknownNameError, match=r"'parket'.*'parquet'"):
        OpenMLSettings(file_format="parket")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match="'iris' is no id of OpenML"):
        DataSource("openml:iris")
