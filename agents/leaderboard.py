"""``python -m agents.leaderboard``: play every baseline on every embedded space, and write ``docs/leaderboard.md``.

It may be stopped at any time, and goes on where it stopped; what was played before is not played again: repetitions
that ``docs/leaderboard/`` has are added to, and only ``--anew`` plays them again. ``--page`` only writes the page anew
from these files; ``--boards``, ``--agents`` and ``--seeds`` do a part of the work. ``--seconds`` plays one repetition
of what is there once more, in one process, and only keeps what choosing took: for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from agents.leaderboard_page import BoardResults, add_results, kept_repetitions, set_seconds, write_page
from agents.progress import EvaluationDisplay, make_console
from agents.study_command import with_exit_status
from agents.versions import versions
from hpo_gym.errors import DataMissingError, require_names
from hpo_gym.evaluation import CellStore, regret_curves

__all__ = ["BOARDS", "Board", "main"]

BUDGET = 100
#: Repetitions per dataset.
MANY = 10

_FAST = (
    "random",
    "default",
    "grid",
    "local_search",
    "differential_evolution",
    "sboa",
    "tabular_q",
    "cmaes",
    "tpe",
    "tpe_multivariate",
    "portfolio",
    "portfolio_local",
    "transfer_gp",
    "averaged_gp",
)
_SLOW = ("gp", "portfolio_gp", "smac")
_MULTI_FIDELITY = ("random", "local_search", "tpe", "portfolio", "hyperband", "asha", "bohb")


@dataclass(frozen=True)
class Board:
    """One table of the page.

    Args:
        name: Its name.
        title: What it shows.
        protocol: Evaluation protocol.
        env: The environment.
        agents: Who is on it.
    """

    name: str
    title: str
    protocol: str
    env: EnvironmentConfig
    agents: tuple[str, ...] = (*_FAST, *_SLOW)


def _embedded(space: str, title: str) -> Board:
    return Board(space, title, "openml-transfer", EnvironmentConfig(id="HPO-OpenML-v0", space=space))


def _cheap(space: str, title: str) -> Board:
    env = EnvironmentConfig(id="HPO-OpenMLMultiFidelity-v0", space=space)
    return Board(f"{space}-multi-fidelity", title, "multi-fidelity", env, _MULTI_FIDELITY)


def _exact(space: str, title: str) -> Board:
    env = EnvironmentConfig(id="HPO-YAHPO-v0", space=space)
    return Board(f"exact-{space.replace('@', '-')}", title, "openml-transfer", env, _FAST)


#: Every table by name, in the order of the page.
BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        _embedded("rpart", "rpart: decision tree, 5 hyperparameters"),
        _embedded("xgboost", "xgboost: gradient boosting, 11 hyperparameters"),
        _embedded("ranger", "ranger: random forest, 9 hyperparameters, one conditional"),
        _embedded("lcbench", "lcbench: neural network, 7 hyperparameters"),
        _embedded("adaboost", "adaboost: AdaBoost, 5 hyperparameters"),
        _embedded("random_forest", "random_forest: random forest, 6 hyperparameters"),
        _cheap("rpart", "rpart with a choice of the training sample"),
        _cheap("xgboost", "xgboost with a choice of the training sample"),
        _cheap("ranger", "ranger with a choice of the training sample"),
        _cheap("lcbench", "lcbench with a choice of epochs"),
        _exact("rbv2_rpart", "exact YAHPO surrogate of rpart"),
        _exact("rbv2_xgboost", "exact YAHPO surrogate of xgboost (restricted as embedded)"),
        _exact("rbv2_ranger@v2", "exact YAHPO surrogate of ranger"),
        _exact("lcbench", "exact YAHPO surrogate of lcbench"),
    )
}


def play(board: Board, agent: str, seeds: range, folder: Path, workers: int) -> BoardResults:
    """Play one of a board's agents; return what is new on it.

    Args:
        board: Which.
        agent: Which of its agents.
        seeds: Repetitions.
        folder: Where played episodes are kept.
        workers: Processes.

    Raises:
        EvaluationFailedError: If an episode could not be played.
    """
    console = make_console()
    config = ComparisonConfig(
        agents=(agent,),
        env=board.env,
        protocol=board.protocol,
        seeds=len(seeds),
        first_seed=seeds.start,
        budget=BUDGET,
    )
    comparison = prepare(config)
    with CellStore(folder / f"{board.name}.sqlite") as store, EvaluationDisplay(console) as display:
        result = comparison.run(display.update, store, workers).require_complete()
    curves = regret_curves(result.records)
    seconds = result.records.frame.groupby(["task", "seed"], observed=True)["agent_seconds"].sum().mean()
    final = float(curves.values[agent][:, -1].mean())
    console.print(f"{board.name}: {agent}: regret {final:.4f}", highlight=False, soft_wrap=True)
    return BoardResults(
        board=board.name,
        agent=agent,
        seeds=seeds,
        tasks=tuple(task for _, _, task in curves.tasks),
        regret=curves.values[agent],
        seconds=float(seconds),
        training_evaluations=comparison.training_evaluations.get(agent, 0),
        data=comparison.suite.spec.provenance.get("sha256", {}),
        versions=versions(),
    )


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.leaderboard", description=__doc__)
    parser.add_argument("--page", action="store_true", help="play nothing; only write the page")
    parser.add_argument("--boards", nargs="+", metavar="NAME", help=f"some of {', '.join(BOARDS)}")
    parser.add_argument("--agents", nargs="+", metavar="NAME", help="some of the agents")
    parser.add_argument("--seeds", type=int, default=MANY, help=f"repetitions (default: {MANY})")
    parser.add_argument("--anew", action="store_true", help="play what the page has once more, and replace it")
    parser.add_argument("--seconds", action="store_true", help="only measure anew what choosing takes")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--documents", type=Path, default=Path("docs"), help="where the page is (default: docs)")
    parser.add_argument("--output", type=Path, default=Path("evaluations/leaderboard"), help="played episodes")
    options = parser.parse_args(arguments)
    if not options.page:
        _play_all(options)
    print(write_page(options.documents, {name: board.title for name, board in BOARDS.items()}))


def _play_all(options: argparse.Namespace) -> None:
    known = sorted({agent for board in BOARDS.values() for agent in board.agents})
    for kind, given, allowed in (("board", options.boards, BOARDS), ("agent", options.agents, known)):
        require_names(kind, given or (), allowed)
    for name in options.boards or BOARDS:
        board = BOARDS[name]
        agents = [agent for agent in board.agents if agent in (options.agents or board.agents)]
        try:
            # One after the other: a board may be looked at while the slow ones are still playing.
            for agent in agents:
                if options.seconds:
                    _measure_seconds(board, agent, options.documents)
                    continue
                kept = 0 if options.anew else kept_repetitions(options.documents, name, agent)
                if kept < options.seeds:
                    seeds = range(kept, options.seeds)
                    add_results(options.documents, play(board, agent, seeds, options.output, options.workers))
        except DataMissingError as error:
            if options.boards:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)


def _measure_seconds(board: Board, agent: str, documents: Path) -> None:
    """Take the time of an agent that the page has."""
    if kept_repetitions(documents, board.name, agent) > 0:
        with tempfile.TemporaryDirectory() as folder:
            results = play(board, agent, range(1), Path(folder), 1)
        set_seconds(documents, results)


if __name__ == "__main__":
    sys.exit(main())
