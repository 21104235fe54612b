"""``python -m agents.exploration_study --runs runs/exploration``: does softmax explore better than epsilon-greedy?

Evaluates the trained policies of one sweep of ``train.py`` on training and on held-out datasets, and writes
``docs/studies/exploration.md`` with its figures. The trainings are made by::

    python train.py -m agent=dqn \\
        agent.exploration=epsilon_greedy,softmax,softmax_scaled,ucb,count_ucb,thompson,noisy \\
        env.space=rpart,xgboost,ranger,lcbench 'seed=range(10)' \\
        agent.total_steps=100000 validate_every=20000 log_every=5000 runs=runs/exploration

Two shells may share it: ``'seed=range(5)'`` in one, ``'seed=range(5,10)'`` in the other. This command may be stopped at
any time and goes on where it stopped. ``--policies <name> --keep`` evaluates some policies anew and keeps what is known
of the others; ``--page`` only writes the page anew from ``docs/studies/data/``.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.exploration_settings import EXPLORATIONS
from agents.exploration_study_page import write_page
from agents.exploration_study_results import CURVES, STUDY, with_kept
from agents.progress import EvaluationDisplay, make_console
from agents.study import WALK, play, regret_rows, write_results
from agents.study_command import with_exit_status
from agents.study_runs import StudyRun, find_runs, learning_curve, require_alike, run_facts, settings_of
from agents.versions import versions
from hpo_gym.errors import DataMissingError, InvalidSettingError, require_names
from hpo_gym.evaluation import CellStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Combination", "chosen_runs", "main"]

SPACES = ("rpart", "xgboost", "ranger", "lcbench")
SEEDS, REPETITIONS, BUDGET = 10, 3, 50
TRIALS = (1, 10, 25, BUDGET)
SPLITS = ("train", "test")
#: Methods that every policy is compared with: random search, and the walk that explores all the time.
REFERENCES = ("random", WALK)

# What the study is about, and what else may differ between its runs.
_OF_POLICY = ("agent.exploration", *(f"agent.{name}" for name in dict.fromkeys(sum(EXPLORATIONS.values(), ()))))
_FREE = (*_OF_POLICY, "env.space", "seed")
_LOGGED = {"validation": "validation/regret", "training": "episode/regret", "explored": "agent/explored"}

#: Policy, space and seed.
Combination = tuple[str, str, int]


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if not options.page:
        _evaluate(options, given)
    print(write_page(options.documents))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agents.exploration_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/exploration"), help="folder of the run folders")
    parser.add_argument("--page", action="store_true", help="evaluate nothing; only write the page")
    parser.add_argument("--allow-missing", action="store_true", help="write a page that says what is missing")
    parser.add_argument("--keep", action="store_true", help="keep the results of other policies that the page has")
    parser.add_argument("--policies", nargs="+", metavar="NAME", default=tuple(EXPLORATIONS), help="default: all")
    parser.add_argument(
        "--spaces", nargs="+", metavar="NAME", default=list(SPACES), help=f"default: {' '.join(SPACES)}"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"trainings 0, 1, ... of each (default: {SEEDS})")
    parser.add_argument(
        "--repetitions", type=int, default=REPETITIONS, help=f"episodes per dataset and policy (default: {REPETITIONS})"
    )
    parser.add_argument("--documents", type=Path, default=Path("docs/studies"), help="where the page is")
    parser.add_argument("--output", type=Path, default=Path("evaluations/exploration"), help="played episodes")
    return parser


def _evaluate(options: argparse.Namespace, given: Sequence[str]) -> None:
    require_names("exploration policy", options.policies, EXPLORATIONS)
    for name, value in (("seeds", options.seeds), ("repetitions", options.repetitions)):
        if value < 1:
            raise InvalidSettingError(f"--{name} {value} must be at least 1.")
    wanted = list(product(dict.fromkeys(options.policies), dict.fromkeys(options.spaces), range(options.seeds)))
    runs, missing = chosen_runs(options.runs, wanted, allow_missing=options.allow_missing)
    shared = require_alike(list(runs.values()), _FREE)
    explored = _policy_settings(runs)
    logged = _logged(runs)
    rows, data = _play_all(runs, options)
    facts = {
        "policies": list(explored),
        "spaces": [space for space in dict.fromkeys(options.spaces) if space in {key[1] for key in runs}],
        "seeds": options.seeds,
        "repetitions": options.repetitions,
        "trials": list(TRIALS),
        "runs": len(runs),
        "wanted": len(wanted),
        "missing": missing,
        "command": shlex.join(["python", "-m", "agents.exploration_study", *given]),
        "shared": {name: value for name, value in shared.items() if value is not None},
        "exploration": explored,
        "trained_with": run_facts(list(runs.values())),
        "evaluated_with": versions(),
        "data": data,
    }
    tables: dict[str, pd.DataFrame] = {STUDY: rows, CURVES: logged}
    if options.keep:
        tables, facts = with_kept(options.documents / "data", tables, facts)
    for path in write_results(options.documents / "data", STUDY, tables, facts):
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def chosen_runs(
    folder: Path, wanted: Sequence[Combination], allow_missing: bool = False
) -> tuple[dict[Combination, StudyRun], list[str]]:
    """Return the finished run of every combination, in that order, and what is missing, in words.

    Args:
        folder: Folder of the run folders; runs of other combinations are left out, and named on standard error.
        wanted: What the study is made of.
        allow_missing: Whether some of it may be missing.

    Raises:
        DataMissingError: If a combination has no finished run, naming all of them.
        InvalidSettingError: If a combination has two, or none is there at all.
    """
    found = find_runs(folder)
    finished: dict[Combination, StudyRun] = {}
    for run in found.finished:
        key = _combination(run)
        if key in finished:
            raise InvalidSettingError(
                f"{finished[key].path} and {run.path} are both {', '.join(map(str, key))}: it would count twice. Move "
                "one of them to another folder."
            )
        finished[key] = run
    others = [run.path.name for key, run in finished.items() if key not in wanted]
    if others:
        print(f"left out, no part of the study: {', '.join(others)}", file=sys.stderr)
    chosen = {key: finished[key] for key in wanted if key in finished}
    unfinished = {_combination(run): run for run in found.unfinished}
    begun = [key for key in wanted if key not in chosen and key in unfinished]
    absent = [key for key in wanted if key not in chosen and key not in unfinished]
    missing = [f"{text}: not trained" for text in _in_words(absent)]
    missing += [f"{text}: not finished" for text in _in_words(begun)]
    if missing and not allow_missing:
        resume = "".join(f"\n  python train.py resume={unfinished[key].path}" for key in begun)
        raise DataMissingError(
            f"{len(absent) + len(begun)} of {len(wanted)} trainings are missing in {folder}:\n  "
            + "\n  ".join(missing)
            + f"\nTrain them (python -m agents.exploration_study --help shows how){', and go on with' if begun else ''}"
            f"{resume}\nor write a page that says so: --allow-missing."
        )
    if not chosen:
        raise DataMissingError(f"{folder} holds no finished run of the study: {'; '.join(missing)}.")
    return chosen, missing


def _combination(run: StudyRun) -> Combination:
    settings = settings_of(run)
    if "agent.exploration" not in settings:
        raise InvalidSettingError(
            f"{run.path} is a run of {run.config.agent_name!r}, which has no exploration policy. Move it to another "
            "folder."
        )
    return str(settings["agent.exploration"]), run.space, run.seed


def _in_words(keys: Iterable[Combination]) -> list[str]:
    """Return combinations with the seeds of one policy and space in one line."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for policy, space, seed in keys:
        seeds.setdefault((policy, space), []).append(seed)
    return [
        f"{policy} on {space}, seed{'s' if len(each) > 1 else ''} {', '.join(map(str, each))}"
        for (policy, space), each in seeds.items()
    ]


