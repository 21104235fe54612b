"""An ONNX graph as linked nodes: read, constant-folded, with static shapes resolved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo_gym.errors import DataIntegrityError, DataMissingError, UnsupportedOperatorError
from hpo_gym.surrogates.onnx_operators import OPERATORS, torch_dtype

__all__ = ["Graph", "Node", "constant", "consumers", "read_graph", "topological"]


@dataclass(eq=False)
class Node:
    """A value of the graph and how it is computed.

    Args:
        op: ONNX operator, a fused operator of this project (lower case), ``input`` or ``constant``.
        inputs: The values it is computed from.
        attributes: Attributes of the operator.
        name: Name in the ONNX file, for messages.
        dtype: Type of the elements, where it is known.
        value: The value of a constant.
    """

    op: str
    inputs: list[Node] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    dtype: torch.dtype | None = None
    value: Tensor | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the value is known before any input is."""
        return self.op == "constant"

    @property
    def constant_value(self) -> Tensor:
        """The value of a constant."""
        assert self.value is not None
        return self.value


@dataclass
class Graph:
    """Inputs by name, and the output."""

    inputs: dict[str, Node]
    output: Node


def constant(value: Tensor, name: str = "") -> Node:
    """Return a constant node."""
    return Node("constant", name=name, dtype=value.dtype, value=value)


