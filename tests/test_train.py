"""train.py: run folders, checkpoints, bitwise resumption, and errors a person can act on."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from quick_settings import QUICK
from training_runs import OVERRIDES, SMALL, arguments, command, curves, digest, experiment, surroundings

import evaluate
import train
from agents.command_line import run_command
from agents.environments import ENVIRONMENTS, EnvironmentConfig, make_environment, suited
from agents.experiment import ExperimentConfig, load_trained, resume_training, run_training
from agents.interruption import Interruption
from agents.overrides import compose_config
from agents.portfolio_q import PortfolioQConfig
from agents.random_search import RandomSearchConfig
from agents.run_folder import RunFolder
from agents.validation import Validation
from hpo_gym import registered_ids
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp import EpisodeSettings
from hpo_gym.testing.agent_case import assert_same


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    """A run that nothing interrupted; tests only read it."""
    return run_training(experiment(tmp_path_factory.mktemp("whole")))


def test_a_run_leaves_everything_that_was_decided_and_found(whole):
    folder = whole
    assert folder.finished
    assert ExperimentConfig.from_mapping(folder.config()) == experiment(folder.path.parent)
    versions = json.loads((folder.path / "versions.json").read_text())
    assert versions["packages"]["torch"] == torch.__version__
    assert versions["data"]["suite"] == "synthetic:bbob-2d"
    result = json.loads((folder.path / "result.json").read_text())
    assert result["steps"] >= 3_000
    assert 0.0 <= result["regret"] <= 1.0
    assert len(list((folder.path / "checkpoints").glob("*.pt"))) == 2
    assert not list(folder.path.rglob("*.tmp"))


def test_an_environment_is_suited_to_the_agent_where_nothing_was_said(tmp_path, capsys):
    def chosen(**given: str) -> tuple[str | None, str | None]:
        env = suited(EnvironmentConfig(id="HPO-Synthetic-v0", **given), ("continuous",), ("history", "flat"))
        return env.action, env.observation

    assert chosen() == ("continuous", None), "the card's flat observation will do"
    assert chosen(action="grid_choice", observation="flat") == ("grid_choice", "flat")
    kinds = ("grid_step",), ("history",)
    assert suited(EnvironmentConfig(id="HPO-Synthetic-v0"), *kinds).observation == "history"
    # The run folder says what was played.
    agent = PortfolioQConfig(**QUICK["portfolio_q"] | {"total_steps": 1_000})
    folder = run_training(replace(experiment(tmp_path), agent=agent))
    assert "action=continuous and observation=history" in capsys.readouterr().out
    assert folder.config()["env"]["action"] == "continuous" and folder.config()["env"]["observation"] == "history"
    assert load_trained(folder.path).agent.interface.action == "continuous"
    with pytest.raises(InvalidSettingError, match=r"action='grid_step'.*env\.action=continuous"):
        run_training(
            replace(
                experiment(tmp_path, name="b"), agent=agent, env=replace(experiment(tmp_path).env, action="grid_step")
            )
        )


def test_tensorboard_holds_the_curves(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole.path)).Reload()
    tags = events.Tags()["scalars"]
    assert {"episode/return", "episode/regret", "agent/loss", "agent/epsilon", "time/steps_per_second"} <= set(tags)
    steps = [event.step for event in events.Scalars("episode/return")]
    assert steps == sorted(steps) and len(steps) >= 5


def test_a_stopped_run_resumes_to_the_same_bits_and_reports_what_an_unbroken_one_does(tmp_path, whole):
    first = run_training(experiment(tmp_path), stop_after=1_300)
    assert not first.finished
    assert curves(first.path)["episode/return"][-1][0] < 1_300, "the stop is to fall between two points"
    assert not resume_training(first.path, stop_after=2_700).finished
    assert resume_training(first.path).finished
    assert digest(first.path) == digest(whole.path)
    results = [json.loads((folder.path / "result.json").read_text()) for folder in (whole, first)]
    assert results[0] == results[1]
    assert {"return", "incumbent", "regret", "validation"} <= set(results[0])
    assert curves(whole.path) == curves(first.path)


def test_seeds_differ_and_seed_zero_is_a_seed(tmp_path):
    agent = replace(SMALL, total_steps=800)
    runs = [experiment(tmp_path, name=f"s{i}", seed=i // 2, agent=agent, validate_every=0) for i in range(3)]
    digests = [digest(run_training(run).path) for run in runs]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_and_its_resumption_compute_on_as_many_threads_as_were_set(tmp_path, monkeypatch, threads):
    seen, learn = [], Validation.due
    monkeypatch.setattr(Validation, "due", lambda *given: seen.append(torch.get_num_threads()) or learn(*given))
    before = torch.get_num_threads()
    first = run_training(experiment(tmp_path, threads=threads), stop_after=1_000)
    trained = len(seen)
    resume_training(first.path)
    assert 0 < trained < len(seen) and set(seen) == {threads}
    assert torch.get_num_threads() == before


LONGER = [*OVERRIDES, "agent.total_steps=4000"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The same run in this process: what other processes begin, others again must end alike."""
    runs = tmp_path_factory.mktemp("unbroken")
    return run_training(experiment(runs, agent=replace(SMALL, total_steps=4_000))).path


