"""Small training runs that the tests of train.py and of run folders share."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from agents.configuration import ExperimentConfig
from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig

REPOSITORY = Path(__file__).resolve().parent.parent

SMALL = DQNConfig(
    total_steps=3_000,
    hidden=(32,),
    learning_starts=200,
    batch_size=64,
    transitions_per_update=32,
    buffer_size=1_500,
    learning_rate=1e-3,
)

#: The same on the command line.
OVERRIDES = [
    "env=synthetic",
    "env.space=bbob-2d",
    "env.num_envs=16",
    "env.budget=10",
    "agent.total_steps=3000",
    "agent.hidden=[32]",
    "agent.learning_starts=200",
    "agent.batch_size=64",
    "agent.transitions_per_update=32",
    "agent.buffer_size=1500",
    "agent.learning_rate=0.001",
    "checkpoint_every=500",
    "log_every=500",
]


def experiment(runs: Path, **changes) -> ExperimentConfig:
    settings = {
        "agent": SMALL,
        "env": EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=16, budget=10),
        "name": "run",
        "runs": str(runs),
        "checkpoint_every": 500,
        "log_every": 500,
    }
    return ExperimentConfig(**(settings | changes))


def arguments(*given: str, script: str = "train.py") -> list[str]:
    return [sys.executable, str(REPOSITORY / script), *given]


def surroundings() -> dict[str, str]:
    """The environment variables of a subprocess: one thread, as in the tests themselves."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*given: str, script: str = "train.py", **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(*given, script=script),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=surroundings(),
        **options,
    )


def digest(folder: Path) -> str:
    """A hash of the trained network's numbers."""
    state = torch.load(folder / "policy.pt", weights_only=True)["state"]["target"]
    content = hashlib.sha256()
    for name in sorted(state):
        content.update(name.encode() + state[name].numpy().tobytes())
    return content.hexdigest()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run, but for its speed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
