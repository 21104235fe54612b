"""Whether the best Q-agent of a space beats its references on the very datasets it was tested on, episode by episode.

A test over datasets asks whether a difference would be there on other datasets, too; with five of them no answer can
be significant. Here a pair is an episode of each method on one dataset. Where both do equally well on every dataset,
the sign of a pair's difference is a fair coin, so that Wilcoxon's signed-rank test holds; what it shows, it shows of
these datasets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.study import WALK
from agents.transfer_series import RANDOM
from hpo_gym.documents import markdown_table
from hpo_gym.errors import DataIntegrityError
from hpo_gym.evaluation import PairedTest
from hpo_gym.evaluation.significance import paired_tests
from hpo_gym.evaluation.style import p_value_text, plural

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["LEVEL", "REFERENCES", "beats", "episode_gaps", "episode_table"]

#: A corrected p-value below is called a victory.
LEVEL = 0.01

#: What the best Q-agent has to beat.
REFERENCES = (RANDOM, WALK)


def beats(test: PairedTest) -> bool:
    """Return whether a test shows a victory."""
    return test.corrected_p < LEVEL and test.wins > test.losses


def episode_gaps(episodes: pd.DataFrame, space: str, agent: str, reference: str) -> np.ndarray[Any, Any]:
    """Return the final regret of an agent minus a reference's, float64 ``[N * R]``, by dataset and repetition.

    Runs take turns: repetition ``r`` of an agent with ``S`` runs is played by run ``r mod S``, so that every episode of
    the reference is in one pair.

    Args:
        episodes: Columns ``space``, ``agent``, ``seed``, ``task``, ``repetition`` and ``regret``, a row per episode.
        space: Where.
        agent: Who.
        reference: Against whom; it has one run.

    Raises:
        DataIntegrityError: If an episode is missing, or is there twice.
    """
    here = episodes[episodes["space"] == space]
    mine, theirs = (here[here["agent"] == name] for name in (agent, reference))
    runs = sorted(mine["seed"].unique())
    mine = mine[mine["seed"] == mine["repetition"].map(lambda number: runs[number % len(runs)])]
    keys = ["task", "repetition"]
    both = [part.set_index(keys)["regret"].sort_index() for part in (mine, theirs)]
    if not len(both[0]) or not both[0].index.is_unique or not both[0].index.equals(both[1].index):
        raise DataIntegrityError(
            f"{agent} and {reference} did not play the same episodes of {space} ({len(both[0])} and {len(both[1])}). "
            "Play them again: `python -m agents.transfer_study`."
        )
    gaps: np.ndarray[Any, Any] = (both[0] - both[1]).to_numpy(dtype="float64")
    return gaps


def episode_table(episodes: pd.DataFrame, best: Sequence[tuple[str, str]]) -> str:
    """Return the answer in words, and the table.

    Args:
        episodes: As :func:`episode_gaps` takes them.
        best: Spaces, each with its best Q-agent.
    """
    keys = [(space, agent, name) for space, agent in best for name in REFERENCES]
    tests = dict(zip(keys, paired_tests([episode_gaps(episodes, *key) for key in keys]), strict=True))
    rows, won = [], []
    for space, agent in best:
        mine = [tests[space, agent, name] for name in REFERENCES]
        if all(map(beats, mine)):
            won.append(space)
        pairs = mine[0].wins + mine[0].ties + mine[0].losses
        cells: list[object] = [space, f"`{agent}`", pairs]
        for test in mine:
            cells += [f"{test.wins}/{test.ties}/{test.losses}", p_value_text(test.corrected_p)]
        rows.append(cells)
    names = f": {', '.join(won)}" if won else ""
    text = (
        "**On these datasets alone**, in pairs of episodes (one of each method on the same dataset; runs take turns), "
        f"it beats both references (p < {LEVEL} after correction) in {len(won)} of {plural(len(best), 'space')}{names}."
    )
    header = [
        "space",
        "best Q-agent",
        "pairs",
        "W/T/L vs random search",
        "p (Holm)",
        "W/T/L vs random walk",
        "p (Holm)",
    ]
    return f"{text}\n\n{markdown_table(header, rows, wordy=(0, 1))}"
