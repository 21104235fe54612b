"""Centre the residual stream of a network: the same function with less rounding.

Batch normalisation subtracts the mean of a stream whose values may lie far from zero. Folded into the weights
that follow, that subtraction turns into the cancellation of two large sums, which doubles the error of the
whole network. Here the mean is subtracted earlier, in the bias of whatever produces the stream, where it
costs nothing; every sum that adds to the stream gives it back in its own bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.surrogates.onnx_graph import Node, constant, consumers, topological

__all__ = ["centre"]


def centre(output: Node) -> Node:
    """Return the graph with the means of batch normalisation moved into biases.

    It expects an ``affine`` node with the attributes ``mean`` and ``offset`` (both float64) where batch
    normalisation was, and runs before such nodes vanish into linear layers.
    """
    readers = consumers(output)
    normalisations: dict[int, list[Node]] = {}
    streams: list[Node] = []
    for node in topological(output):
        found = [reader for reader in readers.get(id(node), []) if "mean" in reader.attributes]
        if len(found) == 1 and _movable(node, readers):
            normalisations[id(node)] = found
            streams.append(node)
    changes: dict[int, tuple[Node, Tensor]] = {}
    for stream in streams:
        (normalisation,) = normalisations[id(stream)]
        mean = normalisation.attributes["mean"]
        normalisation.inputs[2] = constant(normalisation.attributes["offset"].float())
        _change(changes, _bias_of(stream, readers), -mean)
        for reader in readers[id(stream)]:
            if reader is not normalisation:
                _change(changes, _bias_of(reader, readers), mean)
    for holder, change in changes.values():
        _shift_bias(holder, change)
    return output


def _movable(stream: Node, readers: dict[int, list[Node]]) -> bool:
    """Whether a constant can be moved out of a stream without anybody else noticing."""
    if _bias_of(stream, readers) is None:
        return False
    return all(
        "mean" in reader.attributes
        or (reader.op == "Add" and reader.inputs[0] is not reader.inputs[1] and _bias_of(reader, readers) is not None)
        for reader in readers[id(stream)]
    )


def _bias_of(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Return the node whose bias is added to every row of ``node``, if only ``node`` depends on it."""
    if node.op == "linear":
        return node
    if node.op == "Add":
        for part in node.inputs:
            if part.op == "linear" and len(readers[id(part)]) == 1:
                return part
        return None
    while node.op == "add_linear":
        node = node.inputs[0]
        if len(readers.get(id(node), [])) > 1:
            return None
    return node if node.op == "bag" else None


def _change(changes: dict[int, tuple[Node, Tensor]], holder: Node | None, amount: Tensor) -> None:
    assert holder is not None
    before = changes[id(holder)][1] if id(holder) in changes else torch.zeros_like(amount)
    changes[id(holder)] = (holder, before + amount)


def _shift_bias(holder: Node, change: Tensor) -> None:
    table = holder.inputs[2].constant_value.double()
    if holder.op == "linear":
        table = table + change
    else:
        # Exactly one row of the first table is added per row of the batch.
        table[: holder.attributes["first"]] += change
    holder.inputs[2] = constant(table.float())
