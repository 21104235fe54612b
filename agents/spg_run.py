"""``python train.py agent=spg``: a network trained with Sequential Policy Gradient, in a run folder.

There is no environment: what the method optimises over is this one training. The run folder is that of every other
agent (:mod:`agents.run_folder`), so that a run is resumed and replaced in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.configuration import build, plain
from agents.divergence import require_finite_loss
from agents.interruption import Interruption
from agents.progress import TrainingDisplay, make_console
from agents.recorder import Recorder
from agents.registry import MODEL_TRAININGS
from agents.run_folder import RunFolder, one_trainer, resume_command
from agents.saved_files import SETTINGS, Saved, deciding, fits, require_same_settings
from agents.spg_models import Classifier
from agents.spg_settings import SPGConfig
from agents.spg_tasks import LearningTask, load_task, split_task
from agents.spg_training import ModelTraining, with_replicas
from hpo_gym.errors import DataIntegrityError, HPOGymError, require_booleans, require_integer
from hpo_gym.threads import torch_threads

__all__ = ["NAME", "SPGRun", "is_spg_run", "load_model", "resume_spg", "run_spg"]

#: The method's name on the command line.
NAME = next(name for name, config in MODEL_TRAININGS.items() if config is SPGConfig)


@dataclass(frozen=True)
class SPGRun:
    """Everything that decides a run.

    Args:
        agent: How SPG trains, and what.
        seed: Root of the seed tree: the split, initial weights, the order of examples, dropout.
        name: Name of the run folder; ``None`` makes one of task and seed.
        runs: Folder of run folders.
        overwrite: Replace a run of that name.
        keep_checkpoints: How many checkpoints stay.
        tensorboard: Whether to write TensorBoard events.
        threads: Threads that torch computes on. More than one pay off for large batches on cores that are free, and
            cost many times as much where another process has one of them.
    """

    agent: SPGConfig = field(default_factory=SPGConfig)
    seed: int = 0
    name: str | None = None
    runs: str = "runs"
    overwrite: bool = False
    keep_checkpoints: int = 2
    tensorboard: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        require_booleans(self)
        require_integer("seed", self.seed, 0)
        require_integer("keep_checkpoints", self.keep_checkpoints, 1)
        require_integer("threads", self.threads, 1)

    @property
    def label(self) -> str:
        """What a run without a name is called."""
        return f"{NAME}-{self.agent.task}-seed{self.seed}"

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_mapping` reads back."""
        values: dict[str, Any] = plain(asdict(self))
        values["agent"] = {"name": NAME, **values["agent"]}
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SPGRun:
        """Read a run from plain values.

        Raises:
            UnknownNameError: For an unknown key.
            InvalidSettingError: For a value of the wrong type or outside its range.
        """
        agent = {name: value for name, value in values["agent"].items() if name != "name"}
        rest = {name: value for name, value in values.items() if name != "agent"}
        run: SPGRun = build(cls, rest, "setting")
        return replace(run, agent=build(SPGConfig, agent, "agent setting"))


def is_spg_run(path: str | Path) -> bool:
    """Whether a run folder is one of SPG.

    Raises:
        DataMissingError: If there is no run.
        DataIntegrityError: If its ``config.yaml`` cannot be read.
    """
    agent = RunFolder.open(Path(path)).config().get("agent")
    return isinstance(agent, Mapping) and agent.get("name") == NAME


def run_spg(run: SPGRun, stop_after: int | None = None) -> RunFolder:
    """Train a network in a new run folder.

    Args:
        run: The run.
        stop_after: Stop, resumable, after so many epochs (default: at the end).

    Raises:
        InvalidSettingError: If the folder exists, there is no such device, or scikit-learn is not installed.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint was written; at once after a second one.
    """
    task = load_task(run.agent.task)
    training = _training(run, task)
    path = Path(run.runs) / (run.name or run.label)
    with one_trainer(path), torch_threads(run.threads):
        folder = RunFolder.create(path, run.to_mapping(), _provenance(task), run.overwrite)
        _train(run, task, training, folder, stop_after, None)
    return folder


