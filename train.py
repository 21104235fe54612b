"""Train an agent: ``python train.py agent=dqn env=openml env.space=rpart seed=0 name=first``.

Continue a stopped run with ``python train.py resume=runs/first``; sweep with ``python train.py -m seed=0,1,2``.
Every setting: ``python train.py --cfg job``. The result is a run folder (see ``agents/run_folder.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from agents.command_line import overridden_keys, run_command, store
from agents.environments import ENVIRONMENTS, EnvironmentConfig
from agents.experiment import ExperimentConfig, build, resume_training, run_training
from agents.registry import AGENTS
from hpo_gym.errors import InvalidSettingError


@dataclass
class TrainConfig:
    """What the command line sets; see :class:`agents.experiment.ExperimentConfig`."""

    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"agent": "dqn"}, {"env": "openml"}])
    agent: Any = MISSING
    env: Any = MISSING
    seed: int = 0
    name: str | None = None
    runs: str = "runs"
    overwrite: bool = False
    resume: str | None = None
    checkpoint_every: int = ExperimentConfig.checkpoint_every
    keep_checkpoints: int = ExperimentConfig.keep_checkpoints
    log_every: int = ExperimentConfig.log_every
    validate_every: int = ExperimentConfig.validate_every
    validation_seeds: int = ExperimentConfig.validation_seeds
    tensorboard: bool = True


GROUPS = {"agent": list(AGENTS), "env": list(ENVIRONMENTS)}

store("train", TrainConfig)
for _name, _entry in AGENTS.items():
    store(_name, _entry.config, "agent")
for _name, _id in ENVIRONMENTS.items():
    store(_name, EnvironmentConfig(id=_id), "env")


def train(config: DictConfig, overrides: Sequence[str]) -> None:
    """Run or resume a training."""
    if config.resume is not None:
        others = [key for key in overridden_keys(overrides) if key != "resume"]
        if others:
            raise InvalidSettingError(
                f"resume= continues a run with its own settings; leave out {', '.join(others)}, or train a new run."
            )
        folder = resume_training(config.resume)
    else:
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        values.pop("resume")
        agent_class = OmegaConf.get_type(config, "agent")
        assert agent_class is not None  # a structured config of the group
        agent = build(agent_class, values.pop("agent"), "agent setting")
        env = build(EnvironmentConfig, values.pop("env"), "environment setting")
        folder = run_training(ExperimentConfig(agent=agent, env=env, **values))
    state = "finished" if folder.finished else "stopped"
    print(f"{state}: {folder.path}  (evaluate with `python evaluate.py run={folder.path}`)")
    print(f"curves: tensorboard --logdir {folder.path}")


if __name__ == "__main__":
    sys.exit(run_command("train", train, GROUPS))
