"""Stable-Baselines3's algorithms with legal actions, draws row by row, and rollouts that may be interrupted.

SB3 knows no action masks. Here the mask travels as the last ``A`` columns of the observation, so that SB3's own replay
and rollout buffers store it with every observation and next observation; the networks do not see it, and illegal
actions get no value or probability. Losses, optimisers and schedules are SB3's.

Imports Stable-Baselines3: only modules that have called :func:`hpo_gym.integrations.sb3.require_sb3` import this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor

from agents.base import Interface
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.integrations.sb3_vec_env import TorchVecEnv
from hpo_gym.mdp.observations import Observation

__all__ = [
    "ILLEGAL",
    "LegalActorCriticPolicy",
    "LegalDQN",
    "LegalDQNPolicy",
    "LegalFeatures",
    "LegalVecEnv",
    "PartialRolloutBuffer",
    "RowwiseEpsilonGreedy",
    "RowwiseSAC",
    "RowwiseTD3",
    "legal_actions",
    "masked_spaces",
    "model_input",
]

#: Value and logit of an illegal action: below any other, and finite, so that means over quantiles are.
ILLEGAL = -1e8


def masked_spaces(interface: Interface, meta_features: bool) -> tuple[Box, Discrete | Box]:
    """Return the observations and actions of a model.

    With discrete actions the mask follows the observation. Continuous actions are in ``[-1, 1]``, as SB3 asks for:
    an untrained Gaussian policy then begins in the middle and not in a corner.

    Args:
        interface: What the agent is built for.
        meta_features: Whether models see the dataset's meta-features.
    """
    hidden = 0 if meta_features else interface.meta_features
    width = interface.observation_width - hidden + interface.num_actions
    observations = Box(-np.inf, np.inf, (width,), np.float32)
    if interface.num_actions:
        return observations, Discrete(interface.num_actions)
    return observations, Box(-1.0, 1.0, (interface.action_dimension,), np.float32)


def model_input(observation: Observation, mask: Tensor | None, hidden: int) -> Tensor:
    """Return what a model sees, float32 ``[B, W - hidden + A]``.

    Args:
        observation: A flat one, float32 ``[B, W]``.
        mask: Legal actions, bool ``[B, A]``; ``None`` for continuous actions.
        hidden: Columns to leave out at the front, where the meta-features are.
    """
    assert isinstance(observation, Tensor)  # observation_kinds
    seen = observation[:, hidden:]
    return seen if mask is None else torch.cat([seen, mask.float()], 1)


class LegalVecEnv(TorchVecEnv):
    """A vector environment as a model of this module sees it.

    Args:
        vector_env: The environment, with flat observations.
        interface: Its interface.
        meta_features: Whether the model sees the dataset's meta-features.
    """

    def __init__(self, vector_env: HPOVectorEnv, interface: Interface, meta_features: bool) -> None:
        super().__init__(vector_env)
        self.observation_space, self.action_space = masked_spaces(interface, meta_features)
        self._hidden = 0 if meta_features else interface.meta_features

    def shown(self, observation: Observation, info: Mapping[str, Any]) -> Any:
        """Return observation and mask, side by side."""
        return super().shown(model_input(observation, info.get("action_mask"), self._hidden), info)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions, int64 ``[B]`` or float32 ``[B, action_dimension]`` in ``[-1, 1]``."""
        super().step_async(actions if isinstance(self.action_space, Discrete) else 0.5 * (actions + 1.0))


def legal_actions(observation: Tensor, actions: int) -> Tensor:
    """Return the mask that an observation ends with, bool ``[B, A]``."""
    return observation[:, -actions:] > 0.5


class LegalFeatures(BaseFeaturesExtractor):
    """What the networks see of an observation with its mask: the observation.

    Args:
        observation_space: ``[W + A]``.
        actions: ``A``.
    """

    def __init__(self, observation_space: Box, actions: int) -> None:
        super().__init__(observation_space, observation_space.shape[0] - actions)

    def forward(self, observation: Tensor) -> Tensor:
        """Return float32 ``[B, W]`` of ``[B, W + A]``."""
        return observation[:, : self.features_dim]


class _LegalQNetwork(QNetwork):
    """Action values, :data:`ILLEGAL` for illegal actions."""

    def forward(self, obs: Any) -> Tensor:
        """Return float32 ``[B, A]`` of ``[B, W + A]``."""
        return super().forward(obs).masked_fill(~legal_actions(obs, int(self.action_space.n)), ILLEGAL)


