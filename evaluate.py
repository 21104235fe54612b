"""Compare agents on held-out tasks: ``python evaluate.py run=runs/first split=test seeds=5``.

``run`` names one run folder or a list of them; the environment is the one that they were trained on, changed by
``env.<setting>=...``. Without ``run``: ``python evaluate.py agents=[random] env=openml env.space=xgboost``.

Written: a figure, a table (Markdown), every trial (Parquet) and ``result.json``. ``--help`` lists the settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agents.command_line import run_command, store
from agents.comparison import Comparison, ComparisonConfig, env_of_runs, prepare
from agents.environments import ENVIRONMENTS, EnvironmentConfig
from agents.experiment import build, load_trained
from agents.overrides import Overrides
from agents.progress import make_console
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import comparison_markdown, comparison_table, regret_figure, save_figure, summarise
from hpo_gym.sources.bundle_files import write_atomic

HELP = """
Compare trained agents with others on held-out tasks: the same tasks, seeds, first configuration and budget for all.

  python evaluate.py run=... [agents=[...]] [key=value ...]
  python evaluate.py run=runs/first split=test seeds=5
  python evaluate.py run=[runs/s0,runs/s1,runs/s2]  runs of one agent are averaged
  python evaluate.py agents=random env=openml env.space=xgboost
  python evaluate.py --cfg job                      every setting and its value

Settings (key=value):
  run         run folder(s) of train.py; the environment is theirs, changed by env.<setting>=...
  agents      names; default: random, and those of run=
  split       train, val, test or all (default: test)
  seeds       repetitions per task (default: 5); seed: root of all random numbers (default: 0)
  budget      evaluations per episode (default: the environment's)
  trials      when regret is shown, for example [10,50]
  reference   agent that the others are compared with (default: random)
  allow_leak  evaluate on datasets that a policy was trained on or chosen by (default: false)
  output      folder to write to (default: evaluation/ in the first run folder)
  overwrite   replace what is there of an evaluation with other settings (default: false)
  env.space   search space, without run=; env.device: cpu or cuda
"""

# How many settings a message names.
_MOST_SHOWN = 4
# Of two settings with one value, the one to name; and what changes no result.
_NAMED_ELSEWHERE = ("env.split", "env.budget")
_NO_PROPERTY = ("output", "overwrite")

# Settings of an environment that an evaluation decides otherwise, and how.
_DECIDED = {
    "split": "the tasks to evaluate on are chosen by split=, so use split={value}",
    "action": "every agent takes the kind of action that it was made for",
    "observation": "every agent reads the kind of observation that it was made for",
    "reward": "what is compared is regret",
    "reward_scale": "what is compared is regret",
    "terminate_on_repeat": "every agent spends the whole budget",
    "num_envs": "all episodes of a split are played at once",
}


@dataclass
class EvaluateConfig:
    """What the command line sets; see :class:`agents.comparison.ComparisonConfig`."""

    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"env": "openml"}])
    agents: list[str] | None = None
    run: list[str] | None = None
    env: Any = MISSING
    split: str = "test"
    seeds: int = 5
    seed: int = 0
    budget: int | None = None
    trials: list[int] | None = None
    reference: str | None = None
    allow_leak: bool = False
    output: str | None = None
    overwrite: bool = False


GROUPS = {"env": list(ENVIRONMENTS)}

store("evaluate", EvaluateConfig)
for _name, _id in ENVIRONMENTS.items():
    store(_name, EnvironmentConfig(id=_id), "env")


def evaluate(config: DictConfig, overrides: Overrides) -> None:
    """Run a comparison, print its table and write its files."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    runs = tuple(values["run"] or ())
    comparison = prepare(
        ComparisonConfig(
            agents=None if values["agents"] is None else tuple(values["agents"]),
            runs=runs,
            env=_environment(values, runs, overrides.keys),
            split=values["split"],
            seeds=values["seeds"],
            seed=values["seed"],
            budget=values["budget"],
            reference=values["reference"],
            trials=None if values["trials"] is None else tuple(values["trials"]),
            allow_leak=values["allow_leak"],
        )
    )
    folder = _output(values["output"], f"{comparison.suite.name}-{values['split']}", runs, overrides)
    settings = _settings(values, comparison)
    if not values["overwrite"]:
        _require_same_settings(folder / "result.json", settings)
    # Now: a folder that cannot be written to should not cost an evaluation.
    folder.mkdir(parents=True, exist_ok=True)
    console = make_console()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=1.0)
        records = comparison.run(lambda label, share: progress.update(bar, description=label, completed=share))
    summary = summarise(records, comparison.reference, comparison.trials, seed=values["seed"])
    console.print(comparison_table(summary, console.width))
    written = [
        *save_figure(regret_figure(records, values["split"]), folder / "regret"),
        folder / "table.md",
        records.to_parquet(folder / "records.parquet"),
        folder / "result.json",
    ]
    write_atomic(folder / "table.md", comparison_markdown(summary).encode())
    result = {"settings": settings, **summary}
    write_atomic(folder / "result.json", (json.dumps(result, indent=1, default=str) + "\n").encode())
    for path in written:
        console.print(f"  {path}", highlight=False, soft_wrap=True, markup=False)


