"""What the training tasks of a space say of a configuration: their surfaces, distilled into one small network.

As in Wistuba and Grabocka (2021), "Few-Shot Bayesian Optimization with Deep Kernel Surrogates", ICLR, the features
that a kernel over configurations reads are learned on other tasks. Here a feature is a training task: its output is
how good a configuration is there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.configuration_encoder import ConfigurationEncoder
from agents.schedules import CosineSchedule
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["SurfaceFeatures", "fit_surfaces"]

_BATCH = 256
_LEARNING_RATE = 3e-3


class SurfaceFeatures(ConfigurationEncoder):
    """From configurations to how good they are on each training task.

    Args:
        spec: The search space.
        surfaces: Training tasks ``N``.
        hidden: Width of the two layers.
    """

    def __init__(self, spec: SpaceSpec, surfaces: int, hidden: int) -> None:
        super().__init__(spec)
        self.surfaces, self.hidden = surfaces, hidden
        self.layers = nn.Sequential(
            nn.Linear(self.width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, surfaces),
        )

    def forward(self, encoded: Tensor) -> Tensor:
        """Return the features of encoded configurations, ``[..., N]``."""
        out: Tensor = self.layers(encoded)
        return out


def fit_surfaces(features: SurfaceFeatures, u: Tensor, value: Tensor, steps: int, draws: torch.Generator) -> float:
    """Fit the network to what configurations are worth on the training tasks.

    Args:
        features: The network; changed in place.
        u: Configurations, float32 ``[P, D]``.
        value: What they are worth, float32 ``[P, N]``.
        steps: Gradient steps.
        draws: Where random numbers come from.

    Returns:
        Root mean square error on those configurations.
    """
    encoded = features.encode(u)
    learning_rate = CosineSchedule(_LEARNING_RATE, steps)
    optimizer = torch.optim.AdamW(features.parameters(), _LEARNING_RATE, weight_decay=1e-4)
    with torch.enable_grad():
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
            rows = torch.randint(len(u), (_BATCH,), generator=draws, device=draws.device)
            loss = F.mse_loss(features(encoded[rows]), value[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    features.requires_grad_(False)
    return float(F.mse_loss(features(encoded), value).sqrt())
