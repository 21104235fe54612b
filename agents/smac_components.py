"""The parts of SMAC3 that take its time, on arrays: they suggest the same to the last bit, several times as fast.

SMAC3 (2.4) makes an object of every configuration that it looks at, of which a run looks at a few hundred thousand,
and starts a pool of workers for every prediction of every tree. Nothing but that is left out here: the random numbers
are drawn in the same order, and the sums are added up in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.exceptions import ForbiddenValueError
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.util import check_configuration
from numpy.random import RandomState
from numpy.typing import NDArray
from smac.acquisition.maximizer.local_search import LocalSearch
from smac.acquisition.maximizer.random_search import RandomSearch
from smac.model.random_forest.random_forest import RandomForest

from agents.smac_neighbourhood import Neighbourhood
from hpo_gym.errors import InvalidSettingError

__all__ = ["ArrayForest", "ArrayLocalSearch", "ArrayRandomSearch", "require_known_smac", "sample_points"]

Array = NDArray[np.float64]

_SEEDS = 100_000


def require_known_smac() -> None:
    """Check that SMAC3 still has what is replaced here.

    Raises:
        InvalidSettingError: Otherwise.
    """
    replaced = (
        (RandomForest, "predict_marginalized"),
        (RandomSearch, "_maximize"),
        (LocalSearch, "_search"),
        (LocalSearch, "_get_init_points_from_previous_configs"),
    )
    missing = [f"{owner.__name__}.{name}" for owner, name in replaced if not hasattr(owner, name)]
    if missing:
        raise InvalidSettingError(
            f"Agent 'smac' replaces {', '.join(missing)}, which smac {version('smac')} no longer has. Install "
            "one that has: `pip install 'smac>=2.4,<2.5'`."
        )


class ArrayForest(RandomForest):  # type: ignore[misc, unused-ignore]
    """SMAC3's random forest, which asks its trees one after the other."""

    def predict_marginalized(self, X: Array) -> tuple[Array, Array]:
        """Return mean and variance over the trees, float64 ``[P, 1]`` each, of ``P`` points ``[P, D]``."""
        points = self._impute_inactive(X).astype(np.float32)
        forest: Any = self._rf
        trees = forest.estimators_
        predictions = np.empty((len(points), len(trees)))
        for column, tree in enumerate(trees):
            predictions[:, column] = tree.tree_.predict(points)[:, 0]
        variance = predictions.var(axis=1).reshape(-1, 1)
        variance[variance < self._var_threshold] = self._var_threshold
        return predictions.mean(axis=1).reshape(-1, 1), variance


def _acquisition(function: Any, points: Array) -> Array:
    """Return what an acquisition function of SMAC3 says about points ``[P, D]``, float64 ``[P]``."""
    values: Array = function._compute(points)[:, 0]
    values[np.isnan(values)] = -np.finfo(float).max
    return values


class ArrayRandomSearch(RandomSearch):  # type: ignore[misc, unused-ignore]
    """SMAC3's random search, which makes configurations of the best points only.

    Args:
        kept: How many of the best it returns; SMAC3's local search starts at no more than that.
        named: As for SMAC3's.
    """

    def __init__(self, kept: int, **named: Any) -> None:
        super().__init__(**named)
        self._kept = kept

    def _maximize(
        self, previous_configs: list[Configuration], n_points: int, _sorted: bool = False
    ) -> list[tuple[float, Configuration]]:
        if not _sorted or n_points <= 1:
            found: list[tuple[float, Configuration]] = super()._maximize(previous_configs, n_points, _sorted)
            return found
        points = sample_points(self._configspace, n_points)
        values = _acquisition(self._acquisition_function, points)
        order = np.lexsort((self._rng.rand(len(values)), values))[::-1][: self._kept]
        origin = "Acquisition Function Maximizer: Random Search (sorted)"
        return [(values[row], Configuration(self._configspace, vector=points[row], origin=origin)) for row in order]


