"""Bayesian optimisation with a Gaussian process whose prior was learned on the training tasks.

After Wang et al. (2024), "Pre-trained Gaussian Processes for Bayesian Optimization", JMLR 25, and Wistuba and Grabocka
(2021), "Few-Shot Bayesian Optimization with Deep Kernel Surrogates", ICLR; see :mod:`agents.transfer_process`. Many
episodes advance together: nothing is fitted to a new task but two numbers on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.outcome_search import OutcomeSearch
from agents.populations import HistoryAgent, Trials
from agents.problem import Problem
from agents.transfer_model import TransferConfig, TransferModel
from hpo_gym.errors import require_integer

__all__ = ["TransferGP", "TransferGPConfig"]


@dataclass(frozen=True)
class TransferGPConfig(TransferConfig):
    """Configuration of :class:`TransferGP`.

    Args:
        candidates: Random configurations that are looked at in every trial, beside those that were good on training
            tasks.
        neighbours, rounds, head: As for :class:`~agents.outcome_search.OutcomeSearch`.
    """

    candidates: int = 256
    neighbours: int = 128
    rounds: int = 2
    head: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("candidates", "neighbours"):
            require_integer(name, getattr(self, name), 1)
        for name in ("rounds", "head"):
            require_integer(name, getattr(self, name), 0)


class TransferGP(HistoryAgent):
    """A Gaussian process that knows the training tasks.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "transfer_gp"
    uses_training_tasks: ClassVar[bool] = True
    config: TransferGPConfig

    #: Evaluations on training tasks that learning took.
    training_evaluations: int = 0

    def prepare(self, problem: Problem) -> None:
        training = problem.require_training(self.name)
        before = training.evaluations
        self._model = TransferModel.learn(problem, training, self.config, self.seed, self.device)
        self.training_evaluations = training.evaluations - before
        self._search = OutcomeSearch(self._model.process, self.config.neighbours, self.config.rounds, self.config.head)
        super().prepare(problem)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        batch = len(trials.u)
        candidates = self._model.candidates(batch, self.config.candidates, draws)
        if bool((trials.count == 0).any()):
            # Nothing is known of these tasks: what is best on average.
            process = self._model.process
            mean = process.features(process.features.encode(candidates)).mean(2)
            first = candidates[torch.arange(batch, device=mean.device), mean.argmax(1)]
            if bool((trials.count == 0).all()):
                return first
            found = self._search(trials, candidates, draws)
            return torch.where((trials.count == 0)[:, None], first, found)
        return self._search(trials, candidates, draws)
