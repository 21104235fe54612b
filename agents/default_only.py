"""The default configuration, every time: what tuning must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials

__all__ = ["DefaultOnly", "DefaultOnlyConfig"]


@dataclass(frozen=True)
class DefaultOnlyConfig:
    """Configuration of :class:`DefaultOnly`: there is nothing to choose."""


class DefaultOnly(HistoryAgent):
    """Plays the search space's default configuration, whatever was seen: the control "do nothing".

    Where an episode starts with the default, its regret is the one after the first trial.
    """

    name: ClassVar[str] = "default"

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        return self.space.default().expand(len(trials.u), -1).clone()
