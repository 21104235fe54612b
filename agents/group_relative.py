"""Group-relative policy optimisation: advantages without a critic, the clipped surrogate, and policy churn.

Shao et al. (2024), "DeepSeekMath", arXiv 2402.03300, section 4.1: what a rollout gained is compared with what others
of its group gained, from the same start on the same task. Schulman et al. (2017), arXiv 1707.06347, equation 7: the
clipped surrogate. Guo, Pan and Zhai (2025), "GRPOformer", arXiv 2509.17105, after Tang and Berseth (2024): policy churn
regularisation, here as the closed-form divergence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.errors import unknown_name

__all__ = ["ADVANTAGES", "categorical_divergence", "clipped_surrogate", "group_advantages"]

#: What a step of a rollout is given credit for: what came from it on, or the whole rollout alike.
ADVANTAGES = ("step", "trajectory")

_LEAST_SPREAD = 1e-6


def group_advantages(reward: Tensor, group_size: int, kind: str = "step", discount: float = 1.0) -> Tensor:
    """Return how much better each step went than those of the other rollouts of its group.

    Args:
        reward: float32 ``[B, T]``; rows ``g K .. (g + 1) K - 1`` are group ``g``.
        group_size: ``K``, at least 2.
        kind: ``step`` compares the discounted rewards from a step on with those of the group at the same step;
            ``trajectory`` the return of the whole rollout, the same for all of its steps.
        discount: Of later rewards, in ``(0, 1]``.

    Returns:
        float32 ``[B, T]``, of mean 0 and standard deviation 1 within a group and step; 0 where a group does not differ.

    Raises:
        UnknownNameError: For an unknown kind.
    """
    if kind not in ADVANTAGES:
        raise unknown_name("advantage", kind, ADVANTAGES)
    gained = torch.empty_like(reward)
    later = torch.zeros_like(reward[:, 0])
    for step in reversed(range(reward.shape[1])):
        later = reward[:, step] + discount * later
        gained[:, step] = later
    if kind == "trajectory":
        gained = gained[:, :1].expand_as(reward)
    grouped = gained.unflatten(0, (-1, group_size))
    centred = grouped - grouped.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    advantage = torch.where(spread > _LEAST_SPREAD, centred / spread.clamp(min=_LEAST_SPREAD), 0.0)
    return advantage.flatten(0, 1)


def clipped_surrogate(log_probability: Tensor, before: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return the loss ``-min(r A, clip(r, 1 - clip, 1 + clip) A)`` with ``r = exp(log_probability - before)``.

    Args:
        log_probability: Of what was done, under the policy that learns, ``[N]``.
        before: Of the same under the policy that did it, ``[N]``.
        advantage: ``[N]``.
        clip: Range of the ratio, above 0.
    """
    ratio = torch.exp(log_probability - before)
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def categorical_divergence(before: Tensor, after: Tensor, active: Tensor) -> Tensor:
    """Return ``KL(before || after)`` of factorised categorical distributions, summed over active hyperparameters.

    Args:
        before, after: Log-probabilities, ``[N, D, K]``; ``-inf`` where a bin does not exist, in both.
        active: bool ``[N, D]``.

    Returns:
        ``[N]``, at least 0.
    """
    difference = (before - after).masked_fill(before == -torch.inf, 0.0)
    return ((before.exp() * difference).sum(2) * active).sum(1)
