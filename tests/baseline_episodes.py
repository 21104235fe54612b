"""Whole episodes that the tests of baselines play."""

from __future__ import annotations

from typing import Any

import torch

from agents.base import Agent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator

__all__ = ["final_regret", "legal_trials"]


def final_regret(agent: Agent, env: HPOVectorEnv, seed: int) -> float:
    """Return the mean regret at the end of one episode per row."""
    observation, _ = env.reset(seed=seed)
    draws, done = generator(seed, "test"), torch.zeros(env.num_envs, dtype=torch.bool)
    info: dict[str, Any] = {}
    while not bool(done.all()):
        observation, _, done, _, info = env.step(agent.act(observation, None, draws))
    return float(info["final_info"]["regret"].mean())


def legal_trials(agent: Agent, env: HPOVectorEnv, steps: int) -> list[bool]:
    """Return for each of the first steps of an episode whether what an agent asked for is allowed, in every row."""
    observation, _ = env.reset(seed=0)
    draws, legal = generator(0, "test"), []
    for _ in range(steps):
        observation, _, _, _, info = env.step(agent.act(observation, None, draws))
        legal.append(bool(info["legal"].all()))
    return legal
