"""The folder of an evaluation: what it holds, whose results it holds, and the report of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.comparison import Comparison
from agents.matching_runs import with_matching_runs
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.evaluation import (
    ConfigurationTable,
    EvaluationResult,
    RecordTable,
    comparison_markdown,
    summarise,
)
from hpo_gym.evaluation.records import EPISODE
from hpo_gym.evaluation.report import write_report
from hpo_gym.sources.bundle_files import sha256, write_atomic
from hpo_gym.sources.temporaries import discard
from hpo_gym.sources.trainings import deciding_options

__all__ = ["EvaluationFolder", "records_of_folders", "report_of_folders"]

# How many settings a message names.
_MOST_SHOWN = 4
# Of two settings with one value, the one to name; and what changes no result.
_NAMED_ELSEWHERE = ("env.split", "env.budget")
_NO_PROPERTY = ("output", "overwrite", "workers", "figures", "report")
# What a new result replaces, in this order.
_WRITTEN = ("result.json", "report.html", "table.md", "figures", "records.parquet", "configurations.parquet")
# What evaluate.py tells of an evaluation besides its settings.
_PROVENANCE = ("data", "versions", "command")
# What evaluations must agree on to be shown in one report; the space and its data may differ.
_ONE_REPORT = ("protocol", "split", "seeds", "seed", "budget", "initial_points", "trials", "allow_leak")
_ONE_REPORT_ENV = ("protocol", "start", "start_configuration", "levels", "multi_fidelity", "min_fidelity")


class EvaluationFolder:
    """What an evaluation leaves behind.

    ========================== ==========================================================
    file                       content
    ========================== ==========================================================
    ``records.parquet``        every trial (:class:`~hpo_gym.evaluation.RecordTable`)
    ``configurations.parquet`` every configuration, in the same order
    ``result.json``            settings, hashes of the data, versions, summary, failures
    ``table.md``               the summary as a table
    ``report.html``            everything for a reader, in one file
    ``figures/``               its figures as PNG and SVG
    ``cells.sqlite``           played episodes: what a killed evaluation goes on from
    ========================== ==========================================================

    Args:
        path: The folder.
        settings: Settings of the evaluation, nothing left open, as JSON gives them back.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, settings

    @property
    def cells(self) -> Path:
        """The file of played episodes."""
        return self.path / "cells.sqlite"

    @staticmethod
    def settings_of(values: Mapping[str, Any], comparison: Comparison) -> dict[str, Any]:
        """Return the settings of a comparison as plain values."""
        rules = comparison.rules
        chosen = {
            "agents": list(dict.fromkeys(contender.name for contender in comparison.contenders)),
            "run": list(comparison.config.runs),
            "seeds": rules.seeds,
            "budget": rules.budget,
            "initial_points": rules.initial_points,
            "trials": list(comparison.trials),
            "reference": comparison.reference,
            "env": comparison.environment(),
        }
        settings: dict[str, Any] = json.loads(json.dumps({**values, **chosen}, default=str))
        return settings

    def require_same_settings(self) -> None:
        """Refuse to replace the result of an evaluation with other settings.

        Raises:
            InvalidSettingError: Naming what differs.
        """
        path = self.path / "result.json"
        if not path.exists():
            return
        remedy = "Write elsewhere with output=<folder>, or replace it with overwrite=true."
        try:
            theirs = _compared(json.loads(path.read_text(encoding="utf-8"))["settings"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidSettingError(
                f"{path} holds something else than the result of an evaluation. {remedy}"
            ) from error
        mine = _compared(self.settings)
        different = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        if different:
            shown = [f"{key}: {theirs.get(key)} against {mine.get(key)}" for key in different[:_MOST_SHOWN]]
            more = f"; {len(different) - _MOST_SHOWN} more" if len(different) > _MOST_SHOWN else ""
            raise InvalidSettingError(
                f"{path} holds the result of other settings (its own against the new ones: {'; '.join(shown)}{more}). "
                f"{remedy}"
            )

    def write(
        self, comparison: Comparison, result: EvaluationResult, provenance: Mapping[str, Any], *, figures: bool = True
    ) -> dict[str, Any]:
        """Write every file but the cells; return the summary.

        Without ``figures`` there is no report: ``python evaluate.py report=<folder>`` makes it later.

        With failures there is no summary: what is missing would be dropped silently. What an earlier evaluation left
        goes first, ``result.json`` before everything else, and is written last: whoever finds it finds its records.
        """
        for name in _WRITTEN:
            discard(self.path / name)
        result.records.to_parquet(self.path / "records.parquet")
        result.configurations.to_parquet(self.path / "configurations.parquet")
        failures = [asdict(failure) for failure in result.failures]
        head = {"settings": self.settings, **provenance, "training_evaluations": dict(comparison.training_evaluations)}
        summary: dict[str, Any] = {}
        if not failures:
            seed = comparison.rules.seed
            summary = summarise(result.records, comparison.reference, comparison.trials, seed=seed)
            write_atomic(self.path / "table.md", comparison_markdown(summary).encode())
            if figures:
                write_report(
                    result.records,
                    self.path,
                    reference=comparison.reference,
                    split=comparison.rules.split,
                    settings={**self.settings, **provenance},
                    configurations=result.configurations,
                    summary=summary,
                    seed=seed,
                )
        files = {
            name: sha256((self.path / name).read_bytes()) for name in ("records.parquet", "configurations.parquet")
        }
        content = {**head, **summary, "failures": failures, "files": files}
        write_atomic(self.path / "result.json", (json.dumps(content, indent=1, default=str) + "\n").encode())
        return summary


def report_of_folders(root: Path, output: Path, reference: str | None) -> tuple[Path, dict[str, Any]]:
    """Write one report of all evaluations below a folder.

    Args:
        root: An evaluation's folder, or one that holds several, of other spaces or agents.
        output: Where the report goes.
        reference: Agent that the others are compared with; ``None``: that of the evaluations.

    Returns:
        The page, and the summary it shows.

    Raises:
        DataMissingError: If there is no evaluation.
        InvalidSettingError: If evaluations of different protocols or budgets are mixed, or one is incomplete.
    """
    folders, results, records = _joined(root)
    first = results[0]["settings"]
    chosen = reference or str(first["reference"])
    summary = summarise(records, chosen, first["trials"], seed=int(first["seed"]))
    configurations = None
    if len(folders) == 1:
        configurations = ConfigurationTable.from_parquet(folders[0] / "configurations.parquet")
    told = [
        {**result["settings"], **{name: result[name] for name in _PROVENANCE if name in result}} for result in results
    ]
    sources: dict[str, Any] = told[0]
    if len(folders) > 1:
        sources = {f"evaluation {folder.relative_to(root)}": each for folder, each in zip(folders, told, strict=True)}
    page = write_report(
        records,
        output,
        reference=chosen,
        split=str(first["split"]),
        settings=sources,
        configurations=configurations,
        summary=summary,
        seed=int(first["seed"]),
    )
    return page, summary


def records_of_folders(root: Path) -> RecordTable:
    """Return the trials of all evaluations below a folder; raises as :func:`report_of_folders`."""
    return _joined(root)[2]


def _joined(root: Path) -> tuple[list[Path], list[dict[str, Any]], RecordTable]:
    """Return the folders of all evaluations below one, what each says of itself, and their trials."""
    # A run has a result of its own, that of its training.
    folders = [path.parent for path in sorted(root.rglob("result.json")) if not path.with_name("config.yaml").exists()]
    _require_whole(root, folders)
    if not folders:
        raise DataMissingError(
            f"There is no evaluation in report={root}: no folder in it holds result.json and records.parquet. Make one "
            "with `python evaluate.py agents=[random] env.space=rpart`."
        )
    results = [_result(folder) for folder in folders]
    _require_one_protocol(folders, results)
    tables = [RecordTable.from_parquet(folder / "records.parquet") for folder in folders]
    _require_same_tasks(folders, results, tables)
    return folders, results, with_matching_runs(RecordTable.concat(_without_repeats(folders, tables)))


def _without_repeats(folders: Sequence[Path], tables: Sequence[RecordTable]) -> list[RecordTable]:
    """Return tables without the episodes that an earlier one has, too: many comparisons have random search.

    Raises:
        InvalidSettingError: If one of those went otherwise.
    """
    import pandas as pd

    kept: list[pd.DataFrame] = []
    for folder, table in zip(folders, tables, strict=True):
        frame = table.frame.astype(dict.fromkeys(EPISODE[:-1], str))
        for other, before in zip(folders, kept, strict=False):
            both = frame.merge(before, on=[*EPISODE, "trial"], suffixes=("", "_before"))
            if not both["score"].equals(both["score_before"]):
                agents = ", ".join(sorted(both["agent"].unique()))
                raise InvalidSettingError(
                    f"{other} and {folder} cannot be in one report: both hold episodes of {agents}, and these went "
                    "otherwise. Evaluate all agents in one command."
                )
            again = pd.MultiIndex.from_frame(frame[list(EPISODE)]).isin(pd.MultiIndex.from_frame(both[list(EPISODE)]))
            frame = frame[~again]
        kept.append(frame)
    return [RecordTable(frame) for frame in kept if len(frame)]


def _require_whole(root: Path, folders: Sequence[Path]) -> None:
    """Refuse to leave out an evaluation that was begun."""
    begun = sorted({path.parent for path in root.rglob("cells.sqlite")} - set(folders))
    if begun:
        raise InvalidSettingError(
            f"The evaluation in {begun[0]} has not finished: give its command again, which goes on where it stopped, "
            "or move it away."
        )
    lost = [folder for folder in folders if not (folder / "records.parquet").exists()]
    if lost:
        raise DataMissingError(
            f"{lost[0]} has a result.json and no records.parquet. Evaluate again with overwrite=true, or move it away."
        )


def _require_same_tasks(
    folders: Sequence[Path], results: Sequence[Mapping[str, Any]], tables: Sequence[RecordTable]
) -> None:
    """Refuse evaluations of one space that measured something else, or on other data."""
    first: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}
    for folder, result, table in zip(folders, results, tables, strict=True):
        env = result["settings"]["env"]
        facts = {"env.metric": env.get("metric"), "env.source_options": deciding_options(env.get("source_options"))}
        facts["SHA-256 of the data"] = result.get("data")
        for space in table.frame[["source", "space"]].drop_duplicates().itertuples(index=False, name=None):
            before, theirs = first.setdefault(space, (folder, facts))
            differ = [f"{name}: {theirs[name]} against {facts[name]}" for name in facts if theirs[name] != facts[name]]
            if differ:
                raise InvalidSettingError(
                    f"{before} and {folder} cannot be in one report: both are of {':'.join(space)}, and they differ in "
                    f"{'; '.join(differ)}. Report them one by one."
                )


def _result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if result["failures"]:
            first = result["failures"][0]
            raise InvalidSettingError(
                f"{path}: the evaluation is incomplete: {len(result['failures'])} failure(s), the first being agent "
                f"{first['agent']!r}, task {first['task']}, seed {first['seed']}. Run the same command again: what "
                "failed is tried again."
            )
        settings = result["settings"]
        _compared(settings)
        missing = [name for name in (*_ONE_REPORT, "reference", "settings", "agents") if name not in settings]
        if missing or not isinstance(settings["seed"], int):
            raise ValueError(f"its settings lack {', '.join(missing)}" if missing else "its seed is no integer")
        for name, expected in result["files"].items():
            if sha256((folder / name).read_bytes()) != expected:
                raise ValueError(f"{name} beside it is another one")
    except InvalidSettingError:
        raise
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise DataIntegrityError(f"{path} is no result of an evaluation ({error}). Evaluate again.") from error
    return result


def _require_one_protocol(folders: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> None:
    def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
        shared = {f"env.{name}": settings["env"].get(name) for name in _ONE_REPORT_ENV}
        return {name: settings.get(name) for name in _ONE_REPORT} | shared

    first = identity(results[0]["settings"])
    for folder, result in zip(folders[1:], results[1:], strict=True):
        other = identity(result["settings"])
        different = [f"{name}: {first[name]} against {other[name]}" for name in first if first[name] != other[name]]
        theirs, mine = (one["settings"] for one in (results[0], result))
        shared = set(theirs["agents"]) & set(mine["agents"])
        different += [
            f"settings.{name}: {theirs['settings'].get(name)} against {mine['settings'].get(name)}"
            for name in sorted(shared)
            if theirs["settings"].get(name) != mine["settings"].get(name)
        ]
        if different:
            raise InvalidSettingError(
                f"{folders[0]} and {folder} cannot be in one report: they differ in {'; '.join(different)}. Report "
                "them one by one, or evaluate again with the same settings."
            )


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result, however it was written."""
    of_env = {f"env.{name}": value for name, value in settings["env"].items()}
    flat = {name: value for name, value in settings.items() if name != "env"} | of_env
    flat["agents"] = sorted(flat["agents"] or ())
    flat["run"] = [str(Path(path).resolve()) for path in flat["run"]]
    return {name: value for name, value in flat.items() if name not in (*_NO_PROPERTY, *_NAMED_ELSEWHERE)}
