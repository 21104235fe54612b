"""Whole episodes that the tests of baselines play."""

from __future__ import annotations

from typing import Any

import torch

from agents.base import Agent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator

__all__ = ["final_regret"]


def final_regret(agent: Agent, env: HPOVectorEnv, seed: int) -> float:
    """Return the mean regret at the end of one episode per row."""
    observation, _ = env.reset(seed=seed)
    draws, done = generator(seed, "test"), torch.zeros(env.num_envs, dtype=torch.bool)
    info: dict[str, Any] = {}
    while not bool(done.all()):
        observation, _, done, _, info = env.step(agent.act(observation, None, draws))
    return float(info["final_info"]["regret"].mean())
