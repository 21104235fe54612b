"""The qualities of a dataset, computed from its rows as OpenML defines them.

OpenML (Vanschoren et al. 2014, "OpenML: networked science in machine learning", SIGKDD Explorations 15(2)) computes
them with its evaluation engine: the target counts as a feature; symbolic features are those with declared levels,
binary ones declare two; text is neither numeric nor symbolic; entropies are in bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpo_gym.tasks.datasets import QUALITIES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_qualities"]


def frame_qualities(features: pd.DataFrame, target: pd.Series) -> tuple[float, ...]:
    """Return the 20 qualities of a dataset.

    For regression OpenML leaves the four sizes and shares of classes and their entropy empty; here they are 0, like its
    own ``NumberOfClasses``, so that a policy sees a complete row.

    Args:
        features: The features: categorical or boolean columns are symbolic, numbers numeric, anything else text.
        target: The target: numeric for regression, else categorical. The order of the rows matters for
            ``AutoCorrelation``.

    Returns:
        Finite floats in the order of :data:`hpo_gym.tasks.datasets.QUALITIES`.
    """
    rows, columns = len(target), [*(features.iloc[:, index] for index in range(features.shape[1])), target]
    levels = [_levels(column) for column in columns]
    symbolic = sum(count is not None for count in levels)
    binary = sum(count == 2 for count in levels)
    numeric = sum(count is None and _is_numeric(column) for count, column in zip(levels, columns, strict=True))
    missing = np.stack([column.isna().to_numpy() for column in columns], 1)
    count = len(columns)
    found = {
        "NumberOfInstances": rows,
        "NumberOfFeatures": count,
        "NumberOfNumericFeatures": numeric,
        "NumberOfSymbolicFeatures": symbolic,
        "NumberOfBinaryFeatures": binary,
        "NumberOfMissingValues": missing.sum(),
        "NumberOfInstancesWithMissingValues": missing.any(1).sum(),
        "PercentageOfMissingValues": 100.0 * missing.mean(),
        "PercentageOfInstancesWithMissingValues": 100.0 * missing.any(1).mean(),
        "PercentageOfNumericFeatures": 100.0 * numeric / count,
        "PercentageOfSymbolicFeatures": 100.0 * symbolic / count,
        "PercentageOfBinaryFeatures": 100.0 * binary / count,
        "Dimensionality": count / rows,
    }
    found |= _of_values(target) if levels[-1] is None else _of_classes(target)
    return tuple(float(found[name]) for name in QUALITIES)


def _is_numeric(column: pd.Series) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column.dtype))


def _levels(column: pd.Series) -> int | None:
    """Return how many levels a symbolic column declares; ``None`` for any other."""
    from pandas import CategoricalDtype
    from pandas.api.types import is_bool_dtype

    if isinstance(column.dtype, CategoricalDtype):
        return len(column.cat.categories)
    return 2 if is_bool_dtype(column.dtype) else None


def _of_classes(target: pd.Series) -> dict[str, float]:
    _, codes, sizes = np.unique(target.astype(str).to_numpy(dtype=str), return_inverse=True, return_counts=True)
    shares = sizes / sizes.sum()
    return {
        "NumberOfClasses": len(sizes),
        "MajorityClassSize": sizes.max(),
        "MinorityClassSize": sizes.min(),
        "MajorityClassPercentage": 100.0 * shares.max(),
        "MinorityClassPercentage": 100.0 * shares.min(),
        "ClassEntropy": float(-(shares * np.log2(shares)).sum()),
        "AutoCorrelation": float((codes[1:] == codes[:-1]).mean()) if len(codes) > 1 else 0.0,
    }


def _of_values(target: pd.Series) -> dict[str, float]:
    values = target.to_numpy(dtype=np.float64)
    # The engine's "mean agreement of neighbours" with numbers in place of labels.
    agreement = 1.0 - float(np.abs(np.diff(values)).mean()) if len(values) > 1 else 0.0
    absent = ("NumberOfClasses", "MajorityClassSize", "MinorityClassSize", "MajorityClassPercentage")
    return {name: 0.0 for name in (*absent, "MinorityClassPercentage", "ClassEntropy")} | {"AutoCorrelation": agreement}
