"""The command lines of train.py and evaluate.py: sweeps, help, lists, free-form settings and errors."""

from __future__ import annotations

import importlib
import io
import json
import re
import shlex
import sys
from pathlib import Path

import gymnasium as gym
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

import evaluate
import train
from agents.command_line import run_command
from agents.environments import EnvironmentConfig, make_environment, resolved, space_name
from agents.experiment import build
from agents.overrides import Overrides, compose_config
from agents.progress import TrainingDisplay, make_console
from agents.run_folder import RunFolder, as_override, resume_command
from hpo_gym import registered_ids
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator

TINY = [
    "env=synthetic",
    "env.space=bbob-2d",
    "env.num_envs=8",
    "env.budget=6",
    "agent.total_steps=64",
    "agent.hidden=8",
    "agent.learning_starts=16",
    "agent.batch_size=8",
    "agent.buffer_size=64",
    "agent.transitions_per_update=8",
    "validate_every=0",
    "tensorboard=false",
]


def train_command(*arguments: str) -> int:
    return run_command("train", train.train, train.GROUPS, list(arguments), train.HELP)


def compose_container(name, items, groups):
    return OmegaConf.to_container(compose_config(name, items, groups))


def names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/result.json"))


def test_the_jobs_of_a_sweep_have_names_of_their_own(tmp_path):
    arguments = [*TINY, f"runs={tmp_path}", "seed=1", "agent.discount=0.9,0.95", "agent.hidden=[8],[8,8]"]
    assert train_command("-m", *arguments) == 0
    made = names(tmp_path)
    assert len(made) == 4
    assert "dqn-bbob-2d-seed1-agent.hidden_8_8-agent.discount_0.95" in made
    config = RunFolder.open(tmp_path / "dqn-bbob-2d-seed1-agent.hidden_8_8-agent.discount_0.95").config()
    assert (config["seed"], config["agent"]["discount"], config["agent"]["hidden"]) == (1, 0.95, [8, 8])


def test_a_sweep_over_seeds_alone_keeps_the_usual_names_and_a_given_name_is_completed(tmp_path):
    assert train_command("-m", *TINY, f"runs={tmp_path}", "seed=0,1") == 0
    assert names(tmp_path) == ["dqn-bbob-2d-seed0", "dqn-bbob-2d-seed1"]
    assert train_command("-m", *TINY, f"runs={tmp_path / 'b'}", "seed=0,1", "name=mine") == 0
    assert names(tmp_path / "b") == ["mine-seed_0", "mine-seed_1"]
    assert train_command("-m", *TINY, f"runs={tmp_path / 'c'}", "name=x,y") == 0
    assert names(tmp_path / "c") == ["x", "y"]
    assert train_command("-m", *TINY, f"runs={tmp_path / 'd'}", "name=x,y", "seed=0,1") == 0
    assert names(tmp_path / "d") == ["x-seed_0", "x-seed_1", "y-seed_0", "y-seed_1"]


def test_the_jobs_of_a_sweep_of_evaluations_write_to_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = ["agents=random", "env=synthetic", "env.space=bbob-2d", "env.budget=3", "figures=false"]
    given = ["-m", *shared, "seeds=1,2"]
    for more in ([], ["output=out"]):
        assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, [*given, *more]) == 0
    made = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("result.json"))
    assert made == [
        "evaluations/bbob-2d-test-seeds_1",
        "evaluations/bbob-2d-test-seeds_2",
        "out/seeds_1",
        "out/seeds_2",
    ]
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, [*given, "output=a,b"]) == 0
    assert sorted(str(path) for path in tmp_path.glob("[ab]/*")) == [
        str(tmp_path / name / f"seeds_{seeds}") for name in "ab" for seeds in (1, 2)
    ]


def test_jobs_whose_lists_begin_with_one_run_write_to_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        assert train_command(*TINY, f"runs={tmp_path}", f"name=x{seed}", f"seed={seed}") == 0
    given = ["-m", "run=[x0,x1],[x0]", "seeds=1", "figures=false"]
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, given) == 0
    made = sorted(path.parent.name for path in tmp_path.glob("x0/evaluation/*/result.json"))
    assert made == ["bbob-2d-test", "bbob-2d-test-run_x0_x1"]


