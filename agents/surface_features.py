"""What the training tasks of a space say of a configuration: their surfaces, distilled into one small network.

As in Wistuba and Grabocka (2021), "Few-Shot Bayesian Optimization with Deep Kernel Surrogates", ICLR, the features
that a kernel over configurations reads are learned on other tasks. Here a feature is a training task: its output is
how good a configuration is there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.schedules import CosineSchedule
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["SurfaceFeatures", "fit_surfaces"]

_BATCH = 256
_LEARNING_RATE = 3e-3


class SurfaceFeatures(nn.Module):
    """From configurations to how good they are on each training task.

    Args:
        spec: The search space.
        surfaces: Training tasks ``N``.
        hidden: Width of the two layers.
    """

    _numeric: Tensor
    _choice: Tensor
    _position: Tensor
    _count: Tensor
    _conditional: Tensor

    def __init__(self, spec: SpaceSpec, surfaces: int, hidden: int) -> None:
        super().__init__()
        self.surfaces, self.hidden = surfaces, hidden
        self.space = SearchSpace(spec)
        columns = spec.columns
        numeric = [index for index, column in enumerate(columns) if column.is_numeric]
        choices = [(i, k) for i, column in enumerate(columns) for k in range(len(column.choices))]
        self.register_buffer("_numeric", torch.tensor(numeric, dtype=torch.int64), persistent=False)
        for name, part in (("_choice", 0), ("_position", 1)):
            self.register_buffer(
                name, torch.tensor([pair[part] for pair in choices], dtype=torch.int64), persistent=False
            )
        counts = [float(len(columns[i].choices)) for i, _ in choices]
        self.register_buffer("_count", torch.tensor(counts), persistent=False)
        conditional = sorted(spec.conditions)
        self.register_buffer("_conditional", torch.tensor(conditional, dtype=torch.int64), persistent=False)
        #: Width ``W`` of an encoded configuration.
        self.width = len(numeric) + len(choices) + len(conditional)
        self.layers = nn.Sequential(
            nn.Linear(self.width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, surfaces),
        )

    def encode(self, u: Tensor) -> Tensor:
        """Return configurations ``[..., D]`` as what kernel and network read, float32 ``[..., W]``.

        Numbers in the unit interval, choices one-hot (0.7 apart, so that two choices are about as far as the ends of
        a range), and the activity of conditional hyperparameters; what is inactive is 0.
        """
        flat = self.space.snap(u.reshape(-1, u.shape[-1]).float())
        active = self.space.active(flat).float()
        chosen = ((flat * active)[:, self._choice] * self._count).floor() == self._position
        parts = [
            (flat * active)[:, self._numeric],
            0.7 * chosen * active[:, self._choice],
            0.5 * active[:, self._conditional],
        ]
        encoded: Tensor = torch.cat(parts, 1).unflatten(0, u.shape[:-1])
        return encoded

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
