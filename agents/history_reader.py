"""Reading histories that grow by one trial per call, without reading the old trials again."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from agents.causal_transformer import KeyValueCache
from agents.proposal_network import BinnedProposals
from agents.trial_tokens import TrialHistory

__all__ = ["HistoryReader", "TokenLayout"]


class TokenLayout(Protocol):
    """What is read of a history."""

    def read(self, history: TrialHistory, first: int, last: int) -> Tensor:
        """Return the tokens ``first .. last - 1`` of every episode, float32 ``[B, last - first, ...]``."""


class HistoryReader:
    """Keeps keys and values of the histories it was shown last.

    Where a call shows the same episodes with one trial more, only that one is read; any other histories are read from
    their begin.

    Args:
        layout: The layout of tokens.
    """

    def __init__(self, layout: TokenLayout) -> None:
        self.layout = layout
        self._shown: TrialHistory | None = None
        self._cache: KeyValueCache | None = None
        self._hidden = torch.empty(0)

    def forget(self) -> None:
        """Forget all histories: the network has changed."""
        self._shown = self._cache = None

    def __call__(self, network: BinnedProposals, history: TrialHistory) -> Tensor:
        """Return what the network knows after the last trial of each history, float32 ``[B, ...]``."""
        count = history.count
        length = int(count.max()) + 1
        if int(count.min()) + 1 != length:
            # Episodes that do not end together: read all, pick of each the last token.
            self.forget()
            hidden = network.read(self.layout.read(history, 0, length))
            return hidden[torch.arange(len(count), device=count.device), count]
        known = 0 if self._cache is None else self._cache.length
        if self._cache is None or not self._continues(history, known) or not known <= length <= known + 1:
            self._cache, known = None, 0
        if length > known:
            tokens = self.layout.read(history, known, length)
            if self._cache is None:
                self._cache = network.cache(tokens, history.trials.done.shape[1] + 1)
            self._hidden = network.read(tokens, self._cache)[:, -1]
        self._shown = history
        return self._hidden

    def _continues(self, history: TrialHistory, known: int) -> bool:
        """Whether histories begin with the ``known - 1`` trials that were shown last."""
        shown = self._shown
        if shown is None or shown.trials.u.shape != history.trials.u.shape:
            return False
        trials = slice(0, known - 1)
        pairs = (
            (shown.trials.u[:, trials], history.trials.u[:, trials]),
            (shown.trials.score[:, trials], history.trials.score[:, trials]),
            (shown.meta_features, history.meta_features),
        )
        return all(torch.equal(mine, theirs) for mine, theirs in pairs)
