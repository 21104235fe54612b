"""Every agent that is trained: the same bits in another process, and after SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_agents import policy_digest, small_experiment
from training_runs import REPOSITORY

from agents.experiment import resume_training, run_training
from agents.registry import trainable_names

SCRIPT = Path(__file__).with_name("small_agents.py")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of policies that were trained in this process without a break, one after the other."""
    runs = tmp_path_factory.mktemp("here")
    return {name: policy_digest(run_training(small_experiment(name, runs)).path) for name in trainable_names()}


@dataclass(frozen=True)
class Killed:
    """Runs that other processes began, each one of its own, and the signals that ended them."""

    runs: Path
    signals: dict[str, int]
    printed: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    runs = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(runs), *trainable_names()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Killed(runs, json.loads(done.stdout.splitlines()[-1]), done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", trainable_names())
def test_a_training_that_another_process_began_and_was_killed_in_ends_with_the_same_bits(here, killed, name):
    """What one agent leaves behind in this process must not reach the next: over there no other came before."""
    assert killed.signals[name] == signal.SIGKILL, f"it ended before it was killed: {killed.printed}"
    folder = resume_training(killed.runs / name)
    assert folder.finished
    assert policy_digest(folder.path) == here[name]
