"""Covariance matrix adaptation: CMA-ES, and CatCMA with margin where a space has integers or choices.

Hansen (2016), "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; Hamano et al. (2025), "CatCMA with Margin
for Single- and Multi-Objective Mixed-Variable Black-Box Optimization", arXiv 2504.07884; both as in the library
``cmaes`` (Nomura and Shibata, 2024, arXiv 2402.01373).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import InvalidSettingError, require_integer, unknown_name
from hpo_gym.seeding import numpy_generator, stream_seed
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column

__all__ = ["CMAES", "CMAESConfig", "CMAESOptimizer", "ContinuousStrategy", "MixedStrategy", "Strategy"]

#: Integers of more values are continuous to the library: their steps are finer than what float32 points resolve well.
_MOST_LEVELS = 2**16
_SEEDS = 2**32
# So many forbidden solutions in a row are drawn again, as the library draws those outside of its bounds.
_MOST_FORBIDDEN = 100

_MEANS = ("centre", "start")


@dataclass(frozen=True)
class CMAESConfig:
    """Configuration of :class:`CMAES`.

    Args:
        sigma: Standard deviation of the first generation in the unit cube; a sixth of the range is what Optuna's
            ``CmaEsSampler`` uses.
        population: Configurations per generation; 0 is the library's ``4 + floor(3 ln D)``.
        mean: Where the first generation is drawn around: the ``centre`` of the unit cube, as Optuna's
            ``CmaEsSampler`` and the library do, or the best trial that was told before (``start``), which as a rule
            is the start that all methods share.
    """

    sigma: float = 1.0 / 6.0
    population: int = 0
    mean: str = "centre"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0.0):
            raise InvalidSettingError(f"sigma={self.sigma!r} must be a number > 0; try {1.0 / 6.0:.3f}.")
        if self.mean not in _MEANS:
            raise unknown_name("mean", self.mean, _MEANS)
        require_integer("population", self.population, 0)
        if 0 < self.population < 4:
            raise InvalidSettingError(
                f"population={self.population} is too small to rank; use at least 4, or 0 for the library's choice."
            )


class CMAES(SequentialAgent):
    """CMA-ES by generations.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "cmaes"
    # 3: forbidden solutions are drawn again.
    version: ClassVar[int] = 3
    libraries: ClassVar[tuple[str, ...]] = ("cmaes",)
    config: CMAESConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        return CMAESOptimizer(problem.space, self.config, seed)


class Strategy(ABC):
    """One run of a library's optimiser, in the unit cube."""

    #: Configurations per generation.
    population: int

    @abstractmethod
    def ask(self) -> tuple[Any, Tensor]:
        """Return a solution in the library's own form, and its point of the unit cube, float64 ``[D]``."""

    @abstractmethod
    def tell(self, generation: list[tuple[Any, float]]) -> None:
        """Learn a generation: solutions with their loss, which is minimised."""

    @abstractmethod
    def should_stop(self) -> bool:
        """Whether the run has converged or cannot go on."""


class CMAESOptimizer(Optimizer):
    """CMA-ES for one episode.

    Args:
        space: The search space.
        config: See there.
        seed: Root of its random numbers.

    Raises:
        InvalidSettingError: If every hyperparameter has a single value.
    """

    def __init__(self, space: SearchSpace, config: CMAESConfig, seed: int) -> None:
        if all(column.cardinality == 1 for column in space.spec.columns):
            raise InvalidSettingError(
                f"The search space of {list(space.names)} leaves nothing to choose: every hyperparameter has a single "
                "value. Widen it, or evaluate agent 'default'."
            )
        self._space, self._config, self._seed = space, config, seed
        self._strategy: Strategy | None = None
        self._mean = torch.full((space.dimension,), 0.5, dtype=torch.float64)
        self._best_start = -math.inf
        self._asked: tuple[Any, Tensor] | None = None
        self._generation: list[tuple[Any, float]] = []
        #: Runs that ended before the episode did.
        self.restarts = 0

    def ask(self) -> Suggestion:
        if self._strategy is None:
            self._strategy = self._start()
        self._asked = self._draw(self._strategy)
        return Suggestion(self._asked[1])

    def _draw(self, strategy: Strategy) -> tuple[Any, Tensor]:
        """Return a solution that the search space allows, if one of the first hundred is."""
        solution, point = strategy.ask()
        for _ in range(_MOST_FORBIDDEN if self._space.has_forbidden else 0):
            if bool(self._space.legal(self._space.snap(point[None].float()))):
                break
            solution, point = strategy.ask()
        return solution, point

    def tell(self, trial: Trial) -> None:
        asked, self._asked = self._asked, None
        if self._strategy is None:
            # What all methods share comes before the first generation, and is part of none.
            if self._config.mean == "start" and trial.score > self._best_start:
                self._best_start = trial.score
                self._mean = torch.where(trial.active, trial.u, 0.5)
            return
        if asked is None or not trial.answers(asked[1], self._space):
            # A generation is a sample of the library's own distribution; nothing else belongs into it.
            return
        self._generation.append((asked[0], -trial.score))
        if len(self._generation) == self._strategy.population:
            self._strategy.tell(self._generation)
            self._generation = []
            if self._strategy.should_stop():
                self._restart()

    def _start(self) -> Strategy:
        seed = stream_seed(self._seed, "cmaes", self.restarts) % _SEEDS
        numeric = all(column.kind == "float" for column in self._space.spec.columns)
        make = ContinuousStrategy if numeric else MixedStrategy
        return make(self._space, self._mean.numpy(), self._config, seed)

    def _restart(self) -> None:
        """Begin again elsewhere: the same place would lead to the same end."""
        self.restarts += 1
        draws = numpy_generator(self._seed, "cmaes", "mean", self.restarts)
        self._mean = torch.from_numpy(draws.random(self._space.dimension))
        self._strategy = self._start()


