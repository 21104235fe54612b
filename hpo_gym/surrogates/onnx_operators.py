"""What each supported ONNX operator means in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo_gym.errors import UnsupportedOperatorError
from hpo_gym.surrogates.onnx_elementwise import ELEMENTWISE, Attributes, Inputs, Operator, binary, torch_dtype

__all__ = ["ELEMENTWISE", "OPERATORS", "Operator", "torch_dtype"]


def _gather(attributes: Attributes, inputs: Inputs) -> Tensor:
    data, index = inputs
    axis = attributes.get("axis", 0) % data.ndim
    index = index.long()
    index = torch.where(index < 0, index + data.shape[axis], index)
    flat = data.index_select(axis, index.reshape(-1))
    return flat.reshape((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))


def _slice(attributes: Attributes, inputs: Inputs) -> Tensor:
    data, starts, ends = inputs[:3]
    axes = inputs[3] if len(inputs) > 3 and inputs[3] is not None else torch.arange(len(starts))
    steps = inputs[4] if len(inputs) > 4 and inputs[4] is not None else torch.ones(len(starts))
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        axis, size = int(axis) % data.ndim, data.shape[int(axis)]
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
    parts: tuple[Tensor, ...] = inputs[0].split(sizes, axis)
    return parts[attributes["part"]]


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
    if -1 in sizes and 0 in sizes:
        # Of an empty batch torch cannot tell the missing size: it is what the sizes that are not 0 leave over.
        whole, known = (math.prod(size for size in shape if size > 0) for shape in (data.shape, sizes))
        sizes = [whole // known if size == -1 else size for size in sizes]
    return data.reshape(sizes)


def _flatten(attributes: Attributes, inputs: Inputs) -> Tensor:
    axis = attributes.get("axis", 1)
    shape = inputs[0].shape
    axis = axis + len(shape) if axis < 0 else axis
    return inputs[0].reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))


def _gemm(attributes: Attributes, inputs: Inputs) -> Tensor:
    a, b = inputs[:2]
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    out: Tensor = (a @ b) * attributes.get("alpha", 1.0)
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
    return _softmax_axis(attributes, inputs, torch.softmax)


def _softmax_axis(attributes: Attributes, inputs: Inputs, function: Callable[..., Tensor]) -> Tensor:
    axis = attributes.get("axis", -1 if attributes["opset"] >= 13 else 1)
    if attributes["opset"] < 13 and axis % inputs[0].ndim != inputs[0].ndim - 1:
        raise UnsupportedOperatorError("Softmax before opset 13 is supported on the last axis only.")
    return function(inputs[0], axis)


def _log_softmax(attributes: Attributes, inputs: Inputs) -> Tensor:
    return _softmax_axis(attributes, inputs, torch.log_softmax)


def _shape(attributes: Attributes, inputs: Inputs) -> Tensor:
    sizes = inputs[0].shape[attributes.get("start", 0) : attributes.get("end")]
    return torch.tensor(sizes, dtype=torch.int64, device=inputs[0].device)


def _constant_of_shape(attributes: Attributes, inputs: Inputs) -> Tensor:
    value: Tensor = attributes.get("value", torch.zeros(1)).to(inputs[0].device)
    return value.reshape(()).expand([int(size) for size in inputs[0].tolist()])


def _range(attributes: Attributes, inputs: Inputs) -> Tensor:
    start, limit, delta = inputs
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


def _tile(attributes: Attributes, inputs: Inputs) -> Tensor:
    out: Tensor = inputs[0].repeat([int(count) for count in inputs[1].tolist()])
    return out


def _one_hot(attributes: Attributes, inputs: Inputs) -> Tensor:
    index, depth, values = inputs
    size = int(depth.reshape(()))
    axis = attributes.get("axis", -1) % (index.ndim + 1)
    index = index.long().unsqueeze(axis)
    index = torch.where(index < 0, index + size, index)
    shape = [-1 if dimension == axis else 1 for dimension in range(index.ndim)]
    hit = index == torch.arange(size, device=index.device).view(shape)
    return torch.where(hit, values[1], values[0])


def _expand(attributes: Attributes, inputs: Inputs) -> Tensor:
    sizes = [int(size) for size in inputs[1].tolist()]
    return inputs[0].expand(torch.broadcast_shapes(inputs[0].shape, sizes))


OPERATORS: dict[str, Operator] = {
    **ELEMENTWISE,
    "BatchNormalization": Operator(_batch_normalization, ("epsilon", "momentum", "training_mode", "spatial")),
    "Concat": Operator(lambda a, x: torch.cat(list(x), a["axis"]), ("axis",)),
    "ConstantOfShape": Operator(_constant_of_shape, ("value",), result="value"),
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
    "LogSoftmax": Operator(_log_softmax, ("axis",)),
    "MatMul": binary(torch.matmul),
    "OneHot": Operator(_one_hot, ("axis",), result="third"),
    "Range": Operator(_range),
    "ReduceL1": _reduce(lambda x, axes, keepdim: x.abs().sum(axes, keepdim=keepdim)),
    "ReduceL2": _reduce(lambda x, axes, keepdim: x.square().sum(axes, keepdim=keepdim).sqrt()),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda x, axes, keepdim: x.square().sum(axes, keepdim=keepdim)),
    "Reshape": Operator(_reshape, ("allowzero",)),
    "Shape": Operator(_shape, ("start", "end"), result="int64"),
    "Slice": Operator(_slice, ("starts", "ends", "axes")),
    "Softmax": Operator(_softmax, ("axis",)),
    "Split": Operator(_split, ("axis", "split", "num_outputs")),
    "Squeeze": Operator(_squeeze, ("axes",)),
    "Tile": Operator(_tile),
    "Transpose": Operator(lambda a, x: x[0].permute(a.get("perm", list(range(x[0].ndim))[::-1])), ("perm",)),
    "Unsqueeze": Operator(_unsqueeze, ("axes",)),
}
