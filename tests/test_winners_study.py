"""Winners: which configurations they are, how they are scored again, and what the page says of them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.study import write_results
from agents.winners import (
    SURFACE_OPTIMUM,
    Winners,
    beside_genuine_runs,
    score_exactly,
    surface_optimum,
    winners_of,
)
from agents.winners_study import exact_rows, genuine_rows, main
from agents.winners_study_page import GENUINE, NAME, winners_tables
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import Contender, Rules, evaluate_all
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.spaces import Column, SpaceSpec
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.testing.tiny import conditional_suite

DOCS = Path(__file__).resolve().parents[1] / "docs"
SEARCH = OptimumSearch(sobol=128, starts=2, rounds=1, gradient_steps=3, local_candidates=4)


@pytest.fixture(scope="module")
def played():
    """Return a suite with an inactive hyperparameter here and there, and random search on it."""
    suite = conditional_suite()
    suite.known_range = find_known_range(suite, SEARCH)
    width = suite.space.dimension

    def act(observation, mask, draws):
        return torch.rand(len(observation), width, generator=draws)

    contender = Contender("random", "", "continuous", "flat", act)
    return suite, evaluate_all([contender], suite, Rules(split="all", seeds=3, budget=8))


def test_a_winner_is_the_first_best_trial_and_its_own_surface_gives_its_score_again(played):
    suite, result = played
    winners = winners_of(result, (2, 8))
    episodes = 3 * suite.num_tasks
    assert winners.frame["trial"].tolist() == [2] * episodes + [8] * episodes
    records = result.records.frame
    for trial in (2, 8):
        mine = winners.frame[winners.frame["trial"] == trial].set_index(["task", "seed"])
        last = records[records["trial"] == trial].astype({"task": str}).set_index(["task", "seed"]).loc[mine.index]
        assert mine["score"].tolist() == last["incumbent"].tolist()
        assert mine["regret"].tolist() == last["regret"].tolist()
    assert winners.frame[list(suite.space.names)].isna().to_numpy().any(), "no winner has an inactive hyperparameter"
    score, regret = score_exactly(winners, suite)
    np.testing.assert_allclose(score, winners.frame["score"], atol=1e-5)
    np.testing.assert_allclose(regret, winners.frame["regret"], atol=1e-4)
    with pytest.raises(InvalidSettingError, match=r"trial=9 must lie in 1 \.\. 8"):
        winners_of(result, (9,))


def test_the_optimum_of_a_surface_has_no_regret_there(played):
    suite, _ = played
    winners = surface_optimum(suite, [str(task) for task in suite.tasks], (2, 8))
    rows = exact_rows("tiny", winners, suite)
    assert len(rows) == 2 * suite.num_tasks and set(rows["agent"]) == {SURFACE_OPTIMUM}
    np.testing.assert_allclose(rows["exact"], 0.0, atol=1e-4)


def test_a_suite_with_other_hyperparameters_or_ranges_cannot_score(played):
    suite, result = played
    winners = winners_of(result, (8,))
    fewer = dataclasses.replace(winners, hyperparameters=winners.hyperparameters[1:])
    with pytest.raises(InvalidSettingError, match="was fitted to"):
        score_exactly(fewer, suite)
    first = next(column.name for column in winners.hyperparameters if column.is_numeric)
    away = dataclasses.replace(winners, frame=winners.frame.assign(**{first: 1e6}))
    with pytest.raises(InvalidSettingError, match=f"{first}=.* lies outside"):
        score_exactly(away, suite)


@pytest.mark.parametrize("space", ["rpart", "lcbench"])
def test_the_original_scores_known_configurations_as_when_it_is_asked_directly(space, data_folder):
    surface, exact = load_suite("bundled", space), load_suite("yahpo", space, data_dir=str(data_folder))
    u = surface.space.sample(64, generator(3, "test", "winners"))
    tasks = [surface.tasks[index % surface.num_tasks] for index in range(64)]
    configurations = surface.space.to_dicts(u)
    frame = pd.DataFrame(configurations).assign(task=list(map(str, tasks)), score=0.5, regret=0.5)
    winners = Winners(frame, surface.space.spec.columns)
    score, regret = score_exactly(winners, exact)
    given = exact.space.from_dicts(configurations).float()
    position = torch.tensor([exact.position(task) for task in tasks])
    direct = exact.evaluate(position, given, exact.space.active(given)).score
    np.testing.assert_allclose(score, direct, atol=1e-6)
    known = exact.require_range()
    span = (known.best - known.worst)[position].double()
    np.testing.assert_allclose(regret, (known.best[position].double() - direct.double()) / span, atol=1e-4)
    # The surface was fitted to exactly this: it hardly disagrees about which configuration is better.
    ours = surface.evaluate(surface.subset(tasks), u, surface.space.active(u)).score
    assert float(torch.corrcoef(torch.stack([ours.double(), direct.double()]))[0, 1]) > 0.95


def test_genuine_runs_of_the_same_dataset_stand_beside_a_winner():
    columns = (Column("depth", "float", 0.0, 10.0), Column("kind", "categorical", choices=("a", "b")))
    runs = RunTable(
        spec=SpaceSpec(columns, {}),
        task_ids=("7", "5"),
        metrics=("accuracy",),
        task=torch.tensor([0, 0, 0, 1]),
        # A run at 0.5 of the other kind is farther away than one at 0.9 of the same.
        u=torch.tensor([[0.9, 0.25], [0.5, 0.75], [0.0, 0.25], [0.5, 0.25]]),
        values=torch.tensor([[0.7], [0.8], [0.6], [0.99]]),
        dropped=0,
        constants={},
    )
    frame = pd.DataFrame(
        {"agent": "grpo", "task": "openml-task:7", "seed": [0, 1], "trial": 10, "score": [0.75, 0.85], "regret": 0.0}
        | {"depth": [5.0, 5.0], "kind": ["a", "b"]}
    )
    (row,) = genuine_rows("adaboost", Winners(frame, columns), runs).to_dict("records")
    found = [row[name] for name in ("promised", "most", "genuine", "nearest", "seeds")]
    assert found == pytest.approx([0.80, 0.85, 0.80, 0.75, 2])
    with pytest.raises(InvalidSettingError, match="no genuine run on task openml-task:6"):
        beside_genuine_runs(Winners(frame.assign(task="openml-task:6"), columns), runs)


def test_the_tables_say_what_is_left_of_a_gain_and_who_is_promised_too_much(tmp_path):
    assert "Not scored yet: `python -m agents.winners_study`" in winners_tables(tmp_path)
    # Regret by the surface and by the original: of GRPO's gain over random of 0.4, 0.3 are left.
    levels = {"grpo": (0.1, 0.2), "random": (0.5, 0.5), SURFACE_OPTIMUM: (0.0, 0.05)}
    rows = [
        ("rpart", agent, task, trial, *level, 3)
        for agent, level in levels.items()
        for task in ("a", "b", "c")
        for trial in (10, 100)
    ]
    exact = pd.DataFrame(rows, columns=["space", "agent", "task", "trial", "surface", "exact", "seeds"])
    promises = [
        ("adaboost", "grpo", task, trial, 0.9, most, 0.95, 0.85, 10)
        for task, most in (("a", 0.95), ("b", 0.96))
        for trial in (10, 100)
    ]
    names = ["space", "agent", "task", "trial", "promised", "most", "genuine", "nearest", "seeds"]
    tables = {NAME: exact, GENUINE: pd.DataFrame(promises, columns=names)}
    write_results(tmp_path, NAME, tables, {"budget": 100, "versions": {"torch": "2.13"}})
    text = winners_tables(tmp_path)
    assert "| `rpart` | `grpo` | 0.4000, 0.3000 (75%) | 0.4000, 0.3000 (75%) | 0.100, 0.100 |" in text
    assert "| `rpart` | `random` |  |  | 0.000, 0.000 |" in text
    assert re.search(r"\| `random` \| 0\.5000 \[.*\] \| 0\.5000 \[.*\] \| 3/0/0, = 0\.25 \|", text)
    assert "| best known of the surface | 0.0000 [0.0000, 0.0000] | 0.0500 [0.0500, 0.0500] |" in text
    assert "| `adaboost` | `grpo` | 10 | 0.9000 | 0.9500 | 0.0500 [0.0500, 0.0500] | 1 of 2 | 0.8500 |" in text
    assert "Repetitions per dataset: 10 (`grpo`), 3 (`grpo`, `random`); 100 evaluations each" in text


def test_the_page_has_a_place_for_the_tables_and_unknown_names_are_refused(capsys):
    assert re.search(r"<!-- winners:begin -->\n.*<!-- winners:end -->", (DOCS / "studies/grpo.md").read_text(), re.S)
    assert main(["--spaces", "rpat"]) == 2
    assert "Did you mean 'rpart'" in capsys.readouterr().err
    assert main(["--agents", "gprs"]) == 2
    assert "Did you mean 'grpo'" in capsys.readouterr().err
