"""Compile YAHPO's ONNX graphs to fused, batched torch; onnxruntime is not needed at run time.

Five steps: read and fold (:mod:`onnx_graph`), merge per-column chains into vectors
(:mod:`onnx_lanes`), fuse linear algebra (:mod:`onnx_fusion`), order, and write out as one function
(:mod:`onnx_source`).
What no pattern matches runs operator by operator: patterns are an optimisation, never a requirement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpo_gym.errors import UnsupportedOperatorError
from hpo_gym.surrogates.onnx_fusion import fuse
from hpo_gym.surrogates.onnx_graph import Graph, read_graph, topological
from hpo_gym.surrogates.onnx_lanes import select_outputs, vectorise
from hpo_gym.surrogates.onnx_source import Step, compile_steps

__all__ = ["OnnxModule", "compile_onnx"]

_CATEGORICAL, _CONTINUOUS = "x_cat", "x_cont"

# Rows evaluated at once on a CPU. The widest activation of a YAHPO network (about 840 columns) then stays
# in the second-level cache, where the matrix products run at 160 instead of 100 GFLOP/s.
CPU_CHUNK = 1024


class OnnxModule(nn.Module):
    """A compiled graph: ``(x_cat [B, C], x_cont [B, R]) -> outputs [B, K]``, float32.

    Args:
        graph: The optimised graph.
        source: Where it came from, for messages.
    """

    def __init__(self, graph: Graph, source: str) -> None:
        super().__init__()
        self.source = source
        order = topological(graph.output)
        slots = {id(node): index for index, node in enumerate(order)}
        self._inputs = {name: slots[id(node)] for name, node in graph.inputs.items() if id(node) in slots}
        self.input_dtypes = {name: node.dtype for name, node in graph.inputs.items()}
        self._constants: list[tuple[int, str]] = []
        for node in order:
            if node.is_constant and node.value is not None:
                name = f"constant_{slots[id(node)]}"
                self.register_buffer(name, node.value.contiguous(), persistent=False)
                self._constants.append((slots[id(node)], name))
        steps = [node for node in order if node.op not in ("input", "constant")]
        self.operators = tuple(node.op for node in steps)
        self._steps = [
            Step(node.op, node.attributes, slots[id(node)], tuple(slots[id(source)] for source in node.inputs))
            for node in steps
        ]
        self._output = slots[id(graph.output)]
        self._prepare()

    def _prepare(self) -> None:
        """Make the functions that run the graph; they hold its constants where those are now."""
        constants = {slot: getattr(self, name) for slot, name in self._constants}
        # An input that the graph does not read is an argument all the same.
        arguments = {name: self._inputs.get(name, -1 - index) for index, name in enumerate((_CATEGORICAL, _CONTINUOUS))}
        self._fast = compile_steps(self._steps, constants, arguments, self._output, differentiable=False)
        self._plain = compile_steps(self._steps, constants, arguments, self._output, differentiable=True)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the functions: they cannot be pickled, and are made again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_fast", "_plain")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def _apply(self, fn: Any, recurse: bool = True) -> OnnxModule:
        super()._apply(fn, recurse)
        self._prepare()
        return self

    def forward(self, x_cat: Tensor | None, x_cont: Tensor | None) -> Tensor:
        """Evaluate a batch.

        Args:
            x_cat: Category codes, int32 or int64 ``[B, C]``; ``None`` if the graph has no such input.
            x_cont: Raw values in natural units, float32 ``[B, R]``.

        Returns:
            The outputs in raw units, float32 ``[B, K]``. Differentiable in ``x_cont``.
        """
        lead = x_cont if x_cont is not None else x_cat
        assert lead is not None
        differentiable = torch.is_grad_enabled() and lead.requires_grad
        if differentiable:
            return self._plain(x_cat, x_cont)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.forward(x_cat, x_cont)
        if lead.device.type != "cpu" or len(lead) <= CPU_CHUNK:
            return self._fast(x_cat, x_cont)
        parts = []
        for start in range(0, len(lead), CPU_CHUNK):
            rows = slice(start, start + CPU_CHUNK)
            cat = None if x_cat is None else x_cat[rows]
            cont = None if x_cont is None else x_cont[rows]
            parts.append(self._fast(cat, cont))
        return torch.cat(parts)


def compile_onnx(path: str | Path, outputs: Sequence[int] | None = None) -> OnnxModule:
    """Compile an ONNX file.

    Args:
        path: The file. Its inputs must be named ``x_cat`` and ``x_cont`` (either may be absent).
        outputs: Columns of the output to compute, in the wanted order; ``None`` means all. What
            only other columns need is removed.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If the file is no ONNX graph.
        UnsupportedOperatorError: If the graph holds an operator, attribute or input that is not
            supported; the message names it.
        InvalidSettingError: If an output column does not exist, or none is named.
    """
    graph = read_graph(path)
    unknown = sorted(set(graph.inputs) - {_CATEGORICAL, _CONTINUOUS})
    if unknown:
        raise UnsupportedOperatorError(
            f"{Path(path).name} has an input {unknown[0]!r}; supported are {_CATEGORICAL!r} (codes) "
            f"and {_CONTINUOUS!r} (raw values)."
        )
    if outputs is not None:
        graph.output = select_outputs(graph.output, list(outputs))
    graph.output = vectorise(graph.output)
    graph.output = fuse(graph.output)
    return OnnxModule(graph, str(Path(path).name))
