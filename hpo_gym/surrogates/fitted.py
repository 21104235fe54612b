"""A surrogate fitted to a table of evaluations: an ensemble of compact networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpo_gym.spaces import SpaceSpec
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.surrogates.compact import CompactSurrogate

__all__ = ["FittedSurrogate"]


class FittedSurrogate(Surrogate):
    """Averages the ``z`` of several compact networks, then maps it back through the tasks' quantiles.

    Measurements are noisy; the average of networks that were fitted from different starts is smoother
    and ranks better than each. Values never leave the range that was observed on a task.

    Args:
        members: Networks over the same tasks and space with the same quantile maps.
    """

    def __init__(self, members: Sequence[CompactSurrogate]) -> None:
        super().__init__()
        first = members[0]
        self.members = nn.ModuleList(members)
        self.quantiles = first.quantiles
        self.metrics = first.metrics
        self.num_tasks = first.num_tasks
        self.num_hyperparameters = first.num_hyperparameters
        self.fidelity = first.fidelity

    def latent(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        """Return the mean ``z``, ``[B, K]``."""
        first: CompactSurrogate = self.members[0]  # type: ignore[assignment]
        numeric, rows = first.features(task, u, active, fidelity)
        return torch.stack([m.latent(task, numeric, rows) for m in self.members]).mean(0)  # type: ignore[operator]

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        out: Tensor = self.quantiles(task, self.latent(task, u, active, fidelity))
        return out

    def round_to_half(self) -> None:
        """Round the weights to half precision, as they are stored."""
        with torch.no_grad():
            for member in self.members:
                for name, value in member.state_dict().items():
                    if value.is_floating_point() and not name.startswith("quantiles"):
                        value.copy_(value.half())

    def header(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs beside the tensors."""
        first: CompactSurrogate = self.members[0]  # type: ignore[assignment]
        return {**first.header(), "members": len(self.members)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store: the quantile maps once, and every member's weights."""
        stored = {"quantiles.knots": self.quantiles.knots}
        for index, member in enumerate(self.members):
            for name, value in member.state_dict().items():
                if not name.startswith("quantiles"):
                    stored[f"{index}.{name}"] = value
        return stored

    @classmethod
    def from_state(cls, space: SpaceSpec, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FittedSurrogate:
        """Rebuild an ensemble from :meth:`header` and its tensors."""
        members = []
        for index in range(int(header["members"])):
            prefix = f"{index}."
            mine = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            mine["quantiles.knots"] = tensors["quantiles.knots"]
            members.append(CompactSurrogate.from_state(space, header, mine))
        return cls(members)
