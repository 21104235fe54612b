"""Several processes that train one policy, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpo_cases
import pytest
import torch

from agents.base import Interface
from agents.dqn import DQN, DQNConfig
from agents.processes import OTHERS, Processes
from agents.saved_files import load
from hpo_gym.errors import InvalidSettingError

ROOT = Path(__file__).resolve().parents[1]

# One launch for all that needs two processes: starting them takes longer than what they do here.
SCRIPT = """
import dataclasses
import sys

import torch

from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import resume_training, run_training
from agents.grpo_config import GRPOConfig
from agents.processes import join_processes

processes = join_processes()
weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))]
(weights[0] * (processes.rank + 1.0)).sum().backward()
if processes.rank == 1:
    weights[1].sum().backward()
processes.average_gradients(weights)
assert torch.equal(weights[0].grad, torch.full((2, 3), 1.5)), weights[0].grad
assert torch.equal(weights[1].grad, torch.full((4,), 0.5)), "who has no gradient has 0"
assert processes.any(processes.rank == 1) and not processes.any(False)
assert processes.gather({"rank": processes.rank}) == ([{"rank": 1}] if processes.rank == 0 else [])
assert processes.seed(7) == 7 if processes.rank == 0 else processes.seed(7) != 7

agent = GRPOConfig(total_steps=2000, proposals=1, group_size=8, width=16, layers=1, heads=2)
env = EnvironmentConfig(space="rpart", num_envs=16, budget=8)
rules = {"validate_every": 700, "validation_seeds": 1, "checkpoint_every": 300, "keep_checkpoints": 20}
whole = ExperimentConfig(agent=agent, env=env, name="whole", runs=sys.argv[1], **rules)
run_training(whole)
# In the middle of an episode, and not at a checkpoint.
stopped = run_training(dataclasses.replace(whole, name="resumed"), stop_after=1000)
assert not stopped.finished
resume_training(stopped.path)
"""


def checkpoints(folder: Path) -> list[dict[str, Any]]:
    return [load(path, ("state",), "").content for path in sorted((folder / "checkpoints").glob("*.pt"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of what two processes trained, and what they printed."""
    runs = tmp_path_factory.mktemp("processes")
    (runs / "script.py").write_text(SCRIPT)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*start, str(runs / "script.py"), str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return runs, done.stdout


def test_two_processes_train_one_policy(trained):
    runs, printed = trained
    assert printed.count("grpo learns with") == 2, "the first process alone says something, of two trainings"
    saved = checkpoints(runs / "whole")
    assert len(saved) >= 5
    for content in saved:
        (other,) = content[OTHERS]
        for name, weight in content["state"]["network"].items():
            assert torch.equal(weight, other["state"]["network"][name]), name
        assert not torch.equal(content["state"]["draws"], other["state"]["draws"])
        assert content["state"]["steps"] == other["state"]["steps"]
    # A vector step counts in both.
    assert all(content["state"]["steps"] % 32 == 0 for content in saved)
    assert len({float(content["state"]["network"]["bias"].sum()) for content in saved}) > 1, "it learns"
    assert load(runs / "whole" / "policy.pt", ("state",), "").content["validation_datasets"]


def test_a_stopped_training_goes_on_as_if_nothing_had_been(trained):
    folders = [trained[0] / name for name in ("whole", "resumed")]
    # The stop, and what comes after it.
    assert len(checkpoints(folders[1])) == len(checkpoints(folders[0])) + 1
    for which in ("checkpoint", "policy"):
        states = [
            checkpoints(folder)[-1]["state"]
            if which == "checkpoint"
            else load(folder / "policy.pt", ("state",), "").content["state"]
            for folder in folders
        ]
        for name, weight in states[0]["network"].items():
            assert torch.equal(weight, states[1]["network"][name]), (which, name)


def test_one_process_is_left_as_it_is(tmp_path):
    alone, weight = Processes(), torch.nn.Parameter(torch.ones(2))
    alone.average_gradients([weight])
    assert weight.grad is None and alone.gather({}) == [] and alone.any(True) and not alone.any(False)
    assert alone.device("cuda") == "cuda" and alone.seed(3) == 3
    saved = {"state": 1, OTHERS: [{"state": 2}]}
    assert Processes(1, 2).own(saved, tmp_path) == {"state": 2}
    with pytest.raises(InvalidSettingError, match=r"of 2 process.*torchrun --nproc-per-node 2"):
        alone.own(saved, tmp_path)
    with pytest.raises(InvalidSettingError, match=r"python train\.py"):
        Processes(0, 2).own({"state": 1}, tmp_path)


def test_an_agent_of_one_process_says_so():
    env = grpo_cases.environment(observation="flat", action="grid_step")
    agent = DQN(DQNConfig(), Interface.of(env), 0)
    agent.join(Processes())
    with pytest.raises(InvalidSettingError, match="Agent 'dqn' trains in one process, and torchrun started 2"):
        agent.join(Processes(1, 2))
