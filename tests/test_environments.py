"""Every registered id x every kind of action it can have x every kind of observation, scalar."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from made_environments import scalar_maker, vector_maker

import hpo_gym
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.testing import EnvCase, VectorEnvCase

# What real training answers takes time and a measured number of seconds: tests/test_live_*.py play those ids.
IDS = [name for name in hpo_gym.registered_ids() if "Live" not in name]
ACTIONS = ("grid_step", "grid_choice", "continuous")
# With another kind of action an id of continuous ones is the id without that word, which is here, too.
VARIANTS = {
    f"{name}-{action}-{observation}": (name, {"action": action, "observation": observation})
    for name in IDS
    for action in (ACTIONS[-1:] if name.replace("Continuous", "") in set(IDS) - {name} else ACTIONS)
    for observation in ("flat", "history")
}
# Pictures take a while and depend neither on the action nor on the observation.
DRAWN = {name: (name, {}) for name in IDS}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param


@pytest.fixture
def available(
    variant: tuple[str, dict[str, Any]], hpob_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, Any]]:
    """Return a variant's id and settings, where its data are to be had."""
    name, settings = variant
    if "HPOB" in name:
        monkeypatch.setenv("HPO_GYM_CACHE", str(hpob_folder / "cache"))
        monkeypatch.setenv("HPO_GYM_DATA", str(hpob_folder))
        settings = settings | {"space": "5860"}
    if "YAHPO" in name and not os.environ.get("HPO_GYM_DATA"):
        pytest.skip("needs the published data: set HPO_GYM_DATA")
    return name, {"budget": 6} | settings


class TestRegistered(EnvCase):
    @pytest.fixture
    def make_env(self, available: tuple[str, dict[str, Any]]) -> Callable[..., gym.Env[Any, Any]]:
        return scalar_maker(*available)

    @pytest.mark.parametrize("variant", DRAWN.values(), ids=DRAWN, indirect=True)
    def test_render(self, make_env: Callable[..., gym.Env[Any, Any]]) -> None:
        super().test_render(make_env)


@pytest.mark.parametrize("variant", DRAWN.values(), ids=DRAWN, indirect=True)
class TestVector(VectorEnvCase):
    """Every registered id as its card has it; kinds of actions and observations: tests/test_environments_tiny.py."""

    @pytest.fixture
    def make_env(self, available: tuple[str, dict[str, Any]]) -> Callable[..., gym.Env[Any, Any]]:
        return scalar_maker(*available)

    @pytest.fixture
    def make_vector_env(self, available: tuple[str, dict[str, Any]]) -> Callable[..., HPOVectorEnv]:
        return vector_maker(*available)
