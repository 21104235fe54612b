"""Agents as contenders of the evaluation loop."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.evaluation import Contender
from hpo_gym.mdp.observations import Observation

__all__ = ["as_contender", "evaluation_settings"]

# Decided by each contender or by the comparison, or without meaning when nothing is learned.
_NOT_COMPARED = ("action", "observation", "budget", "reward", "reward_scale", "terminate_on_repeat")


def as_contender(agent: Agent, run: str = "") -> Contender:
    """Return an agent as it acts in evaluation.

    Args:
        agent: The agent.
        run: Name of its training run; ``""`` for a method that needed none.
    """

    def act(observation: Observation, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        return agent.act(observation, mask, draws, explore=False)

    return Contender(agent.name, run, agent.interface.action, agent.interface.observation, act)


def evaluation_settings(env: HPOVectorEnv) -> dict[str, Any]:
    """Return the rules of an environment's episodes that hold for every contender."""
    return {name: value for name, value in asdict(env.engine.settings).items() if name not in _NOT_COMPARED}
