"""train.py: run folders, checkpoints, bitwise resumption, and errors a person can act on."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from agents.dqn import DQNConfig
from agents.environments import ENVIRONMENTS, EnvironmentConfig, make_environment
from agents.experiment import ExperimentConfig, load_trained, resume_training, run_training
from agents.random_search import RandomSearchConfig
from agents.run_folder import RunFolder
from hpo_gym import registered_ids
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.mdp import EpisodeSettings
from hpo_gym.testing.agent_case import assert_same

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = DQNConfig(
    total_steps=3_000,
    hidden=(32,),
    learning_starts=200,
    batch_size=64,
    transitions_per_update=32,
    buffer_size=1_500,
    learning_rate=1e-3,
)
OVERRIDES = [
    "env=synthetic",
    "env.space=bbob-2d",
    "env.num_envs=16",
    "env.budget=10",
    "agent.total_steps=3000",
    "agent.hidden=[32]",
    "agent.learning_starts=200",
    "agent.batch_size=64",
    "agent.transitions_per_update=32",
    "agent.buffer_size=1500",
    "agent.learning_rate=0.001",
    "checkpoint_every=500",
    "log_every=500",
]


def experiment(runs: Path, **changes) -> ExperimentConfig:
    settings = {
        "agent": SMALL,
        "env": EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=16, budget=10),
        "name": "run",
        "runs": str(runs),
        "checkpoint_every": 500,
        "log_every": 500,
    }
    return ExperimentConfig(**(settings | changes))


def command(*arguments: str, script: str = "train.py", **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / script), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )


def digest(folder: Path) -> str:
    """A hash of the trained network's numbers."""
    state = torch.load(folder / "policy.pt", weights_only=True)["state"]["target"]
    content = hashlib.sha256()
    for name in sorted(state):
        content.update(name.encode() + state[name].numpy().tobytes())
    return content.hexdigest()


def test_a_run_leaves_everything_that_was_decided_and_found(tmp_path):
    folder = run_training(experiment(tmp_path))
    assert folder.finished
    assert ExperimentConfig.from_mapping(folder.config()) == experiment(tmp_path)
    versions = json.loads((folder.path / "versions.json").read_text())
    assert versions["packages"]["torch"] == torch.__version__
    assert versions["data"]["suite"] == "synthetic:bbob-2d"
    result = json.loads((folder.path / "result.json").read_text())
    assert result["steps"] >= 3_000
    assert 0.0 <= result["regret"] <= 1.0
    assert len(list((folder.path / "checkpoints").glob("*.pt"))) == 2
    assert not list(folder.path.rglob("*.tmp"))


def test_tensorboard_holds_the_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run_training(experiment(tmp_path))
    events = EventAccumulator(str(folder.path)).Reload()
    tags = events.Tags()["scalars"]
    assert {"episode/return", "episode/regret", "agent/loss", "agent/epsilon", "time/steps_per_second"} <= set(tags)
    steps = [event.step for event in events.Scalars("episode/return")]
    assert steps == sorted(steps) and len(steps) >= 5


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    whole = run_training(experiment(tmp_path / "whole"))
    first = run_training(experiment(tmp_path / "parts"), stop_after=1_300)
    assert not first.finished
    second = resume_training(first.path)
    assert second.finished
    assert digest(second.path) == digest(whole.path)


