"""Sequential Policy Gradient as an agent of a live environment: it tunes dropout within each training.

What is left, the learning rate or the width for example, it does not tune: those are the default's in its first trial
and random ones after it. So it is random search over a space without the dropout, for which SPG (:mod:`agents.spg`) has
a way of its own, and every training costs an evaluation like that of any other method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials
from agents.problem import Problem
from agents.spg_networks import TRAINING
from hpo_gym.errors import InvalidSettingError, require_names
from hpo_gym.spaces import SearchSpace

__all__ = ["SPGSearch", "SPGSearchConfig"]


@dataclass(frozen=True)
class SPGSearchConfig:
    """Configuration of :class:`SPGSearch`.

    Args:
        training: How networks are trained: ``spg``; or ``plain``, the control: random search with the dropout as a
            hyperparameter.
    """

    training: str = "spg"

    def __post_init__(self) -> None:
        require_names(TRAINING.name, (self.training,), TRAINING.choices)


class SPGSearch(HistoryAgent):
    """The default configuration trained with SPG, then random ones; for search spaces with ``training``.

    Li, Cheng and Gu (2025), "Sequential Policy Gradient for Adaptive Hyperparameter Optimization", arXiv 2506.15051.
    """

    name: ClassVar[str] = "spg"
    required_hyperparameters: ClassVar[tuple[str, ...]] = (TRAINING.name,)
    config: SPGSearchConfig

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        found = self.space.spec.position(TRAINING.name)
        if self.space.spec.columns[found] != TRAINING:
            raise InvalidSettingError(
                f"Agent {self.name!r}: {TRAINING.name!r} of this search space must be the choice between "
                f"{' and '.join(map(str, TRAINING.choices))} that agents.spg_networks.TRAINING is. Use env=live_spg."
            )
        if found in self.space.spec.conditions:
            raise InvalidSettingError(
                f"Agent {self.name!r}: {TRAINING.name!r} of this search space is conditional, and must be a choice of "
                "every configuration: drop its condition."
            )
        self._held = torch.zeros(self.space.dimension, dtype=torch.bool, device=self.device)
        self._held[found] = True
        # The middle of the choice's part of the unit interval.
        self._value = (TRAINING.number(self.config.training) + 0.5) / len(TRAINING.choices)
        # What a clause forbids together with this training is never drawn of it; coordinates are those of the space.
        self._possible = SearchSpace(self.space.spec.restrict({TRAINING.name: self.config.training})).to(self.device)
        self._default = self._trained(self.space.default()[None])
        self._barred = ~self.space.legal(self._default)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        drawn = self._trained(self._possible.sample(len(trials.u), draws))
        skipped = trials.tried(self.shown(self._default)) | self._barred
        return torch.where(skipped, drawn, self._default)

    def _trained(self, u: Tensor) -> Tensor:
        """Return configurations with the training that this agent stands for, ``[B, D]``."""
        return torch.where(self._held, torch.full_like(u, self._value), u)
