"""Agents by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.agnostic_q import AgnosticQ, AgnosticQConfig
from agents.asha import ASHA, ASHAConfig
from agents.averaged_gp import AveragedGP, AveragedGPConfig
from agents.base import Agent, TrainableAgent
from agents.bohb import BOHB, BOHBConfig
from agents.cma_es import CMAES, CMAESConfig
from agents.default_only import DefaultOnly, DefaultOnlyConfig
from agents.differential_evolution import DifferentialEvolution, DifferentialEvolutionConfig
from agents.dqn import DQN, DQNConfig
from agents.gaussian_process import GaussianProcess, GPConfig
from agents.grid_search import GridSearch, GridSearchConfig
from agents.grpo import GRPO, GRPOConfig
from agents.grpo_paper import GRPOPaper, GRPOPaperConfig
from agents.grpo_universal import UniversalGRPO, UniversalGRPOConfig
from agents.hyp_rl import HypRL, HypRLConfig
from agents.hyp_rl_faithful import HypRLFaithful, HypRLFaithfulConfig
from agents.hyperband import Hyperband, HyperbandConfig
from agents.local_search import LocalSearch, LocalSearchConfig
from agents.naf import NAF, NAFConfig
from agents.portfolio import Portfolio, PortfolioConfig
from agents.portfolio_gp import PortfolioGP, PortfolioGPConfig
from agents.portfolio_local import PortfolioLocal, PortfolioLocalConfig
from agents.portfolio_q import PortfolioQ, PortfolioQConfig
from agents.qt_opt import QTOpt, QTOptConfig
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.sb3_a2c import SB3A2C, SB3A2CConfig
from agents.sb3_dqn import SB3DQN, SB3DQNConfig
from agents.sb3_ppo import SB3PPO, SB3PPOConfig
from agents.sb3_qrdqn import SB3QRDQN, SB3QRDQNConfig
from agents.sb3_sac import SB3SAC, SB3SACConfig
from agents.sb3_td3 import SB3TD3, SB3TD3Config
from agents.sboa import SBOA, SBOAConfig
from agents.smac import SMAC, SMACConfig
from agents.spg_search import SPGSearch, SPGSearchConfig
from agents.spg_settings import SPGConfig
from agents.tabular_q_learning import TabularQConfig, TabularQLearning
from agents.tpe import TPE, TPEConfig
from agents.tpe_multivariate import MultivariateTPE, MultivariateTPEConfig
from agents.transfer_gp import TransferGP, TransferGPConfig
from hpo_gym.errors import InvalidSettingError, unknown_name

__all__ = ["AGENTS", "MODEL_TRAININGS", "RegisteredAgent", "find_agent", "find_trainable", "trainable_names"]


@dataclass(frozen=True)
class RegisteredAgent:
    """An agent's class and its configuration's class."""

    agent: type[Agent]
    config: type[Any]


_ALL = (
    RegisteredAgent(DQN, DQNConfig),
    RegisteredAgent(AgnosticQ, AgnosticQConfig),
    RegisteredAgent(GRPO, GRPOConfig),
    RegisteredAgent(UniversalGRPO, UniversalGRPOConfig),
    RegisteredAgent(PortfolioQ, PortfolioQConfig),
    RegisteredAgent(HypRL, HypRLConfig),
    RegisteredAgent(HypRLFaithful, HypRLFaithfulConfig),
    RegisteredAgent(QTOpt, QTOptConfig),
    RegisteredAgent(NAF, NAFConfig),
    RegisteredAgent(SB3DQN, SB3DQNConfig),
    RegisteredAgent(SB3QRDQN, SB3QRDQNConfig),
    RegisteredAgent(SB3PPO, SB3PPOConfig),
    RegisteredAgent(SB3A2C, SB3A2CConfig),
    RegisteredAgent(SB3SAC, SB3SACConfig),
    RegisteredAgent(SB3TD3, SB3TD3Config),
    RegisteredAgent(RandomSearch, RandomSearchConfig),
    RegisteredAgent(DefaultOnly, DefaultOnlyConfig),
    RegisteredAgent(GridSearch, GridSearchConfig),
    RegisteredAgent(LocalSearch, LocalSearchConfig),
    RegisteredAgent(DifferentialEvolution, DifferentialEvolutionConfig),
    RegisteredAgent(SBOA, SBOAConfig),
    RegisteredAgent(TabularQLearning, TabularQConfig),
    RegisteredAgent(CMAES, CMAESConfig),
    RegisteredAgent(TPE, TPEConfig),
    RegisteredAgent(MultivariateTPE, MultivariateTPEConfig),
    RegisteredAgent(GaussianProcess, GPConfig),
    RegisteredAgent(SMAC, SMACConfig),
    RegisteredAgent(GRPOPaper, GRPOPaperConfig),
    RegisteredAgent(Portfolio, PortfolioConfig),
    RegisteredAgent(PortfolioGP, PortfolioGPConfig),
    RegisteredAgent(PortfolioLocal, PortfolioLocalConfig),
    RegisteredAgent(TransferGP, TransferGPConfig),
    RegisteredAgent(AveragedGP, AveragedGPConfig),
    RegisteredAgent(Hyperband, HyperbandConfig),
    RegisteredAgent(ASHA, ASHAConfig),
    RegisteredAgent(BOHB, BOHBConfig),
    RegisteredAgent(SPGSearch, SPGSearchConfig),
)

AGENTS: dict[str, RegisteredAgent] = {entry.agent.name: entry for entry in _ALL}

#: Configurations of methods that tune a network within its own training, by name: what ``train.py`` runs under that
#: name trains a network and plays no episodes; the agent of that name, of :data:`AGENTS`, plays live environments.
MODEL_TRAININGS: dict[str, type[Any]] = {"spg": SPGConfig}


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
