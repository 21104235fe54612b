"""Every registered id x every action kind x every observation kind, scalar."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import hpo_gym
from hpo_gym.testing import EnvCase

VARIANTS = {
    f"{name}-{action}-{observation}": (name, {"action": action, "observation": observation})
    for name in hpo_gym.registered_ids()
    for action in ("grid_step", "grid_choice", "continuous")
    for observation in ("flat", "history")
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def make_env(request: pytest.FixtureRequest) -> Callable[..., gym.Env[Any, Any]]:
    name, settings = request.param
    if "YAHPO" in name and not os.environ.get("HPO_GYM_DATA"):
        pytest.skip("needs the published data: set HPO_GYM_DATA")
    return lambda **overrides: gym.make(name, **({"budget": 6} | settings | overrides))


class TestRegistered(EnvCase):
    @pytest.fixture
    def make_env(self, make_env: Callable[..., gym.Env[Any, Any]]) -> Callable[..., gym.Env[Any, Any]]:
        return make_env
