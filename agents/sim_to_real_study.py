"""``python -m agents.sim_to_real_study``: what was learned on surrogates plays live training; writes the study's page.

Policies that travel with the repository, and a portfolio of the same training datasets, against methods that know
nothing before. Every evaluation trains a model of the family. It may be stopped at any time and goes on where it
stopped: what one method played in one search space is kept as a whole. ``--page`` only writes
``docs/studies/sim-to-real.md`` anew from ``docs/studies/data``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.base import Interface
from agents.contenders import as_contender, evaluation_settings
from agents.grpo import GRPO
from agents.portfolio import Portfolio
from agents.problem import Problem, TrainingTasks
from agents.progress import EvaluationDisplay, make_console
from agents.registry import find_agent
from agents.shipped_policies import load_shipped
from agents.sim_to_real_study_data import DATASETS, StudyDataset, live_data, require_unseen
from agents.sim_to_real_study_page import COMMAND, NAME, write_page
from agents.study import with_other_rows, write_results
from agents.study_command import add_workers, study_parser, with_exit_status
from agents.versions import versions
from hpo_gym import load_suite
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import DataMissingError, require_names
from hpo_gym.evaluation import CellStore, Rules, evaluate_all
from hpo_gym.evaluation.contender import AnyContender
from hpo_gym.fingerprint import content_digest
from hpo_gym.live.embedded_models import EMBEDDED_FAMILIES
from hpo_gym.live.embedded_suite import embedded_suite
from hpo_gym.live.executors import ExecutorSettings
from hpo_gym.live.limits import Limits
from hpo_gym.tasks.suite import TaskSuite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["contender", "main", "play"]

AGENTS = (GRPO.name, Portfolio.name, "random", "tpe", "gp")
_BUDGET = 30
_PROTOCOL = "dataset-disjoint"
# The cheapest first: whoever stops the command early has most families.
_FAMILIES = ("rpart", "random_forest", "adaboost", "lcbench")
# Nobody knows the range of a live task, which a reward would need; regret is reported, and no reward is.
_SETTINGS: dict[str, Any] = {"reward": "score", "reward_scale": "none"}


def contender(name: str, suite: TaskSuite, budget: int, datasets: tuple[StudyDataset, ...] = DATASETS) -> AnyContender:
    """Return a method that is ready to play live tasks of an embedded space.

    Args:
        name: ``grpo``: the shipped policy of the space; ``portfolio``: of its training datasets, answered by the
            surrogate; else a method that knows nothing before.
        suite: Live tasks whose space is called as the embedded one.
        budget: Evaluations per episode.
        datasets: What is played.

    Raises:
        DataMissingError: If no policy is shipped for the space.
        SplitLeakError: If it has seen a dataset that is played.
        InvalidSettingError: If a policy does not fit the space.
    """
    agent = find_agent(name).agent
    env = HPOVectorEnv(
        1,
        suite,
        split="all",
        budget=budget,
        action=agent.action_kinds[0],
        observation=agent.observation_kinds[0],
        **_SETTINGS,
    )
    if agent.learns:
        trained = load_shipped(name, suite.name)
        if trained is None:
            raise DataMissingError(f"No policy of {name!r} is shipped for {suite.name!r}. See docs/studies/grpo.md.")
        require_unseen(trained, datasets)
        trained.agent.interface.require_same(Interface.of(env))
        saved = trained.agent.state_dict(resumable=False)
        return as_contender(trained.agent, "", {"policy": content_digest(sorted(saved.items()))})
    made = agent(find_agent(name).config(), Interface.of(env), 0, "cpu")
    if not agent.uses_training_tasks:
        made.prepare(Problem.of(env))
        return as_contender(made)
    embedded = load_suite("bundled", suite.name)
    positions = embedded.split(_PROTOCOL, "train")
    made.prepare(Problem.of(env, TrainingTasks(embedded, torch.tensor(positions, dtype=torch.int64))))
    return as_contender(made, "", {"training": sorted(str(embedded.tasks[index]) for index in positions)})


def play(
    family: str,
    agents: Sequence[str],
    seeds: int,
    folder: Path,
    *,
    budget: int = _BUDGET,
    datasets: tuple[StudyDataset, ...] = DATASETS,
    workers: int = 1,
) -> pd.DataFrame:
    """Play the datasets with live training of a family, one method after the other; return every trial.

    Args:
        family: One of :data:`hpo_gym.live.embedded_models.EMBEDDED_FAMILIES`.
        agents: Names of methods.
        seeds: Repetitions per dataset.
        folder: Where played episodes are kept.
        budget: Evaluations per episode, the default configuration at the start included.
        datasets: What is played.
        workers: Processes that train.

    Raises:
        EvaluationFailedError: If an episode could not be played.
        SplitLeakError: If a policy has seen one of the datasets.
    """
    suite = embedded_suite(
        family,
        {each.task_ref: live_data(each) for each in datasets},
        executor=ExecutorSettings("local", workers, None, Limits()),
    )
    settings = evaluation_settings(HPOVectorEnv(1, suite, split="all", budget=budget, **_SETTINGS))
    rules = Rules(split="all", protocol=_PROTOCOL, seeds=seeds, budget=budget, settings=settings)
    everybody = [contender(name, suite, budget, datasets) for name in agents]
    with CellStore(folder / f"{family}.sqlite") as store, EvaluationDisplay(make_console()) as display:
        played = evaluate_all(everybody, suite, rules, store=store, progress=display.update).require_complete()
    frame = played.records.frame
    return frame.astype({name: str for name in frame.columns if frame[name].dtype == "category"})


@with_exit_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; return the exit status."""
    output = Path("evaluations/sim-to-real")
    parser = study_parser(COMMAND, __doc__, parts="families", names=_FAMILIES, seeds=5, output=output)
    add_workers(parser, "train")
    options = parser.parse_args(arguments)
    folder = options.documents / "studies" / "data"
    require_names("family", options.families, EMBEDDED_FAMILIES)
    for name in () if options.page else options.families:
        trials = play(name, AGENTS, options.seeds, options.output, workers=options.workers)
        facts = {"seeds": options.seeds, "budget": _BUDGET, "versions": versions()}
        write_results(folder, NAME, {NAME: with_other_rows(trials, folder, NAME, COMMAND)}, facts)
        print(write_page(options.documents), flush=True)
    if options.page:
        print(write_page(options.documents))


if __name__ == "__main__":
    sys.exit(main())
