"""The GRPO-Transformer as a whole: its training, what it does with scores, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from grpo_cases import TINY, an_agent, environment
from quick_settings import QUICK

from agents.base import Interface
from agents.grpo import GRPO, GRPOConfig
from agents.trial_tokens import TrialHistory
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import quadratic_suite


def test_groups_play_one_task_from_one_start():
    env = environment(num_envs=24, start="random", budget=4)
    agent, seen = an_agent(env, total_steps=24 * 3 * 2), []
    env.reset(seed=0)

    def callback(steps: int, logs: Any, info: Any) -> bool:
        history = TrialHistory.of(info["final_obs"])
        seen.append((history.meta_features.clone(), history.trials.u[:, 0].clone(), history.trials.u[:, 1].clone()))
        return False

    agent.train(env, callback)
    for meta, start, chosen in seen:
        for part, groups in ((meta, 6), (start, 6), (chosen, 24)):
            assert len(part.unique(dim=0)) == groups, "six groups, six tasks; every rollout goes its own way"
        assert torch.equal(start, start[::4].repeat_interleave(4, 0))
    assert not torch.equal(seen[0][1], seen[-1][1])


LOGGED = {
    *("policy_loss", "entropy", "clipped", "divergence", "churn", "loss", "gradient_norm", "learning_rate", "updates"),
    "advantage_spread",
}


@pytest.fixture(scope="module")
def trained() -> tuple[GRPO, list[dict[str, float]]]:
    """Return a policy that was trained without meta-features, and what it logged."""
    env = search_environment(64)
    settings = {"meta_features": False, "total_steps": 20_000, "autoregressive": False, "minibatches": 1}
    agent = GRPO(GRPOConfig(**QUICK["grpo"] | settings | {"learning_rate": 1e-2}), Interface.of(env))
    env.reset(seed=0)
    logs: list[dict[str, float]] = []

    def callback(steps: int, logged: Any, info: Any) -> bool:
        if logged and (not logs or float(logged["updates"]) > logs[-1]["updates"]):
            logs.append({name: float(value) for name, value in logged.items()})
        return False

    agent.train(env, callback)
    return agent, logs


def search_environment(num_envs: int) -> HPOVectorEnv:
    """Return two bowls that nothing but scores tells apart."""
    return HPOVectorEnv(
        num_envs,
        source=quadratic_suite(num_tasks=2),
        split="all",
        action="continuous",
        observation="history",
        budget=8,
        reward="log_regret",
    )


def late_shortfall(agent: GRPO, shuffled: bool) -> float:
    """Return what the second half of the trials lacks to the best score, 1.

    Args:
        agent: The policy.
        shuffled: Whether it is shown the scores of the trials so far in a random order.
    """
    env, draws, order = search_environment(240), generator(0, "test"), generator(1, "test")
    observation, _ = env.reset(seed=3)
    while True:
        assert isinstance(observation, dict)
        if shuffled:
            done = observation["mask"] > 0.5
            noise = torch.rand(done.shape, generator=order).masked_fill(~done, torch.inf)
            observation = observation | {"score": observation["score"].gather(1, noise.argsort(1))}
        observation, _, terminated, _, info = env.step(agent.act(observation, None, draws))
        if bool(terminated.all()):
            return float((1.0 - info["final_obs"]["score"][:, 4:]).mean())


def test_shuffled_scores_hurt_a_policy_that_searches(trained):
    """It is not a fixed list of configurations, however good: what it tries depends on what came out."""
    agent, _ = trained
    assert late_shortfall(agent, shuffled=True) > 1.5 * late_shortfall(agent, shuffled=False)


def test_what_is_logged_of_a_training(trained):
    agent, logs = trained
    assert set(logs[0]) == LOGGED
    assert logs[0]["churn"] == 0.0, "there are no earlier states yet"
    assert logs[-1]["churn"] > 0.0 and logs[-1]["entropy"] < logs[0]["entropy"] <= 2.0 * math.log(8.0) + 1e-4
    assert all(0.0 <= one["clipped"] <= 1.0 for one in logs)
    rates = [one["learning_rate"] for one in logs]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(agent.config.learning_rate / 20.0, rel=0.2)
    assert logs[-1]["updates"] == agent.learner.updates == len(logs) * agent.config.epochs * agent.config.minibatches


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("total_steps", 0),
        ("group_size", 1),
        ("width", 0),
        ("layers", 0),
        ("heads", 5),
        ("bins", 1),
        ("discount", 0.0),
        ("discount", 1.1),
        ("clip", 0.0),
        ("epochs", 0),
        ("minibatches", 0),
        ("learning_rate", -1e-3),
        ("entropy", -0.1),
        ("churn_weight", -0.1),
        ("churn_share", 0.0),
        ("churn_share", 1.5),
        ("max_gradient_norm", 0.0),
        ("weight_decay", -1.0),
        ("evaluation_temperature", 0.0),
        ("proposals", 0),
        ("candidates", -1),
        ("neighbours", 0),
        ("rounds", -1),
        ("head", -1),
        ("samples", 0),
        ("learning_rate", float("nan")),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        GRPOConfig(**{field: value})


@pytest.mark.parametrize(("field", "value", "closest"), [("advantage", "steps", "step"), ("scores", "rel", "relative")])
def test_unknown_names_get_the_closest_one(field, value, closest):
    with pytest.raises(UnknownNameError, match=closest):
        GRPOConfig(**{field: value})


def test_environments_that_it_cannot_play_are_refused():
    with pytest.raises(InvalidSettingError, match=r"no fidelity.*env\.multi_fidelity=false"):
        an_agent(environment("fidelity", multi_fidelity=True))
    env = environment(num_envs=10)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"num_envs=10 .*group_size=4"):
        an_agent(env).train(env, lambda steps, logs, info: True)
    env = environment(terminate_on_repeat=True)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"env\.terminate_on_repeat=false"):
        an_agent(env).train(env, lambda steps, logs, info: True)
    for wrong in ({"action": "grid_step"}, {"observation": "flat"}):
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            an_agent(environment(**wrong))


def test_a_policy_fits_the_meta_features_that_it_was_built_for():
    env = environment()
    built = dataclasses.replace(Interface.of(env), meta_features=7)
    agents = [GRPO(GRPOConfig(**TINY, meta_features=shown), built) for shown in (False, True)]
    assert agents[1].layout.width == agents[0].layout.width + 7
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="meta_features: 7 against 2"):
        agents[1].train(env, lambda steps, logs, info: True)


def of_one_update(**settings: Any) -> tuple[GRPO, dict[str, Any]]:
    """Return an agent after one gradient step, and what it logged."""
    env = environment(num_envs=16, budget=5)
    agent, logged = an_agent(env, total_steps=16 * 4, epochs=1, minibatches=1, **settings), {}
    env.reset(seed=0)

    def callback(steps: int, logs: Any, info: Any) -> bool:
        logged.update({name: float(value) for name, value in logs.items()})
        return False

    agent.train(env, callback)
    return agent, logged


def test_mixed_precision_learns_from_ratios_that_begin_at_one():
    full, mixed = of_one_update(), of_one_update(precision="bfloat16")
    # Before the first gradient step a policy is the one that played.
    for _, logged in (full, mixed):
        assert abs(logged["divergence"]) < 1e-6 and logged["clipped"] == 0.0
    assert mixed[1]["entropy"] == pytest.approx(full[1]["entropy"], rel=0.02)
    assert mixed[1]["entropy"] != full[1]["entropy"], "it does compute otherwise"
    weights = mixed[0].network.state_dict()
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert any(not torch.equal(weight, full[0].network.state_dict()[name]) for name, weight in weights.items())
    with pytest.raises(UnknownNameError, match="Did you mean 'bfloat16'"):
        GRPOConfig(precision="bf16")