def topological(output: Node) -> list[Node]:
    """Return every node that ``output`` depends on, inputs first."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, Iterator[Node]]] = [(output, iter(output.inputs))]
    seen.add(id(output))
    while stack:
        node, remaining = stack[-1]
        following = next((n for n in remaining if id(n) not in seen), None)
        if following is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(id(following))
            stack.append((following, iter(following.inputs)))
    return order


def consumers(output: Node) -> dict[int, list[Node]]:
    """Return, by ``id``, the nodes that read each node."""
    found: dict[int, list[Node]] = {}
    for node in topological(output):
        for source in node.inputs:
            found.setdefault(id(source), []).append(node)
    return found


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file.

    Raises:
        DataMissingError: If there is no such file.
        DataIntegrityError: If the file is no ONNX graph.
        UnsupportedOperatorError: If it holds an operator or attribute that is not supported.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import helper, numpy_helper

    path = Path(path)
    if not path.is_file():
        raise DataMissingError(f"{path} does not exist. Fetch it with `python -m hpo_gym.download`.")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        shaped = onnx.shape_inference.infer_shapes(model).graph
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise DataIntegrityError(
            f"{path} is no valid ONNX graph ({str(error).partition(chr(10))[0]}). Fetch it again with "
            "`python -m hpo_gym.download`."
        ) from error
    graph = model.graph
    if len(graph.output) != 1:
        raise UnsupportedOperatorError(f"{path}: {len(graph.output)} outputs; one is supported.")
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    shapes = _static_shapes(shaped)
    values: dict[str, Node] = {}
    for item in graph.initializer:
        array = numpy_helper.to_array(item)
        values[item.name] = constant(torch.from_numpy(np.array(array)), item.name)
    inputs = {}
    for item in graph.input:
        if item.name not in values:
            dtype = torch_dtype(item.type.tensor_type.elem_type, str(path))
            known = shapes.get(item.name) or []
            attributes: dict[str, Any] = {"width": known[1]} if len(known) == 2 and known[1] is not None else {}
            inputs[item.name] = Node("input", attributes=attributes, name=item.name, dtype=dtype)
    values.update(inputs)
    for item in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in item.attribute}
        for key, attribute in attributes.items():
            if hasattr(attribute, "raw_data"):
                attributes[key] = torch.from_numpy(np.array(numpy_helper.to_array(attribute)))
            elif isinstance(attribute, bytes):
                attributes[key] = attribute.decode()
        _add(item, attributes, values, shapes, opset, path)
    return Graph(inputs, values[graph.output[0].name])


def _static_shapes(graph: Any) -> dict[str, list[int | None]]:
    shapes: dict[str, list[int | None]] = {}
    for item in (*graph.value_info, *graph.input, *graph.output):
        kind = item.type.tensor_type
        if kind.HasField("shape"):
            shapes[item.name] = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    for item in graph.initializer:
        shapes[item.name] = list(item.dims)
    return shapes


def _add(
    item: Any,
    attributes: dict[str, Any],
    values: dict[str, Node],
    shapes: dict[str, list[int | None]],
    opset: int,
    path: Path,
) -> None:
    label = f"node {item.name or item.output[0]!r} of {path.name}"
    if item.op_type not in OPERATORS or item.domain not in ("", "ai.onnx"):
        known = ", ".join(sorted(OPERATORS))
        domain = f"{item.domain}." if item.domain else ""
        raise UnsupportedOperatorError(
            f"Operator {domain + item.op_type!r} ({label}) is not supported. Supported: {known}. Add it to "
            "hpo_gym/surrogates/onnx_operators.py."
        )
    operator = OPERATORS[item.op_type]
    unknown = sorted(set(attributes) - set(operator.attributes))
    if unknown:
        raise UnsupportedOperatorError(
            f"Attribute {unknown[0]!r} of operator {item.op_type!r} ({label}) is not supported."
        )
    sources = [values[name] if name else _absent() for name in item.input]
    sources = _attributes_to_inputs(item.op_type, attributes, sources)
    attributes["opset"] = opset
    if item.op_type == "Shape":
        attributes["static"] = shapes.get(item.input[0])
    outputs = [name for name in item.output if name]
    dimensions = shapes.get(outputs[0]) or []
    if outputs[0] in shapes:
        attributes["rank"] = len(dimensions)
    if len(dimensions) == 2 and dimensions[1] is not None:
        attributes["width"] = dimensions[1]
    if len(outputs) == 1 and item.op_type != "Split":
        node = Node(item.op_type, sources, attributes, outputs[0])
        values[outputs[0]] = _fold(node)
        return
    for index, name in enumerate(item.output):
        if item.op_type != "Split" and index > 0:
            raise UnsupportedOperatorError(
                f"Operator {item.op_type!r} ({label}) with {len(outputs)} outputs is not supported."
            )
        part = {**attributes, "part": index, "parts": len(item.output)}
        values[name] = _fold(Node(item.op_type, sources, part, name))


def _absent() -> Node:
    return Node("constant", name="", value=None)


# Arguments that older opsets give as attributes and newer ones as inputs, in input order.
_MOVED = {
    "Clip": ("min", "max"),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Squeeze": ("axes",),
    "Unsqueeze": ("axes",),
    **{f"Reduce{kind}": ("axes",) for kind in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Sum", "SumSquare")},
    "Split": ("split",),
}


def _attributes_to_inputs(op: str, attributes: dict[str, Any], sources: list[Node]) -> list[Node]:
    moved = _MOVED.get(op, ())
    if not any(name in attributes for name in moved):
        return sources
    found = []
    for name in moved:
        if name not in attributes:
            found.append(_absent())
            continue
        value = attributes.pop(name)
        dtype = torch.float32 if op == "Clip" else torch.int64
        found.append(constant(torch.tensor(value, dtype=dtype)))
    while found and found[-1].value is None:
        found.pop()
    return sources[:1] + found


def _fold(node: Node) -> Node:
    """Return a constant where the value is known, otherwise the node with its type."""
    if node.op == "Constant":
        value = next((node.attributes[k] for k in node.attributes if k.startswith("value")), None)
        if isinstance(value, Tensor):
            return constant(value, node.name)
        dtype = torch.int64 if "value_int" in "".join(node.attributes) else torch.float32
        return constant(torch.tensor(value, dtype=dtype), node.name)
    if node.op == "Gather" and node.inputs[0].op == "Shape" and node.inputs[1].is_constant:
        static = node.inputs[0].attributes["static"]
        index = node.inputs[1].constant_value
        if static is not None and not {"start", "end"} & set(node.inputs[0].attributes):
            chosen = [static[int(i)] for i in index.reshape(-1).tolist()]
            if all(size is not None for size in chosen):
                return constant(torch.tensor(chosen).reshape(index.shape), node.name)
    if all(source.is_constant for source in node.inputs) and node.inputs:
        with torch.no_grad():
            values: list[Any] = [source.value for source in node.inputs]
            value = OPERATORS[node.op].run(node.attributes, values)
        return constant(value, node.name)
    if node.op in ("Identity", "Dropout"):
        training = node.inputs[2].value if len(node.inputs) > 2 else None
        if training is not None and bool(training):
            raise UnsupportedOperatorError(
                f"Dropout (node {node.name!r}) in training mode is not supported: export the network after eval()."
            )
        return node.inputs[0]
    node.dtype = OPERATORS[node.op].dtype(node.attributes, [n.dtype for n in node.inputs])
    if node.op == "Cast" and node.inputs[0].dtype == node.dtype:
        return node.inputs[0]
    return node
