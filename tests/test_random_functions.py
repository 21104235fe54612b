"""Random functions on random search spaces: the contract, the spaces, what matters and what does not."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import hpo_gym  # noqa: F401  (registers the environments)
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.random_spaces import random_space
from hpo_gym.surrogates.base import Surrogate
from hpo_gym.surrogates.random_functions import RandomFunctions
from hpo_gym.testing.surrogate_case import SurrogateCase

CONDITIONAL = SearchSpace(random_space(6))
DIMENSIONS = range(2, 17)


class TestRandomFunctions(SurrogateCase):
    """The contract, on a space with conditions."""

    @pytest.fixture
    def surrogate(self) -> Surrogate:
        return RandomFunctions(CONDITIONAL, "mixed-6d", instances=7)

    def activity(self, u: Tensor) -> Tensor:
        return CONDITIONAL.active(u)

    def snap(self, u: Tensor) -> Tensor:
        return CONDITIONAL.snap(u)


class TestRandomFunctionsWithoutChoices(SurrogateCase):
    """The contract, on a space of numbers only."""

    @pytest.fixture
    def surrogate(self) -> Surrogate:
        return RandomFunctions(SearchSpace(random_space(2, 1)), "mixed-2d-1", instances=3)


def scores(surrogate: RandomFunctions, space: SearchSpace, u: Tensor) -> Tensor:
    """Return the qualities of the same configurations on every function, ``[N, B]``."""
    active = space.active(u)
    rows = [surrogate(torch.full((len(u),), task), u, active=active)[:, 0] for task in range(surrogate.num_tasks)]
    return torch.stack(rows)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_spaces_have_conditions_from_four_hyperparameters_on(dimension: int) -> None:
    for variant in range(8):
        spec = random_space(dimension, variant)
        space = SearchSpace(spec)
        assert len(spec.columns) == dimension and any(column.kind == "float" for column in spec.columns)
        assert space.has_conditions == (dimension >= 4)
        u = space.sample(2048, generator(0, "test", variant))
        share = space.active(u).float().mean(0)
        for index in range(dimension):
            assert (0.0 < share[index] < 1.0) == (index in spec.conditions)
        default = space.default()
        assert bool(((default >= 0.0) & (default <= 1.0)).all())


def test_all_kinds_and_scales_occur() -> None:
    columns = [column for variant in range(5) for column in random_space(16, variant).columns]
    for kind in ("float", "integer"):
        assert {column.log for column in columns if column.kind == kind} == {True, False}
    assert {len(column.choices) for column in columns if column.kind == "categorical"} >= {2, 3, 4}


def test_a_name_is_one_space_whatever_the_seed() -> None:
    first, other_seed = (load_suite("synthetic", "mixed-6d", instances=2, seed=seed) for seed in (0, 1))
    assert first.space.spec == other_seed.space.spec == random_space(6)
    assert "".join(column.kind[0] for column in first.space.spec.columns) == "cffcff"
    another = load_suite("synthetic", "mixed-6d-3", instances=2)
    assert another.space.spec == random_space(6, 3) != first.space.spec
    assert another.name == "mixed-6d-3" and not set(another.tasks) & set(first.tasks)


def test_seed_name_and_instance_give_the_function() -> None:
    u = CONDITIONAL.sample(64, generator(0, "test"))
    first = scores(RandomFunctions(CONDITIONAL, "a", instances=3), CONDITIONAL, u)
    assert torch.equal(first, scores(RandomFunctions(CONDITIONAL, "a", instances=3), CONDITIONAL, u))
    assert not torch.allclose(first, scores(RandomFunctions(CONDITIONAL, "a", instances=3, seed=1), CONDITIONAL, u))
    assert not torch.allclose(first, scores(RandomFunctions(CONDITIONAL, "b", instances=3), CONDITIONAL, u))
    assert not torch.allclose(first[0], first[1])


def test_qualities_are_shares_and_most_are_fair() -> None:
    suite = load_suite("synthetic", "mixed-5d", instances=32)
    u = suite.space.sample(1024, generator(0, "test"))
    assert isinstance(suite.surrogate, RandomFunctions)
    found = scores(suite.surrogate, suite.space, u)
    assert bool(((found > 0.0) & (found < 1.0)).all())
    known = suite.require_range()
    regret = (known.best - known.median) * known.inverse_range
    assert 0.2 < regret.mean() < 0.45 and regret.std() > 0.08


@pytest.mark.parametrize("name", ["mixed-3d", "mixed-7d-2", "mixed-16d"])
def test_no_random_point_is_far_above_the_known_best(name: str) -> None:
    suite = load_suite("synthetic", name, instances=8)
    known = suite.require_range()
    u = suite.space.sample(8192, generator(1, "test", name))
    assert isinstance(suite.surrogate, RandomFunctions)
    excess = (scores(suite.surrogate, suite.space, u).amax(1) - known.best) * known.inverse_range
    assert float(excess.max()) < 0.03
    task = torch.arange(8)
    reached = suite.evaluate(task, known.best_u, suite.space.active(known.best_u)).score
    torch.testing.assert_close(reached, known.best)


def test_some_hyperparameters_hardly_matter() -> None:
    space = SearchSpace(random_space(8))
    surrogate = RandomFunctions(space, "mixed-8d", instances=32)
    u = space.sample(256, generator(0, "test"))
    other = space.sample(256, generator(1, "test"))
    before = scores(surrogate, space, u)
    free = [index for index in range(8) if index not in space.spec.conditions]
    effects = []
    for index in free:
        changed = u.clone()
        changed[:, index] = other[:, index]
        effects.append((scores(surrogate, space, changed) - before).abs().mean(1))
    effect = torch.stack(effects)
    assert bool((effect > 0).all())
    assert float((effect.amin(0) < 0.2 * effect.amax(0)).float().mean()) > 0.5


def test_functions_are_smooth_in_a_float() -> None:
    space = SearchSpace(random_space(4))
    surrogate = RandomFunctions(space, "mixed-4d", instances=16)
    line = space.sample(1, generator(0, "test")).expand(1001, -1).clone()
    line[:, [column.kind for column in space.spec.columns].index("float")] = torch.linspace(0.0, 1.0, 1001)
    steps = scores(surrogate, space, line).diff(dim=1).abs()
    assert 0.0 < float(steps.max()) < 0.02


def test_unknown_names_and_impossible_arguments_are_refused() -> None:
    for name in ("mixd-6d", "mixed-6d-0", "mixed-06d"):
        with pytest.raises(UnknownNameError, match="Did you mean 'mixed-6d'"):
            load_suite("synthetic", name)
    for name in ("mixed-1d", "mixed-17d", "bbob-6d-2"):
        with pytest.raises(UnknownNameError, match="Allowed: bbob-10d"):
            load_suite("synthetic", name)
    with pytest.raises(UnknownNameError, match="quality"):
        load_suite("synthetic", "mixed-6d", metric="gap")
    with pytest.raises(InvalidSettingError, match="bbob-6d"):
        load_suite("synthetic", "mixed-6d", functions=["sphere"])
    with pytest.raises(InvalidSettingError, match="instances=0"):
        load_suite("synthetic", "mixed-6d", instances=0)
    with pytest.raises(InvalidSettingError, match=r"2 \.\. 16"):
        random_space(1)
    with pytest.raises(InvalidSettingError, match="variant=-1"):
        random_space(4, -1)


def test_the_environment_plays_every_split() -> None:
    for split in ("train", "val", "test"):
        env = gym.make(
            "HPO-SyntheticContinuous-v0", space="mixed-6d", split=split, source_options={"instances": 8}, budget=3
        )
        env.reset(seed=0)
        env.action_space.seed(0)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            over = terminated or truncated
        assert info["trial"] == 3
        assert 0.0 <= info["score"] <= 1.0 and info["regret"] >= -0.01
        env.close()
