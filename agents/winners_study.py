"""``python -m agents.winners_study``: score what GRPO and classical methods end with by the exact originals.

Of every episode on the test datasets, the best configuration after 10 and after 100 evaluations is scored by the
published surrogate that the embedded surface was fitted to, or stands beside the best genuine run. Episodes are those
of :mod:`agents.grpo_study` and :mod:`agents.leaderboard`, from where these keep them; what is missing is played. It may
be stopped at any time, and goes on where it stopped; ``--spaces`` and ``--agents`` do a part of the work, which is
added to what is there; ``--page`` only writes the page ``docs/studies/grpo.md`` anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from agents.grpo_study_page import write_page
from agents.progress import EvaluationDisplay, make_console
from agents.study import kept_results, with_other_rows, write_results
from agents.study_command import add_workers, study_parser, with_exit_status
from agents.versions import versions
from agents.winners import (
    SURFACE_OPTIMUM,
    Winners,
    beside_genuine_runs,
    score_exactly,
    surface_optimum,
    winners_of,
)
from agents.winners_study_page import COMMAND, GENUINE, GRPO_AGENT, NAME, TRIALS
from hpo_gym.errors import require_names
from hpo_gym.evaluation import CellStore
from hpo_gym.fitting.recipes import RUN_RECIPES, SURROGATE_RECIPES
from hpo_gym.fitting.run_tables import read_runs
from hpo_gym.sources import load_suite
from hpo_gym.sources.run_tables import RunTable
from hpo_gym.tasks.suite import TaskSuite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AGENTS", "exact_rows", "genuine_rows", "main", "play"]

#: Those that are quick to play come first.
AGENTS = (GRPO_AGENT, "random", "tpe", "portfolio", "transfer_gp")

_BUDGET = max(TRIALS)
_SCENARIOS = {recipe.space: recipe.scenario for recipe in SURROGATE_RECIPES}
_RUNS = {recipe.space: recipe for recipe in RUN_RECIPES}
_SPACES = (*_SCENARIOS, *_RUNS)


def play(space: str, agent: str, seeds: int, cells: Path, workers: int = 1) -> tuple[Winners, TaskSuite]:
    """Play the test datasets of an embedded space; return the winners and the surface.

    Args:
        space: The space.
        agent: Who plays; a method without a run, or one whose policy is shipped.
        seeds: Repetitions per dataset.
        cells: Folder of played episodes.
        workers: Processes for methods that play one episode at a time.

    Raises:
        EvaluationFailedError: If an episode could not be played.
    """
    env = EnvironmentConfig(id="HPO-OpenML-v0", space=space)
    config = ComparisonConfig(agents=(agent,), env=env, protocol="openml-transfer", seeds=seeds, budget=_BUDGET)
    comparison = prepare(config)
    with CellStore(cells / f"{space}.sqlite") as store, EvaluationDisplay(make_console()) as display:
        result = comparison.run(display.update, store, workers).require_complete()
    return winners_of(result, TRIALS), comparison.suite


def exact_rows(space: str, winners: Winners, exact: TaskSuite) -> pd.DataFrame:
    """Return regrets by the surface and by what it was fitted to.

    Returns:
        Columns ``space``, ``agent``, ``task``, ``trial``, ``surface`` and ``exact`` (normalised regrets, means over
        repetitions) and ``seeds``.
    """
    _, regret = score_exactly(winners, exact)
    frame = winners.frame[["agent", "task", "trial", "seed"]].assign(
        space=space, surface=winners.frame["regret"], exact=regret
    )
    means = {"surface": ("surface", "mean"), "exact": ("exact", "mean"), "seeds": ("seed", "nunique")}
    return frame.groupby(["space", "agent", "task", "trial"], as_index=False).agg(**means)


def genuine_rows(space: str, winners: Winners, runs: RunTable) -> pd.DataFrame:
    """Return what is promised of winners, and what genuine runs on the same datasets reached.

    Returns:
        Columns ``space``, ``agent``, ``task``, ``trial``, ``promised`` and ``most`` (accuracy by the surface: mean over
        repetitions, and of the repetition that is promised most), ``genuine`` (of the best run), ``nearest`` (of the
        runs that are nearest to the winners, mean over repetitions) and ``seeds``.
    """
    best, nearest = beside_genuine_runs(winners, runs)
    frame = winners.frame[["agent", "task", "trial", "seed", "score"]].assign(
        space=space, genuine=best, nearest=nearest
    )
    parts = {
        "promised": ("score", "mean"),
        "most": ("score", "max"),
        "genuine": ("genuine", "first"),
        "nearest": ("nearest", "mean"),
        "seeds": ("seed", "nunique"),
    }
    return frame.groupby(["space", "agent", "task", "trial"], as_index=False).agg(**parts)


def _add(folder: Path, table: str, new: pd.DataFrame) -> None:
    """Add rows to a table beside the page, in place of earlier ones of the same methods on the same spaces."""
    tables = kept_results(folder, NAME, COMMAND)[0]
    new = with_other_rows(new, folder, NAME, COMMAND, table=table, keys=("space", "agent"))
    order = {"space": _SPACES, "agent": (*AGENTS, SURFACE_OPTIMUM)}
    new = new.sort_values(
        ["space", "agent", "trial", "task"],
        key=lambda column: column.map(order[column.name].index) if column.name in order else column,
        ignore_index=True,
    )
    write_results(folder, NAME, {**tables, table: new}, {"budget": _BUDGET, "versions": versions()})


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    output = Path("evaluations/grpo")
    parser = study_parser(COMMAND, __doc__, parts="spaces", names=_SPACES, seeds=10, output=output)
    parser.add_argument("--agents", nargs="+", metavar="NAME", default=AGENTS, help=f"some of {', '.join(AGENTS)}")
    add_workers(parser, "play")
    parser.add_argument(
        "--leaderboard", type=Path, default=Path("evaluations/leaderboard"), help="episodes of the other methods"
    )
    options = parser.parse_args(arguments)
    for kind, given, allowed in (("search space", options.spaces, _SPACES), ("agent", options.agents, AGENTS)):
        require_names(kind, given, allowed)
    if not options.page:
        for space in options.spaces:
            _score(space, options)
    print(write_page(options.documents))


def _score(space: str, options: argparse.Namespace) -> None:
    """Add the winners of some methods in a space to the files beside the page, one method after the other."""
    folder = options.documents / "studies" / "data"
    # Read first: without the originals there is nothing to play for.
    exact = load_suite("yahpo", _SCENARIOS[space]) if space in _SCENARIOS else None
    runs = None if space in _SCENARIOS else read_runs(_RUNS[space])

    def keep(winners: Winners) -> None:
        if exact is not None:
            _add(folder, NAME, exact_rows(space, winners, exact))
        if runs is not None:
            _add(folder, GENUINE, genuine_rows(space, winners, runs))

    for agent in (name for name in AGENTS if name in options.agents):
        cells = options.output if agent == GRPO_AGENT else options.leaderboard
        winners, surface = play(space, agent, options.seeds, cells, options.workers)
        keep(winners)
        if agent == GRPO_AGENT:
            keep(surface_optimum(surface, sorted(set(winners.frame["task"])), TRIALS))


if __name__ == "__main__":
    sys.exit(main())
