"""The same seed gives the same bits in another process, whatever Python's hash seed is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import hpo_gym

# How many seconds a real training takes is measured, and never the same twice.
IDS = [name for name in hpo_gym.registered_ids() if not any(word in name for word in ("YAHPO", "HPOB", "Live"))]
SEEDS = (0, 7)

# Digests of one process: every id, scalar and vector, every seed. Lowest common budget: an autoreset is included.
PROGRAM = """
import hashlib, json, sys
import gymnasium as gym
import numpy as np
import torch
import hpo_gym
from hpo_gym.testing.rollouts import rollout_digest, run_episode

torch.set_num_threads(1)


def update(digest, value):
    if isinstance(value, dict):
        for key in sorted(value):
            digest.update(str(key).encode())
            update(digest, value[key])
    elif isinstance(value, (tuple, list)):
        for item in value:
            update(digest, item)
    else:
        array = np.asarray(value)
        digest.update(str((array.dtype, array.shape)).encode() + array.tobytes())


digests = {}
for name in sys.argv[1:]:
    for seed in (0, 7):
        for observation in ("flat", "history"):
            env = gym.make(name, budget=6, observation=observation)
            digest = hashlib.sha256()
            update(digest, run_episode(env, seed))
            digests[f"{name}/scalar/{observation}/{seed}"] = digest.hexdigest()
            envs = gym.make_vec(name, num_envs=5, budget=6, observation=observation)
            digests[f"{name}/vector/{observation}/{seed}"] = rollout_digest(envs.unwrapped, seed, 8)
print(json.dumps(digests))
"""


def digests(hash_seed: str) -> dict[str, str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *IDS], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def first() -> dict[str, str]:
    return digests("0")


@pytest.mark.slow
def test_two_processes_roll_out_bitwise_alike(first: dict[str, str]) -> None:
    second = digests("4242")
    assert {name for name in first if first[name] != second[name]} == set()
    assert len(first) == len(second) == len(IDS) * len(SEEDS) * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_seeds_and_observations_roll_out_differently(first: dict[str, str], name: str, kind: str) -> None:
    mine = [first[f"{name}/{kind}/{observation}/{seed}"] for observation in ("flat", "history") for seed in SEEDS]
    assert len(set(mine)) == 4


def test_every_id_that_needs_no_data_is_among_them() -> None:
    assert len(IDS) >= 5 and all(name.startswith("HPO-") for name in IDS)
