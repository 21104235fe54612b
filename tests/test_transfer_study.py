"""The transfer study: which runs it is made of, what rivals learn from, and a page that says what its data say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from agents.agnostic_q import AgnosticQConfig
from agents.base import Interface
from agents.comparison import ComparisonConfig, prepare
from agents.configuration import ExperimentConfig
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig, make_environment
from agents.experiment import load_trained, run_training
from agents.portfolio import Portfolio, PortfolioConfig
from agents.problem import Problem, TrainingTasks
from agents.study import WALK, read_results
from agents.study_runs import find_runs
from agents.subset_portfolios import play_portfolios
from agents.transfer_figure import transfer_figure
from agents.transfer_runs import Cell, Plan, matched
from agents.transfer_series import SpaceSeries
from agents.transfer_study import main
from agents.transfer_study_page import EPISODES, NAME, VALIDATION, tables
from hpo_gym.errors import DataIntegrityError, InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import evaluate

PAGE = Path(__file__).parents[1] / "docs" / "studies" / f"{NAME}.md"
AGENT = AgnosticQConfig(
    total_steps=64, hidden=(8,), learning_starts=16, batch_size=16, buffer_size=64, transitions_per_update=16
)
BUDGET, TRIALS = 4, (1, 4)


def experiment(runs: Path, space: str, datasets: int | None, seed: int, **changes: Any) -> ExperimentConfig:
    subset = {} if datasets is None else {"max_tasks": datasets, "tasks_seed": seed}
    env = EnvironmentConfig(space=space, num_envs=16, budget=BUDGET, **subset)
    name = f"{space}-{datasets or 'all'}-{seed}"
    settings = {"agent": AGENT, "env": env, "seed": seed, "name": name, "runs": str(runs), "validate_every": 0}
    return ExperimentConfig(**(settings | {"tensorboard": False} | changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for datasets in (1, None):
        for seed in (0, 1):
            run_training(experiment(folder, "lcbench", datasets, seed))
    return folder


def command(folder: Path, runs: Path, *more: str) -> int:
    plan = ["--agents", "agnostic_q", "--spaces", "lcbench", "--targets", "lcbench", "rpart"]
    plan += ["--subset-agents", "agnostic_q", "--subset-spaces", "lcbench"]
    size = ["--sizes", "1", "--seeds", "2", "--repetitions", "2", "--budget", str(BUDGET)]
    places = ["--runs", str(runs), "--documents", str(folder), "--output", str(folder / "cells"), "--workers", "1"]
    return main([*plan, *size, *places, *more])


@pytest.fixture(scope="module")
def documents(runs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "studies").mkdir()
    shutil.copy(PAGE, folder / "studies")
    shutil.copytree(PAGE.parents[1] / "leaderboard", folder / "leaderboard")
    assert command(folder, runs) == 0
    return folder


def plan_of(**settings: Any) -> Plan:
    """A plan whose agents are all trained on fewer datasets, too, in all of its spaces."""
    return Plan(**settings, subset_agents=settings["agents"], subset_spaces=settings["spaces"])


def rows_of(text: str, *start: str) -> list[list[str]]:
    """Cells of the rows of tables that begin with some cells."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [cells for cells in lines if cells[: len(start)] == list(start)]


