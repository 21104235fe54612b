"""Exploration by counting: actions that were seldom taken in similar situations get a bonus.

Auer, Cesa-Bianchi and Fischer (2002), UCB1, with the counts of hashed observations of Tang et al. (2017),
"#Exploration: A Study of Count-Based Exploration for Deep Reinforcement Learning", section 2.2 (SimHash).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.exploration import Choice, Decision, Exploration, greedy
from agents.schedules import Schedule
from hpo_gym.seeding import generator

__all__ = ["CountUCB"]


class CountUCB(Exploration):
    """The largest ``Q(s, a) + c sqrt(log(1 + n(s)) / (1 + n(s, a)))``, counts being those of similar observations.

    Observations are similar if their signs after ``bits`` fixed random projections agree (after the running mean over
    training is taken off, so that the signs split what is seen).

    Args:
        schedule: ``c`` over transitions, 0 or more.
        width: Width ``W`` of an observation.
        num_actions: ``A``.
        bits: Length of the hash code; there are ``2**bits`` kinds of observations.
        seed: Root of the projections.
        device: Where the counts lie.
    """

    def __init__(
        self,
        schedule: Schedule,
        width: int,
        num_actions: int,
        bits: int = 10,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.schedule = schedule
        draws = generator(seed, "agent", "hash")
        self._projection = torch.randn(width, bits, generator=draws).to(device)
        self._weights = 2 ** torch.arange(bits, device=device)
        self._mean = torch.zeros(width, device=device)
        self._seen = 0
        self.counts = torch.zeros(2**bits, num_actions, device=device)

    def code(self, observation: Tensor) -> Tensor:
        """Return the hash code of every observation, int64 ``[B]``."""
        signs = (observation - self._mean) @ self._projection > 0.0
        return (signs * self._weights).sum(1)

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        counts = self.counts[self.code(decision.observation)]
        total = (counts * decision.mask).sum(1, keepdim=True)
        bonus = (torch.log1p(total) / (1.0 + counts)).sqrt()
        actions = greedy(decision.values + self.schedule(decision.step) * bonus, decision.mask)
        return Choice(actions, actions != greedy(decision.values, decision.mask))

    def record(self, observation: Tensor, actions: Tensor) -> None:
        code = self.code(observation)
        place = code * self.counts.shape[1] + actions
        self.counts.view(-1).index_add_(0, place, torch.ones_like(place, dtype=self.counts.dtype))
        if self._seen < _SETTLED:
            # Later a moving mean would give old counts to other observations.
            self._seen += len(observation)
            self._mean += (observation.mean(0) - self._mean) * (len(observation) / self._seen)

    def describe(self, step: int) -> dict[str, float]:
        return {"bonus": self.schedule(step)}

    def state_dict(self) -> dict[str, Any]:
        own = {"counts": self.counts, "mean": self._mean, "projection": self._projection}
        return {name: value.clone() for name, value in own.items()} | {"seen": self._seen}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.counts.copy_(saved["counts"])
        self._mean.copy_(saved["mean"])
        self._projection.copy_(saved["projection"])
        self._seen = int(saved["seen"])


# Observations after which the mean that is taken off stays.
_SETTLED = 10_000
