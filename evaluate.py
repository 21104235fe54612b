"""Compare methods and trained agents on held-out tasks: ``python evaluate.py protocol=openml-transfer``.

``run`` names one run folder of ``train.py`` or a list of them; the environment is the one that they were trained on,
changed by ``env.<setting>=...``. Without ``run``: ``python evaluate.py agents=[random,tpe] env.space=xgboost``.

Written: a report (HTML) with its figures, a table (Markdown), every trial and configuration (Parquet) and
``result.json``. ``report=<folder>`` makes one report of several evaluations. ``--help`` lists the settings.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from agents.command_line import require_named, run_command, store
from agents.comparison import Comparison, ComparisonConfig, env_of_runs, prepare
from agents.environments import ENVIRONMENTS, EnvironmentConfig, preset
from agents.evaluation_folder import EvaluationFolder, records_of_folders, report_of_folders
from agents.evaluation_scenarios import playable_spaces, scenarios_markdown
from agents.experiment import build, load_trained
from agents.overrides import Overrides
from agents.progress import EvaluationDisplay, make_console
from agents.run_folder import RunFolder, default_name
from agents.versions import versions
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import CellStore, comparison_table
from hpo_gym.evaluation.protocols import Protocol, find_protocol
from hpo_gym.sources.bundle_files import write_atomic

HELP = """
Compare methods and trained agents on held-out tasks: the same tasks, seeds, first configuration and budget for all.

  python evaluate.py [protocol=...] agents=[...] [run=...] [key=value ...]
  python evaluate.py protocol=openml-transfer agents=[random,portfolio,tpe,gp,cmaes] env.space=rpart
  python evaluate.py run=runs/first split=test seeds=5
  python evaluate.py run=[runs/s0,runs/s1,runs/s2]  runs of one agent are averaged
  python evaluate.py report=evaluations/rpart-test  make the report again, or one of all evaluations in a folder
  python evaluate.py --cfg job                      every setting and its value

A killed evaluation goes on where it stopped: give the same command again.

