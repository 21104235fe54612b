"""``python -m agents.grpo_ablation_study``: what do the parts of GRPO do? Train, play, write the study's page.

Trains the base and its variants with several seeds, plays datasets that no training saw, and writes
``docs/studies/grpo-ablations.md``. It may be stopped at any time, and goes on where it stopped; ``--spaces`` and
``--variants`` do a part of the work, which is added to what is there; ``--page`` only writes the page anew from
``docs/studies/data``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.environments import EnvironmentConfig
from agents.grpo_ablation_study_page import write_page
from agents.grpo_ablation_study_results import COMMAND, LOGGED, NAME, RANDOM, TRAINING, TRIALS
from agents.grpo_ablations import BASE, VARIANTS, experiment, trained
from agents.progress import EvaluationDisplay, make_console
from agents.study import kept_results, play, regret_rows, with_other_rows, write_results
from agents.study_command import study_parser, with_exit_status
from agents.study_runs import StudyRun, learning_curve, run_facts
from agents.versions import versions
from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.evaluation import CellStore
from hpo_gym.sources import load_suite
from hpo_gym.sources.bundled import bundled_spaces

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_STEPS, _SEEDS, _REPETITIONS, _BUDGET = 300_000, 5, 3, max(TRIALS)
_PROTOCOL = "dataset-disjoint"


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    output = Path("evaluations/grpo-ablations")
    parser = study_parser(COMMAND, __doc__, parts="spaces", names=["rpart"], seeds=_SEEDS, output=output)
    parser.add_argument("--variants", nargs="+", metavar="NAME", default=list(VARIANTS), help="default: all")
    parser.add_argument("--steps", type=int, default=_STEPS, help=f"transitions of a training (default: {_STEPS})")
    parser.add_argument("--runs", type=Path, default=Path("runs/grpo-ablations"), help="folder of the trainings")
    options = parser.parse_args(arguments)
    require_names("variant", options.variants, VARIANTS)
    require_names("search space", options.spaces, bundled_spaces())
    require_integer("--seeds", options.seeds, 1)
    if not options.page:
        _require_same_steps(options)
        for space in options.spaces:
            most = _training_datasets(space)
            possible = [name for name in options.variants if (VARIANTS[name].datasets or 1) < most]
            for variant in dict.fromkeys([BASE, RANDOM, *possible]):
                _add(space, variant, options)
    print(write_page(options.documents))


def _require_same_steps(options: argparse.Namespace) -> None:
    """Refuse another length of trainings than that of what is there already."""
    folder = _folder(options)
    steps = kept_results(folder, NAME, COMMAND)[1].get("steps", options.steps)
    if steps != options.steps:
        raise InvalidSettingError(
            f"--steps {options.steps}: what is in {folder} was trained with {steps}. Give --steps {steps}, or another "
            "folder of --documents."
        )


def _folder(options: argparse.Namespace) -> Path:
    folder: Path = options.documents / "studies" / "data"
    return folder


def _training_datasets(space: str) -> int:
    return len(load_suite("bundled", space).split(_PROTOCOL, "train"))


def _add(space: str, variant: str, options: argparse.Namespace) -> None:
    """Train and play a variant, or play random search, and add its rows to what is there."""
    env = EnvironmentConfig(id="HPO-OpenML-v0", space=space)
    console = make_console()
    runs: list[StudyRun] = []
    if variant != RANDOM:
        runs = [trained(experiment(variant, space, seed, options.runs, options.steps)) for seed in range(options.seeds)]
    with CellStore(options.output / f"{space}.sqlite") as store, EvaluationDisplay(console) as display:
        played = play(
            env,
            "test",
            runs=runs,
            agents=() if runs else (RANDOM,),
            repetitions=_REPETITIONS if runs else _REPETITIONS * options.seeds,
            budget=_BUDGET,
            store=store,
            progress=display.update,
        )
    rows = regret_rows(played.records, TRIALS, group=_REPETITIONS)
    seeds = rows["run"].map({run.path.name: run.seed for run in runs}) if runs else rows["group"]
    regrets = rows[["task", "regret"]].assign(space=space, variant=variant, seed=seeds.astype("int16"))
    line = f"{space}: {variant}: regret {rows['regret'].str[-1].mean():.4f}"
    console.print(line, highlight=False, soft_wrap=True)
    folder, keys = _folder(options), ("space", "variant")
    tables, before = kept_results(folder, NAME, COMMAND)
    made_with = run_facts(runs) if runs else before["trained_with"]
    tables[NAME] = with_other_rows(regrets, folder, NAME, COMMAND, keys=keys)
    if runs:
        logged = _logged(space, variant, runs)
        tables[TRAINING] = with_other_rows(logged, folder, NAME, COMMAND, table=TRAINING, keys=keys)
    facts = {
        "datasets": {name: _training_datasets(name) for name in dict.fromkeys(tables[NAME]["space"])},
        "steps": options.steps,
        "repetitions": _REPETITIONS,
        "trained_with": made_with,
        "versions": versions(),
    }
    write_results(folder, NAME, tables, facts)


def _logged(space: str, variant: str, runs: Sequence[StudyRun]) -> pd.DataFrame:
    """Return what trainings logged: a row per seed, and of every quantity its value after each update (a list)."""
    import pandas as pd

    rows = []
    for run in runs:
        row: dict[str, object] = {"space": space, "variant": variant, "seed": run.seed}
        for name, tag in LOGGED.items():
            row["steps"], row[name] = learning_curve(run, tag)
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(main())
