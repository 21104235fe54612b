"""``python -m hpo_gym.find_optima``: ranges of suites that do not travel with the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from safetensors.torch import save_file

import hpo_gym  # noqa: F401  (registers the environments)
from hpo_gym import find_optima
from hpo_gym.errors import DataIntegrityError, InvalidSettingError
from hpo_gym.sources import load_suite
from hpo_gym.sources.ranges import load_range, range_name, save_range
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.testing.tiny import conditional_suite

NAME = range_name("synthetic", "bbob-2d", "default", "gap")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of ranges in a cache of the test's own."""
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ranges"


def test_a_found_range_is_kept_and_close_to_the_known_optimum(
    own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_optima.main(["synthetic", "bbob-2d", "--sobol", "512", "--output", str(own_cache)]) == 0
    said = capsys.readouterr().out
    assert "bbob-2d: 120 tasks" in said and "512 scrambled Sobol points" in said
    assert [path.name for path in own_cache.iterdir()] == [NAME]
    suite = load_suite("synthetic", "bbob-2d")
    truth, found = suite.require_range(), load_range(NAME, suite.tasks)
    assert found is not None and "512 scrambled Sobol points" in found.method
    # Nothing is better than the optimum by construction.
    assert bool((found.best <= truth.best + 1e-6).all())
    distance = (found.best_u - truth.best_u).norm(dim=1)
    for position, name in enumerate(suite.surrogate.functions):
        if name in ("sphere", "different_powers", "attractive_sector", "schaffers_f7"):
            assert float(distance[8 * position : 8 * position + 8].max()) < 0.01, name
    # The score is a logarithm: ill-conditioned functions leave decades to be gained in a narrow valley. Even
    # there the excess over the optimum is a small part of that of a typical point.
    decades = suite.to_metric(found.median) - suite.to_metric(found.best)
    assert float(decades.median()) > 3.0 and float(decades.quantile(0.1)) > 1.5
    every = torch.arange(suite.num_tasks)
    scored = suite.evaluate(every, found.best_u, torch.ones_like(found.best_u, dtype=torch.bool)).score
    torch.testing.assert_close(scored, found.best, atol=1e-5, rtol=0)


def test_several_spaces_and_a_folder_of_ones_own(tmp_path: Path, own_cache: Path) -> None:
    folder = tmp_path / "mine"
    arguments = ["synthetic", "bbob-2d", "bbob-3d", "--metric", "value", "--sobol", "16", "--output", str(folder)]
    assert find_optima.main(arguments) == 0
    names = {range_name("synthetic", space, "default", "value") for space in ("bbob-2d", "bbob-3d")}
    assert {path.name for path in folder.iterdir()} == names
    assert not own_cache.exists()


def told_command(arguments: dict[str, object]) -> list[str]:
    """Return the arguments of the command that an environment without a known range asks for."""
    with pytest.raises(InvalidSettingError) as caught:
        gym.make("HPO-OpenML-v0", reward="log_regret", **arguments)
    said = re.search(r"`python -m hpo_gym\.find_optima ([^`]*)`", str(caught.value))
    assert said is not None, str(caught.value)
    return said[1].split()


def test_the_command_that_the_error_names_finds_the_range_of_another_metric(own_cache: Path) -> None:
    arguments = {"space": "rpart", "metric": "timetrain"}
    command = told_command(arguments)
    assert command == ["bundled", "rpart", "--metric", "timetrain"]
    assert find_optima.main([*command, "--sobol", "16"]) == 0
    env = gym.make("HPO-OpenML-v0", reward="log_regret", **arguments)
    _, info = env.reset(seed=0)
    assert "16 scrambled Sobol points" in env.unwrapped.suite.require_range().method and "regret" in info
    # The main metric's range stays the one that the bundle holds.
    assert "16384 scrambled" in load_suite("bundled", "rpart").require_range().method


def test_a_range_of_other_surfaces_is_not_taken_for_that_of_a_bundle(own_cache: Path) -> None:
    suite = load_suite("bundled", "rpart", metric="timetrain")
    known = load_suite("bundled", "rpart").require_range()
    save_range(range_name("bundled", "rpart", "default", "timetrain"), known, suite.tasks)
    assert load_suite("bundled", "rpart", metric="timetrain").known_range is None


@pytest.mark.parametrize("space", ["xgboost", "rbv2_xgboost"])
def test_the_command_for_a_metric_and_restriction_of_yahpo(space: str, data_folder: Path) -> None:
    arguments = {"source": "yahpo", "space": space, "metric": "auc", "source_options": {"restriction": "original"}}
    assert told_command(arguments) == ["yahpo", "rbv2_xgboost", "--metric", "auc", "--restriction", "original"]


@pytest.mark.slow
def test_a_range_found_under_an_alias_is_that_of_the_scenario(data_folder: Path, own_cache: Path) -> None:
    assert find_optima.main(["yahpo", "rpart", "--metric", "auc", "--sobol", "8"]) == 0
    for space in ("rpart", "rbv2_rpart"):
        assert load_suite("yahpo", space, metric="auc").known_range is not None


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpo_gym.find_optima", "synthetc", "bbob-2d", "--output", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Unknown source 'synthetc'. Did you mean 'synthetic'?")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["synthetic", "bbob-99d"], ["'bbob-99d'", "bbob-2d"]),
        (["synthetic", "bbob-2d", "--metric", "gpa"], ["'gpa'", "Did you mean 'gap'"]),
        (["synthetic", "bbob-2d", "--restriction", "original"], ["'restriction'", "synthetic"]),
        (["synthetic", "bbob-2d", "--data-dir", "somewhere"], ["data_dir=None"]),
        (["synthetic", "bbob-2d", "--sobol", "0"], ["sobol=0", ">= 8"]),
        (["synthetic", "bbob-2d", "--sobol", "4"], ["sobol=4", ">= 8", "starts=8"]),
        (["synthetic", "bbob-2d", "--sobol", "16"], ["bundled and yahpo", "set suite.known_range", "--output"]),
        (["bundled", "rprat"], ["'rprat'", "Did you mean 'rpart'"]),
        (["yahpo", "rbv2_rpartt"], ["'rbv2_rpartt'", "Did you mean 'rbv2_rpart'"]),
    ],
)
def test_wrong_arguments_end_with_status_2_and_one_message(
    arguments: list[str], parts: list[str], own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_optima.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    for part in parts:
        assert part in message, message
    assert not own_cache.exists()


@pytest.mark.parametrize("arguments", [[], ["synthetic"], ["synthetic", "bbob-2d", "--sobol", "many"]])
def test_incomplete_arguments_show_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        find_optima.main(arguments)
    assert ended.value.code == 2 and "usage: python -m hpo_gym.find_optima" in capsys.readouterr().err


@pytest.mark.parametrize(
    "effort",
    [{"starts": 0}, {"sobol": 3, "starts": 4}, {"rounds": -1}, {"gradient_steps": -1}, {"local_candidates": 1}],
)
def test_impossible_efforts_are_refused(effort: dict[str, int]) -> None:
    with pytest.raises(InvalidSettingError, match="must be >="):
        OptimumSearch(**effort)


def test_a_sample_with_too_few_legal_points_is_refused() -> None:
    # One point in six is forbidden: sixty-four points hold fewer than sixty-four legal ones.
    search = OptimumSearch(sobol=64, starts=64)
    with pytest.raises(InvalidSettingError, match=r"of sobol=64 points are legal in 'tiny-conditional'"):
        find_known_range(conditional_suite(), search)


class TestRangeFiles:
    """Writing and reading ranges, apart from the command."""

    def test_a_range_survives_the_file(self) -> None:
        suite = conditional_suite()
        known = suite.require_range()
        save_range("mine.safetensors", known, suite.tasks)
        found = load_range("mine.safetensors", suite.tasks)
        assert found is not None and found.method == known.method
        for part in ("worst", "median", "best", "best_u"):
            assert torch.equal(getattr(found, part), getattr(known, part))

    def test_tasks_are_matched_by_identity(self) -> None:
        suite = conditional_suite()
        known = suite.require_range()
        save_range("mine.safetensors", known, suite.tasks)
        found = load_range("mine.safetensors", (suite.tasks[2], suite.tasks[0]))
        assert found is not None and torch.equal(found.best_u, known.best_u[[2, 0]])

    def test_a_range_of_other_tasks_is_none(self) -> None:
        suite = conditional_suite()
        save_range("mine.safetensors", suite.require_range(), suite.tasks)
        assert load_range("mine.safetensors", (*suite.tasks, TaskRef("synthetic", "another"))) is None
        assert load_range("other.safetensors", suite.tasks) is None

    @pytest.mark.parametrize("keep", [0, 5, 200])
    def test_a_truncated_file_is_refused(self, keep: int) -> None:
        suite = conditional_suite()
        path = save_range("mine.safetensors", suite.require_range(), suite.tasks)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataIntegrityError, match=r"mine\.safetensors is corrupt.*find_optima"):
            load_range("mine.safetensors", suite.tasks)

    def test_a_file_of_other_content_is_refused(self, own_cache: Path) -> None:
        own_cache.mkdir(parents=True)
        suite = conditional_suite()
        save_file({"worst": torch.zeros(4)}, own_cache / "bare.safetensors")
        save_file({"worst": torch.zeros(4)}, own_cache / "part.safetensors", {"tasks": "", "method": ""})
        for name in ("bare.safetensors", "part.safetensors"):
            with pytest.raises(DataIntegrityError, match=name):
                load_range(name, suite.tasks)

    def test_names_tell_source_space_restriction_and_metric_apart(self) -> None:
        names = {
            range_name("yahpo", space, restriction, metric)
            for space in ("rbv2_ranger", "rbv2_ranger@v2")
            for restriction in ("default", "original")
            for metric in ("acc", "auc")
        }
        assert len(names) == 8 and not any("@" in name or "/" in name for name in names)
