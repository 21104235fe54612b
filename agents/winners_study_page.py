"""Tables of scored winners in the page of the GRPO study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.study import mean_curves, read_results
from agents.study_tables import against, interval
from agents.versions import versions_text
from agents.winners import SURFACE_OPTIMUM
from hpo_gym.documents import markdown_table
from hpo_gym.evaluation import bootstrap_interval, pairwise_tests

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["COMMAND", "GENUINE", "GRPO_AGENT", "NAME", "TRIALS", "winners_tables"]

NAME = "winners"
COMMAND = "python -m agents.winners_study"
#: Name of the table of winners beside genuine runs.
GENUINE = "winners-genuine"
GRPO_AGENT = "grpo"
#: Evaluations after which an episode's best configuration is scored.
TRIALS = (10, 100)

_BASELINE = "random"
# Accuracies are single precision; a promise that exceeds a run by no more than that rounding does not exceed it.
_ROUNDING = 1e-6

_Values = dict[str, "np.ndarray[Any, Any]"]


def winners_tables(folder: Path) -> str:
    """Return the tables, or how to make what is missing.

    Args:
        folder: ``docs/studies/data``.

    Raises:
        DataIntegrityError: If a file is another one than was written.
    """
    if not (folder / f"{NAME}.json").is_file():
        return f"Not scored yet: `{COMMAND}`."
    frames, facts = read_results(folder, NAME, COMMAND)
    parts = []
    if NAME in frames:
        frame = frames[NAME]
        spaces = {space: frame[frame["space"] == space] for space in dict.fromkeys(frame["space"])}
        parts += [_kept(spaces), *(_exact(space, rows) for space, rows in spaces.items())]
    if GENUINE in frames:
        parts.append(_genuine(frames[GENUINE]))
    return "\n\n".join([*parts, _made(frames, facts)])


def _values(rows: pd.DataFrame, column: str) -> _Values:
    """Return a column by agent, float64 ``[N, K]``: ``N`` datasets in the order of their names, ``K`` trials."""
    return {
        str(agent): each.pivot(index="task", columns="trial", values=column).sort_index()[list(TRIALS)].to_numpy()
        for agent, each in rows.groupby("agent", sort=False)
    }


def _exact(space: str, rows: pd.DataFrame) -> str:
    """Return how regrets by the surface and by its original compare, and GRPO's paired tests on the original."""
    surface, exact = _values(rows, "surface"), _values(rows, "exact")
    played = {agent: values for agent, values in exact.items() if agent != SURFACE_OPTIMUM}
    units = [("yahpo", space, task) for task in sorted(set(rows["task"]))]
    tests = [
        pairwise_tests(mean_curves(units, played), GRPO_AGENT, position + 1) if GRPO_AGENT in played else {}
        for position in range(len(TRIALS))
    ]
    lines = []
    for agent in sorted(exact, key=lambda name: (name == SURFACE_OPTIMUM, float(exact[name][:, 0].mean()))):
        cells = [f"`{agent}`" if agent != SURFACE_OPTIMUM else "best known of the surface"]
        for position in range(len(TRIALS)):
            cells += [interval(values[agent][:, position]) for values in (surface, exact)]
            cells.append(against(tests[position].get(agent)))
        lines.append(cells)
    titles = ["agent"]
    for trial in TRIALS:
        titles += [f"surface, at {trial}", f"original, at {trial}", f"GRPO W/T/L, p at {trial}"]
    return f"#### {space}\n\n{len(units)} held-out datasets.\n\n{markdown_table(titles, lines, (0,))}"


def _kept(spaces: dict[str, pd.DataFrame]) -> str:
    """Return how much of the gain over random search the original confirms, and where it disagrees most."""
    lines = []
    for space, rows in spaces.items():
        surface, exact = _values(rows, "surface"), _values(rows, "exact")
        for agent in exact:
            if agent == SURFACE_OPTIMUM:
                continue
            cells = [f"`{space}`", f"`{agent}`"]
            for position in range(len(TRIALS)):
                if agent == _BASELINE or _BASELINE not in exact:
                    cells.append("")
                    continue
                promised, kept = ((values[_BASELINE] - values[agent])[:, position] for values in (surface, exact))
                # Of a gain that may be none, a share says nothing.
                certain = bootstrap_interval(promised[:, None])[0][0] > 0.0
                share = f" ({kept.mean() / promised.mean():.0%})" if certain else ""
                cells.append(f"{promised.mean():.4f}, {kept.mean():.4f}{share}")
            excess = (exact[agent] - surface[agent]).max(0)
            lines.append([*cells, ", ".join(f"{value:.3f}" for value in excess)])
    titles = ["space", "agent", *(f"gain over random at {trial}: surface, original (share)" for trial in TRIALS)]
    titles.append(f"most that the original is worse on a dataset, at {', '.join(map(str, TRIALS))}")
    return markdown_table(titles, lines, (0, 1))


def _genuine(frame: pd.DataFrame) -> str:
    """Return what winners are promised beside what genuine runs reached."""
    lines = []
    for (space, agent, trial), rows in frame.groupby(["space", "agent", "trial"], sort=False):
        if agent == SURFACE_OPTIMUM and trial != TRIALS[0]:
            continue
        above = int((rows["most"] > rows["genuine"] + _ROUNDING).sum())
        lines.append(
            [
                f"`{space}`",
                f"`{agent}`" if agent != SURFACE_OPTIMUM else "best known of the surface",
                trial if agent != SURFACE_OPTIMUM else "",
                f"{rows['promised'].mean():.4f}",
                f"{rows['genuine'].mean():.4f}",
                interval((rows["genuine"] - rows["promised"]).to_numpy()),
                f"{above} of {len(rows)}",
                f"{rows['nearest'].mean():.4f}",
                interval((rows["genuine"] - rows["nearest"]).to_numpy()),
            ]
        )
    titles = [
        "space",
        "agent",
        "evaluations",
        "promised accuracy",
        "best genuine run",
        "gap to it",
        "datasets promised more than any run reached",
        "genuine run nearest to the winner",
        "gap of that to the best",
    ]
    return f"#### Beside genuine runs\n\n{markdown_table(titles, lines, (0, 1))}"


def _made(frames: dict[str, pd.DataFrame], facts: dict[str, Any]) -> str:
    """Return repetitions and versions in a sentence."""
    who: dict[int, set[str]] = {}
    for frame in frames.values():
        played = frame[frame["agent"] != SURFACE_OPTIMUM]
        for agent, seeds in zip(played["agent"], played["seeds"], strict=True):
            who.setdefault(int(seeds), set()).add(f"`{agent}`")
    repetitions = ", ".join(f"{seeds} ({', '.join(sorted(who[seeds]))})" for seeds in sorted(who, reverse=True))
    played = f"Repetitions per dataset: {repetitions}; {facts['budget']} evaluations each, root seed 0."
    return f"{played} {versions_text(facts['versions'])}."
