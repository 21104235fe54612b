"""One training run, from configuration to result; what ``train.py`` calls and tests call without Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.base import Interface, TrainableAgent
from agents.configuration import ExperimentConfig, build, plain
from agents.divergence import require_finite_loss, require_finite_policy
from agents.environments import EnvironmentConfig, is_live, make_environment, suited
from agents.interruption import Interruption
from agents.processes import OTHERS, is_first_process, join_processes
from agents.progress import TrainingDisplay, make_console
from agents.recorder import Recorder
from agents.registry import MODEL_TRAININGS, find_trainable
from agents.run_folder import RunFolder, default_name, one_trainer, resume_command
from agents.saved_files import SETTINGS, Saved, deciding, fits, require_same_settings
from agents.validation import Validation
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError, InvalidSettingError
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.threads import torch_threads

__all__ = ["ExperimentConfig", "TrainedAgent", "build", "load_trained", "resume_training", "run_training"]


@dataclass(frozen=True)
class TrainedAgent:
    """An agent out of a run folder, what it was trained on, and what it was chosen by."""

    agent: TrainableAgent
    config: ExperimentConfig
    training_datasets: tuple[str, ...]
    validation_datasets: tuple[str, ...]
    folder: Path


def run_training(config: ExperimentConfig, stop_after: int | None = None) -> RunFolder:
    """Train an agent in a new run folder.

    Args:
        config: The run.
        stop_after: Stop, resumable, once this many transitions were made (default: at the end).

    Raises:
        InvalidSettingError: If the folder exists, or agent and environment do not fit.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint was written; at once after a second one.
    """
    kind = find_trainable(config.agent_name)
    config = replace(config, env=_suited(config.env, kind))
    env, agent = _begin(config)
    # Before a folder is made, or the run that is in it goes.
    agent.require_trainable(env)
    validation = _validation(config, env)
    _require_held_out(agent, env, validation)
    path = Path(config.runs) / (config.name or default_name(config.agent_name, env.suite.name, f"seed{config.seed}"))
    env.reset(seed=agent.processes.seed(config.seed))
    first = is_first_process()
    with one_trainer(path) if first else nullcontext(), torch_threads(config.threads):
        provenance = {"suite": f"{env.suite.spec.source}:{env.suite.name}", **env.suite.spec.provenance}
        values = config.to_mapping()
        folder = RunFolder.create(path, values, provenance, config.overwrite) if first else RunFolder(path)
        _train(config, agent, env, validation, folder, stop_after, None)
    return folder


def resume_training(path: str | Path, stop_after: int | None = None) -> RunFolder:
    """Continue a run from its newest checkpoint with its own settings.

    A finished run stays as it is; where its policy was removed, it is written again.

    Raises:
        DataMissingError: If there is no run.
        DataIntegrityError: If its files are corrupt.
        InvalidSettingError: If another process trains in it, or it was begun with other data, settings or devices.
        KeyboardInterrupt: As for :func:`run_training`.
    """
    folder = RunFolder.open(Path(path))
    if folder.finished and folder.has_policy:
        return folder
    with one_trainer(folder.path) if is_first_process() else nullcontext():
        config = _config(folder)
        checkpoint = folder.latest_checkpoint()
        if folder.finished:
            if is_first_process():
                folder.remove_leftovers()
                _write_policy_again(folder, config, checkpoint)
            return folder
        env, agent = _begin(config)
        folder.require_same_data(env.suite.spec.provenance)
        if checkpoint is None:
            message = f"{folder.path}: no checkpoint yet: starting anew"
            make_console().print(message, markup=False, highlight=False, soft_wrap=True)
            env.reset(seed=agent.processes.seed(config.seed))
        else:
            require_same_settings(checkpoint, deciding(config.to_mapping()), folder.path / "config.yaml")
            _interface(checkpoint, config).require_same(agent.interface)
            mine = agent.processes.own(checkpoint.content, checkpoint.path)
            with fits(checkpoint, folder.path / "config.yaml"):
                agent.load_state_dict(mine["state"])
                env.load_state_dict(mine["environment"])
        # Nobody may still be reading what is removed.
        agent.processes.wait()
        if is_first_process():
            folder.remove_leftovers()
        with torch_threads(config.threads):
            _train(config, agent, env, _validation(config, env), folder, stop_after, checkpoint)
    return folder


def _begin(config: ExperimentConfig) -> tuple[HPOVectorEnv, TrainableAgent]:
    """Return environment and agent of this process."""
    processes = join_processes()
    env = make_environment(replace(config.env, device=processes.device(config.env.device)))
    agent = find_trainable(config.agent_name)(config.agent, Interface.of(env), config.seed, env.device)
    agent.join(processes)
    return env, agent


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> TrainedAgent:
    """Load the agent of a run folder, to act as it was trained to; on any device.

    Raises:
        DataMissingError: If there is no run, or no trained agent in it.
        DataIntegrityError: If its files are corrupt.
        InvalidSettingError: If its files belong to other settings or another version.
    """
    # "." has no name that records could tell it by.
    folder = RunFolder.open(Path(path) if Path(path).name.strip(".") else Path(path).resolve())
    config = _config(folder)
    saved = folder.policy()
    agent = _load_agent(folder, config, saved, device)
    with fits(saved, folder.path / "config.yaml"):
        training, validation = (tuple(saved.content[f"{name}_datasets"]) for name in ("training", "validation"))
    return TrainedAgent(agent, config, training, validation, folder.path)


def _config(folder: RunFolder) -> ExperimentConfig:
    values = folder.config()
    name = values["agent"].get("name") if isinstance(values.get("agent"), Mapping) else None
    if name in MODEL_TRAININGS:
        raise InvalidSettingError(
            f"{folder.path} is a network that {name} has trained, and no policy: there is nothing to evaluate. Its "
            f"errors are in result.json; as an agent it plays live environments: `python evaluate.py "
            f"agents=[{name},random] env=live_{name}`."
        )
    try:
        return ExperimentConfig.from_mapping(values)
    except HPOGymError as error:
        raise DataIntegrityError(
            f"{folder.path / 'config.yaml'}: {error} Correct the file, or train again with overwrite=true."
        ) from error


def _suited(env: EnvironmentConfig, agent: type[TrainableAgent]) -> EnvironmentConfig:
    """Return an environment that an agent can use, and say so where the card has another."""
    chosen = suited(env, agent.action_kinds, agent.observation_kinds)
    # Where models are really trained nobody knows the best score, which such a reward may need.
    if env.reward is None and agent.training_rules and not is_live(env):
        chosen = replace(chosen, **agent.training_rules)
        rules = ", ".join(f"{name}={value}" for name, value in agent.training_rules.items())
        note = f"{agent.name} learns with {rules}; env.reward=... chooses another reward"
        make_console().print(note, markup=False, highlight=False, soft_wrap=True)
    changed = [name for name in ("action", "observation") if getattr(chosen, name) != getattr(env, name)]
    if changed:
        what = " and ".join(f"{name}={getattr(chosen, name)}" for name in changed)
        note = f"{agent.name} plays {env.id} with {what}: what its card says is nothing that it can use"
        make_console().print(note, markup=False, highlight=False, soft_wrap=True)
    return chosen


def _load_agent(
    folder: RunFolder, config: ExperimentConfig, saved: Saved, device: torch.device | str
) -> TrainableAgent:
    interface = _interface(saved, config)
    with fits(saved, folder.path / "config.yaml"):
        agent = find_trainable(config.agent_name)(config.agent, interface, config.seed, device)
        agent.load_state_dict(saved.content["state"], resumable=False)
    return agent


def _validation(config: ExperimentConfig, env: HPOVectorEnv) -> Validation:
    measured = find_trainable(config.agent_name).learns and is_first_process()
    return Validation(env, config.validate_every if measured else 0, config.validation_seeds, config.seed)


def _interface(saved: Saved, config: ExperimentConfig) -> Interface:
    """Return what a saved agent was built for."""
    if saved.content["agent"] != config.agent_name:
        raise InvalidSettingError(
            f"{saved.path} holds an agent {saved.content['agent']!r}, and config.yaml says {config.agent_name!r}. "
            "Restore that setting, or train again with overwrite=true."
        )
    try:
        return Interface.from_mapping(saved.content["interface"])
    except (AttributeError, TypeError) as error:
        raise DataIntegrityError(
            f"{saved.path} does not say what its agent was built for ({error}). Train again with overwrite=true."
        ) from error


def _write_policy_again(folder: RunFolder, config: ExperimentConfig, checkpoint: Saved | None) -> None:
    if checkpoint is None:
        raise DataMissingError(
            f"The run in {folder.path} is finished, but neither policy.pt nor a checkpoint is left. Train again with "
            "overwrite=true."
        )
    agent = _load_agent(folder, config, folder.policy(), "cpu")
    kept = ("agent", "interface", "training_datasets", "validation_datasets")
    identity = {name: checkpoint.content[name] for name in kept}
    folder.save_policy({**identity, "state": agent.state_dict(resumable=False)})


def _training_datasets(agent: TrainableAgent, env: HPOVectorEnv) -> list[str]:
    """Return the keys of the datasets of all environments that an agent trains on."""
    played = [(each.suite.tasks, each.engine.tasks.tolist()) for each in agent.environments(env)]
    return sorted({dataset_key(tasks[index]) for tasks, indices in played for index in indices})


def _require_held_out(agent: TrainableAgent, env: HPOVectorEnv, validation: Validation) -> None:
    """Refuse to choose a policy by what it is trained on: partitions of two spaces may overlap."""
    overlap = sorted(set(_training_datasets(agent, env)) & set(validation.datasets))
    if overlap:
        raise InvalidSettingError(
            f"{len(overlap)} validation dataset(s) are trained on in another search space: {', '.join(overlap[:5])}"
            f"{', ...' if len(overlap) > 5 else ''}. Set env.protocol=dataset-disjoint, or validate_every=0."
        )


def _train(
    config: ExperimentConfig,
    agent: TrainableAgent,
    env: HPOVectorEnv,
    validation: Validation,
    folder: RunFolder,
    stop_after: int | None,
    checkpoint: Saved | None,
) -> None:
    """Train to the end, or until somebody asks to stop; the first of several processes writes what there is to keep."""
    first, processes = is_first_process(), agent.processes
    total = int(agent.config.total_steps)
    done = agent.steps
    datasets = _training_datasets(agent, env)
    identity = {
        "agent": config.agent_name,
        "interface": plain(asdict(agent.interface)),
        "training_datasets": datasets,
        "validation_datasets": list(validation.datasets),
    }
    title = f"{config.agent_name} on {env.suite.spec.source}:{env.suite.name}"
    next_checkpoint = (done // config.checkpoint_every + 1) * config.checkpoint_every
    stopped = False
    with (
        Interruption(repeated=processes.size > 1) as interruption,
        Recorder(folder.path, done, config.log_every, config.tensorboard and first) as recorder,
        TrainingDisplay(title, total, done) as display,
    ):
        if checkpoint is not None:
            with fits(checkpoint, folder.path / "config.yaml"):
                validation.load_state_dict(checkpoint.content["validation"])
                recorder.load_state_dict(checkpoint.content["recorder"])

        def save_checkpoint(steps: int) -> None:
            require_finite_policy(agent)
            own = {"state": agent.state_dict(), "environment": env.state_dict()}
            others = processes.gather(own)
            if not first:
                return
            parts: dict[str, Any] = {"validation": validation.state_dict(), "recorder": recorder.state_dict()}
            parts |= {**own, OTHERS: others, SETTINGS: deciding(config.to_mapping())}
            folder.save_checkpoint(steps, {**identity, **parts}, config.keep_checkpoints)

        def callback(steps: int, logs: Mapping[str, float | Tensor], info: Mapping[str, Any]) -> bool:
            nonlocal next_checkpoint, stopped
            if validation.due(steps) or (validation.active and steps >= total):
                recorder.validated(steps, validation.measure(agent, steps))
            if recorder.add(steps, logs, info, display.steps_per_second(steps)) or display.outdated:
                require_finite_loss(recorder.figures, steps)
                display.update(steps, recorder.figures)
            asked = processes.any(interruption.requested or (stop_after is not None and steps >= stop_after))
            stopped = asked and steps < total
            if steps >= next_checkpoint and steps < total and not stopped:
                next_checkpoint = (steps // config.checkpoint_every + 1) * config.checkpoint_every
                save_checkpoint(steps)
            return stopped

        agent.train(env, callback)
        display.update(agent.steps, recorder.figures)
        save_checkpoint(agent.steps)
        if not stopped and first:
            folder.save_policy({**identity, "state": validation.best(agent)})
            result: dict[str, Any] = {"steps": agent.steps, "training_datasets": len(datasets), **recorder.figures}
            if validation.active:
                result |= {"validation": validation.best_regret, "chosen_after_steps": validation.best_steps}
            folder.write_result(result)
    # Nobody goes on to read what the first process may still be writing.
    processes.wait()
    if interruption.requested:
        if stopped:
            how = f"continue with `{resume_command(folder.path)}`"
            message = f"stopped after {agent.steps:,} of {total:,} transitions; {how}"
            display.console.print(message, markup=False, highlight=False, soft_wrap=True)
        raise KeyboardInterrupt
