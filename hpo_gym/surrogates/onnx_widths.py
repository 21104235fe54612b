"""What is known of a value before anything runs: its columns, also where the ONNX file does not say."""

from __future__ import annotations

from hpo_gym.surrogates.onnx_graph import Node
from hpo_gym.surrogates.onnx_operators import ELEMENTWISE

__all__ = ["is_floating", "width_of"]


def width_of(node: Node) -> int | None:
    """Return the number of columns of a matrix, where it can be told."""
    if node.op == "narrow":
        return int(node.attributes["length"])
    if node.op == "columns":
        return len(node.inputs[1].constant_value)
    if node.op == "rows":
        return node.inputs[0].constant_value.shape[1]
    if node.op == "Unsqueeze":
        return 1
    if node.op in ("linear", "add_linear", "residual"):
        index = {"linear": 1, "add_linear": 2, "residual": 2}[node.op]
        return node.inputs[index].constant_value.shape[1]
    if node.op == "Concat":
        widths = [width_of(part) for part in node.inputs]
        return None if any(width is None for width in widths) else sum(w for w in widths if w)
    if "width" in node.attributes:
        return int(node.attributes["width"])
    if node.op == "bag":
        return node.inputs[2].constant_value.shape[1]
    if node.op == "reglu":
        return int(node.attributes["half"])
    if node.op not in ELEMENTWISE and node.op not in ("affine", "shift_scale"):
        return None
    found = [width_of(source) for source in node.inputs if not source.is_constant]
    found += [source.value.shape[-1] if source.value.ndim else 1 for source in node.inputs if source.value is not None]
    known = [width for width in found if width is not None]
    # Broadcasting: the widest of them, if every one is known.
    return max(known) if len(known) == len(found) else None


def is_floating(node: Node) -> bool:
    """Return whether a value is a constant of floating point."""
    return node.is_constant and node.value is not None and node.value.is_floating_point()
