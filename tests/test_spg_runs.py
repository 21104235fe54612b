"""Sequential Policy Gradient in a run folder: its tasks, resuming, results, and the study's command."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import REPOSITORY, arguments, surroundings

from agents import spg_study
from agents.experiment import load_trained
from agents.registry import MODEL_TRAININGS, trainable_names
from agents.spg import SPGSettings
from agents.spg_run import SPGRun, is_spg_run, load_model, resume_spg, run_spg
from agents.spg_settings import LOSSES, SPGConfig, TrainingSettings
from agents.spg_study_methods import REGIMES, Regime, run_cell
from agents.spg_tasks import TASKS, load_task, split_task
from agents.spg_training import ModelTraining, with_replicas
from hpo_gym.errors import DataIntegrityError, InvalidSettingError

QUICK = SPGConfig(task="wine-mlp", pretrain_epochs=2, epochs=6, batch_size=16, checkpoint_every=2)


def assert_same_network(first: Path, second: Path) -> None:
    weights = [load_model(path).state_dict() for path in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_every_task_is_real_split_without_overlap_and_learnable():
    for name in TASKS:
        task = load_task(name)
        data, again, other = split_task(task, 0), split_task(task, 0), split_task(task, 1)
        sizes = [len(targets) for targets in data.targets.values()]
        assert sum(sizes) == len(task.targets)
        assert sizes[0] == pytest.approx(0.5 * sum(sizes), abs=2)
        assert torch.equal(data.inputs["train"], again.inputs["train"])
        assert not torch.equal(data.targets["train"], other.targets["train"])
        for targets in data.targets.values():
            assert len(targets.unique()) == task.classes, "every part has every class"
        settings = TrainingSettings(task=name, pretrain_epochs=1, epochs=1, batch_size=64)
        training = ModelTraining(settings, data, with_replicas(SPGSettings()), seed=0)
        before, parameters = training.measure("train").cross_entropy, len(list(training.model.parameters()))
        training.run_epoch()
        figures = training.run_epoch()
        assert training.measure("train").cross_entropy < before
        assert 0.0 <= figures["stage_3_reached"] <= figures["stage_1_reached"] <= figures["stage_0_reached"] == 1.0
        assert len(list(training.model.parameters())) == parameters
        assert not training.model.head._forward_pre_hooks, "removed after the last epoch"


def test_no_example_is_in_two_parts():
    task = load_task("breast-cancer-mlp")
    numbered = replace(task, inputs=torch.arange(len(task.targets))[:, None].float(), scaled=False)
    parts = [set(values.flatten().tolist()) for values in split_task(numbered, 0).inputs.values()]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(task.targets)
    scaled = split_task(task, 0).inputs["train"]
    torch.testing.assert_close(scaled.mean(0), torch.zeros(30), atol=1e-4, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, loss):
    agent = replace(QUICK, loss=loss)
    whole = run_spg(SPGRun(agent, name="whole", runs=str(tmp_path), tensorboard=False))
    for stop in (1, 5):
        parts = run_spg(SPGRun(agent, name=f"parts{stop}", runs=str(tmp_path), tensorboard=False), stop_after=stop)
        assert not parts.finished
        resume_spg(parts.path)
        assert parts.finished
        assert_same_network(parts.path, whole.path)
        assert (parts.path / "result.json").read_text() == (whole.path / "result.json").read_text()


def test_a_training_and_its_resumption_compute_on_as_many_threads_as_were_set(tmp_path, monkeypatch):
    seen, learn = [], ModelTraining.run_epoch
    monkeypatch.setattr(
        ModelTraining, "run_epoch", lambda training: seen.append(torch.get_num_threads()) or learn(training)
    )
    before = torch.get_num_threads()
    run = run_spg(SPGRun(QUICK, runs=str(tmp_path), tensorboard=False, threads=before + 1), stop_after=1)
    resume_spg(run.path)
    assert seen == [before + 1] * (QUICK.pretrain_epochs + QUICK.epochs)
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    agent = replace(QUICK, epochs=30, checkpoint_every=1)
    # How often it is saved changes nothing.
    seldom = replace(agent, checkpoint_every=100)
    whole = run_spg(SPGRun(seldom, name="whole", runs=str(tmp_path), tensorboard=False))
    given = ["agent=spg", f"runs={tmp_path}", "name=killed", "tensorboard=false"]
    given += [f"agent.{name}={getattr(agent, name)}" for name in ("task", "epochs", "pretrain_epochs", "batch_size")]
    process = subprocess.Popen(
        arguments(*given, "agent.checkpoint_every=1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=surroundings(),
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed").glob("checkpoints/step-*.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert is_spg_run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    folder = resume_spg(tmp_path / "killed")
    assert_same_network(folder.path, whole.path)


def test_a_run_says_what_it_was_and_reached(tmp_path):
    run = SPGRun(QUICK, seed=3, runs=str(tmp_path))
    folder = run_spg(run)
    assert folder.path.name == "spg-wine-mlp-seed3"
    assert SPGRun.from_mapping(folder.config()) == run
    result = json.loads((folder.path / "result.json").read_text())
    assert result["epochs"] == 8 and 0.0 <= result["test_error"] <= 1.0
    assert list((folder.path).glob("events.out.tfevents.*"))
    assert json.loads((folder.path / "versions.json").read_text())["data"]["sha256"].keys() == {"wine-mlp"}
    model = load_model(folder.path)
    assert sum(weight.numel() for weight in model.parameters()) == result["parameters"]
    data = split_task(load_task("wine-mlp"), 3)
    wrong = model(data.inputs["test"]).argmax(1) != data.targets["test"]
    assert float(wrong.double().mean()) == result["test_error"]
    config = folder.path / "config.yaml"
    config.write_text(config.read_text().replace("form: paper", "form: papers"))
    with pytest.raises(DataIntegrityError, match="Did you mean 'paper'"):
        load_model(folder.path)


def test_a_run_begun_with_other_data_is_not_continued(tmp_path):
    folder = run_spg(SPGRun(QUICK, runs=str(tmp_path), tensorboard=False), stop_after=2)
    versions = folder.path / "versions.json"
    versions.write_text(re.sub(r'("wine-mlp": ")[0-9a-f]{64}', r"\g<1>" + "0" * 64, versions.read_text()))
    with pytest.raises(InvalidSettingError, match="The data changed"):
        resume_spg(folder.path)


def test_a_trained_network_is_no_policy(tmp_path):
    assert set(MODEL_TRAININGS) == {"spg"} and "spg" not in trainable_names()
    folder = run_spg(SPGRun(QUICK, runs=str(tmp_path), tensorboard=False), stop_after=1)
    with pytest.raises(InvalidSettingError, match=r"no policy.*env=live_spg"):
        load_trained(folder.path)


def test_the_command_refuses_what_would_have_no_effect(tmp_path, capsys):
    from agents.command_line import run_command
    from train import GROUPS, train

    given = ["agent=spg", f"runs={tmp_path}"]
    assert run_command("train", train, GROUPS, [*given, "env.space=rpart", "log_every=5"]) == 2
    assert re.search(r"env\.space,\s+log_every\s+would\s+have\s+no\s+effect", capsys.readouterr().err)
    assert run_command("train", train, GROUPS, [*given, "agent.taks=wine-mlp"]) == 2
    assert "task" in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())


def test_the_study_measures_every_method_from_the_same_start():
    cell = run_cell("wine-mlp", 0, Regime(1, 1))
    assert cell["spg_released"]["replicas_moved"] == 0.0 < cell["spg_paper"]["replicas_moved"]
    assert cell["dropout_grid"]["seconds"] > cell["dropout_0.20"]["seconds"]
    rates = [cell[name]["validation_error"] for name in ("none", "dropout_0.20", "dropout_0.36", "dropout_0.49")]
    assert cell["dropout_grid"]["validation_error"] == min(rates)
    again = run_cell("wine-mlp", 0, Regime(1, 1))
    assert {name: one["error"] for name, one in cell.items()} == {name: one["error"] for name, one in again.items()}
    assert "start" in cell and "start" not in run_cell("wine-mlp", 0, Regime(0, 1))


@pytest.mark.slow
def test_the_study_s_command_writes_its_page(tmp_path, capsys):
    page = REPOSITORY / "docs" / "studies" / "spg.md"
    (tmp_path / "spg.md").write_text(page.read_text(encoding="utf-8"))
    given = ["--tasks", "wine-mlp", "--seeds", "2", "--epochs", "1", "--documents", str(tmp_path)]
    given += ["--output", str(tmp_path / "cells")]
    assert spg_study.main(given) == 0
    written = (tmp_path / "spg.md").read_text()
    assert "1 task, 2 seeds, 54 results" in written
    assert re.search(r"Does SPG beat as many epochs without it\? No\*\*: of 8 comparisons", written)
    assert re.search(r"\| SPG, released form \| 0 \| 0 \|", written)
    cells = sorted((tmp_path / "cells").iterdir())
    assert len(cells) == 2 * len(REGIMES)
    stamps = [path.stat().st_mtime_ns for path in cells]
    assert spg_study.main(given) == 0
    assert [path.stat().st_mtime_ns for path in cells] == stamps, "what was trained is not trained again"
    capsys.readouterr()
    assert spg_study.main([*given[:1], "wine", *given[2:]]) == 2
    assert "Did you mean 'wine-mlp'" in capsys.readouterr().err
