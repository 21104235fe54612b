"""Agents as contenders of the evaluation loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from agents.sequential import SequentialAgent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.evaluation import Contender, EpisodicContender
from hpo_gym.mdp.observations import Observation

__all__ = ["as_contender", "evaluation_settings"]

# Decided by each contender or by the comparison, or without meaning when nothing is learned.
_NOT_COMPARED = ("action", "observation", "budget", "reward", "reward_scale", "cost_weight", "terminate_on_repeat")


@dataclass(frozen=True)
class _Acts:
    """An agent's choices as in evaluation."""

    agent: Agent

    def __call__(self, observation: Observation, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        return self.agent.act(observation, mask, draws, explore=False)


@dataclass(frozen=True)
class _Begins:
    """Begins episodes of an agent with a memory; a class of a module, so that it can be sent to worker processes."""

    agent: SequentialAgent

    def __call__(self) -> _Acts:
        return _Acts(self.agent.fresh())


def as_contender(
    agent: Agent, run: str = "", fingerprint: Mapping[str, Any] | None = None
) -> Contender | EpisodicContender:
    """Return an agent as it acts in evaluation.

    Args:
        agent: The agent, prepared.
        run: Name of its training run; ``""`` for a method that needed none.
        fingerprint: What else decides how it acts: a hash of its weights, of what it learned from.
    """
    decides = {
        "version": agent.version,
        "settings": asdict(agent.config),
        "seed": agent.seed,
        "libraries": {name: _version(name) for name in agent.libraries},
        **(fingerprint or {}),
    }
    action, observation = agent.interface.action, agent.interface.observation
    if isinstance(agent, SequentialAgent):
        return EpisodicContender(agent.name, run, action, observation, _Begins(agent), decides)
    return Contender(agent.name, run, action, observation, _Acts(agent), decides)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def evaluation_settings(env: HPOVectorEnv) -> dict[str, Any]:
    """Return the rules of an environment's episodes that hold for every contender."""
    return {name: value for name, value in asdict(env.engine.settings).items() if name not in _NOT_COMPARED}
