"""Hyperband, ASHA and BOHB: schedules, promotions, prices, and the model's suggestions against Optuna's own."""

from __future__ import annotations

import math
import pickle
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor

from agents.asha import ASHA, ASHAConfig, ASHAOptimizer
from agents.base import Interface
from agents.bohb import BOHB, BOHBConfig, ModelSource
from agents.hyperband import Hyperband, HyperbandConfig, HyperbandOptimizer
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Trial
from agents.successive_halving import RandomSource, best_first, hyperband_brackets, rung_shares
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.spaces import SearchSpace
from hpo_gym.testing import AgentCase
from hpo_gym.testing.tiny import TINY_SUITES

KINDS: dict[str, tuple[type[SequentialAgent], type[Any]]] = {
    "hyperband": (Hyperband, HyperbandConfig),
    "asha": (ASHA, ASHAConfig),
    "bohb": (BOHB, BOHBConfig),
}
NINTH = 1.0 / 9.0


def environment(num_envs: int, budget: int = 4, **changes: Any) -> HPOVectorEnv:
    """Return learning curves of 27 epochs whose cheapest evaluation trains for 3."""
    settings = {"multi_fidelity": True, "action": "continuous", "observation": "history"} | changes
    return HPOVectorEnv(num_envs, source=TINY_SUITES["fidelity"](), split="all", budget=budget, **settings)


def prepared(name: str, env: HPOVectorEnv, **settings: Any) -> SequentialAgent:
    agent, config = KINDS[name]
    made = agent(config(**settings), Interface.of(env))
    made.prepare(Problem.of(env))
    return made


def tiny_problem(suite: str = "fidelity", **changes: Any) -> Problem:
    space = SearchSpace(TINY_SUITES[suite]().space.spec)
    return Problem(space, **{"budget": 10, "least_fidelity": NINTH, "multi_fidelity": True} | changes)


def outcome(space: SearchSpace, number: int, u: Tensor, score: float, share: float = 1.0) -> Trial:
    """Return a trial as an environment shows it."""
    u = space.snap(u.float()[None])
    active = space.active(u)
    shown = (u * active)[0].double()
    return Trial(number, shown, active[0], space.to_dicts(shown[None])[0], score, share)


