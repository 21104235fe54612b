"""Tabular Q-learning: its grid, the update by hand, free steps, internal episodes, and what it finds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.base import Interface
from agents.legal_grid import LegalGrid, State
from agents.problem import Problem
from agents.sequential import Trial
from agents.tabular_q_learning import TabularQConfig, TabularQLearning, TabularQOptimizer, q_update
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES

GREEDY: dict[str, Any] = {"epsilon_start": 0.0, "epsilon_end": 0.0, "initial_value": 0.0}


def integers(dimension: int, last: int) -> SearchSpace:
    """Return a space of integers ``0 .. last``, which are the levels of its grid."""
    columns = tuple(Column(f"x{number}", "integer", 0, last, False, (), 0) for number in range(dimension))
    return SearchSpace(SpaceSpec(columns, {}))


class Episode:
    """An optimiser and what it is told."""

    def __init__(self, space: SearchSpace, seed: int = 0, **settings: Any) -> None:
        config = TabularQConfig(**settings)
        self.space, self.grid, self.number = space, LegalGrid(space, config.levels), 0
        self.optimizer = TabularQOptimizer(self.grid, config, Problem(space, budget=50), seed)

    def tell(self, u: Tensor, score: float) -> None:
        """Tell it a trial as an environment shows it: rounded to float32, inactive hyperparameters 0."""
        snapped = self.space.snap(u.float()[None])
        active = self.space.active(snapped)
        shown = (snapped * active)[0].double()
        self.optimizer.tell(Trial(self.number, shown, active[0], self.space.to_dicts(shown[None])[0], score, 1.0))
        self.number += 1

    def ask(self) -> State | None:
        """Return the state it asks for, ``None`` off the grid."""
        u = self.space.snap(self.optimizer.ask().u.float()[None])
        state, on_grid = self.grid.locate(u[0].double(), self.space.active(u)[0])
        return state if on_grid else None

    def play(self, score: Callable[[State], float], start: State, trials: int) -> list[State]:
        """Play on the grid; return the states of all trials, the start first."""
        self.tell(self.grid.point(start), score(start))
        visited = [start]
        for _ in range(trials - 1):
            state = self.ask()
            assert state is not None
            self.tell(self.optimizer.ask().u, score(state))
            visited.append(state)
        return visited


def environment(name: str, num_envs: int, **changes: Any) -> HPOVectorEnv:
    settings = {"action": "continuous", "observation": "history", "budget": 12, "start": "random"} | changes
    return HPOVectorEnv(num_envs, source=TINY_SUITES[name](), split="all", **settings)


def prepared(env: HPOVectorEnv, seed: int = 0, **settings: Any) -> TabularQLearning:
    agent = TabularQLearning(TabularQConfig(**settings), Interface.of(env), seed)
    agent.prepare(Problem.of(env))
    return agent


class TestTabularQLearning(AgentCase):
    """The published contract."""

    @pytest.fixture(params=["quadratic", "conditional", "fidelity"])
    def make_vector_env(self, request):
        return lambda num_envs: environment(request.param, num_envs, multi_fidelity=request.param == "fidelity")

    @pytest.fixture
    def make_agent(self):
        return lambda env, seed: prepared(env, seed)


def test_the_update_is_that_of_watkins_and_dayan():
    assert q_update(0.2, 0.1, [0.5, -0.3], 0.5, 0.9) == pytest.approx(0.2 + 0.5 * (0.1 + 0.9 * 0.5 - 0.2))
    assert q_update(0.2, 0.1, [], 0.5, 0.9) == pytest.approx(0.15), "nothing follows where no step is legal"


def test_values_of_a_walk_worked_by_hand():
    """Three points in a row of scores 0.1, 0.3, 0.2; alpha = 0.5, gamma = 0.9; from the middle it may step back."""
    scores = {(0,): 0.1, (1,): 0.3, (2,): 0.2}
    seen = set()
    for seed in range(20):
        episode = Episode(integers(1, 2), seed, learning_rate=0.5, discount=0.9, patience=5, **GREEDY)
        optimizer = episode.optimizer
        assert episode.play(scores.__getitem__, (0,), 3) == [(0,), (1,), (2,)]
        stepped_back = {2: False, 4: True}[optimizer.decisions]
        # 0 -> 1: 0.5 (0.2 + 0.9 * 0). Back, for free: 0.5 (-0.2 + 0.9 * 0.1); there again: 0.1 + 0.5 (0.2 - 0.1).
        assert optimizer.values((0,)) == pytest.approx({(1,): 0.15 if stepped_back else 0.1})
        # 1 -> 2: 0.5 (-0.1 + 0.9 * 0).
        assert optimizer.values((1,)) == pytest.approx({(0,): -0.055 if stepped_back else 0.0, (2,): -0.05})
        assert optimizer.values((2,)) == {(1,): 0.0}
        seen.add(stepped_back)
    assert seen == {False, True}, "ties are broken at random"


def test_settings_of_the_update_decide_the_values():
    episode = Episode(integers(1, 2), learning_rate=0.25, discount=0.5, initial_value=0.2)
    episode.play({(0,): 0.1, (1,): 0.3}.__getitem__, (0,), 2)
    assert episode.optimizer.values((0,)) == pytest.approx({(1,): 0.2 + 0.25 * (0.2 + 0.5 * 0.2 - 0.2)})


@pytest.mark.parametrize("seed", range(3))
def test_no_point_is_asked_for_twice_while_another_is_left(seed):
    space = TINY_SUITES["quadratic"]().space
    episode = Episode(space, seed, levels=4, cached_steps=5)
    visited = episode.play(lambda state: 0.1 * state[0] + 0.05 * state[1], (0, 0), 16)
    assert len(set(visited)) == 16, "the grid has 16 points"
    for _ in range(5):
        assert episode.ask() is None, "all of the grid is known"
        episode.tell(episode.optimizer.ask().u, 0.5)


def test_where_nothing_can_be_moved_it_asks_all_the_same():
    space = SearchSpace(SpaceSpec((Column("only", "categorical", choices=("a",), default="a", upper=0),), {}))
    episode = Episode(space)
    for _ in range(3):
        assert episode.ask() == (0,)
        episode.tell(episode.optimizer.ask().u, 0.5)


@pytest.mark.parametrize("settings", [{"patience": 1}, {"patience": 9, "episode_steps": 1}])
def test_an_internal_episode_begins_at_the_best_and_ends_without_improvement(settings):
    middle = (2, 2)
    around = {(1, 2), (3, 2), (2, 1), (2, 3)}
    for seed in range(5):
        visited = Episode(integers(2, 4), seed, levels=5, **GREEDY | settings).play(
            lambda s: float(s == middle), middle, 5
        )
        assert set(visited[1:]) == around


@pytest.mark.parametrize(("patience", "least", "most"), [(1, 0, 0), (3, 5, 10)])
def test_patience_walks_on_from_what_is_worse(patience, least, most):
    """Two neighbours of the middle are no neighbours of each other; the way back is one of four equal steps."""
    beyond = 0
    for seed in range(10):
        episode = Episode(integers(2, 4), seed, levels=5, patience=patience, **GREEDY)
        _, first, second = episode.play(lambda state: float(state == (2, 2)), (2, 2), 3)
        beyond += sum(abs(a - b) for a, b in zip(first, second, strict=True)) == 1
    assert least <= beyond <= most


def test_free_steps_wear_no_patience():
    """Both neighbours of the best are known, and worse: what is new lies behind them."""
    for seed in range(10):
        episode = Episode(integers(1, 6), seed, levels=7, patience=1, initial_value=0.5, cached_steps=1_000)
        for level, score in ((2, 0.1), (4, 0.1), (3, 0.9)):
            episode.tell(episode.grid.point((level,)), score)
        assert episode.ask() in {(1,), (5,)}


def test_it_jumps_where_everything_near_is_known():
    asked = set()
    for seed in range(40):
        episode = Episode(integers(1, 8), seed, levels=9, cached_steps=1)
        for level, score in ((1, 0.2), (0, 0.9)):
            episode.tell(episode.grid.point((level,)), score)
        asked.add(episode.ask())
        assert episode.ask() == episode.ask(), "asked twice, it answers alike"
    assert asked == {(level,) for level in range(2, 9)}


@pytest.mark.parametrize(("start", "end", "wasted"), [(0.0, 0.0, False), (1.0, 0.0, False), (1.0, 1.0, True)])
def test_epsilon_moves_over_decisions(start, end, wasted):
    """Around a best point greedy choices pass over the neighbours that are known to be worse; random ones do not."""
    decisions = 0
    for seed in range(10):
        settings = {"epsilon_start": start, "epsilon_end": end, "epsilon_decisions": 1, "initial_value": 0.0}
        episode = Episode(integers(2, 4), seed, levels=5, patience=1, **settings)
        episode.play(lambda state: float(state == (2, 2)), (2, 2), 5)
        decisions += episode.optimizer.decisions
    assert decisions > 45 if wasted else decisions == 40


def test_a_start_beside_the_grid_counts_as_its_nearest_point():
    space = TINY_SUITES["quadratic"]().space
    episode = Episode(space, levels=5)
    episode.tell(torch.tensor([0.45, 0.8]), 0.7)
    assert episode.optimizer.scores == {(2, 3): 0.7}
    assert episode.ask() in {(1, 3), (3, 3), (2, 2), (2, 4)}
    episode.tell(torch.tensor([0.5, 0.75]), 0.6)
    episode.tell(torch.tensor([0.55, 0.75]), 0.9)
    assert episode.optimizer.scores == {(2, 3): 0.6}, "what was evaluated itself is not replaced"


def test_states_of_a_conditional_space_are_legal_and_merged():
    space = TINY_SUITES["conditional"]().space
    grid = LegalGrid(space, 3)
    # linear: C, without shrinking; rbf: C x gamma x shrinking; poly: x degree.
    assert len(grid.every) == 3 + 3 * 3 * 2 + 3 * 3 * 3 * 2
    u = torch.stack([grid.point(state) for state in grid.every])
    assert bool(space.legal(u).all())
    forbidden = torch.tensor([1 / 6, 0.5, 0.5, 0.5, 0.75])
    assert grid.locate(forbidden, space.active(forbidden[None])[0]) == (None, False)
    episode = Episode(space)
    episode.tell(forbidden, 0.0)
    assert episode.optimizer.scores == {}


def test_its_steps_are_those_of_grid_step_actions():
    grid = LegalGrid(TINY_SUITES["conditional"]().space, 4)
    states = grid.every
    env = environment("conditional", len(states), action="grid_step", levels=4, observation="flat")
    start = torch.stack([grid.point(state) for state in states]).float()
    _, info = env.reset(seed=0, options={"start": start})
    mask = info["action_mask"]
    reached: list[list[State | None]] = [[] for _ in states]
    for action in range(mask.shape[1]):
        env.reset(seed=0, options={"start": start})
        observation = env.step(torch.full((len(states),), action))[0]
        width = len(grid.every[0])
        first = observation.shape[1] - 2 * width - 3
        u, active = observation[:, first : first + width], observation[:, first + width : first + 2 * width] > 0.5
        for row in mask[:, action].nonzero().squeeze(1).tolist():
            reached[row].append(grid.locate(u[row].double(), active[row])[0])
    assert reached == [grid.neighbours(state) for state in states]


@pytest.mark.parametrize("seed", range(4))
def test_on_a_conditional_space_everything_asked_for_is_legal_and_new(seed):
    space = TINY_SUITES["conditional"]().space
    episode = Episode(space, seed, levels=3)
    scores = {
        state: float(score)
        for state, score in zip(episode.grid.every, torch.rand(75, generator=generator(seed, "test")), strict=True)
    }
    visited = episode.play(scores.__getitem__, episode.grid.every[0], 75)
    assert sorted(visited) == sorted(scores), "legal states, each once"


def test_it_finds_the_best_of_a_convex_grid_far_sooner_than_random_draws():
    needed, drawn = [], []
    for seed in range(6):
        stream = generator(seed, "test")
        best = tuple(torch.randint(7, (3,), generator=stream).tolist())

        def score(state: State, best: State = best) -> float:
            return 1.0 - sum((a - b) ** 2 for a, b in zip(state, best, strict=True)) / 108.0

        start = (0, 6, 3) if best != (0, 6, 3) else (6, 0, 3)
        episode = Episode(integers(3, 6), seed, levels=7)
        needed.append(1 + episode.play(score, start, 120).index(best))
        order = torch.randperm(343, generator=stream).tolist()
        drawn.append(1 + order.index(best[0] * 49 + best[1] * 7 + best[2]))
    assert statistics.mean(needed) < 0.5 * statistics.mean(drawn)
    assert max(needed) < 120


def test_one_seed_is_one_walk():
    space = TINY_SUITES["quadratic"]().space

    def walk(seed: int) -> list[State]:
        return Episode(space, seed, levels=9).play(lambda state: 0.1 * state[0] - 0.02 * state[1] ** 2, (4, 4), 30)

    assert walk(0) == walk(0)
    assert walk(0) != walk(1)


def test_with_multi_fidelity_everything_is_evaluated_in_full():
    env = environment("fidelity", 3, multi_fidelity=True, budget=6)
    agent = prepared(env)
    observation, _ = env.reset(seed=0)
    draws = generator(0, "test")
    for _ in range(5):
        observation, _, terminated, _, _ = env.step(agent.act(observation, None, draws))
    assert bool(terminated.all()), "five more full evaluations are the budget"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", 1),
        ("levels", True),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("discount", 1.1),
        ("initial_value", 2.0),
        ("epsilon_start", -0.1),
        ("epsilon_end", float("nan")),
        ("epsilon_decisions", 0),
        ("episode_steps", 0),
        ("patience", 0),
        ("cached_steps", 0),
    ],
)
def test_an_impossible_setting_is_named(field, value):
    with pytest.raises(InvalidSettingError, match=f"{field}={value}"):
        TabularQConfig(**{field: value})
