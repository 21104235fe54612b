"""Portfolios that were learned from some of the training datasets: the fair rival of a policy trained on the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from agents.base import Interface
from agents.comparison import Comparison, ComparisonConfig, prepare
from agents.contenders import as_contender
from agents.environments import EnvironmentConfig
from agents.portfolio import Portfolio, PortfolioConfig
from agents.problem import Problem, TrainingTasks
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.evaluation import CellStore, RecordTable
from hpo_gym.evaluation.contender import AnyContender
from hpo_gym.evaluation.run import Progress
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.subsets import subset_of

__all__ = ["PlayedPortfolios", "play_portfolios", "portfolio_run"]


@dataclass(frozen=True)
class PlayedPortfolios:
    """What portfolios reached.

    Args:
        records: Every trial; ``run`` is what :func:`portfolio_run` returns.
        training_evaluations: Evaluations on training tasks that building each took, by run.
    """

    records: RecordTable
    training_evaluations: Mapping[str, int]


def portfolio_run(max_tasks: int | None, seed: int) -> str:
    """Return the name of the portfolio that was learned from a subset."""
    return f"{'all' if max_tasks is None else max_tasks}-{seed}"


def play_portfolios(
    env: EnvironmentConfig,
    subsets: Sequence[tuple[int | None, int]],
    *,
    repetitions: int,
    budget: int,
    store: CellStore | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> PlayedPortfolios:
    """Build a portfolio on each of several subsets of the training tasks, and play the test split with it.

    Args:
        env: The environment.
        subsets: ``max_tasks`` and ``tasks_seed`` of each, as an environment takes them; ``None`` means all, and then
            the seed only draws the candidates.
        repetitions: Episodes of each portfolio on each dataset.
        budget: Evaluations per episode, the first included, and entries of a portfolio.
        store: Where played episodes are kept.
        workers: Processes for methods that play one episode at a time.
        progress: Called whenever something was played.

    Raises:
        InvalidSettingError: For a subset that is larger than the training split.
        EvaluationFailedError: If an episode could not be played.
    """
    # The test split and the rules are those of any other comparison.
    comparison = prepare(ComparisonConfig(agents=("random",), env=env, seeds=repetitions, budget=budget))
    evaluations: dict[str, int] = {}
    contenders = []
    for max_tasks, seed in subsets:
        name = portfolio_run(max_tasks, seed)
        contender, evaluations[name] = _portfolio(comparison, max_tasks, seed, name)
        contenders.append(contender)
    result = dataclasses.replace(comparison, contenders=tuple(contenders)).run(progress, store, workers)
    return PlayedPortfolios(result.require_complete().records, evaluations)


def _portfolio(comparison: Comparison, max_tasks: int | None, seed: int, name: str) -> tuple[AnyContender, int]:
    suite, rules = comparison.suite, comparison.rules
    kinds = {"action": Portfolio.action_kinds[0], "observation": Portfolio.observation_kinds[0]}
    changes = {**rules.settings, **kinds, "budget": rules.budget}
    env = HPOVectorEnv(1, suite, split=rules.split, protocol=rules.protocol, device=suite.device, **changes)
    whole = suite.split(rules.protocol, "train")
    subset = subset_of(whole, suite.tasks, max_tasks, 0 if max_tasks is None else seed, "train")
    agent = Portfolio(PortfolioConfig(), Interface.of(env), seed, suite.device)
    agent.prepare(Problem.of(env, TrainingTasks(suite, torch.tensor(subset, device=suite.device))))
    learned = {"training_datasets": sorted(dataset_key(suite.tasks[index]) for index in subset)}
    return as_contender(agent, name, learned), agent.training_evaluations