def _policy_settings(runs: Mapping[Combination, StudyRun]) -> dict[str, dict[str, Any]]:
    """Return how each policy explores; refuse one that does not do it alike everywhere."""
    settings: dict[str, dict[str, Any]] = {}
    for policy in dict.fromkeys(policy for policy, _, _ in runs):
        mine = [run for key, run in runs.items() if key[0] == policy]
        shared = require_alike(mine, ("env.space", "seed"))
        settings[policy] = {name: shared[f"agent.{name}"] for name in EXPLORATIONS[policy]}
    return settings


def _play_all(
    runs: Mapping[Combination, StudyRun], options: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """Return the rows of all policies and references on all splits, and checksums of the data by space."""
    import pandas as pd

    console = make_console()
    tables, data = [], {}
    for space in dict.fromkeys(space for _, space, _ in runs):
        here = {key: run for key, run in runs.items() if key[1] == space}
        env = next(iter(here.values())).config.env
        with CellStore(options.output / f"{space}.sqlite") as store, EvaluationDisplay(console) as display:
            for split in SPLITS:
                played_by = functools.partial(play, env, split, budget=BUDGET, store=store, progress=display.update)
                for policy in dict.fromkeys(policy for policy, _, _ in here):
                    mine = {key[2]: run for key, run in here.items() if key[0] == policy}
                    played = played_by(runs=tuple(mine.values()), repetitions=options.repetitions)
                    rows = regret_rows(played.records, TRIALS)
                    seeds = {run.path.name: seed for seed, run in mine.items()}
                    tables.append(_labelled(rows, space, split, policy=policy, seed=rows["run"].map(seeds)))
                    _tell(console, tables[-1])
                # As many episodes as a policy with all its seeds has, in as many groups.
                episodes = options.repetitions * options.seeds
                played = played_by(agents=REFERENCES, repetitions=episodes)
                rows = regret_rows(played.records, TRIALS, group=options.repetitions)
                for name, part in rows.groupby("agent"):
                    tables.append(_labelled(part, space, split, policy=name, seed=part["group"]))
                    _tell(console, tables[-1])
                data[space] = dict(played.data)
    frame = pd.concat(tables, ignore_index=True)
    return frame.sort_values(["space", "split", "policy", "seed", "task"], ignore_index=True), data


def _labelled(rows: pd.DataFrame, space: str, split: str, **columns: Any) -> pd.DataFrame:
    labelled = rows[["task", "regret"]].assign(space=space, split=split, **columns)
    return labelled.astype({"seed": "int16"})[["policy", "space", "seed", "split", "task", "regret"]]


def _tell(console: Any, rows: pd.DataFrame) -> None:
    first, last = rows.iloc[0], rows["regret"].str[-1].mean()
    line = f"{first['space']}, {first['split']}: {first['policy']}: regret {last:.4f}"
    console.print(line, highlight=False, soft_wrap=True)


def _logged(runs: Mapping[Combination, StudyRun]) -> pd.DataFrame:
    """Return what trainings logged: ``policy``, ``space``, ``seed``, ``series``, and lists ``steps`` and ``values``."""
    import numpy as np
    import pandas as pd

    rows = []
    for (policy, space, seed), run in runs.items():
        for series, tag in _LOGGED.items():
            steps, values = learning_curve(run, tag)
            if series == "training":
                # Until further episodes end, the last mean is logged again.
                kept = [at for at, value in enumerate(values) if at == 0 or value != values[at - 1]]
                steps, values = [steps[at] for at in kept], [values[at] for at in kept]
            rows.append((policy, space, seed, series, steps, np.array(values, dtype="float32")))
    frame = pd.DataFrame(rows, columns=["policy", "space", "seed", "series", "steps", "values"])
    return frame.astype({"seed": "int16"})


if __name__ == "__main__":
    sys.exit(main())
