"""Agents by name and trained agents from run folders, on the same held-out tasks; what ``evaluate.py`` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.base import Interface
from agents.contenders import as_contender, evaluation_settings
from agents.environments import EnvironmentConfig, make_environment, resolved
from agents.experiment import TrainedAgent, load_trained
from agents.registry import find_agent
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError, unknown_name
from hpo_gym.evaluation import Contender, RecordTable, chosen_trials, evaluate
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.splits import check_no_leak, split_tasks
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["Comparison", "ComparisonConfig", "compare", "env_of_runs", "prepare"]

Progress = Callable[[str, float], None]

# How fast a run computed, and from which folder it read, says nothing about what it learned.
_NO_PROPERTY = ("num_envs", "device", "data_dir", "render_mode")
# What an agent learns from, and how it acts: agents of different kinds may differ in it.
_OF_AGENT = ("action", "observation", "reward", "reward_scale", "terminate_on_repeat")


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and on what.

    Args:
        agents: Names of agents; ``None`` means ``random`` and those of ``runs``.
        runs: Run folders; several of one agent are averaged. Agents that do not learn need none, and then have
            their default settings.
        env: The environment; its action and observation are those of each agent.
        split: Which tasks.
        seeds: Repetitions per task.
        seed: Root of the seed tree.
        budget: Evaluations per episode, the first included; ``None`` means the environment's.
        reference: Agent that the others are compared with; ``None`` means ``random`` where it takes part.
        trials: When regret is reported; ``None`` means :func:`~hpo_gym.evaluation.chosen_trials`.
        allow_leak: Whether tasks may be evaluated whose datasets a policy was trained on, or chosen by.
    """

    agents: tuple[str, ...] | None = None
    runs: tuple[str, ...] = ()
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    split: str = "test"
    seeds: int = 5
    seed: int = 0
    budget: int | None = None
    reference: str | None = None
    trials: tuple[int, ...] | None = None
    allow_leak: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (("seeds", self.seeds, 1), ("seed", self.seed, 0)):
            if value < least:
                raise InvalidSettingError(f"{name}={value!r} must be at least {least}.")
        if self.agents == ():
            raise InvalidSettingError(
                "agents=[] names no agent. Write for example agents=[random], or leave it out to compare the agents "
                "of run= with random search."
            )
        folders = [Path(path).resolve() for path in self.runs]
        for path, folder in zip(self.runs, folders, strict=True):
            if folders.count(folder) > 1:
                raise InvalidSettingError(f"run={path} is named more than once, and would count twice. Name it once.")


@dataclass(frozen=True)
class Comparison:
    """A comparison whose settings were all checked.

    Args:
        config: What it was made from.
        contenders: Who takes part.
        suite: The tasks.
        settings: Rules of the episodes that hold for every contender.
        protocol: Split protocol.
        budget: Evaluations per episode.
        reference: Agent that the others are compared with.
        trials: When regret is reported.
    """

    config: ComparisonConfig
    contenders: tuple[Contender, ...]
    suite: TaskSuite
    settings: Mapping[str, Any]
    protocol: str
    budget: int
    reference: str
    trials: tuple[int, ...]

    def environment(self) -> dict[str, Any]:
        """Return what was evaluated, nothing left open, as plain values."""
        env, suite = self.config.env, self.suite
        return {
            "id": env.id,
            "source": suite.spec.source,
            "space": suite.name,
            "metric": suite.spec.metric,
            "split": self.config.split,
            "protocol": self.protocol,
            "budget": self.budget,
            **self.settings,
            "source_options": dict(env.source_options),
            "data_dir": env.data_dir,
            "device": str(suite.device),
        }

    def run(self, progress: Progress | None = None) -> RecordTable:
        """Evaluate every contender with one loop and one counter."""
        tables = []
        for contender in self.contenders:
            label = f"{contender.name} {contender.run}".strip()
            report = None if progress is None else _report(progress, label)
            tables.append(
                evaluate(
                    contender,
                    self.suite,
                    split=self.config.split,
                    protocol=self.protocol,
                    seeds=self.config.seeds,
                    seed=self.config.seed,
                    budget=self.budget,
                    settings=self.settings,
                    progress=report,
                )
            )
        return RecordTable.concat(tables)


def compare(config: ComparisonConfig, progress: Progress | None = None) -> RecordTable:
    """Evaluate every agent of a comparison; see :func:`prepare` for what it raises."""
    return prepare(config).run(progress)


def prepare(config: ComparisonConfig) -> Comparison:
    """Load everything that a comparison needs and check all its settings, before anything is evaluated.

    Raises:
        InvalidSettingError: If a learning agent has no run, a run fits another environment, or a value is impossible.
        UnknownNameError: For an unknown agent, reference, split or name of the environment.
        SplitLeakError: If a trained agent has seen a dataset that it would be tested on.
    """
    for name in config.agents or ():
        find_agent(name)
    # What the environment would reward is never asked for, and may need a range that is not known.
    rules = dataclasses.replace(config.env, reward=None, reward_scale=None, terminate_on_repeat=None)
    changes = {} if config.budget is None else {"budget": config.budget}
    env = make_environment(rules, num_envs=1, split=config.split, **changes)
    suite, protocol, budget = env.suite, env.engine.protocol, env.engine.settings.budget
    suite.require_range()
    trained = [load_trained(path, env.device) for path in config.runs]
    if not config.allow_leak:
        tasks = [suite.tasks[index] for index in split_tasks(suite.name, protocol, config.split, suite.tasks)]
        _require_unseen(trained, [dataset_key(task) for task in tasks], config.split)
    settings = evaluation_settings(env)
    contenders = _contenders(config, trained, suite, protocol, {**settings, "budget": budget})
    names = sorted({contender.name for contender in contenders})
    reference = config.reference or ("random" if "random" in names else names[0])
    if reference not in names:
        raise unknown_name("reference agent", reference, names, "Add it with agents=[...].")
    trials = _trials(config.trials, budget)
    return Comparison(config, tuple(contenders), suite, settings, protocol, budget, reference, trials)


