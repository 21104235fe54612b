"""Episodes that choose their fidelity: what a trial costs, buys and counts for."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import hpo_gym  # noqa: F401  (registers the environments)
from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.mdp.actions import FULL_FIDELITY
from hpo_gym.surrogates.base import Fidelity
from hpo_gym.testing.tiny import fidelity_suite

ID = "HPO-OpenMLMultiFidelity-v0"


def at(coordinate: float, dimension: int) -> Tensor:
    return torch.cat([torch.full((dimension - 1,), 0.5), torch.tensor([coordinate])])


@pytest.mark.parametrize("space", ["lcbench", "ranger", "rpart"])
def test_no_cheap_trial_beats_the_optimum_of_full_ones(space: str) -> None:
    # On some datasets ranger scores higher on three quarters of the data than it ever does on all of them.
    envs: Any = gym.make_vec(ID, num_envs=512, space=space, split="all", budget=5)
    envs.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    seen, beyond = [], 0
    for _ in range(12):
        actions = torch.rand(envs.action_space.shape, generator=generator)
        actions[::2, -1] = 0.7
        info = envs.step(actions)[4]["final_info"]
        seen.append(info["regret"])
        cheap = info["fidelity"] < 0.999
        beyond += int((envs.suite.regret(info["task"], info["score"])[cheap] < -1e-3).sum())
    assert float(torch.stack(seen).min()) > -1e-3
    if space != "lcbench":
        assert beyond > 0


def test_a_cheap_trial_is_observed_and_paid_but_is_no_result() -> None:
    env = HPOEnv(source=fidelity_suite(), split="all", budget=4, action="continuous", multi_fidelity=True, start="none")
    dimension = env.action_space.shape[0]  # type: ignore[index]
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(at(0.0, dimension).numpy())
    assert info["score"] > 0.0 and info["incumbent"] == 0.0 and reward == 0.0 and not terminated
    assert info["fidelity"] < 0.5
    assert info["score"] in observation
    _, reward, _, _, info = env.step(at(1.0, dimension).numpy())
    assert info["fidelity"] == 1.0 and info["incumbent"] == info["score"] == pytest.approx(reward)


def test_the_upper_end_of_the_fidelity_coordinate_is_a_full_evaluation() -> None:
    envs = HPOVectorEnv(5, source=fidelity_suite(), split="all", budget=9, action="continuous", multi_fidelity=True)
    envs.reset(seed=0)
    dimension = envs.single_action_space.shape[0]  # type: ignore[index]
    coordinates = (0.0, 0.4, 0.79, FULL_FIDELITY, 1.0)
    info = envs.step(torch.stack([at(coordinate, dimension) for coordinate in coordinates]))[4]
    fidelity = info["final_info"]["fidelity"].tolist()
    assert fidelity == sorted(fidelity) and fidelity[2] < 1.0 and fidelity[3] == fidelity[4] == 1.0


@pytest.mark.parametrize("coordinate", [0.0, 0.03, 0.37, 0.6])
def test_whole_epochs_are_bought_and_charged(coordinate: float) -> None:
    env: Any = gym.make(ID, space="lcbench", split="all", budget=3).unwrapped
    upper = env.suite.fidelity.upper
    assert env.suite.fidelity.integer
    env.reset(seed=0)
    action = at(coordinate, env.action_space.shape[0]).numpy()
    spent, terminated = 1.0, False
    while not terminated:
        _, _, terminated, _, info = env.step(action)
        epochs = upper * info["fidelity"]
        assert epochs == pytest.approx(round(epochs), abs=1e-3) and epochs >= 0.1 * upper - 1e-3
        spent += info["fidelity"]
    # Nothing was overdrawn, and what is left would not buy the cheapest evaluation.
    assert 3.0 - 6 / upper < spent <= 3.0 + 1e-4


def test_the_same_configuration_at_another_fidelity_is_no_repeat() -> None:
    settings: dict[str, Any] = {"action": "continuous", "multi_fidelity": True, "terminate_on_repeat": True}
    env = HPOEnv(source=fidelity_suite(), split="all", budget=9, **settings)
    env.reset(seed=0)
    dimension = env.action_space.shape[0]  # type: ignore[index]
    ends = [env.step(at(coordinate, dimension).numpy() * 0.9)[2] for coordinate in (0.0, 0.4, 1.0, 0.4)]
    assert ends == [False, False, False, True]


def test_grid_levels_of_the_fidelity_are_whole_epochs() -> None:
    env: Any = gym.make("HPO-OpenML-v0", space="lcbench", multi_fidelity=True, budget=5).unwrapped
    upper = env.suite.fidelity.upper
    shares = env.engine.dynamics.shares * upper
    assert shares.tolist() == pytest.approx(shares.round().tolist(), abs=1e-4)
    assert float(shares[0]) == pytest.approx(6.0) and float(shares[-1]) == upper and bool((shares.diff() > 0).all())
    assert env.engine.dynamics.max_trials == math.ceil(5 * upper / 6)


def spend(env: Any, plan: list[tuple[int, float]]) -> list[float]:
    """Take so many steps at each coordinate of the fidelity; return the shares that were charged."""
    shares = []
    for count, coordinate in plan:
        for _ in range(count):
            _, _, terminated, _, info = env.step(at(coordinate, env.action_space.shape[0]).numpy())
            shares.append(info["fidelity"])
    assert terminated
    return shares


@pytest.mark.parametrize(("epochs", "cheap"), [(10, 204), (10, 153), (10, 102), (17, 102), (6, 204), (6, 153)])
def test_a_full_evaluation_that_is_exactly_affordable_is_a_full_one(epochs: int, cheap: int) -> None:
    # Hundreds of prices that float32 cannot hold are added up before it.
    env: Any = gym.make(ID, space="lcbench", split="all", budget=50).unwrapped
    upper = env.suite.fidelity.upper
    least = float(env.engine.dynamics.shares[0])
    coordinate = max(0.0, FULL_FIDELITY * (1.0 - math.log(epochs / upper) / math.log(least)))
    env.reset(seed=0)
    full = round((50 - 1) - cheap * epochs / upper)
    shares = spend(env, [(cheap, coordinate), (full, 1.0)])
    assert [round(upper * share) for share in shares] == [epochs] * cheap + [round(upper)] * full


def test_shares_of_the_data_add_up_over_a_long_episode() -> None:
    suite = fidelity_suite()
    suite.surrogate.fidelity = Fidelity("share", 0.1, 1.0)  # type: ignore[union-attr]
    env = HPOEnv(source=suite, split="all", budget=400, action="continuous", multi_fidelity=True, min_fidelity=0.1)
    env.reset(seed=0)
    shares = spend(env, [(3980, 0.0), (1, 1.0)])
    assert shares[-1] == 1.0 and sum(shares) == pytest.approx(399.0, abs=1e-3)
