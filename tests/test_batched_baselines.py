"""Baselines that act on histories in batches: default, grid, local search, differential evolution, SBOA."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.base import Interface
from agents.contenders import as_contender
from agents.default_only import DefaultOnly, DefaultOnlyConfig
from agents.differential_evolution import (
    DifferentialEvolution,
    DifferentialEvolutionConfig,
    binomial_crossover,
    mutant,
)
from agents.grid_search import GridSearch, GridSearchConfig, automatic_levels
from agents.local_search import LocalSearch, LocalSearchConfig, Neighbourhood
from agents.populations import HistoryAgent, Trials, distinct_members, first_of_each
from agents.portfolio import Portfolio, PortfolioConfig
from agents.problem import Problem, TrainingTasks
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.sboa import LEVY_SIGMA, SBOA, SBOAConfig, escape, hunt, levy
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import evaluate
from hpo_gym.seeding import generator
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES, BowlSurrogate

CONFIGS: dict[type[HistoryAgent], Any] = {
    DefaultOnly: DefaultOnlyConfig(),
    GridSearch: GridSearchConfig(),
    Portfolio: PortfolioConfig(candidates=200),
    LocalSearch: LocalSearchConfig(),
    DifferentialEvolution: DifferentialEvolutionConfig(),
    SBOA: SBOAConfig(),
}

every_agent = pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.name)


def environment(tiny: str, num_envs: int, budget: int = 12, **settings: Any) -> HPOVectorEnv:
    given = {"action": "continuous", "observation": "history", "budget": budget, "start": "random"} | settings
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), split="all", **given)


def make(kind: type[HistoryAgent], env: HPOVectorEnv, seed: int = 0, config: Any = None) -> Any:
    agent = kind(config or CONFIGS[kind], Interface.of(env), seed, env.device)
    agent.prepare(Problem.of(env, TrainingTasks(env.suite, env.engine.tasks)))
    return agent


class TestBatchedAgents(AgentCase):
    """The published contract, for every one of them on every tiny suite."""

    @pytest.fixture(params=sorted(TINY_SUITES))
    def make_vector_env(self, request):
        return lambda num_envs: environment(
            request.param, num_envs, multi_fidelity=request.param == "fidelity", start="none"
        )

    @pytest.fixture(params=list(CONFIGS), ids=lambda kind: kind.name)
    def make_agent(self, request):
        return lambda env, seed: make(request.param, env, seed)


def trials_of(u: Any, score: Any, active: Tensor | None = None, length: int | None = None) -> Trials:
    """Return the history of one episode, ``u`` ``[t, D]``, padded to ``length``."""
    u, score = torch.as_tensor(u).float()[None], torch.as_tensor(score).float()[None]
    missing = (length or u.shape[1]) - u.shape[1]
    active = torch.ones_like(u, dtype=torch.bool) if active is None else active[None]
    pad = torch.nn.functional.pad
    done = pad(torch.ones_like(score, dtype=torch.bool), (0, missing))
    return Trials(pad(u, (0, 0, 0, missing)), pad(active, (0, 0, 0, missing)), pad(score, (0, missing)), done)


def repeated(one: Trials, rows: int) -> Trials:
    """Return the history of one episode as that of many."""
    blocks = (getattr(one, field.name) for field in dataclasses.fields(one))
    return Trials(*(block.expand(rows, *block.shape[1:]) for block in blocks))


def test_of_equal_rows_the_first_is_found_in_the_order_of_the_rows():
    assert first_of_each(torch.tensor([5, 2, 5, 9, 2, 0])).tolist() == [5, 1, 0, 3]
    rows = torch.tensor([[0.5, 0.1], [0.0, 0.9], [0.5, 0.1], [0.0, 0.2], [0.0, 0.9]])
    assert first_of_each(rows).tolist() == [3, 1, 0]


@every_agent
def test_no_proposal_is_forbidden(kind):
    env = environment("conditional", 100, budget=26)
    agent, draws = make(kind, env), generator(0, "test")
    observation, _ = env.reset(seed=0)
    for _ in range(25):
        observation, _, _, _, info = env.step(agent.act(observation, None, draws))
        assert bool(info["legal"].all())


@every_agent
@pytest.mark.parametrize("start", ["none", "default"])
def test_nothing_is_remembered_between_calls(kind, start):
    env = environment("conditional", 8, budget=16, start=start)
    played, untouched = make(kind, env), make(kind, env)
    observation, _ = env.reset(seed=0)
    draws = generator(0, "test")
    for step in range(14):
        before = {name: block.clone() for name, block in observation.items()}
        action = played.act(observation, None, draws)
        assert all(torch.equal(before[name], block) for name, block in observation.items())
        again = [agent.act(observation, None, generator(step, "test")) for agent in (played, untouched)]
        assert torch.equal(again[0], again[1])
        observation = env.step(action)[0]


@every_agent
def test_every_evaluation_is_a_full_one(kind):
    env = environment("fidelity", 16, budget=6, multi_fidelity=True, start="none")
    agent, draws = make(kind, env), generator(0, "test")
    observation, _ = env.reset(seed=0)
    for trial in range(1, 7):
        observation, _, done, _, info = env.step(agent.act(observation, None, draws))
        seen = info["final_info"] if trial == 6 else info
        assert bool((seen["fidelity"] == 1.0).all()) and bool(done.all()) == (trial == 6)


@every_agent
def test_a_seed_repeats_every_record_and_another_does_not(kind):
    def records(seed: int) -> Any:
        env = environment("conditional", 1, budget=14)
        contender = as_contender(make(kind, env))
        frame = evaluate(contender, env.suite, split="all", seeds=2, seed=seed, budget=14).frame
        return frame.drop(columns="agent_seconds", errors="ignore")

    first = records(0)
    assert first.equals(records(0))
    if kind not in (DefaultOnly, Portfolio):  # what these play is no matter of chance
        assert not first["score"].equals(records(1)["score"])


@every_agent
def test_it_must_be_prepared_and_shown_a_history(kind):
    env = environment("quadratic", 2)
    agent = kind(CONFIGS[kind], Interface.of(env))
    observation, _ = env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"Problem\.of"):
        agent.act(observation, None, generator(0, "test"))
    with pytest.raises(InvalidSettingError, match=r"env\.observation=history"):
        kind(CONFIGS[kind], Interface.of(environment("quadratic", 2, observation="flat")))
    with pytest.raises(InvalidSettingError, match="history"):
        make(kind, env).act(torch.zeros(2, 9), None, generator(0, "test"))


@pytest.mark.parametrize("kind", [Portfolio, LocalSearch, DifferentialEvolution, SBOA], ids=lambda kind: kind.name)
def test_it_beats_random_search_on_the_bowl(kind):
    env = environment("quadratic", 1, budget=60)

    def regret(agent: Any) -> float:
        frame = evaluate(as_contender(agent), env.suite, split="all", seeds=20, budget=60).frame
        return float(frame.loc[frame["trial"] == 60, "regret"].mean())

    assert regret(make(kind, env)) < 0.7 * regret(RandomSearch(RandomSearchConfig(), Interface.of(env)))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (GridSearchConfig, "levels", 1),
        (PortfolioConfig, "candidates", 0),
        (PortfolioConfig, "refinements", -1),
        (PortfolioConfig, "after_default", 1),
        (LocalSearchConfig, "sigma", 0.0),
        (LocalSearchConfig, "sigma", math.nan),
        (LocalSearchConfig, "random_share", 1.5),
        (DifferentialEvolutionConfig, "population", 3),
        (DifferentialEvolutionConfig, "mutation_factor", 0.0),
        (DifferentialEvolutionConfig, "crossover_rate", -0.1),
        (SBOAConfig, "population", 1),
    ],
)
def test_an_impossible_setting_is_named(config, field, value):
    with pytest.raises(InvalidSettingError, match=f"{field}={value!r}"):
        config(**{field: value})


def test_the_default_is_played_and_nothing_else():
    env = environment("conditional", 1, start="default")
    frame = evaluate(as_contender(make(DefaultOnly, env)), env.suite, split="all", seeds=2, budget=5).frame
    # The shared start is the grid_step point beside the default.
    played = frame[frame["trial"] > 1].set_index("task")["score"]
    default = env.suite.space.default().expand(env.suite.num_tasks, -1)
    tasks = torch.arange(env.suite.num_tasks)
    scores = env.suite.evaluate(tasks, default, env.suite.space.active(default)).score
    for task, score in zip(env.suite.tasks, scores.tolist(), strict=True):
        assert played[str(task)].tolist() == pytest.approx([score] * 8)


# ---- histories as populations ----------------------------------------------------------------------------------


def test_members_are_their_own_best_trials():
    # Members 0, 1, 2 take turns; the last round has one trial, and padding follows.
    score = [0.2, 0.5, 0.1, 0.4, 0.5, 0.0, 0.3]
    u = torch.arange(7.0)[:, None].expand(7, 2) / 10
    trials = trials_of(u, score, length=10)
    assert int(trials.count) == 7
    for latest, rows in ((True, [3, 4, 2]), (False, [3, 1, 2])):
        members = trials.members(3, latest)
        assert members.score[0].tolist() == pytest.approx([0.4, 0.5, 0.1])
        assert torch.equal(members.u[0], u[rows])
    assert torch.equal(trials.incumbent().u[0, 0], u[4])


def test_a_member_without_a_trial_is_nothing():
    for length in (2, 4):
        members = trials_of([[0.3, 0.4], [0.5, 0.6]], [0.0, 0.2], length=length).members(4, latest=True)
        assert members.score[0].tolist() == pytest.approx([0.0, 0.2, -1.0, -1.0])
        assert members.active[0].all(1).tolist() == [True, True, False, False]
        assert bool((members.u[0, 2:] == 0.0).all())


def test_what_was_tried_is_found_and_padding_is_not():
    trials = trials_of([[0.1, 0.2], [0.3, 0.4]], [0.5, 0.5], length=5)
    points = torch.tensor([[0.3, 0.4], [0.3, 0.41], [0.0, 0.0], [0.1, 0.2]])
    for given in (points, points[None]):
        assert trials.tried(given)[0].tolist() == [True, False, False, True]


def test_drawn_members_differ_from_each_other_and_from_the_excluded_one():
    excluded = torch.arange(4_000) % 5
    drawn = distinct_members(4_000, 5, 3, generator(0, "test"), excluded)
    assert all(len({*row, own}) == 4 for row, own in zip(drawn.tolist(), excluded.tolist(), strict=True))
    pairs = distinct_members(6_000, 4, 2, generator(0, "test"), None)
    counts = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16).view(4, 4)
    assert counts.diagonal().tolist() == [0] * 4
    assert int(counts[~torch.eye(4, dtype=torch.bool)].min()) > 400, "500 of each ordered pair were expected"


@pytest.mark.parametrize("kind", [DifferentialEvolution, SBOA], ids=lambda kind: kind.name)
def test_acceptance_is_greedy(kind):
    env = environment("conditional", 32, budget=60, start="none")
    agent, draws = make(kind, env), generator(0, "test")
    observation, _ = env.reset(seed=0)
    size = agent.config.population
    before = torch.full((32, size), -1.0)
    for trial in range(59):
        observation = env.step(agent.act(observation, None, draws))[0]
        trials = Trials.of(observation, 5)
        members = trials.members(size, latest=kind is DifferentialEvolution)
        turn, shown = trial % size, trials.u[:, trial]
        assert bool((members.score >= before).all())
        assert bool(((members.score == before) | (torch.arange(size) == turn)).all()), "another member moved"
        better = trials.score[:, trial] > before[:, turn]
        assert torch.equal(members.u[better, turn], shown[better])
        before = members.score


# ---- grid search -----------------------------------------------------------------------------------------------


def test_automatic_levels_fit_the_budget():
    space = TINY_SUITES["quadratic"]().space
    assert [automatic_levels(space, budget) for budget in (1, 4, 8, 9, 15, 16, 100)] == [2, 2, 2, 3, 3, 4, 10]
    assert automatic_levels(TINY_SUITES["conditional"]().space, 10) == 2


def test_every_grid_point_is_visited_once_and_then_random_ones():
    env = environment("conditional", 50, budget=40, start="none")
    agent, draws = make(GridSearch, env, config=GridSearchConfig(levels=2)), generator(0, "test")
    # linear x C (shrinking is forbidden); rbf x C x gamma x shrinking; poly x C x gamma x degree x shrinking.
    count = 2 + 2 * 2 * 2 + 2 * 2 * 2 * 2
    assert len(agent.points) == count == len(agent.points.unique(dim=0))
    observation, _ = env.reset(seed=0)
    for _ in range(39):
        observation = env.step(agent.act(observation, None, draws))[0]
    trials = Trials.of(observation, 5)
    on_grid = (torch.cdist(trials.u[:, :39], agent.points[None], p=float("inf")) < 1e-6).any(2)
    assert bool(on_grid[:, :count].all())
    assert not bool(on_grid[:, count:].all(1).any()), "the grid was visited again"
    rounded = [{tuple(point) for point in row[:count].round(decimals=5).tolist()} for row in trials.u]
    assert {len(points) for points in rounded} == {count}
    assert len({tuple(row[:count].round(decimals=5).flatten().tolist()) for row in trials.u}) == 50, "one order for all"


def test_the_next_grid_point_is_uniform_over_those_left():
    env = environment("quadratic", 1, budget=9)
    agent = make(GridSearch, env)
    visited = agent.points[[0, 1, 4, 8]]
    one = trials_of(torch.cat([visited, visited[:1], torch.tensor([[0.2, 0.7]])]), [0.5] * 6, length=9)
    many = repeated(one, 10_000)
    drawn = agent.propose(many, generator(0, "test"))
    counts = (drawn[:, None] == agent.points).all(2).sum(0)
    assert counts[[0, 1, 4, 8]].tolist() == [0] * 4
    assert int(counts.sum()) == 10_000 and int(counts[[2, 3, 5, 6, 7]].min()) > 1_850


def test_a_huge_grid_is_represented_by_a_sample():
    env = environment("quadratic", 4)
    agent = make(GridSearch, env, config=GridSearchConfig(levels=300))
    assert 30_000 < len(agent.points) < 2**16
    levels = agent.points * 299
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    other = make(GridSearch, env, seed=1, config=GridSearchConfig(levels=300))
    assert not torch.equal(agent.points[:100], other.points[:100])


def test_a_grid_that_cannot_be_numbered_is_refused():
    columns = tuple(Column(f"x{index}", "float", 0.0, 1.0, False, (), 0.5) for index in range(64))
    env = environment("quadratic", 1)
    agent = GridSearch(GridSearchConfig(), Interface.of(env))
    with pytest.raises(InvalidSettingError, match="levels=2"):
        agent.prepare(dataclasses.replace(Problem.of(env), space=SearchSpace(SpaceSpec(columns, {}, ()))))


# ---- local search ----------------------------------------------------------------------------------------------


def neighbour_space() -> SearchSpace:
    columns = (
        Column("x", "float", 0.0, 1.0, False, (), 0.5),
        Column("count", "integer", 1, 100, True, (), 10),
        Column("depth", "integer", 1, 3, False, (), 2),
        Column("kind", "categorical", choices=("a", "b", "c"), default="a", upper=2),
        Column("size", "ordinal", choices=("s", "m", "l", "xl"), default="m", upper=3),
        Column("fixed", "constant", choices=("only",), default="only"),
    )
    return SearchSpace(SpaceSpec(columns, {}, ()))


def test_a_mutation_changes_what_it_mutates_and_little_else():
    space = neighbour_space()
    before = space.sample(20_000, generator(0, "test"))
    after = Neighbourhood(space, 1e-4).draw(before, torch.ones_like(before, dtype=torch.bool), generator(1, "test"))
    assert 0.0 <= float(after.min()) <= float(after.max()) <= 1.0
    assert torch.equal(after, space.snap(after))
    numbers = [space.numbers(u) for u in (before, after)]
    step = (numbers[1] - numbers[0]).abs()
    changed = torch.cat([(before != after)[:, :1], step[:, 1:] > 0], 1)
    # A step on a float may be lost in rounding.
    assert float(changed.any(1).float().mean()) > 0.999 and not bool(changed[:, 5].any())
    # Each of five with probability 1/5; none at all ((4/5)^5) becomes one.
    assert float(changed.float().sum(1).mean()) == pytest.approx(1.0 + 0.8**5, abs=0.02)
    shares = changed[:, :5].float().mean(0)
    assert float(shares.max() - shares.min()) < 0.02
    for column in (1, 2, 4):
        assert set(step[:, column].unique().tolist()) <= {0.0, 1.0}, "so small a step is one value"
    kinds = torch.stack([numbers[0][:, 3], numbers[1][:, 3]], 1)[changed[:, 3]].long()
    counts = torch.bincount(kinds[:, 0] * 3 + kinds[:, 1], minlength=9).view(3, 3)
    assert counts.diagonal().tolist() == [0, 0, 0]
    assert int(counts[~torch.eye(3, dtype=torch.bool)].min()) > 600


def test_steps_are_gaussian_and_reflected():
    columns = (Column("x", "float", 0.0, 1.0, False, (), 0.5),)
    neighbourhood = Neighbourhood(SearchSpace(SpaceSpec(columns, {}, ())), 0.1)
    active = torch.ones(50_000, 1, dtype=torch.bool)
    middle = neighbourhood.draw(torch.full((50_000, 1), 0.5), active, generator(0, "test"))
    assert float(middle.mean()) == pytest.approx(0.5, abs=0.003)
    assert float(middle.std()) == pytest.approx(0.1, abs=0.003)
    # Reflected at 0, it is the half-normal distribution of mean sigma sqrt(2 / pi).
    end = neighbourhood.draw(torch.zeros(50_000, 1), active, generator(0, "test"))
    assert float(end.min()) >= 0.0
    assert float(end.mean()) == pytest.approx(0.1 * math.sqrt(2 / math.pi), abs=0.003)


def test_an_inactive_hyperparameter_is_not_mutated():
    space = TINY_SUITES["conditional"]().space
    u = torch.tensor([[1 / 6, 0.4, 0.3, 0.5, 0.25]]).expand(2_000, -1)
    active = space.active(u)
    assert active[0].tolist() == [True, True, False, False, True]
    after = Neighbourhood(space, 0.2).draw(u, active, generator(0, "test"))
    assert torch.equal(after[:, 2:4], space.snap(u)[:, 2:4])


def test_local_search_avoids_what_was_tried():
    columns = tuple(Column(name, "categorical", choices=("a", "b", "c"), default="a", upper=2) for name in "xy")
    space = SearchSpace(SpaceSpec(columns, {}, ()))
    env = environment("quadratic", 1)
    agent = LocalSearch(LocalSearchConfig(), Interface.of(env))
    agent.prepare(dataclasses.replace(Problem.of(env), space=space))
    grid = torch.tensor(list(itertools.product([1 / 6, 0.5, 5 / 6], repeat=2)))
    tried = trials_of(grid[:7], [0.9] + [0.1] * 6)
    drawn = agent.propose(repeated(tried, 2_000), generator(0, "test"))
    again = (torch.cdist(drawn[None], grid[None, :7], p=float("inf")) < 1e-6).any(2).float().mean()
    # What is new differs in both choices, which one draw in four does, and in x it is "c", which is every second of
    # those: all eight draws miss it with probability (7/8)^8 = 0.34, and the first alone with 7/8.
    assert float(again) == pytest.approx(0.344, abs=0.03)


def test_random_share_is_the_share_of_random_configurations():
    env = environment("quadratic", 1)
    agent = make(LocalSearch, env, config=LocalSearchConfig(sigma=1e-5, random_share=0.3))
    one = trials_of([[0.2, 0.8]], [0.5])
    many = repeated(one, 5_000)
    far = (agent.propose(many, generator(0, "test")) - one.u[:, 0]).abs().amax(1) > 1e-3
    assert float(far.float().mean()) == pytest.approx(0.3, abs=0.02)


# ---- differential evolution ------------------------------------------------------------------------------------


def test_the_arithmetic_of_rand_1_bin():
    parents = torch.tensor([[[0.5, 0.2, 0.9], [0.6, 0.1, 0.4], [0.2, 0.3, 0.8]]])
    assert mutant(parents, 0.5)[0].tolist() == pytest.approx([0.7, 0.1, 0.7])
    target, trial = torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    uniform = torch.tensor([[0.1, 0.5, 0.49, 0.9]])
    assert binomial_crossover(target, trial, 0.5, uniform, torch.tensor([0])).tolist() == [[1.0, 0.0, 3.0, 0.0]]
    assert binomial_crossover(target, trial, 0.5, uniform, torch.tensor([3])).tolist() == [[1.0, 0.0, 3.0, 4.0]]
    assert binomial_crossover(target, trial, 0.0, uniform, torch.tensor([1])).tolist() == [[0.0, 2.0, 0.0, 0.0]]


def test_a_trial_crosses_its_member_with_a_mutant_of_three_others():
    env = environment("quadratic", 1, budget=30)
    config = DifferentialEvolutionConfig(population=5, crossover_rate=0.6)
    agent = make(DifferentialEvolution, env, config=config)
    draws = generator(0, "test")
    u = 0.4 + 0.2 * torch.rand(12, 2, generator=draws)
    trials = trials_of(u, torch.rand(12, generator=draws), length=30)
    members, target = trials.members(5, latest=True).u[0].double(), 12 % 5
    others = [index for index in range(5) if index != target]
    mutants = [members[a] + 0.5 * (members[b] - members[c]) for a, b, c in itertools.permutations(others, 3)]
    seen, both = set(), 0
    for seed in range(200):
        trial = agent.propose(trials, generator(seed, "test"))[0].double()
        taken = (trial - members[target]).abs() > 1e-6
        found = [i for i, one in enumerate(mutants) if bool(((one - trial).abs()[taken] < 1e-6).all())]
        assert bool(taken.any()) and found
        seen.update(found)
        both += int(taken.all())
    assert len(seen) == 24
    # One coordinate for certain, the other with probability 0.6.
    assert both / 200 == pytest.approx(0.6, abs=0.12)


def bowl(dimension: int, count: int) -> TaskSuite:
    """Return bowls over the unit cube of any dimension."""
    centres = 0.2 + 0.6 * torch.rand(count, dimension, generator=generator(0, "test", "bowl"))
    columns = tuple(Column(f"x{index}", "float", 0.0, 1.0, False, (), 0.5) for index in range(dimension))
    worst = 1.0 - 0.5 * (0.5 + (centres - 0.5).abs()).square().sum(1)
    known = KnownRange(worst, (worst + 1.0) / 2.0, torch.ones(count), centres, "closed form")
    tasks = tuple(TaskRef("synthetic", f"bowl-{index}") for index in range(count))
    spec = SuiteSpec("bowl", "test", "error", tasks)
    return TaskSuite(
        spec, SearchSpace(SpaceSpec(columns, {}, ())), BowlSurrogate(centres), torch.zeros(count, 0), known
    )


@pytest.mark.parametrize(("dimension", "rate"), [(2, 0.9), (3, 0.5)])
def test_it_does_as_well_as_scipy(dimension, rate):
    from scipy.optimize import differential_evolution

    suite, generations, size = bowl(dimension, 25), 12, 10
    budget = size * generations
    env = HPOVectorEnv(
        1, source=suite, split="all", action="continuous", observation="history", start="none", budget=budget
    )
    agent = make(DifferentialEvolution, env, config=DifferentialEvolutionConfig(size, 0.5, rate))
    records = evaluate(as_contender(agent), suite, split="all", seeds=3, budget=budget, settings={"start": "none"})
    ours = records.frame.loc[records.frame["trial"] == budget, "incumbent"]
    errors = []
    for index, centre in enumerate(suite.surrogate.centres.double().numpy()):
        draws = np.random.default_rng(index)
        result = differential_evolution(
            lambda x, centre=centre: 0.5 * ((x - centre) ** 2).sum(),
            [(0.0, 1.0)] * dimension,
            strategy="rand1bin",
            init=draws.random((size, dimension)),
            mutation=0.5,
            recombination=rate,
            updating="immediate",
            maxiter=generations - 1,
            polish=False,
            tol=0.0,
            rng=draws,
        )
        assert result.nfev == budget
        errors.append(result.fun)
    decades = np.median(np.log10(1.0 - ours.astype(float) + 1e-8)) - np.median(np.log10(np.array(errors) + 1e-8))
    assert abs(decades) < 0.35, f"{decades:+.2f} decades of error beside scipy"


# ---- SBOA ------------------------------------------------------------------------------------------------------


def test_the_scale_of_a_levy_step():
    assert pytest.approx(0.6965745, abs=1e-6) == LEVY_SIGMA
    numerator, denominator = torch.tensor([2.0, -1.0]), torch.tensor([-8.0, 1.0])
    assert levy(numerator, denominator).tolist() == pytest.approx([0.02 * LEVY_SIGMA / 4.0, -0.01 * LEVY_SIGMA])
    assert bool(levy(torch.ones(1), torch.zeros(1)).isfinite())


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.7, 0.95])
def test_both_phases_are_the_published_formulas(share):
    draws = np.random.default_rng(3)
    own, best, first, second, other = draws.random((5, 4))
    uniform, normal, flight = draws.random(4), draws.normal(size=4), draws.normal(size=4)
    # Transcribed from Fu et al. with t / T = share.
    if share < 1 / 3:
        hunting = own + (first - second) * uniform
    elif share <= 2 / 3:
        hunting = best + np.exp(share**4) * (normal - 0.5) * (best - own)
    else:
        hunting = best + (1 - share) ** (2 * share) * own * (0.5 * flight)
    hiding = best + (2 * normal - 1) * (1 - share) ** 2 * own
    fleeing = own + normal * (other - 2.0 * own)

    def row(*values: Any) -> list[Tensor]:
        return [torch.as_tensor(value, dtype=torch.float64)[None] for value in values]

    pair, progress = row(np.stack([first, second]), [share])
    assert np.allclose(hunt(*row(own, best), pair, progress, *row(uniform, normal, flight))[0], hunting)
    for hides, expected in ((True, hiding), (False, fleeing)):
        arguments = (*row(own, best, other), progress, torch.tensor([hides]), *row(normal, 2.0))
        assert np.allclose(escape(*arguments)[0], expected)


def test_an_iteration_is_a_hunt_and_an_escape_of_every_member():
    env = environment("quadratic", 1, budget=1_000)
    agent, size = make(SBOA, env, config=SBOAConfig(population=4)), 4
    phases = []
    for count in range(size, size + 4 * size):
        # Members that are all alike have no difference to hunt with, so that hunting leaves them where they are;
        # so does fleeing with K = 1, a quarter of the escapes.
        trials = repeated(trials_of(torch.full((count, 2), 0.5), torch.full((count,), 0.5), length=1_000), 400)
        moved = (agent.propose(trials, generator(count, "test")) != 0.5).any(1)
        assert not bool(moved.any()) or float(moved.float().mean()) == pytest.approx(0.75, abs=0.1)
        phases.append(bool(moved.any()))
    assert phases == [False] * size + [True] * size + [False] * size + [True] * size


def test_the_stages_of_hunting_share_the_budget():
    agent = make(SBOA, environment("quadratic", 1, budget=70))
    share = agent._share(torch.arange(70))[:, 0]
    assert bool((share[:10] == 0.0).all()) and float(share[40]) == 0.5 and float(share[-1]) == pytest.approx(59 / 60)
    tiny = make(SBOA, environment("quadratic", 1, budget=5))
    assert bool((tiny._share(torch.arange(5)) == 0.0).all())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_agent
def test_it_acts_on_a_cuda_device(kind):
    env = environment("conditional", 16, budget=30, device="cuda")
    agent, draws = make(kind, env), generator(0, "test", device="cuda")
    observation, _ = env.reset(seed=0)
    for _ in range(29):
        action = agent.act(observation, None, draws)
        assert action.is_cuda
        observation, _, _, _, info = env.step(action)
        assert bool(info["legal"].all())