class TestRuns:
    """Which runs belong to a study."""

    def test_numbers_that_reach_all_datasets_are_left_out(self):
        plan = plan_of(agents=("dqn",), spaces=("rpart", "lcbench"), sizes=(1, 12, 16), seeds=2)
        cells = plan.cells({"rpart": 67, "lcbench": 12})
        assert {cell.datasets for cell in cells if cell.space == "rpart"} == {0, 1, 12, 16}
        assert {cell.datasets for cell in cells if cell.space == "lcbench"} == {0, 1}
        assert len(set(cells)) == len(cells) == 12

    def test_some_agents_in_some_spaces_are_trained_on_fewer_datasets_too(self):
        everywhere = {"agents": ("dqn", "naf"), "spaces": ("rpart", "adaboost"), "sizes": (1, 4), "seeds": 1}
        cells = Plan(**everywhere, subset_agents=("naf",), subset_spaces=("rpart",)).cells({"rpart": 67, "adaboost": 9})
        assert {(cell.agent, cell.space) for cell in cells if cell.datasets} == {("naf", "rpart")}
        assert len({(cell.agent, cell.space) for cell in cells if not cell.datasets}) == 4 and len(cells) == 6

    def test_impossible_plans_are_refused(self):
        with pytest.raises(UnknownNameError, match="dqnn"):
            Plan(agents=("dqnn",))
        with pytest.raises(InvalidSettingError, match="tpe: it does not learn"):
            Plan(agents=("dqn", "tpe"))
        with pytest.raises(InvalidSettingError, match="--untrained dqn: it needs a trained policy"):
            Plan(untrained=("dqn",))
        with pytest.raises(UnknownNameError, match="--subset-agents 'sb3_ppo'"):
            Plan(subset_agents=("sb3_ppo",))
        with pytest.raises(UnknownNameError, match=r"--subset-spaces 'rprat'\. Did you mean 'rpart'"):
            Plan(subset_spaces=("rprat",))
        with pytest.raises(InvalidSettingError, match="--sizes=0"):
            Plan(sizes=(0,))
        with pytest.raises(InvalidSettingError, match="--seeds=0"):
            Plan(seeds=0)

    def test_runs_are_told_apart_by_agent_space_datasets_and_seed(self, runs):
        found = matched(find_runs(runs).finished)
        assert len(found) == 4 and found[Cell("agnostic_q", "lcbench", 1, 1)].path.name == "lcbench-1-1"
        assert found[Cell("agnostic_q", "lcbench", 0, 0)].path.name == "lcbench-all-0"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"name": "twin"},
                r"lcbench-1-0 and .*twin are both agnostic_q on lcbench, 1 training dataset\(s\), seed 0",
            ),
            (
                {"env": EnvironmentConfig(space="lcbench", budget=BUDGET, max_tasks=2)},
                r"seed=7 .*tasks_seed=\$\{seed\}",
            ),
            ({"agent": replace(AGENT, discount=0.5)}, r"agent\.discount: 0\.\d+ against 0\.\d+"),
        ],
    )
    def test_runs_that_do_not_belong_together_are_refused(self, runs, tmp_path, changes, message):
        folder = shutil.copytree(runs, tmp_path / "runs")
        seed = 0 if "name" in changes else 7
        run_training(experiment(folder, "lcbench", 1, seed, **changes))
        with pytest.raises(InvalidSettingError, match=message):
            matched(find_runs(folder).finished)

    def test_missing_runs_are_named_and_never_dropped_silently(self, runs, documents, tmp_path, capsys):
        some = shutil.copytree(runs, tmp_path / "runs")
        folder = shutil.copytree(documents, tmp_path / "docs")
        shutil.rmtree(some / "lcbench-1-1")
        (some / "lcbench-all-0" / "result.json").unlink()
        before = (folder / "studies" / PAGE.name).read_text()
        assert command(folder, some) == 2
        message = capsys.readouterr().err
        named = (
            "agnostic_q on lcbench, 1 training dataset(s), seed 1",
            "agnostic_q on lcbench, all training datasets, seed 0",
        )
        assert "2 of 4 runs" in message and "--allow-missing" in message and all(name in message for name in named)
        assert (folder / "studies" / PAGE.name).read_text() == before
        assert command(folder, some, "--allow-missing") == 0
        text = (folder / "studies" / PAGE.name).read_text()
        assert "**Not complete**: 2 runs missing" in text and all(name in text for name in named)

    def test_a_folder_without_the_runs_is_refused(self, runs, tmp_path, capsys):
        assert main(["--runs", str(tmp_path), "--documents", str(tmp_path)]) == 2
        assert "There is no run in" in capsys.readouterr().err
        assert main(["--runs", str(runs), "--agents", "dqn", "--documents", str(tmp_path)]) == 2
        assert "no finished run of dqn" in capsys.readouterr().err
        assert command(tmp_path, runs, "--targets", "rprat") == 2
        assert "Did you mean 'rpart'" in capsys.readouterr().err
        assert main(["--page", "--documents", str(tmp_path)]) == 2
        assert "agents.transfer_study" in capsys.readouterr().err


