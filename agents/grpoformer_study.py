"""``python -m agents.grpoformer_study``: GRPOformer's 36 scenarios with equal budgets and with those of its code.

The protocol ``grpoformer-36``: every evaluation trains a model. ``--budgets equal`` gives all methods as many
evaluations; ``--budgets paper`` what the released code spends, 4,008 on GRPOformer and 500 on the others, and adds
random search with 4,008. It may be stopped at any time and goes on where it stopped. Datasets may be played one after
another (``--datasets``): what was played before stays. ``--page`` plays nothing and only writes
``docs/studies/grpoformer-36.md`` anew from ``docs/studies/data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from agents.grpoformer_study_data import BUDGETS, Entry, entries, kept_trials
from agents.grpoformer_study_page import COMMAND, NAME, PROTOCOL, write_page
from agents.progress import EvaluationDisplay, make_console
from agents.study import kept_results, with_other_rows, write_results
from agents.study_command import add_workers, study_parser, with_exit_status
from agents.versions import versions
from hpo_gym.errors import InvalidSettingError, require_names
from hpo_gym.evaluation import CellStore
from hpo_gym.evaluation.protocols import find_protocol
from hpo_gym.live.datasets import data_source
from hpo_gym.sources.grpoformer import DATASET_SETS, load_grpoformer, missing_families

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["made_with", "main", "merged", "play", "require_combinable"]

# The cheapest first: whoever stops the command early has most families.
_FAMILIES = ("svm", "lr", "rf", "xgb", "histgb", "nn")


def play(
    family: str,
    budgets: str,
    who: Sequence[Entry],
    seeds: int,
    folder: Path,
    *,
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Play the scenarios of one model family.

    Args:
        family: One of :data:`hpo_gym.live.presets.GRPOFORMER_FAMILIES`.
        budgets: Of which comparison the rows are.
        who: Methods with their budgets.
        seeds: Repetitions per scenario.
        folder: Where played episodes are kept.
        options: Options of the source ``grpoformer``, e.g. ``datasets``.
        workers: Processes for methods that play one episode at a time.

    Returns:
        The rows of :func:`agents.grpoformer_study_data.kept_trials`, and what was played: ``evaluations`` by method,
        ``seeds``, ``datasets``, ``seconds`` (the limit of a training) and ``left_out``.

    Raises:
        EvaluationFailedError: If an episode could not be played.
        As :func:`agents.comparison.prepare`.
    """
    import pandas as pd

    env = EnvironmentConfig(id=find_protocol(PROTOCOL).environment, space=family, source_options=dict(options or {}))
    suite = None
    frames = []
    with CellStore(folder / f"{family}.sqlite") as store, EvaluationDisplay(make_console()) as display:
        for spent in sorted({each.evaluations for each in who}):
            mine = {each.agent: each.method for each in who if each.evaluations == spent}
            comparison = prepare(
                ComparisonConfig(agents=tuple(mine), env=env, protocol=PROTOCOL, split="all", seeds=seeds, budget=spent)
            )
            # One cache: what a method trained with the smaller budget is not trained again.
            suite = suite or comparison.suite
            played = dataclasses.replace(comparison, suite=suite).run(display.update, store, workers)
            frames.append(kept_trials(played.require_complete(), suite, mine, budgets))
    assert suite is not None  # somebody plays
    told = suite.spec.provenance
    facts = {
        "evaluations": {each.method: each.evaluations for each in who},
        "seeds": seeds,
        "datasets": told["datasets"],
        "seconds": told["limits"]["seconds"],
        "left_out": told["left_out"],
    }
    return pd.concat(frames, ignore_index=True), facts


def made_with() -> dict[str, Any]:
    """Return versions of packages, those of the models included, as facts of a study."""
    libraries = [name for name in ("sklearn", "xgboost") if find_spec(name)]
    return {"versions": versions(), "libraries": {name: str(import_module(name).__version__) for name in libraries}}


