"""Compare agents on held-out tasks: ``python evaluate.py run=runs/first split=test seeds=5``.

``run`` names one run folder or a list of them; the environment is the one that the first was trained on, changed by
``env.<setting>=...``. Without ``run``: ``python evaluate.py agents=[random] env=openml env.space=xgboost``.
Every setting: ``python evaluate.py --cfg job``.

Written: a figure, every trial (Parquet) and ``result.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agents.command_line import overridden_keys, run_command, store
from agents.comparison import ComparisonConfig, compare, env_of_run
from agents.environments import ENVIRONMENTS, EnvironmentConfig
from agents.experiment import build, load_trained
from hpo_gym.evaluation import chosen_trials, comparison_table, regret_figure, save_figure, summarise
from hpo_gym.sources.bundle_files import write_atomic


@dataclass
class EvaluateConfig:
    """What the command line sets; see :class:`agents.comparison.ComparisonConfig`."""

    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"env": "openml"}])
    agents: list[str] | None = None
    run: Any = None
    env: Any = MISSING
    split: str = "test"
    seeds: int = 5
    seed: int = 0
    budget: int | None = None
    trials: list[int] | None = None
    reference: str | None = None
    allow_leak: bool = False
    output: str | None = None


GROUPS = {"env": list(ENVIRONMENTS)}

store("evaluate", EvaluateConfig)
for _name, _id in ENVIRONMENTS.items():
    store(_name, EnvironmentConfig(id=_id, reward_scale=None), "env")


def evaluate(config: DictConfig, overrides: Sequence[str]) -> None:
    """Run a comparison, print its table and write its files."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    env: EnvironmentConfig = build(EnvironmentConfig, values["env"], "environment setting")
    given = values["run"]
    runs = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if runs:
        keys = overridden_keys(overrides)
        named = [key.removeprefix("env.").split(".")[0] for key in keys if key.startswith("env.")]
        if "env" in keys:
            named = [*named, "id"]
        env = env_of_run(env, load_trained(runs[0]), tuple(dict.fromkeys(named)))
    budget = values["budget"] or env.budget or 50
    comparison = ComparisonConfig(
        agents=None if values["agents"] is None else tuple(values["agents"]),
        runs=runs,
        env=env,
        split=values["split"],
        seeds=values["seeds"],
        seed=values["seed"],
        budget=budget,
        allow_leak=values["allow_leak"],
    )
    console = Console()
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
        records = compare(comparison, lambda label, share: progress.update(bar, description=label, completed=share))
    names = records.agents
    reference = values["reference"] or ("random" if "random" in names else names[0])
    summary = summarise(records, reference, values["trials"] or chosen_trials(budget), seed=values["seed"])
    parent = Path(runs[0]) / "evaluation" if runs else Path("evaluations")
    space = summary["spaces"][0].partition(":")[2]
    folder = Path(values["output"] or parent / f"{space}-{comparison.split}")
    console.print(comparison_table(summary))
    written = [
        *save_figure(regret_figure(records, comparison.split), folder / "regret"),
        records.to_parquet(folder / "records.parquet"),
        folder / "result.json",
    ]
    result = {"settings": {**values, "runs": list(runs), "budget": budget}, **summary}
    write_atomic(folder / "result.json", (json.dumps(result, indent=1, default=str) + "\n").encode())
    for path in written:
        console.print(f"  {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command("evaluate", evaluate, GROUPS))
