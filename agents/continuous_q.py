"""Q-learning over continuous actions: what its agents have in common.

An answer to the open question of Hasan (2024), "HyperQ-Opt": Q-learning for search spaces that are no grids. The
agents differ in how they find the best action of a state.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import Interface
from agents.checked_numbers import require_share
from agents.continuous_exploration import ContinuousExploration, ContinuousExplorationConfig
from agents.networks import require_layers
from agents.off_policy import OffPolicyAgent
from agents.off_policy_settings import OffPolicyConfig
from agents.replay import Transitions
from agents.schedules import ConstantSchedule
from agents.trial_summary import TrialSummary
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.mdp.observations import Observation

__all__ = ["ContinuousQ", "ContinuousQConfig"]


@dataclass(frozen=True)
class ContinuousQConfig(ContinuousExplorationConfig, OffPolicyConfig):
    """What the configurations of Q-learning agents over continuous actions have in common.

    Args:
        hidden: Widths of the network's hidden layers.
        best_trials: Best trials of the episode that the network sees (:class:`~agents.trial_summary.TrialSummary`);
            needs ``observation=history``.
        last_trials: Last trials that it sees; needs ``observation=history``.
        meta_feature_dropout: Probability that a replayed transition hides the dataset's meta-features. With 1 the
            network never sees them, neither here nor when it acts.
    """

    hidden: tuple[int, ...] = (128, 128)
    best_trials: int = 1
    last_trials: int = 1
    meta_feature_dropout: float = 1.0

    def __post_init__(self) -> None:
        OffPolicyConfig.__post_init__(self)
        ContinuousExplorationConfig.__post_init__(self)
        for name in ("best_trials", "last_trials"):
            require_integer(name, getattr(self, name), 1)
        require_share("meta_feature_dropout", self.meta_feature_dropout)
        require_layers(self.hidden)


class ContinuousQ(OffPolicyAgent):
    """An agent that replays configurations and what they led to.

    A subclass sets ``network``, ``target`` and ``optimizer`` for states of :attr:`width` columns, and finds the best
    action in :meth:`best_action`.
    """

    learns: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history", "flat")
    config: ContinuousQConfig
    exploration: ContinuousExploration

    def __init__(
        self, config: ContinuousQConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        dimension, meta_features = len(interface.hyperparameters), interface.meta_features
        self._summary: TrialSummary | None = None
        if interface.observation == "history":
            fidelity = interface.action_dimension > dimension
            kept = (config.best_trials, config.last_trials)
            self._summary = TrialSummary(dimension, meta_features, *kept, fidelity=fidelity)
        else:
            _require_summary(config)
        #: Meta-features that states hold, in their first columns.
        self._meta_features = 0 if config.meta_feature_dropout == 1.0 else meta_features
        self._left_out = meta_features - self._meta_features
        whole = interface.observation_width if self._summary is None else self._summary.width
        #: Columns ``W`` of a state.
        self.width = whole - self._left_out
        schedules = (config.scheduled(name, config.total_steps) for name in ("epsilon", "noise"))
        self.exploration = ContinuousExploration(*schedules)
        self._evaluation = ContinuousExploration(
            ConstantSchedule(config.evaluation_epsilon), ConstantSchedule(config.evaluation_noise)
        )

    @abstractmethod
    def best_action(self, network: nn.Module, state: Tensor, draws: torch.Generator) -> Tensor:
        """Return the action of the largest value under ``network``, float32 ``[B, E]``, in states ``[B, W]``."""

    def encode(self, observation: Observation) -> Tensor:
        if self._summary is None:
            assert isinstance(observation, Tensor)  # the interface says flat
            return observation[:, self._left_out :]
        assert isinstance(observation, dict)  # the interface says history
        return self._summary(observation)[:, self._left_out :]

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        state = self.encode(observation)
        if explore:
            return self.explore(state, mask, draws)
        # The average of the last networks is the steadier policy.
        return self._evaluation(self.best_action(self.target, state, draws), self.steps, draws)[0]

    def explore(self, encoded: Tensor, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        best = self.best_action(self.network, encoded, draws)
        actions, explored = self.exploration(best, self.steps, draws)
        self._explored = explored.float().mean()
        return actions

    def hide_meta_features(self, batch: Transitions) -> None:
        """Hide, in place, the meta-features of some transitions of a batch from the network."""
        self.hide_columns(batch, self._meta_features, self.config.meta_feature_dropout)


def _require_summary(config: ContinuousQConfig) -> None:
    for name in ("best_trials", "last_trials"):
        value = getattr(config, name)
        if value != getattr(ContinuousQConfig, name):
            raise InvalidSettingError(
                f"{name}={value!r} has no effect with observation=flat, which shows the last trial alone. Set "
                "env.observation=history, or leave it out."
            )
