"""``python -m agents.universal_study``: play policies in a search space that they never saw; write the study's page.

Of each embedded space, the policy that was trained on the five others (``<runs>/without-<space>``) plays the datasets
that no training saw, beside the policy without its outcome model, that model without a policy, and classical methods.
It may be stopped at any time, and goes on where it stopped; ``--spaces`` plays some of the spaces, and leaves what is
there of the others; ``--page`` only writes the page anew from ``docs/studies/data``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.averaged_gp import AveragedGP
from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig, make_environment
from agents.experiment import load_trained
from agents.grpo_universal import UniversalGRPO
from agents.policy_alone import policy_alone
from agents.problem import Problem
from agents.progress import EvaluationDisplay, make_console
from agents.study import require_same_repetitions, with_other_rows, write_results
from agents.study_command import add_workers, study_parser, with_exit_status
from agents.study_tables import curve_frame
from agents.universal_study_page import ALONE, COMMAND, NAME, SPACES, write_page
from agents.versions import versions
from hpo_gym.errors import InvalidSettingError, require_names
from hpo_gym.evaluation import CellStore, regret_curves

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main", "play"]

_BUDGET = 30
_CLASSICAL = ("random", "tpe", "gp", AveragedGP.name)


def play(space: str, run: Path, seeds: int, folder: Path, workers: int = 1) -> pd.DataFrame:
    """Play the test datasets of a space with a policy that has seen neither; return the study's rows.

    Args:
        space: The search space.
        run: The policy's run folder.
        seeds: Repetitions per dataset.
        folder: Where played episodes are kept.
        workers: Processes that play.

    Returns:
        Rows of :func:`agents.study_tables.curve_frame`.

    Raises:
        EvaluationFailedError: If an episode could not be played.
        SplitLeakError: If the policy has seen the space, or a dataset.
    """
    env = EnvironmentConfig(id="HPO-OpenMLContinuous-v0", space=space)
    comparison = prepare(
        ComparisonConfig(
            agents=(*_CLASSICAL, UniversalGRPO.name),
            runs=(str(run),),
            env=env,
            protocol="openml-zero-shot",
            seeds=seeds,
            budget=_BUDGET,
        )
    )
    policy = load_trained(run).agent
    if not isinstance(policy, UniversalGRPO):
        raise InvalidSettingError(f"{run} holds no {UniversalGRPO.name!r}. See docs/studies/universal.md.")
    problem = Problem.of(make_environment(env, num_envs=1, budget=_BUDGET, observation="history"))
    contenders = (*comparison.contenders, policy_alone(policy, ALONE, problem))
    console = make_console()
    with CellStore(folder / f"{space}.sqlite") as store, EvaluationDisplay(console) as display:
        result = dataclasses.replace(comparison, contenders=contenders).run(display.update, store, workers)
    curves = regret_curves(result.require_complete().records)
    for agent, values in curves.values.items():
        console.print(f"{space}: {agent}: regret {values[:, -1].mean():.4f}", highlight=False, soft_wrap=True)
    return curve_frame(space, curves)


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    output = Path("evaluations/universal")
    parser = study_parser(COMMAND, __doc__, parts="spaces", names=SPACES, seeds=10, output=output)
    parser.add_argument("--runs", type=Path, default=Path("runs/universal"), help="folder of without-<space>")
    add_workers(parser, "play")
    options = parser.parse_args(arguments)
    folder = options.documents / "studies" / "data"
    require_names("search space", options.spaces, SPACES)
    if not options.page:
        require_same_repetitions(folder, NAME, COMMAND, options.spaces, options.seeds)
    for name in () if options.page else options.spaces:
        rows = play(name, options.runs / f"without-{name}", options.seeds, options.output, options.workers)
        rows = with_other_rows(rows, folder, NAME, COMMAND)
        rows = rows.sort_values("space", key=lambda spaces: spaces.map(SPACES.index), kind="stable", ignore_index=True)
        facts = {"seeds": options.seeds, "budget": _BUDGET, "versions": versions()}
        write_results(folder, NAME, {NAME: rows}, facts)
        print(write_page(options.documents), flush=True)
    if options.page:
        print(write_page(options.documents))


if __name__ == "__main__":
    sys.exit(main())
