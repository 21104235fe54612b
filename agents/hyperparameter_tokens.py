"""Trials as tokens of their hyperparameters, which mean the same in every search space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.trial_tokens import TrialHistory, relative_scores
from hpo_gym.spaces import DESCRIPTOR_NAMES

__all__ = ["CATEGORICAL", "INCUMBENT", "VALUE", "HyperparameterTokens"]

#: Columns of a token: the value tried, the incumbent's value, and whether it is a choice without order.
VALUE, INCUMBENT, CATEGORICAL = 0, 1, 2 + DESCRIPTOR_NAMES.index("is_categorical")

_SCORES = 4
_NUMBERS = 4


@dataclass(frozen=True)
class HyperparameterTokens:
    """The layout of tokens: one for each trial and hyperparameter.

    The token of hyperparameter ``d`` in trial ``t`` holds its value there, its value in the best trial so far, its
    descriptors, activity in both, what the score of the trial says relative to the earlier ones of the episode (so
    that the offset of a metric means nothing, and its scale only the gap to the incumbent in decades), the number of
    the trial and of hyperparameters. Tokens ``0`` begin an episode. Nothing in a token says which column of which space
    it is.
    """

    @property
    def width(self) -> int:
        """``W``."""
        return 2 + len(DESCRIPTOR_NAMES) + 3 + _SCORES + _NUMBERS + 1

    def read(self, history: TrialHistory, first: int, last: int) -> Tensor:
        """Return the tokens ``first .. last - 1`` of every episode, float32 ``[B, last - first, D, W]``."""
        trials = history.trials
        batch, _, dimension = trials.u.shape
        device = trials.u.device
        told = slice(max(first - 1, 0), last - 1)
        tokens = torch.zeros(batch, last - first, dimension, self.width, device=device)
        described = 2 + len(DESCRIPTOR_NAMES)
        tokens[..., 2:described] = history.descriptors[:, None]
        tokens[..., INCUMBENT] = 0.5
        tokens[:, 0, :, -1] = float(first == 0)
        tokens[..., -2] = dimension / 16.0
        shown = tokens[:, 1:] if first == 0 else tokens
        if shown.shape[1] == 0:
            return tokens
        score = trials.score[:, : last - 1]
        best = score.cummax(1).indices[:, told]
        wide = best[:, :, None].expand(-1, -1, dimension)
        active, kept = trials.active[:, told], trials.active.gather(1, wide)
        value, incumbent = trials.u[:, told], trials.u.gather(1, wide)
        # What is inactive has no value: the middle.
        shown[..., VALUE] = torch.where(active, value, 0.5)
        shown[..., INCUMBENT] = torch.where(kept, incumbent, 0.5)
        moved = (value - incumbent) * (active & kept)
        for offset, feature in enumerate((active.float(), kept.float(), moved)):
            shown[..., described + offset] = feature
        column = described + 3
        for feature in relative_scores(score):
            shown[..., column] = feature[:, told, None]
            column += 1
        number = torch.arange(1, last, device=device, dtype=torch.float32)[told]
        for told_number in (number / 50.0, torch.log2(number) / 5.0, 1.0 / number):
            shown[..., column] = told_number[:, None]
            column += 1
        return tokens
