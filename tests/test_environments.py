"""Every registered id x every kind of action it can have x every kind of observation, scalar."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import hpo_gym
from hpo_gym.testing import EnvCase

ACTIONS = ("grid_step", "grid_choice", "continuous")
# With another kind of action an id of continuous ones is the id without that word, which is here, too.
VARIANTS = {
    f"{name}-{action}-{observation}": (name, {"action": action, "observation": observation})
    for name in hpo_gym.registered_ids()
    for action in (
        ACTIONS[-1:] if name.replace("Continuous", "") in set(hpo_gym.registered_ids()) - {name} else ACTIONS
    )
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
