"""The protocol grpoformer-36: its scenarios as suites, evaluate.py in six search spaces, and the study of budgets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from live_suites import shared_tiny_suite
from sklearn import __version__ as sklearn_version

from agents import grpoformer_study
from agents.base import Interface
from agents.command_line import run_command
from agents.comparison import ComparisonConfig, prepare
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig
from agents.evaluation_scenarios import playable_spaces
from agents.grpoformer_study import made_with, main, merged, play, require_combinable
from agents.grpoformer_study_data import Entry, best_models, entries, records_of
from agents.grpoformer_study_page import COMMAND, NAME, write_page
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.study import read_results, write_results
from evaluate import GROUPS, HELP
from evaluate import evaluate as evaluate_job
from hpo_gym import load_suite
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.evaluation import RecordTable, Rules, evaluate_all
from hpo_gym.evaluation.protocols import find_protocol
from hpo_gym.evaluation.published import GRPOFORMER_36
from hpo_gym.evaluation.scenario_scores import ends_of_episodes, scenario_scores
from hpo_gym.live.build import grpoformer_objective
from hpo_gym.live.datasets import data_source, load_table
from hpo_gym.live.executors import close_executors
from hpo_gym.live.validation import make_splits
from hpo_gym.sources import grpoformer
from hpo_gym.sources.grpoformer import DATASET_SETS, missing_families
from hpo_gym.tasks.datasets import dataset_key

PROTOCOL = find_protocol("grpoformer-36")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "studies" / "grpoformer-36.md"
QUICK: dict[str, Any] = {"datasets": ["sklearn:iris"], "workers": 1}


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    close_executors()


def config(**changes: Any) -> ComparisonConfig:
    env = EnvironmentConfig(PROTOCOL.environment, space="svm", source_options=QUICK)
    given: dict[str, Any] = {"agents": ("random",), "env": env, "protocol": PROTOCOL.name, "split": "all"}
    return ComparisonConfig(**{**given, **changes})


def test_the_protocol_is_the_published_one() -> None:
    assert PROTOCOL.spaces == tuple(family.name for family in GRPOFORMER_36.families)
    assert PROTOCOL.budget == GRPOFORMER_36.fair_budget == 500 and PROTOCOL.knowledge == "none"
    assert [data_source(name).task_ref for name in DATASET_SETS["openml"]] == list(GRPOFORMER_36.tasks)
    assert len(set(DATASET_SETS["bundled"])) == 6


def test_stand_ins_learn_classes_and_share_the_identity_of_their_rows() -> None:
    counts = {}
    for name in DATASET_SETS["bundled"]:
        table = load_table(data_source(name))
        counts[name.removeprefix("sklearn:")] = (table.num_rows, len(table.classes))
        assert table.task == "classification"
    assert counts["digits_parity"] == (1797, 2) and counts["diabetes_median"] == (442, 2)
    digits, parity = (load_table(data_source(f"sklearn:{name}")) for name in ("digits", "digits_parity"))
    np.testing.assert_array_equal(parity.values, digits.values)
    np.testing.assert_array_equal(parity.target, digits.target % 2)
    shares = np.bincount(load_table(data_source("sklearn:diabetes_median")).target)
    assert abs(int(shares[0]) - int(shares[1])) < 10
    # A policy that has seen the digits has seen the rows of both.
    assert dataset_key(data_source("sklearn:digits_parity").task_ref) == "dataset:28"
    assert dataset_key(data_source("sklearn:diabetes_median").task_ref) == dataset_key(
        data_source("sklearn:diabetes").task_ref
    )


@pytest.mark.parametrize(("name", "rows"), [("iris", 30), ("digits", 100), ("breast_cancer", 26)])
def test_a_tenth_of_the_rows_is_trained_on_but_ten_per_class(name: str, rows: int) -> None:
    made = grpoformer_objective("svm", f"sklearn:{name}", metrics=("accuracy",))
    (split,) = make_splits(made.table, made.validation).folds
    assert int(np.ceil(made.subsample * len(split.train))) == rows
    assert grpoformer_objective("svm", f"sklearn:{name}", subsample=0.5).subsample == 0.5


def test_the_source_offers_the_scenarios_of_a_family() -> None:
    suite = load_suite("grpoformer", "rf", workers=1)
    assert suite.name == "rf" and suite.spec.source == "live" and suite.metric.name == "accuracy"
    assert [str(task) for task in suite.tasks] == [f"custom:{name}" for name in DATASET_SETS["bundled"]]
    assert suite.spec.provenance["left_out"] == {}
    for given, kind, words in (
        ({"space": "knn"}, UnknownNameError, "family of GRPOformer 'knn'"),
        ({"datasets": "bundeld"}, UnknownNameError, "Did you mean 'bundled'"),
        ({"datasets": []}, InvalidSettingError, "datasets="),
        ({"metric": "mcc"}, InvalidSettingError, "source='live'"),
        ({"data_dir": "x"}, InvalidSettingError, "data_dir"),
        ({"openml": {"sever": "x"}}, UnknownNameError, "Did you mean 'server'"),
    ):
        with pytest.raises(kind, match=words):
            load_suite("grpoformer", **given)  # type: ignore[arg-type]


def test_a_family_without_its_library_is_named() -> None:
    missing = missing_families(PROTOCOL.spaces)
    assert set(missing) == (set() if find_spec("xgboost") else {"xgb"})
    assert all("xgboost" in reason and "pip install" in reason for reason in missing.values())
    playable, left_out = playable_spaces(PROTOCOL)
    assert set(playable) | set(left_out.spaces) == set(PROTOCOL.spaces)
    with pytest.raises(UnknownNameError, match="xgbost"):
        missing_families(["xgbost"])


def test_what_contradicts_the_protocol_is_refused() -> None:
    assert prepare(config()).rules.budget == 500 and prepare(config(budget=7)).rules.budget == 7
    live = EnvironmentConfig(PROTOCOL.environment, source="live", space="svm")
    every = EnvironmentConfig(PROTOCOL.environment, space="svm")
    for changes, kind, words in (
        ({"env": live}, InvalidSettingError, "env.source=live contradicts protocol=grpoformer-36"),
        ({"env": every, "split": "test"}, InvalidSettingError, "split=test is not what"),
        ({"agents": ("portfolio",)}, SplitLeakError, "portfolio"),
    ):
        with pytest.raises(kind, match=words):
            prepare(config(**changes))


def test_the_command_plays_every_family_and_reports_all_scenarios(tmp_path: Path, capsys: Any) -> None:
    given = ("agents=[random,default]", "budget=2", "seeds=2", "figures=false", f"output={tmp_path}")
    options = "env.source_options={datasets: [sklearn:iris], workers: 1}"
    arguments = [f"protocol={PROTOCOL.name}", *given, options]
    assert run_command("evaluate", evaluate_job, GROUPS, arguments, HELP) == 0
    playable, left_out = playable_spaces(PROTOCOL)
    text = (tmp_path / "scenarios.md").read_text()
    assert f"{len(playable)} scenarios: {', '.join(sorted(playable))} on sklearn:iris; 2 evaluations" in text
    assert "among: default, random" in text and all(line in text for line in left_out.lines())
    assert text in capsys.readouterr().out
    for name in playable:
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["settings"]["split"] == "all" and result["settings"]["env"]["space"] == name
    # The same command plays nothing again; one family alone goes elsewhere.
    assert run_command("evaluate", evaluate_job, GROUPS, arguments, HELP) == 0
    assert capsys.readouterr().out.count("episodes were played before") == len(playable)


def table(best: dict[str, list[list[list[float]]]]) -> RecordTable:
    """Return records of incumbents by agent, task, repetition and trial."""
    rows = [
        {
            "agent": agent,
            "task": f"custom:{task}",
            "seed": seed,
            "trial": trial + 1,
            "incumbent": value,
            "spent": trial + 1,
        }
        for agent, tasks in best.items()
        for task, seeds in enumerate(tasks)
        for seed, values in enumerate(seeds)
        for trial, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows).assign(run="", source="live", space="svm", dataset="d", regret=np.nan, fidelity=1.0)
    scores = {"score": frame["incumbent"], "metric": frame["incumbent"], "seconds": 1.0, "agent_seconds": 0.0}
    return RecordTable(frame.assign(**scores))


def test_methods_with_other_budgets_are_compared_by_where_they_end() -> None:
    records = ends_of_episodes(
        table(
            {
                "random": [[[0.5, 0.6], [0.5, 0.8]], [[0.2, 0.2], [0.2, 0.2]]],
                "longer": [[[0.5, 0.6, 0.9], [0.5, 0.7, 0.7]], [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]],
            }
        )
    )
    assert sorted(set(records.frame["trial"])) == [1, 2]
    found = scenario_scores(records)
    longer, random = found["longer"], found["random"]
    assert list(found) == ["longer", "random"] and longer.compared == ("longer", "random")
    # 0.8 against 0.7 on the first task, a tie on the second.
    assert (longer.beats_random.value, longer.ties_with_random.value) == (0.5, 0.5)
    assert longer.mean_performance.value == pytest.approx(0.5) and longer.median_performance.value == pytest.approx(0.5)
    assert longer.mean_rank.value == pytest.approx((1.0 + 1.5) / 2) and random.mean_rank.value == pytest.approx(1.75)
    # Best 0.9 and worst 0.5 of the first task; the second has no spread.
    assert longer.regret.value == pytest.approx((0.0 + 0.5) / 2 / 2)
    assert longer.mean_performance.low == pytest.approx(0.45) and longer.mean_performance.high == pytest.approx(0.55)
    assert random.beats_random.low == random.beats_random.high == 0.0
    assert 0.0 == longer.beats_random.low < longer.beats_random.high == 0.5
    with pytest.raises(UnknownNameError, match="rnadom"):
        scenario_scores(records, "rnadom")


def test_a_single_repetition_has_no_interval() -> None:
    found = scenario_scores(table({"random": [[[0.1, 0.2]]], "other": [[[0.1, 0.4]]]}))
    assert found["other"].beats_random.value == 1.0 and np.isnan(found["other"].mean_rank.low)


def test_the_budgets_of_the_paper_have_their_control() -> None:
    spent = {each.method: (each.agent, each.evaluations) for each in entries("paper", 500)}
    assert spent == {
        "random": ("random", 500),
        "tpe": ("tpe", 500),
        "sboa": ("sboa", 500),
        "grpo_paper": ("grpo_paper", 4008),
        "random@4008": ("random", 4008),
    }
    assert {each.evaluations for each in entries("equal", 77)} == {77}
    with pytest.raises(UnknownNameError, match="Did you mean 'equal'"):
        entries("equals", 5)
    with pytest.raises(InvalidSettingError, match="random"):
        entries("equal", 5, ["tpe"])
    with pytest.raises(InvalidSettingError, match="evaluations=1"):
        entries("equal", 1)
    with pytest.raises(InvalidSettingError, match="evaluations=4008: the others spend less"):
        entries("paper", 4008)


@pytest.mark.parametrize(
    ("source", "space", "fidelities"), [("synthetic", "bbob-2d", False), ("bundled", "lcbench", True)]
)
def test_the_budget_of_grpoformer_is_spent_to_the_evaluation(source: str, space: str, fidelities: bool) -> None:
    # From 2,048 on float32 cannot tell a budget from a little less.
    suite = load_suite(source, space)
    rules: dict[str, Any] = {"action": "continuous", "observation": "flat", "reward": "score"}
    env = HPOVectorEnv(1, suite, split="all", budget=2049, multi_fidelity=fidelities, **rules)
    env.reset(seed=0)
    # The last action of a multi-fidelity environment is the fidelity: the full one.
    action = torch.ones(1, env.single_action_space.shape[0])
    ended = [trial for trial in range(2, 2051) if bool(env.step(action)[2])]
    assert ended == [2049]


def test_the_study_is_played_kept_and_written(tmp_path: Path) -> None:
    who = (Entry("random", "random", 3), Entry("random@5", "random", 5), Entry("grpo_paper", "grpo_paper", 5))
    data = tmp_path / "studies" / "data"
    played = [
        play("svm", budgets, some, 2, tmp_path, options=QUICK)
        for budgets, some in (("paper", who), ("equal", (who[0], Entry("grpo_paper", "grpo_paper", 3))))
    ]
    for budgets, (rows, facts) in zip(("paper", "equal"), played, strict=True):
        table, told = merged(data, rows, budgets, "svm", facts)
        write_results(data, NAME, {NAME: table}, {**told, "missing": {}, **made_with()})
    paper, equal = (rows for rows, _ in played)
    # The longer search begins as the shorter one does.
    short, long = (paper[(paper["method"] == name) & (paper["trial"] <= 2)] for name in ("random", "random@5"))
    assert short["incumbent"].tolist() == long["incumbent"].tolist()
    ends = paper[paper["trial"] == paper["evaluations"]]
    assert ends["test"].between(0.3, 1.0).all() and paper["test"].notna().sum() == len(ends) == 3 * 2
    assert sorted(set(records_of(equal).frame["trial"])) == [1, 2, 3]
    again, _ = play("svm", "paper", who, 2, tmp_path, options=QUICK)
    # Measured times would differ, had anything been played twice.
    assert paper.equals(again)
    (tmp_path / "studies" / PAGE.name).write_text(PAGE.read_text())
    write_page(tmp_path)
    text = (tmp_path / "studies" / PAGE.name).read_text()
    assert "| `random@5` | 5 |" in text and "equal/svm: 3 evaluations instead of 500" in text
    assert "**Paper budgets**, svm (2 repetitions): 1 scenario, `grpo_paper` (5 evaluations" in text
    # Families that were played less often have a table of their own.
    once = equal[equal["seed"] == 0].assign(space="lr")
    table, told = merged(data, once, "equal", "lr", {**played[1][1], "seeds": 1})
    write_results(data, NAME, {NAME: table}, {**told, "missing": {}, **made_with()})
    write_page(tmp_path)
    text = (tmp_path / "studies" / PAGE.name).read_text()
    assert text.count("**lr (1 repetition)**") == text.count("**svm (2 repetitions)**") == 3
    assert f"sklearn {sklearn_version}" in text
    assert "* equal/lr: 1 dataset instead of 6." in text
    # A family that is played anew replaces its rows and leaves the others.
    table, told = merged(data, equal.head(2), "equal", "svm", played[1][1])
    assert len(table) == len(paper) + 2 + len(once) and set(told["played"]) == {"paper/svm", "equal/svm", "equal/lr"}
    assert len(read_results(data, NAME, COMMAND)[0][NAME]) == len(paper) + len(equal) + len(once)


def test_datasets_may_be_played_one_after_another(tmp_path: Path) -> None:
    who = (Entry("random", "random", 3), Entry("grpo_paper", "grpo_paper", 3))
    data = tmp_path / "studies" / "data"
    names = ("sklearn:iris", "sklearn:wine")
    for name in names:
        require_combinable(data, "equal", "svm", who, 1, 120.0, [name])
        rows, facts = play("svm", "equal", who, 1, tmp_path, options={"datasets": [name], "workers": 1})
        table, told = merged(data, rows, "equal", "svm", facts)
        write_results(data, NAME, {NAME: table}, {**told, "missing": {}, **made_with()})
    assert sorted(table["task"].unique()) == [f"custom:{name}" for name in names]
    assert [each["datasets"] for each in told["played"]["equal/svm"]] == [[name] for name in names]
    (tmp_path / "studies" / PAGE.name).write_text(PAGE.read_text())
    write_page(tmp_path)
    text = (tmp_path / "studies" / PAGE.name).read_text()
    assert "2 scenarios" in text and "* equal/svm: 2 datasets instead of 6." in text
    for changed, says in (
        ({"seeds": 2}, "seeds=1 against 2"),
        ({"seconds": 60.0}, "seconds=120.0 against 60.0"),
        ({"who": who[:1]}, "evaluations=.*only the same can be averaged"),
    ):
        given: dict[str, Any] = {"who": who, "seeds": 1, "seconds": 120.0, "datasets": ["sklearn:breast_cancer"]}
        with pytest.raises(InvalidSettingError, match=says):
            require_combinable(data, "equal", "svm", **{**given, **changed})
        # Whoever plays all of them again may change what he likes.
        require_combinable(data, "equal", "svm", **{**given, **changed, "datasets": names})
    # Both at once: neither can be played without the other from then on.
    rows, facts = play("svm", "equal", who, 1, tmp_path, options={"datasets": list(names), "workers": 1})
    table, told = merged(data, rows, "equal", "svm", facts)
    write_results(data, NAME, {NAME: table}, {**told, "missing": {}, **made_with()})
    assert [each["datasets"] for each in told["played"]["equal/svm"]] == [list(names)]
    with pytest.raises(InvalidSettingError, match="sklearn:iris was played together with others"):
        require_combinable(data, "equal", "svm", who, 1, 120.0, ["sklearn:iris"])


def test_what_cannot_be_combined_is_refused_before_anything_is_played(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / PAGE.name).write_text(PAGE.read_text())
    given = ["--documents", str(tmp_path), "--output", str(tmp_path / "played"), "--datasets", "openml"]
    given += ["--evaluations", "3", "--agents", "random", "grpo_paper", "--families"]
    two = ("sklearn:iris", "sklearn:wine")
    for module in (grpoformer_study, grpoformer):
        monkeypatch.setattr(module, "DATASET_SETS", {**DATASET_SETS, "openml": two})
    assert main([*given, "svm", "--seeds", "1"]) == 0
    # One of them is not to be had today: its rows would stay beside others of twice as many repetitions.
    loaded = grpoformer_study.load_grpoformer
    monkeypatch.setattr(
        grpoformer_study, "load_grpoformer", lambda space, datasets: loaded(space, datasets=["sklearn:iris"])
    )
    capsys.readouterr()
    # Nobody played "lr", which comes first.
    assert main([*given, "lr", "svm", "--seeds", "2"]) == 2
    told = capsys.readouterr()
    assert "sklearn:iris was played together with others" in told.err and "lr" not in told.out


def test_the_best_model_of_a_space_with_choices() -> None:
    rules: dict[str, Any] = {"split": "all", "seeds": 2, "budget": 6}
    contender = as_contender(RandomSearch(RandomSearchConfig(), interface_of(shared_tiny_suite()), 0))
    result = evaluate_all([contender], shared_tiny_suite(), Rules(**rules))
    frame = result.records.frame
    last, evaluation = best_models(result, shared_tiny_suite())
    assert evaluation.score.tolist() == pytest.approx(frame["incumbent"].iloc[last].tolist())


def interface_of(suite: Any) -> Interface:
    return Interface.of(HPOVectorEnv(1, suite, split="all", action="continuous", observation="flat", budget=6))


def test_the_best_model_of_an_episode_is_the_one_that_is_tested() -> None:
    comparison = prepare(config(seeds=2, budget=4))
    result = comparison.run().require_complete()
    last, evaluation = best_models(result, comparison.suite)
    frame = result.records.frame
    assert frame["trial"].iloc[last].tolist() == [4, 4]
    assert evaluation.score.tolist() == pytest.approx(frame["incumbent"].iloc[last].tolist())


def test_the_command_of_the_study_says_what_is_wrong(tmp_path: Path, capsys: Any) -> None:
    for given, words in (
        (["--families", "smv"], "Did you mean 'svm'"),
        (["--budgets", "papers"], "Did you mean 'paper'"),
        (["--page", "--documents", str(tmp_path)], "There is no"),
        (["--families", "svm", "--evaluations", "1"], "evaluations=1"),
        (["--families", "svm", "--evaluations", "0"], "evaluations=0"),
    ):
        assert main(given) == 2
        assert words in capsys.readouterr().err


def test_the_published_page_is_what_its_data_say(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    (folder / "data").mkdir(parents=True)
    for path in (PAGE.parent / "data").glob(f"{NAME}*"):
        (folder / "data" / path.name).write_bytes(path.read_bytes())
    (folder / PAGE.name).write_text(PAGE.read_text())
    write_page(tmp_path)
    assert (folder / PAGE.name).read_text() == PAGE.read_text()
