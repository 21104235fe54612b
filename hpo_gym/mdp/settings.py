"""What an episode is: one frozen dataclass, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from hpo_gym.errors import InvalidSettingError, require_booleans, require_integer, require_names, unknown_name

__all__ = [
    "ActionKind",
    "EpisodeSettings",
    "ObservationKind",
    "RewardKind",
    "RewardScale",
    "StartKind",
]

ActionKind = Literal["grid_step", "grid_choice", "continuous"]
ObservationKind = Literal["flat", "history"]
RewardKind = Literal["improvement", "delta", "score", "log_regret", "cost_aware"]
RewardScale = Literal["none", "range"]
StartKind = Literal["default", "random", "fixed", "none"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "action": get_args(ActionKind),
    "observation": get_args(ObservationKind),
    "reward": get_args(RewardKind),
    "reward_scale": get_args(RewardScale),
    "start": get_args(StartKind),
}

_LEAST_FIDELITY = 0.1
# Trials are counted in single precision, which is exact up to 2 ** 24.
_MOST_TRIALS = 10_000_000
_MOST_LEVELS = 10_000


@dataclass(frozen=True)
class EpisodeSettings:
    """The rules of an episode.

    Args:
        budget: Full evaluations an episode may spend, ``T``, at most ten million. The evaluation at reset costs one.
        action: ``grid_step`` (``Discrete(2D)``: one hyperparameter one notch down or up),
            ``grid_choice`` (``Discrete(grid size)``: any grid configuration; Hyp-RL), or
            ``continuous`` (``Box [0, 1]^D``: the next configuration in the unit cube).
        observation: ``flat`` (one vector) or ``history`` (all trials so far, padded to ``T``).
        reward: ``improvement`` (gain over the incumbent, telescopes to the final gain), ``delta``
            (positive part of the change from the previous trial; Hyp-RL), ``score`` (the trial's
            score), ``log_regret`` (``-log10`` of the incumbent's normalised regret) or ``cost_aware``
            (``improvement`` minus what the trial's seconds cost).
        reward_scale: ``none``, or ``range`` to divide ``improvement``, ``delta`` and ``score`` by the
            task's known range. It uses knowledge of the test objective: for training only.
        cost_weight: What ``cost_aware`` subtracts for an evaluation that takes the most seconds that are legal, in
            units of score, at least 0; ``None`` means 0.1, and with other rewards it must be ``None``.
        start: Which configuration is evaluated at reset: the space's ``default``, a ``random`` one,
            a ``fixed`` one (``start_configuration``), or ``none``: the agent's first action is
            the first evaluation (not with ``grid_step``). With ``grid_step`` the start is moved to the
            nearest grid point.
        start_configuration: Hyperparameter values by name, for ``start="fixed"``. Names left out
            keep their default.
        levels: Grid levels ``L`` per numeric hyperparameter; ``None`` means 10 for ``grid_step`` and
            the largest number that keeps the grid at or below 4,096 points for ``grid_choice``. Agents that act on
            grids and in the cube share settings: a ``continuous`` action has no levels.
        multi_fidelity: Whether actions also choose the fidelity, and pay its cost. Cheap trials are observed;
            only full evaluations become the incumbent.
        min_fidelity: Smallest share of a full evaluation that a multi-fidelity action may choose, in
            ``(0, 1]``; never below what the objective offers. ``None`` means 0.1, and without ``multi_fidelity`` it
            must be ``None``.
        terminate_on_repeat: End the episode when the previous trials already hold the chosen
            configuration (Hyp-RL).

    Raises:
        UnknownNameError: For an unknown kind.
        InvalidSettingError: For a value outside its range or an impossible combination.
    """

    budget: int = 50
    action: ActionKind = "grid_step"
    observation: ObservationKind = "flat"
    reward: RewardKind = "improvement"
    reward_scale: RewardScale = "none"
    cost_weight: float | None = None
    start: StartKind = "default"
    start_configuration: Mapping[str, Any] | None = None
    levels: int | None = None
    multi_fidelity: bool = False
    min_fidelity: float | None = None
    terminate_on_repeat: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise unknown_name(name, value, allowed)
        require_booleans(self)
        if self.start_configuration is not None and not isinstance(self.start_configuration, Mapping):
            raise InvalidSettingError(
                f"start_configuration={self.start_configuration!r} must be a dictionary of hyperparameter values by "
                "name, or None."
            )
        require_integer("budget", self.budget, 1, "the evaluation at reset already costs one")
        if self.levels is not None:
            require_integer("levels", self.levels, 2, "a grid needs two levels")
            if self.levels > _MOST_LEVELS:
                raise InvalidSettingError(
                    f"levels={self.levels} must be at most {_MOST_LEVELS:,}: levels of a grid per hyperparameter. "
                    "Without a grid, use action='continuous'."
                )
        if self.budget > _MOST_TRIALS:
            raise InvalidSettingError(f"budget={self.budget} must be at most {_MOST_TRIALS:,}: trials of one episode.")
        if self.min_fidelity is not None:
            self._check_min_fidelity(self.min_fidelity)
        if self.cost_weight is not None:
            self._check_cost_weight(self.cost_weight)
        if self.start == "none" and self.action == "grid_step":
            raise InvalidSettingError(
                "start='none' needs action='continuous' or 'grid_choice': a grid step needs a "
                "configuration to step from. Use start='default' or 'random', or an id whose actions are continuous "
                "(HPO-OpenMLContinuous-v0; env=openml_continuous on the command line)."
            )
        if (self.start == "fixed") != (self.start_configuration is not None):
            raise InvalidSettingError(
                f"start={self.start!r} with start_configuration={self.start_configuration!r}: "
                "give start='fixed' and a start_configuration together."
            )
        if self.start != "none" and self.budget < 2:
            raise InvalidSettingError(
                f"budget={self.budget} is spent by the evaluation at reset (start="
                f"{self.start!r}) and leaves no action. Use budget >= 2, or start='none'."
            )
        if self.reward == "log_regret" and self.reward_scale != "none":
            raise InvalidSettingError(
                "reward='log_regret' is already relative to the task's range; use reward_scale='none'."
            )

    @property
    def least_fidelity(self) -> float:
        """Smallest share of a full evaluation that a multi-fidelity action may choose, if the objective offers it."""
        return _LEAST_FIDELITY if self.min_fidelity is None else self.min_fidelity

    def _check_min_fidelity(self, share: float) -> None:
        if not _is_number(share) or not 0.0 < share <= 1.0:
            raise InvalidSettingError(
                f"min_fidelity={share!r} must be a number in (0, 1]: it is a share of a full evaluation."
            )
        if not self.multi_fidelity:
            raise InvalidSettingError(
                f"min_fidelity={share!r} has no effect with multi_fidelity=False. Use multi_fidelity=True, or leave it "
                "out."
            )

    def _check_cost_weight(self, weight: float) -> None:
        if self.reward != "cost_aware":
            raise InvalidSettingError(
                f"cost_weight={weight!r} has no effect with reward={self.reward!r}. Use reward='cost_aware', or leave "
                "it out."
            )
        if not _is_number(weight) or not 0.0 <= float(weight) < math.inf:
            raise InvalidSettingError(f"cost_weight={weight!r} must be a finite number >= 0: units of score.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EpisodeSettings:
        """Build settings from keyword arguments; an unknown key is an error with the closest name."""
        known = [field.name for field in fields(cls)]
        require_names("episode setting", values, known)
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
