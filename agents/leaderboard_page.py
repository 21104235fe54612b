"""The leaderboard as files: results beside the page, and the page made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.registry import find_agent
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.errors import DataMissingError, InvalidSettingError
from hpo_gym.evaluation import bootstrap_interval
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.metrics import mean_ranks
from hpo_gym.evaluation.significance import pairwise_tests
from hpo_gym.sources.bundle_files import write_atomic
from hpo_gym.sources.temporaries import one_writer, replacing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["BoardResults", "add_results", "kept_repetitions", "read_curves", "set_seconds", "tables", "write_page"]

_CURVES, _FACTS, _PAGE = "leaderboard/curves.parquet", "leaderboard/facts.json", "leaderboard.md"
_SHOWN = (1, 10, 30, 50, 100)
_JUDGED = (10, 30, 100)
_REFERENCE = "random"


@dataclass(frozen=True)
class BoardResults:
    """One agent on one board.

    Args:
        board: Name of the board.
        agent: Name of the agent.
        seeds: Repetitions per task, by number.
        tasks: The ``N`` tasks, as ``str(TaskRef)``.
        regret: Mean regret over repetitions after 1, 2, ... ``T`` full evaluations, float64 ``[N, T]``.
        seconds: What choosing all configurations of a run took, on average.
        training_evaluations: Evaluations on training tasks that came before.
        data: Checksums of the data.
        versions: What it was made with.
    """

    board: str
    agent: str
    seeds: range
    tasks: tuple[str, ...]
    regret: np.ndarray[Any, Any]
    seconds: float
    training_evaluations: int
    data: Mapping[str, str]
    versions: Mapping[str, Any]


def add_results(documents: Path, results: BoardResults) -> None:
    """Add results to those beside the page.

    Repetitions from 0 on take the place of earlier results of the same agent on the same board; later ones are
    averaged with those that came before them.

    Raises:
        InvalidSettingError: If the repetitions before are not there, or were played on other data or tasks.
    """
    # Two processes may play different boards.
    with one_writer(documents / _CURVES):
        _add(documents, results)


def set_seconds(documents: Path, results: BoardResults) -> None:
    """Replace what choosing took by what it took now, and nothing else.

    Raises:
        DataMissingError: If no board was played.
    """
    with one_writer(documents / _CURVES):
        facts = _read(documents)[1]
        facts[results.board][results.agent] |= {
            "seconds": round(results.seconds, 3),
            "timed_with": dict(results.versions),
        }
        _write_facts(documents, facts)


def _write_facts(documents: Path, facts: Mapping[str, Any]) -> None:
    write_atomic(documents / _FACTS, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())


def _add(documents: Path, results: BoardResults) -> None:
    import numpy as np
    import pandas as pd

    path = documents / _CURVES
    frame, facts = _read(documents) if path.exists() else (pd.DataFrame(columns=["board", "agent", "task"]), {})
    same = (frame["board"] == results.board) & (frame["agent"] == results.agent)
    regret, seconds = results.regret, results.seconds
    if results.seeds.start > 0:
        fact = facts.get(results.board, {}).get(results.agent, {})
        earlier = dict(zip(frame[same]["task"], frame[same]["regret"], strict=True))
        kept = (fact.get("seeds"), fact.get("data"), set(earlier), _version_of(fact))
        if kept != (results.seeds.start, dict(results.data), set(results.tasks), _present_version(results.agent)):
            raise InvalidSettingError(
                f"Repetitions {results.seeds.start} to {results.seeds.stop - 1} of {results.agent!r} on board "
                f"{results.board!r} cannot be added to the {fact.get('seeds', 0)} of {path}, which other data, tasks "
                "or another version of the method may have given. Play all again: `python -m agents.leaderboard "
                f"--boards {results.board} --agents {results.agent} --anew`."
            )
        share = results.seeds.start / results.seeds.stop
        regret = share * np.stack([earlier[task] for task in results.tasks]) + (1.0 - share) * regret
        seconds = share * fact["seconds"] + (1.0 - share) * seconds
    rows = {"board": results.board, "agent": results.agent, "task": list(results.tasks)}
    mine = pd.DataFrame({**rows, "regret": list(regret.astype("float32"))})
    frame = mine if frame[~same].empty else pd.concat([frame[~same], mine], ignore_index=True)
    facts.setdefault(results.board, {})[results.agent] = {
        "seeds": results.seeds.stop,
        "seconds": round(seconds, 3),
        "training_evaluations": results.training_evaluations,
        "data": dict(results.data),
        "versions": dict(results.versions),
        "agent_version": _present_version(results.agent),
    }
    frame = frame.sort_values(["board", "agent", "task"], ignore_index=True)
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")
    _write_facts(documents, facts)


def kept_repetitions(documents: Path, board: str, agent: str) -> int:
    """Return how many repetitions of an agent, as it is now, on a board are beside the page."""
    if not (documents / _CURVES).exists():
        return 0
    fact = _read_facts(documents).get(board, {}).get(agent, {})
    return int(fact["seeds"]) if fact and _version_of(fact) == _present_version(agent) else 0


def _version_of(fact: Mapping[str, Any]) -> int:
    # Of what was played before it was written down, only first versions are known to be the same.
    return int(fact.get("agent_version", 1))


def _present_version(agent: str) -> int:
    return find_agent(agent).agent.version


def read_curves(documents: Path) -> pd.DataFrame:
    """Return the curves beside the page: columns ``board``, ``agent``, ``task`` and ``regret`` (float32 ``[T]``).

    Raises:
        DataMissingError: If no board was played.
    """
    return _read(documents)[0]


def _read(documents: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pandas as pd

    path = documents / _CURVES
    if not path.is_file():
        raise DataMissingError(f"There is no {path}. Make it with `python -m agents.leaderboard`.")
    return pd.read_parquet(path), _read_facts(documents)


def _read_facts(documents: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((documents / _FACTS).read_text(encoding="utf-8"))
    return facts


def write_page(documents: Path, titles: Mapping[str, str]) -> str:
    """Fill the tables of the page; return what was written.

    Args:
        documents: The folder of the page.
        titles: Titles of boards by name, in order.

    Raises:
        InvalidSettingError: If the page cannot be filled.
    """
    with one_writer(documents / _CURVES):
        return fill_page(documents / _PAGE, tables(documents, titles))


def tables(documents: Path, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the makers of the page's tables by name."""
    frame, facts = _read(documents)
    present = [name for name in titles if name in facts]
    boards = {name: _Table(frame[frame["board"] == name], facts[name]) for name in present}

    def every() -> str:
        return "\n\n".join(f"### {titles[name]}\n\n{table.markdown()}" for name, table in boards.items())

    return {
        "strongest": lambda: _strongest(boards),
        "boards": every,
        "data": lambda: _data(facts, present),
        "versions": lambda: _versions(facts, present),
    }


