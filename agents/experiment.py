"""One training run, from configuration to result; what ``train.py`` calls and tests call without Hydra."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent, Interface
from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig, make_environment
from agents.progress import TrainingDisplay
from agents.registry import AGENTS, find_agent
from agents.run_folder import RunFolder
from agents.validation import Validation
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.tasks.datasets import dataset_key

__all__ = ["ExperimentConfig", "TrainedAgent", "load_trained", "resume_training", "run_training"]

_FORMAT = 1


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides a training run.

    Args:
        agent: The agent's configuration; its class says which agent.
        env: The environment.
        seed: Root of the seed tree.
        name: Name of the run folder; ``None`` makes one of agent, space and seed.
        runs: Folder of run folders.
        overwrite: Replace a run of that name.
        checkpoint_every: Transitions between checkpoints.
        keep_checkpoints: How many checkpoints stay.
        log_every: Transitions between points in TensorBoard.
        validate_every: Transitions between measurements on the validation split; the policy that does best there
            is the one that is kept. 0 keeps the last.
        validation_seeds: Repetitions per validation task.
        tensorboard: Whether to write TensorBoard events.
    """

    agent: Any = field(default_factory=DQNConfig)
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    seed: int = 0
    name: str | None = None
    runs: str = "runs"
    overwrite: bool = False
    checkpoint_every: int = 250_000
    keep_checkpoints: int = 2
    log_every: int = 10_000
    validate_every: int = 25_000
    validation_seeds: int = 4
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("checkpoint_every", "keep_checkpoints", "log_every"):
            if getattr(self, name) < 1:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be at least 1.")
        if self.validate_every < 0 or self.validation_seeds < 1:
            raise InvalidSettingError(
                f"validate_every={self.validate_every!r} must not be negative and validation_seeds="
                f"{self.validation_seeds!r} must be at least 1."
            )
        if self.seed < 0:
            raise InvalidSettingError(f"seed={self.seed!r} must not be negative.")

    @property
    def agent_name(self) -> str:
        """The agent's registered name."""
        return next(name for name, entry in AGENTS.items() if isinstance(self.agent, entry.config))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_mapping` reads back."""
        values: dict[str, Any] = _plain(asdict(self))
        values["agent"] = {"name": self.agent_name, **values["agent"]}
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ExperimentConfig:
        """Read a configuration from plain values.

        Raises:
            UnknownNameError: For an unknown key or agent.
            InvalidSettingError: For a value outside its range.
        """
        given = dict(values)
        agent = dict(given.pop("agent"))
        config_class = find_agent(str(agent.pop("name"))).config
        env = build(EnvironmentConfig, given.pop("env"), "environment setting")
        rest = _known(cls, given, "setting")
        return cls(agent=build(config_class, agent, "agent setting"), env=env, **rest)


def build(config_class: type[Any], values: Mapping[str, Any], kind: str) -> Any:
    """Make a configuration dataclass of plain values; lists become tuples.

    Raises:
        UnknownNameError: For an unknown key, with the closest name.
    """
    return config_class(**_known(config_class, values, kind))


def _known(config_class: type[Any], values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    names = [f.name for f in fields(config_class)]
    for key in values:
        if key not in names:
            raise unknown_name(kind, key, names)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True)
class TrainedAgent:
    """An agent out of a run folder, and what it was trained on."""

    agent: Agent
    config: ExperimentConfig
    training_datasets: tuple[str, ...]
    folder: Path


def run_training(config: ExperimentConfig, stop_after: int | None = None) -> RunFolder:
    """Train an agent in a new run folder.

    Args:
        config: The run.
        stop_after: Stop, resumable, once this many transitions were made (default: at the end).

    Raises:
        InvalidSettingError: If the folder exists, or agent and environment do not fit.
    """
    env = make_environment(config.env, num_envs=config.env.num_envs)
    agent = _make_agent(config, env)
    name = config.name or f"{config.agent_name}-{env.suite.name}-seed{config.seed}"
    provenance = {"suite": f"{env.suite.spec.source}:{env.suite.name}", **env.suite.spec.provenance}
    folder = RunFolder.create(Path(config.runs) / name, config.to_mapping(), provenance, config.overwrite)
    env.reset(seed=config.seed)
    _train(config, agent, env, folder, _validation(config, env), stop_after)
    return folder


def resume_training(path: str | Path, stop_after: int | None = None) -> RunFolder:
    """Continue a run from its newest checkpoint with its own settings.

    Raises:
        DataMissingError: If there is no run.
        DataIntegrityError: If its files are corrupt.
    """
    folder = RunFolder.open(Path(path))
    config = ExperimentConfig.from_mapping(folder.config())
    if folder.finished:
        return folder
    env = make_environment(config.env)
    agent = _make_agent(config, env)
    validation = _validation(config, env)
    checkpoint = folder.latest_checkpoint()
    if checkpoint is None:
        env.reset(seed=config.seed)
    else:
        _require_fit(checkpoint, config, agent, path)
        agent.load_state_dict(checkpoint["state"])
        env.load_state_dict(checkpoint["environment"])
        validation.load_state_dict(checkpoint["validation"])
    _train(config, agent, env, folder, validation, stop_after)
    return folder


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> TrainedAgent:
    """Load the agent of a run folder.

    Raises:
        DataMissingError: If there is no run, or no trained agent in it.
        DataIntegrityError: If its files are corrupt.
    """
    folder = RunFolder.open(Path(path))
    config = ExperimentConfig.from_mapping(folder.config())
    saved = folder.policy()
    interface = dict(saved["interface"])
    interface["hyperparameters"] = tuple(interface["hyperparameters"])
    agent = find_agent(config.agent_name).agent(config.agent, Interface(**interface), config.seed, device)
    _require_fit(saved, config, agent, path)
    agent.load_state_dict(saved["state"])
    return TrainedAgent(agent, config, tuple(saved["training_datasets"]), folder.path)


def _make_agent(config: ExperimentConfig, env: HPOVectorEnv) -> Agent:
    return find_agent(config.agent_name).agent(config.agent, Interface.of(env), config.seed, env.device)


def _validation(config: ExperimentConfig, env: HPOVectorEnv) -> Validation:
    learns = find_agent(config.agent_name).agent.learns
    return Validation(env, config.validate_every if learns else 0, config.validation_seeds, config.seed)


def _require_fit(saved: Mapping[str, Any], config: ExperimentConfig, agent: Agent, path: str | Path) -> None:
    if saved.get("format") != _FORMAT or saved.get("agent") != config.agent_name:
        raise InvalidSettingError(
            f"The checkpoint in {path} is of format {saved.get('format')!r} and agent {saved.get('agent')!r}; this "
            f"version reads format {_FORMAT} and config.yaml says {config.agent_name!r}. Train again."
        )
    interface = dict(saved["interface"])
    interface["hyperparameters"] = tuple(interface["hyperparameters"])
    Interface(**interface).require_same(agent.interface)


def _train(
    config: ExperimentConfig,
    agent: Agent,
    env: HPOVectorEnv,
    folder: RunFolder,
    validation: Validation,
    stop_after: int | None,
) -> None:
    total = int(agent.config.total_steps)
    done = agent.steps
    datasets = sorted({dataset_key(env.suite.tasks[index]) for index in env.engine.tasks.tolist()})
    identity = {
        "format": _FORMAT,
        "agent": config.agent_name,
        "interface": _plain(asdict(agent.interface)),
        "training_datasets": datasets,
    }

    def save_checkpoint(steps: int) -> None:
        parts = {"state": agent.state_dict(), "environment": env.state_dict(), "validation": validation.state_dict()}
        folder.save_checkpoint(steps, {**identity, **parts}, config.keep_checkpoints)

    title = f"{config.agent_name} on {env.suite.spec.source}:{env.suite.name}"
    recorder = _Recorder(folder.path, done, config)
    next_checkpoint = (done // config.checkpoint_every + 1) * config.checkpoint_every
    stopped = False
    with recorder, TrainingDisplay(title, total, done) as display:

        def callback(steps: int, logs: Mapping[str, float | Tensor], info: Mapping[str, Any]) -> bool:
            nonlocal next_checkpoint, stopped
            if validation.due(steps) or (validation.active and steps >= total):
                recorder.validated(steps, validation.measure(agent, steps))
            if recorder.add(steps, logs, info, display.steps_per_second(steps)):
                display.update(steps, recorder.figures)
            if steps >= next_checkpoint and steps < total:
                next_checkpoint = (steps // config.checkpoint_every + 1) * config.checkpoint_every
                save_checkpoint(steps)
            stopped = stop_after is not None and steps >= stop_after and steps < total
            return stopped

        agent.train(env, callback)
        display.update(agent.steps, recorder.figures)
        save_checkpoint(agent.steps)
        if not stopped:
            folder.save_policy({**identity, "state": validation.best(agent)})
            result: dict[str, Any] = {"steps": agent.steps, "training_datasets": len(datasets), **recorder.figures}
            if validation.active:
                result |= {"validation": validation.best_regret, "chosen_after_steps": validation.best_steps}
            folder.write_result(result)


class _Recorder:
    """Collects what ended episodes report and writes it to TensorBoard."""

    def __init__(self, path: Path, done: int, config: ExperimentConfig) -> None:
        self._writer: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(path), purge_step=done or None)
        self._every = config.log_every
        self._next = (done // self._every + 1) * self._every
        self._sums: dict[str, Tensor] = {}
        self._episodes = 0
        self.figures: dict[str, float] = {}

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def validated(self, steps: int, regret: float) -> None:
        """Take in a measurement on the validation split."""
        self.figures["validation"] = regret
        if self._writer is not None:
            self._writer.add_scalar("validation/regret", regret, steps)

    def add(self, steps: int, logs: Mapping[str, float | Tensor], info: Mapping[str, Any], speed: float) -> bool:
        """Take in a step; return whether the figures are new."""
        if "_episode" in info:
            ended = info["_episode"]
            parts = {"return": info["episode"]["r"], "incumbent": info["final_info"]["incumbent"]}
            if "regret" in info["final_info"]:
                parts["regret"] = info["final_info"]["regret"]
            for name, values in parts.items():
                self._sums[name] = self._sums.get(name, torch.zeros((), device=ended.device)) + values[ended].sum()
            self._episodes += int(ended.sum())
        if steps < self._next:
            return False
        self._next = (steps // self._every + 1) * self._every
        if self._episodes:
            self.figures |= {name: float(total) / self._episodes for name, total in self._sums.items()}
            self._sums, self._episodes = {}, 0
        self.figures |= {name: float(logs[name]) for name in ("epsilon", "loss") if name in logs}
        if self._writer is not None:
            for name in ("return", "incumbent", "regret"):
                if math.isfinite(self.figures.get(name, math.nan)):
                    self._writer.add_scalar(f"episode/{name}", self.figures[name], steps)
            for name, value in logs.items():
                self._writer.add_scalar(f"agent/{name}", float(value), steps)
            self._writer.add_scalar("time/steps_per_second", speed, steps)
        return True