class ContinuousStrategy(Strategy):
    """``cmaes.CMA`` in the unit cube; points outside are drawn again, at last clipped, by the library.

    Args:
        space: A space of floats.
        mean: Where the first generation is centred, float64 ``[D]``.
        config: See there.
        seed: In ``[0, 2**32)``.
    """

    def __init__(self, space: SearchSpace, mean: np.ndarray, config: CMAESConfig, seed: int) -> None:
        import cmaes  # type: ignore[import-untyped]

        self._cma = cmaes.CMA(
            mean=np.array(mean),
            sigma=config.sigma,
            bounds=np.tile([0.0, 1.0], (space.dimension, 1)),
            n_max_resampling=10 * space.dimension,
            seed=seed,
            population_size=config.population or None,
        )
        self.population = self._cma.population_size

    def ask(self) -> tuple[Any, Tensor]:
        point = self._cma.ask()
        return point, torch.from_numpy(point.copy())

    def tell(self, generation: list[tuple[Any, float]]) -> None:
        self._cma.tell(generation)

    def should_stop(self) -> bool:
        return bool(self._cma.should_stop())


class MixedStrategy(Strategy):
    """``cmaes.CatCMAwM``: floats, integers with a margin, and categorical distributions, together.

    All numbers live in the unit cube. The values of an integer are the points that decode to them, which are
    equally spaced on a linear scale and dense at the top on a logarithmic one; ordinal choices are integers. Two values
    alone are a choice, as the library asks for. What is inactive keeps the value the library drew: it has no effect
    on the outcome, as on the library's side a coordinate that selection does not see.

    Args:
        space: Any space with something to choose.
        mean: Where the first generation is centred, float64 ``[D]``; choices begin uniformly.
        config: See there.
        seed: In ``[0, 2**32)``.
    """

    def __init__(self, space: SearchSpace, mean: np.ndarray, config: CMAESConfig, seed: int) -> None:
        import cmaes

        columns = space.spec.columns
        kinds = [kind_of(column) for column in columns]
        self._floats, self._integers, self._choices = (
            [index for index, kind in enumerate(kinds) if kind == wanted] for wanted in ("x", "z", "c")
        )
        self._points = [unit_points(space, index) for index in range(len(columns))]
        gaussian = [*self._floats, *self._integers]
        self._cma = cmaes.CatCMAwM(
            x_space=[[0.0, 1.0] for _ in self._floats] or None,
            z_space=[self._points[index].tolist() for index in self._integers] or None,
            c_space=[len(self._points[index]) for index in self._choices] or None,
            population_size=config.population or None,
            mean=mean[gaussian].copy() if gaussian else None,
            sigma=config.sigma if gaussian else None,
            # The library's own makes a mean on a bound a variance of 0.
            cov=np.eye(len(gaussian)) if gaussian else None,
            seed=seed,
        )
        self.population = self._cma.population_size
        self._gaussian = bool(gaussian)
        self._single = torch.full((len(columns),), 0.5, dtype=torch.float64)

    def ask(self) -> tuple[Any, Tensor]:
        solution = self._cma.ask()
        u = self._single.clone()
        for indices, values in ((self._floats, solution.x), (self._integers, solution.z)):
            if indices:
                u[indices] = torch.from_numpy(np.array(values, dtype=np.float64))
        for index, one_hot in zip(self._choices, solution.c if self._choices else (), strict=True):
            u[index] = float(self._points[index][int(np.argmax(one_hot))])
        return solution, u

    def tell(self, generation: list[tuple[Any, float]]) -> None:
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # A first generation in which (almost) all is equal has no spread to scale a penalty with: the library's
            # median of nothing is NaN, and leaves the ranking as it was.
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            self._cma.tell(generation)

    def should_stop(self) -> bool:
        return self._gaussian and bool(self._cma.should_stop())


def kind_of(column: Column) -> str:
    """Return what a hyperparameter is to the library: ``x``, ``z``, ``c``, or nothing for a single value."""
    if column.cardinality == 1:
        return ""
    if column.kind == "float" or column.cardinality > _MOST_LEVELS:
        return "x"
    return "c" if column.kind == "categorical" or column.cardinality == 2 else "z"


def unit_points(space: SearchSpace, index: int) -> np.ndarray:
    """Return the points of one hyperparameter's unit interval that decode to its values, in rising order."""
    column = space.spec.columns[index]
    if kind_of(column) in ("", "x"):
        return np.empty(0)
    count = int(column.cardinality)
    numbers = torch.full((count, space.dimension), torch.nan, dtype=torch.float64)
    numbers[:, index] = torch.arange(count, dtype=torch.float64) + (column.lower if column.is_numeric else 0.0)
    points: np.ndarray = space.encode(numbers)[:, index].numpy()
    return points
