"""Exploration policies: from action values to actions, row by row.

A policy is an object called with a :class:`Decision` and a generator; agents own one and know nothing of how it
explores. Every draw is made per row, never once for a batch.

Epsilon-greedy: Watkins (1989). Softmax (Boltzmann): Sutton and Barto (2018), section 2.8, with temperatures over time.
UCB over an ensemble: Chen, Sidor, Abbeel and Schulman (2017), "UCB Exploration via Q-Ensembles", Algorithm 2. Thompson
sampling with bootstrapped heads: Osband, Blundell, Pritzel and Van Roy (2016), "Deep Exploration via Bootstrapped DQN",
Algorithm 1. Noisy networks: Fortunato et al. (2018). The count-based bonus is in :mod:`agents.visit_counts`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.schedules import Schedule

__all__ = [
    "Choice",
    "Decision",
    "EnsembleUCB",
    "EpsilonGreedy",
    "Exploration",
    "NoisyValues",
    "Softmax",
    "Thompson",
    "draw_by",
    "greedy",
    "uniform_legal",
]

# Below it a row's legal values count as equal: no spread to measure a temperature in.
_NO_SPREAD = 1e-8


@dataclass
class Decision:
    """What an exploration policy may look at.

    Args:
        values: Action values as the agent believes them, float32 ``[B, A]``.
        mask: Legal actions, bool ``[B, A]``; at least one per row.
        step: Transitions seen so far.
        observation: What the values are of, float32 ``[B, W]``.
        heads: Values of every member of an ensemble, float32 ``[B, H, A]``, for policies that need one.
        head: Member that a row follows during its episode, int64 ``[B]``; ``None`` draws one for this decision alone.
        perturbed: Values under one draw of a noisy network's weights per row, float32 ``[B, A]``.
    """

    values: Tensor
    mask: Tensor
    step: int
    observation: Tensor
    heads: Tensor | None = None
    head: Tensor | None = None
    perturbed: Tensor | None = None


@dataclass
class Choice:
    """Chosen actions, int64 ``[B]``, and whether each was an exploratory one, bool ``[B]``."""

    actions: Tensor
    explored: Tensor


def greedy(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the legal action of the largest value, int64 ``[...]`` of ``[..., A]``; ties go to the first."""
    if mask is not None:
        values = values.masked_fill(~mask, -torch.inf)
    return values.argmax(-1)


def uniform_legal(mask: Tensor, draws: torch.Generator) -> Tensor:
    """Draw one legal action per row, each with the same probability, int64 ``[B]``.

    The largest of independent uniform numbers over the legal actions is uniform over them.
    """
    noise = torch.rand(mask.shape, generator=draws, device=mask.device)
    return noise.masked_fill(~mask, -1.0).argmax(1)


def draw_by(chances: Tensor, draws: torch.Generator) -> Tensor:
    """Draw one action per row with the given probabilities ``[B, A]``, int64 ``[B]``.

    The least of exponential waiting times is a draw by the rates; what has the probability 0 is never drawn.
    """
    waiting = torch.empty_like(chances).exponential_(generator=draws)
    return (chances / waiting).argmax(1)


class Exploration(ABC):
    """How an agent that has action values chooses among them while it learns."""

    #: What a decision must hold beside the values: ``""``, ``"heads"`` or ``"perturbed"``.
    needs: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        """Choose one legal action per row.

        Args:
            decision: The action values and what else there is to look at.
            draws: Where random numbers come from.
        """

    @abstractmethod
    def describe(self, step: int) -> dict[str, float]:
        """Return what to log about the policy after ``step`` transitions."""

    def record(self, observation: Tensor, actions: Tensor) -> None:  # noqa: B027, most policies remember nothing
        """Learn what was done in training: observations ``[B, W]`` and actions int64 ``[B]``."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it learned, for a checkpoint."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore a :meth:`state_dict`."""


