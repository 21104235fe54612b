"""Compact networks: the response surfaces that travel with the package.

One network per search space serves all its tasks. It is fitted by ``python -m hpo_gym.fit_bundle`` to a
larger published surrogate, in rank space (see :mod:`hpo_gym.surrogates.quantiles`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo_gym.spaces import SpaceSpec
from hpo_gym.surrogates.base import Fidelity, Metric, Surrogate
from hpo_gym.surrogates.quantiles import QuantileMap

__all__ = ["CompactArchitecture", "CompactSurrogate"]

# Rows evaluated at once on a CPU: the widest activation of a chunk stays in the second-level cache.
_CPU_CHUNK = 1024


@dataclass(frozen=True)
class CompactArchitecture:
    """Size of a compact network.

    Args:
        width: Width of the residual stream.
        inner: Inner width of each gated block.
        blocks: Number of gated blocks.
    """

    width: int = 128
    inner: int = 96
    blocks: int = 2


class CompactSurrogate(Surrogate):
    """``h = E[task, choices] + W x``; ``h += B_l (A_l h * relu(G_l h + g_l[task]))``; ``z = h . v[task]``.

    ``x`` holds ``2u - 1`` of active float and integer hyperparameters, one flag per conditional
    hyperparameter, and the fidelity (linear and logarithmic). Gated blocks follow the ReGLU of
    Gorishniy et al. (arXiv 2106.11959), which the YAHPO surrogates use; the task enters by additive
    embedding, gates and output vectors of its own.

    Args:
        space: Specification of the search space.
        metrics: The ``K`` metrics.
        num_tasks: ``N``.
        architecture: Size of the network.
        quantiles: Maps from ``z`` to values, for the ``K`` metrics and ``N`` tasks.
        fidelity: The fidelity, or ``None``.
    """

    _numeric: Tensor
    _choice: Tensor
    _conditional: Tensor
    _offsets: Tensor
    _sizes: Tensor
    _last: Tensor
    _minus_one: Tensor
    _full: Tensor

    def __init__(
        self,
        space: SpaceSpec,
        metrics: tuple[Metric, ...],
        num_tasks: int,
        architecture: CompactArchitecture,
        quantiles: QuantileMap,
        fidelity: Fidelity | None = None,
    ) -> None:
        super().__init__()
        self.metrics = metrics
        self.num_tasks = num_tasks
        self.num_hyperparameters = len(space.columns)
        self.fidelity = fidelity
        self.architecture = architecture
        self.quantiles = quantiles
        columns = space.columns
        numeric = [i for i, c in enumerate(columns) if c.kind in ("float", "integer")]
        choice = [i for i, c in enumerate(columns) if c.kind in ("categorical", "ordinal")]
        conditional = sorted(space.conditions)
        self._register_index("numeric", numeric)
        self._register_index("choice", choice)
        self._register_index("conditional", conditional)
        sizes = [len(columns[i].choices) for i in choice]
        # Row 0 of each block of the table stands for an inactive choice.
        offsets, total = [], num_tasks
        for size in sizes:
            offsets.append(total + 1)
            total += size + 1
        self.register_buffer("_sizes", torch.tensor(sizes, dtype=torch.float32), persistent=False)
        self._register_index("last", [size - 1 for size in sizes])
        self.register_buffer("_minus_one", torch.full((1,), -1.0), persistent=False)
        # A full evaluation, on both scales.
        self.register_buffer("_full", torch.ones(1, 2), persistent=False)
        self._any_conditional, self._any_choice = bool(conditional), bool(choice)
        self._register_index("offsets", offsets)
        self._choices_inactive = any(i in space.conditions for i in choice)
        self._numeric_inactive = any(i in space.conditions for i in numeric)
        inputs = len(numeric) + len(conditional) + (0 if fidelity is None else 2)
        width, inner, blocks = architecture.width, architecture.inner, architecture.blocks
        self.table = nn.Parameter(torch.randn(total, width) * 0.5)
        self.input = nn.Parameter(torch.randn(inputs, width) * 1.5 / math.sqrt(max(1, inputs)))
        self.expand = nn.ModuleList(nn.Linear(width, 2 * inner) for _ in range(blocks))
        self.contract = nn.ModuleList(nn.Linear(inner, width) for _ in range(blocks))
        self.gates = nn.Parameter(torch.zeros(num_tasks, blocks * inner))
        self.heads = nn.Parameter(torch.randn(num_tasks, len(metrics), width) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(num_tasks, len(metrics)))

    def _register_index(self, name: str, values: list[int]) -> None:
        tensor = torch.tensor(values, dtype=torch.int64)
        self.register_buffer(f"_{name}", tensor, persistent=False)

    def features(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return numeric inputs ``[B, I]`` and rows of the embedding table ``[B, 1 + choices]``."""
        numeric = torch.add(self._minus_one, u.index_select(1, self._numeric), alpha=2.0)
        if self._numeric_inactive:
            numeric = numeric * active.index_select(1, self._numeric)
        blocks = [numeric]
        if self._any_conditional:
            blocks.append(active.index_select(1, self._conditional).to(u.dtype))
        if self.fidelity is not None:
            blocks.append(self._full.expand(len(u), -1) if fidelity is None else self._scales(fidelity))
        rows = task[:, None]
        if self._any_choice:
            choice = (u.index_select(1, self._choice) * self._sizes).long()
            choice = torch.minimum(choice, self._last)
            if self._choices_inactive:
                choice = torch.where(active.index_select(1, self._choice), choice, -1)
            rows = torch.cat([rows, choice + self._offsets], 1)
        return torch.cat(blocks, 1) if len(blocks) > 1 else numeric, rows

    def _scales(self, fidelity: Tensor) -> Tensor:
        """Return a fidelity ``[B]`` on its linear and its logarithmic scale, each -1 .. 1: ``[B, 2]``."""
        assert self.fidelity is not None
        low, high = self.fidelity.lower, self.fidelity.upper
        linear = (fidelity - low) * (2.0 / (high - low)) - 1.0
        logarithmic = torch.log(fidelity / low) * (2.0 / math.log(high / low)) - 1.0
        return torch.stack([linear, logarithmic], 1)

    def latent(self, task: Tensor, numeric: Tensor, rows: Tensor) -> Tensor:
        """Return ``z``, ``[B, K]``, from :meth:`features`."""
        h = F.embedding_bag(rows, self.table, mode="sum")
        h = torch.addmm(h, numeric, self.input)
        inner = self.architecture.inner
        gates = self.gates.index_select(0, task)
        for index, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            # Functions instead of modules: at a batch of one, calling a module costs as much as its work.
            assert isinstance(expand, nn.Linear) and isinstance(contract, nn.Linear)
            wide = F.linear(h, expand.weight, expand.bias)
            gate = wide[:, inner:] + gates[:, index * inner : (index + 1) * inner]
            h = h + F.linear(wide[:, :inner] * gate.relu_(), contract.weight, contract.bias)
        heads = self.heads.index_select(0, task)
        return (F.relu(h)[:, None, :] * heads).sum(2) + self.bias.index_select(0, task)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        if len(task) <= _CPU_CHUNK or u.device.type != "cpu":
            return self._predict(task, u, active, fidelity)
        parts = [
            self._predict(task[rows], u[rows], active[rows], None if fidelity is None else fidelity[rows])
            for rows in (slice(start, start + _CPU_CHUNK) for start in range(0, len(task), _CPU_CHUNK))
        ]
        return torch.cat(parts)

    def _predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None) -> Tensor:
        numeric, rows = self.features(task, u, active, fidelity)
        values: Tensor = self.quantiles(task, self.latent(task, numeric, rows))
        return values

    def header(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs beside the tensors, as JSON-able values."""
        return {
            "architecture": asdict(self.architecture),
            "metrics": [asdict(metric) for metric in self.metrics],
            "fidelity": None if self.fidelity is None else asdict(self.fidelity),
            "num_tasks": self.num_tasks,
        }

    @classmethod
    def from_state(cls, space: SpaceSpec, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CompactSurrogate:
        """Rebuild a network from :meth:`header` and its (half-precision) tensors."""
        metrics = tuple(Metric(**metric) for metric in header["metrics"])
        fidelity = header["fidelity"]
        # What layers draw to begin with is replaced below, and the global generator is the caller's.
        with torch.random.fork_rng(devices=[]):
            surrogate = cls(
                space,
                metrics,
                int(header["num_tasks"]),
                CompactArchitecture(**header["architecture"]),
                QuantileMap(tensors["quantiles.knots"]),
                None if fidelity is None else Fidelity(**fidelity),
            )
        surrogate.load_state_dict({name: value.float() for name, value in tensors.items()})
        return surrogate.requires_grad_(False).eval()
