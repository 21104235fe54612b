"""The protocol hpob-v3: published initial points, budget, and a result beside the published curves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hpob_files import SPACE, SPACES, load

import hpo_gym
from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import Contender, Rules, evaluate_all
from hpo_gym.evaluation.protocols import find_protocol

pytestmark = pytest.mark.usefixtures("own_cache")


def environment(folder: Path, **settings: Any) -> EnvironmentConfig:
    chosen = {"space": SPACE, "data_dir": str(folder)} | settings
    return EnvironmentConfig(id=find_protocol("hpob-v3").environment, **chosen)


def test_the_protocol_begins_with_the_published_points_of_each_repetition(hpob_folder: Path) -> None:
    config = ComparisonConfig(
        agents=("random", "tpe", "portfolio"), env=environment(hpob_folder), protocol="hpob-v3", budget=8, seeds=3
    )
    comparison = prepare(config)
    assert comparison.rules.protocol == "per-space" and comparison.rules.settings["start"] == "none"
    result = comparison.run().require_complete()
    frame, suite = result.configurations.frame, comparison.suite
    assert len(frame) == 3 * 3 * 3 * 8
    for (agent, task, seed), rows in frame.groupby(["agent", "task", "seed"]):
        expected = suite.initial_points[int(seed), suite.position(str(task))]  # type: ignore[index]
        found = rows.sort_values("trial")[list(SPACES[SPACE]["columns"])].to_numpy()[:5]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6, err_msg=str(agent))
    records = result.records.frame
    first = records[records["trial"] <= 5].groupby(["task", "seed", "trial"])["score"].nunique()
    assert set(first) == {1}


def test_the_protocol_has_the_budget_of_hpob(hpob_folder: Path) -> None:
    config = ComparisonConfig(agents=("random",), env=environment(hpob_folder), protocol="hpob-v3")
    rules = prepare(config).rules
    assert (rules.budget, rules.seeds, rules.initial_points) == (105, 5, 5) and rules.published_points


def test_validation_tasks_begin_at_random_points(hpob_folder: Path) -> None:
    config = ComparisonConfig(agents=("random",), env=environment(hpob_folder), protocol="hpob-v3", split="val")
    rules = prepare(config).rules
    assert (rules.split, rules.initial_points, rules.published_points) == ("val", 5, False)


def test_published_points_are_refused_where_there_are_none(hpob_folder: Path) -> None:
    def centre(observation: Any, mask: Any, draws: torch.Generator) -> torch.Tensor:
        return torch.full((len(observation), 2), 0.5)

    contenders = [Contender("centre", "", "continuous", "flat", centre)]
    suite = load(hpob_folder, protocol="per-space")
    rules: dict[str, Any] = {"budget": 8, "initial_points": 5, "published_points": True, "protocol": "per-space"}
    for changes, reason in (
        ({"seeds": 6}, "5 initial points of repetitions 0 to 4; asked for were 5 of repetitions 0 to 5"),
        ({"seeds": 2, "first_seed": 4}, "asked for were 5 of repetitions 4 to 5"),
        ({"initial_points": 6}, "asked for were 6 of repetitions 0 to 4"),
        ({"split": "val"}, "no initial points of 1 task.s. of split='val', such as openml-task:37"),
    ):
        with pytest.raises(InvalidSettingError, match=reason):
            evaluate_all(contenders, suite, Rules(**(rules | changes)))
    with pytest.raises(InvalidSettingError, match="bundled:rpart publishes no initial points"):
        evaluate_all(contenders, hpo_gym.load_suite("bundled", "rpart", protocol="per-space"), Rules(**rules))
    with pytest.raises(InvalidSettingError, match="no effect with initial_points=0"):
        Rules(published_points=True)
    later = evaluate_all(
        contenders, suite, Rules(**(rules | {"seeds": 1, "first_seed": 2, "settings": {"start": "none"}}))
    )
    frame = later.configurations.frame
    task = suite.position(str(frame["task"].iloc[0]))
    first = frame[(frame["task"] == frame["task"].iloc[0]) & (frame["trial"] == 1)]
    expected = suite.initial_points[2, task, 0].numpy()  # type: ignore[index]
    np.testing.assert_allclose(first[["alpha", "lambda"]].to_numpy()[0], expected, atol=1e-6)


def test_the_protocol_takes_no_other_source() -> None:
    env = EnvironmentConfig(id="HPO-OpenMLContinuous-v0", space="rpart")
    config = ComparisonConfig(agents=("random",), env=env, protocol="hpob-v3")
    with pytest.raises(InvalidSettingError, match="protocol=hpob-v3 is about tasks of hpob"):
        prepare(config)


@pytest.mark.slow
def test_the_page_sets_a_result_beside_the_published_curves(
    hpob_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "published.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    config = ComparisonConfig(agents=("random", "tpe"), env=environment(hpob_folder), protocol="hpob-v3", seeds=1)
    records = prepare(config).run().require_complete().records
    folder = tmp_path / "evaluations" / "hpob-5971"
    folder.mkdir(parents=True)
    records.to_parquet(folder / "records.parquet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(first, "published.md", "exec"), names)
    *lines, ours, published = second.strip().splitlines()
    exec(compile("\n".join(lines), "published.md", "exec"), names)
    assert 0.0 <= eval(ours.partition("#")[0], names) < 0.5
    assert eval(published, names) == pytest.approx(0.0180, abs=5e-5)
