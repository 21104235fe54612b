"""An evaluation of several contenders, from its rules to its tables: resumed, in parallel, with every failure named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hpo_gym import __version__
from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, require_integer
from hpo_gym.evaluation.assemble import assemble
from hpo_gym.evaluation.cells import CellStore
from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.contender import AnyContender, Contender, EpisodicContender
from hpo_gym.evaluation.loop import Played, Rules, Stage, Unit
from hpo_gym.evaluation.pool import Outcome, attempt, play_here, play_in_processes
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.fingerprint import content_digest
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["EvaluationResult", "Failure", "Progress", "evaluate", "evaluate_all"]

#: Called with a contender's label and the share of its episodes that are played, in ``[0, 1]``.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Failure:
    """Episodes that could not be played, and why.

    Args:
        agent, run: Whose.
        task: ``str(TaskRef)`` of the first.
        seed: Its repetition.
        episodes: How many were lost with it.
        error: The message, or the end of the traceback.
    """

    agent: str
    run: str
    task: str
    seed: int
    episodes: int
    error: str


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation gave.

    Args:
        records: Every trial.
        configurations: Every configuration, in the order of the records.
        failures: What is missing.
        reused: Episodes that were played by an earlier, interrupted or smaller, evaluation.
    """

    records: RecordTable
    configurations: ConfigurationTable
    failures: tuple[Failure, ...]
    reused: int

    def require_complete(self) -> EvaluationResult:
        """Return itself if nothing failed.

        Raises:
            EvaluationFailedError: Naming what did.
        """
        if self.failures:
            first = self.failures[0]
            count = sum(failure.episodes for failure in self.failures)
            raise EvaluationFailedError(
                f"{count} episode(s) failed, the first being agent {first.agent!r}, task {first.task}, seed "
                f"{first.seed}: {first.error.strip()}"
            )
        return self


def evaluate(
    contender: AnyContender,
    suite: TaskSuite,
    *,
    progress: Callable[[float], None] | None = None,
    **rules: Any,
) -> RecordTable:
    """Let one contender play every task of a split ``seeds`` times, in this process.

    Every episode spends exactly ``budget`` full evaluations, the one at reset included (trial 1); with
    ``multi_fidelity``, cheaper ones until the budget is spent. Nothing else is evaluated: an episode that has
    ended is not begun again.

    All contenders start a (task, seed) from the same configuration, whatever kind of action they take. It
    is the one that ``settings`` ask for, moved to the nearest point of the ``grid_step`` grid, because such a
    contender can begin nowhere else. A random start depends on ``seed``, the task's position in the suite and
    the number of the repetition alone. What a contender draws while it acts depends on ``seed`` and the repetitions,
    and on no name (common random numbers): equal policies play equal episodes.

    Args:
        contender: What to evaluate.
        suite: The tasks; everything is computed on its device.
        progress: Called with the share done, in ``(0, 1]``.
        rules: Fields of :class:`~hpo_gym.evaluation.Rules`: ``split``, ``protocol``, ``seeds``, ``seed``,
            ``budget``, ``initial_points``, ``published_points``, ``settings``, ``first_seed``.

    Returns:
        One row per trial.

    Raises:
        UnknownNameError: For an unknown split, protocol, kind of action or observation, or setting.
        InvalidSettingError: For an impossible value, an empty split, or a setting that would make budgets unequal.
        InvalidActionError: If the contender returns something that is no action.
    """
    stage = Stage(contender, suite, Rules(**rules))
    played: list[Played] = []
    units = stage.units()
    for unit in units:

        def report(share: float, unit: Unit = unit) -> None:
            if progress is not None:
                progress((unit.first - units[0].first + share * unit.count) / stage.episodes)

        played.append(stage.play(unit, report))
    return assemble([stage], [played])[0]