class TestPage:
    """What the page says of runs."""

    def test_it_shows_what_the_runs_reach_on_the_whole_test_split(self, runs, documents):
        env = EnvironmentConfig(space="lcbench", budget=BUDGET)
        folders = tuple(str(runs / f"lcbench-1-{seed}") for seed in (0, 1))
        config = ComparisonConfig(runs=folders, env=env, seeds=2)
        frame = prepare(config).run().records.frame
        assert frame["task"].nunique() == 5
        final = frame[frame["trial"] == BUDGET].groupby("agent", observed=True)["regret"].mean()
        text = (documents / "studies" / PAGE.name).read_text()
        (mine,) = rows_of(text, "agnostic_q", "1")
        assert mine[2] == "2" and mine[3].strip("*").startswith(f"{final['agnostic_q']:.4f} [")
        (random,) = rows_of(text, "random", "-")
        assert random[3].strip("*").startswith(f"{final['random']:.4f} [")
        assert [cells[1] for cells in rows_of(text, "portfolio")] == ["1", "12"]

    def test_rivals_learned_from_the_same_datasets(self, runs):
        env = EnvironmentConfig(space="lcbench", budget=BUDGET)
        played = play_portfolios(env, [(1, 1), (None, 0)], repetitions=1, budget=BUDGET)
        held_out = make_environment(replace(env, split="test", action="continuous", observation="history"))
        for run, name in (("lcbench-1-1", "1-1"), ("lcbench-all-0", "all-0")):
            trained = load_trained(runs / run)
            tasks = make_environment(trained.config.env).engine.tasks
            assert len(tasks) == len(trained.training_datasets) == (1 if name == "1-1" else 12)
            agent = Portfolio(PortfolioConfig(), Interface.of(held_out), int(name[-1]))
            agent.prepare(Problem.of(held_out, TrainingTasks(held_out.suite, tasks)))
            records = evaluate(as_contender(agent), held_out.suite, split="test", seeds=1, budget=BUDGET, seed=0)
            mine = played.records.frame[played.records.frame["run"] == name]
            np.testing.assert_array_equal(mine["regret"], records.frame["regret"])
            assert played.training_evaluations[name] == agent.training_evaluations

    def test_policies_are_tested_on_other_spaces(self, documents):
        frames, _ = read_results(documents / "studies" / "data", NAME, "")
        there = frames[NAME][frames[NAME]["space"] == "rpart"]
        assert there["task"].nunique() == 30
        trained = there[there["agent"] == "agnostic_q"]
        # Only those that were trained on everything.
        assert set(zip(trained["trained_on"], trained["datasets"], trained["seed"], strict=True)) == {
            ("lcbench", 12, 0),
            ("lcbench", 12, 1),
        }
        assert set(there["agent"]) == {"agnostic_q", "random", WALK}
        # At home it takes part, learning within its episode.
        home = frames[NAME][(frames[NAME]["space"] == "lcbench") & (frames[NAME]["agent"] == "tabular_q")]
        assert len(home) == 5 and set(home["trained_on"]) == {""}
        text = (documents / "studies" / PAGE.name).read_text()
        assert "1 pair of a space" in text
        ((_, _, origin, runs, *_),) = rows_of(text, "rpart", "agnostic_q")
        assert (origin, runs) == ("lcbench", "2")

    def test_it_is_made_again_from_its_data_alone(self, documents, tmp_path):
        folder = shutil.copytree(documents, tmp_path / "docs")
        page = folder / "studies" / PAGE.name
        before = page.read_text()
        (folder / "studies" / "figures" / f"{NAME}.png").unlink()
        shutil.copy(PAGE, page)
        assert main(["--page", "--documents", str(folder), "--runs", "/nowhere"]) == 0
        assert page.read_text() == before
        assert (folder / "studies" / "figures" / f"{NAME}.png").stat().st_size > 10_000
        path = folder / "studies" / "data" / f"{NAME}.parquet"
        frame = pd.read_parquet(path)
        frame.iloc[1:].to_parquet(path)
        with pytest.raises(DataIntegrityError, match="is another one"):
            read_results(path.parent, NAME, "python -m agents.transfer_study")


