"""``python -m agents.grpo_study``: play the shipped GRPO policies on held-out datasets; write ``docs/studies/grpo.md``.

Beside the policy as it is shipped, it plays without its outcome model. The outcome model without the policy
(:mod:`agents.transfer_gp`) and classical methods are those of the leaderboard, from its files. It may be stopped at any
time, and goes on where it stopped; ``--spaces`` plays some of the spaces, and leaves what is there of the others;
``--page`` only writes the page anew from ``docs/studies/data``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from agents.grpo import GRPO
from agents.grpo_study_page import ALONE, COMMAND, NAME, write_page
from agents.policy_alone import policy_alone
from agents.progress import EvaluationDisplay, make_console
from agents.shipped_policies import load_shipped
from agents.study import require_same_repetitions, with_other_rows, write_results
from agents.study_command import study_parser, with_exit_status
from agents.study_tables import curve_frame
from agents.versions import versions
from hpo_gym.errors import DataMissingError, require_names
from hpo_gym.evaluation import CellStore, Contender, regret_curves

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_BUDGET = 100
_SPACES = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")


def play(space: str, seeds: int, folder: Path) -> pd.DataFrame:
    """Play the test datasets of a space; return rows of :func:`agents.study_tables.curve_frame`.

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
    for agent, values in curves.values.items():
        console.print(f"{space}: {agent}: regret {values[:, -1].mean():.4f}", highlight=False, soft_wrap=True)
    return curve_frame(space, curves)


def _policy_alone(space: str) -> Contender:
    """Return the shipped policy without its outcome model."""
    trained = load_shipped(GRPO.name, space)
    if trained is None:
        raise DataMissingError(f"No policy of {GRPO.name!r} is shipped for {space!r}. See docs/studies/grpo.md.")
    assert isinstance(trained.agent, GRPO)
    return policy_alone(trained.agent, ALONE)


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    import pandas as pd

    output = Path("evaluations/grpo")
    parser = study_parser(COMMAND, __doc__, parts="spaces", names=_SPACES, seeds=10, output=output)
    options = parser.parse_args(arguments)
    require_names("search space", options.spaces, _SPACES)
    if not options.page:
        folder = options.documents / "studies" / "data"
        require_same_repetitions(folder, NAME, COMMAND, options.spaces, options.seeds)
        frames = [play(space, options.seeds, options.output) for space in options.spaces]
        rows = with_other_rows(pd.concat(frames, ignore_index=True), folder, NAME, COMMAND)
        # The page shows spaces in the order of the rows.
        rows = rows.sort_values("space", key=lambda spaces: spaces.map(_SPACES.index), kind="stable", ignore_index=True)
        facts = {"seeds": options.seeds, "budget": _BUDGET, "versions": versions()}
        write_results(folder, NAME, {NAME: rows}, facts)
    print(write_page(options.documents))


if __name__ == "__main__":
    sys.exit(main())
