"""What the studies of ``docs/studies`` share: finished runs, what they reach on a split, and files beside a page.

A study trains policies with one sweep of ``train.py`` and compares them. From its folder of runs to its page:

* :func:`find_runs` reads the settings of every run, without loading a network; :func:`require_alike` refuses runs that
  differ in more than the study is about.
* :func:`play` evaluates runs, classical methods and the random walk on a split; :func:`regret_rows` makes compact rows
  of the records. :func:`learning_curve` reads a training's scalars from its event files.
* :func:`run_facts`, :func:`write_results` and :func:`read_results` keep tables and what they were made with in
  ``docs/studies/data``, from where the page is written without any run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.base import Interface
from agents.comparison import Comparison, ComparisonConfig, prepare
from agents.configuration import ExperimentConfig
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig, resolved, space_name
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.run_folder import RunFolder
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError, InvalidSettingError
from hpo_gym.evaluation import CellStore, Contender, RecordTable, regret_curves
from hpo_gym.evaluation.run import Progress
from hpo_gym.sources.bundle_files import sha256, write_atomic
from hpo_gym.sources.temporaries import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "WALK",
    "FoundRuns",
    "PlayedSplit",
    "StudyRun",
    "find_runs",
    "learning_curve",
    "play",
    "read_results",
    "regret_rows",
    "require_alike",
    "run_facts",
    "settings_of",
    "write_results",
]

#: Name of the random walk on the grid: random search with ``grid_step`` actions.
WALK = "random_walk"

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


@dataclass(frozen=True)
class PlayedSplit:
    """What an evaluation of a study gave.

    Args:
        records: Every trial; ``run`` is the name of a run's folder, and empty for methods without one.
        data: Checksums of the data.
        training_evaluations: Evaluations on training tasks that methods without a run made before, by agent.
    """

    records: RecordTable
    data: Mapping[str, str]
    training_evaluations: Mapping[str, int]


def find_runs(folder: Path) -> FoundRuns:
    """Return all runs whose folders lie directly in ``folder``.

    Raises:
        DataMissingError: If there is none.
        DataIntegrityError: If the files of one cannot be read.
    """
    paths = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if not paths:
        raise DataMissingError(f"There is no run in {folder}. Train some with `python train.py -m ... runs={folder}`.")
    runs = [_read_run(path) for path in paths]
    return FoundRuns(
        tuple(run for run in runs if run.result is not None), tuple(run for run in runs if run.result is None)
    )


def _read_run(path: Path) -> StudyRun:
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


def play(
    env: EnvironmentConfig,
    split: str,
    *,
    runs: Sequence[StudyRun] = (),
    agents: Sequence[str] = (),
    repetitions: int,
    budget: int,
    seed: int = 0,
    store: CellStore | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> PlayedSplit:
    """Evaluate runs and methods without a run on every dataset of a split, every evaluation charged.

    Training datasets are played only with ``split="train"``; a run that was trained on, or chosen by, one of another
    split is refused.

    Args:
        env: The environment; actions and observations are those of each contender.
        split: ``train``, ``val`` or ``test``.
        runs: Finished runs.
        agents: Names of methods that need no run, :data:`WALK` among them.
        repetitions: Episodes of each contender on each dataset.
        budget: Evaluations per episode, the first included.
        seed: Root of the evaluation's random numbers.
        store: Where played episodes are kept.
        workers: Processes for methods that play one episode at a time.
        progress: Called whenever something was played.

    Raises:
        As :func:`agents.comparison.prepare`; EvaluationFailedError if an episode could not be played.
    """
    named = [name for name in agents if name != WALK]
    learned = [run.config.agent_name for run in runs]
    # Someone has to take part for there to be a comparison, whose rules the walk then plays by.
    chosen = tuple(dict.fromkeys([*learned, *named])) or (RandomSearch.name,)
    config = ComparisonConfig(
        agents=chosen,
        runs=tuple(str(run.path) for run in runs),
        env=env,
        split=split,
        seeds=repetitions,
        seed=seed,
        budget=budget,
        allow_leak=split == "train",
    )
    comparison = prepare(config)
    contenders = comparison.contenders if learned or named else ()
    if WALK in agents:
        contenders = (*contenders, _random_walk(comparison))
    result = dataclasses.replace(comparison, contenders=contenders).run(progress, store, workers).require_complete()
    provenance = comparison.suite.spec.provenance
    for run in runs:
        RunFolder.open(run.path).require_same_data(provenance)
    return PlayedSplit(result.records, provenance.get("sha256", {}), comparison.training_evaluations)


def _random_walk(comparison: Comparison) -> Contender:
    rules, suite = comparison.rules, comparison.suite
    changes = {**rules.settings, "budget": rules.budget, "action": "grid_step", "observation": "flat"}
    env = HPOVectorEnv(1, suite, split=rules.split, protocol=rules.protocol, device=suite.device, **changes)
    walk = as_contender(RandomSearch(RandomSearchConfig(), Interface.of(env), rules.seed, suite.device))
    assert isinstance(walk, Contender)  # random search has no memory
    return dataclasses.replace(walk, name=WALK)


def regret_rows(records: RecordTable, trials: Sequence[int], group: int | None = None) -> pd.DataFrame:
    """Return regret at some trials, averaged over repetitions: one row per contender, task and group of repetitions.

    Args:
        records: Complete; every trial a full evaluation.
        trials: The ``K`` trials.
        group: Repetitions that are averaged together: ``0 .. group - 1`` are group 0, and so on; ``None``: all.

    Returns:
        Columns ``agent``, ``run``, ``space``, ``task``, ``dataset`` (text), ``group`` and ``regret`` (float32 ``[K]``),
        sorted.

    Raises:
        InvalidSettingError: If the table has a hole, regret is unknown, or a trial is beyond the budget.
    """
    import pandas as pd

    curves = regret_curves(records)
    shown = [curves.check_trial(trial) for trial in trials]
    frame = records.frame
    chosen = frame[frame["trial"].isin(shown)]
    keys = ["agent", "run", "space", "task", "dataset"]
    columns: dict[str, Any] = {name: chosen[name].astype(str) for name in keys}
    columns |= {"group": chosen["seed"] // (group or curves.seeds), "trial": chosen["trial"]}
    by = pd.DataFrame({**columns, "regret": chosen["regret"]}).groupby([*keys, "group", "trial"])["regret"].mean()
    wide = by.unstack("trial")[shown]
    rows = wide.index.to_frame(index=False)
    rows["regret"] = list(wide.to_numpy(dtype="float32"))
    return rows


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


def write_results(folder: Path, name: str, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> list[Path]:
    """Write the tables of a study and what they were made with; return the files.

    Args:
        folder: ``docs/studies/data``.
        name: Of the study: facts are ``<name>.json``.
        tables: By name of their file, which gets ``.parquet``.
        facts: Plain values; checksums of the tables are added as ``files``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{table}.parquet" for table in tables]
    for path, frame in zip(paths, tables.values(), strict=True):
        with replacing(path) as temporary:
            frame.to_parquet(temporary, index=False, compression="zstd")
    content = {**facts, "files": {path.name: sha256(path.read_bytes()) for path in paths}}
    described = folder / f"{name}.json"
    write_atomic(described, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    return [*paths, described]


def read_results(folder: Path, name: str, command: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return what :func:`write_results` wrote: tables by name, and facts.

    Args:
        folder: ``docs/studies/data``.
        name: Of the study.
        command: What makes them, for messages.

    Raises:
        DataMissingError: If there is nothing.
        DataIntegrityError: If a file is another one than was written.
    """
    import pandas as pd

    path = folder / f"{name}.json"
    if not path.is_file():
        raise DataMissingError(f"There is no {path}. Make it with `{command}`.")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for file, expected in facts["files"].items():
            if sha256((folder / file).read_bytes()) != expected:
                raise ValueError(f"{file} beside it is another one")
        tables = {file.removesuffix(".parquet"): pd.read_parquet(folder / file) for file in facts["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataIntegrityError(f"{path} and the files beside it do not fit ({error}). Run `{command}`.") from error
    return tables, facts