def begun(runs: Path, pattern: str) -> subprocess.Popen[str]:
    """Start the unbroken run once more and return when there is a file of that kind."""
    process = subprocess.Popen(
        arguments(*LONGER, f"runs={runs}", "name=run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(),
        # A shell that runs the tests in the background makes its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list((runs / "run").glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def assert_same_run(folder: Path, unbroken: Path) -> None:
    assert digest(folder) == digest(unbroken)
    assert (folder / "result.json").read_text() == (unbroken / "result.json").read_text()
    assert curves(folder) == curves(unbroken)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits_as_an_unbroken_one_in_another_process(tmp_path, unbroken):
    process = begun(tmp_path, "checkpoints/step-*.pt")
    process.kill()
    process.communicate()
    assert not (tmp_path / "run" / "result.json").exists()
    resume_training(tmp_path / "run")
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.slow
def test_ctrl_c_keeps_the_run_and_says_how_to_go_on(tmp_path, unbroken):
    process = begun(tmp_path, "events.out.tfevents.*")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"python train.py resume={tmp_path / 'run'}" in out
    assert "again to abort" in err and "Traceback" not in err
    assert not (tmp_path / "run" / "result.json").exists()
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*.pt"))) == 1
    resumed = command(f"resume={tmp_path / 'run'}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"finished: {tmp_path / 'run'}" in resumed.stdout
    assert_same_run(tmp_path / "run", unbroken)


def test_the_first_ctrl_c_asks_and_the_second_one_aborts():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interruption() as interruption:
            assert not interruption.requested
            signal.raise_signal(signal.SIGINT)
            assert interruption.requested
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
        assert not interruption.requested, "whoever ignores Ctrl-C goes on doing so"
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_left_alone_in_another_thread():
    def train() -> object:
        with Interruption():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train).result() is signal.getsignal(signal.SIGINT)


def test_a_run_without_a_checkpoint_starts_anew_and_says_so(tmp_path, capsys, whole):
    folder = run_training(experiment(tmp_path), stop_after=700)
    for path in (folder.path / "checkpoints").glob("*.pt"):
        path.unlink()
    capsys.readouterr()
    resume_training(folder.path)
    assert "no checkpoint yet: starting anew" in capsys.readouterr().out
    assert digest(folder.path) == digest(whole.path)
    assert curves(folder.path) == curves(whole.path), "points of the lost part are shown"


def test_the_kept_policy_is_the_best_measured_one_and_not_the_last(tmp_path):
    folder = run_training(experiment(tmp_path, agent=replace(SMALL, total_steps=4_000), validate_every=400, seed=3))
    result = json.loads((folder.path / "result.json").read_text())
    measured = dict(curves(folder.path)["validation/regret"])
    assert len(measured) >= 10 and len(set(measured.values())) > 1, "nothing to choose from"
    best = min(measured, key=measured.__getitem__)
    assert result["chosen_after_steps"] == best < max(measured)
    assert result["validation"] == pytest.approx(measured[best])
    trained = load_trained(folder.path)
    assert trained.agent.steps == best
    config = trained.config
    validation = Validation(make_environment(config.env), config.validate_every, config.validation_seeds, config.seed)
    assert validation.measure(trained.agent, 0) == pytest.approx(result["validation"], abs=1e-6)


def test_a_finished_run_is_not_trained_again(whole):
    before = (whole.path / "policy.pt").stat().st_mtime_ns
    assert resume_training(whole.path).finished
    assert (whole.path / "policy.pt").stat().st_mtime_ns == before


def test_a_trained_agent_loads_and_knows_its_datasets(tmp_path, whole):
    trained = load_trained(whole.path)
    again = load_trained(whole.path)
    assert_same(trained.agent, again.agent)
    env = make_environment(trained.config.env)
    assert len(trained.training_datasets) == len(env.engine.tasks)
    held_out = make_environment(trained.config.env, split="val")
    assert len(trained.validation_datasets) == len(held_out.engine.tasks)
    assert not set(trained.validation_datasets) & set(trained.training_datasets)
    last = run_training(experiment(tmp_path, agent=replace(SMALL, total_steps=400), validate_every=0))
    assert load_trained(last.path).validation_datasets == (), "no dataset had a part in choosing it"


def test_random_search_runs_through_the_same_folder(tmp_path):
    config = experiment(
        tmp_path,
        agent=RandomSearchConfig(total_steps=800),
        env=EnvironmentConfig(id="HPO-SyntheticContinuous-v0", space="bbob-2d", num_envs=16, budget=10),
    )
    assert run_training(config).finished


def test_every_episode_setting_and_every_id_can_be_configured():
    names = set(EnvironmentConfig.__dataclass_fields__)
    assert set(EpisodeSettings.__dataclass_fields__) <= names
    assert set(ENVIRONMENTS.values()) == set(registered_ids())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["agent=dqnn"], "Did you mean 'dqn'"),
        (["agent=tpe"], "python evaluate.py agents=[tpe]"),
        (["resume="], "names no run"),
        (["threads=0"], "threads=0 must be at least 1"),
        (["agent.lr_rate=1"], "Did you mean 'agent.learning_rate'"),
        (["env=opnml"], "Did you mean 'openml'"),
        (["env.spce=rpart"], "Did you mean 'env.space'"),
        (["sed=1"], "Did you mean 'seed'"),
        (["agent.learning_rate=fast"], "could not be converted to Float"),
        (["agent.discount=2"], "discount=2.0 must lie in [0, 1]"),
        (["agent.total_steps=500", "agent.learning_starts=500"], "nothing would be learned"),
        (["env.split=tst"], "Did you mean 'test'"),
        (["seed"], "key=value"),
        (["resume=/nowhere/at/all"], "no run"),
        (["resume=/nowhere", "seed=1"], "leave out seed"),
        (["agent=dqn", "env=openml_continuous", "env.action=continuous"], "cannot use action='continuous'"),
    ],
)
def test_a_wrong_command_ends_in_one_message(tmp_path, capsys, monkeypatch, given, says):
    monkeypatch.chdir(tmp_path)
    assert run_command("train", train.train, train.GROUPS, given) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message
    assert "Traceback" not in message
    assert not (tmp_path / "runs").exists()


