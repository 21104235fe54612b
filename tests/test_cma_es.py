"""CMA-ES against the library alone, on floats and on everything else."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import cmaes
import numpy as np
import pytest
import torch
from baseline_episodes import final_regret, legal_trials
from torch import Tensor

from agents.base import Agent, Interface
from agents.cma_es import CMAES, CMAESConfig, CMAESOptimizer, MixedStrategy, unit_points
from agents.problem import Problem
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.sequential import Trial
from hpo_gym import load_suite
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import history_view
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES

SIGMA = 1.0 / 6.0

MIXED = SpaceSpec(
    columns=(
        Column("kind", "categorical", choices=("a", "b", "c"), default="a"),
        Column("layers", "integer", 1, 64, True, (), 8),
        Column("rate", "float", 1e-4, 1.0, True, (), 0.01),
        Column("depth", "integer", 2, 9, False, (), 3),
        Column("size", "ordinal", choices=("s", "m", "l"), default="m"),
        Column("fixed", "constant", choices=("x",), default="x"),
        Column("bit", "integer", 0, 1, False, (), 0),
        Column("many", "integer", 0, 10**6, False, (), 5),
    ),
    conditions={},
)


def environment(num_envs: int, tiny: str = "quadratic", budget: int = 12, **changes: Any) -> HPOVectorEnv:
    options = {"action": "continuous", "observation": "history", "start": "random", "split": "all"}
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), budget=budget, **(options | changes))


def prepared(env: HPOVectorEnv, seed: int = 0, config: CMAESConfig | None = None) -> CMAES:
    agent = CMAES(config or CMAESConfig(), Interface.of(env), seed)
    agent.prepare(Problem.of(env))
    return agent


class TestCMAES(AgentCase):
    """The published contract."""

    @pytest.fixture
    def make_vector_env(self) -> Callable[[int], HPOVectorEnv]:
        return environment

    @pytest.fixture
    def make_agent(self) -> Callable[[HPOVectorEnv, int], Agent]:
        return prepared


def trial_of(space: SearchSpace, number: int, u: Tensor, score: float) -> Trial:
    """Return a trial as an environment's history shows it."""
    snapped = space.snap(u[None].float())
    active = space.active(snapped)[0]
    shown = (snapped[0] * active).double()
    return Trial(number, shown, active, space.to_dicts(shown[None])[0], score, 1.0)


def loss(u: np.ndarray) -> float:
    """Return an ill-scaled bowl around (0.3, 0.7, 0.7, ...), in [0, 1]."""
    centre = np.where(np.arange(len(u)) == 0, 0.3, 0.7)
    return float(((u - centre) ** 2 / (1.0 + np.arange(len(u)))).mean())


def run(optimizer: CMAESOptimizer, space: SearchSpace, budget: int, first: int = 0) -> list[Tensor]:
    """Return what an optimiser suggests of :func:`loss`."""
    seen = []
    for number in range(first, first + budget):
        u = optimizer.ask().u
        seen.append(u)
        optimizer.tell(trial_of(space, number, u, 1.0 - loss(u.numpy())))
    return seen


def library_seed(seed: int) -> int:
    return stream_seed(seed, "cmaes", 0) % 2**32


def test_on_floats_suggestions_are_those_of_the_library_alone():
    space = SearchSpace(SpaceSpec(tuple(Column(f"x{i}", "float", -5.0, 5.0, False, (), 0.0) for i in range(4)), {}))
    start = torch.tensor([0.0, 0.9, 0.5, 0.25], dtype=torch.float64)
    optimizer = CMAESOptimizer(space, CMAESConfig(mean="start"), 3)
    optimizer.tell(trial_of(space, 0, start, 0.1))
    ours = run(optimizer, space, 43, 1)
    mean = start.float().double().numpy()
    library = cmaes.CMA(
        mean=mean, sigma=SIGMA, bounds=np.array([[0.0, 1.0]] * 4), n_max_resampling=40, seed=library_seed(3)
    )
    theirs: list[np.ndarray] = []
    for _ in range(6):
        generation = []
        for _ in range(library.population_size):
            point = library.ask()
            theirs.append(point)
            # The library minimises.
            generation.append((point, -(1.0 - loss(point))))
        library.tell(generation)
    assert library.population_size == 8
    np.testing.assert_array_equal(torch.stack(ours).numpy(), np.stack(theirs)[:43])


