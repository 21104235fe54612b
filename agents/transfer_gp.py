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

from agents.populations import HistoryAgent, Trials
from agents.problem import Problem
from agents.transfer_model import TransferModel
from agents.transfer_search import TransferSearch, TransferSearchConfig
from hpo_gym.errors import require_integer

__all__ = ["TransferGP", "TransferGPConfig"]


@dataclass(frozen=True)
class TransferGPConfig(TransferSearchConfig):
    """Configuration of :class:`TransferGP`.

    Args:
        candidates: As for :class:`~agents.transfer_search.TransferSearchConfig`, at least 1.
        neighbours, rounds, head: As for :class:`~agents.transfer_search.TransferSearch`.
        samples, hidden, surface_steps, kernel_steps: How the prior is learned, as for
            :class:`~agents.transfer_model.TransferConfig`.
    """

    def __post_init__(self) -> None:
        require_integer("candidates", self.candidates, 1)
        super().__post_init__()


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
        self._search = TransferSearch(self._model.process, self.config.neighbours, self.config.rounds, self.config.head)
        super().prepare(problem)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        candidates = self._model.candidates(len(trials.u), self.config.candidates, draws)
        begun = trials.count > 0
        if bool(begun.all()):
            return self._search(trials, candidates, draws)
        first = self._best_on_average(candidates)
        if not bool(begun.any()):
            return first
        return torch.where(begun[:, None], self._search(trials, candidates, draws), first)

    def _best_on_average(self, candidates: Tensor) -> Tensor:
        """Return the candidate ``[B, C, D]`` of each episode that is best over all training tasks, ``[B, D]``.

        It is what to try where nothing is known of a task.
        """
        features = self._model.process.features
        mean = features(features.encode(candidates)).mean(2)
        return candidates[torch.arange(len(mean), device=mean.device), mean.argmax(1)]
