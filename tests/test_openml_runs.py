"""Runs of a flow as a task suite: the real client against a server on loopback."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import pandas as pd
import pytest
import torch
from openml_server import OTHER_TASK, RUN_TASKS, OpenMLServer, begin_clean, run_value, server_for_tests, setups

from hpo_gym import load_suite
from hpo_gym.errors import DataError, DataIntegrityError, DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.live.openml_fetch import fetch
from hpo_gym.live.openml_runs_fetch import short_names
from hpo_gym.tasks.suite import TaskSuite

pytestmark = pytest.mark.skipif(find_spec("openml") is None, reason="needs the extra openml")

EVALUATIONS, SETUPS = "/api/v1/xml/evaluation/", "/api/v1/xml/setup/"
MEASURES = ["predictive_accuracy", "usercpu_time_millis"]
#: Of the kept tasks; one has no value.
RUNS = 24 * len(RUN_TASKS) - 1
NAMES = {"SimpleImputer.strategy", "criterion", "min_samples_leaf", "ccp_alpha"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenMLServer]:
    with server_for_tests(str(tmp_path_factory.mktemp("openml"))) as running:
        yield running


@pytest.fixture
def clean(server: OpenMLServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenMLServer:
    return begin_clean(server, monkeypatch, tmp_path)


def load(server: OpenMLServer, space: Any = 77, **options: Any) -> TaskSuite:
    settings = {"server": server.api, "retries": 1, "timeout": 60.0}
    return load_suite("openml", space, **({"openml": settings, "mode": "lookup"} | options))


def downloaded(server: OpenMLServer, folder: Path, flow: int = 77, **query: Any) -> pd.DataFrame:
    """Download within this process; a process of its own takes seconds to start."""
    folder.mkdir(parents=True)
    asked = {"tasks": None, "measures": ["predictive_accuracy"], "most": 10_000} | query
    fetch("runs", flow, folder, server.api, 1, "arff", asked)
    return pd.read_parquet(folder / f"flow-{flow}.parquet")


@pytest.mark.slow
def test_a_flow_becomes_a_suite_and_is_downloaded_once(clean: OpenMLServer, tmp_path: Path) -> None:
    times: dict[str, Any] = {"minimize": ["usercpu_time_seconds"], "cost_metric": "usercpu_time_seconds"}
    suite = load(clean, measures=MEASURES, **times)
    assert suite.spec.source == "openml" and suite.name == "flow-77"
    assert [str(task) for task in suite.tasks] == [f"openml-dataset:{data}" for data in RUN_TASKS.values()]
    assert suite.spec.provenance["left_out_tasks"] == [OTHER_TASK] and not suite.spec.provenance["cut"]
    assert set(suite.space.names) == NAMES
    columns = {column.name: column for column in suite.space.spec.columns}
    assert columns["ccp_alpha"].log and columns["min_samples_leaf"].kind == "integer"
    assert set(columns["criterion"].choices) == {"None", "gini", "entropy"}
    # Every run is answered by its own row: the table is the truth.
    for setup, given in setups().items():
        plain = {name.rpartition(")_")[2]: json.loads(value) for name, value in given.items() if "tree" not in name}
        tree = {name.rpartition(")_")[2]: json.loads(value) for name, value in given.items() if "tree" in name}
        configuration = {"SimpleImputer.strategy": plain["strategy"], "criterion": str(tree["criterion"])}
        configuration |= {name: tree[name] for name in ("min_samples_leaf", "ccp_alpha")}
        u = suite.space.from_dicts([configuration])
        for index, task in enumerate(RUN_TASKS):
            if (task, setup) in ((3, 100), (49, 123)):
                continue
            found = suite.evaluate(torch.tensor([index]), u.float(), suite.space.active(u)).metrics[0]
            expected = [run_value(MEASURES[0], task, setup), run_value(MEASURES[1], task, setup) / 1000.0]
            assert found.tolist() == pytest.approx(expected, rel=1e-5)
    asked = len(clean.requests)
    again = load(clean, measures=MEASURES, **times)
    assert len(clean.requests) == asked and again.space.names == suite.space.names
    assert again.spec.provenance["sha256"] == suite.spec.provenance["sha256"]
    assert os.listdir(tmp_path / "temporary") == []
    env = gym.make("HPO-OpenMLContinuous-v0", source=suite, split="all", budget=3)
    assert 0.0 <= env.reset(seed=0)[1]["regret"] <= 1.0 + 1e-6


def test_the_table_holds_every_run_with_its_hyperparameters(clean: OpenMLServer, tmp_path: Path) -> None:
    frame = downloaded(clean, tmp_path / "all")
    assert len(frame) == RUNS and not frame["run_id"].duplicated().any()
    assert {(task, data) for task, data in zip(frame["task_id"], frame["data_id"], strict=True)} == set(
        RUN_TASKS.items()
    )
    assert set(frame.columns) >= NAMES and {"DecisionTreeClassifier.strategy", "random_state", "n_jobs"} <= set(frame)
    assert set(frame["criterion"]) == {"None", "gini", "entropy"} and set(frame["n_jobs"]) == {"None"}
    few = downloaded(clean, tmp_path / "few", tasks=[OTHER_TASK, 49])
    assert set(few["task_id"]) == {OTHER_TASK, 49}


def test_values_of_other_packages_are_texts_and_none_is_lost(clean: OpenMLServer, tmp_path: Path) -> None:
    frame = downloaded(clean, tmp_path / "r", 79).set_index("setup_id")
    assert frame.loc[200:202, "splitrule"].tolist() == ["'NA'", "gini", "'NA'"]
    assert frame.loc[200:202, "mtry"].tolist() == ["2", "''", "5"]
    # What a setup does not say is missing.
    assert frame.loc[203, ["splitrule", "mtry", "num.threads"]].isna().all()


@pytest.mark.parametrize("page", [1, 10, 1000])
def test_all_pages_are_asked_for(
    clean: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    whole = downloaded(clean, tmp_path / "whole").sort_values("run_id", ignore_index=True)
    monkeypatch.setattr("hpo_gym.live.openml_runs_fetch._PAGE", max(page, 10))
    monkeypatch.setattr("hpo_gym.live.openml_runs_fetch._IDS", page)
    frame = downloaded(clean, tmp_path / "pages", tasks=[3, 5, 31, 49]).sort_values("run_id", ignore_index=True)
    # Nobody has run the flow on task 5.
    pd.testing.assert_frame_equal(frame, whole)


def test_what_a_limit_cuts_off_is_told(clean: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    with pytest.warns(
        UserWarning, match=r"more runs of flow 77 than most_runs=30: 29 were listed, of 2 datasets"
    ) as caught:
        suite = load(clean, most_runs=30, measures=MEASURES)
    # The line of the caller, not one of this package.
    assert [warning.filename for warning in caught] == [__file__]
    assert suite.spec.provenance["cut"] and suite.spec.provenance["rows"] == 28
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load(clean, most_runs=77).spec.provenance["cut"]


def test_runs_that_lack_a_measure_are_left_out(clean: OpenMLServer, tmp_path: Path) -> None:
    frame = downloaded(clean, tmp_path / "two", measures=MEASURES)
    assert len(frame) == RUNS - 1
    expected = frame["setup_id"].map(lambda setup: run_value(MEASURES[1], 3, setup) / 1000.0)
    pd.testing.assert_series_equal(frame["usercpu_time_seconds"], expected, check_names=False)


@pytest.mark.parametrize(
    ("flow", "query"),
    [
        (78, {}),
        (77, {"tasks": [5]}),
        (77, {"measures": ["no_measure"]}),
        (77, {"measures": [MEASURES[0], "no_measure"]}),
    ],
)
def test_what_nobody_has_run_is_told(clean: OpenMLServer, tmp_path: Path, flow: int, query: dict[str, Any]) -> None:
    with pytest.raises(DataMissingError, match=f"no run of OpenML flow {flow} on"):
        downloaded(clean, tmp_path / "none", flow, **query)
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "fault", "kind", "reason"),
    [
        (EVALUATIONS, "500", DataMissingError, "the server answered 500"),
        (EVALUATIONS, "404", DataMissingError, "the server answered 404"),
        (EVALUATIONS, "drop", DataMissingError, "cannot be downloaded"),
        (EVALUATIONS, "garbage", DataIntegrityError, "cannot be read"),
        (EVALUATIONS, "shorten", DataIntegrityError, "cannot be read"),
        (EVALUATIONS, "truncate", DataIntegrityError, "broke off on its way"),
        (SETUPS, "500", DataMissingError, "the server answered 500"),
        (SETUPS, "shorten", DataIntegrityError, "cannot be read"),
    ],
)
def test_a_server_that_misbehaves_leaves_nothing(
    clean: OpenMLServer, tmp_path: Path, path: str, fault: str, kind: type[DataError], reason: str
) -> None:
    clean.faults[path] = fault
    with pytest.raises(kind, match=f"OpenML runs of flow 77 at .*{reason}"):
        downloaded(clean, tmp_path / "bad")
    assert list((tmp_path / "bad").iterdir()) == []


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let downloads of the loader happen in this process."""

    def download(kind: Any, flow: int, settings: Any, folder: Path, query: Any) -> None:
        folder.mkdir(parents=True)
        fetch(kind, flow, folder, settings.server, 1, "arff", query)

    monkeypatch.setattr("hpo_gym.live.openml_data._download", download)


