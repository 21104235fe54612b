"""A2C of Stable-Baselines3, over legal actions.

Mnih et al. (2016), "Asynchronous Methods for Deep Reinforcement Learning", in its synchronous form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from agents.checked_numbers import require_numbers
from agents.stable_baselines_on_policy import OnPolicyAgent, OnPolicyConfig
from hpo_gym.errors import require_effect

__all__ = ["SB3A2C", "SB3A2CConfig"]


@dataclass(frozen=True)
class SB3A2CConfig(OnPolicyConfig):
    """Configuration of :class:`SB3A2C`.

    The others are those of :class:`~agents.stable_baselines_on_policy.OnPolicyConfig`.

    Args:
        use_rms_prop: Whether the optimiser is RMSProp, as in the paper, and not Adam.
        rms_prop_eps: RMSProp's epsilon.
        normalize_advantage: Whether advantages are standardised in every rollout.
    """

    learning_rate: float = 7e-4
    n_steps: int = 5
    gae_lambda: float = 1.0
    use_rms_prop: bool = True
    rms_prop_eps: float = 1e-5
    normalize_advantage: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(self, positive=("rms_prop_eps",))
        if not self.use_rms_prop:
            require_effect(self, ("rms_prop_eps",), "use_rms_prop=false", "Set agent.use_rms_prop=true")

    def arguments(self) -> dict[str, Any]:
        own = ("use_rms_prop", "rms_prop_eps", "normalize_advantage")
        return {**super().arguments(), **{name: getattr(self, name) for name in own}}


class SB3A2C(OnPolicyAgent):
    """SB3's A2C."""

    name: ClassVar[str] = "sb3_a2c"
    action_kinds: ClassVar[tuple[str, ...]] = ("grid_step", "grid_choice", "continuous")

    def make_model(self) -> Any:
        from stable_baselines3 import A2C

        return self.bare_model(A2C, self.policy_class(), **self.config.arguments())