def evaluate_all(
    contenders: Sequence[AnyContender],
    suite: TaskSuite,
    rules: Rules,
    *,
    store: CellStore | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Let every contender play every task of a split ``rules.seeds`` times; see :func:`evaluate`.

    A :class:`~hpo_gym.evaluation.Contender` plays thousands of episodes at once in this process; an
    :class:`~hpo_gym.evaluation.EpisodicContender` one by one, in ``workers`` processes. The records are the same
    whatever the number of workers, but for ``agent_seconds``.

    Args:
        contenders: Who plays.
        suite: The tasks.
        rules: What holds for all.
        store: Where played episodes are kept, and taken from if they are there.
        workers: Processes for episodic contenders; 1 plays them here.
        progress: Called whenever something was played.

    Raises:
        As :func:`evaluate`, before the first evaluation; what fails later is in the result.
    """
    require_integer("workers", workers, 1)
    if not contenders:
        raise InvalidSettingError("There is nobody to evaluate: give at least one contender.")
    stages = [Stage(contender, suite, rules) for contender in contenders]
    labels = [f"{contender.name} {contender.run}".strip() for contender in contenders]
    common = _identity(suite, rules)
    played: list[list[Played]] = [[] for _ in stages]
    done = [0] * len(stages)
    failures: list[Failure] = []
    reused = 0

    def report(index: int, more: float = 0.0) -> None:
        if progress is not None:
            progress(labels[index], (done[index] + more) / stages[index].episodes)

    def take(outcome: Outcome) -> None:
        stage, unit = stages[outcome.stage], outcome.unit
        if outcome.played is None:
            failures.append(_failure(stage, unit, outcome.error))
        else:
            if store is not None:
                store.put(_key(common, stage, unit), outcome.played)
            played[outcome.stage].append(outcome.played)
        done[outcome.stage] += unit.count
        report(outcome.stage)

    work: list[tuple[int, Unit]] = []
    for index, stage in enumerate(stages):
        for unit in stage.units():
            found = None if store is None else store.get(_key(common, stage, unit))
            if found is None:
                work.append((index, unit))
                continue
            played[index].append(found)
            done[index] += unit.count
            reused += unit.count
        report(index)
    for index, unit in work:
        if isinstance(contenders[index], Contender):

            def within(share: float, index: int = index, unit: Unit = unit) -> None:
                report(index, share * unit.count)

            take(attempt(stages[index], index, unit, within))
    episodic = {index: stage for index, stage in enumerate(stages) if isinstance(stage.contender, EpisodicContender)}
    left = [item for item in work if item[0] in episodic]
    # Not more processes than there is work, and none for a single episode.
    processes = min(workers, len(left))
    outcomes = play_in_processes(episodic, left, processes) if processes > 1 else play_here(episodic, left)
    for outcome in outcomes:
        take(outcome)
    records, configurations = assemble(stages, played)
    return EvaluationResult(records, configurations, tuple(failures), reused)


def _identity(suite: TaskSuite, rules: Rules) -> dict[str, Any]:
    """Return what decides the trials of every contender alike."""
    chosen = asdict(rules) | {"settings": dict(rules.settings)}
    # An episode is the same whatever there is besides it.
    del chosen["seeds"], chosen["first_seed"]
    # Only where they matter: what was played before they were there is the same.
    del chosen["published_points"]
    if rules.published_points and suite.initial_points is not None:
        chosen["published_points"] = content_digest([("initial_points", suite.initial_points)])
    # A split may come to hold other tasks, by whose number alone its episodes are not theirs.
    chosen["played"] = [str(suite.tasks[index]) for index in suite.split(rules.protocol, rules.split)]
    return {
        "rules": chosen,
        "source": suite.spec.source,
        "metric": suite.spec.metric,
        "measured": suite.measured_facts,
        "tasks": [str(task) for task in suite.tasks],
        "space": repr(suite.space.spec),
        "data": content_digest(sorted(suite.named_buffers()) + sorted(suite.named_parameters())),
        "device": suite.device.type,
        "versions": {"hpo_gym": __version__, "torch": torch.__version__},
    }


def _key(common: Mapping[str, Any], stage: Stage, unit: Unit) -> str:
    """Return the fingerprint of everything that decides what a unit's episodes are."""
    contender = stage.contender
    who = {"name": contender.name, "action": contender.action, "observation": contender.observation}
    # A batch draws from one stream, so that its size is part of what was drawn.
    which = {"first": unit.first, "count": unit.count, "tasks": len(stage.engine.tasks)}
    return CellStore.key({**common, "contender": {**who, **contender.fingerprint}, "episodes": which})


def _failure(stage: Stage, unit: Unit, error: str) -> Failure:
    tasks = stage.engine.tasks
    task = stage.engine.suite.tasks[int(tasks[unit.first % len(tasks)])]
    contender = stage.contender
    return Failure(contender.name, contender.run, str(task), unit.first // len(tasks), unit.count, error)
