"""TD3 of Stable-Baselines3: continuous actions.

Fujimoto, van Hoof and Meger (2018), "Addressing Function Approximation Error in Actor-Critic Methods".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.checked_numbers import require_numbers
from agents.stable_baselines_off_policy import OffPolicyAgent, OffPolicyConfig
from hpo_gym.errors import require_effect
from hpo_gym.mdp.observations import Observation

__all__ = ["SB3TD3", "SB3TD3Config"]


@dataclass(frozen=True)
class SB3TD3Config(OffPolicyConfig):
    """Configuration of :class:`SB3TD3`; all noise is added to actions in ``[-1, 1]``.

    The others are those of :class:`~agents.stable_baselines_off_policy.OffPolicyConfig`.

    Args:
        action_noise: Standard deviation of normal noise while training; without it TD3 would not explore.
        evaluation_noise: The same of the trained policy, which SB3 does not have. A policy without memory would
            hardly try anything new.
        policy_delay: Updates of the critics per update of the actor.
        target_policy_noise: Standard deviation of the noise on the target's actions.
        target_noise_clip: Its largest absolute value.
    """

    learning_rate: float = 1e-3
    action_noise: float = 0.1
    evaluation_noise: float = 0.1
    policy_delay: int = 2
    target_policy_noise: float = 0.2
    target_noise_clip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(
            self,
            counts=("policy_delay",),
            not_negative=("action_noise", "evaluation_noise", "target_policy_noise", "target_noise_clip"),
        )
        if self.target_policy_noise == 0.0:
            remedy = "Set agent.target_policy_noise=0.2"
            require_effect(self, ("target_noise_clip",), "target_policy_noise=0", remedy)

    def arguments(self) -> dict[str, Any]:
        own = ("policy_delay", "target_policy_noise", "target_noise_clip")
        return {**super().arguments(), **{name: getattr(self, name) for name in own}}


class SB3TD3(OffPolicyAgent):
    """SB3's TD3."""

    name: ClassVar[str] = "sb3_td3"
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)

    def make_model(self) -> Any:
        from agents.stable_baselines_models import RowwiseTD3

        model = self.bare_model(RowwiseTD3, "MlpPolicy", **self.config.arguments())
        model.noise = self.config.action_noise
        return model

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"actor": self.model.actor.optimizer, "critic": self.model.critic.optimizer}

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        with torch.no_grad():
            action: Tensor = self.model.actor(self.seen(observation, mask))
        noise = self.config.action_noise if explore else self.config.evaluation_noise
        action = action + noise * torch.randn(action.shape, generator=draws, device=action.device)
        return 0.5 * (action.clamp(-1.0, 1.0) + 1.0)
