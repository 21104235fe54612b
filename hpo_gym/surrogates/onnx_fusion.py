"""Fuse linear algebra: what a YAHPO network spends its time on.

* chains of ``+ - * /`` with constants become one multiply-add, or vanish into the weights of the
  linear layer that reads them;
* embeddings followed by a linear layer become look-ups in premultiplied tables;
* batch normalisation vanishes into the linear layer after it;
* ``Slice, Slice, Relu, Mul`` (ReGLU) works in place; a residual sum becomes part of its matrix product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from hpo_gym.surrogates.onnx_centre import centre
from hpo_gym.surrogates.onnx_first_layer import fuse_first_layer
from hpo_gym.surrogates.onnx_graph import Node, constant, consumers, topological
from hpo_gym.surrogates.onnx_widths import is_floating, width_of

__all__ = ["fuse"]


def fuse(output: Node) -> Node:
    """Return an equivalent graph with fewer, larger operations."""
    for rewrite in (_fuse_affine, _fuse_linear, _fuse_normalisation, _fuse_reglu, fuse_first_layer):
        output = _rewrite(output, rewrite)
    output = centre(output)
    for rewrite in (_fuse_affine_into_linear, _fuse_residual, _pad_reglu):
        output = _rewrite(output, rewrite)
    return output


def _rewrite(output: Node, rewrite: Callable[[Node, dict[int, list[Node]]], Node | None]) -> Node:
    readers = consumers(output)
    replaced: dict[int, Node] = {}
    for node in topological(output):
        node.inputs = [replaced.get(id(source), source) for source in node.inputs]
        found = rewrite(node, readers)
        if found is not None:
            replaced[id(node)] = found
            # The new node is read by whoever read the old one.
            readers[id(found)] = readers.get(id(node), [])
    return replaced.get(id(output), output)


def _fuse_affine(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Turn arithmetic with one floating constant into ``x * factor + shift``, and merge two in a row."""
    if node.op not in ("Add", "Sub", "Mul", "Div", "Neg"):
        return None
    if node.op == "Neg":
        x, other, left = node.inputs[0], None, True
    else:
        left = not node.inputs[0].is_constant
        x, other = node.inputs if left else node.inputs[::-1]
    if x.is_constant or x.dtype not in (torch.float32, torch.float64):
        return None
    one = torch.ones((), dtype=x.dtype)
    if other is None:
        factor, shift = -one, torch.zeros_like(one)
    elif not is_floating(other) or other.constant_value.ndim > 1:
        return None
    else:
        value = other.constant_value
        if value.dtype != x.dtype:
            return None
        if node.op == "Add":
            factor, shift = torch.ones_like(value), value
        elif node.op == "Sub":
            factor, shift = (torch.ones_like(value), -value) if left else (-torch.ones_like(value), value)
        elif node.op == "Mul":
            factor, shift = value, torch.zeros_like(value)
        elif left:
            factor, shift = 1.0 / value, torch.zeros_like(value)
        else:
            return None
    if x.op == "affine" and len(readers.get(id(x), [])) == 1:
        if _only_shifts(x) and node.op in ("Mul", "Div"):
            # (x - low) * factor keeps its exact zero at x = low; x * factor + shift would not.
            parts = [x.inputs[0], x.inputs[2], constant(factor)]
            return Node("shift_scale", parts, name=node.name, dtype=node.dtype)
        x, before, offset = x.inputs
        # In double precision: two roundings fewer.
        shift = (offset.constant_value.double() * factor.double() + shift.double()).to(factor.dtype)
        factor = (before.constant_value.double() * factor.double()).to(factor.dtype)
    factor, shift = torch.broadcast_tensors(factor, shift)
    parts = [x, constant(factor.contiguous()), constant(shift.contiguous())]
    return Node("affine", parts, name=node.name, dtype=node.dtype)


def _only_shifts(node: Node) -> bool:
    return bool((node.inputs[1].constant_value == 1.0).all())


