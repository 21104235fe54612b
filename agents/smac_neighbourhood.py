"""The neighbours of a configuration that SMAC3's local search looks at, on arrays.

The same as ConfigSpace's ``get_one_exchange_neighbourhood``, from the same random numbers, without an object for each:
Hutter, Hoos and Leyton-Brown (2011), "Sequential Model-Based Optimization for General Algorithm Configuration", LION 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.functional import quantize
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.hyperparameters.distributions import (
    NEIGHBOR_GENERATOR_N_RETRIES,
    NEIGHBOR_GENERATOR_SAMPLE_MULTIPLIER,
)
from ConfigSpace.util import change_hp_value
from numpy.random import RandomState
from numpy.typing import NDArray

__all__ = ["Neighbourhood"]

Array = NDArray[np.float64]

# What SMAC3 asks ConfigSpace for: neighbours per number, and how many more are drawn of a continuous one.
_NEIGHBOURS, _OVERSAMPLING = 8, 5


@lru_cache(maxsize=64)
def _deviations(first: float) -> list[float]:
    """Return the standard deviations of ConfigSpace, which are larger from try to try."""
    deviations: list[float] = np.linspace(first, 1.0, NEIGHBOR_GENERATOR_N_RETRIES + 1).tolist()
    return deviations


@dataclass(frozen=True)
class _Exchange:
    """How the value of one hyperparameter is exchanged for a neighbouring one.

    Args:
        parameter: The hyperparameter of ConfigSpace.
        index: Where its value is in a vector.
        drawn: How many neighbours are drawn at once; 0 for an ordinal one, where it depends on the value.
        count: How many are wanted of one vector.
        tries: How many are looked at until one is legal.
        is_endless: Whether more are drawn when those are used up.
        forbidden: The clauses that it is part of.
        has_children: Whether it decides on others being active.
        known: The quantised value, or all neighbours, of the values of a finite one.
    """

    parameter: Any
    index: int
    drawn: int
    count: int
    tries: int
    is_endless: bool
    forbidden: list[Any]
    has_children: bool
    known: dict[float, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, space: ConfigurationSpace, name: str) -> _Exchange:
        parameter: Any = space[name]
        if isinstance(parameter, OrdinalHyperparameter):
            plan = 0, 0, 0, False
        elif isinstance(parameter, CategoricalHyperparameter):
            plan = parameter.size - 1, parameter.size - 1, parameter.size - 1, False
        elif isinstance(parameter, UniformIntegerHyperparameter):
            drawn = min(_NEIGHBOURS, parameter.size - 1)
            plan = drawn, _NEIGHBOURS, drawn, parameter.size - 1 >= _NEIGHBOURS
        else:
            plan = _NEIGHBOURS * _OVERSAMPLING, _NEIGHBOURS, max(_NEIGHBOURS * _OVERSAMPLING, 100), True
        forbidden = space._dag.forbidden_lookup.get(name, [])
        return cls(parameter, space.index_of[name], *plan, forbidden, bool(space._dag.change_hp_lookup.get(name)))

    def neighbours(self, value: float, drawn: int, random: RandomState, deviation: float) -> list[float]:
        """Return values next to one, in vector space, the next one last.

        Raises:
            ValueError: If there are too few, as ConfigSpace has it.
        """
        if np.isinf(self.parameter.size):
            return self._near(value, [], drawn, random, deviation)
        if isinstance(self.parameter, UniformIntegerHyperparameter) and drawn < self.parameter.size - 1:
            if value not in self.known:
                self.known[value] = float(self._quantised(np.array([value]))[0])
            found = self._near(self.known[value], [self.known[value]], drawn, random, deviation)
        else:
            if value not in self.known:
                self.known[value] = self.parameter._neighborhood(value, n=drawn, seed=RandomState(0))
                self.known[value] = sorted(self.known[value].tolist())
            found = self.known[value].copy()
            if isinstance(self.parameter, CategoricalHyperparameter):
                random.shuffle(found)
        random.shuffle(found)
        return found

    def _near(
        self, centre: float, barred: list[float], drawn: int, random: RandomState, deviation: float
    ) -> list[float]:
        """Return normally distributed values, each once and none that is barred if there are finitely many."""
        found = barred.copy()
        for spread in _deviations(deviation):
            values = random.normal(centre, spread, size=drawn * NEIGHBOR_GENERATOR_SAMPLE_MULTIPLIER)
            values = values[(values >= 0.0) & (values <= 1.0)]
            if barred:
                fresh = sorted(set(self._quantised(values).tolist()).difference(found))
                random.shuffle(fresh)
                found += fresh
            else:
                found += values.tolist()
            if len(found) >= drawn + len(barred):
                return found[len(barred) : drawn + len(barred)]
        raise ValueError(f"There are fewer than {drawn} neighbours of {centre} of {self.parameter.name!r}.")

    def _quantised(self, values: Array) -> Array:
        distribution = self.parameter._vector_dist
        quantised: Array = (
            distribution._quantize(values)
            if self.parameter.log
            else quantize(values, bounds=(0, 1), bins=distribution.size)
        )
        return quantised


@dataclass
class _Supply:
    exchange: _Exchange
    drawn: int
    left: int
    tries: int
    values: list[float] = field(default_factory=list)
    is_drawn: bool = False


class Neighbourhood:
    """The one-exchange neighbourhood of ConfigSpace: all but one value stay what they are.

    Args:
        space: The space; it must not change any more.
    """

    def __init__(self, space: ConfigurationSpace) -> None:
        self._space = space
        names = [name for name, node in space._dag.nodes.items() if node.hp.size != 1]
        self._exchanges = [_Exchange.of(space, name) for name in names]

    def around(self, vector: Array, random: RandomState, deviation: float) -> Iterator[tuple[int, Array]]:
        """Yield the neighbours of one vector, and where they differ from it.

        Args:
            vector: float64 ``[D]``, inactive hyperparameters NaN.
            random: Where the random numbers come from.
            deviation: Standard deviation of the normal distribution of neighbouring numbers, in ``(0, 1]``.
        """
        supplies, total = [], 0
        values = vector.tolist()
        for exchange in self._exchanges:
            if math.isnan(values[exchange.index]):
                continue
            drawn, left, tries = exchange.drawn, exchange.count, exchange.tries
            if drawn == 0:
                value = exchange.parameter.to_value(values[exchange.index])
                drawn = left = tries = int(exchange.parameter.get_num_neighbors(value))
            total += int(left * (1 + math.sqrt(len(exchange.forbidden))))
            supplies.append(_Supply(exchange, drawn, left, tries))
        choices = random.randint(len(supplies), size=total).tolist()
        position, unfinished = 0, len(supplies)
        while unfinished > 0:
            if position >= total:
                total = len(supplies) ** 2 * 2
                choices, position = random.randint(len(supplies), size=total).tolist(), 0
            supply = supplies[choices[position]]
            position += 1
            if supply.left == 0:
                continue
            exchange = supply.exchange
            for _ in range(supply.tries):
                if not supply.values:
                    if supply.is_drawn and not exchange.is_endless:
                        supply.left = 0
                        unfinished -= 1
                        break
                    supply.values = exchange.neighbours(values[exchange.index], supply.drawn, random, deviation)
                    supply.is_drawn = True
                neighbour = self._exchanged(vector, exchange, supply.values.pop())
                if exchange.forbidden and any(clause.is_forbidden_vector(neighbour) for clause in exchange.forbidden):
                    continue
                supply.left -= 1
                unfinished -= supply.left == 0
                yield exchange.index, neighbour
                break
            else:
                supply.left = 0
                unfinished -= 1

    def _exchanged(self, vector: Array, exchange: _Exchange, value: float) -> Array:
        neighbour = vector.copy()
        if exchange.has_children:
            changed: Array = change_hp_value(self._space, neighbour, exchange.parameter.name, value, exchange.index)
            return changed
        neighbour[exchange.index] = value
        return neighbour
