"""Train an agent: ``python train.py agent=dqn env=openml env.space=rpart seed=0 name=first``.

Continue a stopped run with ``python train.py resume=runs/first``; sweep with ``python train.py -m seed=0,1,2``.
The result is a run folder (see ``agents/run_folder.py``). ``--help`` lists the settings.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from agents.command_line import run_command, store
from agents.environments import ENVIRONMENTS, EnvironmentConfig, space_name
from agents.experiment import ExperimentConfig, build, resume_training, run_training
from agents.overrides import Overrides
from agents.registry import AGENTS, trainable_names
from hpo_gym.errors import InvalidSettingError

HELP = """
Train an agent, and keep the policy that does best on validation datasets in a run folder.

  python train.py [agent=...] [env=...] [key=value ...]
  python train.py agent=dqn env=openml env.space=xgboost seed=0 name=first
  python train.py resume=runs/first                 go on after a stop
  python train.py -m seed=0,1,2 agent.discount=0.9,0.95
                                                    a sweep: one run for each combination
  python train.py --cfg job                         every setting and its value

Settings (key=value):
  name               name of the run folder; default: agent, space and seed, and in a sweep what differs
  runs               folder of run folders (default: runs)
  overwrite          replace a run of that name (default: false)
  resume             run folder to continue with its own settings
  seed               root of all random numbers (default: 0)
  agent.total_steps  transitions to train on; agent.<setting> are those of the chosen agent
  env.space          search space; env.budget: evaluations per episode; env.device: cpu or cuda;
                     env.num_envs: episodes at once; env.id: an id of your own instead of env=, and
                     env.id=<module>:<id> imports your module first that registers it (register_card)
  validate_every     transitions between measurements on validation datasets, 0 for none;
                     validation_seeds: repetitions per dataset
  checkpoint_every   transitions between checkpoints; keep_checkpoints: how many stay
  log_every          transitions between points in TensorBoard; tensorboard=false writes none
"""

# Part of a run's name already, or no property of what is trained.
_NOT_IN_NAME = ("seed", "runs", "overwrite", "name")


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


GROUPS = {"agent": trainable_names(), "env": list(ENVIRONMENTS)}

store("train", TrainConfig)
for _name in GROUPS["agent"]:
    store(_name, AGENTS[_name].config, "agent")
for _name, _id in ENVIRONMENTS.items():
    store(_name, EnvironmentConfig(id=_id), "env")


def train(config: DictConfig, overrides: Overrides) -> None:
    """Run or resume a training."""
    if config.resume is not None:
        others = [key for key in overrides.keys if key != "resume"]
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
        experiment = ExperimentConfig(agent=agent, env=env, **values)
        folder = run_training(dataclasses.replace(experiment, name=_run_name(experiment, overrides)))
    state = "finished" if folder.finished else "stopped"
    print(f"{state}: {folder.path}  (evaluate with `python evaluate.py run={folder.path}`)")
    print(f"curves: tensorboard --logdir {folder.path}")


def _run_name(experiment: ExperimentConfig, overrides: Overrides) -> str | None:
    """Return a name that no other job of a sweep has; ``None`` leaves it to the experiment."""
    if experiment.name is None:
        label = overrides.label(without=_NOT_IN_NAME)
        start = f"{experiment.agent_name}-{space_name(experiment.env)}-seed{experiment.seed}"
        return f"{start}-{label}" if label else None
    label = "" if "name" in Overrides(overrides.swept).keys else overrides.label(without=("runs", "overwrite"))
    return f"{experiment.name}-{label}" if label else experiment.name


if __name__ == "__main__":
    sys.exit(run_command("train", train, GROUPS, help_text=HELP))
