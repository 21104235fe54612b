"""``python small_agents.py <folder> <agent> ...``: begins small runs of agents; prints the signals that ended them.

Every run is trained by a process of its own, which is killed by SIGKILL as soon as there is a checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import run_training
from agents.registry import find_agent

#: Smaller still than what learns the tiny environments.
SIZES: dict[str, dict[str, Any]] = {
    "sb3_ppo": {"total_steps": 896, "n_steps": 8, "batch_size": 64, "n_epochs": 2},
    "sb3_a2c": {"total_steps": 800},
    "random": {"total_steps": 800},
    "grpo": {"total_steps": 960, "group_size": 8, "width": 16, "layers": 1, "heads": 2, "bins": 8, "proposals": 1},
    "grpo_universal": {
        "hidden_descriptors": 0.5,
        "total_steps": 960,
        "group_size": 8,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "bins": 8,
        "spaces": ("bbob-3d",),
    },
}
OFF_POLICY = {"total_steps": 800, "learning_starts": 200, "batch_size": 32, "transitions_per_update": 32}
STABLE = {"total_steps": 800, "learning_starts": 200, "batch_size": 32, "train_freq": 32, "buffer_size": 500}


def small_experiment(name: str, runs: Path) -> ExperimentConfig:
    """Return a run of some fifty vector steps, with a checkpoint in the middle."""
    sizes = SIZES.get(name) or (STABLE if name.startswith("sb3_") else OFF_POLICY)
    agent = find_agent(name).config(**sizes)
    env: dict[str, Any] = {"id": "HPO-Synthetic-v0", "space": "bbob-2d", "num_envs": 16, "budget": 10}
    # All two dozen functions are computed in every step: most of what a small training would take.
    env["source_options"] = {"functions": ["sphere", "rosenbrock", "different_powers"], "instances": 2}
    if "grid_choice" in find_agent(name).agent.action_kinds[:1]:
        env["levels"] = 5
    if name == "hyp_rl_faithful":
        env |= {"reward": "delta", "terminate_on_repeat": True}
    return ExperimentConfig(
        agent=agent,
        env=EnvironmentConfig(**env),
        name=name,
        runs=str(runs),
        checkpoint_every=400,
        validate_every=0,
        tensorboard=False,
    )


def policy_digest(folder: Path) -> str:
    """Return a hash of everything in a run's policy."""
    content = hashlib.sha256()
    for key, value in _leaves(torch.load(folder / "policy.pt", weights_only=True)["state"]):
        content.update(key.encode())
        content.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return content.hexdigest()


def _leaves(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in sorted(state, key=str):
        value = state[name]
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def die_after(folder: Path) -> None:
    """Kill this process as soon as a checkpoint is there."""

    def watch() -> None:
        while not list((folder / "checkpoints").glob("step-*.pt")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


# What a first gradient step and the agents of Stable-Baselines3 import: seconds in each of the processes, if it is
# not there already. No agent is made of it, and nothing is trained.
LATE = ("torch._dynamo", "stable_baselines3", "sb3_contrib", "tensorboard.compat")


def train_and_die(name: str, runs: Path) -> int:
    """Train until the first checkpoint in a process of its own; return the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        # No way back into the caller, whatever happens.
        try:
            die_after(runs / name)
            run_training(small_experiment(name, runs))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    runs, names = Path(arguments[0]), arguments[1:]
    for module in LATE:
        importlib.import_module(module)
    signals = {name: train_and_die(name, runs) for name in names}
    print(json.dumps(signals))


if __name__ == "__main__":
    main(sys.argv[1:])
