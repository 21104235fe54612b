"""Who is evaluated: functions of observations, played thousands at a time, and methods with a memory of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hpo_gym.mdp.observations import Observation

__all__ = ["Act", "AnyContender", "Contender", "EpisodicContender"]

#: Observation ``[B, ...]``, ``action_mask`` (bool ``[B, A]``, or ``None`` for continuous actions) and a stream to
#: draw from -> one action per row.
Act: TypeAlias = Callable[[Observation, Tensor | None, torch.Generator], Tensor]


@dataclass(frozen=True)
class Contender:
    """Something to evaluate: a method, or one trained policy of it.

    Args:
        name: Name of the method. Several trained policies of one method share it.
        run: Name of the training run; ``""`` for a method that does not learn.
        action: Kind of action it takes (``grid_step``, ``grid_choice`` or ``continuous``).
        observation: Kind of observation it reads (``flat`` or ``history``).
        act: Chooses one action per row. Rows are independent episodes; ``B`` shrinks when some end before others,
            so a row's past is only what the observation shows of it.
        fingerprint: What decides how it acts, as plain values (settings, hashes, versions of libraries): an
            evaluation that was interrupted goes on only where it is the same.
    """

    name: str
    run: str
    action: str
    observation: str
    act: Act
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodicContender:
    """A method that remembers its episode: every episode is played by itself, in a worker process if there are some.

    Args:
        name, run, action, observation, fingerprint: As for :class:`Contender`.
        begin: Returns the ``act`` of a new episode; it is called for batches of one row. With worker processes it is
            pickled, so that it is an object of a module's class, and no lambda.
    """

    name: str
    run: str
    action: str
    observation: str
    begin: Callable[[], Act]
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


AnyContender: TypeAlias = Contender | EpisodicContender
