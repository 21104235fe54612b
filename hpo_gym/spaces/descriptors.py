"""What a hyperparameter is, as numbers, for policies that serve any search space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpo_gym.spaces.clauses import parents
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["DESCRIPTOR_NAMES", "describe"]

_KINDS = ("float", "integer", "categorical", "ordinal", "constant")

#: Meaning of the ``F`` columns of ``SearchSpace.descriptors()``.
DESCRIPTOR_NAMES = (
    *(f"is_{kind}" for kind in _KINDS),
    "log",
    "cardinality",
    "range",
    "default",
    "conditional",
    "depth",
    "children",
)


def describe(spec: SpaceSpec, default: Tensor) -> Tensor:
    """Return the descriptors of a space, float32 ``[D, F]``, all in ``[0, 1]``.

    ``cardinality`` is ``1 - 1 / number of values``; ``range`` squashes the decades that a numeric
    hyperparameter spans; ``default`` is its ``u``; ``depth`` is ``1 - 2 ** -depth`` in the tree of conditions;
    ``children`` is the share of hyperparameters whose activity it decides.
    """
    depth = {child: 1 + level for level, children in enumerate(spec.levels()) for child in children}
    rows = []
    for index, column in enumerate(spec.columns):
        children = sum(index in parents(clauses) for clauses in spec.conditions.values())
        decades = math.log10(column.upper / column.lower) if column.log else 0.0
        rows.append(
            [
                *(float(column.kind == kind) for kind in _KINDS),
                float(column.log),
                1.0 - 1.0 / column.cardinality,
                math.tanh(decades / 4.0),
                float(default[index]),
                float(index in spec.conditions),
                1.0 - 2.0 ** -depth.get(index, 0),
                children / len(spec.columns),
            ]
        )
    return torch.tensor(rows, dtype=torch.float32)
