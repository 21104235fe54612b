"""The best Q-agent of every space against random search and random grid walks, and how far it is from strong methods.

Who is best is decided by the mean regret on *validation* datasets alone: the lowest of many means on the test datasets
would be too good there by selection. All spaces and both references are one family of hypotheses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agents.transfer_series import PORTFOLIO, Series, SpaceSeries
from agents.transfer_study_episodes import LEVEL, REFERENCES, beats, episode_table
from hpo_gym.documents import markdown_table
from hpo_gym.errors import DataIntegrityError
from hpo_gym.evaluation import PairedTest, bootstrap_interval
from hpo_gym.evaluation.significance import count_wins, paired_tests
from hpo_gym.evaluation.style import p_value_text, plural

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["BestAgent", "best_agents", "best_tables"]

#: Methods of the leaderboard that its distance is shown to.
STRONG = ("tpe", "gp", PORTFOLIO, "portfolio_local")


@dataclass(frozen=True)
class BestAgent:
    """The Q-agent with the lowest mean regret on the validation datasets of a space.

    Args:
        validation: Mean final regret on validation datasets by agent, the lowest first.
        validation_datasets: How many there are.
        board: Everyone on the test datasets.
        strong: Final regret of strong methods on the test datasets, float64 ``[N]`` by name.
    """

    validation: Mapping[str, float]
    validation_datasets: int
    board: SpaceSeries
    strong: Mapping[str, np.ndarray[Any, Any]]

    @property
    def agent(self) -> str:
        """Its name."""
        return next(iter(self.validation))

    @cached_property
    def series(self) -> Series:
        """What it reached on the test datasets."""
        return self.of(self.agent)

    def of(self, agent: str) -> Series:
        """Return what an agent reached on the test datasets."""
        return next(series for series in self.board.series if series.agent == agent)

    @property
    def least_p(self) -> float:
        """The smallest p-value that a paired test over its test datasets can give, uncorrected."""
        return float(min(1.0, 2.0 ** (1 - self.board.tests)))


def best_agents(
    frame: pd.DataFrame, validation: pd.DataFrame, leaderboard: pd.DataFrame, facts: Mapping[str, Any]
) -> list[BestAgent]:
    """Choose the best Q-agent of every space that one was validated on.

    Args:
        frame: Regrets on test datasets, as the study keeps them.
        validation: The same on validation datasets.
        leaderboard: The leaderboard's curves: columns ``board``, ``agent``, ``task`` and ``regret``.
        facts: Of the study.

    Raises:
        DataIntegrityError: If the leaderboard has other test datasets, or somebody lacks a dataset.
    """
    trials = facts["trials"]
    chosen = []
    for space in facts["spaces"]:
        if not (validation["space"] == space).any():
            continue
        training = facts["training"][space]
        candidates = SpaceSeries.of_agents(validation, space, training, trials).series
        means = {each.agent: each.mean for each in sorted(candidates, key=lambda each: (each.mean, each.agent))}
        board = SpaceSeries.of_agents(frame, space, training, trials)
        strong = _strong(leaderboard[leaderboard["board"] == space], space, board.series[0].tasks, trials[-1])
        chosen.append(BestAgent(means, len(candidates[0].tasks), board, strong))
    return chosen


def _strong(rows: pd.DataFrame, space: str, tasks: Sequence[str], trial: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the regret of strong methods after a trial, dataset by dataset, of those that the leaderboard has."""
    import numpy as np

    found = {}
    for agent in STRONG:
        curves = {str(row.task): row.regret for row in rows[rows["agent"] == agent].itertuples()}
        if not curves:
            continue
        if sorted(curves) != list(tasks) or any(len(curve) < trial for curve in curves.values()):
            raise DataIntegrityError(
                f"The leaderboard has {agent} on {space} with other test datasets than this study, or without trial "
                f"{trial}. Play it again: `python -m agents.leaderboard --boards {space} --agents {agent}`."
            )
        found[agent] = np.array([curves[task][trial - 1] for task in tasks], dtype=np.float64)
    return found


