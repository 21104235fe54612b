"""Exploration where an action is a point of the unit cube."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.schedules import Schedule, make_schedule
from hpo_gym.errors import InvalidSettingError

__all__ = ["ContinuousExploration", "ContinuousExplorationConfig"]


@dataclass(frozen=True)
class ContinuousExplorationConfig:
    """How an agent with values of continuous actions explores, and how far it strays when it no longer learns.

    Args:
        schedule: How the values below move from ``..._start`` to ``..._end``: ``linear`` or ``exponential``.
        exploration_share: Share of the training over which they move, in ``(0, 1]``.
        epsilon_start: Probability of a uniformly drawn action at first.
        epsilon_end: The same later.
        noise_start: Standard deviation of the Gaussian noise on every coordinate of the other actions at first; the
            cube is 1 wide.
        noise_end: The same later.
        evaluation_epsilon: Probability of a uniformly drawn action of the trained policy.
        evaluation_noise: Standard deviation of the noise on the other actions of the trained policy. Without any, a
            policy whose view of the episode no longer changes proposes the same configuration again and again.
    """

    schedule: str = "linear"
    exploration_share: float = 0.6
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    noise_start: float = 0.2
    noise_end: float = 0.1
    evaluation_epsilon: float = 0.0
    evaluation_noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.exploration_share <= 1.0:
            raise InvalidSettingError(f"exploration_share={self.exploration_share!r} must lie in (0, 1].")
        for name in ("epsilon_start", "epsilon_end", "evaluation_epsilon"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in [0, 1]: it is a probability.")
        for name in ("noise_start", "noise_end", "evaluation_noise"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InvalidSettingError(
                    f"{name}={getattr(self, name)!r} must be a finite number that is not negative."
                )
        for name in ("epsilon", "noise"):
            self.scheduled(name, 1)

    def scheduled(self, name: str, total_steps: int) -> Schedule:
        """Return the schedule of ``epsilon`` or ``noise`` over a training of so many transitions.

        Raises:
            UnknownNameError: For an unknown kind of schedule.
            InvalidSettingError: If an exponential one begins or ends at 0.
        """
        start, end = (float(getattr(self, f"{name}_{when}")) for when in ("start", "end"))
        return make_schedule(self.schedule, start, end, max(1, round(self.exploration_share * total_steps)))


class ContinuousExploration:
    """Uniform actions with some probability, Gaussian noise on the others: one draw per row.

    Args:
        epsilon: Probability of a uniform action.
        noise: Standard deviation of the noise in each coordinate.
    """

    def __init__(self, epsilon: Schedule, noise: Schedule) -> None:
        self._epsilon, self._noise = epsilon, noise

    def __call__(self, actions: Tensor, step: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Disturb actions.

        Args:
            actions: What seems best, float32 ``[B, E]`` in ``[0, 1]``.
            step: Transitions so far.
            draws: Where random numbers come from.

        Returns:
            Actions, float32 ``[B, E]`` in ``[0, 1]``, and which of them are uniform, bool ``[B]``.
        """
        uniform = torch.rand(actions.shape, generator=draws, device=actions.device)
        noise = torch.randn(actions.shape, generator=draws, device=actions.device)
        explored = torch.rand(len(actions), generator=draws, device=actions.device) < self._epsilon(step)
        near = (actions + self._noise(step) * noise).clamp(0.0, 1.0)
        return torch.where(explored[:, None], uniform, near), explored

    def describe(self, step: int) -> dict[str, float]:
        """Return what there is to log."""
        return {"epsilon": self._epsilon(step), "noise": self._noise(step)}
