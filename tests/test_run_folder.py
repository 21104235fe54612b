"""Run folders: nothing is lost or mixed by accident, and damage ends in an error that names the file and a remedy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_runs import SMALL, digest, experiment

import hpo_gym
from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import load_trained, resume_training, run_training
from agents.random_search import RandomSearchConfig
from agents.registry import find_agent
from agents.run_folder import RunFolder, one_trainer
from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError, InvalidSettingError, UnknownNameError


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run with a chosen policy; not to be changed."""
    return run_training(experiment(tmp_path_factory.mktemp("finished"), validate_every=1_000)).path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run with checkpoints and no policy; not to be changed."""
    config = experiment(tmp_path_factory.mktemp("stopped"), validate_every=500)
    return run_training(config, stop_after=1_500).path


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def half(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "half"))


def newest(folder: Path) -> Path:
    return sorted((folder / "checkpoints").glob("*.pt"))[-1]


def change_config(folder: Path, change: Any) -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    change(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def change_file(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_an_existing_run_is_not_overwritten_by_accident(run):
    config = experiment(run.parent, agent=RandomSearchConfig(total_steps=100))
    before = digest(run)
    with pytest.raises(InvalidSettingError, match=f"resume={run}.*overwrite=true"):
        run_training(config)
    assert digest(run) == before


@pytest.mark.parametrize(
    ("agent", "refused"),
    [
        ("grpo", "agent.total_steps=100 is less than"),
        ("grpo_universal", "agent.total_steps=100 is less than"),
        ("sb3_ppo", "total_steps=100 ends before"),
        ("sb3_a2c", "total_steps=100 ends before"),
        ("hyp_rl_faithful", "Set env.reward=delta"),
    ],
)
def test_a_training_that_is_refused_neither_removes_a_run_nor_begins_one(agent, refused, run):
    if agent.startswith("sb3"):
        pytest.importorskip("stable_baselines3")
    settings = {"action": "grid_choice", "observation": "history"} if agent == "hyp_rl_faithful" else {}
    env = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=32, budget=10, **settings)
    least = {"total_steps": 100} if agent != "hyp_rl_faithful" else {}
    config = experiment(run.parent, agent=find_agent(agent).config(**least), env=env, overwrite=True)
    before = digest(run)
    for name in ("run", "new"):
        with pytest.raises(InvalidSettingError, match=refused):
            run_training(replace(config, name=name))
    assert digest(run) == before and not (run.parent / "new").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("with_run", [False, True])
def test_what_no_run_wrote_is_never_removed(run, overwrite, with_run):
    if not with_run:
        shutil.rmtree(run)
        run.mkdir()
        (run / "config.yaml").write_text("of: another project")
    (run / "thesis.tex").write_text("ten years of work")
    with pytest.raises(
        InvalidSettingError, match="already holds a run" if with_run and not overwrite else "thesis.tex"
    ):
        run_training(experiment(run.parent, overwrite=overwrite))
    assert (run / "thesis.tex").read_text() == "ten years of work"
    assert (run / "config.yaml").exists()


def test_a_project_with_a_configuration_of_its_own_is_no_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("of: another project")
    with pytest.raises(InvalidSettingError, match=r"config\.yaml, and is no run folder"):
        run_training(experiment(tmp_path, overwrite=True))
    assert (tmp_path / "run" / "config.yaml").read_text() == "of: another project"
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettingError, match="is a file"):
        run_training(experiment(tmp_path, name="file"))


def test_what_is_left_of_a_run_is_replaced_only_if_asked_and_then_wholly(run):
    (run / "config.yaml").unlink()
    (run / ".policy.pt.123.tmp").write_text("half")
    config = experiment(run.parent, agent=replace(SMALL, total_steps=600))
    with pytest.raises(InvalidSettingError, match=r"left of a run.*overwrite=true"):
        run_training(config)
    folder = run_training(replace(config, overwrite=True), stop_after=500)
    assert not folder.finished, "the old result is there"
    assert [path.name for path in folder.path.glob("checkpoints/*")] == ["step-000000000512.pt"]
    assert not folder.has_policy and not list(folder.path.glob(".*"))
    assert [path.name for path in run.parent.iterdir()] == ["run"], "the old folder or a lock is left"


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "run").mkdir()
    RunFolder.create(tmp_path / "run", experiment(tmp_path).to_mapping(), {}, overwrite=False)
    assert (tmp_path / "run" / "config.yaml").exists()


def test_half_written_files_of_a_killed_process_are_removed(half):
    left = [half / ".policy.pt.123.tmp", half / "checkpoints" / ".step-000000002000.pt.123.tmp"]
    for path in left:
        path.write_bytes(b"half")
    resume_training(half)
    assert not any(path.exists() for path in left)


def test_two_processes_do_not_train_in_one_folder(half):
    with one_trainer(half):
        with pytest.raises(InvalidSettingError, match="Another process is training"):
            resume_training(half)
        with pytest.raises(InvalidSettingError, match="Another process is training"):
            run_training(experiment(half.parent, name="half", overwrite=True))
        assert load_trained(half).agent.steps > 0, "looking at a run is always possible"
    assert resume_training(half).finished
    assert not list(half.parent.glob(".*")), "the lock is left"


DAMAGED_SETTINGS: dict[str, tuple[Any, str]] = {
    "no agent": (lambda values: values.pop("agent"), "'agent' must hold"),
    "agent without name": (lambda values: values["agent"].pop("name"), "'name'"),
    "unknown agent": (lambda values: values["agent"].update(name="dqnn"), "Did you mean 'dqn'"),
    "empty env": (lambda values: values.update(env=None), "'env' must hold"),
    "seed of text": (lambda values: values.update(seed="x"), "seed='x' must be of type int"),
    "seed of truth": (lambda values: values.update(seed=True), "seed=True must be of type int"),
    "rate of text": (lambda values: values["agent"].update(learning_rate="1e-4"), "learning_rate='1e-4'.*float"),
    "number for a list": (lambda values: values["agent"].update(hidden=3), "hidden=3"),
    "text in a list": (lambda values: values["agent"].update(hidden=[3, "x"]), "hidden="),
    "out of range": (lambda values: values["agent"].update(discount=2), "discount=2"),
    "unknown setting": (lambda values: values["agent"].update(learning_rat=1.0), "learning_rate"),
}


@pytest.mark.parametrize("what", DAMAGED_SETTINGS)
def test_damaged_settings_are_named(half, what):
    change, says = DAMAGED_SETTINGS[what]
    change_config(half, change)
    for use in (resume_training, load_trained):
        with pytest.raises(DataIntegrityError, match=says) as raised:
            use(half)
        assert str(half / "config.yaml") in str(raised.value) and "overwrite=true" in str(raised.value)


@pytest.mark.parametrize("text", ["agent: [", "just words", "", "\x00"])
def test_settings_that_are_no_settings_are_named(half, text):
    (half / "config.yaml").write_text(text)
    with pytest.raises(DataIntegrityError, match=r"config\.yaml"):
        resume_training(half)


def test_whole_numbers_pass_for_real_ones_and_settings_come_back(tmp_path):
    values = experiment(tmp_path).to_mapping()
    values["agent"]["discount"] = 1
    assert ExperimentConfig.from_mapping(values) == experiment(tmp_path, agent=replace(SMALL, discount=1.0))
    values["agent"]["learning_rat"] = 1.0
    with pytest.raises(UnknownNameError, match="learning_rate"):
        ExperimentConfig.from_mapping(values)


DAMAGED_POLICIES: dict[str, tuple[Any, str]] = {
    "no interface": (lambda content: content.pop("interface"), "has no interface"),
    "no state": (lambda content: content.pop("state"), "has no state"),
    "nothing": (lambda content: content.clear(), "has no format"),
    "interface of words": (lambda content: content.update(interface="words"), "built for"),
    "interface of another time": (lambda content: content["interface"].pop("levels"), "levels"),
    "empty state": (lambda content: content.update(state={}), "KeyError"),
    "state of words": (lambda content: content.update(state="words"), "TypeError"),
    "datasets of nothing": (lambda content: content.update(training_datasets=None), "TypeError"),
    "another agent": (lambda content: content.update(agent="random"), "'random'"),
    "another format": (lambda content: content.update(format=1), "format 1"),
}


@pytest.mark.parametrize("what", DAMAGED_POLICIES)
def test_a_damaged_policy_is_named(run, what):
    change, says = DAMAGED_POLICIES[what]
    change_file(run / "policy.pt", change)
    with pytest.raises((DataIntegrityError, InvalidSettingError), match=says) as raised:
        load_trained(run)
    message = str(raised.value)
    assert str(run / "policy.pt") in message
    assert "overwrite=true" in message or f"resume={run}" in message


@pytest.mark.parametrize("part", ["state", "environment", "validation", "recorder", "interface"])
@pytest.mark.parametrize("value", [None, [], {}, {"steps": "x"}])
def test_a_damaged_checkpoint_is_named(half, part, value):
    change_file(newest(half), lambda content: content.update({part: value}))
    with pytest.raises(HPOGymError, match=newest(half).name):
        resume_training(half)


def test_a_file_that_is_no_checkpoint_is_named(run, half):
    torch.save([1, 2], run / "policy.pt")
    with pytest.raises(DataIntegrityError, match=r"policy\.pt is no checkpoint of hpo_gym: it holds a list"):
        load_trained(run)
    content = newest(half).read_bytes()
    newest(half).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataIntegrityError, match=f"{newest(half).name} cannot be read.*use the one before"):
        resume_training(half)
    newest(half).unlink()
    newest(half).write_bytes(b"")
    with pytest.raises(DataIntegrityError, match="start the run anew"):
        resume_training(half)


def test_a_changed_network_is_named(run):
    change_config(run, lambda values: values["agent"].update(hidden=[16]))
    with pytest.raises(DataIntegrityError, match=r"does not fit .*config\.yaml.*size mismatch.*Restore"):
        load_trained(run)


@pytest.mark.parametrize(
    ("part", "name", "now"),
    [("agent", "hidden", [16]), ("agent", "discount", 0.5), ("agent", "multi_step", 3), ("env", "num_envs", 8)],
)
def test_a_training_does_not_go_on_with_other_settings(half, part, name, now):
    then = yaml.safe_load((half / "config.yaml").read_text())[part][name]
    change_config(half, lambda values: values[part].update({name: now}))
    with pytest.raises(InvalidSettingError, match=r"other settings than .*config\.yaml has") as caught:
        resume_training(half)
    assert f"({part}.{name}={then!r} then, {now!r} now)" in str(caught.value)


def test_a_training_goes_on_with_its_own_seed_only(half):
    change_config(half, lambda values: values.update(seed=3))
    with pytest.raises(InvalidSettingError, match=r"seed=0 then, 3 now"):
        resume_training(half)


def test_a_training_goes_on_where_only_what_it_keeps_has_changed(half):
    change_config(half, lambda values: values.update(keep_checkpoints=5, log_every=700, threads=2))
    assert resume_training(half).finished


def test_a_checkpoint_of_another_space_is_refused(half):
    change_config(half, lambda values: values["env"].update(space="bbob-3d"))
    with pytest.raises(InvalidSettingError, match="bbob-2d"):
        resume_training(half)


def test_a_folder_without_a_run_is_missing(tmp_path):
    with pytest.raises(DataMissingError, match="no run"):
        resume_training(tmp_path / "nowhere")


def test_no_checkpoint_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    folder = RunFolder.create(tmp_path / "run", experiment(tmp_path).to_mapping(), {}, overwrite=False)
    torch.save({"state": Evil()}, folder.path / "policy.pt")
    with pytest.raises(DataIntegrityError, match="no checkpoint"):
        load_trained(folder.path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("validate_every", [0, 1_000])
def test_a_lost_policy_is_written_again(tmp_path, validate_every):
    folder = run_training(experiment(tmp_path, validate_every=validate_every))
    path = folder.path / "policy.pt"
    kept, before = digest(folder.path), torch.load(path, weights_only=True)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(DataIntegrityError, match=f"Remove it and run `python train.py resume={folder.path}`"):
        load_trained(folder.path)
    path.unlink()
    resume_training(folder.path)
    assert digest(folder.path) == kept
    assert torch.load(path, weights_only=True).keys() == before.keys()
    path.unlink()
    shutil.rmtree(folder.path / "checkpoints")
    for use in (resume_training, load_trained):
        with pytest.raises(DataMissingError, match="overwrite=true"):
            use(folder.path)


def test_the_agent_of_an_unfinished_run_is_the_best_so_far(half):
    saved = torch.load(newest(half), weights_only=True)
    best = saved["validation"]["state"]
    assert best["steps"] <= saved["state"]["steps"]
    change_file(newest(half), lambda content: content["validation"]["state"].update(steps=7))
    assert load_trained(half).agent.steps == 7
    change_file(newest(half), lambda content: content["validation"].update(state=None))
    assert load_trained(half).agent.steps == saved["state"]["steps"]


def test_random_numbers_of_another_device_stop_resuming_but_not_evaluating(half):
    def to_cuda(content: dict[str, Any]) -> None:
        content["validation"]["state"] = None
        # A CUDA generator's state has 16 bytes.
        for name in ("act_draws", "replay_draws"):
            content["state"][name] = torch.zeros(16, dtype=torch.uint8)

    change_file(newest(half), to_cuda)
    assert load_trained(half).agent.steps > 0
    with pytest.raises(InvalidSettingError, match="kind of device"):
        resume_training(half)


def table(path: Path, shift: float) -> None:
    rows = [
        f"{task},{rate},{depth},{0.5 + 0.1 * depth - rate + 0.01 * task + shift}"
        for task in range(8)
        for rate in (0.01, 0.1, 0.2)
        for depth in (1, 2, 3)
    ]
    path.write_text("\n".join(["dataset,lr,depth,accuracy", *rows]))


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    path = tmp_path / "mine.csv"
    table(path, 0.0)
    columns = {"task_column": "dataset", "hyperparameters": ["lr", "depth"], "metrics": ["accuracy"]}
    env = EnvironmentConfig(source="runs", space=str(path), source_options=columns, num_envs=16, budget=5)
    config = experiment(tmp_path, env=env, agent=RandomSearchConfig(total_steps=2_000))
    folder = run_training(config, stop_after=500)
    versions = folder.path / "versions.json"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(versions.read_text())["data"]["sha256"] == {"mine.csv": expected}
    table(path, 0.1)
    with pytest.raises(InvalidSettingError, match=f"data changed.*mine.csv: {expected} then"):
        resume_training(folder.path)
    table(path, 0.0)
    content = versions.read_text()
    for damage in ("", "[]", "{}", '{"data": 3}'):
        versions.write_text(damage)
        with pytest.raises(DataIntegrityError, match=r"versions\.json"):
            resume_training(folder.path)
    versions.write_text(content)
    assert resume_training(folder.path).finished


def test_suites_know_the_checksums_of_their_files(data_folder):
    from hpo_gym.sources.bundle_files import BUNDLE_FOLDER

    for suite, folder in (
        (hpo_gym.load_suite("bundled", "rpart"), BUNDLE_FOLDER),
        (hpo_gym.load_suite("yahpo", "rbv2_rpart"), data_folder),
    ):
        checksums = suite.spec.provenance["sha256"]
        assert len(checksums) >= 2
        for name, expected in checksums.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
