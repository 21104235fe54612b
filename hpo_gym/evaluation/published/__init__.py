"""Published benchmarks of hyperparameter optimisers: what they are, and what others reached on them.

``HPOB_V3`` and ``GRPOFORMER_36`` define the two protocols as data; :func:`published_curves` returns the mean regret
that 37 published methods reached on HPO-B v3, as reference curves.
"""

from __future__ import annotations

from hpo_gym.evaluation.published.aggregates import aggregate_incumbents, read_result_file
from hpo_gym.evaluation.published.curves import PairedTest, PublishedCurves, TableRow
from hpo_gym.evaluation.published.grpoformer import GRPOFORMER_36, LiveProtocol, ModelFamily, PublishedBudget
from hpo_gym.evaluation.published.hpob_v3 import HPOB_V3, HPOBProtocol, HPOBSpace
from hpo_gym.evaluation.published.methods import PUBLISHED_METHODS, QUOTED, PublishedMethod, QuotedCurve
from hpo_gym.evaluation.published.shipped import published_curves

__all__ = [
    "GRPOFORMER_36",
    "HPOB_V3",
    "PUBLISHED_METHODS",
    "QUOTED",
    "HPOBProtocol",
    "HPOBSpace",
    "LiveProtocol",
    "ModelFamily",
    "PairedTest",
    "PublishedBudget",
    "PublishedCurves",
    "PublishedMethod",
    "QuotedCurve",
    "TableRow",
    "aggregate_incumbents",
    "published_curves",
    "read_result_file",
]