@pytest.mark.parametrize("name", ["plain-1.x", "with space", "josé", "a(b),c=d", "it's [1] #2 ~", "x$y", "back\\"])
def test_a_printed_folder_is_read_back(name):
    item = as_override("resume", Path("/runs") / name)
    (override,) = OverridesParser.create().parse_overrides([item])
    assert override.value() == f"/runs/{name}" or str(override.value()) == f"/runs/{name}"
    assert shlex.split(resume_command(Path("/runs") / name))[-1] == item


def test_a_folder_of_runs_is_evaluated_and_reported_as_such(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        return run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, ["figures=false", *arguments])

    assert train_command(*TINY, f"runs={tmp_path}", "name=mine") == 0
    monkeypatch.chdir(tmp_path / "mine")
    assert call("run=.", "seeds=1") == 0
    assert "not finished" not in capsys.readouterr().out
    (written,) = tmp_path.glob("mine/evaluation/*/records.parquet")
    assert set(pd.read_parquet(written)["run"]) == {"", "mine"}
    # The run's own result.json is that of its training.
    assert call("report=.") == 2 and "figures would have no effect" in capsys.readouterr().err
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, ["report=."]) == 0
    assert call("report=''") == 2 and "report= names no folder" in capsys.readouterr().err
    (tmp_path / "mine" / "result.json").unlink()
    assert call("run=.", "seeds=1", "overwrite=true") == 0
    assert "not finished, the best policy so far plays: ." in capsys.readouterr().out
    assert json.loads(written.with_name("result.json").read_text())["unfinished_runs"] == ["."]


def test_an_id_beside_a_protocol_is_not_ignored(capsys):
    arguments = ["protocol=openml-transfer", "agents=random", "env.id=HPO-OpenML-v7"]
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, arguments) == 2
    assert "Did you mean 'HPO-OpenML-v0'" in capsys.readouterr().err


def test_tables_of_one_name_are_not_taken_for_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for month, shift in (("jan", 0.0), ("feb", 0.1)):
        rows = [(task, lr, 0.5 + lr * shift + 0.1 * task) for task in range(3) for lr in (0.0, 0.5, 1.0)]
        (tmp_path / month).mkdir()
        pd.DataFrame(rows, columns=["dataset", "lr", "accuracy"]).to_csv(tmp_path / month / "rows.csv", index=False)
    options = "env.source_options={task_column: dataset, hyperparameters: [lr], metrics: [accuracy]}"
    shared = ["agents=random", "env=openml_continuous", "env.source=runs", options, "env.budget=3", "split=all"]
    for month, status in (("jan", 0), ("jan", 0), ("feb", 2)):
        given = [*shared, f"env.space={month}/rows.csv", "seeds=1", "figures=false"]
        assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, given) == status
    assert "env.sha256" in capsys.readouterr().err


def test_a_failed_job_is_one_line_and_the_others_run(tmp_path, capfd):
    assert train_command("-m", *TINY, f"runs={tmp_path}", "agent.discount=0.9,2,0.95") == 2
    message = capfd.readouterr().err
    assert message == "error: agent.discount=2: discount=2.0 must lie in [0, 1].\n"
    assert names(tmp_path) == ["dqn-bbob-2d-seed0-agent.discount_0.9", "dqn-bbob-2d-seed0-agent.discount_0.95"]


