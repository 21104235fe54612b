"""Every agent that is trained: the same bits in another process, and after SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_agents import main, policy_digest, small_experiment
from training_runs import REPOSITORY

from agents.experiment import resume_training, run_training
from agents.registry import trainable_names

SCRIPT = Path(__file__).with_name("small_agents.py")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of policies that were trained without a break in this process."""
    runs = tmp_path_factory.mktemp("here")
    return {name: policy_digest(run_training(small_experiment(name, runs)).path) for name in trainable_names()}


@pytest.mark.slow
def test_another_process_trains_the_same_agents(here, tmp_path):
    environment = os.environ | {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    # In another order: what one agent leaves behind must not reach the next.
    names = sorted(trainable_names(), reverse=True)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in here if here[name] != there[name]} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", trainable_names())
def test_a_killed_training_resumes_to_the_same_bits(here, name, tmp_path):
    child = os.fork()
    if child == 0:
        # No way back into pytest, whatever happens.
        try:
            main([str(tmp_path), name, "--die"])
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it ended before it was killed"
    folder = resume_training(tmp_path / name)
    assert folder.finished
    assert policy_digest(folder.path) == here[name]