def test_what_is_tuned_can_be_chosen(clean: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    suite = load(
        clean,
        "77",
        hyperparameters=["min_samples_leaf", "random_state"],
        tasks=[31, 49],
        rename={"min_samples_leaf": "leaf"},
    )
    assert set(suite.space.names) == {"leaf", "random_state"} and suite.num_tasks == 2
    with pytest.raises(UnknownNameError, match="'min_samples_leaf'"):
        load(clean, hyperparameters=["min_sample_leaf"])
    with pytest.raises(InvalidSettingError, match=r"tasks=\[\] must be a list"):
        load(clean, tasks=[])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"space": None}, "needs the id of a flow as its space, got None"),
        ({"space": "my_runs.csv"}, "use source='runs'"),
        ({"tasks": ["iris"]}, "ids of OpenML tasks.*got 'iris'"),
        ({"tasks": ["²"]}, "ids of OpenML tasks"),
        ({"tasks": 3}, "tasks=3 must be a list"),
        ({"hyperparameters": 3}, "hyperparameters=3 must be a list"),
        ({"measures": "predictive_accuracy"}, "must be a list"),
        ({"measures": None}, "must be a list"),
        ({"measures": ["a", "a"]}, "'a' must be .* named once"),
        ({"measures": ["a b/c"]}, "'a b/c' must be one of OpenML's names"),
        ({"most_runs": 0}, "most_runs=0"),
        ({"data_dir": "somewhere"}, "HPO_GYM_CACHE"),
    ],
)
def test_bad_arguments_are_refused(clean: OpenMLServer, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSettingError, match=reason):
        load(clean, **options)
    assert clean.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "accuracy"},
        {"minimize": ["usercpu_time_millis"], "measures": MEASURES},
        {"cost_metric": "time"},
        {"ranges": {"accuracy": (0.0, 1.0)}},
        {"settings": {"member": 1}},
        {"openml": {"servers": "x"}},
    ],
)
def test_unknown_names_are_refused_before_anything_is_asked(clean: OpenMLServer, options: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError):
        load(clean, **options)
    assert clean.requests == []


