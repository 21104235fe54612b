"""The operators that fusion puts in place of ONNX ones, as torch expressions.

``{0}``, ``{1}`` ... are an operator's inputs, other names in braces its attributes.
:mod:`hpo_gym.surrogates.onnx_source` makes functions of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["FUSED", "FusedOperator", "bag"]


@dataclass(frozen=True)
class FusedOperator:
    """A fused operator.

    Args:
        fast: The expression; may write into its inputs, which nothing else reads.
        plain: An equivalent that can be differentiated; ``""`` where ``fast`` can.
    """

    fast: str
    plain: str = ""


def bag(codes: Tensor, offsets: Tensor, table: Tensor) -> Tensor:
    """Return the sum of the rows ``codes + offsets`` (``[B, C]``) of a table: ``[B, W]``."""
    if len(codes) == 1:
        # Setting up a bag costs more than one row of it.
        return table.index_select(0, (codes + offsets)[0]).sum(0, keepdim=True)
    return F.embedding_bag(codes + offsets, table, mode="sum")


FUSED: dict[str, FusedOperator] = {
    "narrow": FusedOperator("{0}.narrow(1, {start}, {length})"),
    "columns": FusedOperator("{0}.index_select(1, {1})"),
    "rows": FusedOperator("{0}[{1}.long()]"),
    "affine": FusedOperator("addcmul({2}, {0}, {1})"),
    "shift_scale": FusedOperator("({0} + {1}) * {2}"),
    "linear": FusedOperator("addmm({2}, {0}, {1})"),
    "add_linear": FusedOperator("addmm({0}, {1}, {2})"),
    "residual": FusedOperator("addmm({0}, {1}, {2}).add_({3})", "addmm({0}, {1}, {2}) + {3}"),
    "reglu": FusedOperator("{0}[:, :{half}].mul_({0}[:, {half}:].relu_())", "{0}[:, :{half}] * {0}[:, {half}:].relu()"),
    "bag": FusedOperator("bag({0}, {1}, {2})"),
}
