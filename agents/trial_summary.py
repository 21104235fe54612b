"""A short description of an episode so far, of the same width whatever the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo_gym.errors import require_integer
from hpo_gym.mdp.actions import FULL_SHARE

__all__ = ["TrialSummary"]

# Scores closer than this are the same: none of them is better than another.
_SAME = 1e-6


@dataclass(frozen=True)
class TrialSummary:
    """Reads a ``history`` observation and keeps its best and its last trials.

    ``meta-features | for each kept trial: u, active, score between the worst and the best so far (0 .. 1), whether
    there is such a trial (and its fidelity) | best score | distance from worst to best | share of the trials that came
    after the best | trials as a share of the most | budget left``. The best trials come first, best first, then the
    last ones, newest first; a trial may be among both. With fidelities the incumbent comes before them: the best full
    evaluation, which alone is a result, and which a lucky cheap trial may have a better score than.

    Args:
        dimension: ``D``.
        meta_features: ``M``.
        best: Best trials kept, at least 1.
        last: Last trials kept, at least 1.
        fidelity: Whether the fidelity of trials is shown.
    """

    dimension: int
    meta_features: int
    best: int = 1
    last: int = 1
    fidelity: bool = False

    def __post_init__(self) -> None:
        require_integer("best", self.best, 1)
        require_integer("last", self.last, 1)

    @property
    def width(self) -> int:
        """Width ``W`` of a summary."""
        kept = self.best + self.last + self.fidelity
        return self.meta_features + kept * (2 * self.dimension + 2 + self.fidelity) + 5

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the summary of histories of up to ``T`` trials, float32 ``[B, W]``."""
        mask, score = observation["mask"] > 0.5, observation["score"]
        trials = mask.shape[1]
        count = mask.sum(1)
        worst = score.masked_fill(~mask, torch.inf).amin(1)
        ranked = score.masked_fill(~mask, -torch.inf)
        # The first of equal trials is the incumbent: a later one has not improved on it.
        order = ranked.sort(dim=1, descending=True, stable=True).indices[:, : self.best]
        newest = count[:, None] - 1 - torch.arange(self.last, device=mask.device)
        kept = torch.cat([_padded(order, self.best), newest], 1)
        if self.fidelity:
            kept = torch.cat([_incumbent(ranked, observation["fidelity"]), kept], 1)
        there = kept >= 0
        kept = kept.clamp(0, trials - 1)
        there &= mask.gather(1, kept)

        worst, top = (torch.where(count > 0, value, 0.0) for value in (worst, ranked.amax(1)))
        span = top - worst
        relative = (score.gather(1, kept) - worst[:, None]) / span.clamp(min=_SAME)[:, None]
        blocks = [self._coordinates(observation[name], kept) for name in ("u", "active")]
        blocks += [relative[..., None], torch.ones_like(relative)[..., None]]
        if self.fidelity:
            blocks.append(observation["fidelity"].gather(1, kept)[..., None])
        shown = torch.where(there[..., None], torch.cat(blocks, 2), 0.0).flatten(1)

        since = torch.where(count > 0, count - 1 - order[:, 0], 0)
        whole = torch.stack([top, span, since / trials, count / trials], 1)
        parts = [observation["meta_features"]] if self.meta_features > 0 else []
        return torch.cat([*parts, shown, whole, observation["budget_left"]], 1)

    def _coordinates(self, block: Tensor, kept: Tensor) -> Tensor:
        """Return ``[B, K, D]``, the trials ``[B, K]`` out of ``[B, T * D]``."""
        trials = block.view(len(block), -1, self.dimension)
        return trials.gather(1, kept[..., None].expand(-1, -1, self.dimension))


def _incumbent(ranked: Tensor, fidelity: Tensor) -> Tensor:
    """Return the trial of the best full evaluation, ``[B, 1]``; -1 where there is none."""
    score, index = ranked.masked_fill(fidelity <= FULL_SHARE, -torch.inf).max(1, keepdim=True)
    return torch.where(score > -torch.inf, index, -1)


def _padded(chosen: Tensor, width: int) -> Tensor:
    """Return ``[B, width]``: a budget may be smaller than what is to be kept; -1 is no trial."""
    missing = width - chosen.shape[1]
    return F.pad(chosen, (0, missing), value=-1) if missing > 0 else chosen
