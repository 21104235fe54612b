"""Agents by name and trained agents from run folders, on the same held-out tasks; what ``evaluate.py`` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.contenders import evaluation_settings
from agents.environments import EnvironmentConfig, make_environment, resolved
from agents.experiment import TrainedAgent, load_trained
from agents.participants import Field, Participants
from agents.registry import find_agent
from agents.shipped_policies import load_fitting
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, require_booleans, unknown_name
from hpo_gym.evaluation import CellStore, EvaluationResult, RecordTable, Rules, chosen_trials, evaluate_all
from hpo_gym.evaluation.contender import AnyContender
from hpo_gym.evaluation.loop import Stage
from hpo_gym.evaluation.protocols import Protocol, find_protocol
from hpo_gym.evaluation.run import Progress
from hpo_gym.evaluation.significance import require_libraries
from hpo_gym.sources.trainings import deciding_options
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["Comparison", "ComparisonConfig", "compare", "env_of_runs", "prepare", "shipped_policies"]

_SEEDS = 5

# How fast a run computed, and from which folder it read, says nothing about what it learned.
_NO_PROPERTY = ("num_envs", "device", "data_dir", "render_mode", "tasks_seed")
# What an agent learns from, and how it acts: agents of different kinds may differ in it.
_OF_AGENT = ("action", "observation", "reward", "reward_scale", "cost_weight", "terminate_on_repeat")


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and on what.

    Args:
        agents: Names of agents; ``None`` means ``random`` and those of ``runs``.
        runs: Run folders; several of one agent are averaged. Agents that do not learn need none, and then have
            their default settings.
        env: The environment; its action and observation are those of each agent.
        protocol: Name of an evaluation protocol, which says what methods may have learned from (see
            :mod:`hpo_gym.evaluation.protocols`); ``None``: whatever does not leak.
        split: Which tasks.
        seeds: Repetitions per task; ``None`` means the protocol's, or 5.
        seed: Root of the seed tree.
        budget: Evaluations per episode, the first included; ``None`` means the protocol's, or the environment's.
        initial_points: Shared random configurations after the start; ``None`` means the protocol's, or none.
        reference: Agent that the others are compared with; ``None`` means ``random`` where it takes part.
        trials: When regret is reported; ``None`` means :func:`~hpo_gym.evaluation.chosen_trials`.
        settings: Settings of agents that are not trained, by agent and name.
        allow_leak: Whether tasks may be evaluated whose datasets a policy was trained on, or chosen by.
        first_seed: Number of the first repetition, to add to what was played.
    """

    agents: tuple[str, ...] | None = None
    runs: tuple[str, ...] = ()
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    protocol: str | None = None
    split: str = "test"
    seeds: int | None = None
    seed: int = 0
    budget: int | None = None
    initial_points: int | None = None
    reference: str | None = None
    trials: tuple[int, ...] | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allow_leak: bool = False
    first_seed: int = 0

    def __post_init__(self) -> None:
        require_booleans(self)
        for name, value, least in (("seeds", self.seeds, 1), ("seed", self.seed, 0)):
            if value is not None and value < least:
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
        rules: What holds for every contender.
        reference: Agent that the others are compared with.
        trials: When regret is reported.
        training_evaluations: Evaluations on training tasks that methods made before, by agent.
    """

    config: ComparisonConfig
    contenders: tuple[AnyContender, ...]
    suite: TaskSuite
    rules: Rules
    reference: str
    trials: tuple[int, ...]
    training_evaluations: Mapping[str, int]

    @property
    def budget(self) -> int:
        """Full evaluations per episode."""
        return self.rules.budget

    def environment(self) -> dict[str, Any]:
        """Return what was evaluated, nothing left open, as plain values."""
        env, suite = self.config.env, self.suite
        return {
            "id": env.id,
            "source": suite.spec.source,
            "space": suite.name,
            "metric": suite.spec.metric,
            "split": self.rules.split,
            "protocol": self.rules.protocol,
            "budget": self.rules.budget,
            **self.rules.settings,
            "source_options": dict(env.source_options),
            "data_dir": env.data_dir,
            # Files of one name may be several.
            **({"sha256": suite.spec.provenance.get("sha256")} if suite.spec.source == "runs" else {}),
            "device": str(suite.device),
        }

    def run(
        self, progress: Progress | None = None, store: CellStore | None = None, workers: int = 1
    ) -> EvaluationResult:
        """Evaluate every contender with one loop and one counter."""
        return evaluate_all(self.contenders, self.suite, self.rules, store=store, workers=workers, progress=progress)


def compare(config: ComparisonConfig, progress: Progress | None = None) -> RecordTable:
    """Evaluate every agent of a comparison; see :func:`prepare` for what it raises.

    Raises:
        EvaluationFailedError: If an episode could not be played.
    """
    return prepare(config).run(progress).require_complete().records


def prepare(config: ComparisonConfig) -> Comparison:
    """Load everything that a comparison needs and check all its settings, before anything is evaluated.

    Raises:
        InvalidSettingError: If a learning agent has no run, a run fits another environment, or a value is impossible.
        UnknownNameError: For an unknown agent, protocol, reference, split or name of the environment.
        SplitLeakError: If a method has seen a dataset or a space that it would be tested on.
    """
    for name in config.agents or ():
        find_agent(name)
    for name, values in config.settings.items():
        if not isinstance(values, Mapping):
            raise InvalidSettingError(
                f"settings.{name}={values!r} must name a setting of the agent: settings.{name}.<setting>=<value>."
            )
    protocol = None if config.protocol is None else find_protocol(config.protocol)
    if protocol is not None and config.allow_leak:
        raise InvalidSettingError(
            f"allow_leak=true: what is measured then is not protocol={config.protocol}. Leave one of them out."
        )
    env = _environment(config, protocol)
    suite, splits = env.suite, env.engine.protocol
    if not suite.measured:
        suite.require_range()
    rules = Rules(
        split=config.split,
        protocol=splits,
        seeds=_first(config.seeds, protocol and protocol.seeds, _SEEDS),
        seed=config.seed,
        budget=env.engine.settings.budget,
        initial_points=_first(config.initial_points, protocol and protocol.initial_points, 0),
        published_points=_published_points(config, protocol),
        settings=evaluation_settings(env),
        first_seed=config.first_seed,
    )
    place = Field(
        suite=suite,
        split=config.split,
        protocol=splits,
        rules={**rules.settings, "budget": rules.budget},
        knowledge="same-space" if protocol is None else protocol.knowledge,
        label=config.protocol or "none",
        seed=config.seed,
        allow_leak=config.allow_leak,
    )
    trained = [load_trained(path, env.device) for path in config.runs]
    trained += shipped_policies(config.agents or (), trained, suite)
    participants = Participants(place, config.agents, trained, config.settings)
    for contender in participants.contenders:
        Stage(contender, suite, rules)
    names = sorted({contender.name for contender in participants.contenders})
    reference = config.reference or ("random" if "random" in names else names[0])
    if reference not in names:
        raise unknown_name("reference agent", reference, names, "Add it with agents=[...].")
    require_libraries(len(names))
    trials = _trials(config.trials, rules.budget)
    evaluations = participants.training_evaluations
    return Comparison(config, tuple(participants.contenders), suite, rules, reference, trials, evaluations)


def shipped_policies(names: Sequence[str], runs: Sequence[TrainedAgent], suite: TaskSuite) -> list[TrainedAgent]:
    """Return the policies that travel with the repository, of the learning agents that no run is given of.

    A policy of an embedded space plays the scenario that the space was fitted to, too.
    """
    given = {run.config.agent_name for run in runs}
    learned = [name for name in dict.fromkeys(names) if find_agent(name).agent.learns and name not in given]
    found = [load_fitting(name, suite) for name in learned]
    return [policy for policy in found if policy is not None]


def _environment(config: ComparisonConfig, protocol: Protocol | None) -> HPOVectorEnv:
    """Return an environment with the objective and the rules of the comparison."""
    # What the environment would reward is never asked for, and may need a range that is not known.
    given = dataclasses.replace(config.env, reward=None, reward_scale=None, cost_weight=None, terminate_on_repeat=None)
    changes: dict[str, Any] = {} if config.budget is None else {"budget": config.budget}
    if protocol is not None:
        source = {"source": protocol.source} if protocol.source else {}
        decided = {"protocol": protocol.splits, **source, **protocol.settings}
        for name, value in decided.items():
            other = getattr(given, name)
            if other not in (None, value):
                raise InvalidSettingError(
                    f"env.{name}={other} contradicts protocol={protocol.name}, which has {name}={value}. Leave out "
                    f"env.{name}, or choose another protocol."
                )
        changes = {"budget": protocol.budget} | decided | changes
        if given.budget is not None:
            changes["budget"] = _first(config.budget, given.budget, None)
    # However few tasks an agent was trained on: the split that is played is whole.
    env = make_environment(given, num_envs=1, split=config.split, max_tasks=None, tasks_seed=0, **changes)
    if protocol is not None:
        _require_fit(env, protocol, config.split)
    if protocol is not None and env.engine.settings.multi_fidelity and not protocol.settings.get("multi_fidelity"):
        raise InvalidSettingError(
            f"env.multi_fidelity=True contradicts protocol={protocol.name}. Use protocol=multi-fidelity."
        )
    return env


def _require_fit(env: HPOVectorEnv, protocol: Protocol, split: str) -> None:
    """Refuse tasks that are not those of a protocol."""
    source = env.suite.spec.source
    if protocol.sources and source not in protocol.sources:
        raise InvalidSettingError(
            f"protocol={protocol.name} is about tasks of {', '.join(protocol.sources)}; those of {env.suite.name} come "
            f"from {source!r}. Choose another env, or leave out protocol."
        )
    if split not in (protocol.split, "val"):
        raise InvalidSettingError(
            f"split={split} is not what protocol={protocol.name} plays: split={protocol.split} (split=val while a "
            "method is developed). Leave out protocol to play it nonetheless."
        )


def _published_points(config: ComparisonConfig, protocol: Protocol | None) -> bool:
    # Nobody publishes where the validation tasks begin: there the initial points are random.
    return protocol is not None and protocol.published_points and config.split == protocol.split


def _first(*values: Any) -> Any:
    """Return the first value that is given."""
    return next((value for value in values if value is not None), None)


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
        mine, theirs = (
            {**found, "source_options": deciding_options(found.get("source_options"))}
            for found in (resolved(first.config.env), resolved(other.config.env))
        )
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
