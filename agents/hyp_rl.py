"""Hyp-RL: an LSTM over the trials of an episode values every configuration of a grid; the improved mode.

Jomaa, Grabocka and Schmidt-Thieme (2019), "Hyp-RL: Hyperparameter Optimization by Reinforcement Learning", arXiv
1906.11527. As published it is :mod:`agents.hyp_rl_faithful`; differences are listed in ``docs/agents/hyp_rl.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface
from agents.checked_numbers import require_share
from agents.episode_states import CompactStates, EpisodeStates
from agents.grid_actions import GridActions
from agents.networks import require_layers
from agents.recurrent import RecurrentValueNetwork
from agents.replay import Transitions
from agents.value_learning import ValueAgent, ValueConfig
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.mdp.observations import Observation

__all__ = ["HypRL", "HypRLConfig"]


@dataclass(frozen=True)
class HypRLConfig(ValueConfig):
    """Configuration of :class:`HypRL`: that of every agent with a value per action, and what is its own.

    Args:
        cells: Width of the LSTM.
        hidden: Widths of the layers between it and the action values.
        dueling: Whether the network estimates the value of a state and the advantages of actions apart.
        meta_feature_dropout: Probability that a replayed transition hides the dataset's meta-features. With 1 the
            network never sees them, neither here nor when it acts.
    """

    total_steps: int = 300_000
    learning_rate: float = 1e-3
    buffer_size: int = 80_000
    learning_starts: int = 10_000
    batch_size: int = 256
    transitions_per_update: int = 256
    evaluation_epsilon: float = 0.0
    cells: int = 64
    hidden: tuple[int, ...] = (32, 128)
    dueling: bool = False
    meta_feature_dropout: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("meta_feature_dropout", self.meta_feature_dropout)
        require_integer("cells", self.cells, 1)
        require_layers(self.hidden)
        if self.exploration == "count_ucb":
            raise InvalidSettingError(
                "exploration='count_ucb' counts visits of similar observations, and no two histories are of one "
                "length. Use agent.exploration=epsilon_greedy, softmax, softmax_scaled, ucb, thompson or noisy."
            )


class HypRL(ValueAgent):
    """A recurrent value network over histories, which never tries a configuration of the grid twice.

    Actions that the history shows as tried are masked when it acts and in what it bootstraps from; when an episode
    has tried all of them, every legal one may be taken again. Which configuration an action is, it learns from the
    environment it trains on; before that, nothing is known to be tried.
    """

    name: ClassVar[str] = "hyp_rl"
    learns: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_choice",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)
    config: HypRLConfig
    network: RecurrentValueNetwork
    target: RecurrentValueNetwork

    def __init__(
        self, config: HypRLConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.states = self.make_states(len(interface.hyperparameters), interface.meta_features)
        self._grid: GridActions | None = None
        # No width: that of a row depends on the budget, and only a policy that is refused would use it.
        super().__init__(config, interface, seed, device, 0, interface.num_actions)

    def make_states(self, dimension: int, meta_features: int) -> EpisodeStates:
        """Return how episodes over ``D`` hyperparameters and ``M`` meta-features are laid out."""
        return CompactStates(dimension, meta_features)

    def make_network(
        self, width: int, num_actions: int, heads: int, noise: float | None, prior: float
    ) -> RecurrentValueNetwork:
        config = self.config
        return RecurrentValueNetwork(
            self.states, num_actions, config.cells, config.hidden, heads, config.dueling, noise, prior
        )

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self._grid = GridActions.of(env)
        super().train(env, callback)

    def encode(self, observation: Observation) -> Tensor:
        assert isinstance(observation, dict)  # observation_kinds
        return self.states.encode(observation)

    def shown(self, encoded: Tensor) -> Tensor:
        if self.config.meta_feature_dropout < 1.0:
            return encoded
        return self.states.with_meta_features(encoded, torch.zeros_like(encoded[:, :1], dtype=torch.bool))

    def legal(self, encoded: Tensor, mask: Tensor | None) -> Tensor | None:
        if self._grid is None:
            return mask
        allowed = self._grid.legal.expand(len(encoded), -1) if mask is None else mask
        untried = allowed & ~self._grid.tried(self.states.read(encoded))
        return torch.where(untried.any(1, keepdim=True), untried, allowed)

    def _remember(
        self, encoded: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, info: Mapping[str, Any]
    ) -> None:
        # What follows holds all of what was before, and the grid says what is legal: neither is stored again.
        before = encoded[:, :1]
        super()._remember(before, action, reward, terminated, {"final_obs": info["final_obs"], "final_info": {}})

    def augment(self, batch: Transitions) -> None:
        share, count = self.config.meta_feature_dropout, len(batch.action)
        if self.interface.meta_features > 0 and share > 0.0:
            shown = torch.rand(count, 1, generator=self._replay_draws, device=self.device) >= share
            batch.following = self.states.with_meta_features(batch.following, shown)
        batch.observation = torch.cat([batch.observation, batch.following[:, 1:]], 1)

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved = super().state_dict(resumable)
        return saved if self._grid is None else saved | {"grid": self._grid.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        self._grid = GridActions.from_state_dict(saved["grid"], self.device) if "grid" in saved else None