def _fuse_linear(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Bring ``Gemm`` with constant weights into the form ``x @ W + b``."""
    if node.op != "Gemm" or node.attributes.get("transA", 0) or not is_floating(node.inputs[1]):
        return None
    weight = node.inputs[1].constant_value
    weight = (weight.T if node.attributes.get("transB", 0) else weight).contiguous()
    weight = weight * node.attributes.get("alpha", 1.0)
    bias = torch.zeros(weight.shape[1], dtype=weight.dtype)
    if len(node.inputs) > 2 and node.inputs[2].value is not None:
        if not is_floating(node.inputs[2]) or node.inputs[2].constant_value.ndim > 1:
            return None
        bias = bias + node.inputs[2].constant_value * node.attributes.get("beta", 1.0)
    parts = [node.inputs[0], constant(weight), constant(bias)]
    return Node("linear", parts, name=node.name, dtype=node.dtype)


def _fuse_normalisation(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Turn batch normalisation into an affine map; the linear layer after it takes it in later."""
    if node.op != "BatchNormalization" or not all(part.is_constant for part in node.inputs[1:]):
        return None
    if any(reader.op not in ("linear", "Relu", "affine") for reader in readers.get(id(node), [])):
        return None
    # Of a sequence of matrices the channels are not the last axis.
    if node.attributes.get("rank", 2) != 2 or node.dtype != torch.float32:
        return None
    scale, shift, mean, variance = (part.constant_value.double() for part in node.inputs[1:])
    factor = scale / torch.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    offset = shift - mean * factor
    parts = [node.inputs[0], constant(factor.float()), constant(offset.float())]
    return Node("affine", parts, {"mean": mean, "offset": shift}, node.name, node.dtype)


def _fuse_affine_into_linear(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    if node.op not in ("linear", "add_linear"):
        return None
    x = node.inputs[0] if node.op == "linear" else node.inputs[1]
    if x.op != "affine" or x.dtype != torch.float32:
        return None
    source, factor, shift = x.inputs
    weight = node.inputs[-2 if node.op == "linear" else -1].constant_value.double()
    rows = weight.shape[0]
    if width_of(source) != rows:
        # One column times a vector makes many: there is nothing to scale the rows of.
        return None
    scale = factor.constant_value.double().expand(rows)
    offset = shift.constant_value.double().expand(rows)
    folded = (weight * scale[:, None]).float()
    extra = offset @ weight
    if node.op == "linear":
        bias = (node.inputs[2].constant_value.double() + extra).float()
        parts = [source, constant(folded), constant(bias)]
        return Node("linear", parts, name=node.name, dtype=node.dtype)
    bag = node.inputs[0]
    if bag.op != "bag":
        return None
    # Exactly one row of the first table is added per row of the batch: it can carry the offset.
    table = bag.inputs[2].constant_value.clone()
    table[: bag.attributes["first"]] += extra.float()
    moved = Node("bag", [*bag.inputs[:2], constant(table)], bag.attributes, bag.name, bag.dtype)
    return Node("add_linear", [moved, source, constant(folded)], name=node.name, dtype=node.dtype)


def _fuse_reglu(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Recognise ``wide[:, :half] * relu(wide[:, half:])`` of a linear layer nobody else reads."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    for value, gate in (node.inputs, node.inputs[::-1]):
        if gate.op != "Relu" or gate.inputs[0].op not in ("Slice", "Split") or value.op not in ("Slice", "Split"):
            continue
        wide = value.inputs[0]
        if wide is not gate.inputs[0].inputs[0] or wide.op != "linear":
            continue
        width = wide.inputs[1].constant_value.shape[1]
        half = width // 2
        ranges = [_slice_range(part, width) for part in (value, gate.inputs[0])]
        alone = len(readers.get(id(wide), [])) == 2 and all(
            len(readers.get(id(part), [])) == 1 for part in (value, gate, gate.inputs[0])
        )
        if alone and width % 2 == 0 and ranges == [(0, half), (half, width)]:
            return Node("reglu", [wide], {"half": half}, node.name, node.dtype)
    return None


def _pad_reglu(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Pad the inner width of a ReGLU block with zeros to a multiple of 16.

    Odd widths (377, 419, 455) cost the matrix product a fifth of its speed.
    """
    if node.op not in ("linear", "residual"):
        return None
    position = 0 if node.op == "linear" else 1
    gated = node.inputs[position]
    if gated.op != "reglu" or len(readers.get(id(gated), [])) != 1:
        return None
    half = int(gated.attributes["half"])
    extra = -half % 16
    if extra == 0 or gated.inputs[0].op != "linear":
        return None
    x, *parts = gated.inputs[0].inputs
    left, right = parts[0].constant_value.split(half, 1)
    low, high = parts[1].constant_value.split(half)
    weight = torch.cat([F.pad(left, (0, extra)), F.pad(right, (0, extra))], 1)
    bias = torch.cat([F.pad(low, (0, extra)), F.pad(high, (0, extra))])
    wide = Node("linear", [x, constant(weight), constant(bias)], dtype=gated.dtype)
    padded = Node("reglu", [wide], {"half": half + extra}, gated.name, gated.dtype)
    inputs = list(node.inputs)
    inputs[position] = padded
    after = inputs[position + 1].constant_value
    inputs[position + 1] = constant(F.pad(after, (0, 0, 0, extra)))
    return Node(node.op, inputs, dict(node.attributes), node.name, node.dtype)


def _slice_range(node: Node, width: int) -> tuple[int, int] | None:
    if not all(part.is_constant for part in node.inputs[1:]):
        return None
    if node.op == "Split":
        halves = len(node.inputs) == 1 or node.inputs[1].constant_value.tolist() == [width // 2, width // 2]
        if node.attributes.get("axis", 0) not in (1, -1) or node.attributes["parts"] != 2 or not halves:
            return None
        start = node.attributes["part"] * (width // 2)
        return start, start + width // 2
    values = [part.constant_value.reshape(-1).tolist() for part in node.inputs[1:]]
    if len(values) < 3 or any(len(value) != 1 for value in values) or values[2] not in ([1], [-1]):
        return None
    if len(values) > 3 and values[3] != [1]:
        return None
    picked = range(width)[slice(int(values[0][0]), int(values[1][0]))]
    return picked.start, picked.stop


def _fuse_residual(node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """Turn ``stream + (x @ W + b)`` into one matrix product that accumulates."""
    if node.op != "Add" or len(node.inputs) != 2:
        return None
    for stream, product in (node.inputs, node.inputs[::-1]):
        if product.op != "linear" or len(readers.get(id(product), [])) != 1:
            continue
        if stream.is_constant or width_of(stream) != product.inputs[1].constant_value.shape[1]:
            continue
        return Node("residual", [stream, *product.inputs], {}, node.name, node.dtype)
    return None
