"""Whole episodes as states: how a history observation is stored as a row of numbers, and read back.

A state of an episode is a prefix of every later one. Column 0 of a row counts the trials, so that an earlier state is a
later row with a smaller count: replay keeps one row and one count for a transition, not two rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CompactStates", "EpisodeStates", "Histories", "PublishedStates"]


@dataclass(frozen=True)
class Histories:
    """What a batch of agents knows of its episodes.

    Args:
        meta_features: float32 ``[B, M]``.
        trials: Hyperparameters (inactive ones 0) and score of every trial, oldest first; zeros after the last:
            float32 ``[B, T, D + 1]``.
        length: Trials so far, int64 ``[B]``.
    """

    meta_features: Tensor
    trials: Tensor
    length: Tensor


class EpisodeStates(ABC):
    """A layout of histories as rows, float32 ``[B, W]``; ``W`` depends on the trials ``T`` that an episode can hold.

    Args:
        dimension: ``D``.
        meta_features: ``M``.
    """

    def __init__(self, dimension: int, meta_features: int) -> None:
        #: Columns of a trial, ``N_t`` of Hyp-RL.
        self.columns = dimension + 1
        self.meta_features = meta_features

    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        """Return history observations as rows ``[B, W]``."""
        done = observation["mask"]
        u = observation["u"].unflatten(1, (done.shape[1], self.columns - 1))
        trials = torch.cat([u, observation["score"][:, :, None]], 2) * done[:, :, None]
        meta_features = observation.get("meta_features", done[:, :0])
        content = self._laid_out(meta_features, trials, done)
        return torch.cat([done.sum(1, keepdim=True), content], 1)

    def read(self, rows: Tensor) -> Histories:
        """Return the histories of rows ``[B, W]``."""
        meta_features, trials = self._parts(rows[:, 1:])
        return Histories(meta_features, trials, rows[:, 0].long())

    def with_meta_features(self, rows: Tensor, shown: Tensor) -> Tensor:
        """Return rows ``[B, W]`` with their meta-features where ``shown``, bool ``[B, 1]``, and zeros elsewhere.

        Zero is their mean over the training datasets.
        """
        rows = rows.clone()
        self._parts(rows[:, 1:])[0].mul_(shown)
        return rows

    @abstractmethod
    def _laid_out(self, meta_features: Tensor, trials: Tensor, done: Tensor) -> Tensor:
        """Return the content of rows without their counts, ``[B, W - 1]``."""

    @abstractmethod
    def _parts(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Return meta-features ``[B, M]`` and trials ``[B, T, D + 1]`` of such content, as views of it."""


class CompactStates(EpisodeStates):
    """``count | meta-features | trials``: ``W = 1 + M + T (D + 1)``."""

    def _laid_out(self, meta_features: Tensor, trials: Tensor, done: Tensor) -> Tensor:
        return torch.cat([meta_features, trials.flatten(1)], 1)

    def _parts(self, content: Tensor) -> tuple[Tensor, Tensor]:
        meta_features, trials = content[:, : self.meta_features], content[:, self.meta_features :]
        return meta_features, trials.unflatten(1, (-1, self.columns))


class PublishedStates(EpisodeStates):
    """The state matrix of Hyp-RL's released code, row by row.

    ``T + 2`` rows of ``N_t + M`` columns, ``N_t = D + 1``. Row 0 is ``[NaN x N_t, meta-features]``, row ``t`` is
    ``[hyperparameters of trial t, its score, meta-features]``; rows of trials that were not made yet are zero. With
    the published 48 trials there are 50 rows; the last is never filled.
    """

    def matrix(self, rows: Tensor) -> Tensor:
        """Return the state matrices ``[B, T + 2, N_t + M]`` of rows ``[B, W]``."""
        matrices: Tensor = rows[:, 1:].unflatten(1, (-1, self.columns + self.meta_features))
        return matrices

    def _laid_out(self, meta_features: Tensor, trials: Tensor, done: Tensor) -> Tensor:
        batch, length, _ = trials.shape
        matrix = trials.new_zeros(batch, length + 2, self.columns + self.meta_features)
        matrix[:, 0, : self.columns] = torch.nan
        matrix[:, 0, self.columns :] = meta_features
        matrix[:, 1:-1, : self.columns] = trials
        matrix[:, 1:-1, self.columns :] = meta_features[:, None] * done[:, :, None]
        return matrix.flatten(1)

    def _parts(self, content: Tensor) -> tuple[Tensor, Tensor]:
        matrix = content.unflatten(1, (-1, self.columns + self.meta_features))
        return matrix[:, 0, self.columns :], matrix[:, 1:-1, : self.columns]
