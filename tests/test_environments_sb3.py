"""Stable-Baselines3 trains on the scalar environments as they come out of ``gymnasium.make``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hpo_gym
from hpo_gym.seeding import generator

sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install -e '.[sb3]'")

pytestmark = pytest.mark.slow

# Small networks and buffers: what is tested is the interface, not how well SB3 learns.
SMALL = {"net_arch": [16]}
DQN = {"buffer_size": 500, "learning_starts": 40, "batch_size": 16, "target_update_interval": 50}
PPO = {"n_steps": 64, "batch_size": 32, "n_epochs": 2}
SAC = {"buffer_size": 500, "learning_starts": 40, "batch_size": 16}

# SB3's DQN and PPO for grids, SAC and PPO for points of the unit cube.
CASES = {
    f"{algorithm}-{name}-{action}": (algorithm, settings, name, action)
    for algorithm, settings, actions in (
        ("DQN", DQN, ("grid_step", "grid_choice")),
        ("PPO", PPO, ("grid_step", "continuous")),
        ("SAC", SAC, ("continuous",)),
    )
    for action in actions
    for name in ("HPO-OpenML-v0", "HPO-SyntheticContinuous-v0")
}


def make(name: str, action: str, observation: str, **more: Any) -> gym.Env[Any, Any]:
    return gym.make(name, action=action, observation=observation, budget=8, **more)
