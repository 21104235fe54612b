"""``python -m agents.transfer_study --runs runs/transfer``: how far Q-policies transfer (``docs/studies/transfer.md``).

Evaluates the runs of a sweep of ``train.py`` (the page says which) on held-out datasets, beside random search, random
walks and portfolios that learned from the same training datasets; those that were trained on all of them on validation
datasets, too, which say who is the best; policies that read any search space, on other spaces. It may be stopped at any
time, and goes on where it stopped. ``--page`` only writes the page anew from
``docs/studies/data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig, make_environment
from agents.progress import EvaluationDisplay, make_console
from agents.registry import find_agent
from agents.study import WALK, play, regret_rows, write_results
from agents.study_command import with_exit_status
from agents.study_runs import StudyRun, find_runs, run_facts
from agents.subset_portfolios import play_portfolios, portfolio_run
from agents.transfer_runs import Cell, Plan, common_environment, matched
from agents.transfer_study_page import EPISODES, NAME, VALIDATION, write_page
from agents.versions import versions
from hpo_gym.errors import DataMissingError, require_integer
from hpo_gym.evaluation import CellStore, RecordTable, chosen_trials

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_REPETITIONS, _BUDGET = 10, 50

# How many missing runs a message names.
_MOST_SHOWN = 8


class _Evaluation:
    """Plays everyone, and makes rows of what they reached.

    Args:
        runs: By what they are.
        training: Number of training datasets by space.
        options: Of the command line.
    """

    def __init__(self, runs: Mapping[Cell, StudyRun], training: Mapping[str, int], options: argparse.Namespace) -> None:
        self.runs, self.training, self.options = runs, training, options
        self.env = common_environment(list(runs.values()))
        self.trials = chosen_trials(options.budget)
        #: Checksums of the data, and evaluations that portfolios took by space and number of datasets.
        self.data: dict[str, str] = {}
        self.training_evaluations: dict[str, dict[str, int]] = {}
        #: Final regrets of episodes on test datasets, of the best Q-agents' candidates and what they have to beat.
        self.episodes: list[pd.DataFrame] = []

    def rows(self, plan: Plan) -> Iterator[pd.DataFrame]:
        """Yield the regret of everyone on every test dataset of every space."""
        for space in plan.spaces:
            cells = [cell for cell in self.runs if cell.space == space]
            yield self._played(space, "test", cells, ["random", WALK, *plan.untrained])
            # Of a space whose runs are all missing there is no subset, either.
            if any(cell.space == space for cell in self.runs):
                yield self._portfolios(space)
        for space in plan.targets:
            cells = [cell for cell in self.runs if cell.space != space and not cell.datasets]
            cells = [cell for cell in cells if find_agent(cell.agent).agent.any_space]
            if cells:
                if space not in plan.spaces:
                    yield self._played(space, "test", [], ["random", WALK])
                yield self._from_other_spaces(space, cells)

    def validation_rows(self, plan: Plan) -> Iterator[pd.DataFrame]:
        """Yield the regret on validation datasets of every Q-agent that the best is chosen from."""
        for space in plan.spaces:
            cells = [cell for cell in self.runs if cell.space == space and not cell.datasets]
            if cells or plan.untrained:
                yield self._played(space, "val", cells, plan.untrained)

    def _played(self, space: str, split: str, cells: Sequence[Cell], agents: Sequence[str]) -> pd.DataFrame:
        with self._store(space) as store, EvaluationDisplay(make_console()) as display:
            played = play(
                dataclasses.replace(self.env, space=space),
                split,
                runs=[self.runs[cell] for cell in cells],
                agents=agents,
                repetitions=self.options.repetitions,
                budget=self.options.budget,
                store=store,
                workers=self.options.workers,
                progress=display.update,
            )
        self.data.update(played.data)
        described = {self.runs[cell].path.name: cell for cell in cells}
        if split == "test":
            self._keep_episodes(played.records, described)
        return self._described(played.records, described)

    def _keep_episodes(self, records: RecordTable, cells: Mapping[str, Cell]) -> None:
        rows = regret_rows(records, self.trials[-1:], group=1)
        rows = rows[[name not in cells or not cells[name].datasets for name in rows["run"]]]
        kept = rows[["space", "agent", "task"]].assign(
            seed=[cells[name].seed if name in cells else 0 for name in rows["run"]],
            repetition=rows["group"],
            regret=[regret[-1] for regret in rows["regret"]],
        )
        self.episodes.append(kept)

    def _from_other_spaces(self, space: str, cells: Sequence[Cell]) -> pd.DataFrame:
        config = ComparisonConfig(
            agents=tuple(dict.fromkeys(cell.agent for cell in cells)),
            runs=tuple(str(self.runs[cell].path) for cell in cells),
            env=dataclasses.replace(self.env, space=space),
            protocol="openml-zero-shot",
            seeds=self.options.repetitions,
            budget=self.options.budget,
        )
        comparison = prepare(config)
        with self._store(space) as store, EvaluationDisplay(make_console()) as display:
            result = comparison.run(display.update, store, self.options.workers).require_complete()
        return self._described(result.records, {self.runs[cell].path.name: cell for cell in cells})

    def _portfolios(self, space: str) -> pd.DataFrame:
        # With all datasets there is one for each seed, too: how much its draw of candidates changes is to be seen.
        subsets = sorted({(cell.datasets, cell.seed) for cell in self.runs if cell.space == space})
        with self._store(space) as store, EvaluationDisplay(make_console()) as display:
            played = play_portfolios(
                dataclasses.replace(self.env, space=space),
                [(count or None, seed) for count, seed in subsets],
                repetitions=self.options.repetitions,
                budget=self.options.budget,
                store=store,
                workers=self.options.workers,
                progress=display.update,
            )
        names = {portfolio_run(count or None, seed): (count, seed) for count, seed in subsets}
        asked: dict[str, int] = {}
        for name, number in played.training_evaluations.items():
            count = str(names[name][0] or self.training[space])
            asked[count] = max(asked.get(count, 0), number)
        self.training_evaluations[space] = asked
        described = {name: Cell("portfolio", space, count, seed) for name, (count, seed) in names.items()}
        return self._described(played.records, described)

    def _store(self, space: str) -> CellStore:
        return CellStore(self.options.output / f"{space}.sqlite")

    def _described(self, records: RecordTable, cells: Mapping[str, Cell]) -> pd.DataFrame:
        """Return rows with what each run was trained on: ``trained_on``, ``datasets`` and ``seed``."""
        rows = regret_rows(records, self.trials)
        untrained = Cell("", "", 0, 0)
        mine = [cells.get(name, untrained) for name in rows["run"]]
        rows["trained_on"] = [cell.space for cell in mine]
        rows["datasets"] = [(cell.datasets or self.training[cell.space]) if cell.space else 0 for cell in mine]
        rows["seed"] = [cell.seed for cell in mine]
        return rows[["space", "agent", "trained_on", "datasets", "seed", "task", "regret"]]


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.transfer_study", description=__doc__)
    parser.add_argument("--page", action="store_true", help="evaluate nothing; only write the page")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"), help="folder of runs (runs/transfer)")
    usual = Plan()
    several = {
        "agents": "trained agents",
        "spaces": "spaces they are trained on",
        "targets": "spaces to test on those policies that read any space",
        "subset_agents": "agents that are trained on fewer datasets, too; those of --agents among",
        "subset_spaces": "spaces where they are; those of --spaces among",
        "untrained": "Q-agents that need no training",
    }
    for name, what in several.items():
        chosen, subset = getattr(usual, name), name.startswith("subset")
        parser.add_argument(
            "--" + name.replace("_", "-"),
            nargs="*" if subset or name == "untrained" else "+",
            default=None if subset else chosen,
            help=f"{what} ({' '.join(chosen)})",
        )
    sizes = " ".join(map(str, usual.sizes))
    parser.add_argument(
        "--sizes", nargs="*", type=int, default=usual.sizes, help=f"training datasets, beside all of them ({sizes})"
    )
    parser.add_argument("--seeds", type=int, default=usual.seeds, help=f"runs of each kind ({usual.seeds})")
    parser.add_argument("--repetitions", type=int, default=_REPETITIONS, help=f"per dataset ({_REPETITIONS})")
    parser.add_argument("--budget", type=int, default=_BUDGET, help=f"evaluations per episode ({_BUDGET})")
    parser.add_argument("--allow-missing", action="store_true", help="name missing runs on the page, and go on")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--documents", type=Path, default=Path("docs"), help="where the pages are (docs)")
    parser.add_argument("--output", type=Path, default=Path("evaluations/transfer"), help="played episodes")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if not options.page:
        _evaluate(options, shlex.join(["python", "-m", "agents.transfer_study", *given]))
    print(write_page(options.documents))


def _evaluate(options: argparse.Namespace, command: str) -> None:
    import pandas as pd

    for name in ("repetitions", "budget", "workers"):
        require_integer(f"--{name}", getattr(options, name), 1)
    plan = _plan(options)
    everything = find_runs(options.runs).finished
    found = matched([run for run in everything if run.config.agent_name in plan.agents and run.space in plan.spaces])
    if not found:
        raise DataMissingError(
            f"{options.runs} holds no finished run of {', '.join(plan.agents)} on {', '.join(plan.spaces)}. "
            f"{NAME}.md says how to train them."
        )
    env = common_environment(list(found.values()))
    # Those of targets, too: a name that does not exist must not be found out after hours.
    counts = {space: _training_datasets(env, space) for space in (*plan.spaces, *plan.targets)}
    training = {space: counts[space] for space in plan.spaces}
    cells = plan.cells(training)
    missing = [str(cell) for cell in cells if cell not in found]
    if missing and not options.allow_missing:
        more = f"; {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        raise DataMissingError(
            f"{len(missing)} of {len(cells)} runs are not in {options.runs}, or not finished: "
            f"{'; '.join(missing[:_MOST_SHOWN])}{more}. Train them ({NAME}.md has the commands), say with --agents, "
            "--spaces, --sizes and --seeds what the study is made of, or go on with --allow-missing, which names them "
            "on the page."
        )
    runs = {cell: found[cell] for cell in cells if cell in found}
    others = sorted(str(run.path) for cell, run in found.items() if cell not in runs)
    if others:
        print(f"{len(others)} run(s) are not part of the study: {', '.join(others)}", file=sys.stderr)
    evaluation = _Evaluation(runs, training, options)
    kinds = dict.fromkeys(("space", "agent", "trained_on", "task"), "category")
    kinds |= dict.fromkeys(("datasets", "seed", "repetition"), "int32")
    parts = {NAME: list(evaluation.rows(plan)), VALIDATION: list(evaluation.validation_rows(plan))}
    parts[EPISODES] = evaluation.episodes
    joined = {name: pd.concat(part, ignore_index=True) for name, part in parts.items()}
    frames = {
        name: frame.astype({column: kind for column, kind in kinds.items() if column in frame})
        for name, frame in joined.items()
    }
    facts = {
        "command": command,
        "agents": list(plan.agents),
        "untrained": list(plan.untrained),
        "spaces": list(plan.spaces),
        "training": training,
        "trials": list(evaluation.trials),
        "seeds": plan.seeds,
        "repetitions": options.repetitions,
        "missing": missing,
        "steps": {cell.agent: int(run.config.agent.total_steps) for cell, run in runs.items()},
        "validate_every": next(iter(runs.values())).config.validate_every,
        "training_evaluations": evaluation.training_evaluations,
        "data": evaluation.data,
        "trained_with": run_facts(list(runs.values())),
        "evaluated_with": versions(),
    }
    write_results(options.documents / "studies" / "data", NAME, frames, facts)


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan of a command line; of agents and spaces that it leaves out nothing is trained on subsets."""
    usual = Plan()

    def chosen(given: Sequence[str] | None, default: Sequence[str], among: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in default if name in among) if given is None else tuple(given)

    return Plan(
        tuple(options.agents),
        tuple(options.spaces),
        tuple(options.targets),
        tuple(options.sizes),
        chosen(options.subset_agents, usual.subset_agents, options.agents),
        chosen(options.subset_spaces, usual.subset_spaces, options.spaces),
        tuple(options.untrained),
        options.seeds,
    )


def _training_datasets(env: EnvironmentConfig, space: str) -> int:
    """Return how many training datasets there are."""
    return len(make_environment(dataclasses.replace(env, space=space), num_envs=1).engine.tasks)


if __name__ == "__main__":
    sys.exit(main())