class _Table:
    """One board: curves of agents whose numbers of repetitions may differ."""

    def __init__(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> None:
        import numpy as np

        self.facts = facts
        parts = {agent: part.sort_values("task") for agent, part in frame.groupby("agent")}
        names = sorted({tuple(part["task"]) for part in parts.values()})
        if len(names) > 1:
            board = frame["board"].iloc[0]
            raise InvalidSettingError(
                f"Agents of board {board!r} played different tasks. Play them again: `python -m agents.leaderboard "
                f"--boards {board}`."
            )
        values = {agent: np.stack(list(part["regret"])).astype(float) for agent, part in parts.items()}
        self.curves = RegretCurves(
            tasks=tuple(("", "", task) for task in names[0]),
            seeds=1,
            budget=next(iter(values.values())).shape[1],
            runs=dict.fromkeys(values, 1),
            values=values,
            episodes={agent: curve[:, None] for agent, curve in values.items()},
        )

    def interval(self, agent: str, trial: int) -> str:
        chosen = self.curves.of(agent)[:, [trial - 1]]
        low, high = bootstrap_interval(chosen)
        return f"{chosen.mean():.4f} [{low[0]:.4f}, {high[0]:.4f}]"

    def strongest(self, trial: int) -> str:
        means = {agent: self.curves.of(agent)[:, trial - 1].mean() for agent in self.curves.agents}
        return min(means, key=lambda agent: (means[agent], agent))

    def markdown(self) -> str:
        trials = [trial for trial in _SHOWN if trial <= self.curves.budget]
        best = {trial: self.strongest(trial) for trial in trials[1:]}
        ranks = mean_ranks(self.curves)
        tests = pairwise_tests(self.curves, _REFERENCE)
        rows = []
        for agent in sorted(self.curves.agents, key=lambda name: self.curves.of(name)[:, -1].mean()):
            shown = [self.interval(agent, trial) for trial in trials]
            cells = [
                f"**{cell}**" if best.get(trial) == agent else cell for trial, cell in zip(trials, shown, strict=True)
            ]
            test = tests.get(agent)
            compared = "-" if test is None else f"{test.wins}/{test.ties}/{test.losses}"
            corrected = "-" if test is None else f"{test.corrected_p:.1g}"
            fact = self.facts[agent]
            seconds = f"{fact['seconds']:.2g}" if fact["seconds"] >= 0.01 else "< 0.01"
            rows.append([agent, fact["seeds"], *cells, f"{ranks[agent][-1]:.1f}", compared, corrected, seconds])
        header = ["agent", "seeds", *(f"regret at {trial}" for trial in trials)]
        header += ["mean rank at the end", f"W/T/L vs {_REFERENCE}", "p (Holm)", "seconds per run"]
        note = f"{len(self.curves.tasks)} held-out datasets."
        asked = {agent: self.facts[agent]["training_evaluations"] for agent in sorted(self.curves.agents)}
        for agent, count in asked.items():
            if count:
                note += f" {agent}: {count:,} evaluations on training datasets before."
        return f"{note}\n\n{markdown_table(header, rows, wordy=(0,))}"


def _strongest(boards: Mapping[str, _Table]) -> str:
    rows = []
    for name, table in boards.items():
        cells = [f"{table.strongest(trial)}: {table.interval(table.strongest(trial), trial)}" for trial in _JUDGED]
        rows.append([f"`{name}`", *cells])
    return markdown_table(["board", *(f"at {trial}" for trial in _JUDGED)], rows)


def _data(facts: Mapping[str, Any], present: Sequence[str]) -> str:
    rows = []
    for name in present:
        hashes = {file: digest for fact in facts[name].values() for file, digest in fact["data"].items()}
        rows += [[f"`{name}`", f"`{file}`", f"`{digest}`"] for file, digest in sorted(hashes.items())]
    return markdown_table(["board", "file", "SHA-256"], rows)


def _versions(facts: Mapping[str, Any], present: Sequence[str]) -> str:
    found: dict[str, set[str]] = {}
    for name in present:
        for fact in facts[name].values():
            packages = {"python": fact["versions"]["python"], **fact["versions"]["packages"]}
            for package, number in packages.items():
                found.setdefault(package, set()).add(str(number))
    return ", ".join(f"{package} {' / '.join(sorted(numbers))}" for package, numbers in sorted(found.items()))
