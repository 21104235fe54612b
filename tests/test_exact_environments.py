"""The exact surrogates as environments, and the embedded surfaces against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from made_environments import scalar_maker, vector_maker
from scipy.stats import spearmanr

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.fitting.recipes import SURROGATE_RECIPES
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.sources.bundle_files import read_bundle
from hpo_gym.testing import EnvCase, VectorEnvCase

pytestmark = pytest.mark.slow

# The default restriction of rbv2_xgboost fixes the booster, on which every condition depends.
ORIGINAL = {"space": "rbv2_xgboost", "source_options": {"restriction": "original"}}

# Few variants, each with something of its own: conditions, epochs, paid epochs.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rpart": ("HPO-YAHPO-v0", {"space": "rbv2_rpart"}),
    "rpart-continuous": ("HPO-YAHPOContinuous-v0", {"space": "rbv2_rpart", "observation": "history"}),
    "xgboost": ("HPO-YAHPOContinuous-v0", {"space": "rbv2_xgboost", "start": "random"}),
    "xgboost-conditions": ("HPO-YAHPO-v0", ORIGINAL | {"observation": "history"}),
    "xgboost-conditions-continuous": ("HPO-YAHPOContinuous-v0", ORIGINAL | {"start": "random"}),
    "lcbench": ("HPO-YAHPO-v0", {"space": "lcbench"}),
    "nb301": ("HPO-YAHPO-v0", {"space": "nb301@v2"}),
    "lcbench-paid-epochs": ("HPO-YAHPOContinuous-v0", {"space": "lcbench", "multi_fidelity": True}),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest, data_folder: Any) -> tuple[str, dict[str, Any]]:
    name, settings = request.param
    return name, {"budget": 5} | settings


# Pictures take a while and depend on nothing but whether epochs are paid for.
DRAWN = pytest.mark.parametrize(
    "variant", [VARIANTS["rpart"], VARIANTS["lcbench-paid-epochs"]], indirect=True, ids=["rpart", "lcbench-paid-epochs"]
)


class TestScalar(EnvCase):
    @pytest.fixture
    def make_env(self, variant: tuple[str, dict[str, Any]]) -> Callable[..., gym.Env[Any, Any]]:
        return scalar_maker(*variant)

    @DRAWN
    def test_render(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        super().test_render(make_env)


class TestVector(VectorEnvCase):
    @pytest.fixture
    def make_env(self, variant: tuple[str, dict[str, Any]]) -> Callable[..., gym.Env[Any, Any]]:
        return scalar_maker(*variant)

    @pytest.fixture
    def make_vector_env(self, variant: tuple[str, dict[str, Any]]) -> Callable[..., HPOVectorEnv]:
        return vector_maker(*variant)

    @DRAWN
    def test_render(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        super().test_render(make_vector_env)


def test_conditions_are_played_not_ignored(data_folder: Any) -> None:
    env: Any = gym.make("HPO-YAHPOContinuous-v0", budget=40, observation="history", **ORIGINAL)
    env.action_space.seed(0)
    env.reset(seed=0)
    names, told, done = set(env.unwrapped.suite.space.names), [], False
    while not done:
        _, _, done, _, _ = env.step(env.action_space.sample())
        told.append(set(env.unwrapped.configuration))
    # A hyperparameter that its booster does not have is no part of the configuration.
    assert all(seen <= names for seen in told) and len({frozenset(seen) for seen in told}) >= 3
    assert not all(seen == names for seen in told)


def test_the_default_space_is_free_of_the_saturating_booster(data_folder: Any) -> None:
    restricted, original = (load_suite("yahpo", "rbv2_xgboost", restriction=name) for name in ("default", "original"))
    assert not restricted.space.spec.conditions and len(original.space.spec.conditions) >= 5
    assert any("DEFECTIVE" in note for note in original.spec.notes)
    shares = []
    for suite in (restricted, original):
        u = suite.space.sample(400, generator(3, "test", "saturation"))
        active = suite.space.active(u)
        best = [
            suite.evaluate(torch.full((400,), index), u, active).score.max() for index in range(0, suite.num_tasks, 4)
        ]
        shares.append(float((torch.stack(best) >= 1.0 - 1e-4).double().mean()))
    assert shares[0] < 0.05 < shares[1]


def test_paid_epochs_buy_more_trials_than_full_trainings(data_folder: Any) -> None:
    env: Any = gym.make("HPO-YAHPOContinuous-v0", space="lcbench", budget=5, multi_fidelity=True)
    env.reset(seed=0)
    cheap = env.action_space.low.copy()
    steps, done = 0, False
    while not done:
        _, _, done, _, info = env.step(cheap)
        steps += 1
        assert 0.0 < info["fidelity"] < 0.2
    assert steps > 20


@pytest.mark.parametrize("recipe", SURROGATE_RECIPES, ids=lambda recipe: recipe.space)
def test_an_embedded_surface_ranks_like_its_original_on_random_configurations(recipe: Any, data_folder: Any) -> None:
    ours, exact = load_suite("bundled", recipe.space), load_suite("yahpo", recipe.scenario)
    assert ours.space.spec == exact.space.spec
    # Other configurations than those that the published figures were measured on.
    u = ours.space.sample(1000, generator(2024, "test", "agreement", recipe.space))
    active = ours.space.active(u)
    scores, costs, biases = [], [], []
    for index, ref in enumerate(ours.tasks):
        with torch.no_grad():
            mine = ours.evaluate(torch.full((1000,), index), u, active)
            theirs = exact.evaluate(torch.full((1000,), exact.position(ref)), u, active)
        scores.append(float(spearmanr(mine.score.numpy(), theirs.score.numpy()).statistic))
        column, other = ours.cost_column, exact.cost_column
        assert column is not None and other is not None
        costs.append(float(spearmanr(mine.metrics[:, column].numpy(), theirs.metrics[:, other].numpy()).statistic))
        biases.append(float((mine.score - theirs.score).abs().mean()))
    agreement = torch.tensor(scores).double()
    assert float(agreement.median()) >= 0.98
    assert float(agreement.quantile(0.05)) >= 0.93
    assert float(torch.tensor(costs).median()) >= 0.95
    # Not only ranks: accuracies themselves are within a point of the original's.
    assert float(torch.tensor(biases).median()) < 0.01
    # The published figures are those that are found here.
    published = read_bundle(recipe.space)[0]["quality"]["summary"]
    assert float(agreement.median()) == pytest.approx(published["spearman_median"], abs=0.005)


@pytest.mark.parametrize("recipe", SURROGATE_RECIPES, ids=lambda recipe: recipe.space)
def test_every_task_of_an_original_is_embedded_or_excluded_with_a_reason(recipe: Any, data_folder: Any) -> None:
    exact = {str(ref) for ref in load_suite("yahpo", recipe.scenario).tasks}
    header = read_bundle(recipe.space)[0]
    excluded = {exclusion["task"] for exclusion in header["excluded"]}
    assert excluded | set(header["tasks"]) == exact
    assert len(excluded) + len(header["tasks"]) == len(exact)
