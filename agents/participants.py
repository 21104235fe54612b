"""Who takes part in a comparison: agents by name and trained agents from run folders, as contenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agents.base import Agent, Interface
from agents.configuration import build
from agents.contenders import as_contender
from agents.environments import ENVIRONMENTS, EnvironmentConfig, preset, resolved
from agents.experiment import TrainedAgent
from agents.kindred_spaces import names_of_space
from agents.problem import Problem, TrainingTasks
from agents.registry import find_agent
from agents.shipped_policies import is_shipped, shipped_names
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError, unknown_name
from hpo_gym.evaluation.contender import AnyContender
from hpo_gym.evaluation.protocols import Knowledge
from hpo_gym.fingerprint import content_digest
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.splits import check_no_leak
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["Field", "Participants"]

_MEASURE_NONETHELESS = "To measure it nonetheless: allow_leak=true, without protocol=."


@dataclass(frozen=True)
class Field:
    """Where participants meet, and what they may know.

    Args:
        suite: The tasks.
        split: The part that is played.
        protocol: Split protocol.
        rules: Fields of :class:`~hpo_gym.mdp.EpisodeSettings` that hold for all, the budget included.
        knowledge: What a method may have learned from.
        label: How the user calls the protocol, for messages.
        seed: Root of the seed tree.
        allow_leak: Whether datasets may be played that a method has seen.
    """

    suite: TaskSuite
    split: str
    protocol: str
    rules: Mapping[str, Any]
    knowledge: Knowledge
    label: str
    seed: int
    allow_leak: bool

    def environment(self, action: str, observation: str) -> HPOVectorEnv:
        """Return an environment with actions and observations of these kinds."""
        changes = {**self.rules, "action": action, "observation": observation}
        suite = self.suite
        return HPOVectorEnv(1, suite, split=self.split, protocol=self.protocol, device=suite.device, **changes)

    def datasets(self, split: str) -> list[str]:
        """Return the datasets of a split."""
        return [dataset_key(self.suite.tasks[index]) for index in self.suite.split(self.protocol, split)]

    def require_unseen(self, runs: Sequence[TrainedAgent]) -> None:
        """Refuse policies that know more than they may.

        Raises:
            SplitLeakError: If one has seen a dataset, or the space, that it would be tested on.
        """
        for run in runs:
            if run.agent.learns:
                self._require_allowed_knowledge(run)
            if self.allow_leak:
                continue
            try:
                check_no_leak(run.training_datasets, self.datasets(self.split))
            except SplitLeakError as error:
                raise SplitLeakError(f"{run.folder}: {error} {_MEASURE_NONETHELESS}") from error
            chosen_by = sorted(set(run.validation_datasets) & set(self.datasets(self.split)))
            if chosen_by:
                raise SplitLeakError(
                    f"{run.folder}: by its regret on {len(chosen_by)} dataset(s) of split={self.split} "
                    f"({chosen_by[0]}, ...) this policy was chosen, so that it is too good there. Use split=test. "
                    f"{_MEASURE_NONETHELESS}"
                )

    def _require_allowed_knowledge(self, run: TrainedAgent) -> None:
        name, space = run.config.agent_name, self.suite.name
        # What travels with the repository was not asked for as a run.
        who, leave_out = str(run.folder), "Leave the run out"
        if is_shipped(run):
            who, leave_out = f"The policy of {name!r} that travels with hpo_gym", f"Leave {name} out of agents=[...]"
        if self.knowledge == "none":
            raise SplitLeakError(
                f"{who}: protocol={self.label} gives no data from before, and {name!r} was trained. {leave_out}, or "
                "use protocol=openml-transfer."
            )
        if self.knowledge != "other-spaces":
            return
        unseen = f"{who}: protocol={self.label} tests on spaces that were never seen"
        if not run.agent.any_space:
            raise SplitLeakError(
                f"{unseen}, and {name!r} plays the space it was trained on alone. {leave_out}, or use "
                "protocol=openml-transfer."
            )
        same = sorted(names_of_space(space) & set(run.agent.training_spaces))
        if same:
            form = "" if same[0] == space else f", which {space!r} is another form of"
            raise SplitLeakError(
                f"{unseen}, and {name!r} was trained on {same[0]!r}{form}. Use another env.space, or "
                "protocol=openml-transfer."
            )

    def training(self, agent: type[Agent]) -> TrainingTasks | None:
        """Return the training tasks for a method that learns from them by itself.

        Raises:
            SplitLeakError: If it may not, or would be tested on them.
        """
        if not agent.uses_training_tasks:
            return None
        if self.knowledge != "same-space":
            raise SplitLeakError(
                f"Agent {agent.name!r} learns from training tasks of the space it is tested on, which protocol="
                f"{self.label} does not give. Leave it out, or use protocol=openml-transfer."
            )
        if not self.allow_leak:
            try:
                check_no_leak(self.datasets("train"), self.datasets(self.split))
            except SplitLeakError as error:
                raise SplitLeakError(f"Agent {agent.name!r}: {error} {_MEASURE_NONETHELESS}") from error
        tasks = self.suite.split(self.protocol, "train")
        return TrainingTasks(self.suite, torch.tensor(tasks, dtype=torch.int64, device=self.suite.device))


class Participants:
    """The contenders of a comparison.

    Args:
        field: Where they meet.
        names: Names of agents; ``None`` means ``random`` and those of ``runs``.
        runs: Trained agents.
        settings: Settings of agents that are not trained, by agent and name.

    Raises:
        UnknownNameError: For an unknown agent, or settings of one that does not take part.
        InvalidSettingError: If a learning agent has no run, a run fits another environment, or a value is impossible.
        SplitLeakError: If a method knows more than it may.
    """

    def __init__(
        self,
        field: Field,
        names: Sequence[str] | None,
        runs: Sequence[TrainedAgent],
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        available = {run.config.agent_name for run in runs}
        chosen = names if names is not None else ("random", *sorted(available - {"random"}))
        self._names, self._field, self._settings = tuple(dict.fromkeys(chosen)), field, settings
        for run in runs:
            if run.config.agent_name not in self._names:
                raise InvalidSettingError(
                    f"{run.folder} is a run of {run.config.agent_name!r}, which agents=[{','.join(self._names)}] "
                    "leaves out. Add it to agents, or leave out that run."
                )
        for name in settings:
            if name not in self._names:
                raise unknown_name("agent with settings", name, self._names, "Add it with agents=[...].")
        field.require_unseen(runs)
        #: Evaluations on training tasks that methods made before the comparison, by agent.
        self.training_evaluations: dict[str, int] = {}
        self.contenders: list[AnyContender] = []
        for name in self._names:
            mine = [run for run in runs if run.config.agent_name == name]
            self.contenders += self._learned(name, mine) if find_agent(name).agent.learns else self._plain(name, mine)

    def _plain(self, name: str, runs: Sequence[TrainedAgent]) -> list[AnyContender]:
        """Return a method that does not learn: what it does depends on its settings alone."""
        entry, field = find_agent(name), self._field
        training = field.training(entry.agent)
        # With the actions that suit it best: random search must not become a random walk because somebody trained it
        # on grid steps.
        env = field.environment(entry.agent.action_kinds[0], entry.agent.observation_kinds[0])
        given = build(entry.config, self._settings.get(name, {}), f"setting of agent {name!r}")
        configs = {_run_name(run, runs): run.config.agent for run in runs} or {"": given}
        if runs and name in self._settings:
            raise InvalidSettingError(
                f"settings.{name} and run={runs[0].folder} both say how {name!r} is set. Leave out one of them."
            )
        contenders = []
        for run, config in configs.items():
            agent = entry.agent(config, Interface.of(env), field.seed, field.suite.device)
            agent.prepare(Problem.of(env, training))
            learned = {} if training is None else {"training_datasets": sorted(field.datasets("train"))}
            contenders.append(as_contender(agent, run, learned))
        if training is not None:
            self.training_evaluations[name] = training.evaluations
        return contenders

    def _environment(self) -> str:
        """Return the setting of train.py that names the source of the tasks, where that is not the default one."""
        source = self._field.suite.spec.source
        name = next((name for name in ENVIRONMENTS if resolved(preset(name))["source"] == source), None)
        return "" if name is None or preset(name) == EnvironmentConfig() else f"env={name} "

    def _learned(self, name: str, runs: Sequence[TrainedAgent]) -> list[AnyContender]:
        if name in self._settings:
            raise InvalidSettingError(
                f"settings.{name}: {name!r} is as it was trained. Train a run with those settings: `python train.py "
                f"agent={name} agent.<setting>=...`."
            )
        if not runs:
            raise InvalidSettingError(
                f"Agent {name!r} learns, so that it needs a trained policy, and none for {self._field.suite.name!r} "
                f"travels with hpo_gym (there are: {', '.join(shipped_names()) or 'none'}): give run=runs/<name>, made "
                f"with `python train.py agent={name} {self._environment()}env.space={self._field.suite.name} "
                "name=<name>`."
            )
        contenders = []
        for run in runs:
            built = run.agent.interface
            try:
                env = self._field.environment(built.action, built.observation)
                built.require_same(Interface.of(env), run.agent.any_space)
                run.agent.prepare(Problem.of(env))
            except InvalidSettingError as error:
                raise InvalidSettingError(f"{run.folder}: {error}") from error
            policy = {"policy": content_digest(sorted(run.agent.state_dict(resumable=False).items()))}
            contenders.append(as_contender(run.agent, _run_name(run, runs), policy))
        return contenders


def _run_name(run: TrainedAgent, others: Sequence[TrainedAgent]) -> str:
    """Return the name of a run's folder, or all of its path where two runs have one name in different folders."""
    same = sum(other.folder.name == run.folder.name for other in others) > 1
    return str(run.folder) if same else run.folder.name
