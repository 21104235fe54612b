"""Agents with a memory of their own: one optimiser per episode that is asked for a configuration and told its score.

Classical libraries work like that. The coat they wear here is the one of every other agent: all they learn of an
episode comes out of its ``history`` observation, so that they are told what the environment shows, and nothing else.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Agent, Interface
from agents.problem import Problem
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation, history_view
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Value

__all__ = ["Optimizer", "SequentialAgent", "Suggestion", "Trial"]

_SEEDS = 2**31 - 1

# Closer points are one configuration: an action is rounded to float32 on its way to the environment.
_SAME = 1e-6


@dataclass(frozen=True)
class Suggestion:
    """What an optimiser asks to evaluate next.

    Args:
        u: A point of the unit cube, ``[D]``; inactive hyperparameters may have any value.
        share: Share of a full evaluation; without multi-fidelity only 1 means anything.
    """

    u: Tensor
    share: float = 1.0


@dataclass(frozen=True)
class Trial:
    """What came out, of a suggestion or of a trial that an optimiser did not ask for.

    Args:
        number: From 0.
        u: The configuration as it was evaluated, float64 ``[D]``, inactive hyperparameters 0.
        active: bool ``[D]``.
        configuration: Its active hyperparameters by name, in natural units.
        score: In ``[0, 1]``, 1 being best.
        share: Share of a full evaluation.
    """

    number: int
    u: Tensor
    active: Tensor
    configuration: dict[str, Value]
    score: float
    share: float

    def evaluated(self, u: Tensor) -> bool:
        """Return whether this trial evaluated a configuration.

        Args:
            u: As a history shows it (:meth:`~hpo_gym.spaces.SearchSpace.canonical`), float64 ``[D]``.
        """
        return torch.allclose(self.u, u, rtol=0.0, atol=_SAME)

    def answers(self, suggestion: Tensor, space: SearchSpace) -> bool:
        """Return whether this trial evaluated what the environment makes of a suggestion.

        Args:
            suggestion: A point of the unit cube, as an optimiser asks for it, ``[D]``.
            space: The search space, whose values it is rounded to.
        """
        return self.evaluated(space.canonical(suggestion[None].float())[0].double())


class Optimizer(ABC):
    """One episode of a sequential method.

    Its life: made with a seed, then told every trial in order (the first often before anything was asked: the start
    that all methods share), and asked for one configuration at a time.
    """

    @abstractmethod
    def ask(self) -> Suggestion:
        """Return what to evaluate next."""

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn the outcome of one trial."""


@dataclass
class _Episode:
    optimizer: Optimizer
    told: list[tuple[Tensor, float]] = field(default_factory=list)
    pending: Tensor | None = None


class SequentialAgent(Agent):
    """An :class:`Agent` of one :class:`Optimizer` per row.

    A row that shows fewer trials than its optimiser was told, or others, is a new episode, and gets a new optimiser
    with a seed from ``draws``. A row that shows what it showed before is asked twice, and answers alike: whoever begins
    an episode anew before its second trial calls :meth:`fresh`, as the evaluation does for every episode.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(config, interface, seed, device)
        self._episodes: list[_Episode] = []

    @abstractmethod
    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        """Return the optimiser of a new episode.

        Args:
            problem: What it may know.
            seed: Root of its random numbers, in ``[0, 2**31 - 1)``.
        """

    def fresh(self) -> SequentialAgent:
        """Return this agent without any episode."""
        other = copy.copy(self)
        other._episodes = []
        return other

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        if not isinstance(observation, dict):
            raise InvalidSettingError(f"Agent {self.name!r} reads observation='history', not {type(observation)}.")
        space, trials = self.problem.space, observation["mask"].shape[1]
        view = {name: block.cpu() for name, block in history_view(observation, trials, space.dimension).items()}
        counts = view["mask"].sum(1).tolist()
        device = observation["mask"].device
        seeds = torch.randint(_SEEDS, (len(counts),), generator=draws, device=device).tolist()
        while len(self._episodes) < len(counts):
            self._episodes.append(_Episode(self.make_optimizer(self.problem, seeds[len(self._episodes)])))
        actions = []
        for row, count in enumerate(counts):
            shown = {name: view[name][row, :count] for name in ("u", "active", "score", "fidelity")}
            if not _continues(self._episodes[row], shown):
                self._episodes[row] = _Episode(self.make_optimizer(self.problem, seeds[row]))
            actions.append(self._next(self._episodes[row], shown))
        return torch.stack(actions).to(device)

    def _next(self, episode: _Episode, shown: dict[str, Tensor]) -> Tensor:
        """Tell an optimiser what is new, and return its next action; asked twice, it answers alike."""
        space, known = self.problem.space, len(episode.told)
        u = shown["u"].double()
        for number in range(known, len(u)):
            point = u[number]
            trial = Trial(
                number=number,
                u=point,
                active=shown["active"][number] > 0.5,
                configuration=space.to_dicts(point[None])[0],
                score=float(shown["score"][number]),
                share=float(shown["fidelity"][number]),
            )
            episode.optimizer.tell(trial)
            episode.told.append((shown["u"][number].clone(), trial.score))
        if episode.pending is None or len(u) > known:
            suggestion = episode.optimizer.ask()
            action = suggestion.u.double().clamp(0.0, 1.0)
            if self.problem.multi_fidelity:
                share = torch.tensor([suggestion.share], dtype=torch.float64)
                action = torch.cat([action, self.problem.fidelity_coordinate(share)])
            episode.pending = action.float()
        return episode.pending


def _continues(episode: _Episode, shown: dict[str, Tensor]) -> bool:
    """Whether a history goes on from what an optimiser was told."""
    told = episode.told
    if len(told) > len(shown["u"]):
        return False
    if not told:
        return True
    u, score = told[-1]
    last = len(told) - 1
    return bool(torch.equal(shown["u"][last], u)) and float(shown["score"][last]) == score
