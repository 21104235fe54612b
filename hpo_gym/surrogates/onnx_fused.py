"""The operators that fusion puts in place of ONNX ones, in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FUSED", "FusedOperator"]

Attributes = dict[str, Any]
Run = Callable[[Attributes, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class FusedOperator:
    """A fused operator: in place where nobody can see it, and differentiable."""

    fast: Run
    plain: Run


def _same(run: Run) -> FusedOperator:
    return FusedOperator(run, run)


def _affine(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    x, factor, shift = inputs
    return torch.addcmul(shift, x, factor)


def _shift_scale(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    x, shift, factor = inputs
    return (x + shift) * factor


def _linear(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    x, weight, bias = inputs
    return torch.addmm(bias, x, weight)


def _residual_fast(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    stream, x, weight, bias = inputs
    return torch.addmm(stream, x, weight).add_(bias)


def _residual_plain(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    stream, x, weight, bias = inputs
    return torch.addmm(stream, x, weight) + bias


def _reglu_fast(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    wide, half = inputs[0], attributes["half"]
    return wide[:, :half].mul_(wide[:, half:].relu_())


def _reglu_plain(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    wide, half = inputs[0], attributes["half"]
    return wide[:, :half] * F.relu(wide[:, half:])


def _bag(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    codes, offsets, table = inputs
    return F.embedding_bag(codes + offsets, table, mode="sum")


def _add_linear(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    stream, x, weight = inputs
    return torch.addmm(stream, x, weight)


FUSED: dict[str, FusedOperator] = {
    "narrow": _same(lambda a, x: x[0].narrow(1, a["start"], a["length"])),
    "columns": _same(lambda a, x: x[0].index_select(1, x[1])),
    "rows": _same(lambda a, x: x[0][x[1].long()]),
    "affine": _same(_affine),
    "shift_scale": _same(_shift_scale),
    "linear": _same(_linear),
    "residual": FusedOperator(_residual_fast, _residual_plain),
    "reglu": FusedOperator(_reglu_fast, _reglu_plain),
    "bag": _same(_bag),
    "add_linear": _same(_add_linear),
}
