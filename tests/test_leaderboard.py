"""The leaderboard: played in parts, added up, and a page that says what its files say."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.environments import EnvironmentConfig
from agents.leaderboard import BOARDS, Board, main, play
from agents.leaderboard_page import add_results, kept_repetitions, read_curves, tables, write_page
from agents.registry import AGENTS
from hpo_gym.documents import fill_document
from hpo_gym.errors import DataMissingError, InvalidSettingError

DOCS = Path(__file__).parents[1] / "docs"
ENV = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d")
TINY = Board("tiny", "a tiny board", "single-task", ENV, ("random", "local_search"))
TITLES = {"tiny": TINY.title}


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(DOCS / "leaderboard.md", folder)
    cells = tmp_path_factory.mktemp("cells")
    for agent in TINY.agents:
        add_results(folder, play(TINY, agent, range(2), cells, 1))
    return folder


def test_every_baseline_is_on_a_board_of_every_embedded_space():
    untrained = {name for name, entry in AGENTS.items() if not entry.agent.learns}
    # One that is trained within its episode has learned nothing yet when a board's budget is spent.
    classical = untrained - {"hyperband", "asha", "bohb", "grpo_paper"}
    # Nor one that decides how a network is trained, on a board of surrogates.
    classical -= {name for name in classical if AGENTS[name].agent.required_hyperparameters}
    for space in ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest"):
        assert set(BOARDS[space].agents) == classical
    for space in ("rpart", "xgboost", "ranger", "lcbench"):
        assert {"hyperband", "asha", "bohb", "random"} <= set(BOARDS[f"{space}-multi-fidelity"].agents)


def test_the_page_shows_what_was_played(documents):
    write_page(documents, TITLES)
    text = (documents / "leaderboard.md").read_text()
    frame = pd.read_parquet(documents / "leaderboard" / "curves.parquet")
    final = {agent: float(pd.Series([r[-1] for r in part["regret"]]).mean()) for agent, part in frame.groupby("agent")}
    for agent, regret in final.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {agent} |")]
        assert f"{regret:.4f} [" in row
    best = min(final, key=lambda agent: final[agent])
    (strongest,) = [line for line in text.splitlines() if line.startswith("| `tiny` |") and "at" not in line]
    assert strongest.rstrip("| ").split("|")[-1].strip().startswith(f"{best}: {final[best]:.4f}")
    facts = json.loads((documents / "leaderboard" / "facts.json").read_text())
    assert facts["tiny"]["random"]["seeds"] == 2 and facts["tiny"]["random"]["versions"]["packages"]["torch"]


def test_results_of_an_agent_are_replaced_and_those_of_others_stay(documents, tmp_path):
    folder = shutil.copytree(documents, tmp_path / "docs")
    before = pd.read_parquet(folder / "leaderboard" / "curves.parquet")
    add_results(folder, play(TINY, "random", range(3), tmp_path, 1))
    after = pd.read_parquet(folder / "leaderboard" / "curves.parquet")
    assert len(after) == len(before)
    same = [
        all((x == y).all() for x, y in zip(*(t[t["agent"] == agent]["regret"] for t in (before, after)), strict=True))
        for agent in ("local_search", "random")
    ]
    assert same == [True, False]
    assert json.loads((folder / "leaderboard" / "facts.json").read_text())["tiny"]["random"]["seeds"] == 3


def test_repetitions_are_added_to_those_that_are_there(documents, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(BOARDS, "tiny", TINY)
    parts = shutil.copytree(documents, tmp_path / "parts")
    first = read_curves(parts).query("agent == 'local_search'").set_index("task")["regret"]
    second = play(TINY, "local_search", range(2, 5), tmp_path, 1)
    options = ["--boards", "tiny", "--output", str(tmp_path / "other"), "--workers", "1", "--documents"]
    assert main([*options, str(parts), "--agents", "local_search", "--seeds", "5"]) == 0
    assert kept_repetitions(parts, "tiny", "local_search") == 5
    found = read_curves(parts).query("agent == 'local_search'").set_index("task")["regret"]
    for task, regret in zip(second.tasks, second.regret, strict=True):
        np.testing.assert_allclose(found[task], (2 * first[task] + 3 * regret) / 5, rtol=1e-5, atol=1e-7)
    capsys.readouterr()
    # As many as are asked for are there: nothing is played, and nothing changes.
    before = read_curves(parts)
    assert main([*options, str(parts), "--seeds", "2"]) == 0
    assert "regret" not in capsys.readouterr().err
    pd.testing.assert_frame_equal(read_curves(parts), before)
    assert main([*options, str(parts), "--seeds", "2", "--agents", "local_search", "--anew"]) == 0
    assert kept_repetitions(parts, "tiny", "local_search") == 2


def test_seconds_are_measured_anew_and_nothing_else_changes(documents, tmp_path, monkeypatch):
    monkeypatch.setitem(BOARDS, "tiny", TINY)
    folder = shutil.copytree(documents, tmp_path / "docs")
    path = folder / "leaderboard" / "facts.json"
    before = json.loads(path.read_text())
    before["tiny"]["random"]["seconds"] = 1000.0
    path.write_text(json.dumps(before))
    curves = read_curves(folder)
    assert main(["--seconds", "--boards", "tiny", "--agents", "random", "--documents", str(folder)]) == 0
    after = json.loads(path.read_text())
    mine = after["tiny"]["random"]
    assert 0.0 <= mine.pop("seconds") < 100.0 and mine.pop("timed_with")["packages"]["torch"]
    del before["tiny"]["random"]["seconds"]
    assert after == before
    pd.testing.assert_frame_equal(read_curves(folder), curves)


def test_repetitions_on_other_data_are_not_added(documents, tmp_path):
    folder = shutil.copytree(documents, tmp_path / "docs")
    with pytest.raises(InvalidSettingError, match=r"Repetitions 3 to 4 of 'random'.*the 2 of.*--anew"):
        add_results(folder, play(TINY, "random", range(3, 5), tmp_path, 1))
    results = play(TINY, "random", range(2, 4), tmp_path, 1)
    with pytest.raises(InvalidSettingError, match="other data"):
        add_results(folder, dataclasses.replace(results, data={"tiny.json": "0"}))
    with pytest.raises(InvalidSettingError, match="other data, tasks"):
        add_results(folder, dataclasses.replace(results, tasks=("another", *results.tasks[1:])))


def test_repetitions_of_another_version_count_for_nothing(documents, tmp_path, monkeypatch):
    folder = shutil.copytree(documents, tmp_path / "docs")
    assert kept_repetitions(folder, "tiny", "random") == 2
    results = play(TINY, "random", range(2, 4), tmp_path, 1)
    monkeypatch.setattr(AGENTS["random"].agent, "version", 99)
    assert kept_repetitions(folder, "tiny", "random") == 0
    with pytest.raises(InvalidSettingError, match="another version of the method"):
        add_results(folder, results)


def test_agents_of_one_board_played_the_same_tasks(documents, tmp_path):
    folder = shutil.copytree(documents, tmp_path / "docs")
    path = folder / "leaderboard" / "curves.parquet"
    frame = pd.read_parquet(path)
    frame.iloc[1:].to_parquet(path, index=False)
    with pytest.raises(InvalidSettingError, match=r"'tiny'.*--boards tiny"):
        tables(folder, TITLES)["boards"]()
    path.unlink()
    with pytest.raises(DataMissingError, match=r"agents\.leaderboard"):
        tables(folder, TITLES)


def test_the_command_names_what_it_does_not_know(capsys, tmp_path):
    assert main(["--boards", "rprat"]) == 2
    assert "Did you mean 'rpart'" in capsys.readouterr().err
    assert main(["--boards", "rpart", "--agents", "gpp"]) == 2
    assert "Did you mean 'gp'" in capsys.readouterr().err
    assert main(["--page", "--documents", str(tmp_path)]) == 2
    assert "There is no" in capsys.readouterr().err


def test_the_published_page_is_up_to_date():
    text = (DOCS / "leaderboard.md").read_text()
    assert fill_document(text, tables(DOCS, {name: board.title for name, board in BOARDS.items()})) == text