Settings (key=value):
  protocol    openml-transfer, openml-zero-shot, single-task, multi-fidelity or live: what methods may have learned
              from; live trains models (python evaluate.py protocol=live agents=[random,tpe,gp]); grpoformer-36 trains
              six kinds of models on six datasets, one kind alone with env.space=svm; hpob-v3 is HPO-B's, in
              env.space=5971 or another of its spaces
  agents      names; default: random, and those of run=
  run         run folder(s) of train.py; the environment is theirs, changed by env.<setting>=...
  split       train, val, test or all (default: the protocol's, or test)
  seeds       repetitions per task (default: 5); seed: root of all random numbers (default: 0)
  budget      evaluations per episode (default: the protocol's, or the environment's)
  trials      when regret is shown, for example [10,50]
  reference   agent that the others are compared with (default: random)
  settings    settings of methods, for example settings.tpe.startup_trials=20
  initial_points  configurations shared by all methods, after the start: random ones, with protocol=hpob-v3 those
              that HPO-B publishes (default: 0, or the protocol's)
  workers     processes for methods that play one episode at a time (default: one per core)
  allow_leak  evaluate on datasets that a policy was trained on or chosen by (default: false)
  output      folder to write to (default: evaluations/<space>-<split>, or evaluation/ in the first run folder)
  overwrite   replace the result of other settings; played episodes that are the same are kept (default: false)
  figures     draw the report and its figures, which takes some seconds (default: true)
  report      folder of evaluations to report on; nothing is evaluated
  env.space   search space, without run=; env.device: cpu or cuda
"""

# Settings of an environment that an evaluation decides otherwise, and how.
_DECIDED = {
    "max_tasks": "every task of the split is played",
    "tasks_seed": "every task of the split is played",
    "split": "the tasks to evaluate on are chosen by split=, so use split={value}",
    "action": "every agent takes the kind of action that it was made for",
    "observation": "every agent reads the kind of observation that it was made for",
    "reward": "what is compared is regret",
    "reward_scale": "what is compared is regret",
    "cost_weight": "what is compared is regret",
    "terminate_on_repeat": "every agent spends the whole budget",
    "num_envs": "all episodes of a split are played at once",
}


@dataclass
class EvaluateConfig:
    """What the command line sets; see :class:`agents.comparison.ComparisonConfig`."""

    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"env": "openml"}])
    protocol: str | None = None
    agents: list[str] | None = None
    run: list[str] | None = None
    env: Any = MISSING
    split: str = "test"
    seeds: int | None = None
    seed: int = 0
    budget: int | None = None
    initial_points: int | None = None
    trials: list[int] | None = None
    reference: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int | None = None
    allow_leak: bool = False
    output: str | None = None
    overwrite: bool = False
    figures: bool = True
    report: str | None = None


GROUPS = {"env": list(ENVIRONMENTS)}

store("evaluate", EvaluateConfig)
for _name in ENVIRONMENTS:
    store(_name, preset(_name), "env")


def evaluate(config: DictConfig, overrides: Overrides) -> None:
    """Run a comparison, print its table and write its files; or only make a report."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    require_named("output", values["output"], "folder", "<folder>")
    require_named("report", values["report"], "folder", "evaluations/<name>")
    if values["report"] is not None:
        _report(values, overrides)
        return
    protocol = None if values["protocol"] is None else find_protocol(values["protocol"])
    if protocol is not None and "split" not in overrides.keys:
        values["split"] = protocol.split
    if protocol is None or not protocol.spaces or values["run"] or "env.space" in overrides.keys:
        _evaluate_space(values, overrides)
    else:
        _evaluate_spaces(protocol, values, overrides)


def _evaluate_spaces(protocol: Protocol, values: Mapping[str, Any], overrides: Overrides) -> None:
    """Run the comparison in every search space of a protocol, and print a table of all scenarios."""
    console = make_console()
    playable, left_out = playable_spaces(protocol)
    for line in left_out.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    root = _output(values["output"], protocol.name, (), overrides)
    for number, name in enumerate(playable, 1):
        console.print(f"{protocol.name}: {name} ({number} of {len(playable)})", highlight=False)
        given = {**values, "env": {**values["env"], "space": name}}
        comparison = _evaluate_space(given, overrides, root / name)
        left_out.tasks |= comparison.suite.spec.provenance.get("left_out", {})
    datasets = comparison.suite.spec.provenance["datasets"]
    records = records_of_folders(root)
    reference = comparison.reference
    text = scenarios_markdown(records, reference, left_out, datasets)
    write_atomic(root / "scenarios.md", text.encode())
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    if values["figures"]:
        console.print(f"  {report_of_folders(root, root, reference)[0]}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"  {root / 'scenarios.md'}", highlight=False, soft_wrap=True, markup=False)


def _evaluate_space(values: Mapping[str, Any], overrides: Overrides, output: Path | None = None) -> Comparison:
    """Run the comparison in one search space; print its table and write its files."""
    runs = tuple(values["run"] or ())
    comparison = prepare(
        ComparisonConfig(
            agents=None if values["agents"] is None else tuple(values["agents"]),
            runs=runs,
            env=_environment(values, runs, overrides.keys),
            protocol=values["protocol"],
            split=values["split"],
            seeds=values["seeds"],
            seed=values["seed"],
            budget=values["budget"],
            initial_points=values["initial_points"],
            reference=values["reference"],
            trials=None if values["trials"] is None else tuple(values["trials"]),
            settings=values["settings"],
            allow_leak=values["allow_leak"],
        )
    )
    path = output or _output(values["output"], default_name(comparison.suite.name, values["split"]), runs, overrides)
    folder = EvaluationFolder(path, EvaluationFolder.settings_of(values, comparison))
    if not values["overwrite"]:
        folder.require_same_settings()
    workers = _workers(values["workers"])
    console = make_console()
    provenance = {
        "data": comparison.suite.spec.provenance,
        "versions": versions(),
        "command": shlex.join(["python", "evaluate.py", *overrides.items]),
    }
    unfinished = [path for path in runs if not RunFolder(Path(path)).finished]
    if unfinished:
        provenance["unfinished_runs"] = unfinished
        message = f"not finished, the best policy so far plays: {', '.join(unfinished)}"
        console.print(message, highlight=False, markup=False, soft_wrap=True)
    apart = _not_in_split(comparison)
    if apart:
        how = "split=all" if values["protocol"] is None else "split=all without protocol="
        message = f"split={comparison.rules.split} leaves out {', '.join(apart)}; {how} plays every dataset"
        console.print(message, highlight=False, markup=False, soft_wrap=True)
    # The store stays open, and locked, until everything is written: of two evaluations in one folder one has to wait.
    with CellStore(folder.cells) as store:
        with EvaluationDisplay(console) as display:
            result = comparison.run(display.update, store, workers)
        if result.reused:
            message = f"{result.reused:,} episodes were played before, and are taken from {folder.cells}"
            console.print(message, highlight=False, markup=False, soft_wrap=True)
        summary = folder.write(comparison, result, provenance, figures=values["figures"])
    result.require_complete()
    console.print(comparison_table(summary, console.width))
    written = ["report.html"] if values["figures"] else []
    for name in (*written, "table.md", "records.parquet", "configurations.parquet", "result.json"):
        console.print(f"  {folder.path / name}", highlight=False, soft_wrap=True, markup=False)
    return comparison


def _not_in_split(comparison: Comparison) -> list[str]:
    """Return the datasets of live training, each of which was named or is one of a few, that are not played."""
    suite, rules = comparison.suite, comparison.rules
    if not suite.measured:
        return []
    played = set(suite.split(rules.protocol, rules.split))
    return [task.id for index, task in enumerate(suite.tasks) if index not in played]


def _report(values: Mapping[str, Any], overrides: Overrides) -> None:
    others = [key for key in overrides.keys if key not in ("report", "reference", "output")]
    if others:
        raise InvalidSettingError(
            f"report={values['report']} evaluates nothing, so that {', '.join(others)} would have no effect. Leave "
            "it out; reference= and output= are understood."
        )
    root = Path(values["report"])
    page, summary = report_of_folders(root, Path(values["output"] or root), values["reference"])
    console = make_console()
    console.print(comparison_table(summary, console.width))
    console.print(f"  {page}", highlight=False, soft_wrap=True, markup=False)


def _workers(given: int | None) -> int:
    """Return how many processes play episodes one by one."""
    if given is not None:
        if given < 1:
            raise InvalidSettingError(f"workers={given} must be at least 1: one process plays everything itself.")
        return given
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(values: Mapping[str, Any], runs: Sequence[str], keys: Sequence[str]) -> EnvironmentConfig:
    """Return the environment to evaluate on: as given, or as the runs were trained on with what is given changed."""
    env: EnvironmentConfig = build(EnvironmentConfig, values["env"], "environment setting")
    named = tuple(dict.fromkeys(key.removeprefix("env.").split(".")[0] for key in keys if key.startswith("env.")))
    for name in named:
        if name in _DECIDED:
            value = getattr(env, name)
            reason = _DECIDED[name].format(value=value)
            raise InvalidSettingError(f"env.{name}={value} would have no effect: {reason}. Leave out env.{name}.")
    if "env.budget" in keys and values["budget"] not in (None, env.budget):
        raise InvalidSettingError(
            f"budget={values['budget']} and env.budget={env.budget} contradict each other. Leave out env.budget."
        )
    if values["run"] == []:
        raise InvalidSettingError("run=[] names no run folder. Write run=runs/<name>, or leave out run.")
    if not runs:
        asked = values["protocol"] is not None and not {"env", "env.id"} & set(keys)
        return dataclasses.replace(env, id=find_protocol(values["protocol"]).environment) if asked else env
    changed = [*named, *(["id"] if "env" in keys else []), *(["budget"] if values["budget"] is not None else [])]
    return env_of_runs(env, [load_trained(path) for path in runs], changed)


def _output(given: str | None, name: str, runs: Sequence[str], overrides: Overrides) -> Path:
    """Return a folder that no other job of a sweep writes to."""
    if given is not None:
        # Swept itself, it is told from others by what else is swept.
        return Path(given) / overrides.label(without=("output",))
    # Lists of runs may begin with the same one, in whose folder the result is.
    of_folder = () if len(runs) > 1 else ("run",)
    label = overrides.label(without=(*of_folder, "split", "env.space", "overwrite"))
    parent = Path(runs[0]) / "evaluation" if runs else Path("evaluations")
    return parent / (f"{name}-{label}" if label else name)


if __name__ == "__main__":
    sys.exit(run_command("evaluate", evaluate, GROUPS, help_text=HELP))
