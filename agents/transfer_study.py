"""``python -m agents.transfer_study --runs runs/transfer``: how far Q-policies transfer, as ``docs/studies/transfer.md``.

Evaluates the runs of a sweep of ``train.py`` (the page says which) on held-out datasets, beside random search and
portfolios that learned from the same training datasets; policies that read any search space, on other spaces, too. It
may be stopped at any time, and goes on where it stopped. ``--page`` only writes the page anew from
``docs/studies/data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.environments import EnvironmentConfig, make_environment
from agents.progress import EvaluationDisplay, make_console
from agents.registry import find_agent
from agents.study import (
    WALK,
    StudyRun,
    find_runs,
    play,
    regret_rows,
    require_alike,
    run_facts,
    settings_of,
    write_results,
)
from agents.subset_portfolios import play_portfolios, portfolio_run
from agents.transfer_study_page import NAME, write_page
from agents.versions import versions
from hpo_gym.errors import DataMissingError, HPOGymError, InvalidSettingError, require_integer
from hpo_gym.evaluation import CellStore, RecordTable, chosen_trials

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cell", "Plan", "main", "matched"]

_AGENTS = ("dqn", "portfolio_q", "hyp_rl", "agnostic_q")
_SPACES = ("rpart", "xgboost", "ranger", "lcbench")
#: Where a policy that reads any space is tested.
_TARGETS = (*_SPACES, "adaboost", "random_forest")
_SIZES = (1, 4, 16)
_SEEDS, _REPETITIONS, _BUDGET = 5, 5, 50

# What runs of one agent may differ in.
_FREE = ("seed", "env.space", "env.max_tasks", "env.tasks_seed", "env.device", "env.num_envs")
# What runs of different agents may differ in beside.
_OF_AGENT = ("env.action", "env.observation", "env.reward", "env.reward_scale", "env.terminate_on_repeat")
# How many missing runs a message names.
_MOST_SHOWN = 8


@dataclass(frozen=True, order=True)
class Cell:
    """What tells the runs of the study apart.

    Args:
        agent: Name of the agent.
        space: The search space that it is trained on.
        datasets: Training datasets; 0 means all.
        seed: Root of the run's random numbers, and which datasets.
    """

    agent: str
    space: str
    datasets: int
    seed: int

    def __str__(self) -> str:
        count = f"{self.datasets} training dataset(s)" if self.datasets else "all training datasets"
        return f"{self.agent} on {self.space}, {count}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Which runs the study is made of.

    Args:
        agents: Trained agents.
        spaces: Search spaces that they are trained on.
        targets: Search spaces that policies for any space are tested on.
        sizes: Numbers of training datasets, beside all of them.
        seeds: Runs of each.

    Raises:
        UnknownNameError: For an unknown agent.
        InvalidSettingError: For an agent that does not learn, or a number that is too small.
    """

    agents: tuple[str, ...] = _AGENTS
    spaces: tuple[str, ...] = _SPACES
    targets: tuple[str, ...] = _TARGETS
    sizes: tuple[int, ...] = _SIZES
    seeds: int = _SEEDS

    def __post_init__(self) -> None:
        for name in self.agents:
            if not find_agent(name).agent.learns:
                raise InvalidSettingError(
                    f"--agents {name}: it does not learn, so that nothing transfers. Leave it out: random search and "
                    "portfolios are there anyway."
                )
        require_integer("--seeds", self.seeds, 1)
        for size in self.sizes:
            require_integer("--sizes", size, 1, "all training datasets are always among them")

    def cells(self, training: Mapping[str, int]) -> list[Cell]:
        """Return the runs there should be.

        Args:
            training: Number of training datasets by space; numbers that reach it are left out.
        """
        return [
            Cell(agent, space, size, seed)
            for agent in self.agents
            for space in self.spaces
            for size in (*(size for size in self.sizes if size < training[space]), 0)
            for seed in range(self.seeds)
        ]


def matched(runs: Sequence[StudyRun]) -> dict[Cell, StudyRun]:
    """Return runs by what they are.

    Raises:
        InvalidSettingError: If two are the same, one draws its datasets with another seed, or runs of one agent differ
            in more than the study is about.
    """
    found: dict[Cell, StudyRun] = {}
    for run in runs:
        env = run.config.env
        cell = Cell(run.config.agent_name, run.space, env.max_tasks or 0, run.seed)
        if env.max_tasks is not None and (env.tasks_seed or 0) != run.seed:
            raise InvalidSettingError(
                f"{run.path} has seed={run.seed} and env.tasks_seed={env.tasks_seed or 0}: portfolios could not be "
                "built on the datasets of each run. Train it with 'env.tasks_seed=${seed}'."
            )
        if cell in found:
            raise InvalidSettingError(
                f"{found[cell].path} and {run.path} are both {cell}. Move one of them to another folder."
            )
        found[cell] = run
    for agent in {cell.agent for cell in found}:
        require_alike([run for cell, run in found.items() if cell.agent == agent], _FREE)
    return found


def _environment(runs: Sequence[StudyRun]) -> EnvironmentConfig:
    """Return the environment that runs of different agents were trained on.

    Raises:
        InvalidSettingError: If they were trained on different ones.
    """
    of_agents = {name for run in runs for name in settings_of(run) if name.startswith("agent.")}
    require_alike(runs, (*_FREE, *_OF_AGENT, *sorted(of_agents)))
    env = runs[0].config.env
    return dataclasses.replace(env, max_tasks=None, tasks_seed=None, action=None, observation=None, device="cpu")