def test_a_label_is_fit_for_a_file_name_and_for_the_command_line():
    swept = ("env.space=a/b", "agent.hidden=[64, 32]", "seed=1", "+env.source_options.x='q r'")
    overrides = Overrides(("a=1", *swept), swept)
    assert overrides.keys == ("a", "env.space", "agent.hidden", "seed", "env.source_options.x")
    label = overrides.label(without=("seed",))
    assert label == "env.space_a_b-agent.hidden_64_32-env.source_options.x_q_r"
    first, second = (Overrides((), (f"name={'x' * 300}{end}",)).label() for end in "ab")
    assert first != second and len(first) < 120


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-m", "sed=0,1"], "Did you mean 'seed'"),
        (["--multirun", "agent.discont=0,1"], "Did you mean 'agent.discount'"),
        (["-m", "agent=dqn,rndom"], "Did you mean 'random'"),
        (["-m", "agent=dqn,random", "agent.discount=0.9"], "Unknown setting 'agent.discount'"),
        (["-m", "agent.discount=fast,0.9"], "agent.discount=fast: Value 'fast'"),
        (["-m", "agent.hidden=3,4"], "In a sweep write agent.hidden=[3],[4]; for one list write agent.hidden=[3,4]"),
        (["-m", "seed"], "key=value"),
        (["--cfg", "job", "sed=1"], "Did you mean 'seed'"),
        (["--hlep"], "--help"),
        (["seed=0,1"], "add -m"),
        (["agent=dqn,random"], "add -m"),
        (["agent.hidden=64,32"], "write agent.hidden=[64,32]"),
        (["+foo=1"], "Unknown setting 'foo'"),
        (["++env.x=1"], "Unknown setting 'env.x'"),
        (["env.split.x=1"], "has no part 'x'"),
        (["~seed=1"], "cannot be removed"),
        (["name=a=b"], "pairs of quotes"),
        (["env.space="], "env.space= is empty"),
        (["env.id=HPO-OpenML-v1"], "Did you mean 'HPO-OpenML-v0'"),
        (["env.id=CartPole-v1"], "Unknown environment id 'CartPole-v1'"),
        (["env.id=nowhere:Env-v0"], "env.id=nowhere:Env-v0: the module 'nowhere' cannot be imported"),
        (["env.id=':HPO-OpenML-v0'"], "Unknown environment id ':HPO-OpenML-v0'"),
        (["env.id='json:HPO-OpenML-v1'"], "Did you mean 'HPO-OpenML-v0'"),
        (["env=synthetic", "env.space=bbob-2d", "env.start_configuration={x0:0.1}"], "give start='fixed'"),
        (["env=synthetic", "env.space=bbob-2d", "env.source_options.a=1"], "'a'. Allowed: functions"),
        (["env=synthetic", "env.space=bbob-2d", "runs=/dev/null/x"], "/dev/null/x is a file, or within one"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capfd, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert train_command(*arguments) == 2
    message = capfd.readouterr().err
    assert says in message and message.startswith("error: ") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_lone_value_stands_for_a_list_of_one():
    config = compose_config("evaluate", ["agents=random", "trials=10", "run=runs/5"], evaluate.GROUPS)
    assert (config.agents, config.trials, config.run) == (["random"], [10], ["runs/5"])
    assert compose_config("evaluate", ["run=5"], evaluate.GROUPS).run == ["5"]
    assert compose_config("evaluate", ["agents=null", "trials=[1,2]"], evaluate.GROUPS).trials == [1, 2]
    assert compose_config("train", ["agent.hidden=64"], train.GROUPS).agent.hidden == [64]


@pytest.mark.parametrize("text", ["2026_01_15", "1e3", "007", "true", "-1"])
def test_text_that_looks_like_a_number_stays_as_it_is(text):
    composed = compose_config("train", [f"name={text}", f"env.space={text}"], train.GROUPS)
    assert (composed.name, composed.env.space) == (text, text)
    assert compose_config("evaluate", [f"run={text}"], evaluate.GROUPS).run == [text]
    assert compose_config("train", ["name=null"], train.GROUPS).name is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["env.start_configuration={x0: 4.0}"],
        ["env.start_configuration.x0=4.0"],
        ["+env.start_configuration.x0=4.0"],
    ],
)
def test_free_form_settings_need_no_special_signs(arguments):
    given = ["env=synthetic", "env.space=bbob-2d", "env.start=fixed", "env.source_options={seed: 3}", *arguments]
    composed = compose_container("train", given, train.GROUPS)
    config = build(EnvironmentConfig, composed["env"], "environment setting")
    assert config.start_configuration == {"x0": 4.0}
    env = make_environment(config, num_envs=2)
    _, info = env.reset(seed=0)
    assert env.suite.space.to_dicts(env.state.u)[0]["x0"] == pytest.approx(4.0, abs=0.6)
    assert info["trial"].tolist() == [1, 1]
    assert EnvironmentConfig().arguments() == {"device": "cpu", "reward_scale": "range"}


