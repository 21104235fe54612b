"""Tabular Q-learning that tunes one task within one episode, without any training before.

After Qi and Xu (2022), "Hyperparameter optimization of neural networks based on Q-learning", Signal, Image and Video
Processing, doi 10.1007/s11760-022-02377-y: the table is updated while one network is tuned, with modified initial
states and termination conditions. No more than that is known to us; states, actions, reward, the rules of initial
states and ends, and every number are our reading. The update is that of Watkins and Dayan (1992), "Q-learning", Machine
Learning 8, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from agents.legal_grid import LegalGrid, State
from agents.problem import Problem
from agents.schedules import LinearSchedule
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator

__all__ = ["TabularQConfig", "TabularQLearning", "TabularQOptimizer", "q_update"]

# Grid points drawn before the grid is searched for one that was not evaluated yet.
_DRAWS = 16

# A larger grid is never listed: so many evaluations do not exhaust it.
_LARGEST_LISTED = 2**16

# Random numbers drawn at once.
_BLOCK = 256


@dataclass(frozen=True)
class TabularQConfig:
    """Configuration of :class:`TabularQLearning`.

    Args:
        levels: Grid levels per numeric hyperparameter, at least 2; choices are all levels.
        learning_rate: ``alpha``, in ``(0, 1]``.
        discount: ``gamma``, in ``[0, 1]``.
        initial_value: Value of a step that was never taken, in ``[-1, 1]`` as rewards are: changes of a score in
            ``[0, 1]``. Above 0 is optimistic; at 0 nothing depends on the scale of the scores.
        epsilon_start: Probability of a random legal step at the first decision, in ``[0, 1]``.
        epsilon_end: The same from ``epsilon_decisions`` on.
        epsilon_decisions: Decisions over which it moves, linearly, at least 1; free steps are decisions, too.
        episode_steps: Most steps of an internal episode, at least 1.
        patience: Evaluations in a row without a new best score of an internal episode that end it, at least 1. Free
            steps cost nothing, and wear no patience.
        cached_steps: Steps in a row to evaluated grid points before it jumps to a random one that was not, at least 1.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    levels: int = 4
    learning_rate: float = 0.5
    discount: float = 0.9
    initial_value: float = 0.1
    epsilon_start: float = 0.3
    epsilon_end: float = 0.05
    epsilon_decisions: int = 50
    episode_steps: int = 20
    patience: int = 1
    cached_steps: int = 30

    def __post_init__(self) -> None:
        require_integer("levels", self.levels, 2, "a step needs two levels")
        if not 0.0 < self.learning_rate <= 1.0:
            raise InvalidSettingError(
                f"learning_rate={self.learning_rate!r} must lie in (0, 1]: it is the share of a new target in a value; "
                "1 fits scores without noise."
            )
        if not 0.0 <= self.discount <= 1.0:
            raise InvalidSettingError(f"discount={self.discount!r} must lie in [0, 1]; 0 looks one step ahead.")
        if not -1.0 <= self.initial_value <= 1.0:
            raise InvalidSettingError(
                f"initial_value={self.initial_value!r} must lie in [-1, 1], as changes of a score do; use 0 for "
                "neither optimism nor pessimism."
            )
        for name in ("epsilon_start", "epsilon_end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettingError(
                    f"{name}={getattr(self, name)!r} must lie in [0, 1]: it is a probability; 0 is greedy."
                )
        for name in ("epsilon_decisions", "episode_steps", "patience", "cached_steps"):
            require_integer(name, getattr(self, name), 1)


def q_update(value: float, reward: float, following: list[float], learning_rate: float, discount: float) -> float:
    """Return ``Q + alpha (r + gamma max Q' - Q)``.

    Args:
        value: ``Q`` of the step that was taken.
        reward: ``r``.
        following: Values of the legal steps from where it led; without any, nothing follows.
        learning_rate: ``alpha``.
        discount: ``gamma``.
    """
    target = reward + discount * max(following, default=0.0)
    return value + learning_rate * (target - value)


@dataclass
class _Place:
    """A visited state: where its legal steps lead, and what each is worth."""

    neighbours: list[State]
    values: list[float]


@dataclass
class _Walk:
    """An internal episode."""

    state: State
    best: float
    steps: int = 0
    without_best: int = 0


@dataclass(frozen=True)
class _Wanted:
    """What is to be evaluated next.

    Args:
        suggestion: The point.
        state: ``None`` off the grid.
        step: Number of the step that leads there; ``None`` for a jump.
    """

    suggestion: Suggestion
    state: State | None
    step: int | None


