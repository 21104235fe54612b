"""Bayesian optimisation with a Gaussian process that is averaged over its hyperparameters, many episodes at a time.

Snoek, Larochelle and Adams (2012), NeurIPS, section 3.2; see :mod:`agents.averaged_process`. It knows nothing of
training tasks, and begins to model with the first trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.averaged_process import AveragedPosterior, AveragedProcess
from agents.outcome_search import OutcomeSearch
from agents.populations import HistoryAgent, Trials
from agents.problem import Problem
from hpo_gym.errors import require_integer

__all__ = ["AveragedGP", "AveragedGPConfig"]


@dataclass(frozen=True)
class AveragedGPConfig:
    """Configuration of :class:`AveragedGP`.

    Args:
        candidates: Random configurations that are looked at in every trial.
        neighbours, rounds: As for :class:`~agents.outcome_search.OutcomeSearch`.
    """

    candidates: int = 512
    neighbours: int = 128
    rounds: int = 2

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("neighbours", 1), ("rounds", 0)):
            require_integer(name, getattr(self, name), least)


class AveragedGP(HistoryAgent):
    """A Gaussian process averaged over its length scales.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "averaged_gp"
    config: AveragedGPConfig

    def prepare(self, problem: Problem) -> None:
        process = AveragedProcess(problem.space.spec, self.seed).to(self.device)
        self._search: OutcomeSearch[AveragedPosterior] = OutcomeSearch(
            process, self.config.neighbours, self.config.rounds
        )
        super().prepare(problem)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        batch, _, dimension = trials.u.shape
        candidates = self.space.sample(batch * self.config.candidates, draws).view(batch, -1, dimension)
        new = trials.count == 0
        if bool(new.all()):
            return candidates[:, 0]
        if bool(new.any()):
            # Nothing to model there: any trial will do, and what is found is not used.
            trials = Trials(trials.u, trials.active, trials.score, trials.done | new[:, None])
        found = self._search(trials, candidates, draws)
        return torch.where(new[:, None], candidates[:, 0], found)
