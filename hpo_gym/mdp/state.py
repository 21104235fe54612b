"""The state of a batch of episodes, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["EpisodeState", "History"]


@dataclass
class History:
    """All trials so far, padded to ``T`` rows.

    Args:
        u: Configurations with inactive hyperparameters set to 0: float32 ``[B, T, D]``.
        active: bool ``[B, T, D]``.
        score: float32 ``[B, T]``.
        fidelity: Share of a full evaluation, float32 ``[B, T]``.
    """

    u: Tensor
    active: Tensor
    score: Tensor
    fidelity: Tensor


@dataclass
class EpisodeState:
    """Where every episode of a batch stands.

    Args:
        task: Index into the suite, int64 ``[B]``.
        u: Current configuration; an inactive hyperparameter keeps its last value: ``[B, D]``.
        active: Activity of ``u``: bool ``[B, D]``.
        level: Grid level of each hyperparameter, int64 ``[B, D]`` (zeros unless ``grid_step``).
        score: Score of the last trial, float32 ``[B]``.
        incumbent: Best score of a full evaluation so far, float32 ``[B]``; 0 before the first.
        trial: Trials done, int64 ``[B]``.
        spent: Budget spent, in full evaluations, float32 ``[B]``; float64 with multi-fidelity.
        fidelity: Share of a full evaluation used by the last trial, float32 ``[B]``.
        fidelity_level: Grid level of the fidelity, int64 ``[B]``.
        repeated: Whether the last trial repeated an earlier one, bool ``[B]``.
        returns: Sum of rewards so far, float32 ``[B]``.
        history: All trials, where the settings ask for them.
    """

    task: Tensor
    u: Tensor
    active: Tensor
    level: Tensor
    score: Tensor
    incumbent: Tensor
    trial: Tensor
    spent: Tensor
    fidelity: Tensor
    fidelity_level: Tensor
    repeated: Tensor
    returns: Tensor
    history: History | None = None

    def replace_rows(self, rows: Tensor, other: EpisodeState) -> EpisodeState:
        """Return a state whose ``rows`` (int64 ``[R]``) come from ``other`` (a batch of ``R``)."""
        if len(rows) == len(self.task):
            return other
        parts = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Tensor):
                parts[field.name] = mine.index_copy(0, rows, theirs)
        history = self.history
        if history is not None and other.history is not None:
            # In place: a copy of [B, T, D] at every autoreset would cost more than the step.
            for field in fields(history):
                tensor: Tensor = getattr(history, field.name)
                tensor.index_copy_(0, rows, getattr(other.history, field.name))
        return EpisodeState(**parts, history=history)

    def clone(self) -> EpisodeState:
        """Return a deep copy."""
        return self._map(Tensor.clone)

    def select(self, rows: Tensor) -> EpisodeState:
        """Return the episodes of some ``rows`` (int64 ``[R]``)."""
        return self._map(lambda value: value[rows])

    def _map(self, change: Callable[[Tensor], Tensor]) -> EpisodeState:
        """Return a state of which every tensor, those of the history included, went through ``change``."""
        parts = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "history"}
        history = self.history
        if history is not None:
            history = History(**{f.name: change(getattr(history, f.name)) for f in fields(history)})
        return EpisodeState(**parts, history=history)


def empty_history(batch: int, trials: int, dimension: int, device: torch.device) -> History:
    """Return a history without trials."""
    return History(
        u=torch.zeros(batch, trials, dimension, device=device),
        active=torch.zeros(batch, trials, dimension, dtype=torch.bool, device=device),
        score=torch.zeros(batch, trials, device=device),
        fidelity=torch.zeros(batch, trials, device=device),
    )
