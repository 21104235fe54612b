"""The study of exploration policies: what it refuses, what it evaluates, and a page that says what its files say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from training_runs import SMALL, curves

from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import run_training
from agents.exploration_settings import EXPLORATIONS
from agents.exploration_study import SPACES, chosen_runs, main
from agents.exploration_study_page import tables, write_page
from agents.exploration_study_results import CURVES, STUDY, Study
from agents.overrides import check_overrides
from agents.study import WALK, play, read_results, regret_rows
from agents.study_runs import find_runs, learning_curve, require_alike
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, SplitLeakError
from hpo_gym.evaluation import regret_curves
from train import GROUPS

DOCS = Path(__file__).parents[1] / "docs" / "studies"
SPACE = "lcbench"
POLICIES = ("epsilon_greedy", "softmax")
WANTED = [(policy, SPACE, seed) for policy in POLICIES for seed in (0, 1)]


def train(folder: Path, policy: str, seed: int) -> None:
    agent = replace(SMALL, total_steps=1_600, exploration=policy)
    config = ExperimentConfig(
        agent=agent,
        env=EnvironmentConfig(space=SPACE, num_envs=32),
        seed=seed,
        name=f"{policy}-{seed}",
        runs=str(folder),
        log_every=400,
        validate_every=800,
        validation_seeds=1,
    )
    run_training(config)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for policy, _, seed in WANTED:
        train(folder, policy, seed)
    return folder


@pytest.fixture(scope="module")
def studied(runs, tmp_path_factory) -> Path:
    """A page of the trained policies."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(DOCS / "exploration.md", folder)
    assert main(arguments(runs, folder)) == 0
    return folder


def arguments(runs: Path, documents: Path, *more: str) -> list[str]:
    places = ["--runs", str(runs), "--documents", str(documents), "--output", str(documents / "cells")]
    return [*places, "--policies", *POLICIES, "--spaces", SPACE, "--seeds", "2", "--repetitions", "2", *more]


def results(policies: dict[str, np.ndarray], spaces: tuple[str, ...] = ("one",)) -> tuple[dict, dict]:
    """Tables and facts of made-up final regrets ``[N, S]`` by policy, the same on all spaces and splits."""
    known = {**policies, "random": np.full_like(next(iter(policies.values())), 0.8)}
    known[WALK] = known["random"] + 0.05
    rows = [
        (policy, space, seed, split, f"task {task:02d}", np.array([0.9, 0.9, 0.9, values[task, seed]], dtype="float32"))
        for policy, values in known.items()
        for space in spaces
        for split in ("train", "test")
        for task in range(values.shape[0])
        for seed in range(values.shape[1])
    ]
    logged = [
        (policy, space, seed, series, [100, 200, 300], np.array([0.3, 0.2, 0.1 + 0.01 * seed], dtype="float32"))
        for policy, values in policies.items()
        for space in spaces
        for seed in range(values.shape[1])
        for series in ("validation", "training", "explored")
    ]
    frames = {
        STUDY: pd.DataFrame(rows, columns=["policy", "space", "seed", "split", "task", "regret"]),
        CURVES: pd.DataFrame(logged, columns=["policy", "space", "seed", "series", "steps", "values"]),
    }
    packages = {"hpo_gym": "1", "torch": "2"}
    facts = {
        "policies": list(policies),
        "spaces": list(spaces),
        "seeds": 10,
        "repetitions": 3,
        "trials": [1, 10, 25, 50],
        "runs": 10,
        "wanted": 10,
        "missing": [],
        "command": "a command",
        "shared": {"agent.total_steps": 1000},
        "exploration": {policy: {} for policy in policies},
        "trained_with": {"torch": ["2"]},
        "evaluated_with": {"packages": packages, "git": None, "python": "3", "system": "Linux", "machine": "x"},
        "data": {space: {"file": "0" * 8} for space in spaces},
    }
    return frames, facts


def made_up(policies: dict[str, np.ndarray], spaces: tuple[str, ...] = ("one",)) -> dict[str, Callable[[], str]]:
    """The makers of the page's tables for made-up results."""
    found, facts = results(policies, spaces)
    return tables(Study(found[STUDY], found[CURVES], facts))


def between(text: str, marker: str) -> str:
    found = re.search(rf"<!-- {marker}:begin -->(.*?)<!-- {marker}:end -->", text, re.DOTALL)
    assert found is not None
    return found[1]


