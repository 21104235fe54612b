"""Agents by name and trained agents from run folders, on the same held-out tasks; what ``evaluate.py`` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.base import Interface
from agents.contenders import as_contender, evaluation_settings
from agents.environments import EnvironmentConfig, make_environment
from agents.experiment import TrainedAgent, load_trained
from agents.registry import find_agent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import Contender, RecordTable, evaluate
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.splits import check_no_leak, split_tasks
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["ComparisonConfig", "compare", "env_of_run"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and on what.

    Args:
        agents: Names of agents; ``None`` means ``random`` and those of ``runs``.
        runs: Run folders of trained agents; several of one agent are averaged.
        env: The environment; its action and observation are those of each agent.
        split: Which tasks.
        seeds: Repetitions per task.
        seed: Root of the seed tree.
        budget: Evaluations per episode, the first included.
        allow_leak: Whether tasks may be evaluated whose datasets were trained on.
    """

    agents: tuple[str, ...] | None = None
    runs: tuple[str, ...] = ()
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    split: str = "test"
    seeds: int = 5
    seed: int = 0
    budget: int = 50
    allow_leak: bool = False


def compare(config: ComparisonConfig, progress: Progress | None = None) -> RecordTable:
    """Evaluate every agent of a comparison with one loop and one counter.

    Raises:
        InvalidSettingError: If a learning agent has no run, or a run fits another environment.
        SplitLeakError: If a trained agent has seen a dataset that it would be tested on.
    """
    trained = [load_trained(path, config.env.device) for path in config.runs]
    env = make_environment(config.env, num_envs=1, split=config.split)
    suite, protocol = env.suite, env.engine.protocol
    settings = evaluation_settings(env)
    for one in trained:
        if not config.allow_leak:
            tasks = [suite.tasks[index] for index in split_tasks(suite.name, protocol, config.split, suite.tasks)]
            check_no_leak(one.training_datasets, [dataset_key(task) for task in tasks])
    tables = []
    for contender in _contenders(config, trained, suite, settings):
        label = f"{contender.name} {contender.run}".strip()
        report = None if progress is None else _report(progress, label)
        tables.append(
            evaluate(
                contender,
                suite,
                split=config.split,
                protocol=protocol,
                seeds=config.seeds,
                seed=config.seed,
                budget=config.budget,
                settings=settings,
                progress=report,
            )
        )
    return RecordTable.concat(tables)


def _report(progress: Progress, label: str) -> Callable[[float], None]:
    def report(share: float) -> None:
        progress(label, share)

    return report


def _contenders(
    config: ComparisonConfig, trained: Sequence[TrainedAgent], suite: TaskSuite, settings: Mapping[str, Any]
) -> list[Contender]:
    available = {one.config.agent_name for one in trained}
    names = config.agents if config.agents is not None else ("random", *sorted(available - {"random"}))
    contenders = []
    for name in dict.fromkeys(names):
        entry = find_agent(name)
        if not entry.agent.learns:
            interface = _interface(suite, config, settings, entry.agent.action_kinds[0], "flat")
            agent = entry.agent(entry.config(), interface, config.seed, suite.device)
            contenders.append(as_contender(agent))
            continue
        mine = [one for one in trained if one.config.agent_name == name]
        if not mine:
            raise InvalidSettingError(
                f"Agent {name!r} learns, so that it needs a trained policy: give run=runs/<name>, made with "
                f"`python train.py agent={name} name=<name>`."
            )
        for one in mine:
            built = one.agent.interface
            interface = _interface(suite, config, settings, built.action, built.observation)
            built.require_same(interface)
            # Two runs may have one name in different folders.
            same = sum(other.folder.name == one.folder.name for other in mine) > 1
            contenders.append(as_contender(one.agent, str(one.folder) if same else one.folder.name))
    return contenders


def _interface(
    suite: TaskSuite, config: ComparisonConfig, settings: Mapping[str, Any], action: str, observation: str
) -> Interface:
    rules = {**settings, "action": action, "observation": observation, "budget": config.budget}
    return Interface.of(HPOVectorEnv(1, source=suite, split=config.split, **rules))


def env_of_run(config: EnvironmentConfig, run: TrainedAgent, overridden: Sequence[str]) -> EnvironmentConfig:
    """Return a run's environment with the fields that the command line names replaced."""
    changes = {name: getattr(config, name) for name in overridden}
    return dataclasses.replace(run.config.env, **changes)
