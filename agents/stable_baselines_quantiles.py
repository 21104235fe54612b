"""QR-DQN of sb3-contrib over legal actions; see :mod:`agents.stable_baselines_models`.

Imports sb3-contrib: only modules that have called :func:`hpo_gym.integrations.sb3.require_sb3` import this one.
"""

from __future__ import annotations

from typing import Any

from sb3_contrib import QRDQN
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from torch import Tensor

from agents.stable_baselines_models import ILLEGAL, RowwiseEpsilonGreedy, legal_actions

__all__ = ["LegalQRDQN", "LegalQRDQNPolicy"]


class _LegalQuantileNetwork(QuantileNetwork):
    """Quantiles of the return, all of them :data:`ILLEGAL` for illegal actions."""

    def forward(self, obs: Any) -> Tensor:
        """Return float32 ``[B, n_quantiles, A]`` of ``[B, W + A]``."""
        illegal = ~legal_actions(obs, int(self.action_space.n))
        return super().forward(obs).masked_fill(illegal[:, None, :], ILLEGAL)


class LegalQRDQNPolicy(QRDQNPolicy):
    """The quantile networks over legal actions."""

    def make_quantile_net(self) -> QuantileNetwork:
        """Return a network that knows the mask."""
        return _LegalQuantileNetwork(**self._update_features_extractor(self.net_args, None)).to(self.device)


class LegalQRDQN(RowwiseEpsilonGreedy, QRDQN):
    """QR-DQN over legal actions."""
