"""Per-task monotone maps between a metric and a common Gaussian scale.

A response surface differs between datasets by any monotone map: one spreads its accuracies over
0.95 to 0.96, another over 0.1 to 0.9. Networks are therefore fitted to ``z``, the standard-normal score
of a configuration's rank among random configurations of its task, and ``z`` is mapped back through the
task's own quantile function. What comes back can never leave the range that was observed at any
fidelity; where an original scores higher on less data, that is more than it has at full fidelity (docs/data.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LOWEST_Z", "STEP_Z", "QuantileMap"]

LOWEST_Z = -3.5
_SAMPLE_Z = 3.5
_HIGHEST_Z = 5.0
STEP_Z = 0.1
_KNOTS = round((_HIGHEST_Z - LOWEST_Z) / STEP_Z) + 1
_SAMPLE_KNOTS = round((_SAMPLE_Z - LOWEST_Z) / STEP_Z) + 1


class QuantileMap(nn.Module):
    """Piecewise-linear rising functions ``z -> value``, one per task and metric.

    Args:
        knots: Values at ``z = -3.5, -3.4, ..., 5``, rising along the last axis: float32
            ``[K, N, 86]``.
    """

    knots: Tensor
    _rises: Tensor
    _first: Tensor
    _zero: Tensor

    def __init__(self, knots: Tensor) -> None:
        super().__init__()
        self.register_buffer("knots", knots.float())
        count, tasks, width = knots.shape
        first = torch.arange(tasks)[:, None] * width + torch.arange(count) * (tasks * width)
        self.register_buffer("_first", first.to(knots.device), persistent=False)
        self.register_buffer("_zero", torch.full((1,), -LOWEST_Z / STEP_Z, device=knots.device), persistent=False)
        self.register_buffer("_rises", _rises(self.knots), persistent=False)
        self.register_load_state_dict_post_hook(_derive)

    @classmethod
    def fit(cls, samples: Tensor, best: Tensor, worst: Tensor) -> QuantileMap:
        """Fit to random samples and to the extremes known from a search.

        Args:
            samples: Values of random configurations, ``[K, N, R]``.
            best: Largest values known, ``[K, N]``; reached at ``z = 5``.
            worst: Smallest values known, ``[K, N]``; reached at ``z = -3.5``.
        """
        grid = torch.linspace(LOWEST_Z, _SAMPLE_Z, _SAMPLE_KNOTS, dtype=torch.float64)
        share = torch.special.ndtr(grid)
        ordered = samples.double().sort(-1).values
        position = share * (ordered.shape[-1] - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=ordered.shape[-1] - 1)
        body = torch.lerp(ordered[..., low], ordered[..., high], (position - low).expand_as(ordered[..., low]))
        body[..., 0] = torch.minimum(body[..., 0], worst.double())
        tail_share = torch.linspace(0, 1, _KNOTS - _SAMPLE_KNOTS + 1, dtype=torch.float64)[1:]
        top = torch.maximum(best.double(), body[..., -1])[..., None]
        tail = torch.lerp(body[..., -1:], top, tail_share.expand(*top.shape[:-1], -1))
        return cls(torch.cat([body, tail], -1).cummax(-1).values)

    def to_z(self, metric: int, task: Tensor, value: Tensor) -> Tensor:
        """Map values of one metric to ``z``; the middle of a plateau for tied values: ``[B]``."""
        rows = self.knots[metric].double()
        span = (rows[:, -1:] - rows[:, :1]).clamp(min=1e-12)
        # A slope too small to see makes plateaus invertible without moving any value visibly.
        slope = torch.arange(_KNOTS, dtype=torch.float64, device=rows.device) * 1e-9
        rows = (rows - rows[:, :1]) / span + slope
        scaled = (value.double() - self.knots[metric, task, 0].double()) / span[task, 0]
        z = torch.empty_like(scaled)
        for index in range(len(rows)):
            mine = (task == index).nonzero().squeeze(1)
            x = scaled[mine].clamp(rows[index, 0], rows[index, -1]).contiguous()
            left = torch.searchsorted(rows[index], x, right=False)
            right = torch.searchsorted(rows[index], x + _KNOTS * 1e-9, right=True)
            upper = ((left + right) // 2).clamp(1, _KNOTS - 1)
            y0, y1 = rows[index, upper - 1], rows[index, upper]
            share = ((x - y0) / (y1 - y0)).clamp(0.0, 1.0)
            z[mine] = LOWEST_Z + STEP_Z * (upper - 1 + share)
        return z.float()

    def forward(self, task: Tensor, z: Tensor) -> Tensor:
        """Map ``z`` back to values: ``(task [B], z [B, K]) -> [B, K]``; constant beyond the ends."""
        position = torch.add(self._zero, z, alpha=1.0 / STEP_Z).clamp_(0.0, self.knots.shape[2] - 1.001)
        floor = position.detach().floor()
        index = floor.long() + self._first.index_select(0, task)
        return torch.addcmul(self.knots.take(index), self._rises.take(index), position - floor)


def _rises(knots: Tensor) -> Tensor:
    """Return by how much each knot is exceeded by the next: ``[K, N, 86]``, 0 at the last."""
    return torch.diff(knots, dim=-1, append=knots[..., -1:])


def _derive(module: QuantileMap, incompatible: object) -> None:
    """Renew after ``load_state_dict`` what is computed from the knots."""
    module._rises.copy_(_rises(module.knots))
