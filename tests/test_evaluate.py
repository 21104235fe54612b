"""evaluate.py: trained agents and random search on the same held-out tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.comparison import ComparisonConfig, compare, env_of_run
from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig
from agents.experiment import ExperimentConfig, load_trained, run_training
from hpo_gym.errors import DataMissingError, InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.evaluation import RecordTable

ENV = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=32, budget=12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    agent = DQNConfig(
        total_steps=2_500,
        hidden=(32,),
        learning_starts=200,
        batch_size=64,
        transitions_per_update=32,
        buffer_size=2_000,
        learning_rate=2e-3,
    )
    made = []
    for seed in (0, 1):
        config = ExperimentConfig(
            agent=agent, env=ENV, seed=seed, runs=str(folder), name=f"s{seed}", validate_every=1_000
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
    with pytest.raises(SplitLeakError, match="trained on"):
        compare(config)
    import dataclasses

    assert len(compare(dataclasses.replace(config, allow_leak=True)))


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
    env = env_of_run(given, trained, ["budget"])
    assert (env.id, env.budget, env.levels, env.space) == ("HPO-Synthetic-v0", 7, None, "bbob-2d")


def test_the_kept_policy_is_the_best_on_the_validation_split(runs):
    result = json.loads((runs[0] / "result.json").read_text())
    assert result["chosen_after_steps"] <= result["steps"]
    assert 0.0 <= result["validation"] <= 1.0


def test_the_command_prints_a_table_and_writes_what_regenerates_it(runs, tmp_path, capsys):
    import evaluate
    from agents.command_line import run_command

    arguments = [f"run=[{runs[0]},{runs[1]}]", "seeds=2", f"output={tmp_path}", "env.budget=12"]
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, arguments) == 0
    printed = capsys.readouterr().out
    assert "dqn" in printed and "random" in printed
    for name in ("regret.png", "regret.svg", "records.parquet", "result.json"):
        assert (tmp_path / name).stat().st_size > 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["agents"]["dqn"]["runs"] == 2
    table = RecordTable.from_parquet(tmp_path / "records.parquet")
    last = table.frame[(table.frame["trial"] == 12) & (table.frame["agent"] == "random")]
    assert result["agents"]["random"]["regret"]["12"]["mean"] == pytest.approx(last["regret"].mean())
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["agents=[dqn]"], "needs a trained policy"),
        (["run=/nowhere/run"], "no run"),
        (["split=tst"], "Did you mean 'test'"),
        (["seeds=0"], "seeds=0"),
        (["sedes=1"], "Did you mean 'seeds'"),
        (["trials=[99]", "env=synthetic", "env.space=bbob-2d", "seeds=1"], "99"),
        (["reference=tpe", "env=synthetic", "env.space=bbob-2d", "seeds=1"], "Unknown reference agent 'tpe'"),
    ],
)
def test_a_wrong_command_ends_in_one_message(tmp_path, capsys, monkeypatch, arguments, says):
    import evaluate
    from agents.command_line import run_command

    monkeypatch.chdir(tmp_path)
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, arguments) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())
