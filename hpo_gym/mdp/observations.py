"""What an agent sees: never the optimum, the normalised regret or a test label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.mdp.state import EpisodeState
from hpo_gym.tasks.suite import TaskSuite

__all__ = [
    "META_FEATURE_BOUND",
    "FlatObservation",
    "HistoryObservation",
    "Observation",
    "ObservationPart",
    "ObservationRule",
    "history_view",
    "make_observation_rule",
]

Observation = Tensor | dict[str, Tensor]

#: Standardised meta-features are clipped to ``[-5, 5]``.
META_FEATURE_BOUND = 5.0


@dataclass(frozen=True)
class ObservationPart:
    """A named block of an observation: its width and bounds."""

    name: str
    width: int
    low: float = 0.0
    high: float = 1.0


class ObservationRule(ABC):
    """How a state is shown.

    Args:
        suite: The task suite.
        settings: The episode's rules.
        trials: Most trials an episode can hold, ``T``.
    """

    #: The blocks, in the order in which a flat observation holds them.
    parts: tuple[ObservationPart, ...]

    def __init__(self, suite: TaskSuite, settings: EpisodeSettings, trials: int) -> None:
        self.suite = suite
        self.settings = settings
        self.trials = trials
        self._one = torch.ones(1, device=suite.device)
        self._share_of_budget = 1.0 / settings.budget
        self._conditional = suite.space.has_conditions

    @abstractmethod
    def observe(self, state: EpisodeState) -> Observation:
        """Return the observation of a batch; it shares no memory with the state."""

    def _budget_left(self, state: EpisodeState) -> Tensor:
        left = torch.sub(self._one, state.spent, alpha=self._share_of_budget).clamp_(min=0.0)
        return left.float() if self.settings.multi_fidelity else left


class FlatObservation(ObservationRule):
    """One vector per environment, float32 ``[B, M + 2 D + 3 (+ 1)]``.

    ``meta-features | current u (inactive: 0) | active | last score | incumbent | budget left``, and with
    multi-fidelity the share of a full evaluation that the last trial used.
    """

    def __init__(self, suite: TaskSuite, settings: EpisodeSettings, trials: int) -> None:
        super().__init__(suite, settings, trials)
        dimension = suite.space.dimension
        parts = [
            ObservationPart("current_u", dimension),
            ObservationPart("active", dimension),
            ObservationPart("score", 1),
            ObservationPart("incumbent", 1),
            ObservationPart("budget_left", 1),
        ]
        if settings.multi_fidelity:
            parts.append(ObservationPart("fidelity", 1))
        bound = META_FEATURE_BOUND
        meta = ObservationPart("meta_features", suite.meta_features.shape[1], -bound, bound)
        self.parts = tuple(parts) if meta.width == 0 else (meta, *parts)
        self._task = torch.empty(0, dtype=torch.int64)
        self._features = self._all_active = torch.empty(0)

    def observe(self, state: EpisodeState) -> Tensor:
        if state.task is not self._task:
            # States do not change: as long as no episode ends, the tasks are the very same tensor.
            self._task = state.task
            self._features = self.suite.meta_features.index_select(0, state.task)
            self._all_active = torch.ones_like(state.u)
        if self._conditional:
            active = state.active.float()
            u = state.u * active
        else:
            active, u = self._all_active, state.u
        blocks = [
            self._features,
            u,
            active,
            state.score[:, None],
            state.incumbent[:, None],
            self._budget_left(state)[:, None],
        ]
        if self.settings.multi_fidelity:
            blocks.append(state.fidelity[:, None])
        return torch.cat(blocks, 1)


class HistoryObservation(ObservationRule):
    """All trials so far, oldest first, padded with zeros to ``T``: a dictionary of float32 blocks.

    =================  =========  ======================================================
    key                width      content
    =================  =========  ======================================================
    ``meta_features``  M          standardised meta-features (absent when M = 0)
    ``u``              T * D      configurations, inactive hyperparameters 0
    ``active``         T * D      1 where a hyperparameter was active
    ``score``          T          scores
    ``fidelity``       T          share of a full evaluation
    ``mask``           T          1 for a trial, 0 for padding
    ``descriptors``    D * F      what each hyperparameter is (see ``DESCRIPTOR_NAMES``)
    ``budget_left``    1          share of the budget
    =================  =========  ======================================================

    Blocks are flat because that is what observation checkers and multi-input policies expect;
    :func:`history_view` gives them back their ``[B, T, D]`` shapes without a copy.
    """

    def __init__(self, suite: TaskSuite, settings: EpisodeSettings, trials: int) -> None:
        super().__init__(suite, settings, trials)
        dimension = suite.space.dimension
        self._descriptors = suite.space.descriptors().flatten()[None]
        self._position = torch.arange(trials, device=suite.device)
        bound = META_FEATURE_BOUND
        parts = [
            ObservationPart("meta_features", suite.meta_features.shape[1], -bound, bound),
            ObservationPart("u", trials * dimension),
            ObservationPart("active", trials * dimension),
            ObservationPart("score", trials),
            ObservationPart("fidelity", trials),
            ObservationPart("mask", trials),
            ObservationPart("descriptors", self._descriptors.shape[1]),
            ObservationPart("budget_left", 1),
        ]
        self.parts = tuple(part for part in parts if part.width > 0)

    def observe(self, state: EpisodeState) -> dict[str, Tensor]:
        history = state.history
        if history is None:
            raise RuntimeError("a history observation needs a state that keeps its history")
        blocks = {
            "meta_features": self.suite.meta_features[state.task],
            # Copies: the history is written in place while the episode goes on.
            "u": history.u.flatten(1).clone(),
            "active": history.active.flatten(1).float(),
            "score": history.score.clone(),
            "fidelity": history.fidelity.clone(),
            "mask": (self._position < state.trial[:, None]).float(),
            "descriptors": self._descriptors.expand(len(state.task), -1).clone(),
            "budget_left": self._budget_left(state)[:, None],
        }
        return {part.name: blocks[part.name] for part in self.parts}


def history_view(observation: Mapping[str, Tensor], trials: int, dimension: int) -> dict[str, Tensor]:
    """Return a history observation with ``u`` and ``active`` as ``[B, T, D]``, ``descriptors`` as
    ``[B, D, F]`` and ``mask`` as bool ``[B, T]``; the others are unchanged.
    """
    view = dict(observation)
    for key in ("u", "active"):
        view[key] = view[key].unflatten(1, (trials, dimension))
    view["descriptors"] = view["descriptors"].unflatten(1, (dimension, -1))
    view["mask"] = view["mask"] > 0.5
    return view


def make_observation_rule(suite: TaskSuite, settings: EpisodeSettings, trials: int) -> ObservationRule:
    """Return the rule for ``settings.observation``."""
    rules: dict[str, type[ObservationRule]] = {
        "flat": FlatObservation,
        "history": HistoryObservation,
    }
    return rules[settings.observation](suite, settings, trials)
