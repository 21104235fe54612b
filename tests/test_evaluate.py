"""evaluate.py: trained agents and random search on the same held-out tasks."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from rich.console import Console
from training_runs import SMALL

from agents.comparison import ComparisonConfig, compare, env_of_runs, prepare
from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig
from agents.experiment import ExperimentConfig, load_trained, run_training
from agents.random_search import RandomSearch
from agents.registry import AGENTS, RegisteredAgent
from hpo_gym.errors import DataMissingError, InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.evaluation import RecordTable, comparison_table, summarise

ENV = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=32, budget=12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    agent = dataclasses.replace(SMALL, total_steps=1_200, buffer_size=1_000, learning_rate=2e-3)
    made = []
    for seed in (0, 1):
        config = ExperimentConfig(
            agent=agent, env=ENV, seed=seed, runs=str(folder), name=f"s{seed}", validate_every=500
        )
        made.append(run_training(config).path)
    return made


def test_agents_meet_on_the_same_tasks_with_the_same_counter(runs):
    config = ComparisonConfig(runs=tuple(map(str, runs)), env=ENV, seeds=3, budget=12)
    records = compare(config)
    assert records.agents == ("dqn", "random")
    frame = records.frame
    cells = frame.groupby(["agent", "run", "task", "seed"], observed=True)["trial"]
    assert set(cells.max()) == {12} and set(cells.min()) == {1}
    tasks = {agent: set(part["task"]) for agent, part in frame.groupby("agent", observed=True)}
    assert tasks["dqn"] == tasks["random"]
    first = frame[frame["trial"] == 1]
    assert first.groupby(["task", "seed"], observed=True)["score"].nunique().max() == 1, "the starts differ"
    assert set(frame[frame["agent"] == "dqn"]["run"]) == {"s0", "s1"}


def test_a_dataset_that_was_trained_on_is_refused_unless_asked_for(runs):
    config = ComparisonConfig(runs=(str(runs[0]),), env=ENV, split="train", seeds=1, budget=12)
    with pytest.raises(SplitLeakError, match=r"trained on.*allow_leak=true"):
        compare(config)
    assert len(compare(dataclasses.replace(config, allow_leak=True)))


def test_a_policy_is_not_scored_on_the_datasets_that_chose_it_unless_asked_for(runs):
    config = ComparisonConfig(runs=(str(runs[0]),), env=ENV, split="val", seeds=1, budget=12)
    with pytest.raises(SplitLeakError, match=r"was chosen.*split=test.*allow_leak=true"):
        prepare(config)
    chosen = set(load_trained(runs[0]).validation_datasets)
    assert set(compare(dataclasses.replace(config, allow_leak=True)).frame["dataset"]) == chosen


def test_a_policy_is_not_scored_on_another_space(runs):
    other = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-3d", budget=12)
    with pytest.raises(InvalidSettingError, match="bbob-2d"):
        compare(ComparisonConfig(runs=(str(runs[0]),), env=other, seeds=1, budget=12))


def test_a_learning_agent_without_a_run_says_how_to_get_one():
    with pytest.raises(InvalidSettingError, match=r"train\.py agent=dqn"):
        compare(ComparisonConfig(agents=("random", "dqn"), env=ENV, seeds=1, budget=12))
    with pytest.raises(UnknownNameError, match="'random'"):
        compare(ComparisonConfig(agents=("randm",), env=ENV, seeds=1, budget=12))
    with pytest.raises(DataMissingError, match="no run"):
        compare(ComparisonConfig(runs=("/nowhere",), env=ENV, seeds=1, budget=12))


def test_the_environment_of_a_run_is_changed_only_where_asked(runs):
    trained = load_trained(runs[0])
    given = EnvironmentConfig(id="HPO-OpenML-v0", budget=7, levels=4)
    env = env_of_runs(given, [trained], ["budget"])
    assert (env.id, env.budget, env.levels, env.space) == ("HPO-Synthetic-v0", 7, None, "bbob-2d")


def test_the_kept_policy_is_the_best_on_the_validation_split(runs):
    result = json.loads((runs[0] / "result.json").read_text())
    assert result["chosen_after_steps"] <= result["steps"]
    assert 0.0 <= result["validation"] <= 1.0


def evaluate_command(*arguments: str, figures: bool = False) -> int:
    """Run the command; a report takes seconds that most tests need not spend."""
    return report_command(*arguments, f"figures={figures}")


def report_command(*arguments: str) -> int:
    """Run the command with nothing but what is given."""
    import evaluate
    from agents.command_line import run_command

    return run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, list(arguments))


def with_env(run: Path, folder: Path, **changes) -> Path:
    """Copy a run folder, trained on an environment with these settings as far as its configuration says."""
    import yaml

    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["env"] |= changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_command_prints_a_table_and_writes_what_regenerates_it(runs, tmp_path, capsys):
    arguments = [f"run=[{runs[0]},{runs[1]}]", "seeds=2", f"output={tmp_path}", "env.start=random", "env.budget=12"]
    assert evaluate_command(*arguments, figures=True) == 0
    printed = capsys.readouterr().out
    assert "dqn" in printed and "random" in printed
    for name in (
        "figures/regret.png",
        "figures/regret.svg",
        "report.html",
        "table.md",
        "records.parquet",
        "configurations.parquet",
        "result.json",
    ):
        assert (tmp_path / name).stat().st_size > 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["agents"]["dqn"]["runs"] == 2
    table = RecordTable.from_parquet(tmp_path / "records.parquet")
    last = table.frame[(table.frame["trial"] == 12) & (table.frame["agent"] == "random")]
    assert result["agents"]["random"]["regret"]["12"]["mean"] == pytest.approx(last["regret"].mean())
    assert f"{last['regret'].mean():.4f} [" in (tmp_path / "table.md").read_text()
    page = (tmp_path / "report.html").read_bytes()
    assert report_command(f"report={tmp_path}") == 0
    assert (tmp_path / "report.html").read_bytes() == page, "the page again is another one"
    assert not list(tmp_path.glob("*.tmp"))
    recorded = result["settings"]["env"]
    expected = {"id": "HPO-Synthetic-v0", "source": "synthetic", "space": "bbob-2d", "metric": "gap", "split": "test"}
    expected |= {"protocol": "dataset-disjoint", "budget": 12, "start": "random", "device": "cpu"}
    assert {name: recorded[name] for name in expected} == expected


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_table_fits_the_terminal_with_every_number_in_one_piece(runs, width):
    records = compare(ComparisonConfig(env=ENV, runs=(str(runs[0]),), seeds=1, budget=30))
    summary = summarise(records, "random", [1, 10, 20, 30])
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(summary, width))
    text = console.file.getvalue()
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.split()[:1] == ["dqn"]]
    assert row.split()[-1] in {"never", *map(str, range(31))}
    last = summary["agents"]["dqn"]["regret"]["30"]
    assert f"{last['mean']:.4f} [{last['low']:.4f}, {last['high']:.4f}]" in row
    shown = row.count("[")
    assert (shown == 4) == ("Left out" not in " ".join(text.split()))
    assert shown == {60: 1, 80: 2, 100: 2, 140: 4}[width]


def test_a_policy_in_a_renamed_folder_plays_the_same_episodes(runs, tmp_path):
    moved = shutil.copytree(runs[0], tmp_path / "another name")
    config = ComparisonConfig(env=ENV, seeds=2, budget=6)
    first, second = (compare(dataclasses.replace(config, runs=(str(path),))) for path in (runs[0], moved))
    drop = first.reproducible.drop(columns="run")
    assert len(drop) and drop.equals(second.reproducible.drop(columns="run"))
    assert set(second.frame["run"]) == {"", "another name"}


def test_what_is_random_does_not_depend_on_who_takes_part(runs):
    alone = compare(ComparisonConfig(agents=("random",), env=ENV, seeds=1, budget=6)).frame
    both = compare(ComparisonConfig(runs=(str(runs[0]),), env=ENV, seeds=1, budget=6)).frame
    assert (both[both["agent"] == "random"]["score"].to_numpy() == alone["score"].to_numpy()).all()


def test_a_policy_is_evaluated_under_the_protocol_it_was_trained_under(runs, tmp_path):
    run = with_env(runs[0], tmp_path / "per-space", protocol="per-space")
    assert evaluate_command(f"run={run}", "seeds=1", "budget=4", f"output={tmp_path / 'out'}") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["settings"]["env"]["protocol"] == "per-space"


@dataclass(frozen=True)
class OneCornerConfig:
    """Where :class:`OneCorner` goes."""

    place: float = 1.0
    total_steps: int = 16


class OneCorner(RandomSearch):
    """Does not learn, reads only histories, and tries one point again and again."""

    name = "one-corner"
    observation_kinds = ("history",)

    def act(self, observation, mask, draws, explore=False):
        rows = len(observation["score"])
        return torch.full((rows, self.interface.action_dimension), self.config.place)


def test_an_agent_that_does_not_learn_needs_no_run_but_has_the_settings_of_the_one_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(AGENTS, "one-corner", RegisteredAgent(OneCorner, OneCornerConfig))
    continuous = EnvironmentConfig("HPO-SyntheticContinuous-v0", 8, space="bbob-2d", observation="history", budget=4)
    scores = {}
    for place in (1.0, 0.25):
        config = ExperimentConfig(
            agent=OneCornerConfig(place), env=continuous, runs=str(tmp_path), name=f"at-{place}", validate_every=0
        )
        run = run_training(config).path
        records = compare(ComparisonConfig(runs=(str(run),), env=continuous, seeds=1))
        assert records.agents == ("one-corner", "random")
        frame = records.frame[records.frame["agent"] == "one-corner"]
        assert set(frame["run"]) == {f"at-{place}"}
        scores[place] = frame["score"].tolist()
    records = compare(ComparisonConfig(agents=("one-corner",), env=continuous, seeds=1))
    assert records.frame["score"].tolist() == scores[1.0] != scores[0.25]
    assert set(records.frame["run"]) == {""}


def test_a_result_of_other_settings_is_replaced_only_on_request(runs, tmp_path, capsys):
    given = [f"run={shutil.copytree(runs[0], tmp_path / 'run')}", "seeds=1"]
    result = tmp_path / "run" / "evaluation" / "bbob-2d-test" / "result.json"
    assert evaluate_command(*given, "seeds=2") == 0
    first = {path: path.read_bytes() for path in result.parent.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert evaluate_command(*given, "budget=5") == 2
    message = capsys.readouterr().err
    assert f"{result} holds the result of other settings" in message and message.count("\n") == 1
    assert "budget: 12 against 5; seeds: 2 against 1" in message
    assert "output=<folder>" in message and "overwrite=true" in message
    assert {path: path.read_bytes() for path in result.parent.rglob("*") if path.is_file()} == first
    for name in ("env.start=random", "agents=[dqn]", "seed=1"):
        assert evaluate_command(given[0], "seeds=2", name) == 2
        assert name.removesuffix("[dqn]").partition("=")[0] in capsys.readouterr().err
    assert evaluate_command(*given, "budget=5", f"output={tmp_path / 'other'}") == 0
    assert evaluate_command(*given, "budget=5", "overwrite=true") == 0
    assert json.loads(result.read_text())["budget"] == 5


def test_the_same_evaluation_is_written_again_however_it_is_asked_for(runs, tmp_path, monkeypatch):
    shutil.copytree(runs[0], tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert evaluate_command("run=run", "seeds=1", "output=out") == 0
    (tmp_path / "out" / "table.md").unlink()
    same = [f"run={tmp_path / 'run'}", "agents=[random,dqn]", "budget=12", "trials=[12,10,1]", "reference=random"]
    assert evaluate_command(*same, "seeds=1", f"output={tmp_path / 'out'}") == 0
    assert (tmp_path / "out" / "table.md").exists()


def test_a_file_that_is_no_result_of_an_evaluation_is_replaced_only_on_request(runs, tmp_path, capsys):
    output = shutil.copytree(runs[0], tmp_path / "run")
    of_training = (output / "result.json").read_text()
    for content in (of_training, "{", "[]", '{"settings": {}}', '{"settings": {"env": 3}}'):
        (output / "result.json").write_text(content)
        assert evaluate_command(f"run={runs[0]}", "seeds=1", "budget=3", f"output={output}") == 2
        message = capsys.readouterr().err
        assert f"{output / 'result.json'} holds something else" in message and "overwrite=true" in message
        assert (output / "result.json").read_text() == content and not (output / "table.md").exists()
    assert evaluate_command(f"run={runs[0]}", "seeds=1", "budget=3", f"output={output}", "overwrite=true") == 0
    assert json.loads((output / "result.json").read_text())["budget"] == 3


def test_a_policy_of_embedded_data_is_evaluated_on_the_exact_surrogate(data_folder, tmp_path, capsys):
    agent = DQNConfig(64, hidden=(8,), learning_starts=8, batch_size=8, transitions_per_update=8)
    env = EnvironmentConfig(id="HPO-OpenML-v0", space="rpart", num_envs=8, budget=3)
    config = ExperimentConfig(agent=agent, env=env, runs=str(tmp_path), name="rpart", validate_every=0)
    run = run_training(config).path
    exact = ["env.source=yahpo", "env.space=rpart", f"env.data_dir={data_folder}"]
    assert evaluate_command(f"run={run}", "seeds=1", *exact) == 0
    result = json.loads((run / "evaluation" / "rbv2_rpart-test" / "result.json").read_text())
    recorded = result["settings"]["env"]
    assert (recorded["source"], recorded["space"]) == ("yahpo", "rbv2_rpart") and "dqn" in result["agents"]
    assert evaluate_command(f"run={run}", "seeds=1", "env.space=adaboost") == 2
    assert "(trained on rpart, given adaboost: hyperparameters: " in capsys.readouterr().err
    assert evaluate_command(f"run={run}", "seeds=1", "split=train", *exact) == 2
    assert "allow_leak=true" in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_policy_is_evaluated_on_a_graphics_card(runs, tmp_path):
    assert evaluate_command(f"run={runs[0]}", "seeds=1", "env.device=cuda", f"output={tmp_path}") == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["settings"]["env"]["device"].startswith("cuda") and "dqn" in result["agents"]


def test_runs_are_averaged_only_if_they_were_trained_on_the_same_environment(runs, tmp_path, capsys):
    other = with_env(runs[1], tmp_path / "other", levels=4, num_envs=7)
    assert evaluate_command(f"run=[{runs[0]},{other}]") == 2
    message = capsys.readouterr().err
    assert "env.levels: None against 4" in message and "one by one" in message and "num_envs" not in message
    more = with_env(runs[1], tmp_path / "more", budget=20, num_envs=7)
    assert evaluate_command(f"run=[{runs[0]},{more}]") == 2
    assert "env.budget: 12 against 20" in capsys.readouterr().err
    # What a card says, written out, is the same environment; so are the same files in another folder.
    card = gym.spec("HPO-Synthetic-v0").kwargs
    same = with_env(runs[1], tmp_path / "same", start=card.get("start", "default"), source="synthetic")
    assert evaluate_command(f"run=[{runs[0]},{same}]", "seeds=1", f"output={tmp_path / 'one'}") == 0
    output = tmp_path / "out"
    assert evaluate_command(f"run=[{runs[0]},{more}]", "budget=5", "seeds=1", f"output={output}") == 0
    assert json.loads((output / "result.json").read_text())["budget"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["budget=0"], "budget=0 must be an integer >= 1"),
        (["env.split=val"], "so use split=val"),
        (["env.action=continuous"], "env.action=continuous would have no effect: every agent takes the kind"),
        (["env.observation=history"], "env.observation=history would have no effect"),
        (["env.reward=delta"], "what is compared is regret"),
        (["env.reward_scale=none"], "what is compared is regret"),
        (["env.num_envs=4"], "env.num_envs=4 would have no effect"),
        (["env.terminate_on_repeat=true"], "spends the whole budget"),
        (["env.levels=4"], "levels: (10, 10) against (4, 4)"),
        (["env.id=HPO-OpenML-v1"], "Did you mean 'HPO-OpenML-v0'"),
        (["env.space=bbob-3d"], "(trained on bbob-2d, given bbob-3d: hyperparameters: ('x0', 'x1') against"),
        (["seed=-1"], "seed=-1 must be at least 0"),
        (["agents=[]"], "agents=[] names no agent"),
        (["agents=random"], "is a run of 'dqn', which agents=[random] leaves out"),
        (["agents=[random,foo]"], "Unknown agent 'foo'. Did you mean"),
        (["trials=13"], "trials=[13] must name trials in 1 .. 12"),
        (["trials=[]"], "trials=[] must name trials"),
        (["reference=tpe"], "Unknown reference agent 'tpe'"),
        (["output=/dev/null/x"], "/dev/null/x"),
    ],
)
def test_a_wrong_evaluation_of_a_run_ends_in_one_message_before_anything_is_evaluated(
    runs, tmp_path, capsys, monkeypatch, arguments, says
):
    def evaluated(*_: object, **__: object) -> None:
        raise AssertionError("an evaluation began")

    monkeypatch.setattr("agents.comparison.evaluate_all", evaluated)
    monkeypatch.chdir(tmp_path)
    assert evaluate_command(f"run={runs[0]}", *arguments) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir()) and not (runs[0] / "evaluation").exists()


def test_a_run_counts_once(runs, capsys):
    same = runs[1] / ".." / runs[0].name
    assert evaluate_command(f"run=[{runs[0]},{same}]") == 2
    assert "named more than once" in capsys.readouterr().err
    assert evaluate_command("run=[]") == 2
    assert "run=[] names no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["agents=[dqn]"], "needs a trained policy"),
        (["agents=dqn"], "needs a trained policy"),
        (["run=/nowhere/run"], "no run"),
        (["run=5"], "no run in 5"),
        (["output="], "names no folder"),
        (["split=tst"], "Did you mean 'test'"),
        (["seeds=0"], "seeds=0"),
        (["sedes=1"], "Did you mean 'seeds'"),
        (["trials=[99]", "env=synthetic", "env.space=bbob-2d", "seeds=1"], "99"),
        (["reference=tpe", "env=synthetic", "env.space=bbob-2d", "seeds=1"], "Unknown reference agent 'tpe'"),
    ],
)
def test_a_wrong_command_ends_in_one_message(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert evaluate_command(*arguments) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())
