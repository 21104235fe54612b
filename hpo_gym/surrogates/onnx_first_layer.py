"""Fuse embeddings with the linear layer that reads them: look-ups in premultiplied tables."""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.surrogates.onnx_graph import Node, constant
from hpo_gym.surrogates.onnx_lanes import columns_of
from hpo_gym.surrogates.onnx_widths import is_floating, width_of

__all__ = ["fuse_first_layer"]


def fuse_first_layer(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Turn ``Concat(embeddings, numbers) @ W + b`` into table look-ups and a smaller product."""
    if node.op != "linear" or node.inputs[0].op != "Concat":
        return None
    weight, bias = node.inputs[1].constant_value, node.inputs[2].constant_value
    parts = _flatten_concat(node.inputs[0])
    tables: list[tuple[Node, int, Tensor]] = []
    numeric: list[tuple[Node, Tensor]] = []
    row = 0
    for part in parts:
        embedding = _embedding(part)
        if embedding is not None:
            source, column, table = embedding
            # In double precision, as everything that is computed once: it rounds once.
            tables.append((source, column, table.double() @ weight[row : row + table.shape[1]].double()))
            row += table.shape[1]
            continue
        width = width_of(part)
        if width is None:
            return None
        numeric.append((part, weight[row : row + width]))
        row += width
    if row != weight.shape[0] or not tables or len({id(source) for source, _, _ in tables}) != 1:
        return None
    sizes = [len(table) for _, _, table in tables]
    stacked = torch.cat([table for _, _, table in tables])
    stacked[: sizes[0]] += bias.double()
    stacked = stacked.to(bias.dtype)
    offsets = torch.tensor([sum(sizes[:index]) for index in range(len(sizes))])
    source = tables[0][0]
    offsets = offsets.to(source.dtype or torch.int64)
    codes = columns_of(source, [column for _, column, _ in tables])
    out = Node("bag", [codes, constant(offsets), constant(stacked)], {"first": sizes[0]}, node.name, node.dtype)
    for part, rows in numeric:
        ordered, block = _absorb_order(part, rows)
        out = Node("add_linear", [out, ordered, constant(block.contiguous())], {}, node.name, node.dtype)
    return _split_concat(out)


def _absorb_order(part: Node, block: Tensor) -> tuple[Node, Tensor]:
    """Let the rows of the weights undo a permutation of columns."""
    if part.op == "columns" and part.inputs[0].op == "Concat":
        order = part.inputs[1].constant_value
        moved = torch.empty_like(block)
        moved[order] = block
        return part.inputs[0], moved
    return part, block


def _split_concat(node: Node) -> Node:
    """Multiply each part of a concatenation by its rows of the weights, without joining them."""
    if node.op != "add_linear":
        return node
    stream, x, weight = node.inputs
    stream = _split_concat(stream)
    widths = [width_of(part) for part in x.inputs] if x.op == "Concat" else []
    if not widths or any(width is None for width in widths):
        return Node("add_linear", [stream, x, weight], {}, node.name, node.dtype)
    row = 0
    for part, width in zip(x.inputs, widths, strict=True):
        assert width is not None
        block = weight.constant_value[row : row + width].contiguous()
        stream = Node("add_linear", [stream, part, constant(block)], {}, node.name, node.dtype)
        row += width
    return stream


def _flatten_concat(node: Node) -> list[Node]:
    if node.op != "Concat" or node.attributes["axis"] not in (1, -1):
        return [node]
    return [leaf for part in node.inputs for leaf in _flatten_concat(part)]


def _embedding(node: Node) -> tuple[Node, int, Tensor] | None:
    """Return code matrix, column and table of ``Gather(table, Gather(codes, j, axis=1))``."""
    if node.op != "Gather" or node.attributes.get("axis", 0) != 0:
        return None
    table, index = node.inputs
    if not is_floating(table) or table.constant_value.ndim != 2 or index.op != "Gather":
        return None
    source, column = index.inputs
    if index.attributes.get("axis", 0) != 1 or not column.is_constant or source.op != "input":
        return None
    width = source.attributes.get("width")
    if column.constant_value.ndim != 0 or width is None:
        return None
    return source, int(column.constant_value) % width, table.constant_value