def test_with_integers_and_choices_suggestions_are_those_of_the_library_alone():
    space = SearchSpace(MIXED)
    optimizer = CMAESOptimizer(space, CMAESConfig(mean="start"), 4)
    start = space.default().double()
    optimizer.tell(trial_of(space, 0, start, 0.1))
    ours = run(optimizer, space, 50, 1)
    layers = [math.log(value) / math.log(64) for value in range(1, 65)]
    depth = [level / 7 for level in range(8)]
    size = [(position + 0.5) / 3 for position in range(3)]
    library = cmaes.CatCMAwM(
        x_space=[[0.0, 1.0]] * 2,
        z_space=[layers, depth, size],
        c_space=[3, 2],
        mean=start.float().double().numpy()[[2, 7, 1, 3, 4]],
        sigma=SIGMA,
        cov=np.eye(5),
        seed=library_seed(4),
    )
    theirs: list[list[float]] = []
    while len(theirs) < 50:
        generation = []
        for _ in range(library.population_size):
            solution = library.ask()
            kind, bit = (int(np.argmax(row)) for row in solution.c)
            (rate, many), (deep, wide, ordinal) = solution.x, solution.z
            u = [(kind + 0.5) / 3, deep, rate, wide, ordinal, 0.5, float(bit), many]
            theirs.append(u)
            generation.append((solution, -(1.0 - loss(np.array(u)))))
        library.tell(generation)
    np.testing.assert_allclose(torch.stack(ours).numpy(), np.array(theirs)[:50], rtol=0.0, atol=1e-12)


def test_every_value_of_an_integer_and_a_choice_is_a_value_of_the_library():
    space = SearchSpace(MIXED)
    for index, column in enumerate(space.spec.columns):
        points = unit_points(space, index)
        if column.kind in ("float", "constant") or column.name == "many":
            assert len(points) == 0
            continue
        u = torch.full((len(points), space.dimension), 0.5, dtype=torch.float64)
        u[:, index] = torch.from_numpy(points)
        lowest = int(column.lower) if column.is_numeric else 0
        expected = list(range(lowest, lowest + int(column.cardinality)))
        assert space.numbers(u)[:, index].tolist() == expected
        assert space.numbers(u.float())[:, index].tolist() == expected, "and after the environment's rounding"


def test_the_first_generation_is_centred_as_the_library_does():
    space = SearchSpace(SpaceSpec(tuple(Column(f"x{i}", "float", 0.0, 1.0, False, (), 0.0) for i in range(2)), {}))
    optimizer = CMAESOptimizer(space, CMAESConfig(sigma=0.02, population=200), 0)
    optimizer.tell(trial_of(space, 0, torch.tensor([0.8, 0.3], dtype=torch.float64), 0.9))
    points = torch.stack(run(optimizer, space, 199, 1))
    torch.testing.assert_close(points.mean(0), torch.full((2,), 0.5).double(), atol=0.006, rtol=0.0)


def test_the_first_generation_is_centred_on_the_best_start_on_request():
    space = SearchSpace(SpaceSpec(tuple(Column(f"x{i}", "float", 0.0, 1.0, False, (), 0.0) for i in range(2)), {}))
    for start in ([0.8, 0.3], [0.5, 0.6]):
        optimizer = CMAESOptimizer(space, CMAESConfig(sigma=0.02, population=200, mean="start"), 0)
        for other, score in ((start, 0.9), ([0.1, 0.1], 0.2)):
            optimizer.tell(trial_of(space, 0, torch.tensor(other, dtype=torch.float64), score))
        points = torch.stack(run(optimizer, space, 199, 1))
        torch.testing.assert_close(points.mean(0), torch.tensor(start).double(), atol=0.006, rtol=0.0)
        torch.testing.assert_close(points.std(0), torch.full((2,), 0.02).double(), atol=0.004, rtol=0.0)


def test_only_what_was_asked_for_is_part_of_a_generation():
    space = TINY_SUITES["quadratic"]().space
    disturbed, quiet = (CMAESOptimizer(space, CMAESConfig(), 1) for _ in range(2))
    start = trial_of(space, 0, torch.tensor([0.2, 0.2]).double(), 0.3)
    for optimizer in (disturbed, quiet):
        optimizer.tell(start)
    first = run(disturbed, space, 5, 1)
    assert torch.equal(torch.stack(first), torch.stack(run(quiet, space, 5, 1)))
    # A trial that nobody asked for changes nothing; one instead of what was asked for is not learned.
    stray = trial_of(space, 6, torch.tensor([0.9, 0.9]).double(), 1.0)
    disturbed.tell(stray)
    assert torch.equal(torch.stack(run(disturbed, space, 9, 7)), torch.stack(run(quiet, space, 9, 7)))
    disturbed.ask()
    disturbed.tell(stray)
    assert len(disturbed._generation) == len(quiet._generation)


@pytest.mark.parametrize("tiny", ["quadratic", "conditional"])
def test_a_run_that_stops_begins_again_elsewhere(tiny, recwarn):
    """On a plateau the library stops after some generations without any difference."""
    space = TINY_SUITES[tiny]().space
    optimizer = CMAESOptimizer(space, CMAESConfig(population=4), 0)
    optimizer.tell(trial_of(space, 0, space.default().double(), 0.5))
    before = optimizer._mean.clone()
    seen = []
    for number in range(1, 500):
        u = optimizer.ask().u
        seen.append(u)
        optimizer.tell(trial_of(space, number, u, 0.5))
        if optimizer.restarts == 2:
            break
    assert optimizer.restarts == 2
    assert not torch.equal(optimizer._mean, before)
    assert bool(torch.isfinite(torch.stack(seen)).all())
    assert [str(one.message) for one in recwarn] == []


