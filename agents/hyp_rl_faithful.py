"""Hyp-RL as its paper and released code describe it.

Jomaa, Grabocka and Schmidt-Thieme (2019), "Hyp-RL: Hyperparameter Optimization by Reinforcement Learning", arXiv
1906.11527. What is known, what is not and what differs is in ``docs/agents/hyp_rl.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import Interface
from agents.episode_states import EpisodeStates, PublishedStates
from agents.hyp_rl import HypRL, HypRLConfig
from agents.recurrent import RecurrentValueNetwork
from agents.schedules import ConstantSchedule
from agents.tensorflow_rmsprop import TensorFlowRMSprop
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError

__all__ = ["HypRLFaithful", "HypRLFaithfulConfig"]


@dataclass(frozen=True)
class HypRLFaithfulConfig(HypRLConfig):
    """Configuration of :class:`HypRLFaithful`: the published values, but for ``total_steps`` (published: 1e8).

    Args:
        momentum: Of RMSProp, in ``[0, 1)``.
        epsilon: Of RMSProp, added to the mean square of the gradient.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    buffer_size: int = 100
    learning_starts: int = 100
    batch_size: int = 32
    transitions_per_update: int = 1
    target_rate: float = 1.0
    target_interval: int = 10
    weight_decay: float = 0.0
    exploration_share: float = 0.1
    epsilon_end: float = 0.01
    cells: int = 32
    meta_feature_dropout: float = 0.0
    momentum: float = 0.95
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if self.exploration != "epsilon_greedy":
            raise InvalidSettingError(
                f"exploration={self.exploration!r}: Hyp-RL explores with epsilon_greedy. Use agent=hyp_rl for others."
            )
        if self.weight_decay != 0.0:
            raise InvalidSettingError(
                f"weight_decay={self.weight_decay!r}: RMSProp as published has none. Leave it out, or use agent=hyp_rl."
            )
        super().__post_init__()
        if not 0.0 <= self.momentum < 1.0:
            raise InvalidSettingError(f"momentum={self.momentum!r} must lie in [0, 1).")
        if not 0.0 < self.epsilon < float("inf"):
            raise InvalidSettingError(f"epsilon={self.epsilon!r} must be greater than 0, and finite.")


class HypRLFaithful(HypRL):
    """The published state matrix, network, reward, end of episodes and learning settings; tried actions stay legal."""

    name: ClassVar[str] = "hyp_rl_faithful"
    config: HypRLFaithfulConfig

    def __init__(
        self, config: HypRLFaithfulConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = TensorFlowRMSprop(
            learned, config.learning_rate, momentum=config.momentum, epsilon=config.epsilon
        )
        self._rate = ConstantSchedule(config.learning_rate)

    def make_states(self, dimension: int, meta_features: int) -> EpisodeStates:
        return PublishedStates(dimension, meta_features)

    def make_network(
        self, width: int, num_actions: int, heads: int, noise: float | None, prior: float
    ) -> RecurrentValueNetwork:
        network = super().make_network(width, num_actions, heads, noise, prior)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                # TensorFlow's own choice; the paper says nothing about dense layers.
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return network

    def require_trainable(self, env: HPOVectorEnv) -> None:
        super().require_trainable(env)
        settings = env.engine.settings
        if settings.reward != "delta" or not settings.terminate_on_repeat:
            raise InvalidSettingError(
                f"Agent {self.name!r} learns as published, from the reward 'delta' in episodes that a repeated "
                f"configuration ends; the environment has reward={settings.reward!r} and terminate_on_repeat="
                f"{settings.terminate_on_repeat}. Set env.reward=delta env.terminate_on_repeat=true "
                "env.action=grid_choice env.observation=history, or use agent=hyp_rl."
            )

    def legal(self, encoded: Tensor, mask: Tensor | None) -> Tensor | None:
        if mask is None and self._grid is not None:
            return self._grid.legal.expand(len(encoded), -1)
        return mask

    def clip_gradients(self) -> Tensor:
        """Scale every variable's gradient down to ``max_gradient_norm`` by itself; return the norm of all before."""
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        norms = torch.stack([gradient.norm() for gradient in gradients])
        for gradient, norm in zip(gradients, norms, strict=True):
            # As tf.clip_by_norm: what is short enough stays as it is.
            gradient.mul_(self.config.max_gradient_norm / norm.clamp(min=self.config.max_gradient_norm))
        total: Tensor = norms.norm()
        return total
