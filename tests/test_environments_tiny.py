"""The conformance suites on the tiny suites: all actions, observations, starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.testing import EnvCase, SurrogateCase, VectorEnvCase
from hpo_gym.testing.rollouts import compare
from hpo_gym.testing.tiny import TINY_SUITES, quadratic_suite

VARIANTS = {
    f"{suite}-{action}-{observation}": {
        "suite": suite,
        "action": action,
        "observation": observation,
    }
    for suite in TINY_SUITES
    for action in ("grid_step", "grid_choice", "continuous")
    for observation in ("flat", "history")
}
VARIANTS |= {
    f"fidelity-{action}-paid": {"suite": "fidelity", "action": action, "multi_fidelity": True}
    for action in ("grid_step", "grid_choice", "continuous")
}
VARIANTS["conditional-grid_step-random"] = {"suite": "conditional", "start": "random"}
VARIANTS["conditional-continuous-none"] = {
    "suite": "conditional",
    "action": "continuous",
    "start": "none",
}
VARIANTS["quadratic-grid_step-repeat"] = {
    "suite": "quadratic",
    "terminate_on_repeat": True,
    "observation": "history",
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of an environment, with the suite as ``source``."""
    arguments = dict(request.param)
    suite = TINY_SUITES[arguments.pop("suite")]()
    levels = 4 if arguments.get("action") == "grid_choice" else None
    return {"source": suite, "split": "all", "budget": 6, "levels": levels} | arguments


# Pictures take a while and do not depend on the action.
DRAWN = pytest.mark.parametrize("variant", [VARIANTS["quadratic-grid_step-flat"]], indirect=True, ids=["quadratic"])


class TestScalar(EnvCase):
    @pytest.fixture
    def make_env(self, variant: dict[str, Any]) -> Callable[..., gym.Env[Any, Any]]:
        return lambda **overrides: HPOEnv(**(variant | overrides))

    @DRAWN
    def test_render(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        super().test_render(make_env)


class TestVector(VectorEnvCase):
    @pytest.fixture
    def make_env(self, variant: dict[str, Any]) -> Callable[..., gym.Env[Any, Any]]:
        return lambda **overrides: HPOEnv(**(variant | overrides))

    @pytest.fixture
    def make_vector_env(self, variant: dict[str, Any]) -> Callable[..., HPOVectorEnv]:
        return lambda num_envs, **overrides: HPOVectorEnv(num_envs, **(variant | overrides))

    @DRAWN
    def test_render(self, make_vector_env: Callable[..., HPOVectorEnv]) -> None:
        super().test_render(make_vector_env)


class TestSurrogate(SurrogateCase):
    @pytest.fixture(params=TINY_SUITES)
    def surrogate(self, request: pytest.FixtureRequest) -> Any:
        suite = TINY_SUITES[request.param]()
        self.space = suite.space
        return suite.surrogate

    def activity(self, u: Any) -> Any:
        return self.space.active(u)

    def snap(self, u: Any) -> Any:
        return self.space.snap(u)


def test_results_are_compared_wherever_they_lie() -> None:
    # A tensor with a gradient, like one on another device, cannot be made an array as it is.
    value = torch.ones(3, requires_grad=True)
    compare({"x": value}, {"x": np.ones(3)}, 0.0, "results")
    with pytest.raises(AssertionError, match="results"):
        compare({"x": value}, {"x": 2 * value}, 0.5, "results")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestVectorOnCuda(VectorEnvCase):
    @pytest.fixture
    def make_env(self) -> Callable[..., gym.Env[Any, Any]]:
        return lambda **overrides: HPOEnv(source=quadratic_suite(), split="all", budget=6, **overrides)

    @pytest.fixture
    def make_vector_env(self) -> Callable[..., HPOVectorEnv]:
        fixed = {"split": "all", "budget": 6, "device": "cuda"}
        return lambda num_envs, **overrides: HPOVectorEnv(num_envs, source=quadratic_suite(), **(fixed | overrides))