def test_runs_within_a_file_are_refused(tmp_path, capsys):
    (tmp_path / "runs").write_text("no folder")
    assert run_command("train", train.train, train.GROUPS, [*OVERRIDES, f"runs={tmp_path / 'runs'}"]) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert "is a file" in message and "runs=..." in message


def test_a_name_with_a_blank_is_printed_so_that_it_can_be_pasted(tmp_path, capsys):
    given = [*OVERRIDES, f"runs={tmp_path}", "name=my run", "agent.total_steps=600"]
    assert run_command("train", train.train, train.GROUPS, given) == 0
    printed = capsys.readouterr().out
    (command,) = re.findall(r"`python evaluate.py (.*)`", printed)
    assert shlex.split(command) == [f"run={tmp_path / 'my run'}"]
    assert compose_config("evaluate", shlex.split(command), evaluate.GROUPS).run == [str(tmp_path / "my run")]


def test_the_command_line_trains_and_says_where(tmp_path, capsys):
    given = [*OVERRIDES, f"runs={tmp_path}", "name=cli", "agent.total_steps=600"]
    assert run_command("train", train.train, train.GROUPS, given) == 0
    printed = capsys.readouterr().out
    assert f"finished: {tmp_path / 'cli'}" in printed and f"evaluate.py run={tmp_path / 'cli'}" in printed
    assert (tmp_path / "cli" / "policy.pt").exists()
