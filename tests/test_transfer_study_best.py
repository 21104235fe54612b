"""The best Q-agent of each space: chosen on validation datasets, tested against references, measured against others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from agents.study import WALK
from agents.transfer_study_best import best_agents, best_tables, corrected_tests
from agents.transfer_study_episodes import episode_gaps, episode_table
from hpo_gym.errors import DataIntegrityError
from hpo_gym.evaluation.significance import paired_tests

TRIALS, TASKS = [1, 4], 12
FACTS: dict[str, Any] = {"spaces": ["rpart", "lcbench"], "training": {"rpart": 9, "lcbench": 6}, "trials": TRIALS}
#: Mean regret on test and on validation datasets: naf is the best where it counts, and dqn where nobody may look.
LEVELS = {"naf": (0.05, 0.04), "dqn": (0.03, 0.06), "tabular_q": (0.07, 0.05), "random": (0.1, 0.0), WALK: (0.2, 0.0)}
UNTRAINED = ("tabular_q", "random", WALK)


def regrets(split: int, tasks: dict[str, int], levels: dict[str, tuple[float, float]] = LEVELS) -> pd.DataFrame:
    """Made-up regrets of two training seeds; those of all datasets, and better ones of fewer."""
    draws = np.random.Generator(np.random.PCG64(split))
    rows: list[Any] = []
    for space, count in tasks.items():
        names = [name for name in levels if split == 0 or name not in ("random", WALK)]
        for task in range(count):
            level = draws.uniform(0.5, 1.5)
            for agent in names:
                trained, whole = ("", 0) if agent in UNTRAINED else (space, FACTS["training"][space])
                for seed in range(1 if agent in UNTRAINED else 2):
                    final = levels[agent][split] * level * draws.uniform(0.9, 1.1)
                    rows.append((space, agent, trained, whole, seed, f"t{task:02d}", [1.0, final]))
                    if trained:
                        rows.append((space, agent, trained, 1, seed, f"t{task:02d}", [1.0, 0.001]))
    return pd.DataFrame(rows, columns=["space", "agent", "trained_on", "datasets", "seed", "task", "regret"])


def leaderboard(tasks: int = TASKS, agents: tuple[str, ...] = ("tpe", "portfolio", "random")) -> pd.DataFrame:
    # In another order than the study's.
    rows = [
        ("rpart", agent, f"t{task:02d}", np.array([1.0, 0.5, 0.2, 0.02 + 0.01 * task, 0.0], dtype="float32"))
        for agent in agents
        for task in reversed(range(tasks))
    ]
    return pd.DataFrame(rows, columns=["board", "agent", "task", "regret"])


SIZES = {"rpart": TASKS, "lcbench": 5}


def played(levels: dict[str, tuple[float, float]] = LEVELS, sizes: dict[str, int] = SIZES) -> pd.DataFrame:
    """Made-up final regrets of four repetitions, in no order: of two runs each of who was trained."""
    draws = np.random.Generator(np.random.PCG64(2))
    rows = [
        (space, agent, seed, f"t{task:02d}", repetition, level * draws.uniform(0.8, 1.2) + 0.1 * task + seed)
        for space, count in sizes.items()
        for agent, (level, _) in levels.items()
        for seed in range(1 if agent in UNTRAINED else 2)
        for task in range(count)
        for repetition in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["space", "agent", "seed", "task", "repetition", "regret"])
    return frame.sample(frac=1.0, random_state=0)


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return regrets(0, SIZES)


@pytest.fixture(scope="module")
def chosen(measured):
    return best_agents(measured, regrets(1, {"rpart": 7, "lcbench": 3}), leaderboard(), FACTS)


def final(frame: pd.DataFrame, agent: str, space: str = "rpart") -> np.ndarray:
    """Final regret by test dataset, means over seeds of who was trained on everything."""
    mine = frame[(frame["agent"] == agent) & (frame["space"] == space) & (frame["datasets"] != 1)]
    return np.array([np.mean([regret[-1] for regret in part["regret"]]) for _, part in mine.groupby("task")])


def test_the_best_is_the_best_on_validation_datasets_whatever_the_test_says(chosen, measured):
    rpart, lcbench = chosen
    assert rpart.agent == lcbench.agent == "naf" and list(rpart.validation) == ["naf", "tabular_q", "dqn"]
    assert final(measured, "dqn").mean() < final(measured, "naf").mean() == pytest.approx(rpart.series.mean)
    assert (rpart.validation_datasets, rpart.board.tests, lcbench.board.tests) == (7, TASKS, 5)
    # Those that were trained on one dataset are far better, and are no candidates.
    assert min(rpart.validation.values()) > 0.03


def test_tests_are_wilcoxons_and_holm_counts_all_spaces_and_references(chosen, measured):
    tests = corrected_tests(chosen)
    raw = {
        (space, name): wilcoxon(final(measured, "naf", space) - final(measured, name, space)).pvalue
        for space in SIZES
        for name in ("random", WALK)
    }
    for index, space in enumerate(SIZES):
        for name in ("random", WALK):
            assert tests[index][name].p_value == pytest.approx(raw[space, name])
            assert (tests[index][name].wins, tests[index][name].losses) == (SIZES[space], 0)
    # Four hypotheses: the two smallest, 2 / 2^12, count four times; the others, 2 / 2^5, twice.
    assert tests[0]["random"].corrected_p == tests[0][WALK].corrected_p == pytest.approx(4 * 2**-11)
    assert tests[1]["random"].corrected_p == pytest.approx(2 * 2**-4)


def test_the_answer_says_where_it_is_shown_and_why_not_elsewhere(chosen):
    text = best_tables(chosen, played(), 4)
    assert "in 1 of 2 spaces: rpart." in text
    assert "Not shown in **lcbench** against random (p = 0.12) and random_walk (p = 0.12)" in text
    assert "with 5 test datasets no p-value can be below 0.062" in text
    assert "| rpart | 12 | `naf` |" in text and "| **0.0" in text


def test_pairs_of_episodes_are_those_of_one_dataset_and_runs_take_turns():
    frame = played()
    gaps = episode_gaps(frame, "lcbench", "naf", "random")

    def regret(agent: str, seed: int, task: int, repetition: int) -> float:
        here = frame[(frame["space"] == "lcbench") & (frame["agent"] == agent) & (frame["seed"] == seed)]
        (row,) = here[(here["task"] == f"t{task:02d}") & (here["repetition"] == repetition)].itertuples()
        return float(row.regret)

    cells = [(task, repetition) for task in range(5) for repetition in range(4)]
    expected = [
        regret("naf", repetition % 2, *(task, repetition)) - regret("random", 0, task, repetition)
        for task, repetition in cells
    ]
    assert gaps.tolist() == pytest.approx(expected)
    # The second run is far worse: half of the pairs are lost.
    assert ((gaps > 0).sum(), (gaps < 0).sum()) == (10, 10)


def test_few_datasets_can_show_what_is_true_of_them(chosen):
    frame = played()
    first = frame.assign(regret=frame["regret"] - frame["seed"])
    text = episode_table(first, [("rpart", "naf"), ("lcbench", "naf")])
    assert "in 2 of 2 spaces: rpart, lcbench." in text
    assert "| lcbench | `naf` | 20 | 20/0/0 |" in text
    (lcbench,) = paired_tests([episode_gaps(first, "lcbench", "naf", "random")])
    assert lcbench.p_value == pytest.approx(2 * 2**-20)
    assert "in 0 of 1 space." in episode_table(frame, [("lcbench", "naf")])
    for wrong in (frame.iloc[1:], pd.concat([frame, frame.iloc[:1]]), frame[frame["agent"] != "naf"]):
        with pytest.raises(DataIntegrityError, match=r"did not play the same episodes.*agents\.transfer_study"):
            for space in SIZES:
                for agent in ("naf", "dqn", "tabular_q"):
                    episode_gaps(wrong, space, agent, "random"), episode_gaps(wrong, space, agent, WALK)


def test_an_agent_that_is_worse_beats_nobody_however_sure_that_is(measured):
    worse = {**LEVELS, "naf": (0.5, 0.01)}
    chosen = best_agents(regrets(0, SIZES, worse), regrets(1, {"rpart": 7}, worse), leaderboard(), FACTS)
    (tests,) = corrected_tests(chosen)
    assert tests["random"].corrected_p < 0.01 and tests["random"].losses == TASKS
    assert "in 0 of 1 space." in best_tables(chosen, played(), 4)


def test_distances_are_those_to_the_leaderboard_dataset_by_dataset(chosen, measured):
    (rpart, lcbench), trial = chosen, 4
    strong = 0.02 + 0.01 * np.arange(TASKS)
    gap = final(measured, "naf") - strong
    np.testing.assert_allclose(rpart.series.final - rpart.strong["tpe"], gap, atol=1e-6)
    (row,) = [
        line
        for line in best_tables(chosen, played(), trial).splitlines()
        if line.startswith("| rpart | `naf` |") and "[" in line
    ]
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[3] == f"{strong.mean():.4f}" and cells[4].startswith(f"{gap.mean():+.4f} [")
    assert cells[5] == f"{(gap < 0).sum()}/0/{(gap > 0).sum()}"
    # The Gaussian process was not played there.
    assert cells[6:9] == ["not played", "-", "-"] and lcbench.strong == {}


@pytest.mark.parametrize("board", [leaderboard(TASKS - 1), leaderboard(TASKS + 1)])
def test_a_leaderboard_of_other_datasets_is_refused(board, measured):
    with pytest.raises(DataIntegrityError, match=r"tpe on rpart with other test datasets.*agents\.leaderboard"):
        best_agents(measured, regrets(1, {"rpart": 7}), board, FACTS)


def test_a_leaderboard_that_ends_early_is_refused(measured):
    facts = {**FACTS, "trials": [1, 4]}
    short = leaderboard()
    short["regret"] = [regret[:3] for regret in short["regret"]]
    with pytest.raises(DataIntegrityError, match="without trial 4"):
        best_agents(measured, regrets(1, {"rpart": 7}), short, facts)
