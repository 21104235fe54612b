"""Settings of all agents: numbers and switches that are none, settings without effect, and trainings that diverge."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import SMALL, experiment

from agents.base import Agent, Interface
from agents.experiment import run_training
from agents.registry import AGENTS, find_trainable
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.testing.tiny import quadratic_suite

NONE_OF: dict[type, tuple[Any, ...]] = {
    float: (math.nan, -math.inf),
    int: (math.nan, 1.5, True),
    bool: ("no", 0, None),
}
WRONG = [
    (name, part.name, value)
    for name, entry in AGENTS.items()
    for part in fields(entry.config)
    for value in NONE_OF.get(type(part.default), ())
]


def an_agent(name: str, env: HPOVectorEnv, **settings: Any) -> Agent:
    return find_trainable(name)(AGENTS[name].config(**settings), Interface.of(env))


@pytest.mark.parametrize(("agent", "name", "value"), WRONG)
def test_what_is_no_such_number_or_switch_is_refused_by_name(agent: str, name: str, value: Any) -> None:
    with pytest.raises(InvalidSettingError, match=name):
        AGENTS[agent].config(**{name: value})


@pytest.mark.parametrize(
    ("agent", "given", "unread"),
    [
        ("grpo_paper", {"churn_weight": 0.0, "churn_share": 0.5}, "churn_share"),
        ("portfolio_q", {"score_dropout": 1.0, "score_noise": 0.4}, "score_noise"),
        ("qt_opt", {"cem_iterations": 1, "cem_elites": 3}, "cem_elites"),
        ("sb3_td3", {"target_policy_noise": 0.0, "target_noise_clip": 0.1}, "target_noise_clip"),
    ],
)
def test_what_nothing_reads_is_refused(agent: str, given: dict[str, Any], unread: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"{unread}=.* has no effect with"):
        AGENTS[agent].config(**given)


def test_a_list_is_not_looked_further_ahead_in_than_it_is_long() -> None:
    with pytest.raises(InvalidSettingError, match="ahead=64 must be at most candidates=4"):
        AGENTS["portfolio_q"].config(candidates=4, ahead=64)


def test_a_deviation_is_of_continuous_actions_only() -> None:
    pytest.importorskip("stable_baselines3")
    env = HPOVectorEnv(4, source=quadratic_suite(), split="all", action="grid_step")
    with pytest.raises(InvalidSettingError, match=r"log_std_init=3\.0 has no effect with action=grid_step"):
        an_agent("sb3_ppo", env, log_std_init=3.0)


def test_more_minibatches_than_trajectories_are_refused() -> None:
    env = HPOVectorEnv(64, source=quadratic_suite(), split="all", action="continuous", observation="history")
    agent: Any = an_agent("grpo", env, minibatches=65)
    with pytest.raises(InvalidSettingError, match=r"agent\.minibatches=65 of env\.num_envs=64"):
        agent.require_trainable(env)


@pytest.mark.parametrize(("total", "learns"), [(2_128, False), (2_255, False), (2_256, True)])
def test_a_training_of_several_steps_a_transition_has_a_gradient_step(tmp_path: Path, total: int, learns: bool) -> None:
    agent = replace(SMALL, total_steps=total, learning_starts=2_000, multi_step=3, transitions_per_update=128)
    config = experiment(tmp_path, agent=agent, validate_every=0, tensorboard=False)
    config = replace(config, env=replace(config.env, num_envs=64))
    if learns:
        folder = run_training(config)
        assert torch.load(folder.path / "policy.pt", weights_only=True)["state"]["updates"] > 0
    else:
        with pytest.raises(InvalidSettingError, match=r"multi_step=3 .* agent\.total_steps to 2256 or more"):
            run_training(config)


def test_a_training_that_diverges_is_no_result(tmp_path: Path) -> None:
    agent = replace(SMALL, learning_rate=1e30, max_gradient_norm=math.inf)
    config = experiment(tmp_path, agent=agent, validate_every=0)
    with pytest.raises(InvalidSettingError, match=r"diverged.*agent\.learning_rate"):
        run_training(config)
    assert not list(tmp_path.rglob("policy.pt")) and not list(tmp_path.rglob("result.json"))


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    folder = run_training(experiment(tmp_path, agent=replace(SMALL, total_steps=600), validate_every=0))
    folder.write_result({"loss": math.nan, "figures": [math.inf, 1.0]})
    written = (folder.path / "result.json").read_text()
    assert json.loads(written, parse_constant=pytest.fail) == {"loss": None, "figures": [None, 1.0]}
