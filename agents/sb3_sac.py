"""SAC of Stable-Baselines3: continuous actions.

Haarnoja et al. (2018), "Soft Actor-Critic Algorithms and Applications", with a learned entropy coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.checked_numbers import require_numbers
from agents.stable_baselines_off_policy import OffPolicyAgent, OffPolicyConfig
from hpo_gym.errors import InvalidSettingError, require_effect
from hpo_gym.mdp.observations import Observation

__all__ = ["SB3SAC", "SB3SACConfig"]


@dataclass(frozen=True)
class SB3SACConfig(OffPolicyConfig):
    """Configuration of :class:`SB3SAC`.

    The others are those of :class:`~agents.stable_baselines_off_policy.OffPolicyConfig`.

    Args:
        ent_coef: Weight of the entropy; ``None`` learns it (SB3's ``auto``).
        ent_coef_init: What it is learned from (SB3's ``auto_<value>``). Rewards of an episode sum up to at most 1 here,
            so that SB3's 1 would drown them for long.
        target_entropy: What it is learned towards; ``None`` means minus the number of coordinates of an action.
        deterministic: Whether the trained policy takes the mean of its distribution instead of a draw. A policy without
            memory would then hardly try anything new.
    """

    ent_coef: float | None = None
    ent_coef_init: float = 0.1
    target_entropy: float | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(self, positive=("ent_coef_init",))
        if self.ent_coef is not None and not 0.0 <= self.ent_coef < float("inf"):
            raise InvalidSettingError(f"ent_coef={self.ent_coef!r} must not be negative, or None to learn it.")
        if self.ent_coef is not None:
            require_effect(
                self, ("ent_coef_init", "target_entropy"), f"ent_coef={self.ent_coef!r}", "Set agent.ent_coef=null"
            )


class SB3SAC(OffPolicyAgent):
    """SB3's SAC."""

    name: ClassVar[str] = "sb3_sac"
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)

    def make_model(self) -> Any:
        from agents.stable_baselines_models import RowwiseSAC

        config = self.config
        target = config.target_entropy
        return self.bare_model(
            RowwiseSAC,
            "MlpPolicy",
            ent_coef=f"auto_{config.ent_coef_init}" if config.ent_coef is None else config.ent_coef,
            # SB3's "auto" asks an environment, which is not there yet.
            target_entropy=-float(self.interface.action_dimension) if target is None else target,
            **config.arguments(),
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
        if model.ent_coef_optimizer is not None:
            found["ent_coef"] = model.ent_coef_optimizer
        return found

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        with torch.no_grad():
            parameters: tuple[Tensor, Tensor, Any] = self.model.actor.get_action_dist_params(
                self.seen(observation, mask)
            )
        mean, log_std, _ = parameters
        if explore or not self.config.deterministic:
            mean = mean + log_std.exp() * torch.randn(mean.shape, generator=draws, device=mean.device)
        return 0.5 * (mean.tanh() + 1.0)

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved = super().state_dict(resumable)
        if resumable and self.model.log_ent_coef is not None:
            saved["log_ent_coef"] = self.model.log_ent_coef.detach().clone()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        if resumable and "log_ent_coef" in saved:
            with torch.no_grad():
                self.model.log_ent_coef.copy_(saved["log_ent_coef"])
