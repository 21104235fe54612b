"""What the studies of ``docs/studies`` share: what finished runs reach on a split, and files beside a page.

A study trains policies with one sweep of ``train.py`` and compares them. :mod:`agents.study_runs` finds the runs; from
them to the page:

* :func:`play` evaluates runs, classical methods and the random walk on a split; :func:`regret_rows` makes compact rows
  of the records, :func:`mean_curves` what the tests take.
* :func:`write_results` and :func:`read_results` keep tables and what they were made with in ``docs/studies/data``, from
  where the page is written without any run; :func:`with_other_rows` adds what is there already of what was
  played before.
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
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.run_folder import RunFolder
from agents.study_runs import StudyRun
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.evaluation import CellStore, Contender, RecordTable, RegretCurves, regret_curves
from hpo_gym.evaluation.run import Progress
from hpo_gym.sources.bundle_files import sha256, write_atomic
from hpo_gym.sources.temporaries import replacing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "WALK",
    "PlayedSplit",
    "kept_results",
    "mean_curves",
    "play",
    "read_results",
    "regret_rows",
    "require_same_repetitions",
    "with_other_rows",
    "write_results",
]

#: Name of the random walk on the grid: random search with ``grid_step`` actions.
WALK = "random_walk"


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


def mean_curves(units: Sequence[tuple[str, str, str]], values: Mapping[str, np.ndarray[Any, Any]]) -> RegretCurves:
    """Return values ``[N, K]`` by agent as what tests take; their trials are those of the study, by position."""
    return RegretCurves(
        tasks=tuple(units),
        seeds=1,
        budget=next(iter(values.values())).shape[1],
        runs=dict.fromkeys(values, 1),
        values=values,
        episodes={agent: each[:, None] for agent, each in values.items()},
    )


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


def kept_results(folder: Path, name: str, command: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return what :func:`read_results` does, or empty dictionaries where nothing was written yet.

    Raises:
        DataIntegrityError: If a file is another one than was written.
    """
    return read_results(folder, name, command) if (folder / f"{name}.json").is_file() else ({}, {})


def with_other_rows(
    new: pd.DataFrame,
    folder: Path,
    name: str,
    command: str,
    *,
    table: str | None = None,
    keys: Sequence[str] = ("space",),
) -> pd.DataFrame:
    """Return the rows of what was played before and not now, then the new ones.

    Args:
        new: Rows that take the place of all that are there with the same keys.
        folder: ``docs/studies/data``.
        name: Of the study.
        command: What makes it, for messages.
        table: Name of the table; ``None``: that of the study.
        keys: Columns that say what was played.

    Raises:
        DataIntegrityError: If a file is another one than was written.
    """
    import pandas as pd

    before = kept_results(folder, name, command)[0].get(table or name)
    if before is None:
        return new
    again = pd.MultiIndex.from_frame(before[list(keys)]).isin(pd.MultiIndex.from_frame(new[list(keys)]))
    return pd.concat([before[~again], new], ignore_index=True)


def require_same_repetitions(folder: Path, name: str, command: str, spaces: Sequence[str], seeds: int) -> None:
    """Refuse repetitions that the kept rows of other spaces do not have: the page of a study knows one number.

    Args:
        folder: ``docs/studies/data``.
        name: Of the study, and of its table; its facts hold ``seeds``.
        command: What makes it, for messages.
        spaces: What is played now.
        seeds: Repetitions.

    Raises:
        InvalidSettingError: If rows that stay have others.
        DataIntegrityError: If a file is another one than was written.
    """
    tables, facts = kept_results(folder, name, command)
    others = sorted(set(tables[name]["space"]) - set(spaces)) if tables else []
    if others and facts["seeds"] != seeds:
        raise InvalidSettingError(
            f"--seeds {seeds}: {', '.join(others)} in {folder} were played with {facts['seeds']} repetitions. Give "
            f"--seeds {facts['seeds']}, or play all spaces."
        )
