"""Learning from replayed transitions of a vector environment: what every Q-learning agent here has in common.

All cadences are counted in transitions, never in calls of ``step``: with thousands of environments a counter of calls
that is compared by ``step % interval`` may never fire.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.multi_step import MultiStep
from agents.off_policy_settings import OffPolicyConfig
from agents.replay import PrioritisedReplay, ReplayBuffer, Sample, Transitions
from agents.schedules import LinearSchedule, Schedule
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator

__all__ = ["OffPolicyAgent"]


class Describes(Protocol):
    """Something that says what there is to log about it."""

    def describe(self, step: int) -> dict[str, float]:
        """Return what to log after ``step`` transitions."""


class OffPolicyAgent(TrainableAgent):
    """An agent that stores what it does, and learns from what it stored.

    A subclass sets ``network``, ``target``, ``optimizer`` and ``exploration``, chooses actions in :meth:`explore` and
    returns the loss of a batch in :meth:`loss`.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    config: OffPolicyConfig
    #: What gradient steps change, a copy that follows it, and what makes the steps.
    network: nn.Module
    target: nn.Module
    optimizer: torch.optim.Optimizer
    #: How it explores.
    exploration: Describes

    def __init__(
        self, config: OffPolicyConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        self.replay: ReplayBuffer | None = None
        self.updates = 0
        self._act_draws = generator(seed, "agent", "act", device=self.device)
        self._replay_draws = generator(seed, "agent", "replay", device=self.device)
        self._rate: Schedule = LinearSchedule(config.learning_rate, 0.1 * config.learning_rate, config.total_steps)
        self._correction = LinearSchedule(config.priority_correction, 1.0, config.total_steps)
        self._multi_step = MultiStep(config.multi_step, config.discount)
        #: Share of the environments whose last action was an exploratory one.
        self._explored: Tensor | None = None
        # Gradient steps that were due while the buffer was being filled, in a resumed run once more, and are not made
        # up for.
        self._missed = 0

    @abstractmethod
    def encode(self, observation: Observation) -> Tensor:
        """Return what the network reads and the buffer keeps, float32 ``[B, W]``."""

    @abstractmethod
    def explore(self, encoded: Tensor, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        """Return the actions of one training step.

        Args:
            encoded: Observations, ``[B, W]``.
            mask: Legal actions, bool ``[B, A]``; ``None`` for continuous actions.
            draws: Where random numbers come from.
        """

    @abstractmethod
    def loss(self, batch: Transitions) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of every transition, ``[B]``, its absolute error, ``[B]``, and what there is to log."""

    def executed(self, actions: Tensor, observation: Observation, draws: torch.Generator) -> Tensor:
        """Return what the environment is told for actions as the buffer keeps them.

        Args:
            actions: ``[B]`` or ``[B, D]``.
            observation: What they were chosen by.
            draws: Where random numbers come from.
        """
        return actions

    def members(self, count: int) -> Tensor | None:
        """Return which members of an ensemble learn from ``count`` new transitions, bool ``[count, H]``."""
        return None

    def begin_training(self, env: HPOVectorEnv) -> None:
        """Prepare for the first transition of all; a resumed training does not begin again."""

    def started(self, rows: Tensor) -> None:
        """Hear in which environments an episode begins, bool ``[B]``."""

    def describe(self) -> dict[str, float | Tensor]:
        """Return what there is to log after every vector step."""
        logs: dict[str, float | Tensor] = {**self.exploration.describe(self.steps)}
        return logs if self._explored is None else logs | {"explored": self._explored}

    def hide_columns(self, batch: Transitions, width: int, share: float) -> None:
        """Set the first columns of some replayed observations to 0, in place, before and after a step alike.

        Meta-features are those columns, and 0 is their mean over the training datasets.

        Args:
            batch: The transitions.
            width: Columns.
            share: How likely a transition is changed, in ``[0, 1]``.
        """
        if width == 0 or share == 0.0:
            return
        shown = torch.rand(len(batch.reward), 1, generator=self._replay_draws, device=self.device) >= share
        for observation in (batch.observation, batch.following):
            observation[:, :width] *= shown

    def clip_gradients(self) -> Tensor:
        """Scale the gradients down to ``max_gradient_norm``; return their norm before, a scalar."""
        return torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)

    def require_trainable(self, env: HPOVectorEnv) -> None:
        super().require_trainable(env)
        config = self.config
        # What is joined of several steps is in the buffer that much later.
        least = config.learning_starts + (config.multi_step - 1) * env.num_envs + config.transitions_per_update
        if config.total_steps < least:
            raise InvalidSettingError(
                f"total_steps={config.total_steps!r} ends before the first gradient step, which comes after "
                f"learning_starts={config.learning_starts!r} transitions, multi_step={config.multi_step!r} steps of "
                f"{env.num_envs} environments and transitions_per_update={config.transitions_per_update!r}: nothing "
                f"would be learned. Set agent.total_steps to {least} or more."
            )

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.require_trainable(env)
        config = self.config
        if self.replay is None:
            self.replay = self._make_replay()
        if self.steps == 0:
            self.begin_training(env)
        observation, info = env.observe()
        encoded = self.encode(observation)
        if self.steps == 0:
            self.started(torch.ones(env.num_envs, dtype=torch.bool, device=self.device))
        while self.steps < config.total_steps:
            action = self.explore(encoded, info.get("action_mask"), self._act_draws)
            observation, reward, terminated, _, info = env.step(self.executed(action, observation, self._act_draws))
            self._remember(encoded, action, reward, terminated, info)
            self.started(terminated)
            encoded = self.encode(observation)
            self.steps += env.num_envs
            logs = self._learn()
            if callback(self.steps, logs, info):
                return

    def _make_replay(self) -> ReplayBuffer:
        size, exponent = self.config.buffer_size, self.config.priority_exponent
        if exponent > 0.0:
            return PrioritisedReplay(size, self.device, exponent)
        return ReplayBuffer(size, self.device)

    def _remember(
        self, encoded: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, info: Mapping[str, Any]
    ) -> None:
        assert self.replay is not None  # train made it
        following, mask = self.encode(info["final_obs"]), info["final_info"].get("action_mask")
        discount = torch.full_like(reward, self.config.discount)
        members = self.members(len(reward))
        step = Transitions(encoded, action, reward, following, terminated, discount, mask, members)
        joined = self._multi_step(step)
        if joined is not None:
            self.replay.append(joined)

    def _learn(self) -> dict[str, float | Tensor]:
        """Make the gradient steps that are due."""
        config = self.config
        assert self.replay is not None  # train made it
        logs: dict[str, float | Tensor] = {**self.describe(), "updates": self.updates}
        due = (self.steps - config.learning_starts) // config.transitions_per_update
        if self.replay.size < max(1, min(config.learning_starts, config.buffer_size)):
            self._missed = max(0, due - self.updates)
        while self.updates < due - self._missed:
            logs |= self._update()
        return logs

    def _update(self) -> dict[str, float | Tensor]:
        config = self.config
        sample = self._sample()
        rate = self._rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses, error, logs = self.loss(sample.transitions)
        loss = losses.mean() if sample.weights is None else (sample.weights * losses).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = self.clip_gradients()
        self.optimizer.step()
        self.updates += 1
        if isinstance(self.replay, PrioritisedReplay):
            self.replay.update(sample.rows, error)
        if self.updates % config.target_interval == 0:
            follow(self.target, self.network, config.target_rate)
        return {
            "loss": loss.detach(),
            "gradient_norm": norm,
            "learning_rate": rate,
            "updates": self.updates,
            **logs,
        }

    def _sample(self) -> Sample:
        assert self.replay is not None  # train made it
        count = self.config.batch_size
        if isinstance(self.replay, PrioritisedReplay):
            return self.replay.sample(count, self._replay_draws, self._correction(self.steps))
        return self.replay.sample(count, self._replay_draws)

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
                "waiting": self._multi_step.state_dict(),
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
        self._multi_step.load_state_dict(saved["waiting"], self.device)
        self.replay = None
        if "replay" in saved:
            self.replay = self._make_replay()
            self.replay.load_state_dict(saved["replay"])


@torch.no_grad()
def follow(target: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the parameters of a target network some of the way towards those of the network.

    Args:
        target: What moves.
        network: Where to.
        rate: Share of the way; 1 copies.
    """
    for mine, theirs in zip(target.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, rate)
