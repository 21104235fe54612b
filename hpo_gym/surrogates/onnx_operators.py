"""What each supported ONNX operator means in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo_gym.errors import UnsupportedOperatorError

__all__ = ["ELEMENTWISE", "OPERATORS", "Operator", "torch_dtype"]

_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64,
}  # fmt: skip

Attributes = dict[str, Any]
Inputs = Sequence[Any]
Run = Callable[[Attributes, Inputs], Tensor]


@dataclass(frozen=True)
class Operator:
    """An ONNX operator.

    Args:
        run: ``(attributes, input tensors) -> output``; an omitted optional input is ``None``.
        attributes: Names of the attributes that are understood.
        result: Type of the output: ``first`` input's, ``bool``, ``int64``, ``to`` (Cast).
    """

    run: Run
    attributes: tuple[str, ...] = ()
    result: str = "first"

    def dtype(self, attributes: Attributes, inputs: Sequence[torch.dtype | None]) -> torch.dtype | None:
        """Return the element type of the output."""
        if self.result == "to":
            return torch_dtype(attributes["to"], "Cast")
        if self.result == "second":
            return inputs[1]
        fixed = {"bool": torch.bool, "int64": torch.int64}
        return fixed[self.result] if self.result in fixed else inputs[0]


def torch_dtype(code: int, where: str) -> torch.dtype:
    """Return the torch type of an ONNX type code.

    Raises:
        UnsupportedOperatorError: For a type that is not supported.
    """
    if code not in _DTYPES:
        raise UnsupportedOperatorError(f"{where}: ONNX element type {code} is not supported.")
    return _DTYPES[code]


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return Operator(lambda a, x: function(x[0]))


def _binary(function: Callable[[Tensor, Tensor], Tensor], result: str = "first") -> Operator:
    return Operator(lambda a, x: function(x[0], x[1]), result=result)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


def _fold_left(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(attributes: Attributes, inputs: Inputs) -> Tensor:
        out: Tensor = inputs[0]
        for other in inputs[1:]:
            out = function(out, other)
        return out

    return Operator(run)


def _clip(attributes: Attributes, inputs: Inputs) -> Tensor:
    low = inputs[1] if len(inputs) > 1 else None
    high = inputs[2] if len(inputs) > 2 else None
    if low is None and high is None:
        return inputs[0]
    out: Tensor = torch.clamp(inputs[0], low, high)
    return out


def _gather(attributes: Attributes, inputs: Inputs) -> Tensor:
    data, index = inputs
    axis = attributes.get("axis", 0) % data.ndim
    index = index.long()
    index = torch.where(index < 0, index + data.shape[axis], index)
    flat = data.index_select(axis, index.reshape(-1))
    return flat.reshape(*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])


def _slice(attributes: Attributes, inputs: Inputs) -> Tensor:
    data, starts, ends = inputs[:3]
    axes = inputs[3] if len(inputs) > 3 and inputs[3] is not None else torch.arange(len(starts))
    steps = inputs[4] if len(inputs) > 4 and inputs[4] is not None else torch.ones(len(starts))
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        axis, size = int(axis) % data.ndim, data.shape[int(axis)]
        if step < 1:
            raise UnsupportedOperatorError(f"Slice with step {step} is not supported.")
        picked = range(size)[slice(int(start), int(end), int(step))]
        if step == 1:
            data = data.narrow(axis, picked.start, len(picked))
        else:
            data = data.index_select(axis, torch.tensor(list(picked), device=data.device))
    return data


def _split(attributes: Attributes, inputs: Inputs) -> Tensor:
    axis = attributes.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        sizes = [int(size) for size in inputs[1].tolist()]
    else:
        whole = inputs[0].shape[axis]
        part = -(-whole // attributes["parts"])
        sizes = [min(part, whole - start) for start in range(0, whole, part)]
    return inputs[0].split(sizes, axis)[attributes["part"]]


def _axes(inputs: Inputs) -> list[int] | None:
    if len(inputs) < 2 or inputs[1] is None:
        return None
    return [int(axis) for axis in inputs[1].reshape(-1).tolist()]


def _unsqueeze(attributes: Attributes, inputs: Inputs) -> Tensor:
    axes = _axes(inputs) or []
    out: Tensor = inputs[0]
    total = out.ndim + len(axes)
    for axis in sorted(axis % total for axis in axes):
        out = out.unsqueeze(axis)
    return out


def _squeeze(attributes: Attributes, inputs: Inputs) -> Tensor:
    axes = _axes(inputs)
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(tuple(axes))


def _reshape(attributes: Attributes, inputs: Inputs) -> Tensor:
    data, shape = inputs
    sizes = [int(size) for size in shape.tolist()]
    if not attributes.get("allowzero", 0):
        sizes = [data.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return data.reshape(sizes)


def _flatten(attributes: Attributes, inputs: Inputs) -> Tensor:
    axis = attributes.get("axis", 1) % (inputs[0].ndim + 1)
    rows = 1
    for size in inputs[0].shape[:axis]:
        rows *= size
    return inputs[0].reshape(rows, -1)


def _gemm(attributes: Attributes, inputs: Inputs) -> Tensor:
    a, b = inputs[:2]
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    out = (a @ b) * attributes.get("alpha", 1.0)
    if len(inputs) > 2 and inputs[2] is not None:
        out = out + inputs[2] * attributes.get("beta", 1.0)
    return out


def _batch_normalization(attributes: Attributes, inputs: Inputs) -> Tensor:
    if attributes.get("training_mode", 0):
        raise UnsupportedOperatorError("BatchNormalization in training mode is not supported.")
    x, scale, shift, mean, variance = inputs
    factor = scale / torch.sqrt(variance + attributes.get("epsilon", 1e-5))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x * factor.view(shape) + (shift - mean * factor).view(shape)


def _layer_normalization(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, scale = inputs[:2]
    shift = inputs[2] if len(inputs) > 2 else None
    axis = attributes.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], scale, shift, attributes.get("epsilon", 1e-5))


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def run(attributes: Attributes, inputs: Inputs) -> Tensor:
        axes = _axes(inputs)
        if not axes:
            if attributes.get("noop_with_empty_axes", 0):
                return inputs[0]
            axes = list(range(inputs[0].ndim))
        return function(inputs[0], axes, keepdim=bool(attributes.get("keepdims", 1)))

    return Operator(run, ("axes", "keepdims", "noop_with_empty_axes"))


def _softmax(attributes: Attributes, inputs: Inputs) -> Tensor:
    axis = attributes.get("axis", -1 if attributes["opset"] >= 13 else 1)
    if attributes["opset"] < 13 and axis % inputs[0].ndim != inputs[0].ndim - 1:
        raise UnsupportedOperatorError("Softmax before opset 13 is supported on the last axis only.")
    return inputs[0].softmax(axis)


def _elu(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.elu(inputs[0], attributes.get("alpha", 1.0))


def _leaky(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.leaky_relu(inputs[0], attributes.get("alpha", 0.01))


def _shape(attributes: Attributes, inputs: Inputs) -> Tensor:
    return torch.tensor(inputs[0].shape)


def _expand(attributes: Attributes, inputs: Inputs) -> Tensor:
    sizes = [int(size) for size in inputs[1].tolist()]
    return inputs[0].expand(torch.broadcast_shapes(inputs[0].shape, sizes))


def _where(attributes: Attributes, inputs: Inputs) -> Tensor:
    return torch.where(inputs[0], inputs[1], inputs[2])


#: Operators that act on each element by itself, with broadcasting: what lanes may consist of.
ELEMENTWISE: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and, "bool"),
    "Cast": Operator(lambda a, x: x[0].to(torch_dtype(a["to"], "Cast")), ("to", "saturate"), result="to"),
    "Ceil": _unary(torch.ceil),
    "Clip": Operator(_clip, ("min", "max")),
    "Cos": _unary(torch.cos),
    "Div": _binary(_divide),
    "Elu": Operator(_elu, ("alpha",)),
    "Equal": _binary(torch.eq, "bool"),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Greater": _binary(torch.gt, "bool"),
    "GreaterOrEqual": _binary(torch.ge, "bool"),
    "LeakyRelu": Operator(_leaky, ("alpha",)),
    "Less": _binary(torch.lt, "bool"),
    "LessOrEqual": _binary(torch.le, "bool"),
    "Log": _unary(torch.log),
    "Max": _fold_left(torch.maximum),
    "Min": _fold_left(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": Operator(lambda a, x: torch.logical_not(x[0]), result="bool"),
    "Or": _binary(torch.logical_or, "bool"),
    "Pow": Operator(lambda a, x: torch.pow(x[0], x[1]).to(x[0].dtype)),
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(F.relu),
    "Round": _unary(torch.round),
    "Sigmoid": _unary(torch.sigmoid),
    "Sin": _unary(torch.sin),
    "Softplus": _unary(lambda x: torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device))),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Tanh": _unary(torch.tanh),
    "Where": Operator(_where, result="second"),
}

OPERATORS: dict[str, Operator] = {
    **ELEMENTWISE,
    "BatchNormalization": Operator(_batch_normalization, ("epsilon", "momentum", "training_mode", "spatial")),
    "Concat": Operator(lambda a, x: torch.cat(list(x), a["axis"]), ("axis",)),
    "Constant": Operator(
        lambda a, x: a["value"],
        ("value", "value_float", "value_floats", "value_int", "value_ints"),
    ),
    "Dropout": Operator(lambda a, x: x[0], ("ratio", "seed")),
    "Expand": Operator(_expand),
    "Flatten": Operator(_flatten, ("axis",)),
    "Gather": Operator(_gather, ("axis",)),
    "Gemm": Operator(_gemm, ("alpha", "beta", "transA", "transB")),
    "Identity": Operator(lambda a, x: x[0]),
    "LayerNormalization": Operator(_layer_normalization, ("axis", "epsilon", "stash_type")),
    "MatMul": _binary(torch.matmul),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Reshape": Operator(_reshape, ("allowzero",)),
    "Shape": Operator(_shape, (), result="int64"),
    "Slice": Operator(_slice, ("starts", "ends", "axes")),
    "Softmax": Operator(_softmax, ("axis",)),
    "Split": Operator(_split, ("axis", "split", "num_outputs")),
    "Squeeze": Operator(_squeeze, ("axes",)),
    "Transpose": Operator(lambda a, x: x[0].permute(a.get("perm", list(range(x[0].ndim))[::-1])), ("perm",)),
    "Unsqueeze": Operator(_unsqueeze, ("axes",)),
}
