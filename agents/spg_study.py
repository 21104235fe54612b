"""``python -m agents.spg_study``: does Sequential Policy Gradient beat training as long without it, and plain dropout?

Trains every network of :data:`agents.spg_tasks.TASKS` with every method of :mod:`agents.spg_study_methods`, with ten
seeds, and writes ``docs/studies/spg.md``. It may be stopped at any time and goes on where it stopped: what one seed
gave on one task is kept in ``--output``. ``--page`` only writes the page anew from ``docs/studies/data/``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.progress import EvaluationDisplay
from agents.spg_study_methods import CANDIDATES, CONTROLS, COST, REGIMES, SPG_FORMS, Regime, run_cell, study_training
from agents.spg_study_page import STUDY, write_page
from agents.spg_tasks import SHARES, TASKS, load_task
from agents.study import write_results
from agents.study_command import with_exit_status
from agents.versions import versions
from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.sources.bundle_files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

SEEDS = 10


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if not options.page:
        _measure(options, given)
    print(write_page(options.documents))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agents.spg_study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="train nothing; only write the page")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", default=list(TASKS), help="default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"0, 1, ... (default: {SEEDS})")
    parser.add_argument("--epochs", type=int, help="of every phase, to try the command out")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--documents", type=Path, default=Path("docs/studies"), help="where the page is")
    parser.add_argument("--output", type=Path, default=Path("evaluations/spg"), help="what each seed gave")
    return parser


def _measure(options: argparse.Namespace, given: Sequence[str]) -> None:
    require_names("task", options.tasks, TASKS)
    require_integer("--seeds", options.seeds, 1)
    regimes = REGIMES
    if options.epochs is not None:
        require_integer("--epochs", options.epochs, 1)
        regimes = {
            name: Regime(bool(one.pretrain_epochs) * options.epochs, options.epochs) for name, one in REGIMES.items()
        }
    tasks = list(dict.fromkeys(options.tasks))
    checksums = {name: load_task(name).checksum for name in tasks}
    # Seeds first, so that a study that is stopped has all tasks.
    cells = list(product(range(options.seeds), regimes, tasks))
    rows = []
    with EvaluationDisplay() as display:
        for done, (seed, regime, task) in enumerate(cells):
            display.update("trainings", done / len(cells))
            found = _cell(options.output, task, seed, regimes[regime], options.device, checksums[task])
            rows += [
                {"regime": regime, "task": task, "seed": seed, "method": method, **figures}
                for method, figures in found.items()
            ]
    facts = {
        "tasks": tasks,
        "seeds": options.seeds,
        "regimes": [{"name": name, **asdict(one)} for name, one in regimes.items()],
        "training": asdict(study_training(tasks[0], next(iter(regimes.values())), options.device)),
        "forms": [
            {"name": name, "settings": {**asdict(settings), "dropout": settings.rate}}
            for name, settings in SPG_FORMS.items()
        ],
        "controls": list(CONTROLS),
        "cost": {name: COST[name] for name in tasks},
        "candidates": CANDIDATES,
        "shares": SHARES,
        "device": options.device,
        "data": checksums,
        "versions": versions(),
        "command": shlex.join(["python", "-m", "agents.spg_study", *given]),
    }
    for path in write_results(options.documents / "data", STUDY, {STUDY: _frame(rows)}, facts):
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def _cell(
    output: Path, task: str, seed: int, regime: Regime, device: str, checksum: str
) -> Mapping[str, Mapping[str, float]]:
    """Return what all methods reach, from a file of an earlier run of the same study if there is one."""
    settings = {
        "training": asdict(study_training(task, regime, device)),
        "methods": {name: asdict(one) for name, one in SPG_FORMS.items()},
        "controls": CONTROLS,
        "cost": COST[task],
        "candidates": CANDIDATES,
        "data": checksum,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = output / f"{task}-{digest}-{seed}.json"
    if path.is_file():
        return _read(path)
    found = run_cell(task, seed, regime, device)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())
    return found


def _read(path: Path) -> Mapping[str, Mapping[str, float]]:
    try:
        found: Mapping[str, Mapping[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidSettingError(f"{path} is not what this command wrote ({error}). Remove it.") from error
    return found


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"seed": "int16"})
    return frame.sort_values(["regime", "task", "seed", "method"], ignore_index=True)


if __name__ == "__main__":
    sys.exit(main())