class TabularQOptimizer(Optimizer):
    """One episode: a walk over the grid that knows the score of every point it evaluated.

    A trial that was not asked for counts as its nearest grid point, where that was not evaluated itself; the next
    internal episode begins at the best of all.

    Args:
        grid: Where it walks.
        config: The agent's configuration.
        problem: Whose space the grid is of.
        seed: Root of its random numbers.

    Attributes:
        scores: Score of every grid point that was evaluated.
        decisions: Steps chosen so far, free ones included.
    """

    def __init__(self, grid: LegalGrid, config: TabularQConfig, problem: Problem, seed: int) -> None:
        self._grid, self._config, self._space = grid, config, problem.space
        self._epsilon = LinearSchedule(config.epsilon_start, config.epsilon_end, config.epsilon_decisions)
        self._draws = generator(seed, "agent", "act")
        self._uniform = _uniform_numbers(self._draws)
        self._table: dict[State, _Place] = {}
        self.scores: dict[State, float] = {}
        self.decisions = 0
        self._best: State | None = None
        self._walk: _Walk | None = None
        self._wanted: _Wanted | None = None
        self._exhausted = False

    def ask(self) -> Suggestion:
        if self._wanted is None:
            self._wanted = self._walk_on() or self._jump()
        return self._wanted.suggestion

    def tell(self, trial: Trial) -> None:
        wanted, self._wanted = self._wanted, None
        state, on_grid = self._grid.locate(trial.u, trial.active, None if wanted is None else wanted.state)
        if state is not None and (on_grid or state not in self.scores):
            self.scores[state] = trial.score
            # Of equals the latest, so that it drifts across plateaus.
            self._best = max(reversed(self.scores), key=self.scores.__getitem__)
        if state is None or wanted is None or wanted.state != state:
            self._walk = None
        elif wanted.step is None:
            self._walk = _Walk(state, trial.score)
        else:
            self._take(wanted.step, state, charged=True)

    def values(self, state: State) -> dict[State, float]:
        """Return what the legal steps from a state are worth, by where they lead."""
        place = self._place(state)
        return dict(zip(place.neighbours, place.values, strict=True))

    def _walk_on(self) -> _Wanted | None:
        """Walk until a step leads to a point that was not evaluated; ``None`` if that takes too long."""
        if self._exhausted or self._best is None:
            return None
        for _ in range(self._config.cached_steps):
            if self._walk is None:
                self._walk = _Walk(self._best, self.scores[self._best])
            place = self._place(self._walk.state)
            if not place.neighbours:
                return None
            step = self._choose(place.values)
            target = place.neighbours[step]
            if target not in self.scores:
                return _Wanted(Suggestion(self._grid.point(target)), target, step)
            self._take(step, target, charged=False)
        return None

    def _choose(self, values: list[float]) -> int:
        """Return a step by epsilon-greedy, ties broken at random."""
        explores = next(self._uniform) < self._epsilon(self.decisions)
        self.decisions += 1
        most = max(values)
        steps = [step for step, value in enumerate(values) if explores or value == most]
        return steps[int(next(self._uniform) * len(steps))]

    def _take(self, step: int, target: State, charged: bool) -> None:
        """Learn from a step of the walk to an evaluated point, and stand there.

        Args:
            step: Its number.
            target: Where it leads.
            charged: Whether the point was evaluated for it.
        """
        walk, config, score = self._walk, self._config, self.scores[target]
        assert walk is not None  # whoever takes a step walks
        values = self._place(walk.state).values
        reward, following = score - self.scores[walk.state], self._place(target).values
        # The end of an internal episode says nothing about the state it ends in: its value is not cut off.
        values[step] = q_update(values[step], reward, following, config.learning_rate, config.discount)
        walk.state, walk.steps = target, walk.steps + 1
        walk.without_best = 0 if score > walk.best else walk.without_best + charged
        walk.best = max(walk.best, score)
        if walk.without_best >= config.patience or walk.steps >= config.episode_steps:
            self._walk = None

    def _jump(self) -> _Wanted:
        """Return a random legal grid point that was not evaluated or, without any, a random configuration."""
        state = None if self._exhausted else self._unknown()
        point = self._space.sample(1, self._draws)[0].double() if state is None else self._grid.point(state)
        return _Wanted(Suggestion(point), state, None)

    def _unknown(self) -> State | None:
        """Return a random legal grid point that was not evaluated, ``None`` if none was found."""
        for _ in range(_DRAWS):
            state = self._grid.drawn([next(self._uniform) for _ in range(self._space.dimension)])
            if state is not None and state not in self.scores:
                return state
        if self._grid.size > _LARGEST_LISTED:
            return None
        left = [state for state in self._grid.every if state not in self.scores]
        self._exhausted = not left
        return left[int(next(self._uniform) * len(left))] if left else None

    def _place(self, state: State) -> _Place:
        place = self._table.get(state)
        if place is None:
            neighbours = self._grid.neighbours(state)
            place = self._table[state] = _Place(neighbours, [self._config.initial_value] * len(neighbours))
        return place


def _uniform_numbers(draws: torch.Generator) -> Iterator[float]:
    """Yield uniform random numbers in ``[0, 1)``: one call of torch for many."""
    while True:
        yield from torch.rand(_BLOCK, generator=draws, dtype=torch.float64).tolist()


class TabularQLearning(SequentialAgent):
    """Q-learning over single grid steps, the reward of a step being the change of the score.

    A grid point that was evaluated is not evaluated again: a step there is free, is learned from like any other, and
    the walk goes on until it wants a point that is new. Internal episodes begin at the best configuration so far and
    end when they stop improving on it. With multi-fidelity everything is evaluated in full.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "tabular_q"
    config: TabularQConfig

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        self._grid = LegalGrid(problem.space, self.config.levels)

    def make_optimizer(self, problem: Problem, seed: int) -> TabularQOptimizer:
        return TabularQOptimizer(self._grid, self.config, problem, seed)
