"""Train an agent: ``python train.py agent=dqn env=openml env.space=rpart seed=0 name=first``.

Continue a stopped run with ``python train.py resume=runs/first``; sweep with ``python train.py -m seed=0,1,2``.
The result is a run folder (see ``agents/run_folder.py``). ``--help`` lists the settings.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from agents.command_line import require_named, run_command, store
from agents.environments import ENVIRONMENTS, EnvironmentConfig, preset, space_name
from agents.experiment import ExperimentConfig, build, resume_training, run_training
from agents.overrides import Overrides
from agents.processes import is_first_process
from agents.registry import AGENTS, MODEL_TRAININGS, trainable_names
from agents.run_folder import RunFolder, as_override, default_name
from agents.spg_run import SPGRun, is_spg_run, resume_spg, run_spg
from agents.spg_settings import SPGConfig
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
  threads            threads that torch computes on (default: 1); more pay off for large batches on free cores

torchrun --nproc-per-node 2 train.py agent=grpo ... trains one policy in several processes or on several GPUs
(agents grpo and grpo_universal; docs/agents/grpo.md).

agent=spg tunes a network within its own training: agent.task says on what, agent.epochs how long. It has no
environment, so that env.*, checkpoint_every, log_every, validate_every and validation_seeds are refused.
"""

_EVALUATE = "evaluate with `python evaluate.py {}`"

# Part of a run's name already, or no property of what is trained.
_NOT_IN_NAME = ("seed", "runs", "overwrite", "name")

# What a training of a network has not: an environment, transitions, validation datasets.
_OF_EPISODES = ("env", "checkpoint_every", "log_every", "validate_every", "validation_seeds")


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
    threads: int = ExperimentConfig.threads


GROUPS = {"agent": [*trainable_names(), *MODEL_TRAININGS], "env": list(ENVIRONMENTS)}

store("train", TrainConfig)
for _name in trainable_names():
    store(_name, AGENTS[_name].config, "agent")
for _name, _config in MODEL_TRAININGS.items():
    store(_name, _config, "agent")
for _name in ENVIRONMENTS:
    store(_name, preset(_name), "env")


def train(config: DictConfig, overrides: Overrides) -> None:
    """Run or resume a training."""
    if config.resume is not None:
        others = [key for key in overrides.keys if key != "resume"]
        if others:
            raise InvalidSettingError(
                f"resume= continues a run with its own settings; leave out {', '.join(others)}, or train a new run."
            )
        require_named("resume", config.resume, "run", "runs/<name>")
        network = is_spg_run(config.resume)
        folder = resume_spg(config.resume) if network else resume_training(config.resume)
    else:
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        values.pop("resume")
        agent_class = OmegaConf.get_type(config, "agent")
        assert agent_class is not None  # a structured config of the group
        agent = build(agent_class, values.pop("agent"), "agent setting")
        network = isinstance(agent, SPGConfig)
        folder = _train_network(agent, values, overrides) if network else _train_agent(agent, values, overrides)
    if not is_first_process():
        return
    state = "finished" if folder.finished else "stopped"
    use = (
        f"its errors are in {folder.path / 'result.json'}"
        if network
        else _EVALUATE.format(shlex.quote(as_override("run", folder.path)))
    )
    print(f"{state}: {folder.path}  ({use})")
    if folder.has_curves:
        print(f"curves: tensorboard --logdir {shlex.quote(str(folder.path))}")


def _train_agent(agent: Any, values: dict[str, Any], overrides: Overrides) -> RunFolder:
    env = build(EnvironmentConfig, values.pop("env"), "environment setting")
    experiment = ExperimentConfig(agent=agent, env=env, **values)
    start = default_name(experiment.agent_name, space_name(experiment.env), f"seed{experiment.seed}")
    return run_training(dataclasses.replace(experiment, name=_run_name(experiment.name, start, overrides)))


def _train_network(agent: SPGConfig, values: dict[str, Any], overrides: Overrides) -> RunFolder:
    refused = [key for key in overrides.keys if key.partition(".")[0] in _OF_EPISODES]
    if refused:
        raise InvalidSettingError(
            f"agent=spg trains a network on examples and plays no episodes: {', '.join(refused)} would have no effect. "
            "Leave it out; agent.task, agent.epochs and agent.checkpoint_every say what is trained, how long, and how "
            "often it is saved. As an agent of a live environment: `python evaluate.py agents=[spg,random] "
            "env=live_spg`."
        )
    run = SPGRun(agent=agent, **{name: value for name, value in values.items() if name not in _OF_EPISODES})
    return run_spg(dataclasses.replace(run, name=_run_name(run.name, run.label, overrides)))


def _run_name(name: str | None, start: str, overrides: Overrides) -> str | None:
    """Return a name that no other job of a sweep has; ``None`` leaves it to the run, which calls itself ``start``."""
    if name is None:
        label = overrides.label(without=_NOT_IN_NAME)
        return f"{start}-{label}" if label else None
    label = overrides.label(without=("name", "runs", "overwrite"))
    return f"{name}-{label}" if label else name


if __name__ == "__main__":
    sys.exit(run_command("train", train, GROUPS, help_text=HELP))