def test_conditional_spaces_are_searched_by_their_own_kinds(recwarn):
    env = environment(4, "conditional", budget=40)
    agent = prepared(env)
    observation, _ = env.reset(seed=0)
    draws = generator(0, "test")
    for _ in range(38):
        observation, *_ = env.step(agent.act(observation, None, draws))
    assert isinstance(observation, dict)
    history = history_view(observation, observation["mask"].shape[1], 5)
    space = env.suite.space
    for episode, row in enumerate(agent._episodes):
        optimizer = row.optimizer
        assert isinstance(optimizer, CMAESOptimizer) and isinstance(optimizer._strategy, MixedStrategy)
        # 39 trials were shown, 37 of the 38 suggestions told: whole generations were learned, the rest waits.
        assert optimizer._strategy._cma.generation == 37 // optimizer._strategy.population
        u, count = history["u"][episode], int(history["mask"][episode].sum())
        snapped = space.snap(u[:count])
        torch.testing.assert_close(snapped * space.active(snapped), u[:count], rtol=0.0, atol=1e-6)
        assert torch.equal(space.active(snapped).float(), history["active"][episode, :count])
    assert [str(one.message) for one in recwarn] == []


@pytest.mark.parametrize(
    "columns",
    [
        (Column("x", "float", 0.0, 1.0, False, (), 0.5),),
        (Column("n", "integer", 1, 9, False, (), 5),),
        (Column("c", "categorical", choices=("a", "b"), default="a"),),
        (Column("c", "categorical", choices=("a", "b", "c"), default="a"), Column("n", "integer", 1, 9, False, (), 5)),
    ],
)
def test_small_spaces_of_any_kind_work(columns):
    space = SearchSpace(SpaceSpec(columns, {}))
    optimizer = CMAESOptimizer(space, CMAESConfig(), 0)
    optimizer.tell(trial_of(space, 0, space.default().double(), 0.5))
    points = torch.stack(run(optimizer, space, 40, 1))
    assert bool(((points >= 0.0) & (points <= 1.0)).all())
    assert len(points.unique(dim=0)) > 1


def test_a_space_of_nothing_to_choose_is_refused():
    space = SearchSpace(SpaceSpec((Column("c", "constant", choices=("x",), default="x"),), {}))
    with pytest.raises(InvalidSettingError, match="nothing to choose"):
        CMAESOptimizer(space, CMAESConfig(), 0)


def test_better_than_random_search_on_the_bowl():
    env = environment(16, budget=40)
    random = RandomSearch(RandomSearchConfig(), Interface.of(env))
    baseline = sum(final_regret(random, env, seed) for seed in range(5)) / 5
    assert final_regret(prepared(env), env, 0) < 0.5 * baseline


@pytest.mark.parametrize("space", ["rpart", "ranger"])
def test_better_than_random_search_on_validation_datasets(space):
    suite = load_suite("bundled", space)
    env = HPOVectorEnv(16, source=suite, split="val", action="continuous", observation="history", budget=40)
    random = RandomSearch(RandomSearchConfig(), Interface.of(env))
    baseline = sum(final_regret(random, env, seed) for seed in range(3)) / 3
    assert sum(final_regret(prepared(env), env, seed) for seed in range(3)) / 3 < 0.85 * baseline


def test_a_prepared_agent_travels_to_other_processes():
    env = environment(3, "conditional")
    agent = prepared(env)
    twin = pickle.loads(pickle.dumps(agent))
    assert final_regret(agent, env, 2) == final_regret(twin, env, 2)


def test_with_fidelities_every_evaluation_is_asked_for_in_full():
    env = environment(2, "fidelity", multi_fidelity=True)
    agent, draws = prepared(env), generator(0, "test")
    observation, _ = env.reset(seed=0)
    for _ in range(11):
        action = agent.act(observation, None, draws)
        assert action[:, -1].tolist() == [1.0, 1.0]
        observation, *_ = env.step(action)


def test_the_global_generators_are_left_alone():
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    space = SearchSpace(MIXED)
    run(CMAESOptimizer(space, CMAESConfig(), 0), space, 20)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value"),
    [("sigma", 0.0), ("sigma", float("nan")), ("population", 3), ("population", -1), ("population", 8.0)],
)
def test_impossible_settings_are_named(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        CMAESConfig(**{field: value})


@pytest.mark.parametrize("heeded", [True, False])
def test_what_is_forbidden_is_drawn_again(heeded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(1, "conditional", budget=60)
    if not heeded:
        monkeypatch.setattr("agents.cma_es._MOST_FORBIDDEN", 0)
    assert all(legal_trials(prepared(env), env, 59)) is heeded
