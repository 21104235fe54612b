"""The search among candidates that begins with what a greedy portfolio would add."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.outcome_search import OutcomeSearch
from agents.populations import Trials
from agents.transfer_model import TransferConfig
from agents.transfer_process import Posterior, TransferProcess
from hpo_gym.errors import require_integer

__all__ = ["TransferSearch", "TransferSearchConfig"]


@dataclass(frozen=True)
class TransferSearchConfig(TransferConfig):
    """How an outcome model is learned, and how the most promising configuration is searched with it.

    Args:
        candidates: Random configurations that are looked at in every trial, beside those that were good on training
            tasks.
        neighbours, rounds, head: As for :class:`TransferSearch`.
    """

    candidates: int = 256
    neighbours: int = 128
    rounds: int = 2
    head: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("neighbours", self.neighbours, 1)
        for name in ("candidates", "rounds", "head"):
            require_integer(name, getattr(self, name), 0)


class TransferSearch(OutcomeSearch[Posterior]):
    """Looks first for what improves on the trials on training tasks that are alike, then for expected improvement.

    Args:
        process: The outcome model.
        neighbours, rounds: As for :class:`~agents.outcome_search.OutcomeSearch`.
        head: While an episode has no more trials than this, candidates are valued by what they would add on similar
            training tasks.
    """

    def __init__(self, process: TransferProcess, neighbours: int, rounds: int, head: int) -> None:
        super().__init__(process, neighbours, rounds)
        self.head = head

    def value(self, posterior: Posterior, points: Tensor, trials: Trials) -> Tensor:
        early = trials.count[:, None] <= self.head
        if bool(early.all()):
            return posterior.improvement_on_training_tasks(points)
        value = posterior.log_improvement(points)
        if bool(early.any()):
            value = torch.where(early, posterior.improvement_on_training_tasks(points), value)
        return value
