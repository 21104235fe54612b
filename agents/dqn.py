"""Deep Q-network: double Q-learning with a target network over legal actions.

Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van Hasselt, Guez and Silver
(2016), "Deep Reinforcement Learning with Double Q-learning", equation 4. For hyperparameter optimisation:
Jomaa, Grabocka and Schmidt-Thieme (2019), "Hyp-RL". Differences are listed in ``docs/agents/dqn.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.exploration import EpsilonGreedy, LinearSchedule, greedy
from agents.networks import ValueNetwork, seeded
from agents.replay import ReplayBuffer, Transitions
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator, stream_seed

__all__ = ["DQN", "DQNConfig"]


@dataclass(frozen=True)
class DQNConfig:
    """Configuration of :class:`DQN`. Every cadence is counted in transitions or in gradient steps.

    Args:
        total_steps: Transitions to train on; more than ``learning_starts``.
        hidden: Widths of the network's hidden layers.
        learning_rate: Adam's, falling linearly to a tenth over the training.
        discount: Gamma, in ``[0, 1]``.
        buffer_size: Transitions kept for replay.
        learning_starts: Transitions before the first gradient step.
        batch_size: Transitions per gradient step.
        transitions_per_update: Transitions between gradient steps.
        target_rate: Share of the way that the target network moves towards the network at every gradient step
            (Polyak averaging), in ``(0, 1]``.
        double: Whether the online network chooses the action that the target network values.
        epsilon_start: Probability of a random action at first.
        epsilon_end: Probability of a random action later.
        epsilon_share: Share of the training over which epsilon falls, in ``(0, 1]``.
        evaluation_epsilon: Probability of a random action of the trained policy. A policy without memory that
            were only greedy would step to and fro between two configurations; Mnih et al. use 0.05, too.
        meta_feature_dropout: Probability that a replayed transition hides the dataset's meta-features. With a few
            dozen training datasets a network otherwise recognises each one, and does worse on others. With 1 the
            network never sees them, neither here nor when it acts.
        weight_decay: Decoupled weight decay.
        max_gradient_norm: Gradients are scaled down to this norm.
        save_buffer: Whether checkpoints hold the replay buffer; without it a resumed run first collects
            ``learning_starts`` transitions again (or a full buffer), and is then not bitwise the unbroken one.
    """

    total_steps: int = 600_000
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 5e-4
    discount: float = 0.98
    buffer_size: int = 300_000
    learning_starts: int = 20_000
    batch_size: int = 512
    transitions_per_update: int = 128
    target_rate: float = 0.01
    double: bool = True
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_share: float = 0.6
    evaluation_epsilon: float = 0.05
    meta_feature_dropout: float = 1.0
    weight_decay: float = 0.01
    max_gradient_norm: float = 10.0
    save_buffer: bool = True

    def __post_init__(self) -> None:
        for name in ("total_steps", "buffer_size", "batch_size", "transitions_per_update"):
            if getattr(self, name) < 1:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be at least 1.")
        if self.learning_starts < 0:
            raise InvalidSettingError(f"learning_starts={self.learning_starts!r} must not be negative.")
        first = self.learning_starts + self.transitions_per_update
        if self.total_steps < first:
            raise InvalidSettingError(
                f"total_steps={self.total_steps!r} ends before the first gradient step, which comes after "
                f"learning_starts={self.learning_starts!r} and transitions_per_update={self.transitions_per_update!r} "
                f"transitions: nothing would be learned. Set agent.total_steps to {first} or more, or "
                "agent.learning_starts to less."
            )
        for name in ("learning_rate", "max_gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be greater than 0.")
        if not self.weight_decay >= 0.0:
            raise InvalidSettingError(f"weight_decay={self.weight_decay!r} must not be negative.")
        for name in ("discount", "meta_feature_dropout", "epsilon_start", "epsilon_end", "evaluation_epsilon"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in [0, 1].")
        for name in ("epsilon_share", "target_rate"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in (0, 1].")


class DQN(TrainableAgent):
    """A value network over flat observations, trained from replayed transitions of many environments."""

    name: ClassVar[str] = "dqn"
    learns: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step", "grid_choice")
    observation_kinds: ClassVar[tuple[str, ...]] = ("flat",)

    def __init__(
        self, config: DQNConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        self.config: DQNConfig = config
        with seeded(stream_seed(seed, "agent", "weights")):
            self.network = ValueNetwork(interface.observation_width, interface.num_actions, config.hidden)
        self.network.to(self.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self._evaluation = EpsilonGreedy(LinearSchedule(config.evaluation_epsilon, config.evaluation_epsilon, 1))
        decay = max(1, round(config.epsilon_share * config.total_steps))
        self.exploration = EpsilonGreedy(LinearSchedule(config.epsilon_start, config.epsilon_end, decay))
        self._rate = LinearSchedule(config.learning_rate, 0.1 * config.learning_rate, config.total_steps)
        self.replay: ReplayBuffer | None = None
        self._act_draws = generator(seed, "agent", "act", device=self.device)
        self._replay_draws = generator(seed, "agent", "replay", device=self.device)
        self.updates = 0
        # Gradient steps that were due while a resumed run filled its buffer again, and are not made up for.
        self._missed = 0

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        assert isinstance(observation, Tensor)  # observation_kinds
        if self.config.meta_feature_dropout == 1.0:
            observation = observation.clone()
            observation[:, : self.interface.meta_features] = 0.0
        with torch.no_grad():
            # The average of the last networks is the steadier policy.
            values = self.network(observation) if explore else self.target(observation)
        policy = self.exploration if explore else self._evaluation
        return policy(values, mask, self.steps, draws).actions

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.interface.require_same(Interface.of(env))
        config = self.config
        if self.replay is None:
            width, actions = self.interface.observation_width, self.interface.num_actions
            self.replay = ReplayBuffer(config.buffer_size, width, actions, self.device)
        observation, info = env.observe()
        while self.steps < config.total_steps:
            action = self.act(observation, info["action_mask"], self._act_draws, explore=True)
            following, reward, terminated, _, info = env.step(action)
            assert isinstance(observation, Tensor)  # observation_kinds
            final = info["final_info"]["action_mask"]
            self.replay.append(Transitions(observation, action, reward, info["final_obs"], terminated, final))
            observation = following
            self.steps += env.num_envs
            logs = self._learn()
            if callback(self.steps, logs, info):
                return

    def _learn(self) -> dict[str, float | Tensor]:
        """Make the gradient steps that are due."""
        config = self.config
        assert self.replay is not None  # train made it
        logs: dict[str, float | Tensor] = {**self.exploration.describe(self.steps), "updates": self.updates}
        due = (self.steps - config.learning_starts) // config.transitions_per_update
        if self.replay.size < min(config.learning_starts, config.buffer_size):
            self._missed = max(0, due - self.updates)
        while self.updates < due - self._missed:
            logs |= self._update()
        return logs

    def _update(self) -> dict[str, float | Tensor]:
        config = self.config
        assert self.replay is not None  # train made it
        batch = self._hide_meta_features(self.replay.sample(config.batch_size, self._replay_draws))
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.steps)
        values = self.network(batch.observation).gather(1, batch.action[:, None]).squeeze(1)
        target = self.targets(batch)
        loss = F.smooth_l1_loss(values, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
        self.optimizer.step()
        self.updates += 1
        with torch.no_grad():
            for mine, theirs in zip(self.target.parameters(), self.network.parameters(), strict=True):
                mine.lerp_(theirs, config.target_rate)
        return {
            "loss": loss.detach(),
            "gradient_norm": norm,
            "value_mean": values.detach().mean(),
            "target_mean": target.mean(),
            "learning_rate": self._rate(self.steps),
            "updates": self.updates,
        }

    def _hide_meta_features(self, batch: Transitions) -> Transitions:
        width, share = self.interface.meta_features, self.config.meta_feature_dropout
        if width == 0 or share == 0.0:
            return batch
        count = len(batch.action)
        shown = torch.rand(count, 1, generator=self._replay_draws, device=self.device) >= share
        # A flat observation begins with the meta-features; 0 is their mean over the training datasets.
        for observation in (batch.observation, batch.following):
            observation[:, :width] *= shown
        return batch

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """Return the regression targets of a batch, float32 ``[B]``.

        ``r + gamma (1 - terminated) Q_target(s', a')`` with ``a'`` the best legal action of the online network
        (of the target network where ``double=False``).
        """
        following = self.target(batch.following)
        chooser = self.network(batch.following) if self.config.double else following
        best = greedy(chooser, batch.following_mask)
        bootstrap = following.gather(1, best[:, None]).squeeze(1)
        return batch.reward + self.config.discount * torch.where(batch.terminated, 0.0, bootstrap)

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved: dict[str, Any] = {
            "target": {name: value.clone() for name, value in self.target.state_dict().items()},
            "steps": self.steps,
            "updates": self.updates,
        }
        if resumable:
            saved |= {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "missed": self._missed,
                "act_draws": self._act_draws.get_state(),
                "replay_draws": self._replay_draws.get_state(),
            }
            if self.config.save_buffer and self.replay is not None:
                saved["replay"] = self.replay.state_dict()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.target.load_state_dict(saved["target"])
        self.steps, self.updates = int(saved["steps"]), int(saved["updates"])
        self.network.load_state_dict(saved.get("network", saved["target"]))
        if not resumable or "optimizer" not in saved:
            return
        self.optimizer.load_state_dict(saved["optimizer"])
        self._missed = int(saved["missed"])
        restore_generator(self._act_draws, saved["act_draws"])
        restore_generator(self._replay_draws, saved["replay_draws"])
        self.replay = None
        if "replay" in saved:
            width, actions = self.interface.observation_width, self.interface.num_actions
            self.replay = ReplayBuffer(self.config.buffer_size, width, actions, self.device)
            self.replay.load_state_dict(saved["replay"])