def row_of(table: str, policy: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {policy} |")]
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_results_of_other_policies_are_kept_if_they_were_made_alike(runs, studied, tmp_path, capsys):
    shutil.copytree(studied, tmp_path, dirs_exist_ok=True)
    before, facts = read_results(tmp_path / "data", STUDY, "a command")
    assert main([*arguments(runs, tmp_path, "--keep"), "--policies", "softmax"]) == 0
    after, again = read_results(tmp_path / "data", STUDY, "a command")
    different = {"command", "files"}
    assert {**facts, **dict.fromkeys(different)} == {**again, **dict.fromkeys(different)}
    for name, table in before.items():
        keys = [key for key in ("policy", "space", "seed", "split", "task", "series") if key in table]
        one, other = (each.sort_values(keys, ignore_index=True) for each in (table, after[name]))
        pd.testing.assert_frame_equal(one, other)
    capsys.readouterr()
    assert main([*arguments(runs, tmp_path, "--keep"), "--policies", "softmax", "--repetitions", "1"]) == 2
    assert re.search(r"epsilon_greedy in .* cannot be kept .*repetitions: 2 against 1", capsys.readouterr().err)
    assert main([*arguments(runs, tmp_path), "--policies", "softmax"]) == 0
    assert read_results(tmp_path / "data", STUDY, "a command")[1]["policies"] == ["softmax"]


def test_the_sweep_of_the_page_is_one_that_train_takes():
    text = (DOCS / "exploration.md").read_text()
    (command,) = re.findall(r"python train\.py -m (.*?runs=\S+)", text, re.DOTALL)
    items = command.replace("\\\n", " ").replace("'", "").split()
    checked = check_overrides("train", items, GROUPS, sweep=True)
    assert f"agent.exploration={','.join(EXPLORATIONS)}" in checked
    assert f"env.space={','.join(SPACES)}" in checked and "seed=range(10)" in checked


def test_finished_runs_are_found_without_loading_a_network(runs):
    found = find_runs(runs)
    assert [run.path.name for run in found.finished] == sorted(f"{policy}-{seed}" for policy, _, seed in WANTED)
    assert {(run.space, run.seed) for run in found.finished} == {(SPACE, 0), (SPACE, 1)}
    assert not found.unfinished
    with pytest.raises(DataMissingError, match=r"train\.py"):
        find_runs(runs / "nothing")


def test_whatever_is_missing_is_named(runs, tmp_path, capsys):
    folder = shutil.copytree(runs, tmp_path / "runs")
    (folder / "softmax-1" / "result.json").unlink()
    wanted = [*WANTED, ("noisy", "rpart", 0), ("noisy", "rpart", 1)]
    with pytest.raises(DataMissingError) as raised:
        chosen_runs(folder, wanted)
    message = str(raised.value)
    assert "3 of 6 trainings are missing" in message
    assert "noisy on rpart, seeds 0, 1: not trained" in message
    assert f"softmax on {SPACE}, seed 1: not finished" in message
    assert f"resume={folder / 'softmax-1'}" in message and "--allow-missing" in message
    chosen, missing = chosen_runs(folder, wanted, allow_missing=True)
    assert list(chosen) == WANTED[:3] and len(missing) == 2
    chosen, missing = chosen_runs(folder, WANTED[:1])
    assert list(chosen) == WANTED[:1] and not missing
    assert "softmax-0" in capsys.readouterr().err
    with pytest.raises(DataMissingError, match="no finished run"):
        chosen_runs(folder, wanted[-2:], allow_missing=True)


@pytest.mark.parametrize(
    ("setting", "other", "message"),
    [
        ("discount: 0.98", "discount: 0.5", r"agent\.discount: 0\.98 against 0\.5"),
        ("num_envs: 32", "num_envs: 16", r"env\.num_envs: 32 against 16"),
        # One policy of the study under two settings is two policies.
        ("temperature_end: 0.003", "temperature_end: 0.01", r"agent\.temperature_end: 0\.003 against 0\.01"),
    ],
)
def test_runs_that_differ_otherwise_are_refused(runs, tmp_path, capsys, setting, other, message):
    folder = shutil.copytree(runs, tmp_path / "runs")
    config = folder / "softmax-1" / "config.yaml"
    text = config.read_text()
    assert setting in text
    config.write_text(text.replace(setting, other))
    assert main(arguments(folder, tmp_path)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "softmax-1" in error
    assert not (tmp_path / "data").exists()


def test_a_combination_has_one_run(runs, tmp_path):
    folder = shutil.copytree(runs, tmp_path / "runs")
    with pytest.raises(InvalidSettingError, match=r"agent\.exploration: 'epsilon_greedy' against 'softmax'"):
        require_alike(find_runs(folder).finished, ("seed",))
    shutil.copytree(folder / "softmax-1", folder / "again")
    with pytest.raises(InvalidSettingError, match=f"softmax, {SPACE}, 1: it would count twice"):
        chosen_runs(folder, WANTED)


def test_a_run_is_never_played_on_what_it_was_chosen_by(runs):
    (run, *_) = find_runs(runs).finished
    with pytest.raises(SplitLeakError, match="chosen"):
        play(run.config.env, "val", runs=[run], repetitions=1, budget=5)


def test_regrets_are_averaged_over_repetitions_in_groups(runs):
    (run, *_) = find_runs(runs).finished
    played = play(run.config.env, "test", agents=("random", WALK), repetitions=4, budget=5)
    episodes = regret_curves(played.records).episodes
    rows = regret_rows(played.records, (1, 5), group=2)
    tasks = sorted(set(rows["task"]))
    assert len(rows) == 2 * len(tasks) * 2
    for name in ("random", WALK):
        mine = rows[rows["agent"] == name].sort_values(["task", "group"])
        values = np.stack(list(mine["regret"])).reshape(len(tasks), 2, 2)
        expected = episodes[name].reshape(len(tasks), 2, 2, 5).mean(axis=2)[:, :, [0, 4]]
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    # Both begin with the same configuration, and go on differently.
    assert (episodes["random"][:, :, 0] == episodes[WALK][:, :, 0]).all()
    assert (episodes["random"][:, :, 4] != episodes[WALK][:, :, 4]).any()


def test_the_walk_takes_single_steps(runs):
    (run, *_) = find_runs(runs).finished
    alone = play(run.config.env, "test", agents=(WALK,), repetitions=4, budget=5).records
    together = play(run.config.env, "test", agents=("random", WALK), repetitions=4, budget=5).records
    assert alone.agents == (WALK,)
    np.testing.assert_array_equal(regret_curves(alone).of(WALK), regret_curves(together).of(WALK))


def test_learning_curves_are_those_of_tensorboard(runs):
    (run, *_) = find_runs(runs).finished
    expected = curves(run.path)["validation/regret"]
    assert list(zip(*learning_curve(run, "validation/regret"), strict=True)) == expected and len(expected) >= 2
    with pytest.raises(DataMissingError, match=r"'no/such'.*validation/regret"):
        learning_curve(run, "no/such")


def test_the_page_shows_what_was_evaluated(studied, runs):
    found, facts = read_results(studied / "data", STUDY, "a command")
    assert facts["runs"] == facts["wanted"] == 4 and facts["missing"] == []
    frame, text = found[STUDY], (studied / "exploration.md").read_text()
    assert set(frame["policy"]) == {*POLICIES, "random", WALK}
    assert frame.groupby("policy")["seed"].nunique().to_dict() == dict.fromkeys(sorted({*POLICIES, "random", WALK}), 2)
    shown = between(text, "regret")
    for policy, label in [*((name, f"`{name}`") for name in POLICIES), ("random", "random search")]:
        mine = frame[(frame["policy"] == policy)]
        held_out, training = (mine[mine["split"] == split]["regret"].str[-1].mean() for split in ("test", "train"))
        cells = row_of(shown, label)
        assert cells[4].strip("*").startswith(f"{held_out:.4f} [") and cells[6].startswith(f"{training:.4f} [")
        assert cells[7].startswith(f"{held_out - training:.4f} [")
    # The evaluation of one run by itself says the same.
    run = next(run for run in find_runs(runs).finished if run.path.name == "softmax-1")
    rows = regret_rows(play(run.config.env, "test", runs=[run], repetitions=2, budget=50).records, (50,))
    mine = frame[(frame["policy"] == "softmax") & (frame["seed"] == 1) & (frame["split"] == "test")]
    assert dict(zip(rows["task"], rows["regret"].str[0], strict=True)) == pytest.approx(
        dict(zip(mine["task"], mine["regret"].str[-1], strict=True))
    )
    logged = found[CURVES]
    last = logged[(logged["policy"] == "softmax") & (logged["seed"] == 1) & (logged["series"] == "validation")]
    assert last["values"].iloc[0][-1] == pytest.approx(learning_curve(run, "validation/regret")[1][-1])
    for name in (SPACE, "ranks"):
        assert (studied / "figures" / f"exploration-{name}.png").stat().st_size > 10_000
        assert f"figures/exploration-{name}.png" in text
    assert "Not complete" not in text


def test_the_page_is_made_anew_from_its_files_alone(studied, tmp_path):
    folder = shutil.copytree(studied, tmp_path / "docs")
    shutil.copy(DOCS / "exploration.md", folder)
    shutil.rmtree(folder / "figures")
    assert main(["--page", "--documents", str(folder)]) == 0
    assert (folder / "exploration.md").read_text() == (studied / "exploration.md").read_text()
    figure = f"exploration-{SPACE}.svg"
    assert (folder / "figures" / figure).read_bytes() == (studied / "figures" / figure).read_bytes()
    (folder / "data" / f"{CURVES}.parquet").write_bytes(b"")
    with pytest.raises(DataIntegrityError, match="is another one"):
        write_page(folder)
    shutil.rmtree(folder / "data")
    assert main(["--page", "--documents", str(folder)]) == 2


def test_a_page_with_holes_says_so(runs, tmp_path):
    folder = shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(folder / "softmax-1")
    shutil.copy(DOCS / "exploration.md", tmp_path)
    assert main(arguments(folder, tmp_path)) == 2
    assert not (tmp_path / "data").exists()
    assert main(arguments(folder, tmp_path, "--allow-missing", "--repetitions", "1")) == 0
    text = (tmp_path / "exploration.md").read_text()
    assert "**Not complete.** 3 of 4 trainings" in text and f"softmax on {SPACE}, seed 1: not trained" in text
    assert [row_of(between(text, "regret"), f"`{policy}`")[1] for policy in POLICIES] == ["2", "1"]
    assert json.loads((tmp_path / "data" / "exploration.json").read_text())["missing"]


def test_a_difference_is_claimed_only_if_datasets_and_seeds_agree():
    tasks, seeds = np.linspace(0.1, 0.3, 30)[:, None], np.linspace(-0.02, 0.02, 10)
    base = tasks + 0.0 * seeds
    policies = {
        "epsilon_greedy": base + seeds,
        "softmax": base + seeds + 0.05,
        # As epsilon-greedy, but for luck with one of its ten trainings: below it on every dataset.
        "softmax_scaled": base + seeds + np.where(np.arange(10) == 3, -0.08, 0.001),
    }
    text = made_up(policies)["answers"]()
    assert "`softmax` against `epsilon_greedy`: **higher** (0.2500 against 0.2000; p over datasets" in text
    assert "`softmax_scaled` against `epsilon_greedy`: lower with these networks, but other trainings may" in text
    both, alone = (re.search(rf"Significant {kind}: (.*)\.", text)[1] for kind in ("over datasets and.*?", ".*?alone"))
    assert both == "`softmax_scaled` below `softmax`; `epsilon_greedy` below `softmax`"
    assert alone == "`softmax_scaled` below `epsilon_greedy`"


def test_no_difference_is_called_no_difference():
    draws = np.random.default_rng(0)
    policies = {name: 0.2 + 0.02 * draws.normal(size=(20, 10)) for name in ("epsilon_greedy", "softmax", "noisy")}
    made = made_up(policies)
    text = made["answers"]()
    assert "**no difference** can be claimed" in text and "Significant" not in text
    assert "`softmax` against `epsilon_greedy`: no difference can be claimed" in text
    assert "**" not in made["pairs"]()
    assert row_of(made["regret"](), "`noisy`")[-2].startswith("20/0/0, ")


def test_too_few_units_are_named():
    policies = {"epsilon_greedy": np.full((5, 10), 0.1), "softmax": np.full((5, 10), 0.2)}
    text = made_up(policies)["answers"]()
    assert "With 5 held-out datasets no corrected p can be below 0.062" in text
    assert "higher on these datasets, but other datasets may change that" in text


def test_a_mean_that_a_few_datasets_decide_is_no_win():
    base = np.linspace(0.1, 0.3, 30)[:, None] + np.linspace(-0.01, 0.01, 10)
    worse_but_twice = base + np.linspace(0.01, 0.011, 30)[:, None]
    worse_but_twice[:2] -= 0.3
    text = made_up({"epsilon_greedy": base, "softmax": worse_but_twice})["answers"]()
    assert "`softmax` against `epsilon_greedy`: lower by mean, yet not by ranks" in text
    assert "Lower by mean, yet significantly worse by ranks: `softmax` below `epsilon_greedy`" in text


def test_spaces_count_the_same_and_their_datasets_are_blocks():
    tasks = np.linspace(0.1, 0.3, 30)
    policies = {name: tasks[:, None] + np.zeros(10) + shift for name, shift in (("softmax", 0.0), ("noisy", 0.05))}
    found, facts = results(policies, ("one", "two"))
    frame = found[STUDY]
    # The second space has a third of the datasets, and there policies are the other way round.
    frame = frame[(frame["space"] == "one") | (frame["task"] < "task 10")].reset_index(drop=True)
    flipped = frame["space"].eq("two") & frame["policy"].isin(policies)
    frame.loc[flipped, "policy"] = frame.loc[flipped, "policy"].map({"softmax": "noisy", "noisy": "softmax"})
    made = tables(Study(frame, found[CURVES], facts))
    one, two = tasks.mean(), tasks[:10].mean()
    last = made["pairs"]().split("### All spaces together")[1]
    assert row_of(last, "`softmax`")[1] == f"{(one + two + 0.05) / 2:.4f}"
    assert row_of(last, "`noisy`")[1] == f"{(one + 0.05 + two) / 2:.4f}"
    assert "over 40 pairs of space and held-out dataset" in made["ranks"]()
