"""Which of many candidates promises most: the search that a learned outcome model guides, many episodes at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.populations import Trials
from agents.transfer_model import TransferConfig
from agents.transfer_process import Posterior, TransferProcess
from hpo_gym.errors import require_integer
from hpo_gym.spaces import SearchSpace

__all__ = ["OutcomeSearch", "OutcomeSearchConfig"]

# Episodes are searched in chunks of so many, for the memory's sake.
_ROWS = 128
_INCUMBENTS = 3
_SURVIVORS = 4
_LARGEST_STEP, _SMALLEST_STEP = 0.3, 0.004


@dataclass(frozen=True)
class OutcomeSearchConfig(TransferConfig):
    """How an outcome model is learned, and how the most promising configuration is searched with it.

    Args:
        candidates: Random configurations that are looked at in every trial, beside those that were good on training
            tasks.
        neighbours, rounds, head: As for :class:`OutcomeSearch`.
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


class OutcomeSearch:
    """Maximises log expected improvement over given candidates, neighbours of good trials, and neighbours of both.

    Args:
        process: The outcome model.
        neighbours: Neighbours of the best three trials.
        rounds: How often neighbours of the four most promising candidates are drawn, half as many each time.
        head: While an episode has no more trials than this, candidates are valued by what they would add on similar
            training tasks.
    """

    def __init__(self, process: TransferProcess, neighbours: int, rounds: int, head: int) -> None:
        self.process, self.neighbours, self.rounds, self.head = process, neighbours, rounds, head
        self.space: SearchSpace = process.features.space
        categorical = [column.kind == "categorical" for column in self.space.spec.columns]
        self._categorical = torch.tensor(categorical, device=self.space.device)

    @torch.no_grad()
    def __call__(self, trials: Trials, candidates: Tensor, draws: torch.Generator) -> Tensor:
        """Return the most promising configuration of each episode, float32 ``[B, D]``.

        Args:
            trials: At least one in each episode.
            candidates: Where to look, float32 ``[B, C, D]``.
            draws: Where random numbers come from.
        """
        found = []
        # Trials that no episode has done yet are not computed with.
        length = int(trials.count.max())
        for rows in torch.arange(len(candidates), device=candidates.device).split(_ROWS):
            some = Trials(*(part[rows, :length] for part in (trials.u, trials.active, trials.score, trials.done)))
            found.append(self._search(some, candidates[rows], draws))
        return torch.cat(found)

    def _search(self, trials: Trials, candidates: Tensor, draws: torch.Generator) -> Tensor:
        posterior = self.process.condition(trials.u, trials.score, trials.done)
        score = trials.score.masked_fill(~trials.done, -1.0)
        best = score.topk(min(_INCUMBENTS, score.shape[1]), 1).indices
        good = _take(trials.u, best)
        points = torch.cat([candidates, self._around(good, self.neighbours, draws)], 1)
        early = trials.count[:, None] <= self.head
        value = self._value(posterior, points, early)
        for _ in range(self.rounds):
            survivors = value.topk(min(_SURVIVORS, value.shape[1]), 1)
            parents = _take(points, survivors.indices)
            children = self._around(parents, max(1, self.neighbours // 2), draws)
            points = torch.cat([parents, children], 1)
            value = torch.cat([survivors.values, self._value(posterior, children, early)], 1)
        return _take(points, value.argmax(1, keepdim=True))[:, 0]

    def _value(self, posterior: Posterior, points: Tensor, early: Tensor) -> Tensor:
        legal = self.space.legal(points.flatten(0, 1)).unflatten(0, points.shape[:2])
        if bool(early.all()):
            value = posterior.improvement_on_training_tasks(points)
        else:
            value = posterior.log_improvement(points)
            if bool(early.any()):
                value = torch.where(early, posterior.improvement_on_training_tasks(points), value)
        return value.masked_fill(~legal, -torch.inf)

    def _around(self, parents: Tensor, count: int, draws: torch.Generator) -> Tensor:
        """Return neighbours of random parents ``[B, K, D]``, snapped, ``[B, count, D]``.

        Each moves a random share of the hyperparameters by normal steps whose size is drawn on a logarithmic scale.
        """
        batch, kept, dimension = parents.shape
        device = parents.device
        which = torch.randint(kept, (batch, count), generator=draws, device=device)
        base = _take(parents, which)
        ratio = torch.rand(batch, count, 1, generator=draws, device=device)
        size = _LARGEST_STEP * (_SMALLEST_STEP / _LARGEST_STEP) ** ratio
        step = size * torch.randn(batch, count, dimension, generator=draws, device=device)
        moved = torch.rand(batch, count, dimension, generator=draws, device=device) < max(0.3, 2.0 / dimension)
        # A new choice is any of them alike: a step within one changes nothing.
        fresh = torch.rand(batch, count, dimension, generator=draws, device=device)
        target = torch.where(self._categorical, fresh, (base + step).clamp(0.0, 1.0))
        points = torch.where(moved, target, base)
        return self.space.snap(points.flatten(0, 1)).view(batch, count, dimension)


def _take(points: Tensor, index: Tensor) -> Tensor:
    """Return ``points[b, index[b, k]]``: ``[B, P, D]`` at int64 ``[B, K]`` -> ``[B, K, D]``."""
    return points.gather(1, index[:, :, None].expand(-1, -1, points.shape[2]))
