"""Agents by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.base import Agent
from agents.dqn import DQN, DQNConfig
from agents.random_search import RandomSearch, RandomSearchConfig
from hpo_gym.errors import unknown_name

__all__ = ["AGENTS", "RegisteredAgent", "find_agent"]


@dataclass(frozen=True)
class RegisteredAgent:
    """An agent's class and its configuration's class."""

    agent: type[Agent]
    config: type[Any]


AGENTS: dict[str, RegisteredAgent] = {
    DQN.name: RegisteredAgent(DQN, DQNConfig),
    RandomSearch.name: RegisteredAgent(RandomSearch, RandomSearchConfig),
}


def find_agent(name: str) -> RegisteredAgent:
    """Return the agent called ``name``.

    Raises:
        UnknownNameError: If there is none, with the closest name.
    """
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    return AGENTS[name]
