"""QT-Opt: Q-learning over continuous actions, which the cross-entropy method searches for the best one.

Kalashnikov et al. (2018), "QT-Opt: Scalable Deep Reinforcement Learning for Vision-Based Robotic Manipulation".
Differences are listed in ``docs/agents/qt_opt.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.base import Interface
from agents.continuous_q import ContinuousQ, ContinuousQConfig
from agents.cross_entropy import CrossEntropy
from agents.networks import perceptron
from agents.replay import Transitions
from hpo_gym.errors import require_effect, require_integer
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import stream_seed

__all__ = ["QTOpt", "QTOptConfig"]

# Actions valued at once, so that the hidden units of many rows with many samples each fit into memory.
_ACTIONS_AT_ONCE = 32_768


@dataclass(frozen=True)
class QTOptConfig(ContinuousQConfig):
    """Configuration of :class:`QTOpt`: that of every agent of its kind, and what is its own.

    Args:
        twin: Whether two networks learn, and a target is the smaller of their two values.
        double: Whether the online network chooses the action that the target networks value, instead of the first
            target network.
        cem_iterations: Rounds of the cross-entropy method.
        cem_samples: Actions per round when it acts; at least ``cem_elites``.
        cem_target_samples: Actions per round for a target; at least ``cem_elites``.
        cem_elites: Best actions of a round that the next one is drawn around.
    """

    total_steps: int = 300_000
    learning_starts: int = 5_000
    batch_size: int = 256
    evaluation_noise: float = 0.2
    twin: bool = True
    double: bool = False
    cem_iterations: int = 2
    cem_samples: int = 32
    cem_target_samples: int = 16
    cem_elites: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cem_iterations", "cem_samples", "cem_target_samples", "cem_elites"):
            require_integer(name, getattr(self, name), 1)
        self.search(self.cem_samples)
        self.search(self.cem_target_samples)
        if self.cem_iterations == 1:
            require_effect(self, ("cem_elites",), "cem_iterations=1", "Set agent.cem_iterations=2 or more")

    def search(self, samples: int) -> CrossEntropy:
        """Return the search with so many samples.

        Raises:
            InvalidSettingError: If its settings are impossible.
        """
        return CrossEntropy(self.cem_iterations, samples, self.cem_elites)


class ActionValues(nn.Module):
    """Perceptrons with layer normalisation from a state and an action to its value.

    The first layer adds a part for the state and one for the action: many actions of one state share the former.

    Args:
        width: Columns ``W`` of a state.
        dimension: Coordinates ``E`` of an action.
        hidden: Widths of the hidden layers.
        members: Perceptrons ``H``.
    """

    def __init__(self, width: int, dimension: int, hidden: Sequence[int], members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(_Member(width, dimension, hidden) for _ in range(members))

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the values by every member, float32 ``[B, H]``, of one action ``[B, E]`` per state ``[B, W]``."""
        return torch.cat([member(state, actions[:, None]) for member in self.members], 1)

    def many(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the values by the first member, float32 ``[B, N]``, of actions ``[B, N, E]``."""
        rows = max(1, _ACTIONS_AT_ONCE // actions.shape[1])
        parts = zip(state.split(rows), actions.split(rows), strict=True)
        return torch.cat([self.members[0](*part) for part in parts])


class _Member(nn.Module):
    """One perceptron: ``[B, W]`` and ``[B, N, E]`` to ``[B, N]``."""

    def __init__(self, width: int, dimension: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.state = nn.Linear(width, hidden[0])
        self.action = nn.Linear(dimension, hidden[0], bias=False)
        later = [perceptron(hidden[0], hidden[1:])] if len(hidden) > 1 else []
        self.body = nn.Sequential(nn.LayerNorm(hidden[0]), nn.ReLU(), *later)
        self.head = nn.Linear(hidden[-1], 1)
        # All actions start out equal.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        # Centred coordinates: -1 .. 1.
        features = self.state(state)[:, None] + self.action(2.0 * actions - 1.0)
        value: Tensor = self.head(self.body(features)).squeeze(2)
        return value


class QTOpt(ContinuousQ):
    """A network that values configurations in the state of an episode, maximised by the cross-entropy method."""

    name: ClassVar[str] = "qt_opt"
    version: ClassVar[int] = 2
    config: QTOptConfig
    network: ActionValues
    target: ActionValues

    def __init__(
        self, config: QTOptConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        with seeded(stream_seed(seed, "agent", "weights")):
            self.network = ActionValues(
                self.width, interface.action_dimension, config.hidden, members=2 if config.twin else 1
            )
        self.network.to(self.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self._acting, self._targeting = (
            config.search(samples) for samples in (config.cem_samples, config.cem_target_samples)
        )

    def best_action(self, network: nn.Module, state: Tensor, draws: torch.Generator) -> Tensor:
        return self._search(self._acting, network, state, draws)

    def _search(self, search: CrossEntropy, network: nn.Module, state: Tensor, draws: torch.Generator) -> Tensor:
        assert isinstance(network, ActionValues)  # network or target
        dimension = self.interface.action_dimension
        return search.maximise(lambda actions: network.many(state, actions), len(state), dimension, draws)

    def loss(self, batch: Transitions) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.hide_meta_features(batch)
        values = self.network(batch.observation, batch.action)
        target = self.targets(batch)
        wide = target[:, None].expand_as(values)
        losses, error = F.smooth_l1_loss(values, wide, reduction="none"), (values - wide).detach().abs()
        logs = {"value_mean": values.detach().mean(), "target_mean": target.mean()}
        if self.config.twin:
            logs["twin_distance"] = (values[:, 0] - values[:, 1]).detach().abs().mean()
        # Members share no weights: each learns from its own loss.
        return losses.sum(1), error.mean(1), logs

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """Return the regression targets of a batch, float32 ``[B]``.

        ``r + gamma (1 - terminated) min_i Q_target_i(s', a')`` with ``a'`` the action that the cross-entropy method
        finds for the first member of the target network (of the online network where ``double=True``).
        """
        chooser = self.network if self.config.double else self.target
        action = self._search(self._targeting, chooser, batch.following, self._replay_draws)
        value = self.target(batch.following, action).amin(1)
        return batch.reward + batch.discount * torch.where(batch.terminated, 0.0, value)