class EpsilonGreedy(Exploration):
    """With probability epsilon a legal action drawn uniformly, else the greedy one; decided row by row.

    Args:
        schedule: Epsilon over transitions, in ``[0, 1]``.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        values, mask = decision.values, decision.mask
        explored = torch.rand(len(values), generator=draws, device=values.device) < self.schedule(decision.step)
        actions = torch.where(explored, uniform_legal(mask, draws), greedy(values, mask))
        return Choice(actions, explored)

    def describe(self, step: int) -> dict[str, float]:
        return {"epsilon": self.schedule(step)}


class Softmax(Exploration):
    """An action with probability proportional to the exponential of its value over a temperature.

    Args:
        schedule: Temperature over transitions, greater than 0, in units of the values.
        scaled: Whether the temperature is in units of the standard deviation of a row's legal values instead. Then
            neither the scale of the rewards nor how far apart the values of a state are decides how much is explored.
    """

    def __init__(self, schedule: Schedule, scaled: bool = False) -> None:
        self.schedule, self.scaled = schedule, scaled

    def probabilities(self, values: Tensor, mask: Tensor, step: int) -> Tensor:
        """Return the probability of every action, 0 for illegal ones, float32 ``[B, A]``."""
        temperature: float | Tensor = self.schedule(step)
        if self.scaled:
            count = mask.sum(1, keepdim=True)
            mean = (values * mask).sum(1, keepdim=True) / count
            spread = (((values - mean) * mask).square().sum(1, keepdim=True) / count).sqrt()
            # Where all values are equal, so are the logits, whatever they are divided by.
            temperature = temperature * spread.masked_fill(spread < _NO_SPREAD, 1.0)
        return (values / temperature).masked_fill(~mask, -torch.inf).softmax(1)

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        values, mask = decision.values, decision.mask
        actions = draw_by(self.probabilities(values, mask, decision.step), draws)
        return Choice(actions, actions != greedy(values, mask))

    def describe(self, step: int) -> dict[str, float]:
        return {"temperature": self.schedule(step)}


class EnsembleUCB(Exploration):
    """The largest mean plus a multiple of the standard deviation over an ensemble of value functions.

    Args:
        schedule: The multiple over transitions, 0 or more.
    """

    needs: ClassVar[str] = "heads"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        assert decision.heads is not None  # needs
        bound = decision.heads.mean(1) + self.schedule(decision.step) * decision.heads.std(1, correction=0)
        actions = greedy(bound, decision.mask)
        return Choice(actions, actions != greedy(decision.values, decision.mask))

    def describe(self, step: int) -> dict[str, float]:
        return {"bonus": self.schedule(step)}


class Thompson(Exploration):
    """The greedy action of one member of the ensemble, drawn per row and kept for a whole episode.

    A draw that changes at every step is no deep exploration; the training loop gives each row its ``head``.
    """

    needs: ClassVar[str] = "heads"

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        heads = decision.heads
        assert heads is not None  # needs
        head = decision.head
        if head is None:
            head = torch.randint(heads.shape[1], (len(heads),), generator=draws, device=heads.device)
        chosen = heads.gather(1, head[:, None, None].expand(-1, 1, heads.shape[2])).squeeze(1)
        actions = greedy(chosen, decision.mask)
        return Choice(actions, actions != greedy(decision.values, decision.mask))

    def describe(self, step: int) -> dict[str, float]:
        return {}


class NoisyValues(Exploration):
    """The greedy action under one draw of a noisy network's weights per row; training decides how much noise stays."""

    needs: ClassVar[str] = "perturbed"

    def __call__(self, decision: Decision, draws: torch.Generator) -> Choice:
        assert decision.perturbed is not None  # needs
        actions = greedy(decision.perturbed, decision.mask)
        return Choice(actions, actions != greedy(decision.values, decision.mask))

    def describe(self, step: int) -> dict[str, float]:
        return {}
