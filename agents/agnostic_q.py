"""Q-learning with one value function for every hyperparameter of every search space.

A network over a flat observation belongs to one space. Here each hyperparameter is described by what it is (kind,
scale, cardinality, default ...) and by what happened to it in the episode; one network reads all of them alike, pools
them (Zaheer et al., 2017, "Deep Sets", section 2.2) and values a step down and a step up of each. So a policy can be
trained on one space and play another, and the order of hyperparameters means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import Interface
from agents.networks import perceptron, value_head
from agents.value_learning import ValueAgent, ValueConfig
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation, history_view
from hpo_gym.spaces import DESCRIPTOR_NAMES

__all__ = ["AgnosticQ", "AgnosticQConfig", "SharedValueNetwork"]

# Features of a hyperparameter beside its descriptors, and features of an episode; see ``AgnosticQ.encode``.
_OWN, _EPISODE = 11, 6
_WIDTH = len(DESCRIPTOR_NAMES) + _OWN

# Closer coordinates are the same grid level.
_SAME = 1e-5
_LEAST_GAP = 1e-6


@dataclass(frozen=True)
class AgnosticQConfig(ValueConfig):
    """Configuration of :class:`AgnosticQ`.

    Args:
        hidden: Widths of the layers that read one hyperparameter; as many read it again beside the pooled rest.
    """

    buffer_size: int = 100_000
    batch_size: int = 256
    hidden: tuple[int, ...] = (64, 64)


class SharedValueNetwork(nn.Module):
    """Values of a step down and a step up of every hyperparameter, the same function for each.

    Args:
        hidden: Widths of the layers.
        prior: Scale of a fixed random network of the same kind that is added; 0: there is none.
        heads: Members ``H`` of an ensemble.
    """

    def __init__(self, hidden: tuple[int, ...], heads: int = 1, prior: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.single = perceptron(_WIDTH + _EPISODE, hidden)
        self.joint = perceptron(2 * hidden[-1], hidden)
        self.head = value_head(hidden[-1], 2 * heads)
        self._prior = prior
        if prior > 0.0:
            self.prior = nn.Sequential(perceptron(_WIDTH + _EPISODE, hidden[:1]), nn.Linear(hidden[0], 2 * heads))
            self.prior.requires_grad_(False)

    def forward(self, encoded: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Return action values, float32 ``[B, H, 2 D]``, of encoded observations ``[B, D * features + episode]``."""
        batch = len(encoded)
        own = encoded[:, :-_EPISODE].view(batch, -1, _WIDTH)
        episode = encoded[:, None, -_EPISODE:].expand(-1, own.shape[1], -1)
        inputs = torch.cat([own, episode], 2)
        features = self.single(inputs)
        pooled = features.mean(1, keepdim=True).expand_as(features)
        values: Tensor = self.head(self.joint(torch.cat([features, pooled], 2)))
        if self._prior > 0.0:
            values = values + self._prior * self.prior(inputs)
        # [B, D, H, 2] -> [B, H, 2 D]: actions 2 j and 2 j + 1 belong to hyperparameter j.
        return values.view(batch, -1, self.heads, 2).transpose(1, 2).reshape(batch, self.heads, -1)


class AgnosticQ(ValueAgent):
    """Grid steps in any search space, by what hyperparameters are and what steps along them brought so far.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.

    Raises:
        InvalidSettingError: With multi-fidelity, or with noisy layers.
    """

    name: ClassVar[str] = "agnostic_q"
    learns: ClassVar[bool] = True
    any_space: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)
    config: AgnosticQConfig

    def __init__(
        self, config: AgnosticQConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        dimension = len(interface.hyperparameters)
        if interface.num_actions != 2 * dimension:
            raise InvalidSettingError(
                f"Agent {self.name!r} moves hyperparameters, and cannot choose a fidelity. Set "
                "env.multi_fidelity=false."
            )
        if config.exploration == "noisy":
            raise InvalidSettingError(
                f"Agent {self.name!r} has no noisy layers: exploration=noisy. Use another agent.exploration, or "
                "agent=dqn."
            )
        super().__init__(config, interface, seed, device, dimension * _WIDTH + _EPISODE, 2 * dimension)

    def make_network(
        self, width: int, num_actions: int, heads: int, noise: float | None, prior: float
    ) -> SharedValueNetwork:
        return SharedValueNetwork(self.config.hidden, heads, prior)

    def encode(self, observation: Observation) -> Tensor:
        """Return what the network reads, float32 ``[B, D * features + episode]``.

        Of each hyperparameter: its descriptors; value and activity now; value in the incumbent, activity there, and
        the distance between the two; the last move along it and what that changed (in units of the episode's largest
        gap); for steps down and up, whether a neighbour on that side was tried, and the gap of the best of them to the
        incumbent. Of the episode: gap of the current score, largest gap, whether the last trial is the incumbent,
        trials since the incumbent, trials done and budget left.
        """
        assert isinstance(observation, dict)  # observation_kinds
        trials = observation["mask"].shape[1]
        dimension = observation["u"].shape[1] // trials
        view = history_view(observation, trials, dimension)
        mask, score, u, active = view["mask"], view["score"], view["u"], view["active"]
        batch, count = len(score), mask.sum(1)
        row = torch.arange(batch, device=score.device)
        last = (count - 1).clamp(min=0)
        before = (count - 2).clamp(min=0)
        masked = score.masked_fill(~mask, -1.0)
        best = trials - 1 - masked.flip(1).argmax(1)
        best = torch.where(count > 0, best, last)
        largest = (masked.amax(1, keepdim=True) - score).masked_fill(~mask, 0.0).amax(1, keepdim=True)
        unit = largest.clamp(min=_LEAST_GAP)
        gap = ((score[row, best][:, None] - score) / unit).masked_fill(~mask, 0.0)
        now, incumbent = u[row, last], u[row, best]
        move = (now - u[row, before]) * (count > 1)[:, None]
        change = (gap[row, before] - gap[row, last])[:, None] * move.sign()
        # A trial that differs from the current configuration in one hyperparameter alone lies on one side of it.
        apart = u - now[:, None]
        differs = (apart.abs() > _SAME) & mask[:, :, None]
        alone = differs & (differs.sum(2, keepdim=True) == 1)
        sides = []
        for side in (alone & (apart < 0.0), alone & (apart > 0.0)):
            tried = side.any(1)
            nearest = gap[:, :, None].masked_fill(~side, 1.0).amin(1)
            sides += [tried.float(), torch.where(tried, nearest, 0.0)]
        own = [
            now,
            active[row, last],
            incumbent,
            active[row, best],
            now - incumbent,
            move.sign() * (move.abs() > _SAME),
            change,
            *sides,
        ]
        features = torch.cat([view["descriptors"], torch.stack(own, 2)], 2)
        since = (last - best).float() / trials
        episode = [
            gap[row, last],
            largest[:, 0],
            (last == best).float(),
            since,
            count.float() / trials,
            view["budget_left"][:, 0],
        ]
        return torch.cat([features.flatten(1), torch.stack(episode, 1)], 1)