def _environment(values: Mapping[str, Any], runs: Sequence[str], keys: Sequence[str]) -> EnvironmentConfig:
    """Return the environment to evaluate on: as given, or as the runs were trained on with what is given changed."""
    env: EnvironmentConfig = build(EnvironmentConfig, values["env"], "environment setting")
    named = tuple(dict.fromkeys(key.removeprefix("env.").split(".")[0] for key in keys if key.startswith("env.")))
    for name in named:
        if name in _DECIDED:
            value = getattr(env, name)
            reason = _DECIDED[name].format(value=value)
            raise InvalidSettingError(f"env.{name}={value} would have no effect: {reason}. Leave out env.{name}.")
    if values["run"] == []:
        raise InvalidSettingError("run=[] names no run folder. Write run=runs/<name>, or leave out run.")
    if not runs:
        return env
    changed = [*named, *(["id"] if "env" in keys else []), *(["budget"] if values["budget"] is not None else [])]
    return env_of_runs(env, [load_trained(path) for path in runs], changed)


def _output(given: str | None, name: str, runs: Sequence[str], overrides: Overrides) -> Path:
    """Return a folder that no other job of a sweep writes to."""
    if given is not None:
        return Path(given) if "output" in Overrides(overrides.swept).keys else Path(given) / overrides.label()
    label = overrides.label(without=("run", "split", "env.space", "overwrite"))
    parent = Path(runs[0]) / "evaluation" if runs else Path("evaluations")
    return parent / (f"{name}-{label}" if label else name)


def _settings(values: Mapping[str, Any], comparison: Comparison) -> dict[str, Any]:
    """Return the settings of an evaluation, nothing left open, as JSON gives them back."""
    chosen = {
        "agents": list(dict.fromkeys(contender.name for contender in comparison.contenders)),
        "run": list(comparison.config.runs),
        "budget": comparison.budget,
        "trials": list(comparison.trials),
        "reference": comparison.reference,
        "env": comparison.environment(),
    }
    settings: dict[str, Any] = json.loads(json.dumps({**values, **chosen}, default=str))
    return settings


def _require_same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to replace the result of an evaluation with other settings.

    Raises:
        InvalidSettingError: Naming what differs.
    """
    if not path.exists():
        return
    remedy = "Write elsewhere with output=<folder>, or replace it with overwrite=true."
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))["settings"]
        theirs, mine = _compared(earlier), _compared(settings)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidSettingError(f"{path} holds something else than the result of an evaluation. {remedy}") from error
    different = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    if different:
        shown = [f"{key}: {theirs.get(key)} against {mine.get(key)}" for key in different[:_MOST_SHOWN]]
        more = f"; {len(different) - _MOST_SHOWN} more" if len(different) > _MOST_SHOWN else ""
        raise InvalidSettingError(
            f"{path} holds the result of other settings (its own against the new ones: {'; '.join(shown)}{more}). "
            f"{remedy}"
        )


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result, however it was written."""
    of_env = {f"env.{name}": value for name, value in settings["env"].items()}
    flat = {name: value for name, value in settings.items() if name != "env"} | of_env
    flat["agents"] = sorted(flat["agents"] or ())
    flat["run"] = [str(Path(path).resolve()) for path in flat["run"]]
    return {name: value for name, value in flat.items() if name not in (*_NO_PROPERTY, *_NAMED_ELSEWHERE)}


if __name__ == "__main__":
    sys.exit(run_command("evaluate", evaluate, GROUPS, help_text=HELP))