class Listed:
    """Configurations of a list, one after the other: ``u = 0.1, 0.2, ...`` on a space of two floats."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: list[tuple[int, float]] = []

    def propose(self) -> Tensor:
        self.count += 1
        return torch.full((2,), self.count / 100.0, dtype=torch.float64)

    def observe(self, trial: Trial, share: float) -> None:
        self.seen.append((trial.number, share))


class TestMultiFidelityAgents(AgentCase):
    """The published contract."""

    @pytest.fixture(params=sorted(KINDS))
    def name(self, request):
        return request.param

    @pytest.fixture
    def make_vector_env(self):
        return environment

    @pytest.fixture
    def make_agent(self, name):
        return lambda env, seed: prepared(name, env)


def test_brackets_are_those_of_algorithm_1():
    brackets = hyperband_brackets(1.0 / 81.0, 3)
    table = [
        [(round(81 * share), size) for size, share in zip(bracket.sizes, bracket.shares, strict=True)]
        for bracket in brackets
    ]
    assert table == [
        [(1, 81), (3, 27), (9, 9), (27, 3), (81, 1)],
        [(3, 34), (9, 11), (27, 3), (81, 1)],
        [(9, 15), (27, 5), (81, 1)],
        [(27, 8), (81, 2)],
        [(81, 5)],
    ]


@pytest.mark.parametrize("eta", [2, 3, 4, 5])
@pytest.mark.parametrize("least", [1 / 2, 1 / 9, 0.1, 6 / 51, 1 / 81, 1 / 1000])
def test_brackets_follow_the_formulas(least, eta):
    brackets = hyperband_brackets(least, eta)
    s_max = max(s for s in range(20) if eta**s <= 1.0 / least + 1e-9)
    assert len(brackets) == s_max + 1
    for s, bracket in zip(range(s_max, -1, -1), brackets, strict=True):
        n = math.ceil((s_max + 1) * eta**s / (s + 1))
        assert bracket.sizes == tuple(n // eta**i for i in range(s + 1)) and bracket.sizes[-1] >= 1
        assert bracket.shares == pytest.approx([eta ** float(i - s) for i in range(s + 1)])
        assert bracket.shares[-1] == 1.0 and bracket.shares[0] >= least
        # B = (s_max + 1) R, up to what the ceiling adds.
        assert bracket.cost <= s_max + 1 + (s + 1) * eta**-s + 1e-9


@pytest.mark.parametrize("least", [NINTH, float(torch.tensor(NINTH)), 3 / 27, NINTH * (1 + 3e-7)])
def test_rounding_of_the_smallest_share_costs_no_rung(least):
    assert rung_shares(least, 3) == pytest.approx((NINTH, 1 / 3, 1.0), rel=1e-6)
    assert rung_shares(least, 3)[0] >= least


def test_of_equals_the_earlier_goes_first():
    space = tiny_problem().space
    trials = [outcome(space, number, torch.rand(2), score) for number, score in ((4, 0.5), (2, 0.5), (9, 0.7))]
    assert [trial.number for trial in best_first(trials)] == [9, 2, 4]


def test_hyperband_plays_successive_halving_in_every_bracket():
    space, source, brackets = tiny_problem("quadratic").space, Listed(), hyperband_brackets(NINTH, 3)
    optimizer = HyperbandOptimizer(space, brackets, source)
    optimizer.tell(outcome(space, 0, torch.full((2,), 0.5), 0.99))

    def score(u: float, share: float) -> float:
        # Many ties, and an order that changes with the rung.
        return round((7.0 * u * (1.0 + share)) % 1.0, 1)

    number, first = 1, 1
    for bracket in [*brackets, *brackets]:
        members = [(first + index) / 100.0 for index in range(bracket.sizes[0])]
        first += len(members)
        for size, share in zip(bracket.sizes, bracket.shares, strict=True):
            members = members[:size]
            for member in members:
                asked = optimizer.ask()
                assert optimizer.ask() is asked, "asked twice, it answers alike"
                assert (float(asked.u[0]), asked.share) == (member, share)
                optimizer.tell(outcome(space, number, asked.u, score(member, share), share))
                number += 1
            # sorted is stable: of equals the earlier one stays in front.
            members = sorted(members, key=lambda member: -score(member, share))
    assert source.seen[0] == (0, 1.0) and len(source.seen) == number


def test_asha_promotes_as_worked_by_hand():
    """Of three at the bottom the best goes up; later whenever a third more are worse; the top rung first."""
    problem, source = tiny_problem("quadratic"), Listed()
    optimizer = ASHAOptimizer(problem.space, (NINTH, 1 / 3, 1.0), 3, source)
    optimizer.tell(outcome(problem.space, 0, torch.full((2,), 0.5), 1.0))
    scores = {
        ("a", 0): 0.5,
        ("b", 0): 0.7,
        ("c", 0): 0.6,
        ("b", 1): 0.75,  # 1 of 3
        ("d", 0): 0.4,  # 1 of 4 is b, and went on
        ("e", 0): 0.9,
        ("e", 1): 0.7,  # 1 of 5
        ("f", 0): 0.65,  # 1 of 5 is e
        ("g", 0): 0.8,  # 2 of 6 are e and b
        ("g", 1): 0.72,  # 2 of 7 are e and g
        ("b", 2): 0.8,  # 1 of 3 one rung higher, where b is best
        ("h", 0): 0.8,
        ("i", 0): 0.1,  # 2 of 8; g was before h
        ("h", 1): 0.1,  # 3 of 9 are e, g and h
        ("j", 0): 0.2,
    }
    played = []
    for number, ((name, rung), score) in enumerate(scores.items(), start=1):
        asked = optimizer.ask()
        assert optimizer.ask() == asked, "asked twice, it answers alike"
        played.append(("abcdefghij"[round(100 * float(asked.u[0])) - 1], (NINTH, 1 / 3, 1.0).index(asked.share)))
        optimizer.tell(outcome(problem.space, number, asked.u, score, asked.share))
        assert played[-1] == (name, rung)


@pytest.mark.parametrize("method", ["hyperband", "asha"])
def test_a_trial_that_nobody_asked_for_takes_the_place_of_none(method):
    space = tiny_problem("quadratic").space

    def make() -> tuple[HyperbandOptimizer | ASHAOptimizer, Listed]:
        source = Listed()
        if method == "hyperband":
            return HyperbandOptimizer(space, hyperband_brackets(NINTH, 3), source), source
        return ASHAOptimizer(space, (NINTH, 1 / 3, 1.0), 3, source), source

    (plain, _), (disturbed, source) = make(), make()
    for number in range(0, 60, 2):
        asked = plain.ask()
        again = disturbed.ask()
        assert torch.equal(asked.u, again.u) and asked.share == again.share
        score = (7.0 * float(asked.u[0]) * (1.0 + asked.share)) % 1.0
        disturbed.tell(outcome(space, number, torch.full((2,), 0.995), 0.999))
        for optimizer in (plain, disturbed):
            optimizer.tell(outcome(space, number + 1, asked.u, score, asked.share))
    assert [number for number, _ in source.seen] == list(range(60))


def play(agent: SequentialAgent, env: HPOVectorEnv, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Play one episode per row.

    Returns:
        Shares of a full evaluation, ``[T, B]``, 0 after a row's end; and actions, ``[T - 1, B, D + 1]``.
    """
    observation, info = env.reset(seed=seed)
    draws = generator(seed, "test")
    shares, actions = [torch.ones(env.num_envs)], []
    done = torch.zeros(env.num_envs, dtype=torch.bool)
    while not bool(done.all()):
        action = agent.act(observation, None, draws)
        observation, _, ended, _, info = env.step(action)
        shares.append(info["final_info"]["fidelity"] * ~done)
        actions.append(action)
        done |= ended
    return torch.stack(shares), torch.stack(actions)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_episode_spends_its_budget(name):
    env = environment(3, budget=10)
    shares, _ = play(prepared(name, env), env)
    torch.testing.assert_close(shares.sum(0), torch.full((3,), 10.0), atol=1e-4, rtol=0)
    assert bool(((shares == 0) | (shares > 0.11)).all())


