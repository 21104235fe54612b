"""Agents by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.asha import ASHA, ASHAConfig
from agents.base import Agent, TrainableAgent
from agents.bohb import BOHB, BOHBConfig
from agents.cma_es import CMAES, CMAESConfig
from agents.default_only import DefaultOnly, DefaultOnlyConfig
from agents.differential_evolution import DifferentialEvolution, DifferentialEvolutionConfig
from agents.dqn import DQN, DQNConfig
from agents.gaussian_process import GaussianProcess, GPConfig
from agents.grid_search import GridSearch, GridSearchConfig
from agents.hyperband import Hyperband, HyperbandConfig
from agents.local_search import LocalSearch, LocalSearchConfig
from agents.portfolio import Portfolio, PortfolioConfig
from agents.portfolio_gp import PortfolioGP, PortfolioGPConfig
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.sboa import SBOA, SBOAConfig
from agents.smac import SMAC, SMACConfig
from agents.tpe import TPE, TPEConfig
from agents.tpe_multivariate import MultivariateTPE, MultivariateTPEConfig
from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["AGENTS", "RegisteredAgent", "find_agent", "find_trainable", "trainable_names"]


@dataclass(frozen=True)
class RegisteredAgent:
    """An agent's class and its configuration's class."""

    agent: type[Agent]
    config: type[Any]


_ALL = (
    RegisteredAgent(DQN, DQNConfig),
    RegisteredAgent(RandomSearch, RandomSearchConfig),
    RegisteredAgent(DefaultOnly, DefaultOnlyConfig),
    RegisteredAgent(GridSearch, GridSearchConfig),
    RegisteredAgent(LocalSearch, LocalSearchConfig),
    RegisteredAgent(DifferentialEvolution, DifferentialEvolutionConfig),
    RegisteredAgent(SBOA, SBOAConfig),
    RegisteredAgent(CMAES, CMAESConfig),
    RegisteredAgent(TPE, TPEConfig),
    RegisteredAgent(MultivariateTPE, MultivariateTPEConfig),
    RegisteredAgent(GaussianProcess, GPConfig),
    RegisteredAgent(SMAC, SMACConfig),
    RegisteredAgent(Portfolio, PortfolioConfig),
    RegisteredAgent(PortfolioGP, PortfolioGPConfig),
    RegisteredAgent(Hyperband, HyperbandConfig),
    RegisteredAgent(ASHA, ASHAConfig),
    RegisteredAgent(BOHB, BOHBConfig),
)

AGENTS: dict[str, RegisteredAgent] = {entry.agent.name: entry for entry in _ALL}


def find_agent(name: str) -> RegisteredAgent:
    """Return the agent called ``name``.

    Raises:
        UnknownNameError: If there is none, with the closest name.
    """
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    return AGENTS[name]


def trainable_names() -> list[str]:
    """Return the names of the agents that ``train.py`` trains."""
    return [name for name, entry in AGENTS.items() if issubclass(entry.agent, TrainableAgent)]


def find_trainable(name: str) -> type[TrainableAgent]:
    """Return the class of the agent called ``name``.

    Raises:
        UnknownNameError: If there is none, with the closest name.
        InvalidSettingError: If it is a method that is not trained.
    """
    agent = find_agent(name).agent
    if not issubclass(agent, TrainableAgent):
        raise InvalidSettingError(
            f"agent={name} is not trained: it needs no run. Evaluate it with `python evaluate.py agents=[{name}]`, or "
            f"train one of {', '.join(trainable_names())}."
        )
    return agent