def sample_points(space: ConfigurationSpace, size: int) -> Array:
    """Return the vectors ``[P, D]`` of ``space.sample_configuration(size)``, inactive hyperparameters NaN."""
    dag, accepted, missing = space._dag, [], size
    odds = (len(space.forbidden_clauses) + len(space.conditional_hyperparameters)) / len(space)
    count = size
    while missing > 0:
        count = max(int(odds**2 * count), 5)
        drawn = _draw(space, count, rounds=1 if odds else math.ceil(missing / count))
        for clause in dag.unconditional_forbiddens:
            drawn = drawn[:, ~clause.is_forbidden_vector_array(drawn)]
        for node in dag.minimum_conditions:
            satisfied = node.condition.satisfied_by_vector_array(drawn)
            drawn[np.ix_(node.children_indices, ~satisfied)] = np.nan
        for clause in dag.conditional_forbiddens:
            drawn = drawn[:, ~clause.is_forbidden_vector_array(drawn)]
        accepted.append(drawn)
        missing -= drawn.shape[1]
        count = missing
    return np.ascontiguousarray(np.concatenate(accepted, axis=1)[:, :size].T)


def _draw(space: ConfigurationSpace, count: int, rounds: int) -> Array:
    """Return what ``rounds`` times ``count`` draws of all hyperparameters give, float64 ``[D, rounds * count]``.

    ConfigSpace draws 10000 points of a space without conditions by fives.
    """
    parameters: list[Any] = list(space.values())
    # Floats and integers on a log scale begin as one uniform number each.
    is_rounded = [isinstance(one, UniformIntegerHyperparameter) and one.log for one in parameters]
    is_uniform = [
        rounded or isinstance(one, UniformFloatHyperparameter)
        for one, rounded in zip(parameters, is_rounded, strict=True)
    ]
    runs = [(uniform, [row for row, _ in run]) for uniform, run in groupby(enumerate(is_uniform), key=itemgetter(1))]
    drawn = np.empty((len(parameters), rounds, count))
    for number in range(rounds):
        for uniform, rows in runs:
            if uniform:
                drawn[rows[0] : rows[-1] + 1, number] = space.random.random_sample((len(rows), count))
                continue
            for row in rows:
                drawn[row, number] = parameters[row]._vector_dist.sample_vector(n=count, seed=space.random)
    points: Array = drawn.reshape(len(parameters), -1)
    for row in np.flatnonzero(is_rounded).tolist():
        points[row] = parameters[row]._vector_dist._quantize(points[row])
    return points


@dataclass
class _Walk:
    """One of the local searches that go on side by side.

    Args:
        vector: Where it is, float64 ``[D]``.
        value: The acquisition function there.
        random: Draws the neighbours.
        deviation: Standard deviation of neighbouring numbers.
        wanted: Neighbours to look at next.
        visited: Values of finite hyperparameters that it has looked at from here, by their position.
    """

    vector: Array
    value: float
    random: RandomState
    deviation: float
    wanted: int
    visited: dict[int, set[Any]]
    neighbours: Iterator[tuple[int, Array]] = field(default_factory=lambda: iter(()))
    equals: list[Array] = field(default_factory=list)
    plateau_steps: int = 0
    improvements: int = 0
    is_over: bool = False
    has_moved: bool = False
    has_improved: bool = False
    is_exhausted: bool = False

    def move(self, vector: Array) -> None:
        self.vector, self.equals, self.has_moved = vector, [], True
        for values in self.visited.values():
            values.clear()

    def look_around(self, natural: Callable[[int, float], Any]) -> list[Array]:
        """Return the next neighbours, without those that SMAC3 passes over.

        Args:
            natural: Makes the value at a position of a vector one in natural units.
        """
        found: list[Array] = []
        self.is_exhausted = False
        for _ in range(self.wanted):
            try:
                index, neighbour = next(self.neighbours)
            except StopIteration:
                self.is_exhausted, self.wanted = True, len(found)
                break
            except ValueError:
                # ConfigSpace found too few neighbours of a number.
                self.is_exhausted = True
                continue
            # To SMAC3 an inactive hyperparameter differs from itself, as NaN does.
            if np.count_nonzero(neighbour != self.vector) != 1:
                continue
            if index in self.visited:
                value = natural(index, neighbour[index].item())
                if value in self.visited[index]:
                    continue
                self.visited[index].add(value)
            found.append(neighbour)
        return found