@pytest.mark.parametrize("name", ["hyperband", "bohb"])
def test_an_episode_has_the_trials_of_the_schedule(name):
    """Start 1; brackets 9 + 3 + 1, then 5 + 1, then 3; what is left buys three of the next round."""
    env = environment(2, budget=10)
    shares, _ = play(prepared(name, env), env)
    epochs = [3] * 9 + [9] * 3 + [27] + [9] * 5 + [27] + [27] * 3 + [3] * 3
    assert [(27 * row).round().int().tolist() for row in shares.T] == [[27, *epochs]] * 2


def test_asha_goes_up_rung_by_rung():
    env = environment(1, budget=10)
    shares, actions = play(prepared("asha", env), env)
    epochs = (27 * shares[1:, 0]).round().int().tolist()
    below = {3: None, 9: 3, 27: 9}
    done: dict[int | None, list[tuple[float, ...]]] = {3: [], 9: [], 27: []}
    # The last trial gets what is left of the budget, whatever was asked for.
    for asked, action in zip(epochs[:-1], actions[:-1, 0, :-1].tolist(), strict=True):
        u = tuple(action)
        assert u not in done[asked]
        assert asked == 3 or u in done[below[asked]]
        done[asked].append(u)
    assert len(done[3]) > len(done[9]) > len(done[27]) > 0


@pytest.mark.parametrize("name", sorted(KINDS))
def test_one_seed_plays_one_episode(name):
    env = environment(2, budget=6)
    first, second, other = (play(prepared(name, env), env, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first[:3], other[:3])


def test_bohb_without_its_model_is_hyperband():
    env = environment(2, budget=10)
    without = play(prepared("bohb", env, random_fraction=1.0), env)
    hyperband, bohb = (play(prepared(name, env), env) for name in ("hyperband", "bohb"))
    assert torch.equal(without[1], hyperband[1])
    assert not torch.equal(bohb[1], hyperband[1])


def suggest_natively(trial: optuna.Trial, suite: str) -> dict[str, Any]:
    """Write out the tiny spaces as a user of Optuna would."""
    if suite == "fidelity":
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1.0, log=True),
            "width": trial.suggest_int("width", 8, 512, log=True),
        }
    kernel = trial.suggest_categorical("kernel", (0, 1, 2))
    found = {
        "kernel": ("linear", "rbf", "poly")[kernel],
        "C": trial.suggest_float("C", 1e-3, 1e3, log=True),
        "shrinking": ("no", "yes")[trial.suggest_categorical("shrinking", (0, 1))],
    }
    if kernel > 0:
        found["gamma"] = trial.suggest_float("gamma", 1e-4, 1.0, log=True)
    return found | ({"degree": trial.suggest_int("degree", 2, 5)} if kernel == 2 else {})


def plain_study(seed: int) -> optuna.Study:
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=True, n_startup_trials=0, n_ei_candidates=64
    )
    return optuna.create_study(direction="maximize", sampler=sampler)


def add_natively(study: optuna.Study, trial: Trial, suite: str) -> None:
    choices = {"kernel": ("linear", "rbf", "poly"), "shrinking": ("no", "yes")}
    ranges: dict[str, Any] = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "width": optuna.distributions.IntDistribution(8, 512, log=True),
        "C": optuna.distributions.FloatDistribution(1e-3, 1e3, log=True),
        "gamma": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "degree": optuna.distributions.IntDistribution(2, 5),
    }
    params = {
        name: choices[name].index(value) if name in choices else value for name, value in trial.configuration.items()
    }
    kinds = {
        name: optuna.distributions.CategoricalDistribution(tuple(range(len(choices[name]))))
        if name in choices
        else ranges[name]
        for name in params
    }
    study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=trial.score))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("suite", ["fidelity", "conditional"])