def made_up(tasks: int = 12) -> pd.DataFrame:
    """Regrets with a known order: portfolio < dqn with 4 < random < dqn with 1, by about a third each."""
    draws = np.random.Generator(np.random.PCG64(0))
    level = draws.uniform(0.5, 1.5, tasks)

    def rows(
        agent: str, trained_on: str, datasets: int, seeds: int, mean: float, space: str = "rpart"
    ) -> Iterator[Any]:
        for seed in range(seeds):
            for task in range(tasks):
                final = mean * level[task] * draws.uniform(0.9, 1.1)
                yield (space, agent, trained_on, datasets, seed, f"t{task}", [1.0, final])

    found: list[Any] = [*rows("random", "", 0, 1, 0.1), *rows(WALK, "", 0, 1, 0.2)]
    for datasets, mean in ((1, 0.15), (4, 0.07)):
        found += [*rows("dqn", "rpart", datasets, 3, mean), *rows("portfolio", "rpart", datasets, 3, 0.04)]
    found += rows("agnostic_q", "xgboost", 9, 2, 0.14)
    return pd.DataFrame(found, columns=["space", "agent", "trained_on", "datasets", "seed", "task", "regret"])


FACTS: dict[str, Any] = {
    "spaces": ["rpart"],
    "training": {"rpart": 4},
    "trials": [1, 4],
    "seeds": 3,
    "repetitions": 2,
    "missing": [],
    "steps": {"dqn": 100},
    "validate_every": 0,
    "training_evaluations": {"rpart": {"1": 10, "4": 40}},
}


def page(frame: pd.DataFrame) -> dict[str, Any]:
    """The makers of the page's tables; nobody was measured on validation datasets, and no leaderboard was played."""
    frames = {NAME: frame, VALIDATION: frame.iloc[:0], EPISODES: frame.iloc[:0]}
    return tables(frames, pd.DataFrame(columns=["board", "agent", "task", "regret"]), FACTS)