def resume_spg(path: str | Path, stop_after: int | None = None) -> RunFolder:
    """Continue a run from its newest checkpoint with its own settings; a finished one stays as it is.

    Raises:
        DataMissingError: If there is no run.
        DataIntegrityError: If its files are corrupt.
        InvalidSettingError: If another process trains in it, or it was begun with other data or settings.
        KeyboardInterrupt: As for :func:`run_spg`.
    """
    folder = RunFolder.open(Path(path))
    if folder.finished:
        return folder
    with one_trainer(folder.path):
        folder.remove_leftovers()
        run = _settings(folder)
        task = load_task(run.agent.task)
        folder.require_same_data(_provenance(task))
        training = _training(run, task)
        checkpoint = folder.latest_checkpoint()
        if checkpoint is None:
            message = f"{folder.path}: no checkpoint yet: starting anew"
            make_console().print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            require_same_settings(checkpoint, deciding(run.to_mapping()), folder.path / "config.yaml")
            with fits(checkpoint, folder.path / "config.yaml"):
                training.load_state_dict(checkpoint.content["state"])
        with torch_threads(run.threads):
            _train(run, task, training, folder, stop_after, checkpoint)
    return folder


def load_model(path: str | Path) -> Classifier:
    """Return the trained network of a finished run, in evaluation mode, on the CPU.

    Raises:
        DataMissingError: If there is no run, or it is not finished.
        DataIntegrityError: If its files are corrupt.
    """
    folder = RunFolder.open(Path(path))
    run = _settings(folder)
    model = load_task(run.agent.task).model(run.seed)
    model.load_state_dict(folder.policy().content["state"]["model"])
    return model.eval()


def _settings(folder: RunFolder) -> SPGRun:
    try:
        return SPGRun.from_mapping(folder.config())
    except HPOGymError as error:
        raise DataIntegrityError(
            f"{folder.path / 'config.yaml'}: {error} Correct the file, or train again with overwrite=true."
        ) from error


def _training(run: SPGRun, task: LearningTask) -> ModelTraining:
    return ModelTraining(run.agent, split_task(task, run.seed), with_replicas(run.agent), run.seed)


def _provenance(task: LearningTask) -> dict[str, Any]:
    return {"suite": f"spg:{task.name}", "sha256": {task.name: task.checksum}}


def _train(
    run: SPGRun,
    task: LearningTask,
    training: ModelTraining,
    folder: RunFolder,
    stop_after: int | None,
    checkpoint: Saved | None,
) -> None:
    updates, total = training.updates_per_epoch, training.total
    # What a checkpoint of any run has to name; SPG has no environment, and chooses no policy on validation datasets.
    identity = {
        "agent": NAME,
        "interface": {"task": task.name, "classes": task.classes, "inputs": list(task.inputs.shape[1:])},
        "training_datasets": [task.name],
        "validation_datasets": [],
    }
    done = training.epoch * updates
    stopped = False
    with (
        Interruption() as interruption,
        Recorder(folder.path, done, 1, run.tensorboard) as recorder,
        TrainingDisplay(f"{NAME} on {task.name}", total * updates, done) as display,
    ):
        if checkpoint is not None:
            recorder.load_state_dict(checkpoint.content["recorder"])

        def save_checkpoint() -> None:
            parts: dict[str, Any] = {"state": training.state_dict(), "environment": {}, "validation": {}}
            parts[SETTINGS] = deciding(run.to_mapping())
            content = {**identity, **parts, "recorder": recorder.state_dict()}
            folder.save_checkpoint(training.epoch * updates, content, run.keep_checkpoints)

        while training.epoch < total and not stopped:
            logs = training.run_epoch()
            measured = training.measure("validation")
            logs |= {"validation_error": measured.error, "validation_cross_entropy": measured.cross_entropy}
            steps = training.epoch * updates
            recorder.add(steps, logs, {}, display.steps_per_second(steps))
            require_finite_loss(logs, steps)
            display.update(steps, {"loss": logs["loss"], "validation error": measured.error})
            asked = interruption.requested or (stop_after is not None and training.epoch >= stop_after)
            stopped = asked and training.epoch < total
            if stopped or training.epoch == total or training.epoch % run.agent.checkpoint_every == 0:
                save_checkpoint()
        if not stopped:
            folder.save_policy({**identity, "state": {"model": training.model.state_dict()}})
            folder.write_result(_result(training))
    if interruption.requested:
        if stopped:
            how = f"continue with `{resume_command(folder.path)}`"
            message = f"stopped after {training.epoch} of {total} epochs; {how}"
            display.console.print(message, markup=False, highlight=False, soft_wrap=True)
        raise KeyboardInterrupt


def _result(training: ModelTraining) -> dict[str, Any]:
    result: dict[str, Any] = {
        "steps": training.epoch * training.updates_per_epoch,
        "epochs": training.epoch,
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
    }
    for part in ("train", "validation", "test"):
        measured = training.measure(part)
        result |= {f"{part}_error": measured.error, f"{part}_cross_entropy": measured.cross_entropy}
    return result