class LegalDQNPolicy(DQNPolicy):
    """SB3's DQN networks over legal actions: greedy actions and the maximum in the target are legal, too."""

    def make_q_net(self) -> QNetwork:
        """Return a network that knows the mask."""
        return _LegalQNetwork(**self._update_features_extractor(self.net_args, None)).to(self.device)


class _LegalExtractor(MlpExtractor):
    """Hidden layers over the observation; behind the actor's last one follows the mask.

    ``latent_dim_pi`` does not count the mask: the layer that makes logits does not see it.

    Args:
        actions: ``A``.
        features: Width of observation and mask together, ``W + A``.
        others: As for SB3's.
    """

    def __init__(self, actions: int, features: int, *others: Any, **named: Any) -> None:
        super().__init__(features - actions, *others, **named)
        self._seen = features - actions

    def forward_actor(self, features: Tensor) -> Tensor:
        """Return float32 ``[B, latent_dim_pi + A]``."""
        return torch.cat([super().forward_actor(features[:, : self._seen]), features[:, self._seen :]], 1)

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return float32 ``[B, latent_dim_vf]``."""
        return super().forward_critic(features[:, : self._seen])


class LegalActorCriticPolicy(ActorCriticPolicy):
    """SB3's actor and critic with probability 0 for illegal actions, when acting and when learning.

    Huang and Ontañón (2022), "A Closer Look at Invalid Action Masking in Policy Gradient Algorithms".
    """

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.action_space, Discrete)
        self.mlp_extractor = _LegalExtractor(
            int(self.action_space.n), self.features_dim, self.net_arch, self.activation_fn, self.device
        )

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        width = self.mlp_extractor.latent_dim_pi
        logits = self.action_net(latent_pi[:, :width]).masked_fill(latent_pi[:, width:] < 0.5, ILLEGAL)
        return self.action_dist.proba_distribution(action_logits=logits)


class RowwiseEpsilonGreedy(OffPolicyAlgorithm):
    """Epsilon-greedy over legal actions, decided row by row; SB3's own decides once for all rows."""

    exploration_rate: float

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self.action_space, Discrete) and isinstance(self._last_obs, np.ndarray)
        epsilon = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        legal = self._last_obs[:, -int(self.action_space.n) :] > 0.5
        explored = np.random.rand(n_envs) < epsilon
        uniform = np.where(legal, np.random.rand(*legal.shape), -1.0).argmax(1)
        best, _ = self.policy.predict(self._last_obs, deterministic=True)
        actions = np.where(explored, uniform, best)
        return actions, actions


class LegalDQN(RowwiseEpsilonGreedy, DQN):
    """SB3's DQN over legal actions."""


class _RowwiseBox(OffPolicyAlgorithm):
    """Uniform actions of the warm-up and noise for all rows in one draw; SB3 draws them one by one.

    ``action_space.sample()``, which SB3 uses, has a generator of its own that no seed here reaches.
    """

    #: Standard deviation of the normal noise that is added to actions in ``[-1, 1]``.
    noise: float = 0.0

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self.action_space, Box) and self._last_obs is not None
        shape = (n_envs, *self.action_space.shape)
        if self.num_timesteps < learning_starts:
            scaled = np.random.uniform(-1.0, 1.0, shape).astype(np.float32)
        else:
            scaled = self.policy.scale_action(self.predict(self._last_obs, deterministic=False)[0])
        if self.noise > 0.0:
            drawn = np.random.normal(0.0, self.noise, shape).astype(np.float32)
            scaled = np.clip(scaled + drawn, -1.0, 1.0)
        return self.policy.unscale_action(scaled), scaled


class RowwiseSAC(_RowwiseBox, SAC):
    """SB3's SAC."""


class RowwiseTD3(_RowwiseBox, TD3):
    """SB3's TD3."""


class PartialRolloutBuffer(RolloutBuffer):
    """A rollout that is collected in parts: it begins anew, and advantages are computed, only when it is full."""

    def reset(self) -> None:
        """Begin a rollout, unless one has begun."""
        if self.full or not hasattr(self, "observations"):
            super().reset()

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Compute them once the rollout is whole; of a part of it they would be wrong."""
        if self.full:
            super().compute_returns_and_advantage(last_values, dones)