class ArrayLocalSearch(LocalSearch):  # type: ignore[misc, unused-ignore]
    """SMAC3's local search, which makes configurations of the points that it ends at only.

    It also has an order to where it begins: SMAC3 (2.4) goes by the order of a Python set of configurations, which is
    another one in every process unless ``PYTHONHASHSEED`` is fixed, and the same seed then suggests something else.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._neighbourhood = Neighbourhood(self._configspace)
        self._natural_values: dict[tuple[int, float], Any] = {}

    def _get_init_points_from_previous_configs(self, *args: Any, **named: Any) -> list[Configuration]:
        return sorted(super()._get_init_points_from_previous_configs(*args, **named), key=str)

    def _search(self, start_points: list[Configuration]) -> list[tuple[float, Configuration]]:
        space = self._configspace
        vectors = np.array([start.get_array() for start in start_points])
        finite = [
            space.index_of[parameter.name]
            for parameter in space.values()
            if isinstance(parameter, (CategoricalHyperparameter, OrdinalHyperparameter))
            or (isinstance(parameter, UniformIntegerHyperparameter) and parameter.size <= 100)
        ]
        walks = [
            _Walk(
                vector,
                value,
                RandomState(0),
                self._stdev_init,
                self._vectorization_min_obtain,
                {index: set() for index in finite},
            )
            for vector, value in zip(vectors, self._values(vectors), strict=True)
        ]
        for walk in walks:
            self._set_out(walk)
        steps = 0
        while steps != self._max_steps and (going := [walk for walk in walks if not walk.is_over]):
            steps += 1
            batches = [walk.look_around(self._natural) for walk in going]
            values = iter(self._values([point for batch in batches for point in batch]))
            for walk, batch in zip(going, batches, strict=True):
                self._compare(walk, batch, [next(values) for _ in batch])
            for walk in going:
                self._step(walk)
        return [
            (walk.value, Configuration(space, vector=walk.vector) if walk.has_moved else start)
            for walk, start in zip(walks, start_points, strict=True)
        ]

    def _values(self, points: Array | list[Array]) -> list[float]:
        values: list[float] = (
            _acquisition(self._acquisition_function, np.asarray(points)).tolist() if len(points) else []
        )
        return values

    def _natural(self, index: int, value: float) -> Any:
        """Return a value of a finite hyperparameter in natural units; there are few, and ConfigSpace is slow."""
        if (index, value) not in self._natural_values:
            name = self._configspace.at[index]
            self._natural_values[index, value] = self._configspace[name].to_value(value)
        return self._natural_values[index, value]

    def _set_out(self, walk: _Walk) -> None:
        """Begin with the neighbourhood of where a walk is."""
        walk.random.seed(self._rng.randint(low=0, high=_SEEDS))
        walk.neighbours = self._neighbourhood.around(walk.vector, walk.random, walk.deviation)

    def _compare(self, walk: _Walk, points: list[Array], values: list[float]) -> None:
        """Move to the first neighbour that is better, if it is legal, and keep those that are as good."""
        walk.has_improved = False
        for point, value in zip(points, values, strict=True):
            if value > walk.value:
                try:
                    check_configuration(self._configspace, point)
                except (ValueError, ForbiddenValueError):
                    continue
                walk.move(point)
                walk.value, walk.has_improved = value, True
                return
            if value == walk.value:
                walk.equals.append(point)

    def _step(self, walk: _Walk) -> None:
        """Decide how a walk goes on."""
        if walk.wanted == 0 or walk.has_improved:
            walk.wanted = 2
        else:
            walk.wanted = min(2 * walk.wanted, self._vectorization_max_obtain)
        if not (walk.is_exhausted or walk.has_improved):
            return
        walk.improvements = walk.improvements + 1 if walk.has_improved else 0
        if walk.improvements >= self._upscale_thresh and walk.plateau_steps == 0:
            most = self._stdev_init * 2**self._downscale_interval if self._stdev_max is None else self._stdev_max
            walk.deviation, walk.improvements = min(2 * walk.deviation, most), 0
        if not walk.has_improved and walk.plateau_steps < self._n_steps_plateau_walk:
            if walk.equals:
                walk.move(walk.equals[0])
            walk.plateau_steps += 1
            if walk.plateau_steps % self._downscale_interval == 0:
                walk.deviation = max(0.5 * walk.deviation, self._stdev_min)
        walk.is_over = walk.plateau_steps >= self._n_steps_plateau_walk
        if not walk.is_over:
            self._set_out(walk)
