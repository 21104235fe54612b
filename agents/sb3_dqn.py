"""DQN of Stable-Baselines3, over legal actions.

Mnih et al. (2015), "Human-level control through deep reinforcement learning". SB3 implements the plain algorithm: no
double Q-learning, no duelling heads (``agent=dqn`` has them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from agents.stable_baselines_off_policy import EpsilonGreedyAgent, EpsilonGreedyConfig

__all__ = ["SB3DQN", "SB3DQNConfig"]


@dataclass(frozen=True)
class SB3DQNConfig(EpsilonGreedyConfig):
    """Configuration of :class:`SB3DQN`: :class:`~agents.stable_baselines_off_policy.EpsilonGreedyConfig`."""


class SB3DQN(EpsilonGreedyAgent):
    """SB3's DQN."""

    name: ClassVar[str] = "sb3_dqn"

    def make_model(self) -> Any:
        from agents.stable_baselines_models import LegalDQN, LegalDQNPolicy, LegalFeatures

        arguments = self.config.arguments()
        arguments["policy_kwargs"] |= {
            "features_extractor_class": LegalFeatures,
            "features_extractor_kwargs": {"actions": self.interface.num_actions},
        }
        return self.bare_model(LegalDQN, LegalDQNPolicy, **arguments)

    def values(self, seen: Tensor) -> Tensor:
        values: Tensor = self.model.q_net(seen)
        return values