class TestSeries:
    """Sentences, tests and the figure, of numbers that are known."""

    def test_the_answer_says_what_the_numbers_say(self):
        text = page(made_up())["transfer_answers"]()
        assert "**rpart** (4 training datasets, 12 test datasets): trained on all of them, the best is `dqn`" in text
        assert (
            "* `dqn`, in 1 space: better than random search in 1 and worse in 0, better than the portfolio of the same "
            "datasets in 0 and worse in 1." in text
        )
        assert "It is better than random search" in text and "worse than the portfolio of the same datasets" in text
        assert "better than random search from 4 on; never better than the same datasets' portfolio" in text
        assert "significant" not in text

    def test_few_datasets_prove_nothing_and_that_is_said(self):
        frame = made_up(4)
        text = page(frame)["transfer_answers"]()
        assert "not told apart from random search" in text and "With 4 test datasets no difference can be" in text

    def test_tests_are_those_of_wilcoxon_corrected_over_the_table(self):
        space = SpaceSeries.of_training(made_up(), "rpart", 4, TRIALS)
        final = {series.label: series.final for series in space.series}
        assert list(final) == [
            "random",
            *(f"{agent}, {count} of rpart" for agent in ("portfolio", "dqn") for count in (1, 4)),
        ]
        raw = {}
        for count in (1, 4):
            mine, rival = (final[f"{agent}, {count} of rpart"] for agent in ("dqn", "portfolio"))
            raw[count] = wilcoxon(mine - rival).pvalue
            test = space.against_portfolio[f"dqn, {count} of rpart"]
            assert test.p_value == pytest.approx(raw[count]) and test.losses == 12
        # Two comparisons: the smaller p counts twice.
        assert space.against_portfolio["dqn, 4 of rpart"].corrected_p == pytest.approx(2 * min(raw.values()))
        assert set(space.against_random) == set(final) - {"random"}
        assert space.against_random["dqn, 4 of rpart"].wins == 12

    def test_means_are_over_runs_then_datasets_and_bands_over_runs(self):
        frame = made_up()
        space = SpaceSeries.of_training(frame, "rpart", 4, TRIALS)
        (mine,) = [series for series in space.trained if series.datasets == 1]
        rows = frame[(frame["agent"] == "dqn") & (frame["datasets"] == 1)]
        per_seed = [np.mean([regret[-1] for regret in part["regret"]]) for _, part in rows.groupby("seed")]
        assert mine.runs == 3 and mine.mean == pytest.approx(np.mean(per_seed))
        low, high = mine.band()
        assert min(per_seed) <= low < mine.mean < high <= max(per_seed)
        assert all(np.isnan(end) for end in space.random.band())

    def test_a_missing_run_takes_its_rival_with_it(self):
        frame = made_up()
        lost = frame[~((frame["agent"] == "dqn") & (frame["datasets"] == 4) & (frame["seed"] == 1))]
        space = SpaceSeries.of_training(lost, "rpart", 4, TRIALS)
        (mine,) = [series for series in space.trained if series.datasets == 4]
        rival = space.rival(mine)
        assert rival is not None and mine.seeds == rival.seeds == (0, 2)
        rows = frame[(frame["agent"] == "portfolio") & (frame["datasets"] == 4) & (frame["seed"] != 1)]
        assert rival.mean == pytest.approx(np.mean([regret[-1] for regret in rows["regret"]]))
        test = wilcoxon(mine.final - rival.final)
        assert space.against_portfolio[mine.label].p_value == pytest.approx(test.pvalue)

    def test_a_hole_is_refused(self):
        frame = made_up()
        hole = frame[~((frame["agent"] == "dqn") & (frame["seed"] == 1) & (frame["task"] == "t3"))]
        with pytest.raises(DataIntegrityError, match="dqn trained on 1 datasets of rpart was not tested on every"):
            SpaceSeries.of_training(hole, "rpart", 4, TRIALS)

    def test_other_spaces_are_compared_with_random_search_and_random_walks(self):
        itself = made_up().query("agent == 'dqn' and datasets == 4").assign(agent="agnostic_q")
        fewer = made_up().query("agent == 'dqn' and datasets == 1").assign(agent="agnostic_q")
        text = page(pd.concat([made_up(), itself, fewer]))["transfer_zero_shot"]()
        assert "1 pair of a space" in text
        # The same agent at home, after training on everything; not after training on less, and no other agent.
        assert [cells[2] for cells in rows_of(text, "rpart")] == ["-", "-", "the same space", "xgboost"]
        assert "against random search: better on 0, worse on 1, not told apart on 0" in text
        assert "against random grid walks: better on 1, worse on 0, not told apart on 0" in text
        (row,) = rows_of(text, "rpart", "agnostic_q", "xgboost")
        assert row[5] == "0/0/12" and row[7] == "12/0/0"
        none = made_up()
        none = none[none["agent"] != "agnostic_q"]
        assert (
            page(none)["transfer_zero_shot"]()
            == "No policy of the study was tested on a space that it was not trained on."
        )

    def test_the_figure_shows_every_series_and_both_levels(self):
        space = SpaceSeries.of_training(made_up(), "rpart", 4, TRIALS)
        figure = transfer_figure([space], 4)
        (axes,) = figure.axes
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert set(lines) == {"dqn", "portfolio of the same datasets", "random", "portfolio of all datasets"}
        means = {each.datasets: each.mean for each in space.trained}
        assert list(lines["dqn"].get_xdata()) == [1, 4]
        np.testing.assert_allclose(lines["dqn"].get_ydata(), [means[1], means[4]])
        np.testing.assert_allclose(lines["random"].get_ydata(), space.random.mean)
        np.testing.assert_allclose(
            lines["portfolio of all datasets"].get_ydata(), lines["portfolio of the same datasets"].get_ydata()[-1]
        )
        assert axes.get_xscale() == axes.get_yscale() == "log"
        # Two bands: of the agent and of the portfolio.
        assert len(axes.collections) == 2
        assert {text.get_text() for text in figure.legends[0].get_texts()} == set(lines)

    def test_the_page_in_the_repository_has_a_place_for_everything(self):
        text = PAGE.read_text()
        for name in page(made_up()):
            assert text.count(f"<!-- {name}:begin -->") == text.count(f"<!-- {name}:end -->") == 1
