"""The rewards, each with its range and what it needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.tasks.suite import Evaluation, TaskSuite

__all__ = ["COST_WEIGHT", "IMPROVEMENT_TOLERANCE", "LOG_REGRET_CAP", "RewardRule", "make_reward_rule"]

#: A score counts as better only when it is better by more than this. The same configuration alone
#: and in a batch differs in the last bits of float32; without a tolerance that noise is a reward.
IMPROVEMENT_TOLERANCE = 1e-6

#: Largest ``log_regret`` reward: a normalised regret below ``10**-4`` counts as ``10**-4``.
LOG_REGRET_CAP = 4.0

#: ``(task, score, previous score, previous incumbent, incumbent, evaluation) -> reward``, tensors of shape ``[B]``.
RewardRule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Evaluation], Tensor]

#: What ``reward="cost_aware"`` subtracts for the dearest evaluation, unless ``cost_weight`` says otherwise.
COST_WEIGHT = 0.1


def make_reward_rule(settings: EpisodeSettings, suite: TaskSuite) -> RewardRule:
    """Return the reward function for ``settings.reward`` and ``settings.reward_scale``.

    ===============  ============================================  ==============  =================
    kind             reward of a trial                             range           knows
    ===============  ============================================  ==============  =================
    ``improvement``  ``max(0, score - incumbent)``; sums to the    [0, 1]          its own trials
                     final incumbent minus the first score
    ``delta``        ``max(0, score - previous score)`` (Hyp-RL,   [0, 1]          its own trials
                     arXiv 1906.11527); can be farmed by going
                     back and forth
    ``score``        the trial's score                             [0, 1]          its own trials
    ``log_regret``   ``-log10`` of the incumbent's normalised      [0, 4]          the task's optimum
                     regret
    ``cost_aware``   ``improvement - cost_weight * cost``; the     [-w, 1]         its own trials and
                     cost is the share of the most seconds that                    their seconds
                     an evaluation may take (``TaskSuite.cost``)
    ===============  ============================================  ==============  =================

    ``reward_scale="range"`` divides the first three, and the improvement in the last, by ``best - worst`` of the task
    (they are 0 where that is 0).

    Raises:
        InvalidSettingError: If the reward needs a range or seconds that the suite does not know.
    """
    if settings.reward == "log_regret":
        suite.require_range()
        return _LogRegret(suite)
    names = {"improvement": _improvement, "delta": _delta, "score": _score, "cost_aware": _improvement}
    rule = names[settings.reward]
    if settings.reward_scale == "range":
        suite.require_range()
        rule = _Scaled(rule, suite)
    if settings.reward == "cost_aware":
        suite.require_seconds()
        return _CostAware(rule, suite, COST_WEIGHT if settings.cost_weight is None else settings.cost_weight)
    return rule


# Objects and not closures: an environment can be pickled, and a copy of it refers to the copy of its suite.
@dataclass(frozen=True)
class _LogRegret:
    suite: TaskSuite

    def __call__(
        self, task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
    ) -> Tensor:
        regret = self.suite.regret(task, incumbent).clamp(10.0**-LOG_REGRET_CAP, 1.0)
        return -torch.log10(regret)


@dataclass(frozen=True)
class _Scaled:
    plain: RewardRule
    suite: TaskSuite

    def __call__(
        self, task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
    ) -> Tensor:
        inverse = self.suite.require_range().inverse_range
        return self.plain(task, score, previous, before, incumbent, evaluation) * inverse.index_select(0, task)


@dataclass(frozen=True)
class _CostAware:
    plain: RewardRule
    suite: TaskSuite
    weight: float

    def __call__(
        self, task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
    ) -> Tensor:
        gain = self.plain(task, score, previous, before, incumbent, evaluation)
        return gain - self.weight * self.suite.cost(evaluation)


def _improvement(
    task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
) -> Tensor:
    return incumbent - before


def _delta(
    task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
) -> Tensor:
    change = score - previous
    return torch.where(change > IMPROVEMENT_TOLERANCE, change, torch.zeros_like(change))


def _score(
    task: Tensor, score: Tensor, previous: Tensor, before: Tensor, incumbent: Tensor, evaluation: Evaluation
) -> Tensor:
    return score.clone()
