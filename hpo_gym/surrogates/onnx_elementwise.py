"""ONNX operators that act on each element by itself, in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo_gym.errors import UnsupportedOperatorError

__all__ = ["ELEMENTWISE", "Attributes", "Inputs", "Operator", "binary", "torch_dtype"]

_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64,
}  # fmt: skip

Attributes = dict[str, Any]
# An omitted optional input is None all the same: few operators have one, and those look.
Inputs = Sequence[Tensor]
Run = Callable[[Attributes, Inputs], Tensor]


@dataclass(frozen=True)
class Operator:
    """An ONNX operator.

    Args:
        run: ``(attributes, input tensors) -> output``; an omitted optional input is ``None``.
        attributes: Names of the attributes that are understood.
        result: Type of the output: that of the ``first``, ``second`` or ``third`` input, ``bool``, ``int64``,
            ``to`` (Cast) or ``value`` (the attribute's).
    """

    run: Run
    attributes: tuple[str, ...] = ()
    result: str = "first"

    def dtype(self, attributes: Attributes, inputs: Sequence[torch.dtype | None]) -> torch.dtype | None:
        """Return the element type of the output."""
        if self.result == "to":
            return torch_dtype(attributes["to"], "Cast")
        if self.result == "value":
            return attributes["value"].dtype if "value" in attributes else torch.float32
        if self.result in ("second", "third"):
            return inputs[1 if self.result == "second" else 2]
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


def binary(function: Callable[[Tensor, Tensor], Tensor], result: str = "first") -> Operator:
    """Return the operator of a function of two tensors."""
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


def _elu(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.elu(inputs[0], attributes.get("alpha", 1.0))


def _celu(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.celu(inputs[0], attributes.get("alpha", 1.0))


def _selu(attributes: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    alpha = attributes.get("alpha", 1.6732632423543772848)
    gamma = attributes.get("gamma", 1.0507009873554804934)
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0))).mul(gamma)


def _leaky(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.leaky_relu(inputs[0], attributes.get("alpha", 0.01))


def _prelu(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, slope = inputs
    return torch.where(x < 0, x * slope, x)


def _thresholded(attributes: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    return torch.where(x > attributes.get("alpha", 1.0), x, torch.zeros_like(x))


def _hard_sigmoid(attributes: Attributes, inputs: Inputs) -> Tensor:
    x: Tensor = inputs[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5)
    return x.clamp(0.0, 1.0)


def _gelu(attributes: Attributes, inputs: Inputs) -> Tensor:
    return F.gelu(inputs[0], approximate=attributes.get("approximate", "none"))


def _mod(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, y = inputs
    return torch.fmod(x, y) if attributes.get("fmod", 0) else torch.remainder(x, y)


def _mean(attributes: Attributes, inputs: Inputs) -> Tensor:
    total: Tensor = inputs[0]
    for other in inputs[1:]:
        total = total + other
    return total / len(inputs)


def _where(attributes: Attributes, inputs: Inputs) -> Tensor:
    return torch.where(inputs[0], inputs[1], inputs[2])


#: Operators that act on each element by itself, with broadcasting: what lanes may consist of.
ELEMENTWISE: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and, "bool"),
    "Cast": Operator(lambda a, x: x[0].to(torch_dtype(a["to"], "Cast")), ("to", "saturate"), result="to"),
    "Ceil": _unary(torch.ceil),
    "Celu": Operator(_celu, ("alpha",)),
    "Clip": Operator(_clip, ("min", "max")),
    "Cos": _unary(torch.cos),
    "Div": binary(_divide),
    "Elu": Operator(_elu, ("alpha",)),
    "Equal": binary(torch.eq, "bool"),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Gelu": Operator(_gelu, ("approximate",)),
    "Greater": binary(torch.gt, "bool"),
    "GreaterOrEqual": binary(torch.ge, "bool"),
    "HardSigmoid": Operator(_hard_sigmoid, ("alpha", "beta")),
    "HardSwish": _unary(F.hardswish),
    "IsNaN": Operator(lambda a, x: torch.isnan(x[0]), result="bool"),
    "LeakyRelu": Operator(_leaky, ("alpha",)),
    "Less": binary(torch.lt, "bool"),
    "LessOrEqual": binary(torch.le, "bool"),
    "Log": _unary(torch.log),
    "Max": _fold_left(torch.maximum),
    "Mean": Operator(_mean),
    "Min": _fold_left(torch.minimum),
    "Mish": _unary(F.mish),
    "Mod": Operator(_mod, ("fmod",)),
    "Mul": binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": Operator(lambda a, x: torch.logical_not(x[0]), result="bool"),
    "Or": binary(torch.logical_or, "bool"),
    "Pow": Operator(lambda a, x: torch.pow(x[0], x[1]).to(x[0].dtype)),
    "PRelu": Operator(_prelu),
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(F.relu),
    "Round": _unary(torch.round),
    "Selu": Operator(_selu, ("alpha", "gamma")),
    "Sigmoid": _unary(torch.sigmoid),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Softplus": _unary(lambda x: torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device))),
    "Softsign": _unary(F.softsign),
    "Sqrt": _unary(torch.sqrt),
    "Sub": binary(torch.sub),
    "Sum": _fold_left(torch.add),
    "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh),
    "ThresholdedRelu": Operator(_thresholded, ("alpha",)),
    "Where": Operator(_where, result="second"),
    "Xor": binary(torch.logical_xor, "bool"),
}
