"""A trial as a token: what a policy over histories reads of each trial, with nothing of what came after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.populations import Trials
from hpo_gym.errors import unknown_name
from hpo_gym.mdp.observations import Observation
from hpo_gym.spaces import DESCRIPTOR_NAMES

__all__ = ["SCORE_SCALES", "TrialHistory", "TrialTokens", "relative_scores"]

#: What a token tells of scores: as they are; only relative to the earlier trials of the episode; both.
SCORE_SCALES = ("absolute", "relative", "both")

# Gaps between scores are shown on a logarithmic scale too; below this they are nothing.
_LEAST_GAP = 1e-5
_DECADES = 5.0

_CARDINALITY, _IS_FLOAT = DESCRIPTOR_NAMES.index("cardinality"), DESCRIPTOR_NAMES.index("is_float")


@dataclass(frozen=True)
class TrialHistory:
    """The trials of ``B`` episodes and what is known beside them.

    Args:
        trials: The trials.
        meta_features: float32 ``[B, M]``; ``M`` may be 0.
        levels: Number of different values of each hyperparameter, infinite for floats, ``[D]``.
        descriptors: What each hyperparameter is (:data:`hpo_gym.spaces.DESCRIPTOR_NAMES`), float32 ``[B, D, F]``.
    """

    trials: Trials
    meta_features: Tensor
    levels: Tensor
    descriptors: Tensor

    @classmethod
    def of(cls, observation: Observation) -> TrialHistory:
        """Read a ``history`` observation; its descriptors tell how many hyperparameters there are."""
        assert isinstance(observation, dict)  # observation_kinds
        described = observation["descriptors"].unflatten(1, (-1, len(DESCRIPTOR_NAMES)))
        trials = Trials.of(observation, described.shape[1])
        descriptors = described[0]
        # "cardinality" of DESCRIPTOR_NAMES is 1 - 1 / number of values.
        levels = (1.0 / (1.0 - descriptors[:, _CARDINALITY]).clamp(min=1e-9)).round()
        levels = torch.where(descriptors[:, _IS_FLOAT] > 0.5, torch.inf, levels)
        return cls(trials, observation.get("meta_features", trials.score[:, :0]), levels, described)

    @property
    def count(self) -> Tensor:
        """Trials done, int64 ``[B]``."""
        return self.trials.count


@dataclass(frozen=True)
class TrialTokens:
    """The layout of tokens.

    Token 0 begins an episode; token ``t`` is trial ``t``: configuration and activity, score, best score so far,
    whether it is a new best one, the gap to the best of the trials before (as it is and in decades), the score in
    standard deviations of the trials so far, the number of the trial, and the meta-features in every token.

    Args:
        dimension: ``D``.
        meta_features: ``M`` that are shown; 0 hides them.
        scores: One of :data:`SCORE_SCALES`.
    """

    dimension: int
    meta_features: int
    scores: str

    def __post_init__(self) -> None:
        if self.scores not in SCORE_SCALES:
            raise unknown_name("scores", self.scores, SCORE_SCALES)

    @property
    def width(self) -> int:
        """``W``."""
        absolute = 2 * (self.scores != "relative")
        relative = 4 * (self.scores != "absolute")
        return 2 * self.dimension + absolute + relative + 4 + self.meta_features

    def read(self, history: TrialHistory, first: int, last: int) -> Tensor:
        """Return the tokens ``first .. last - 1`` of every episode, float32 ``[B, last - first, W]``."""
        batch, device = len(history.trials.score), history.trials.score.device
        trials = slice(max(first - 1, 0), last - 1)
        tokens = torch.zeros(batch, last - first, self.width, device=device)
        shown = tokens[:, 1:] if first == 0 else tokens
        meta = history.meta_features[:, None, : self.meta_features].expand(-1, last - first, -1)
        tokens[:, :, self.width - self.meta_features :] = meta
        tokens[:, 0, self.width - self.meta_features - 1] = float(first == 0)
        if shown.shape[1] == 0:
            return tokens
        column = 2 * self.dimension
        active = history.trials.active[:, trials].float()
        shown[:, :, : self.dimension] = (history.trials.u[:, trials] - 0.5) * active
        shown[:, :, self.dimension : column] = active
        for feature in self._scores(history.trials.score[:, : last - 1]):
            shown[:, :, column] = feature[:, trials]
            column += 1
        number = torch.arange(1, last, device=device, dtype=torch.float32)[trials]
        for value in (number / 50.0, torch.log2(number) / 5.0, 1.0 / number):
            shown[:, :, column] = value
            column += 1
        return tokens

    def _scores(self, score: Tensor) -> list[Tensor]:
        """Return what is told of scores, ``[B, T]`` each; a column knows nothing of later ones."""
        best = score.cummax(1).values
        features = [score * 2.0 - 1.0, best * 2.0 - 1.0] if self.scores != "relative" else []
        if self.scores == "absolute":
            return features
        return [*features, *relative_scores(score)]


def relative_scores(score: Tensor) -> list[Tensor]:
    """Return what scores ``[B, T]`` say relative to the earlier ones of an episode, four times ``[B, T]``.

    The gap to the best of the trials before in decades, with its sign; whether the trial is a new best one; its score,
    and that of the best, in standard deviations of the trials so far.
    """
    best = score.cummax(1).values
    before = torch.cat([score[:, :1], best[:, :-1]], 1)
    gap = score - before
    decades = 1.0 + torch.log10(gap.abs().clamp(min=_LEAST_GAP)) / _DECADES
    count = torch.arange(1, score.shape[1] + 1, device=score.device)
    mean = score.cumsum(1) / count
    spread = ((score.square().cumsum(1) / count - mean.square()).clamp(min=0.0) + _LEAST_GAP**2).sqrt()
    standard = ((score - mean) / spread).clamp(-4.0, 4.0) * 0.5
    below_best = ((best - mean) / spread).clamp(0.0, 4.0) * 0.5
    return [gap.sign() * decades, (gap > 0.0).float(), standard, below_best]