def test_seeds_and_numbers_of_cores_are_no_hyperparameters(
    clean: OpenMLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    with pytest.warns(UserWarning, match="1 of 4 rows") as caught:
        suite = load(clean, 79)
    assert [warning.filename for warning in caught] == [__file__]
    assert set(suite.space.names) == {"splitrule", "mtry"}


def test_a_changed_table_is_refused(clean: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    load(clean)
    (path,) = (tmp_path / "cache").rglob("flow-77.parquet")
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(DataIntegrityError, match=r"flow-77\.parquet is corrupt.*Remove the folder"):
        load(clean)


def test_names_lose_their_flow_and_stay_different() -> None:
    tree, imputer = "sklearn.tree.tree.DecisionTreeClassifier(5)", "sklearn.impute._base.SimpleImputer(12)"
    nested = f"sklearn.pipeline.Pipeline(step={tree[:-3]})(3)"
    full = [f"{tree}_max_depth", f"{tree}_strategy", f"{imputer}_strategy", "mlr.classif.rpart_cp", f"{nested}_steps"]
    found = short_names(full)
    assert list(found.values()) == [
        "max_depth",
        "DecisionTreeClassifier.strategy",
        "SimpleImputer.strategy",
        "mlr.classif.rpart_cp",
        "steps",
    ]
    twice = [f"a.Tree({version})_depth" for version in (1, 2)]
    assert list(short_names(twice).values()) == twice
    assert len(set(short_names(full + twice).values())) == len(full + twice)
