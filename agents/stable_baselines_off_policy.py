"""Agents of Stable-Baselines3 that learn from replayed transitions: DQN, QR-DQN, SAC and TD3."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Interface
from agents.checked_numbers import require_numbers
from agents.exploration import Decision, EpsilonGreedy
from agents.off_policy_settings import require_update
from agents.schedules import ConstantSchedule
from agents.stable_baselines import StableBaselinesAgent, check_network
from hpo_gym.errors import InvalidSettingError, require_booleans, require_integer
from hpo_gym.mdp.observations import Observation

__all__ = ["EpsilonGreedyAgent", "EpsilonGreedyConfig", "OffPolicyAgent", "OffPolicyConfig"]


@dataclass(frozen=True)
class OffPolicyConfig:
    """What they share; names and meaning are SB3's unless noted.

    Args:
        total_steps: Transitions to train on; more than ``learning_starts``.
        net_arch: Widths of the hidden layers of every network.
        learning_rate: Adam's, constant.
        buffer_size: Transitions kept for replay.
        learning_starts: Transitions with uniform actions before the first gradient step.
        batch_size: Transitions per gradient step.
        tau: Share of the way that target networks move at an update (Polyak averaging), in ``(0, 1]``.
        gamma: Discount, in ``[0, 1]``.
        train_freq: Transitions between rounds of gradient steps. SB3 counts vector steps, so that there more
            environments would mean fewer gradient steps; with one environment both are the same.
        gradient_steps: Gradient steps per round.
        meta_features: Whether the networks see the dataset's meta-features. With a few dozen training datasets they
            otherwise recognise each one, and do worse on others.
    """

    total_steps: int = 600_000
    net_arch: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    buffer_size: int = 300_000
    learning_starts: int = 20_000
    batch_size: int = 256
    tau: float = 0.005
    gamma: float = 0.99
    train_freq: int = 128
    gradient_steps: int = 1
    meta_features: bool = False

    def __post_init__(self) -> None:
        require_booleans(self)
        require_numbers(
            self,
            counts=("total_steps", "buffer_size", "batch_size", "train_freq", "gradient_steps"),
            positive=("learning_rate",),
            shares=("gamma", "tau"),
        )
        require_integer("learning_starts", self.learning_starts, 0)
        check_network(self.net_arch)
        if self.tau == 0.0:
            raise InvalidSettingError("tau=0.0 must be greater than 0: the target networks would never change.")
        require_update(self.total_steps, self.learning_starts, "train_freq", self.train_freq)

    def arguments(self) -> dict[str, Any]:
        """Return those that all of SB3's off-policy algorithms share, by SB3's names."""
        names = ("learning_rate", "buffer_size", "learning_starts", "batch_size", "tau", "gamma")
        return {**{name: getattr(self, name) for name in names}, "policy_kwargs": {"net_arch": list(self.net_arch)}}


class OffPolicyAgent(StableBaselinesAgent):
    """Learns from replayed transitions; cadences are counted in transitions, not in vector steps as SB3 does."""

    arrays = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(config, interface, seed, device)
        # For one environment, and never used.
        self.model.replay_buffer = None
        #: Rounds of gradient steps so far.
        self.rounds = 0

    def make_buffer(self) -> Any:
        model = self.model
        model.replay_buffer = model.replay_buffer_class(
            model.buffer_size, model.observation_space, model.action_space, device=model.device, n_envs=model.n_envs
        )
        return model.replay_buffer

    def advance(self, hooks: Any) -> None:
        from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

        model, config = self.model, self.config
        model.collect_rollouts(
            model.env,
            hooks,
            TrainFreq(1, TrainFrequencyUnit.STEP),
            model.replay_buffer,
            learning_starts=config.learning_starts,
        )
        due = (model.num_timesteps - config.learning_starts) // config.train_freq
        if due > self.rounds:
            model.train((due - self.rounds) * config.gradient_steps, config.batch_size)
            self.rounds = due

    def extent(self) -> tuple[int, int, bool]:
        return self._buffer.size(), self._buffer.pos, self._buffer.full

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        return super().state_dict(resumable) | ({"rounds": self.rounds} if resumable else {})

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        if resumable and "rounds" in saved:
            self.rounds = int(saved["rounds"])


@dataclass(frozen=True)
class EpsilonGreedyConfig(OffPolicyConfig):
    """What DQN and QR-DQN share beside :class:`OffPolicyConfig`.

    Args:
        tau: As there; 1 copies the network.
        target_update_interval: Transitions between updates of the target network; at most one per vector step.
        exploration_fraction: Share of the training over which the probability of a random action falls, in
            ``(0, 1]``.
        exploration_initial_eps: Probability of a random action at first.
        exploration_final_eps: Probability of a random action later.
        max_grad_norm: Gradients are scaled down to this norm.
        evaluation_epsilon: Probability of a random action of the trained policy, which SB3 does not have. A policy
            without memory that were only greedy would step to and fro between two configurations.
    """

    tau: float = 1.0
    target_update_interval: int = 10_000
    exploration_fraction: float = 0.6
    exploration_initial_eps: float = 1.0
    exploration_final_eps: float = 0.05
    max_grad_norm: float = 10.0
    evaluation_epsilon: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(
            self,
            counts=("target_update_interval",),
            positive=("max_grad_norm", "exploration_fraction"),
            shares=(
                "exploration_fraction",
                "exploration_initial_eps",
                "exploration_final_eps",
                "evaluation_epsilon",
            ),
        )

    def arguments(self) -> dict[str, Any]:
        names = ("target_update_interval", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
        own = {name: getattr(self, name) for name in (*names, "max_grad_norm")}
        return {**super().arguments(), **own}


class EpsilonGreedyAgent(OffPolicyAgent):
    """Action values over legal actions, and an epsilon over transitions."""

    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step", "grid_choice")
    counters: ClassVar[tuple[str, ...]] = ("_n_updates", "_episode_num", "_n_calls", "exploration_rate")

    @abstractmethod
    def values(self, seen: Tensor) -> Tensor:
        """Return action values, float32 ``[B, A]``, of what the networks take."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"policy": self.model.policy.optimizer}

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        seen = self.seen(observation, mask)
        epsilon = self.config.evaluation_epsilon
        if explore:
            epsilon = self.model.exploration_schedule(self.model._current_progress_remaining)
        legal = seen[:, -self.interface.num_actions :] > 0.5
        with torch.no_grad():
            decision = Decision(self.values(seen), legal, self.steps, seen)
        return EpsilonGreedy(ConstantSchedule(epsilon))(decision, draws).actions