def test_seeds_differ_and_seed_zero_is_a_seed(tmp_path):
    digests = [digest(run_training(experiment(tmp_path, name=f"s{i}", seed=i // 2)).path) for i in range(4)]
    assert digests[0] == digests[1] and digests[2] == digests[3]
    assert digests[0] != digests[2]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits_as_an_unbroken_one_in_another_process(tmp_path):
    done = command(*OVERRIDES, f"runs={tmp_path}", "name=whole")
    assert done.returncode == 0, done.stderr
    arguments = [sys.executable, str(REPOSITORY / "train.py"), *OVERRIDES, f"runs={tmp_path}", "name=killed"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*.pt")):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = command(f"resume={tmp_path / 'killed'}")
    assert resumed.returncode == 0, resumed.stderr
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(tmp_path):
    folder = run_training(experiment(tmp_path))
    before = (folder.path / "policy.pt").stat().st_mtime_ns
    assert resume_training(folder.path).finished
    assert (folder.path / "policy.pt").stat().st_mtime_ns == before


def test_an_existing_run_is_not_overwritten_by_accident(tmp_path):
    run_training(experiment(tmp_path))
    with pytest.raises(InvalidSettingError, match="overwrite=true"):
        run_training(experiment(tmp_path))
    run_training(experiment(tmp_path, overwrite=True))


def test_a_trained_agent_loads_and_knows_its_datasets(tmp_path):
    folder = run_training(experiment(tmp_path))
    trained = load_trained(folder.path)
    again = load_trained(folder.path)
    assert_same(trained.agent, again.agent)
    env = make_environment(trained.config.env)
    assert len(trained.training_datasets) == len(env.engine.tasks)


def test_random_search_runs_through_the_same_folder(tmp_path):
    config = experiment(
        tmp_path,
        agent=RandomSearchConfig(total_steps=800),
        env=EnvironmentConfig(id="HPO-SyntheticContinuous-v0", space="bbob-2d", num_envs=16, budget=10),
    )
    assert run_training(config).finished


def test_missing_corrupt_and_foreign_runs_are_refused(tmp_path):
    with pytest.raises(DataMissingError, match="no run"):
        resume_training(tmp_path / "nowhere")
    folder = run_training(experiment(tmp_path), stop_after=1_000)
    newest = sorted((folder.path / "checkpoints").glob("*.pt"))[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataIntegrityError, match=newest.name):
        resume_training(folder.path)
    newest.write_bytes(content)
    (folder.path / "config.yaml").write_text("agent: [")
    with pytest.raises(DataIntegrityError, match=r"config\.yaml"):
        resume_training(folder.path)


def test_a_checkpoint_of_another_space_is_refused(tmp_path):
    import yaml

    folder = run_training(experiment(tmp_path), stop_after=1_000)
    config = folder.config()
    config["env"]["space"] = "bbob-3d"
    (folder.path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InvalidSettingError, match="bbob-2d"):
        resume_training(folder.path)


def test_no_checkpoint_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    folder = RunFolder.create(tmp_path / "run", experiment(tmp_path).to_mapping(), {}, overwrite=False)
    torch.save({"state": Evil()}, folder.path / "policy.pt")
    with pytest.raises(DataIntegrityError, match="no checkpoint"):
        load_trained(folder.path)
    assert not (tmp_path / "owned").exists()


def test_every_episode_setting_and_every_id_can_be_configured():
    names = set(EnvironmentConfig.__dataclass_fields__)
    assert set(EpisodeSettings.__dataclass_fields__) <= names
    assert set(ENVIRONMENTS.values()) == set(registered_ids())


def test_unknown_keys_in_a_saved_configuration_are_named(tmp_path):
    values = experiment(tmp_path).to_mapping()
    values["agent"]["learning_rat"] = 1.0
    with pytest.raises(UnknownNameError, match="learning_rate"):
        ExperimentConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["agent=dqnn"], "Did you mean 'dqn'"),
        (["agent.lr_rate=1"], "Did you mean 'agent.learning_rate'"),
        (["env=opnml"], "Did you mean 'openml'"),
        (["env.spce=rpart"], "Did you mean 'env.space'"),
        (["sed=1"], "Did you mean 'seed'"),
        (["agent.learning_rate=fast"], "could not be converted to Float"),
        (["agent.discount=2"], "discount=2.0 must lie in [0, 1]"),
        (["env.split=tst"], "Did you mean 'test'"),
        (["seed"], "key=value"),
        (["resume=/nowhere/at/all"], "no run"),
        (["resume=/nowhere", "seed=1"], "leave out seed"),
        (["agent=dqn", "env=openml_continuous"], "cannot use action='continuous'"),
    ],
)
def test_a_wrong_command_ends_in_one_message(tmp_path, capsys, monkeypatch, arguments, says):
    import train
    from agents.command_line import run_command

    monkeypatch.chdir(tmp_path)
    assert run_command("train", train.train, train.GROUPS, arguments) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message
    assert "Traceback" not in message
    assert not (tmp_path / "runs").exists()


def test_the_command_line_trains_and_says_where(tmp_path):
    done = command(*OVERRIDES, f"runs={tmp_path}", "name=cli", "agent.total_steps=600")
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout and str(tmp_path / "cli") in done.stdout
    assert (tmp_path / "cli" / "policy.pt").exists()
    wrong = command("agent=dqnn")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") <= 3 and "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_hydra_sweeps_over_seeds(tmp_path):
    done = command("-m", "seed=0,1", *OVERRIDES, "agent.total_steps=400", f"runs={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("dqn-*")) == ["dqn-bbob-2d-seed0", "dqn-bbob-2d-seed1"]