class _Evaluation:
    """Plays everyone, and makes rows of what they reached.

    Args:
        runs: By what they are.
        training: Number of training datasets by space.
        options: Of the command line.
    """

    def __init__(
        self, runs: Mapping[Cell, StudyRun], training: Mapping[str, int], options: argparse.Namespace
    ) -> None:
        self.runs, self.training, self.options = runs, training, options
        self.env = _environment(list(runs.values()))
        self.trials = chosen_trials(options.budget)
        #: Checksums of the data, and evaluations that portfolios took by space and number of datasets.
        self.data: dict[str, str] = {}
        self.training_evaluations: dict[str, dict[str, int]] = {}

    def rows(self, plan: Plan) -> Iterator[pd.DataFrame]:
        """Yield the regret of everyone on every test dataset of every space."""
        for space in plan.spaces:
            yield self._played(space, [cell for cell in self.runs if cell.space == space], ["random"])
            yield self._portfolios(space)
        for space in plan.targets:
            cells = [cell for cell in self.runs if cell.space != space and not cell.datasets]
            cells = [cell for cell in cells if find_agent(cell.agent).agent.any_space]
            if cells:
                yield self._played(space, cells, [WALK] if space in plan.spaces else ["random", WALK])

    def _played(self, space: str, cells: Sequence[Cell], agents: Sequence[str]) -> pd.DataFrame:
        with self._store(space) as store, EvaluationDisplay(make_console()) as display:
            played = play(
                dataclasses.replace(self.env, space=space),
                "test",
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
        return self._described(played.records, described)

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.transfer_study", description=__doc__)
    parser.add_argument("--page", action="store_true", help="evaluate nothing; only write the page")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"), help="folder of runs (runs/transfer)")
    parser.add_argument("--agents", nargs="+", default=_AGENTS, help=f"trained agents ({' '.join(_AGENTS)})")
    parser.add_argument("--spaces", nargs="+", default=_SPACES, help=f"spaces trained on ({' '.join(_SPACES)})")
    parser.add_argument(
        "--targets", nargs="+", default=_TARGETS, help=f"spaces to test policies for any space on ({' '.join(_TARGETS)})"
    )
    parser.add_argument(
        "--sizes", nargs="*", type=int, default=_SIZES, help="numbers of training datasets, beside all (1 4 16)"
    )
    parser.add_argument("--seeds", type=int, default=_SEEDS, help=f"runs of each kind ({_SEEDS})")
    parser.add_argument("--repetitions", type=int, default=_REPETITIONS, help=f"per dataset ({_REPETITIONS})")
    parser.add_argument("--budget", type=int, default=_BUDGET, help=f"evaluations per episode ({_BUDGET})")
    parser.add_argument("--allow-missing", action="store_true", help="name missing runs on the page, and go on")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--documents", type=Path, default=Path("docs"), help="where the pages are (docs)")
    parser.add_argument("--output", type=Path, default=Path("evaluations/transfer"), help="played episodes")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    try:
        if not options.page:
            _evaluate(options, shlex.join(["python", "-m", "agents.transfer_study", *given]))
        print(write_page(options.documents))
    except (HPOGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(options: argparse.Namespace, command: str) -> None:
    import pandas as pd

    for name in ("repetitions", "budget", "workers"):
        require_integer(f"--{name}", getattr(options, name), 1)
    plan = Plan(
        tuple(options.agents), tuple(options.spaces), tuple(options.targets), tuple(options.sizes), options.seeds
    )
    everything = find_runs(options.runs).finished
    found = matched([run for run in everything if run.config.agent_name in plan.agents and run.space in plan.spaces])
    if not found:
        raise DataMissingError(
            f"{options.runs} holds no finished run of {', '.join(plan.agents)} on {', '.join(plan.spaces)}. "
            f"{NAME}.md says how to train them."
        )
    env = _environment(list(found.values()))
    training = {space: _training_datasets(env, space) for space in plan.spaces}
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
    evaluation = _Evaluation(runs, training, options)
    rows = pd.concat(list(evaluation.rows(plan)), ignore_index=True)
    texts = ["space", "agent", "trained_on", "task"]
    rows = rows.astype(dict.fromkeys(texts, "category") | dict.fromkeys(("datasets", "seed"), "int16"))
    facts = {
        "command": command,
        "agents": list(plan.agents),
        "spaces": list(plan.spaces),
        "training": training,
        "trials": list(evaluation.trials),
        "repetitions": options.repetitions,
        "missing": missing,
        "steps": {cell.agent: int(run.config.agent.total_steps) for cell, run in runs.items()},
        "validate_every": next(iter(runs.values())).config.validate_every,
        "training_evaluations": evaluation.training_evaluations,
        "data": evaluation.data,
        "trained_with": run_facts(list(runs.values())),
        "evaluated_with": versions(),
    }
    write_results(options.documents / "studies" / "data", NAME, {NAME: rows}, facts)


def _training_datasets(env: EnvironmentConfig, space: str) -> int:
    """Return how many training datasets there are."""
    return len(make_environment(dataclasses.replace(env, space=space), num_envs=1).engine.tasks)


if __name__ == "__main__":
    sys.exit(main())
