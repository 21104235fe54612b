"""QR-DQN of sb3-contrib, over legal actions.

Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from agents.checked_numbers import require_numbers
from agents.stable_baselines_off_policy import EpsilonGreedyAgent, EpsilonGreedyConfig

__all__ = ["SB3QRDQN", "SB3QRDQNConfig"]


@dataclass(frozen=True)
class SB3QRDQNConfig(EpsilonGreedyConfig):
    """Configuration of :class:`SB3QRDQN`.

    The others are those of :class:`~agents.stable_baselines_off_policy.EpsilonGreedyConfig`.

    Args:
        n_quantiles: Quantiles of the return per action.
    """

    n_quantiles: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(self, counts=("n_quantiles",))


class SB3QRDQN(EpsilonGreedyAgent):
    """QR-DQN of sb3-contrib."""

    name: ClassVar[str] = "sb3_qrdqn"
    package: ClassVar[str] = "sb3_contrib"
    libraries: ClassVar[tuple[str, ...]] = ("stable-baselines3", "sb3-contrib")

    def make_model(self) -> Any:
        from agents.stable_baselines_models import LegalFeatures
        from agents.stable_baselines_quantiles import LegalQRDQN, LegalQRDQNPolicy

        arguments = self.config.arguments()
        arguments["policy_kwargs"] |= {
            "n_quantiles": self.config.n_quantiles,
            "features_extractor_class": LegalFeatures,
            "features_extractor_kwargs": {"actions": self.interface.num_actions},
        }
        return self.bare_model(LegalQRDQN, LegalQRDQNPolicy, **arguments)

    def values(self, seen: Tensor) -> Tensor:
        values: Tensor = self.model.quantile_net(seen).mean(1)
        return values
