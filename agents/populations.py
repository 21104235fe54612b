"""Batched methods without a memory: all they know of an episode is read out of its ``history`` observation.

What such a method would remember is a function of the trials: its incumbent is the best of them, and a population
whose members take turns is what each member's own trials left. So an action depends on the observation and on the
stream of random numbers alone, and thousands of episodes advance together.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Agent, Interface
from agents.problem import Problem
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation, history_view
from hpo_gym.spaces import SearchSpace

__all__ = [
    "HistoryAgent",
    "Population",
    "Trials",
    "distinct_members",
    "first_of_each",
    "random_where_forbidden",
    "uniform_at_inactive",
]

# Closer points are one configuration: grids and snapped integers differ in the last digit of float32 at most.
_SAME = 1e-6


@dataclass(frozen=True)
class Population:
    """The members of a population as their trials left them.

    Args:
        u: Configurations, inactive hyperparameters 0, float32 ``[B, N, D]``.
        active: bool ``[B, N, D]``.
        score: float32 ``[B, N]``; -1 for a member without a trial.
    """

    u: Tensor
    active: Tensor
    score: Tensor


@dataclass(frozen=True)
class Trials:
    """The trials of a batch of episodes, oldest first, padded to ``T``.

    Args:
        u: Configurations, inactive hyperparameters 0, float32 ``[B, T, D]``.
        active: bool ``[B, T, D]``.
        score: In ``[0, 1]``, 1 being best, float32 ``[B, T]``.
        done: Which are trials and no padding, bool ``[B, T]``.
    """

    u: Tensor
    active: Tensor
    score: Tensor
    done: Tensor

    @classmethod
    def of(cls, observation: dict[str, Tensor], dimension: int) -> Trials:
        """Read a ``history`` observation of ``D = dimension`` hyperparameters."""
        view = history_view(observation, observation["mask"].shape[1], dimension)
        return cls(view["u"], view["active"] > 0.5, view["score"], view["mask"])

    @property
    def count(self) -> Tensor:
        """Trials done, those that a method did not choose included, int64 ``[B]``."""
        return self.done.sum(1)

    def incumbent(self) -> Population:
        """Return the best trial as a population of one; the latest of equally good ones."""
        return self.members(1, latest=True)

    def members(self, size: int, latest: bool) -> Population:
        """Return the best trial of each member of a population whose members take turns.

        Trial ``t`` (from 0) is that of member ``t mod size``, as in every method that tries one candidate per member
        and generation and keeps it if it is better: what is kept is the best of the member's trials.

        Args:
            size: ``N``.
            latest: Whether a candidate that is as good as the member replaces it; else it must be better.
        """
        batch, trials, dimension = self.u.shape
        rounds = -(-trials // size)
        padded = self.score.new_full((batch, rounds * size), -1.0)
        padded[:, :trials] = self.score.masked_fill(~self.done, -1.0)
        score = padded.view(batch, rounds, size)
        # argmax returns the first of equal values.
        best = rounds - 1 - score.flip(1).argmax(1) if latest else score.argmax(1)
        kept = score.gather(1, best[:, None]).squeeze(1)
        # A member without a trial has -1 in every round: any row serves, and is marked inactive.
        row = (best * size + torch.arange(size, device=best.device)).clamp(max=trials - 1)
        wide = row[:, :, None].expand(-1, -1, dimension)
        exists = (kept >= 0.0)[:, :, None]
        return Population(self.u.gather(1, wide) * exists, self.active.gather(1, wide) & exists, kept)

    def tried(self, shown: Tensor) -> Tensor:
        """Return which configurations some trial evaluated.

        Args:
            shown: Snapped configurations with inactive hyperparameters 0, ``[P, D]`` for all episodes or
                ``[B, P, D]``.

        Returns:
            bool ``[B, P]``.
        """
        # Equal shown values mean equal activity: what decides it is active itself.
        distance = torch.cdist(self.u, shown.expand(len(self.u), -1, -1), p=float("inf"))
        return ((distance <= _SAME) & self.done[:, :, None]).any(1)


def uniform_at_inactive(population: Population, draws: torch.Generator) -> Tensor:
    """Return the members as points of the unit cube, ``[B, N, D]``.

    A hyperparameter that was inactive has no value; every use draws one uniformly, which is what a coordinate is that
    no selection ever acted on.
    """
    u = population.u
    drawn = torch.rand(u.shape, generator=draws, device=u.device)
    return torch.where(population.active, u, drawn)


def distinct_members(batch: int, size: int, count: int, draws: torch.Generator, excluded: Tensor | None) -> Tensor:
    """Draw ``count`` different members of each row's population, int64 ``[B, count]``.

    Args:
        batch: ``B``.
        size: ``N``.
        count: At most ``size``, one fewer with ``excluded``.
        draws: Where random numbers come from.
        excluded: A member of each row not to be drawn, int64 ``[B]``.
    """
    # The places of the largest of independent uniform numbers are a uniform sample without replacement.
    noise = torch.rand(batch, size, generator=draws, device=draws.device)
    if excluded is not None:
        noise = noise.scatter(1, excluded[:, None], -1.0)
    return noise.topk(count, 1).indices


def first_of_each(rows: Tensor) -> Tensor:
    """Return where each of the different rows comes first: ``[P]`` or ``[P, D]`` -> int64 ``[U]``.

    Rows that are smaller, compared from the left, come first: ``rows[first_of_each(rows)]`` is sorted.
    """
    unique, inverse = rows.unique(dim=0, return_inverse=True)
    place = torch.arange(len(rows), device=rows.device)
    return place.new_full((len(unique),), len(rows)).scatter_reduce(0, inverse, place, "amin")


class HistoryAgent(Agent):
    """An agent that proposes full evaluations of points of the unit cube and remembers nothing.

    Subclasses say which point (:meth:`propose`); the coordinate that asks for the fidelity is added here.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(config, interface, seed, device)
        self._space: SearchSpace | None = None

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        self._space = SearchSpace(problem.space.spec).to(self.device)

    @property
    def space(self) -> SearchSpace:
        """The search space where the agent computes.

        Raises:
            InvalidSettingError: Before :meth:`prepare`.
        """
        return self._prepared(self._space)

    @abstractmethod
    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        """Choose a configuration per row.

        Args:
            trials: What was evaluated so far, the start included.
            draws: Where random numbers come from.

        Returns:
            Points of the unit cube, float32 ``[B, D]``.
        """

    @torch.no_grad()
    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        if not isinstance(observation, dict):
            raise InvalidSettingError(f"Agent {self.name!r} reads observation='history', not {type(observation)}.")
        u = self.propose(Trials.of(observation, self.space.dimension), draws)
        if self.problem.multi_fidelity:
            # The end point asks for a full evaluation.
            u = torch.cat([u, u.new_ones(len(u), 1)], 1)
        return u

    def shown(self, u: Tensor) -> Tensor:
        """Return configurations as a history shows them: snapped, inactive hyperparameters 0, ``[P, D]``."""
        return self.space.canonical(u)

    def random_where_forbidden(self, u: Tensor, draws: torch.Generator) -> Tensor:
        """Replace forbidden configurations, which could only score worst, with random legal ones, ``[B, D]``."""
        return random_where_forbidden(self.space, u, draws)


def random_where_forbidden(space: SearchSpace, u: Tensor, draws: torch.Generator) -> Tensor:
    """Replace configurations ``[B, D]`` that a search space forbids with random ones that it allows."""
    if not space.has_forbidden:
        return u
    return torch.where(space.legal(space.snap(u))[:, None], u, space.sample(len(u), draws))
