"""PPO of Stable-Baselines3, over legal actions.

Schulman et al. (2017), "Proximal Policy Optimization Algorithms".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from agents.checked_numbers import require_numbers
from agents.stable_baselines_on_policy import OnPolicyAgent, OnPolicyConfig
from hpo_gym.errors import InvalidSettingError, require_integer

__all__ = ["SB3PPO", "SB3PPOConfig"]


@dataclass(frozen=True)
class SB3PPOConfig(OnPolicyConfig):
    """Configuration of :class:`SB3PPO`.

    The others are those of :class:`~agents.stable_baselines_on_policy.OnPolicyConfig`.

    Args:
        batch_size: Transitions per gradient step, at least 2.
        n_epochs: Passes over a rollout.
        clip_range: How far the ratio of probabilities may move before its gradient is cut off.
        normalize_advantage: Whether advantages are standardised in every minibatch.
        target_kl: Stop the passes over a rollout where the policy moved 1.5 times as far (approximate KL divergence);
            ``None`` never does.
    """

    batch_size: int = 512
    n_epochs: int = 10
    clip_range: float = 0.2
    normalize_advantage: bool = True
    target_kl: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(self, counts=("n_epochs",), positive=("clip_range",))
        require_integer("batch_size", self.batch_size, 2)
        if self.target_kl is not None and not 0.0 < self.target_kl < float("inf"):
            raise InvalidSettingError(f"target_kl={self.target_kl!r} must be greater than 0, or None.")

    def arguments(self) -> dict[str, Any]:
        own = ("batch_size", "n_epochs", "clip_range", "normalize_advantage", "target_kl")
        return {**super().arguments(), **{name: getattr(self, name) for name in own}}


class SB3PPO(OnPolicyAgent):
    """SB3's PPO."""

    name: ClassVar[str] = "sb3_ppo"
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step", "grid_choice", "continuous")

    def make_model(self) -> Any:
        from stable_baselines3 import PPO

        return self.bare_model(PPO, self.policy_class(), **self.config.arguments())