def require_combinable(
    folder: Path, budgets: str, family: str, who: Sequence[Entry], seeds: int, seconds: float, datasets: Sequence[str]
) -> None:
    """Refuse to play what could not stand beside the kept rows of a family: only the same can be averaged.

    Raises:
        InvalidSettingError: If kept rows of other datasets have other methods, budgets, repetitions or limits, or some
            of the datasets were played together with others.
    """
    key, named = f"{budgets}/{family}", {data_source(name).name for name in datasets}
    wanted = {
        "seeds": seeds,
        "seconds": float(seconds),
        "evaluations": {each.method: each.evaluations for each in who},
    }
    for kept in kept_results(folder, NAME, COMMAND)[1].get("played", {}).get(key, []):
        together = " ".join(kept["datasets"])
        if set(kept["datasets"]) <= named:
            continue
        if shared := sorted(set(kept["datasets"]) & named):
            raise InvalidSettingError(
                f"{key}: {shared[0]} was played together with others, which decides what is drawn. Play all of them "
                f"(--datasets {together}), or none."
            )
        differ = [f"{name}={kept[name]} against {value}" for name, value in wanted.items() if kept[name] != value]
        if differ:
            raise InvalidSettingError(
                f"{key}: {together} was played with {'; '.join(differ)} now: only the same can be averaged. Give the "
                "same, or play those again, too."
            )


def merged(
    folder: Path, new: pd.DataFrame, budgets: str, family: str, facts: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows and facts of a study's folder with those of some scenarios of one family replaced."""
    rows = with_other_rows(new, folder, NAME, COMMAND, keys=("budgets", "space", "task"))
    played = kept_results(folder, NAME, COMMAND)[1].get("played", {})
    key = f"{budgets}/{family}"
    others = [kept for kept in played.get(key, []) if not set(kept["datasets"]) <= set(facts["datasets"])]
    return rows, {"played": {**played, key: [*others, dict(facts)]}}


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    output = Path("evaluations/grpoformer-36")
    parser = study_parser(COMMAND, __doc__, parts="families", names=_FAMILIES, seeds=5, output=output)
    parser.add_argument("--budgets", nargs="+", metavar="NAME", default=["equal"], help="equal, paper, or both")
    parser.add_argument("--evaluations", type=int, default=None, help="of all but GRPOformer (default: 500)")
    parser.add_argument("--agents", nargs="+", metavar="NAME", help="names of agents, random among them")
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        default=["bundled"],
        help="bundled; openml: OpenML's tasks, as far as to be had; or names, e.g. sklearn:digits, beside those played",
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="most wall time of a training (default: 120)")
    add_workers(parser, "train or play")
    chosen = parser.parse_args(arguments)
    require_names("family", chosen.families, _FAMILIES)
    require_names("budgets", chosen.budgets, BUDGETS)
    if chosen.page:
        print(write_page(chosen.documents))
    else:
        _play_all(chosen)


def _play_all(chosen: argparse.Namespace) -> None:
    """Play every comparison and family, and write the page after each."""
    folder = chosen.documents / "studies" / "data"
    missing = missing_families(chosen.families)
    for reason in missing.values():
        print(f"left out: {reason}", flush=True)
    a_set = len(chosen.datasets) == 1 and chosen.datasets[0] in DATASET_SETS
    named = chosen.datasets[0] if a_set else chosen.datasets
    options = {
        "datasets": named,
        "workers": chosen.workers,
        "seconds": chosen.seconds,
        # An episode of 4,008 trainings takes hours: one that was killed trains only what is left of it.
        "trainings": str(chosen.output / "trainings.sqlite"),
    }
    wanted = find_protocol(PROTOCOL).budget if chosen.evaluations is None else chosen.evaluations
    who_of = {budgets: entries(budgets, wanted, chosen.agents) for budgets in chosen.budgets}
    families = [name for name in chosen.families if name not in missing]
    if not families:
        return
    # Of a set, those that are to be had; said before hours of training, not after.
    names = load_grpoformer(families[0], datasets=named).spec.provenance["datasets"] if a_set else named
    plan = [(budgets, who, family) for budgets, who in who_of.items() for family in families]
    for budgets, who, family in plan:
        require_combinable(folder, budgets, family, who, chosen.seeds, chosen.seconds, names)
    for budgets, who, family in plan:
        print(f"{budgets} budgets: {family}", flush=True)
        rows, facts = play(family, budgets, who, chosen.seeds, chosen.output, options=options, workers=chosen.workers)
        table, told = merged(folder, rows, budgets, family, facts)
        write_results(folder, NAME, {NAME: table}, {**told, "missing": missing, **made_with()})
        print(write_page(chosen.documents), flush=True)


if __name__ == "__main__":
    sys.exit(main())
