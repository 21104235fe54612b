"""``python -m agents.grpo_study``: play the shipped GRPO policies on held-out datasets; write ``docs/studies/grpo.md``.

Beside the policy as it is shipped, it plays without its outcome model. The outcome model without the policy
(:mod:`agents.transfer_gp`) and classical methods are those of the leaderboard, from its files. It may be stopped at any
time, and goes on where it stopped; ``--page`` only writes the page anew from ``docs/studies/data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from agents.comparison import ComparisonConfig, prepare
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig
from agents.grpo import GRPO
from agents.grpo_study_page import ALONE, NAME, write_page
from agents.progress import EvaluationDisplay, make_console
from agents.shipped_policies import load_shipped
from agents.study import write_results
from agents.versions import versions
from hpo_gym.errors import DataMissingError, HPOGymError, unknown_name
from hpo_gym.evaluation import CellStore, Contender, regret_curves
from hpo_gym.evaluation.cells import content_digest

__all__ = ["main"]

_BUDGET = 100
_SPACES = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")


def play(space: str, seeds: int, folder: Path) -> dict[str, list[object]]:
    """Play the test datasets of a space; return columns ``space``, ``agent``, ``task``, ``regret`` (float32 ``[T]``).

    Args:
        space: A search space with a shipped policy.
        seeds: Repetitions per dataset.
        folder: Where played episodes are kept.

    Raises:
        EvaluationFailedError: If an episode could not be played.
    """
    env = EnvironmentConfig(id="HPO-OpenML-v0", space=space)
    config = ComparisonConfig(agents=(GRPO.name,), env=env, protocol="openml-transfer", seeds=seeds, budget=_BUDGET)
    comparison = prepare(config)
    contenders = (*comparison.contenders, _policy_alone(space))
    console = make_console()
    with CellStore(folder / f"{space}.sqlite") as store, EvaluationDisplay(console) as display:
        played = dataclasses.replace(comparison, contenders=contenders).run(display.update, store).require_complete()
    curves = regret_curves(played.records)
    columns: dict[str, list[object]] = {"space": [], "agent": [], "task": [], "regret": []}
    for agent, values in curves.values.items():
        console.print(f"{space}: {agent}: regret {values[:, -1].mean():.4f}", highlight=False, soft_wrap=True)
        for (_, _, task), regret in zip(curves.tasks, values.astype("float32"), strict=True):
            for name, value in zip(columns, (space, agent, task, regret), strict=True):
                columns[name].append(value)
    return columns


def _policy_alone(space: str) -> Contender:
    """Return the shipped policy without its outcome model."""
    trained = load_shipped(GRPO.name, space)
    if trained is None:
        raise DataMissingError(f"No policy of {GRPO.name!r} is shipped for {space!r}. See docs/studies/grpo.md.")
    agent = trained.agent
    saved = agent.state_dict(resumable=False)
    alone = GRPO(dataclasses.replace(agent.config, proposals=1), agent.interface, agent.seed)
    alone.load_state_dict(saved, resumable=False)
    contender = as_contender(alone, ALONE, {"policy": content_digest(sorted(saved.items()))})
    assert isinstance(contender, Contender)  # no SequentialAgent
    return dataclasses.replace(contender, name=ALONE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    import pandas as pd

    parser = argparse.ArgumentParser(prog="python -m agents.grpo_study", description=__doc__)
    parser.add_argument("--page", action="store_true", help="play nothing; only write the page")
    parser.add_argument("--spaces", nargs="+", metavar="NAME", default=_SPACES, help=f"some of {', '.join(_SPACES)}")
    parser.add_argument("--seeds", type=int, default=10, help="repetitions (default: 10)")
    parser.add_argument("--documents", type=Path, default=Path("docs"), help="where the page is (default: docs)")
    parser.add_argument("--output", type=Path, default=Path("evaluations/grpo"), help="played episodes")
    options = parser.parse_args(arguments)
    try:
        for name in options.spaces:
            if name not in _SPACES:
                raise unknown_name("search space", name, _SPACES)
        if not options.page:
            frames = [pd.DataFrame(play(space, options.seeds, options.output)) for space in options.spaces]
            facts = {"seeds": options.seeds, "budget": _BUDGET, "versions": versions()}
            folder = options.documents / "studies" / "data"
            write_results(folder, NAME, {NAME: pd.concat(frames, ignore_index=True)}, facts)
        print(write_page(options.documents))
    except (HPOGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
