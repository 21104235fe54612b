"""evaluate.py: protocols, methods that play in processes, resuming, and reports of several evaluations."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from training_runs import SMALL

from agents.agnostic_q import AgnosticQConfig
from agents.command_line import run_command
from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from agents.evaluation_folder import records_of_folders
from agents.experiment import ExperimentConfig, load_trained, run_training
from agents.kindred_spaces import names_of_space
from agents.matching_runs import with_matching_runs
from agents.participants import Field
from agents.shipped_policies import load_shipped
from evaluate import GROUPS, HELP
from evaluate import evaluate as evaluate_job
from hpo_gym import load_suite
from hpo_gym.errors import HPOGymError, InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.evaluation import ConfigurationTable, RecordTable
from hpo_gym.evaluation.protocols import PROTOCOLS, find_protocol
from hpo_gym.sources.bundle_files import sha256

RPART = EnvironmentConfig(space="rpart")
SYNTHETIC = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d")


def command(*arguments: str) -> int:
    return run_command("evaluate", evaluate_job, GROUPS, list(arguments), HELP)


def refused(config: ComparisonConfig, kind: type[HPOGymError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        prepare(config)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_every_protocol_is_described():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.description.endswith(".")
    with pytest.raises(UnknownNameError, match="Did you mean 'openml-transfer'"):
        find_protocol("openml-transfre")


def test_a_protocol_decides_splits_budget_and_fidelity():
    transfer = prepare(ComparisonConfig(agents=("random",), env=RPART, protocol="openml-transfer"))
    assert (transfer.rules.budget, transfer.rules.seeds, transfer.rules.protocol) == (50, 5, "dataset-disjoint")
    shorter = prepare(ComparisonConfig(agents=("random",), env=RPART, protocol="openml-transfer", budget=7, seeds=2))
    assert (shorter.rules.budget, shorter.rules.seeds) == (7, 2)
    env = EnvironmentConfig(id=find_protocol("multi-fidelity").environment)
    cheap = prepare(ComparisonConfig(agents=("random", "hyperband"), env=env, protocol="multi-fidelity"))
    assert cheap.rules.settings["multi_fidelity"] is True and cheap.suite.name == "lcbench"


def test_contradictions_of_a_protocol_are_refused():
    disjoint = dataclasses.replace(RPART, protocol="per-space")
    config = ComparisonConfig(agents=("random",), env=disjoint, protocol="openml-transfer")
    refused(config, InvalidSettingError, "env.protocol=per-space contradicts protocol=openml-transfer")
    full = EnvironmentConfig(space="lcbench", multi_fidelity=False)
    refused(dataclasses.replace(config, env=full, protocol="multi-fidelity"), InvalidSettingError, "env.multi_fidelity")
    cheap = EnvironmentConfig(space="lcbench", multi_fidelity=True)
    refused(dataclasses.replace(config, env=cheap), InvalidSettingError, "Use protocol=multi-fidelity")
    refused(ComparisonConfig(agents=("hyperband",), env=RPART), InvalidSettingError, "'hyperband'", "multi-fidelity")


def test_what_a_method_may_know_depends_on_the_protocol(tmp_path):
    for protocol in ("single-task", "openml-zero-shot"):
        config = ComparisonConfig(agents=("random", "portfolio"), env=RPART, protocol=protocol)
        refused(config, SplitLeakError, "'portfolio'", f"protocol={protocol}", "openml-transfer")
    config = ComparisonConfig(agents=("portfolio",), env=RPART, split="train", budget=4)
    refused(config, SplitLeakError, "'portfolio'", "allow_leak=true")
    assert prepare(dataclasses.replace(config, allow_leak=True)).training_evaluations["portfolio"] > 100_000
    env = dataclasses.replace(SYNTHETIC, num_envs=32, budget=12)
    agent = dataclasses.replace(SMALL, total_steps=400, learning_starts=100)
    run = run_training(ExperimentConfig(agent=agent, env=env, name="r", runs=str(tmp_path), validate_every=0)).path
    refused(ComparisonConfig(runs=(str(run),), env=env, protocol="single-task"), SplitLeakError, "was trained")
    other = ComparisonConfig(runs=(str(run),), env=env, protocol="openml-zero-shot")
    refused(other, InvalidSettingError, "bbob-2d", "'synthetic'", "leave out protocol")
    tree = dataclasses.replace(RPART, num_envs=32, budget=12)
    config = ExperimentConfig(agent=agent, env=tree, name="tree", runs=str(tmp_path), validate_every=0)
    trained = ComparisonConfig(runs=(str(run_training(config).path),), env=tree, protocol="openml-zero-shot")
    refused(trained, SplitLeakError, "plays the space it was trained on alone")


def test_a_space_is_the_same_by_whatever_name_it_goes(monkeypatch):
    assert names_of_space("rbv2_ranger@v2") == names_of_space("ranger") == {"ranger", "rbv2_ranger", "rbv2_ranger@v2"}
    assert names_of_space("flow-6970") == {"adaboost", "flow-6970"} and names_of_space("svm") == {"svm"}
    trained = load_shipped("grpo_universal", "rpart")
    monkeypatch.setattr(type(trained.agent), "training_spaces", ("rbv2_rpart",))
    suite = load_suite("bundled", "rpart")
    field = Field(suite, "test", "dataset-disjoint", {}, "other-spaces", "openml-zero-shot", 0, allow_leak=False)
    with pytest.raises(SplitLeakError, match="trained on 'rbv2_rpart', which 'rpart' is another form of"):
        field.require_unseen([trained])


def test_a_policy_that_travels_with_the_repository_is_left_out_by_its_name():
    config = ComparisonConfig(agents=("random", "grpo"), env=RPART, protocol="single-task")
    refused(config, SplitLeakError, "The policy of 'grpo' that travels", r"Leave grpo out of agents=[...]")


def test_no_leak_is_measured_under_a_protocol():
    with pytest.raises(InvalidSettingError, match="allow_leak='no' must be True or False"):
        ComparisonConfig(agents=("random",), env=RPART, allow_leak="no")  # type: ignore[arg-type]
    config = ComparisonConfig(agents=("random",), env=RPART, protocol="openml-transfer", allow_leak=True)
    refused(config, InvalidSettingError, "allow_leak=true", "not protocol=openml-transfer")


def test_a_policy_for_any_space_plays_a_space_that_it_never_saw(tmp_path):
    agent = AgnosticQConfig(total_steps=400, learning_starts=100, batch_size=32, hidden=(16,))
    env = dataclasses.replace(RPART, num_envs=32, budget=8)
    path = run_training(ExperimentConfig(agent=agent, env=env, name="any", runs=str(tmp_path), validate_every=0)).path
    given = {"seeds": 1, "budget": 8, "runs": (str(path),), "protocol": "openml-zero-shot"}
    refused(ComparisonConfig(env=env, **given), SplitLeakError, "trained on 'rpart'")
    trained = load_trained(path).config.env
    other = dataclasses.replace(trained, space="lcbench")
    records = prepare(ComparisonConfig(env=other, **given)).run().require_complete().records.frame
    assert set(records["agent"]) == {"agnostic_q", "random"} and len(records) == 2 * 5 * 8
    cheap = ComparisonConfig(env=other, **given | {"protocol": "multi-fidelity"})
    refused(cheap, InvalidSettingError, "trained without a choice of fidelity", "multi_fidelity=false")


def test_settings_of_methods_are_checked_by_name():
    config = ComparisonConfig(agents=("random", "tpe"), env=RPART, settings={"tpe": {"startup_trials": 20}})
    contender = prepare(config).contenders[1]
    assert contender.fingerprint["settings"]["startup_trials"] == 20
    refused(dataclasses.replace(config, settings={"gp": {}}), UnknownNameError, "'gp'", "agents=[...]")
    wrong = dataclasses.replace(config, settings={"tpe": {"startup_trails": 20}})
    refused(wrong, UnknownNameError, "Did you mean 'startup_trials'")
    refused(
        dataclasses.replace(config, settings={"tpe": {"startup_trials": 0}}), InvalidSettingError, "startup_trials=0"
    )


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory) -> Path:
    """Two evaluations of one protocol: other spaces, the same methods."""
    root = tmp_path_factory.mktemp("evaluations")
    common = ("agents=[random,tpe,local_search]", "env=synthetic", "seeds=2", "budget=6", "figures=false")
    for space, workers in (("bbob-2d", 2), ("bbob-3d", 1)):
        assert command(*common, f"env.space={space}", f"workers={workers}", f"output={root / space}") == 0
    return root


@pytest.mark.slow
def test_an_evaluation_says_what_it_is_made_of(evaluations, capsys):
    folder = evaluations / "bbob-2d"
    result = json.loads((folder / "result.json").read_text())
    assert result["failures"] == [] and result["settings"]["seeds"] == 2 and result["settings"]["protocol"] is None
    assert result["command"].startswith("python evaluate.py ") and "env.space=bbob-2d" in result["command"]
    assert result["versions"]["packages"]["optuna"]
    configurations = ConfigurationTable.from_parquet(folder / "configurations.parquet")
    records = RecordTable.from_parquet(folder / "records.parquet")
    assert len(configurations) == len(records)
    assert [column.name for column in configurations.hyperparameters] == ["x0", "x1"]


def test_the_same_command_plays_nothing_again_and_gives_the_same_records(evaluations, capsys):
    folder = evaluations / "bbob-2d"
    before = RecordTable.from_parquet(folder / "records.parquet")
    common = ("agents=[random,tpe,local_search]", "env=synthetic", "env.space=bbob-2d", "seeds=2", "budget=6")
    assert command(*common, f"output={folder}", "figures=false") == 0
    out = capsys.readouterr().out
    count = before.frame.groupby(["agent", "task", "seed"], observed=True).ngroups
    assert f"{count} episodes were played before" in out
    assert RecordTable.from_parquet(folder / "records.parquet").frame.equals(before.frame)


@pytest.mark.slow
def test_one_report_of_several_evaluations(evaluations, tmp_path, capsys):
    assert command(f"report={evaluations}", f"output={tmp_path}") == 0
    page = (tmp_path / "report.html").read_text()
    assert "synthetic:bbob-2d, synthetic:bbob-3d" in page and "By space" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "the page needs another file"
    for name in ("regret", "ranks", "critical-difference", "spaces", "regret-bbob-2d", "datasets", "profile"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5_000
    capsys.readouterr()
    assert command(f"report={evaluations / 'bbob-3d'}", f"output={tmp_path / 'one'}", "reference=tpe") == 0
    assert "A single run" in (tmp_path / "one" / "report.html").read_text()


def test_a_report_has_what_several_evaluations_share_once(tmp_path, capsys):
    shared = ["env=synthetic", "env.space=bbob-2d", "seeds=2", "budget=6", "figures=false", "workers=1"]
    for folder, agents in (("a", "[random,default]"), ("b", "[random,grid]"), ("c", "[default,grid]")):
        assert command(f"agents={agents}", *shared, f"output={tmp_path / folder}") == 0
    assert command(f"report={tmp_path}", f"output={tmp_path / 'all'}") == 0
    joined = records_of_folders(tmp_path).frame
    assert set(joined["agent"]) == {"random", "default", "grid"}
    assert len(joined) == 1.5 * len(pd.read_parquet(tmp_path / "a" / "records.parquet"))
    path = tmp_path / "b" / "records.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame["agent"] == "random", "score"] *= 0.5
    frame.to_parquet(path)
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    result["files"]["records.parquet"] = sha256(path.read_bytes())
    (tmp_path / "b" / "result.json").write_text(json.dumps(result))
    capsys.readouterr()
    assert command(f"report={tmp_path}") == 2
    assert "both hold episodes of random, and these went otherwise" in capsys.readouterr().err


def test_a_report_refuses_what_cannot_be_joined(evaluations, tmp_path, capsys):
    assert command(f"report={tmp_path}") == 2
    assert "There is no evaluation in" in capsys.readouterr().err
    assert command(f"report={evaluations}", "seeds=3") == 2
    assert "seeds would have no effect" in capsys.readouterr().err
    assert (
        command("agents=random", "env=synthetic", "seeds=1", "budget=6", "figures=false", f"output={tmp_path / 'a'}")
        == 0
    )
    assert (
        command("agents=random", "env=synthetic", "seeds=1", "budget=7", "figures=false", f"output={tmp_path / 'b'}")
        == 0
    )
    capsys.readouterr()
    assert command(f"report={tmp_path}") == 2
    assert "budget: 6 against 7" in capsys.readouterr().err
    # Of one space, but another metric; and what has not finished is not left out.
    rows = [f"{task},{x},{0.1 * x},{1 - 0.01 * x * x}" for task in range(8) for x in range(8)]
    (tmp_path / "mine.csv").write_text("\n".join(["task,x,gap,value", *rows]))
    options = "env.source_options={task_column:task,hyperparameters:[x],metrics:[gap,value]}"
    for metric in ("gap", "value"):
        given = ("agents=random", "env.source=runs", f"env.space={tmp_path / 'mine.csv'}", options, "split=all")
        rules = (f"env.metric={metric}", "seeds=1", "budget=6", "figures=false")
        assert command(*given, *rules, f"output={tmp_path / 'metrics' / metric}") == 0
    capsys.readouterr()
    assert command(f"report={tmp_path / 'metrics'}") == 2
    assert "env.metric: gap against value" in capsys.readouterr().err
    (tmp_path / "metrics" / "gap" / "result.json").unlink()
    assert command(f"report={tmp_path / 'metrics'}") == 2
    assert "gap has not finished: give its command again" in capsys.readouterr().err
    (tmp_path / "metrics" / "value" / "records.parquet").unlink()
    (tmp_path / "metrics" / "gap" / "cells.sqlite").unlink()
    assert command(f"report={tmp_path / 'metrics'}") == 2
    assert "value has a result.json and no records.parquet" in capsys.readouterr().err
    # An agent that lacks a task is a missing cell, and named.
    (tmp_path / "c").mkdir()
    for name in ("records.parquet", "result.json"):
        (tmp_path / "c" / name).write_bytes((evaluations / "bbob-2d" / name).read_bytes())
    result = json.loads((tmp_path / "c" / "result.json").read_text())
    result["failures"] = [{"agent": "tpe", "task": "t", "seed": 1, "episodes": 1, "run": "", "error": "x"}]
    (tmp_path / "c" / "result.json").write_text(json.dumps(result))
    assert command(f"report={tmp_path / 'c'}") == 2
    assert "incomplete" in capsys.readouterr().err
    records = RecordTable.from_parquet(tmp_path / "c" / "records.parquet")
    frame = records.frame[(records.frame["agent"] != "tpe") | (records.frame["seed"] != 1)]
    RecordTable(frame).to_parquet(tmp_path / "c" / "records.parquet")
    (tmp_path / "c" / "result.json").write_text(json.dumps({**result, "failures": []}))
    assert command(f"report={tmp_path / 'c'}") == 2
    assert "records.parquet beside it is another one" in capsys.readouterr().err
    (tmp_path / "c" / "result.json").write_text(json.dumps({**result, "failures": [], "files": {}}))
    assert command(f"report={tmp_path / 'c'}") == 2
    assert "agent 'tpe'" in (message := capsys.readouterr().err) and "seed 1" in message


def test_bad_input_ends_before_anything_is_played(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, says in (
        (("agents=[rnadom]",), "Did you mean 'random'"),
        (("agents=[random]", "protocol=openml"), "'openml'"),
        (("agents=[random]", "workers=0"), "workers=0"),
        (("agents=[random]", "initial_points=50"), "initial_points=50"),
        (("agents=[random]", "initial_points=49"), "initial_points=49"),
        (("agents=[random]", "budget=3", "env.budget=5"), "env.budget=5"),
        (("agents=[tpe]", "settings.tpe=5"), "settings.tpe=5"),
        (("agents=[random]", "protocol=openml-transfer", "split=train"), "split=train"),
        (("agents=[random]", "protocol=openml-transfer", "env=synthetic"), "'synthetic'"),
        (("agents=[random]", "env.space=rpart", "split=tset"), "Did you mean 'test'"),
        (("agents=[portfolio]", "protocol=single-task"), "'portfolio'"),
        (("agents=[hyperband]",), "multi-fidelity"),
        (("agents=[random]", "settings.random.total_steps=0"), "total_steps=0"),
    ):
        assert command(*arguments) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("split", "told"), [("test", True), ("all", False)])
def test_datasets_that_were_named_and_are_not_played_are_told(split, told, tmp_path, capsys):
    source = "env.source_options={datasets: [sklearn:iris, sklearn:wine]}"
    given = ["agents=[random]", "env=live", "env.space=knn", source, f"split={split}", "seeds=1", "budget=2"]
    assert command(*given, "figures=false", f"output={tmp_path}") == 0
    assert ("split=test leaves out sklearn:iris; split=all plays every dataset" in capsys.readouterr().out) == told


def test_policies_of_several_spaces_are_one_agent_in_a_report(tmp_path):
    env = dataclasses.replace(SYNTHETIC, num_envs=32, budget=12)
    agent = dataclasses.replace(SMALL, total_steps=400, learning_starts=100)
    for space in ("bbob-2d", "bbob-3d"):
        for seed in (0, 1):
            own = dataclasses.replace(env, space=space)
            name = f"{space}-{seed}"
            run_training(
                ExperimentConfig(agent=agent, env=own, seed=seed, name=name, runs=str(tmp_path), validate_every=0)
            )
        runs = ",".join(str(tmp_path / f"{space}-{seed}") for seed in (0, 1))
        given = (f"run=[{runs}]", "agents=[random,dqn]", "env=synthetic", f"env.space={space}", "env.budget=12")
        assert command(*given, "seeds=1", "figures=false", f"output={tmp_path / 'joint' / space}") == 0
    assert command(f"report={tmp_path / 'joint'}", f"output={tmp_path / 'page'}") == 0
    tables = [RecordTable.from_parquet(path) for path in sorted((tmp_path / "joint").rglob("records.parquet"))]
    matched = with_matching_runs(RecordTable.concat(tables)).frame
    assert set(matched[matched["agent"] == "dqn"]["run"]) == {"1", "2"}
    alone = with_matching_runs(tables[0]).frame
    assert set(alone[alone["agent"] == "dqn"]["run"]) == {"bbob-2d-0", "bbob-2d-1"}
