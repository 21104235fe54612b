"""Exploration policies by name, and the settings of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from agents.checked_numbers import require_numbers
from agents.exploration import EnsembleUCB, EpsilonGreedy, Exploration, NoisyValues, Softmax, Thompson
from agents.schedules import Schedule, make_schedule
from agents.visit_counts import CountUCB
from hpo_gym.errors import InvalidSettingError, require_effect, require_integer, unknown_name

__all__ = ["EXPLORATIONS", "ExplorationConfig", "make_exploration"]

_SCHEDULE = ("schedule", "exploration_share")
_ENSEMBLE = ("heads", "prior_scale", "bootstrap_share")

#: Policies by name, and which settings say how each explores.
EXPLORATIONS: dict[str, tuple[str, ...]] = {
    "epsilon_greedy": ("epsilon_start", "epsilon_end", *_SCHEDULE),
    "softmax": ("temperature_start", "temperature_end", *_SCHEDULE),
    "softmax_scaled": ("spread_start", "spread_end", *_SCHEDULE),
    "ucb": ("bonus_start", "bonus_end", *_ENSEMBLE, *_SCHEDULE),
    "count_ucb": ("count_bonus_start", "count_bonus_end", "hash_bits", *_SCHEDULE),
    "thompson": _ENSEMBLE,
    "noisy": ("noise_scale",),
}


@dataclass(frozen=True)
class ExplorationConfig:
    """How an agent with action values explores; a setting of a policy that is not chosen is refused.

    Args:
        exploration: Name of the policy (:data:`EXPLORATIONS`).
        schedule: How the policy's value moves from ``..._start`` to ``..._end``: ``linear`` or ``exponential``.
        exploration_share: Share of the training over which it moves, in ``(0, 1]``.
        epsilon_start: ``epsilon_greedy``: probability of a random action at first.
        epsilon_end: Probability of a random action later.
        temperature_start: ``softmax``: temperature at first, in units of the return.
        temperature_end: Temperature later.
        spread_start: ``softmax_scaled``: temperature at first, in standard deviations of a state's action values.
        spread_end: The same later.
        bonus_start: ``ucb``: standard deviations of the ensemble that are added to its mean at first.
        bonus_end: The same later.
        count_bonus_start: ``count_ucb``: factor of the bonus for seldom taken actions at first, in units of the return.
        count_bonus_end: The same later.
        hash_bits: ``count_ucb``: bits of the code that tells observations apart, in 1 .. 20.
        heads: ``ucb``, ``thompson``: members of the ensemble, at least 2.
        prior_scale: ``ucb``, ``thompson``: scale of the fixed random network that is added to each member.
        bootstrap_share: ``ucb``, ``thompson``: probability that a member learns from a transition, in ``(0, 1]``.
        noise_scale: ``noisy``: ``sigma_0`` of the noisy layer.
    """

    exploration: str = "epsilon_greedy"
    schedule: str = "linear"
    exploration_share: float = 0.6
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    temperature_start: float = 0.3
    temperature_end: float = 0.003
    spread_start: float = 2.0
    spread_end: float = 0.2
    bonus_start: float = 2.0
    bonus_end: float = 0.5
    count_bonus_start: float = 0.3
    count_bonus_end: float = 0.01
    hash_bits: int = 10
    heads: int = 8
    prior_scale: float = 0.1
    bootstrap_share: float = 0.5
    noise_scale: float = 0.5

    def __post_init__(self) -> None:
        if self.exploration not in EXPLORATIONS:
            raise unknown_name("exploration policy", self.exploration, EXPLORATIONS)
        own = EXPLORATIONS[self.exploration]
        for part in fields(ExplorationConfig):
            owners = [name for name, settings in EXPLORATIONS.items() if part.name in settings]
            if owners and part.name not in own:
                remedy = f"Use agent.exploration={owners[0]}"
                require_effect(self, (part.name,), f"exploration={self.exploration}", remedy)
        require_integer("heads", self.heads, 2, "an ensemble needs two members")
        require_integer("hash_bits", self.hash_bits, 1)
        if self.hash_bits > 20:
            raise InvalidSettingError(
                f"hash_bits={self.hash_bits!r} must be at most 20: counts are kept for each code."
            )
        for name in ("exploration_share", "bootstrap_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in (0, 1].")
        for name in ("epsilon_start", "epsilon_end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in [0, 1]: it is a probability.")
        require_numbers(
            self,
            positive=("temperature_start", "temperature_end", "spread_start", "spread_end", "noise_scale"),
            not_negative=("bonus_start", "bonus_end", "count_bonus_start", "count_bonus_end", "prior_scale"),
        )
        if "schedule" in own:
            self.scheduled(1)

    def scheduled(self, total_steps: int) -> Schedule:
        """Return the schedule of a policy that has one, over a training of so many transitions.

        Raises:
            UnknownNameError: For an unknown kind of schedule.
            InvalidSettingError: If an exponential one begins or ends at 0.
        """
        start, end = (float(getattr(self, name)) for name in EXPLORATIONS[self.exploration][:2])
        return make_schedule(self.schedule, start, end, max(1, round(self.exploration_share * total_steps)))


def make_exploration(
    config: ExplorationConfig, total_steps: int, width: int, num_actions: int, seed: int, device: torch.device
) -> Exploration:
    """Return the policy that a configuration names.

    Args:
        config: Its settings.
        total_steps: Transitions of the whole training.
        width: Width ``W`` of an observation.
        num_actions: ``A``.
        seed: Root of the streams of the agent.
        device: Where it computes.
    """
    if config.exploration == "thompson":
        return Thompson()
    if config.exploration == "noisy":
        return NoisyValues()
    schedule = config.scheduled(total_steps)
    if config.exploration == "epsilon_greedy":
        return EpsilonGreedy(schedule)
    if config.exploration == "ucb":
        return EnsembleUCB(schedule)
    if config.exploration == "count_ucb":
        return CountUCB(schedule, width, num_actions, config.hash_bits, seed, device)
    return Softmax(schedule, scaled=config.exploration == "softmax_scaled")
