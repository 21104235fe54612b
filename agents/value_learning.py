"""Value functions over discrete actions: what DQN and its relatives share.

Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van Hasselt, Guez and Silver (2016),
"Deep Reinforcement Learning with Double Q-learning", equation 4; ensembles as in Osband et al. (2016).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.base import Interface
from agents.checked_numbers import require_share
from agents.exploration import Choice, Decision, EpsilonGreedy, Exploration, greedy
from agents.exploration_settings import ExplorationConfig, make_exploration
from agents.off_policy import OffPolicyAgent
from agents.off_policy_settings import OffPolicyConfig
from agents.replay import Transitions
from agents.schedules import ConstantSchedule
from hpo_gym.initial_weights import seeded
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import stream_seed

__all__ = ["ValueAgent", "ValueConfig", "value_of"]


@dataclass(frozen=True)
class ValueConfig(ExplorationConfig, OffPolicyConfig):
    """What the configurations of agents with a value per action have in common.

    Args:
        double: Whether the online network chooses the action that the target network values.
        evaluation_epsilon: Probability of a random action of the trained policy. A policy without memory that
            were only greedy would step to and fro between two configurations; Mnih et al. use 0.05, too.
    """

    double: bool = True
    evaluation_epsilon: float = 0.05

    def __post_init__(self) -> None:
        OffPolicyConfig.__post_init__(self)
        ExplorationConfig.__post_init__(self)
        require_share("evaluation_epsilon", self.evaluation_epsilon)


class ValueAgent(OffPolicyAgent):
    """An agent that values every action, acts greedily or explores, and learns from its best next action.

    A subclass encodes observations, makes the network, and says what is legal and what the network may see.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
        width: Width ``W`` of an encoded observation.
        num_actions: ``A``.
    """

    config: ValueConfig
    exploration: Exploration

    def __init__(
        self,
        config: ValueConfig,
        interface: Interface,
        seed: int,
        device: torch.device | str,
        width: int,
        num_actions: int,
    ) -> None:
        super().__init__(config, interface, seed, device)
        self.exploration = make_exploration(config, config.total_steps, width, num_actions, seed, self.device)
        ensemble, noisy = self.exploration.needs == "heads", self.exploration.needs == "perturbed"
        heads, prior = (config.heads, config.prior_scale) if ensemble else (1, 0.0)
        with seeded(stream_seed(seed, "agent", "weights")):
            self.network = self.make_network(width, num_actions, heads, config.noise_scale if noisy else None, prior)
        self.network.to(self.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, config.learning_rate, weight_decay=config.weight_decay)
        self._evaluation = EpsilonGreedy(ConstantSchedule(config.evaluation_epsilon))
        #: Member of the ensemble that each environment follows until its episode ends, int64 ``[B]``.
        self._head: Tensor | None = None

    @abstractmethod
    def make_network(self, width: int, num_actions: int, heads: int, noise: float | None, prior: float) -> nn.Module:
        """Return a network from ``[B, W]`` to ``[B, H, A]``; arguments as for :class:`~agents.networks.ValueNetwork`.

        Its ``forward`` takes a second argument: where noise comes from, or ``None``.
        """

    def shown(self, encoded: Tensor) -> Tensor:
        """Return what of an encoded observation the network may see when it acts, ``[B, W]``."""
        return encoded

    def legal(self, encoded: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return which actions may be taken, bool ``[B, A]``, or ``None`` if all may.

        Args:
            encoded: ``[B, W]``.
            mask: What the environment says, bool ``[B, A]``, or ``None`` if it says nothing.
        """
        return mask

    def augment(self, batch: Transitions) -> None:
        """Change a replayed batch in place before it is learned from."""

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        encoded = self.encode(observation)
        if explore:
            return self.executed(self._choose(encoded, mask, draws, None).actions, observation, draws)
        with torch.no_grad():
            # The average of the last networks is the steadier policy.
            values = self.target(self.shown(encoded)).mean(1)
        decision = Decision(values, self._mask(values, encoded, mask), self.steps, encoded)
        return self.executed(self._evaluation(decision, draws).actions, observation, draws)

    def explore(self, encoded: Tensor, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        choice = self._choose(encoded, mask, draws, self._head)
        # Visits are counted of what the bonus looks up: what the network may see.
        self.exploration.record(self.shown(encoded), choice.actions)
        self._explored = choice.explored.float().mean()
        return choice.actions

    @torch.no_grad()
    def _choose(self, encoded: Tensor, mask: Tensor | None, draws: torch.Generator, head: Tensor | None) -> Choice:
        shown = self.shown(encoded)
        heads = self.network(shown)
        values = heads.mean(1)
        legal = self._mask(values, encoded, mask)
        decision = Decision(values, legal, self.steps, shown, heads=heads, head=head)
        if self.exploration.needs == "perturbed":
            decision.perturbed = self.network(shown, draws).mean(1)
        return self.exploration(decision, draws)

    def _mask(self, values: Tensor, encoded: Tensor, mask: Tensor | None) -> Tensor:
        legal = self.legal(encoded, mask)
        return torch.ones_like(values, dtype=torch.bool) if legal is None else legal

    def members(self, count: int) -> Tensor | None:
        share = self.config.bootstrap_share
        if self.exploration.needs != "heads" or share == 1.0:
            return None
        drawn = torch.rand(count, self.config.heads, generator=self._act_draws, device=self.device)
        return drawn < share

    def started(self, rows: Tensor) -> None:
        if self.config.exploration != "thompson":
            return
        drawn = torch.randint(self.config.heads, rows.shape, generator=self._act_draws, device=self.device)
        self._head = drawn if self._head is None else torch.where(rows, drawn, self._head)

    def loss(self, batch: Transitions) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.augment(batch)
        values = value_of(self.network(batch.observation, self._noise()), batch.action[:, None])
        target = self.targets(batch)
        losses, error = F.smooth_l1_loss(values, target, reduction="none"), (values - target).detach().abs()
        logs = {"value_mean": values.detach().mean(), "target_mean": target.mean()}
        if batch.members is None:
            return losses.mean(1), error.mean(1), logs
        # A transition that no member learns from counts nothing.
        share = batch.members / batch.members.sum(1, keepdim=True).clamp(min=1)
        return (losses * share).sum(1), (error * share).sum(1), logs

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """Return the regression targets of a batch, float32 ``[B, H]``, each member's own.

        ``r + gamma (1 - terminated) Q_target(s', a')`` with ``a'`` the best legal action of the online network
        (of the target network where ``double=False``).
        """
        following = self.target(batch.following, self._noise())
        chooser = self.network(batch.following, self._noise()) if self.config.double else following
        legal = self.legal(batch.following, batch.following_mask)
        value = value_of(following, greedy(chooser, None if legal is None else legal[:, None]))
        value = batch.discount[:, None] * torch.where(batch.terminated[:, None], 0.0, value)
        return batch.reward[:, None] + value

    def _noise(self) -> torch.Generator | None:
        return self._replay_draws if self.exploration.needs == "perturbed" else None

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved = super().state_dict(resumable)
        if resumable:
            saved["exploration"] = self.exploration.state_dict()
            if self._head is not None:
                saved["head"] = self._head.clone()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        if resumable and "exploration" in saved:
            self.exploration.load_state_dict(saved["exploration"])
            self._head = saved["head"].to(self.device) if "head" in saved else None


def value_of(values: Tensor, actions: Tensor) -> Tensor:
    """Return the values of actions: ``[B, H, A]`` at int64 ``[B, H]`` or ``[B, 1]`` for all members -> ``[B, H]``."""
    index = actions.expand(-1, values.shape[1])
    return values.gather(2, index[:, :, None]).squeeze(2)
