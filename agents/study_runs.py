"""The runs that a study of ``docs/studies`` is made of: which are finished, and how they were trained.

:func:`find_runs` reads the settings of every run, without loading a network; :func:`require_alike` refuses runs that
differ in more than the study is about. :func:`learning_curve` reads a training's scalars from its event files,
:func:`run_facts` what it was made with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.configuration import ExperimentConfig
from agents.environments import resolved, space_name
from agents.run_folder import RunFolder
from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError, InvalidSettingError

__all__ = [
    "FoundRuns",
    "StudyRun",
    "find_runs",
    "learning_curve",
    "read_run",
    "require_alike",
    "run_facts",
    "settings_of",
]

# Where a run lies, and how it was saved, says nothing about what it learned.
_NO_PROPERTY = (
    "name",
    "runs",
    "overwrite",
    "checkpoint_every",
    "keep_checkpoints",
    "tensorboard",
    "env.data_dir",
    "env.render_mode",
)
# How many settings or runs a message names.
_MOST_SHOWN = 4


@dataclass(frozen=True)
class StudyRun:
    """A run folder, read without loading its network.

    Args:
        path: The folder.
        config: Its settings.
        result: What ``result.json`` holds; ``None`` for a run that is not finished.
    """

    path: Path
    config: ExperimentConfig
    result: Mapping[str, Any] | None

    @property
    def space(self) -> str:
        """The search space it trains on."""
        return space_name(self.config.env)

    @property
    def seed(self) -> int:
        """The root of its random numbers."""
        return self.config.seed


@dataclass(frozen=True)
class FoundRuns:
    """The runs of a folder, sorted by path."""

    finished: tuple[StudyRun, ...]
    unfinished: tuple[StudyRun, ...]


def find_runs(folder: Path) -> FoundRuns:
    """Return all runs whose folders lie directly in ``folder``.

    Raises:
        DataMissingError: If there is none.
        DataIntegrityError: If the files of one cannot be read.
    """
    paths = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if not paths:
        raise DataMissingError(f"There is no run in {folder}. Train some with `python train.py -m ... runs={folder}`.")
    runs = [read_run(path) for path in paths]
    return FoundRuns(
        tuple(run for run in runs if run.result is not None), tuple(run for run in runs if run.result is None)
    )


def read_run(path: Path) -> StudyRun:
    """Return the run of a folder.

    Raises:
        DataMissingError: If there is none.
        DataIntegrityError: If its files cannot be read.
    """
    folder = RunFolder.open(path)
    try:
        config = ExperimentConfig.from_mapping(folder.config())
        result = json.loads((path / "result.json").read_text(encoding="utf-8")) if folder.finished else None
    except (HPOGymError, ValueError) as error:
        raise DataIntegrityError(f"{path}: {error} Train that run again with overwrite=true.") from error
    return StudyRun(path, config, result)


def settings_of(run: StudyRun) -> dict[str, Any]:
    """Return every setting of a run: ``agent.<name>``, ``env.<name>`` (the card's where none was given), ``<name>``."""
    values = run.config.to_mapping()
    agent = values.pop("agent")
    del values["env"]
    flat = {f"agent.{name}": value for name, value in agent.items()}
    flat |= {f"env.{name}": value for name, value in resolved(run.config.env).items()}
    # No argument of a single environment.
    return flat | values | {"env.num_envs": run.config.env.num_envs}


def require_alike(runs: Sequence[StudyRun], free: Sequence[str]) -> dict[str, Any]:
    """Return the settings that all runs share, and refuse runs that differ in others than ``free``.

    Args:
        runs: At least one.
        free: Names as :func:`settings_of` writes them.

    Raises:
        InvalidSettingError: Naming two runs and what they differ in.
    """

    def compared(run: StudyRun) -> dict[str, Any]:
        return {name: value for name, value in settings_of(run).items() if name not in (*free, *_NO_PROPERTY)}

    first = compared(runs[0])
    for run in runs[1:]:
        other = compared(run)
        names = sorted({*first, *other})
        different = [name for name in names if first.get(name) != other.get(name)]
        if different:
            shown = "; ".join(
                f"{name}: {first.get(name)!r} against {other.get(name)!r}" for name in different[:_MOST_SHOWN]
            )
            more = f"; {len(different) - _MOST_SHOWN} more" if len(different) > _MOST_SHOWN else ""
            raise InvalidSettingError(
                f"{runs[0].path} and {run.path} differ in more than the study is about ({shown}{more}): what is "
                "compared would not be one thing. Train one of them again, or move it to another folder."
            )
    return first


def learning_curve(run: StudyRun, tag: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of a scalar that a training logged; a resumed one as if it had never been stopped.

    Raises:
        DataMissingError: If it logged none, with what it did log.
    """
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    # 0: every point, where TensorBoard itself keeps a sample.
    guidance = {event_accumulator.SCALARS: 0}
    events = event_accumulator.EventAccumulator(str(run.path), size_guidance=guidance).Reload()
    known = events.Tags()["scalars"]
    if tag not in known:
        raise DataMissingError(
            f"{run.path} logged no {tag!r}, only {', '.join(known) or 'nothing'}. Train it again with tensorboard=true "
            "and validate_every, log_every less than agent.total_steps."
        )
    points = events.Scalars(tag)
    return [point.step for point in points], [point.value for point in points]


def run_facts(runs: Sequence[StudyRun]) -> dict[str, Any]:
    """Return what runs were trained with: every version, interpreter, kind of machine and git commit there was.

    Raises:
        DataIntegrityError: If a run does not say.
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        path = run.path / "versions.json"
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            commit = saved["git"] and saved["git"]["commit"][:12] + (" with changes" if saved["git"]["dirty"] else "")
            parts = {
                "python": saved["python"],
                "machine": f"{saved['system']} {saved['machine']}, {saved['threads']} thread(s)",
                "commit": commit,
                **saved["packages"],
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataIntegrityError(f"{path} does not say what the run was made with ({error!r}).") from error
        for name, value in parts.items():
            if value is not None:
                found.setdefault(name, set()).add(str(value))
    return {name: sorted(values) for name, values in sorted(found.items())}
