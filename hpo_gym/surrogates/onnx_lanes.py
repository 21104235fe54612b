"""Merge chains that treat one column each into operations on vectors of columns.

A YAHPO graph scales every numeric input and every output by a chain of its own: ``Gather(x, j) -> ... ->
Unsqueeze``, joined by ``Concat``. Chains that differ only in column numbers and constants are *lanes* of one
vector: their constants are stacked, and each operator runs once for all of them.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.surrogates.onnx_graph import Node, constant, topological
from hpo_gym.surrogates.onnx_operators import ELEMENTWISE

__all__ = ["columns_of", "select_outputs", "vectorise"]


def columns_of(source: Node, index: list[int]) -> Node:
    """Return the node that picks columns of a matrix."""
    if index == list(range(index[0], index[0] + len(index))):
        return Node("narrow", [source], {"start": index[0], "length": len(index)}, dtype=source.dtype)
    return Node("columns", [source, constant(torch.tensor(index))], dtype=source.dtype)


def select_outputs(output: Node, columns: list[int]) -> Node:
    """Return a graph's output reduced to some columns.

    Raises:
        InvalidSettingError: If a column does not exist, or none is named.
    """
    lanes = output.op == "Concat" and output.attributes["axis"] in (1, -1)
    lanes = lanes and all(_lane(part) is not None for part in output.inputs)
    available = len(output.inputs) if lanes else output.attributes.get("width")
    wrong = [column for column in columns if column < 0 or (available is not None and column >= available)]
    if wrong or not columns:
        count = "an unknown number of" if available is None else available
        raise InvalidSettingError(
            f"outputs={columns} is not possible: the graph has {count} output columns. Name at least one of them, "
            "counted from 0."
        )
    if lanes:
        chosen = [output.inputs[column] for column in columns]
        return Node("Concat", chosen, dict(output.attributes), output.name, output.dtype)
    return columns_of(output, columns)


def vectorise(output: Node) -> Node:
    """Return the graph with every concatenation of lanes replaced by vector operations."""
    replaced: dict[int, Node] = {}
    for node in topological(output):
        node.inputs = [replaced.get(id(source), source) for source in node.inputs]
        if node.op == "Concat" and node.attributes["axis"] in (1, -1):
            replaced[id(node)] = _vectorise_concat(node)
    return replaced.get(id(output), output)


def _lane(part: Node) -> Node | None:
    """Return the ``[B]`` chain behind an ``Unsqueeze`` to ``[B, 1]``, or ``None``."""
    if part.op != "Unsqueeze" or not part.inputs[1].is_constant:
        return None
    axes = part.inputs[1].constant_value.reshape(-1).tolist()
    if axes not in ([1], [-1]) or _signature(part.inputs[0]) is None:
        return None
    return part.inputs[0]


def _signature(node: Node) -> Hashable | None:
    """Return what lanes must share to be merged, or ``None`` if the chain is no lane."""
    column = _column(node)
    if column is not None:
        return "column", id(column[0])
    if node.is_constant:
        value = node.constant_value
        return ("constant", value.dtype) if value.numel() == 1 and value.ndim <= 1 else None
    if node.op == "Gather" and node.inputs[0].is_constant:
        table, index = node.inputs
        if table.constant_value.ndim == 1 and not index.is_constant and _signature(index) is not None:
            # A graph shares the index between lanes, so identity is enough.
            return "table", id(index), table.dtype, len(table.constant_value)
        return None
    if node.op not in ELEMENTWISE:
        return None
    # An omitted input keeps its place: Clip(x, "", high) is no Clip(x, low).
    parts = ["absent" if _absent(source) else _signature(source) for source in node.inputs]
    if any(part is None for part in parts):
        return None
    settings = tuple((name, node.attributes.get(name)) for name in ELEMENTWISE[node.op].attributes)
    return node.op, settings, tuple(parts)


def _absent(node: Node) -> bool:
    return node.is_constant and node.value is None


def _column(node: Node) -> tuple[Node, int] | None:
    """Return matrix and column of ``Gather(matrix, j, axis=1)`` with a scalar ``j``."""
    if node.op != "Gather" or node.attributes.get("axis", 0) != 1:
        return None
    source, index = node.inputs
    if source.is_constant or not index.is_constant or index.constant_value.ndim != 0:
        return None
    # A matrix: a column of anything else is no vector.
    width, column = source.attributes.get("width"), int(index.constant_value)
    if width is None:
        return None
    return source, column % width


def _vectorise_concat(node: Node) -> Node:
    groups: dict[Hashable, list[tuple[int, Node]]] = {}
    pieces: list[tuple[list[int], Node]] = []
    for position, part in enumerate(node.inputs):
        lane = _lane(part)
        if lane is None:
            if not _is_single(node.inputs):
                return node
            pieces.append(([position], part))
        else:
            groups.setdefault(_signature(lane), []).append((position, lane))
    if not groups:
        return node
    for members in groups.values():
        merged = _merge([lane for _, lane in members])
        pieces.append(([place for place, _ in members], merged))
    order = [place for places, _ in pieces for place in places]
    joined = pieces[0][1]
    if len(pieces) > 1:
        parts = [piece for _, piece in pieces]
        joined = Node("Concat", parts, {"axis": 1}, node.name, node.dtype)
    if order == sorted(order):
        return joined
    inverse = torch.tensor(order).argsort().tolist()
    return Node("columns", [joined, constant(torch.tensor(inverse))], dtype=node.dtype)


def _is_single(parts: list[Node]) -> bool:
    """Return whether every part that is no lane is an ``Unsqueeze``, hence one column wide."""
    return all(part.op == "Unsqueeze" for part in parts)


def _merge(lanes: list[Node]) -> Node:
    """Return one node that computes all lanes, ``[B, lanes]``."""
    first = lanes[0]
    column = _column(first)
    if column is not None:
        found = [_column(lane) for lane in lanes]
        return columns_of(column[0], [pair[1] for pair in found if pair is not None])
    if first.is_constant:
        return constant(_stack([lane.constant_value for lane in lanes]))
    if first.op == "Gather":
        table = torch.stack([lane.inputs[0].constant_value for lane in lanes], 1)
        return Node("rows", [constant(table), first.inputs[1]], dtype=table.dtype)
    inputs = []
    for index, source in enumerate(first.inputs):
        inputs.append(source if _absent(source) else _merge([lane.inputs[index] for lane in lanes]))
    return Node(first.op, inputs, dict(first.attributes), first.name, first.dtype)


def _stack(values: list[Tensor]) -> Tensor:
    return torch.stack([value.reshape(()) for value in values])
