"""Search spaces drawn at random: floats, integers, categoricals and a conditional group.

A policy that is to serve any search space must have seen many. These are of the size and make-up of the
hyperparameters of real learners: about half are floats, more than half of them on a log scale; the rest are
integers and categoricals of few choices; some hyperparameters exist only under some choices of another, as
``degree`` does under a polynomial kernel.
"""

from __future__ import annotations

import numpy as np

from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import numpy_generator
from hpo_gym.spaces.clauses import Atom, Clause
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["random_space"]

_KINDS = ("float", "integer", "categorical")
_KIND_SHARES = (0.5, 0.25, 0.25)
_LOG_SHARES = {"float": 0.6, "integer": 0.3}
_FEWEST_FOR_CONDITIONS = 4


def random_space(dimension: int, variant: int = 0) -> SpaceSpec:
    """Draw a search space; the same arguments give the same space, always.

    From four hyperparameters on, one categorical has children: up to ``D / 2 - 1`` of the others, each active for
    some of its choices, not for all.

    Args:
        dimension: ``D``, 2 to 16.
        variant: Which of the spaces of that size, 0 or more.

    Raises:
        InvalidSettingError: If an argument is outside its range.
    """
    if not 2 <= dimension <= 16:
        raise InvalidSettingError(f"dimension={dimension} must lie in 2 .. 16.")
    if variant < 0:
        raise InvalidSettingError(f"variant={variant} must be 0 or more.")
    draws = numpy_generator(0, "random space", dimension, variant)
    kinds = [str(kind) for kind in draws.choice(_KINDS, size=dimension, p=_KIND_SHARES)]
    # A space without a float has no smooth direction, one without a categorical no parent of a condition.
    first, second = (int(position) for position in draws.permutation(dimension)[:2])
    kinds[first] = "float"
    has_conditions = dimension >= _FEWEST_FOR_CONDITIONS
    if has_conditions:
        kinds[second] = "categorical"
    columns = tuple(_column(f"x{index}", kind, draws) for index, kind in enumerate(kinds))
    conditions = _conditions(columns, second, draws) if has_conditions else {}
    return SpaceSpec(columns, conditions)


def _column(name: str, kind: str, draws: np.random.Generator) -> Column:
    if kind == "categorical":
        count = int(draws.choice([2, 3, 4, 5, 6], p=[0.4, 0.3, 0.15, 0.1, 0.05]))
        choices = tuple(f"c{index}" for index in range(count))
        return Column(name, "categorical", 0.0, count - 1.0, False, choices, choices[int(draws.integers(count))])
    log = bool(draws.random() < _LOG_SHARES[kind])
    if kind == "integer":
        lower = float(draws.integers(1, 4))
        upper = lower + (float(round(10 ** draws.uniform(1.5, 3.5))) if log else float(draws.integers(2, 101)))
    elif log:
        lower = float(10 ** draws.uniform(-6.0, -1.0))
        upper = lower * float(10 ** draws.uniform(2.0, 6.0))
    else:
        lower = 0.0
        upper = float(draws.choice([1.0, 10.0, 100.0]))
    share = float(draws.uniform(0.1, 0.9))
    default = lower * (upper / lower) ** share if log else lower + share * (upper - lower)
    if kind == "integer":
        return Column(name, "integer", lower, upper, log, (), round(default))
    return Column(name, "float", lower, upper, log, (), default)


def _conditions(columns: tuple[Column, ...], parent: int, draws: np.random.Generator) -> dict[int, tuple[Clause, ...]]:
    count = len(columns[parent].choices)
    others = [index for index in range(len(columns)) if index != parent]
    children = draws.permutation(others)[: int(draws.integers(1, len(columns) // 2))]
    conditions: dict[int, tuple[Clause, ...]] = {}
    for child in sorted(int(index) for index in children):
        chosen = draws.permutation(count)[: int(draws.integers(1, count))]
        values = tuple(float(choice) for choice in sorted(chosen))
        conditions[child] = ((Atom(parent, "in", values),),)
    return conditions