def test_the_space_of_an_environment_is_known_without_loading_it():
    assert space_name(EnvironmentConfig(id="HPO-Synthetic-v0")) == "bbob-5d"
    assert space_name(EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d")) == "bbob-2d"
    with pytest.raises(UnknownNameError, match="HPO-Synthetic-v0"):
        space_name(EnvironmentConfig(id="HPO-Syntetic-v0"))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Return the name of a module on the path that registers HPO-Imported-v0, and forget both afterwards."""
    (tmp_path / "imported.yaml").write_text(
        "id: HPO-Imported-v0\ndescription: Mine.\nsource: synthetic\nspace: bbob-2d\nepisode: {budget: 6}\n"
    )
    (tmp_path / "my_environments.py").write_text(
        "from pathlib import Path\nimport hpo_gym\nhpo_gym.register_card(Path(__file__).with_name('imported.yaml'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_environments"
    gym.registry.pop("HPO-Imported-v0", None)
    sys.modules.pop("my_environments", None)


def test_an_id_of_a_users_own_is_imported_from_its_module(own_module, tmp_path, capfd):
    name = f"{own_module}:HPO-Imported-v0"
    assert "HPO-Imported-v0" not in registered_ids()
    given = [item for item in TINY if not item.startswith(("env=", "env.space", "env.budget"))]
    assert train_command(*given, f"env.id={name}", f"runs={tmp_path}", "name=own") == 0
    assert registered_ids()[-1] == "HPO-Imported-v0"
    # As in a new process, where nothing has imported the module yet.
    del gym.registry["HPO-Imported-v0"], sys.modules[own_module]
    arguments = [f"run={tmp_path / 'own'}", "seeds=1", "figures=false", f"output={tmp_path / 'out'}"]
    assert run_command("evaluate", evaluate.evaluate, evaluate.GROUPS, arguments) == 0
    assert resolved(EnvironmentConfig(id=name)) == resolved(EnvironmentConfig(id="HPO-Imported-v0"))
    capfd.readouterr()
    assert train_command(f"env.id={own_module}:HPO-Importd-v0") == 2
    assert "Did you mean 'HPO-Imported-v0'" in capfd.readouterr().err


@pytest.mark.parametrize("module", [train, evaluate])
def test_help_names_the_settings_groups_and_how_to_see_all(module, capsys):
    name = module.__name__
    job = getattr(module, name)
    assert run_command(name, job, module.GROUPS, ["--help"], module.HELP) == 0
    text = capsys.readouterr().out
    config = compose_config(name, [], module.GROUPS)
    for key in (str(key) for key in config):
        assert re.search(rf"\b{key}\b", text), key
    for group, options in module.GROUPS.items():
        assert f"{group}=" in text and all(option in text for option in options)
    assert f"python {name}.py" in text and "--cfg job" in text and "Hydra" not in text
    assert max(map(len, text.splitlines())) <= 130


def test_a_group_may_be_chosen_after_its_settings():
    given = ["agent.meta_features=false", "env.budget=7", "agent=sb3_dqn", "env=synthetic"]
    first, last = (compose_container("train", items, train.GROUPS) for items in (given, given[::-1]))
    assert first == last
    assert first["agent"]["meta_features"] is False and first["env"]["id"] == "HPO-Synthetic-v0"


def test_every_setting_can_be_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train_command("--cfg", "job", "agent.hidden=8") == 0
    printed, complaints = capfd.readouterr()
    assert "checkpoint_every: 250000" in printed and "hidden:\n  - 8\n" in printed
    assert complaints == "" and not list(tmp_path.iterdir())


def test_the_order_of_imports_changes_no_default():
    # What a module stores under a name that is taken replaces what was there: the last one imported wins.
    composed = []
    for order in ((train, evaluate), (evaluate, train)):
        for module in order:
            importlib.reload(module)
        composed.append([compose_container(m.__name__, ["env=yahpo"], m.GROUPS) for m in (train, evaluate)])
    assert composed[0] == composed[1]


def test_a_pipe_is_wide_and_a_progress_line_is_one_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console().width == make_console(stderr=True).width == 140
    monkeypatch.setenv("COLUMNS", "70")
    assert make_console().width == 70
    figures = {name: 0.123456 for name in ("validation", "return", "incumbent", "regret", "epsilon", "loss")}
    with TrainingDisplay("dqn on bundled:rpart", 1000) as display:
        display.update(1000, figures)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "loss 0.1235" in printed and len(printed) > 140


def test_a_terminal_of_80_columns_shows_the_bar_and_all_figures():
    figures = {name: 0.123456 for name in ("validation", "return", "incumbent", "regret", "epsilon", "loss")}
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, legacy_windows=False)
    with TrainingDisplay("dqn on bundled:rpart", 1000, console=console) as display:
        display.update(500, figures)
    text = console.file.getvalue()
    assert "dqn on bundled:rpart ━" in text and "50%" in text and "…" not in text
    assert all(name in text for name in figures)


def test_a_seed_is_a_number_from_zero_on():
    with pytest.raises(InvalidSettingError, match="got -1"):
        generator(-1, "anything")