def env_of_runs(
    config: EnvironmentConfig, runs: Sequence[TrainedAgent], overridden: Sequence[str]
) -> EnvironmentConfig:
    """Return the environment that runs were trained on, with the fields that the command line names replaced.

    Raises:
        InvalidSettingError: If they were trained on different ones.
    """
    changes = {name: getattr(config, name) for name in overridden}
    _require_agreement(runs, overridden)
    return dataclasses.replace(runs[0].config.env, **changes)


def _require_agreement(runs: Sequence[TrainedAgent], overridden: Sequence[str]) -> None:
    for other in runs[1:]:
        first = runs[0]
        free = {*_NO_PROPERTY, *overridden}
        if other.config.agent_name != first.config.agent_name:
            free |= set(_OF_AGENT)
        mine, theirs = resolved(first.config.env), resolved(other.config.env)
        different = [
            f"env.{name}: {mine.get(name)!r} against {theirs.get(name)!r}"
            for name in sorted({*mine, *theirs} - free)
            if mine.get(name) != theirs.get(name)
        ]
        if different:
            raise InvalidSettingError(
                f"{first.folder} and {other.folder} were trained on different environments ({'; '.join(different)}): "
                "their mean would mean nothing. Evaluate them one by one."
            )


def _require_unseen(runs: Sequence[TrainedAgent], testing: Sequence[str], split: str) -> None:
    remedy = "To measure it nonetheless: allow_leak=true."
    for run in runs:
        try:
            check_no_leak(run.training_datasets, testing)
        except SplitLeakError as error:
            raise SplitLeakError(f"{run.folder}: {error} {remedy}") from error
        chosen_by = sorted(set(run.validation_datasets) & set(testing))
        if chosen_by:
            raise SplitLeakError(
                f"{run.folder}: by its regret on {len(chosen_by)} dataset(s) of split={split} ({chosen_by[0]}, ...) "
                f"this policy was chosen, so that it is too good there. Use split=test. {remedy}"
            )


def _trials(given: tuple[int, ...] | None, budget: int) -> tuple[int, ...]:
    if given is None:
        return chosen_trials(budget)
    wrong = [trial for trial in given if not 1 <= trial <= budget]
    if wrong or not given:
        raise InvalidSettingError(
            f"trials={list(given)} must name trials in 1 .. {budget}: an episode spends {budget} evaluations. Write "
            f"for example trials=[{budget}], or choose a larger budget."
        )
    return tuple(sorted(set(given)))


def _report(progress: Progress, label: str) -> Callable[[float], None]:
    def report(share: float) -> None:
        progress(label, share)

    return report


def _contenders(
    config: ComparisonConfig,
    trained: Sequence[TrainedAgent],
    suite: TaskSuite,
    protocol: str,
    rules: Mapping[str, Any],
) -> list[Contender]:
    def interface(action: str, observation: str) -> Interface:
        changes = {**rules, "action": action, "observation": observation}
        env = HPOVectorEnv(1, source=suite, split=config.split, protocol=protocol, device=suite.device, **changes)
        return Interface.of(env)

    available = {one.config.agent_name for one in trained}
    names = config.agents if config.agents is not None else ("random", *sorted(available - {"random"}))
    for one in trained:
        if one.config.agent_name not in names:
            raise InvalidSettingError(
                f"{one.folder} is a run of {one.config.agent_name!r}, which agents=[{','.join(names)}] leaves out. Add "
                "it to agents, or leave out that run."
            )
    contenders = []
    for name in dict.fromkeys(names):
        entry = find_agent(name)
        mine = [one for one in trained if one.config.agent_name == name]
        if not entry.agent.learns:
            # What it does depends on its settings alone: those of its run, if there is one, with the actions that
            # suit it best. Random search must not become a random walk because somebody trained it on grid steps.
            preferred = interface(entry.agent.action_kinds[0], entry.agent.observation_kinds[0])
            settings = {_run_name(one, mine): one.config.agent for one in mine} or {"": entry.config()}
            for run, chosen in settings.items():
                contenders.append(as_contender(entry.agent(chosen, preferred, config.seed, suite.device), run))
            continue
        if not mine:
            raise InvalidSettingError(
                f"Agent {name!r} learns, so that it needs a trained policy: give run=runs/<name>, made with "
                f"`python train.py agent={name} name=<name>`."
            )
        for one in mine:
            built = one.agent.interface
            try:
                built.require_same(interface(built.action, built.observation))
            except InvalidSettingError as error:
                raise InvalidSettingError(f"{one.folder}: {error}") from error
            contenders.append(as_contender(one.agent, _run_name(one, mine)))
    return contenders


def _run_name(run: TrainedAgent, others: Sequence[TrainedAgent]) -> str:
    """Return the name of a run's folder, or all of its path where two runs have one name in different folders."""
    same = sum(other.folder.name == run.folder.name for other in others) > 1
    return str(run.folder) if same else run.folder.name
