"""Deep Q-network: double Q-learning with a target network over legal actions, and its usual extensions.

Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van Hasselt, Guez and Silver
(2016), "Deep Reinforcement Learning with Double Q-learning", equation 4. For hyperparameter optimisation:
Jomaa, Grabocka and Schmidt-Thieme (2019), "Hyp-RL". Differences are listed in ``docs/agents/dqn.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.base import Interface
from agents.checked_numbers import require_share
from agents.networks import ValueNetwork
from agents.replay import Transitions
from agents.value_learning import ValueAgent, ValueConfig
from hpo_gym.mdp.observations import Observation

__all__ = ["DQN", "DQNConfig"]


@dataclass(frozen=True)
class DQNConfig(ValueConfig):
    """Configuration of :class:`DQN`: that of every agent with a value per action, and what is its own.

    Args:
        hidden: Widths of the network's hidden layers.
        dueling: Whether the network estimates the value of a state and the advantages of actions apart.
        meta_feature_dropout: Probability that a replayed transition hides the dataset's meta-features. With a few
            dozen training datasets a network otherwise recognises each one, and does worse on others. With 1 the
            network never sees them, neither here nor when it acts.
    """

    hidden: tuple[int, ...] = (256, 256)
    dueling: bool = False
    meta_feature_dropout: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("meta_feature_dropout", self.meta_feature_dropout)


class DQN(ValueAgent):
    """A value network over flat observations, trained from replayed transitions of many environments."""

    name: ClassVar[str] = "dqn"
    learns: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step", "grid_choice")
    observation_kinds: ClassVar[tuple[str, ...]] = ("flat",)
    config: DQNConfig
    network: ValueNetwork
    target: ValueNetwork

    def __init__(
        self, config: DQNConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device, interface.observation_width, interface.num_actions)

    def make_network(self, width: int, num_actions: int, heads: int, noise: float | None, prior: float) -> ValueNetwork:
        config = self.config
        return ValueNetwork(width, num_actions, config.hidden, heads, config.dueling, noise, prior)

    def encode(self, observation: Observation) -> Tensor:
        assert isinstance(observation, Tensor)  # observation_kinds
        return observation

    def shown(self, encoded: Tensor) -> Tensor:
        if self.config.meta_feature_dropout < 1.0:
            return encoded
        encoded = encoded.clone()
        encoded[:, : self.interface.meta_features] = 0.0
        return encoded

    def augment(self, batch: Transitions) -> None:
        # A flat observation begins with the meta-features.
        self.hide_columns(batch, self.interface.meta_features, self.config.meta_feature_dropout)
