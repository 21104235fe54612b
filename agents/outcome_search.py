"""Which of many candidates promises most: the search that a learned outcome model guides, many episodes at a time."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from agents.populations import Trials
from hpo_gym.spaces import SearchSpace

__all__ = ["OutcomeModel", "OutcomeSearch", "Prediction"]

# Episodes are searched in chunks of so many, for the memory's sake.
_ROWS = 128
_INCUMBENTS = 3
_SURVIVORS = 4
_LARGEST_STEP, _SMALLEST_STEP = 0.3, 0.004


class Prediction(Protocol):
    """What an outcome model knows of the tasks of ``B`` episodes."""

    def log_improvement(self, u: Tensor) -> Tensor:
        """Return the logarithm of expected improvement of configurations ``[B, C, D]``, ``[B, C]``."""


_Known = TypeVar("_Known", bound=Prediction)
_Found = TypeVar("_Found", bound=Prediction, covariant=True)


class OutcomeModel(Protocol[_Found]):
    """What predicts the outcome of trials."""

    @property
    def space(self) -> SearchSpace:
        """The search space."""

    def condition(self, u: Tensor, score: Tensor, done: Tensor) -> _Found:
        """Return what is known after trials: ``[B, T, D]``, ``[B, T]`` and, which are no padding, bool ``[B, T]``."""


class OutcomeSearch(Generic[_Known]):
    """Maximises log expected improvement over given candidates, neighbours of good trials, and neighbours of both.

    Args:
        model: The outcome model.
        neighbours: Neighbours of the best three trials.
        rounds: How often neighbours of the four most promising candidates are drawn, half as many each time.
    """

    def __init__(self, model: OutcomeModel[_Known], neighbours: int, rounds: int) -> None:
        self.model, self.neighbours, self.rounds = model, neighbours, rounds
        self.space: SearchSpace = model.space
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
        posterior = self.model.condition(trials.u, trials.score, trials.done)
        score = trials.score.masked_fill(~trials.done, -1.0)
        best = score.topk(min(_INCUMBENTS, score.shape[1]), 1).indices
        good = _take(trials.u, best)
        points = torch.cat([candidates, self._around(good, self.neighbours, draws)], 1)
        value = self._legal_value(posterior, points, trials)
        for _ in range(self.rounds):
            survivors = value.topk(min(_SURVIVORS, value.shape[1]), 1)
            parents = _take(points, survivors.indices)
            children = self._around(parents, max(1, self.neighbours // 2), draws)
            points = torch.cat([parents, children], 1)
            value = torch.cat([survivors.values, self._legal_value(posterior, children, trials)], 1)
        return _take(points, value.argmax(1, keepdim=True))[:, 0]

    def value(self, posterior: _Known, points: Tensor, trials: Trials) -> Tensor:
        """Return what is to be maximised, ``[B, C]``, of configurations ``[B, C, D]``: log expected improvement."""
        return posterior.log_improvement(points)

    def _legal_value(self, posterior: _Known, points: Tensor, trials: Trials) -> Tensor:
        legal = self.space.legal(points.flatten(0, 1)).unflatten(0, points.shape[:2])
        return self.value(posterior, points, trials).masked_fill(~legal, -torch.inf)

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
