"""The study of the universal policy: what its page says, and whom it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grpo_cases import TINY

from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import load_trained, run_training
from agents.grpo_universal import UniversalGRPOConfig
from agents.study import write_results
from agents.universal_study import main, play
from agents.universal_study_page import ALONE, NAME, write_page
from hpo_gym.errors import SplitLeakError

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Return a folder with a page of two spaces: in one the policy is best, in the other not at trials 3, 7, 8, 9."""
    (tmp_path / "studies").mkdir()
    shutil.copy(DOCS / "studies" / "universal.md", tmp_path / "studies")
    trials, tasks = np.arange(1, 31), ("a", "b", "c")
    levels = {"random": 0.9, "tpe": 0.6, "gp": 0.5, "averaged_gp": 0.5, "grpo_universal": 0.4, ALONE: 0.7}
    rows = []
    for space in ("rpart", "ranger"):
        for agent, level in levels.items():
            curve = level / trials
            if space == "ranger" and agent == "gp":
                curve[[2, 6, 7, 8]] *= 0.5
            rows += [(space, agent, task, curve.astype("float32")) for task in tasks]
    frame = pd.DataFrame(rows, columns=["space", "agent", "task", "regret"])
    facts = {"seeds": 4, "budget": 30, "versions": {"torch": "2.13"}}
    write_results(tmp_path / "studies" / "data", NAME, {NAME: frame}, facts)
    return tmp_path


def test_the_page_names_the_trials_at_which_a_rival_is_better(documents):
    write_page(documents)
    text = (documents / "studies" / "universal.md").read_text()
    assert "| `rpart` | none | none |" in text
    assert "| `ranger` | 3, 7 to 9 | none |" in text
    assert "in 1 of 2 spaces" in text
    assert "4 repetitions per dataset, 30 evaluations each, root seed 0. torch 2.13." in text
    # Of the best at trial 10, and of a part: 0.4 / 10 against 0.7 / 10 on all three datasets.
    assert "**0.0400 [0.0400, 0.0400]**" in text
    assert "0.0400 against 0.0700 (3/0/0" in text


def test_a_policy_that_knows_the_space_is_refused_and_no_page_is_touched(tmp_path, documents, capsys):
    agent = UniversalGRPOConfig(**TINY | {"total_steps": 64}, spaces=("lcbench",))
    env = {"id": "HPO-SyntheticContinuous-v0", "space": "bbob-2d", "num_envs": 16, "budget": 4}
    rules = {"observation": "history", "reward": "log_regret", "reward_scale": "none"}
    config = ExperimentConfig(
        agent=agent,
        env=EnvironmentConfig(**env, **rules),
        name="without-lcbench",
        runs=str(tmp_path / "runs"),
        validate_every=0,
        tensorboard=False,
    )
    folder = run_training(config).path
    # What it was trained on is that of all its spaces.
    datasets = load_trained(folder).training_datasets
    assert {key.startswith("synthetic") for key in datasets} == {True, False}
    with pytest.raises(SplitLeakError, match="trained on 'lcbench'"):
        play("lcbench", folder, 1, tmp_path / "cells")
    before = (documents / "studies" / "universal.md").read_text()
    given = ["--spaces", "lcbench", "--runs", str(tmp_path / "runs"), "--documents", str(documents)]
    assert main([*given, "--output", str(tmp_path / "cells"), "--seeds", "4"]) == 2
    assert "trained on 'lcbench'" in capsys.readouterr().err
    given[given.index("--documents") + 1 :] = [str(documents), "--seeds", "3"]
    assert main(given) == 2
    assert "--seeds 4" in capsys.readouterr().err
    assert main(["--spaces", "lcbenchh", "--documents", str(documents)]) == 2
    assert "lcbench" in capsys.readouterr().err
    assert (documents / "studies" / "universal.md").read_text() == before