def test_the_model_is_optuna_told_the_trials_of_the_highest_rung_that_has_enough(suite):
    space, shares, seed = tiny_problem(suite).space, (NINTH, 1 / 3, 1.0), 5
    source = ModelSource(space, shares, BOHBConfig(random_fraction=0.0), seed)
    plain = [plain_study(stream_seed(seed, "bohb", rung) % 2**32) for rung in range(3)]
    draws, enough, number = generator(0, "test"), space.dimension + 3, 0

    def observe(rung: int, count: int) -> None:
        nonlocal number
        for u in space.sample(count, draws):
            trial = outcome(space, number, u, float(torch.rand((), generator=draws)), shares[rung])
            source.observe(trial, shares[rung])
            add_natively(plain[rung], trial, suite)
            number += 1

    def same_as(rung: int) -> None:
        for _ in range(3):
            asked = plain[rung].ask()
            expected = space.from_dicts([suggest_natively(asked, suite)])[0]
            while not bool(space.legal(space.snap(expected[None].float()))):
                plain[rung].tell(asked, 0.0)
                asked = plain[rung].ask()
                expected = space.from_dicts([suggest_natively(asked, suite)])[0]
            plain[rung].tell(asked, state=optuna.trial.TrialState.FAIL)
            torch.testing.assert_close(source.propose(), expected, atol=1e-9, rtol=0)

    observe(0, enough - 1)
    assert torch.equal(source.propose(), RandomSource(space, seed).propose()), "too few for a model"
    observe(0, 1)
    same_as(0)
    observe(2, enough - 1)
    same_as(0)
    observe(1, enough + 4)
    same_as(1)
    observe(2, 1)
    same_as(2)
    observe(2, 7)
    observe(0, 30)
    same_as(2)


def test_one_in_three_configurations_of_bohb_is_random():
    problem = tiny_problem()
    source = ModelSource(problem.space, (NINTH, 1 / 3, 1.0), BOHBConfig(), 0)
    random = RandomSource(problem.space, 0)
    for number, u in enumerate(problem.space.sample(10, generator(0, "test"))):
        source.observe(outcome(problem.space, number, u, 0.1 * number), 1.0)
    count, upcoming = 0, random.propose()
    for _ in range(150):
        if torch.equal(source.propose(), upcoming):
            count, upcoming = count + 1, random.propose()
    assert 30 < count < 70


@pytest.mark.parametrize("name", sorted(KINDS))
def test_episodes_of_full_evaluations_are_refused(name):
    env = environment(1, multi_fidelity=False)
    with pytest.raises(InvalidSettingError, match=rf"'{name}'.*protocol=multi-fidelity.*space=lcbench"):
        prepared(name, env)
    agent, config = KINDS[name]
    with pytest.raises(InvalidSettingError, match="multi_fidelity=true"):
        agent(config(), Interface.of(env)).make_optimizer(Problem.of(env), 0)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_reduction_without_a_cheaper_rung_is_refused(name):
    with pytest.raises(InvalidSettingError, match=r"eta=10 .*0\.1111.*smaller eta"):
        prepared(name, environment(1), eta=10)
    for eta in (1, 2.5, True):
        with pytest.raises(InvalidSettingError, match=f"eta={eta}"):
            KINDS[name][1](eta=eta)


@pytest.mark.parametrize(
    ("field", "value"), [("random_fraction", -0.1), ("random_fraction", float("nan")), ("candidates", 0)]
)
def test_bohb_names_an_impossible_setting(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        BOHBConfig(**{field: value})


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_prepared_agent_can_be_sent_to_another_process(name):
    env = environment(2)
    agent = prepared(name, env)
    copy = pickle.loads(pickle.dumps(agent))
    assert torch.equal(play(agent, env)[1], play(copy, env)[1])


@pytest.mark.parametrize("name", ["hyperband", "asha"])
def test_new_configurations_are_legal(name):
    problem = tiny_problem("conditional")
    agent, config = KINDS[name]
    optimizer: Optimizer = agent(config(), Interface.of(environment(1))).make_optimizer(problem, 3)
    for number in range(60):
        asked = optimizer.ask()
        assert bool(problem.space.legal(asked.u[None].float()))
        optimizer.tell(outcome(problem.space, number, asked.u, (7 * number % 10) / 10.0, asked.share))