def best_tables(chosen: Sequence[BestAgent], episodes: pd.DataFrame, trial: int) -> str:
    """Return the answer in words, and the tables: the tests, the distances, and how everyone was chosen.

    Args:
        chosen: One for each space.
        episodes: Final regret of every episode, as :func:`~agents.transfer_study_episodes.episode_gaps` takes them.
        trial: When regret was measured.
    """
    if not chosen:
        return "No Q-agent was measured on validation datasets."
    tests = corrected_tests(chosen)
    pairs = episode_table(episodes, [(best.board.name, best.agent) for best in chosen])
    parts = [_answer(chosen, tests), _tests(chosen, tests, trial), pairs, _distances(chosen, trial), _choice(chosen)]
    return "\n\n".join(parts)


def corrected_tests(chosen: Sequence[BestAgent]) -> list[dict[str, PairedTest]]:
    """Return the tests of every chosen agent by reference, corrected by Holm over all spaces and references."""
    found = iter(paired_tests([best.series.final - best.of(name).final for best in chosen for name in REFERENCES]))
    return [{name: next(found) for name in REFERENCES} for _ in chosen]


def _answer(chosen: Sequence[BestAgent], tests: Sequence[Mapping[str, PairedTest]]) -> str:
    won = [all(map(beats, mine.values())) for mine in tests]
    names = [best.board.name for best, both in zip(chosen, won, strict=True) if both]
    spaces = plural(len(chosen), "space")
    text = f"The best Q-agent beats both references (p < {LEVEL} after correction) in {len(names)} of {spaces}"
    lines = [f"{text}: {', '.join(names)}." if names else f"{text}."]
    for best, mine, both in zip(chosen, tests, won, strict=True):
        if both:
            continue
        missed = [
            f"{name} (p {p_value_text(test.corrected_p, '= ')})" for name, test in mine.items() if not beats(test)
        ]
        reason = ""
        if best.least_p >= LEVEL:
            count = plural(best.board.tests, "test dataset")
            reason = f"; with {count} no p-value can be below {best.least_p:.2g}, whatever the agent does"
        lines.append(f"Not shown in **{best.board.name}** against {' and '.join(missed)}{reason}.")
    return " ".join(lines)


def _tests(chosen: Sequence[BestAgent], tests: Sequence[Mapping[str, PairedTest]], trial: int) -> str:
    header = ["space", "test datasets", "best Q-agent", f"regret at {trial}"]
    for name in ("random search", "random walk"):
        header += [name, "W/T/L", "p (Holm)"]
    rows = []
    for best, mine in zip(chosen, tests, strict=True):
        cells: list[object] = [best.board.name, best.board.tests, f"`{best.agent}`", best.series.interval]
        for name in REFERENCES:
            test = mine[name]
            counted = f"{test.wins}/{test.ties}/{test.losses}"
            cells += [f"{best.of(name).mean:.4f}", counted, p_value_text(test.corrected_p)]
        rows.append(cells)
    return markdown_table(header, rows, wordy=(0, 2))


def _distances(chosen: Sequence[BestAgent], trial: int) -> str:
    """Return the table of regret differences: above 0 the Q-agent is worse."""
    header = ["space", "best Q-agent", f"regret at {trial}"]
    for name in STRONG:
        header += [name, f"distance to {name}", "W/T/L"]
    rows = []
    for best in chosen:
        cells: list[object] = [best.board.name, f"`{best.agent}`", f"{best.series.mean:.4f}"]
        for name in STRONG:
            if name not in best.strong:
                cells += ["not played", "-", "-"]
                continue
            gap = best.series.final - best.strong[name]
            low, high = bootstrap_interval(gap[:, None])
            counted = count_wins(gap)
            cells += [
                f"{best.strong[name].mean():.4f}",
                f"{gap.mean():+.4f} [{low[0]:+.4f}, {high[0]:+.4f}]",
                f"{counted.wins}/{counted.ties}/{counted.losses}",
            ]
        rows.append(cells)
    return markdown_table(header, rows, wordy=(0, 1))


def _choice(chosen: Sequence[BestAgent]) -> str:
    agents = sorted({agent for best in chosen for agent in best.validation})
    rows = []
    for best in chosen:
        cells = [f"{best.validation[agent]:.4f}" if agent in best.validation else "-" for agent in agents]
        cells[agents.index(best.agent)] = f"**{cells[agents.index(best.agent)]}**"
        rows.append([best.board.name, best.validation_datasets, *cells])
    table = markdown_table(["space", "validation datasets", *(f"`{agent}`" for agent in agents)], rows, wordy=(0,))
    return f"Mean regret on validation datasets, by which the best is chosen:\n\n{table}"
