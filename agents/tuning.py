"""Tune a model of your own with any method of the zoo: trained policies, and those that know nothing before."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.comparison import shipped_policies
from agents.experiment import load_trained
from agents.participants import Field, Participants
from agents.progress import make_console
from agents.registry import find_agent
from agents.successive_halving import MultiFidelityAgent
from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, require_integer
from hpo_gym.evaluation.configurations import require_own_names
from hpo_gym.evaluation.contender import EpisodicContender
from hpo_gym.live.executors import ExecutorSettings
from hpo_gym.live.live_objective import LiveObjective
from hpo_gym.live.measurement import STATUSES
from hpo_gym.live.suite import suite_of
from hpo_gym.mdp.state import EpisodeState
from hpo_gym.seeding import generator
from hpo_gym.spaces.columns import Value
from hpo_gym.tasks.suite import Evaluation, TaskSuite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tuned", "tune"]

_PROTOCOL = "dataset-disjoint"
# Columns that say how a training ended.
_ENDED = ("fidelity", "status", "seconds", "best")
# Shares of a full training that differ by less are one.
_DECIMALS = 4

#: Called after every training with its row of :attr:`Tuned.trials`.
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a tuning found.

    Args:
        configuration: The best one of those that were trained with most data or epochs: values of its active
            hyperparameters.
        metric: What it is best by.
        value: Its validation score, in the metric's own unit.
        trials: Every training in order: ``trial`` (from 1), one column per hyperparameter (missing where inactive),
            one per metric, ``fidelity`` (share of a full training), ``status``
            (:data:`hpo_gym.live.STATUSES`), ``seconds`` and ``best`` (whether it was the best until then).
    """

    configuration: dict[str, Value]
    metric: str
    value: float
    trials: pd.DataFrame


def tune(
    objective: LiveObjective,
    method: str = "grpo_universal",
    *,
    budget: int = 30,
    start: Mapping[str, Value] | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    executor: ExecutorSettings | None = None,
    output: str | Path | None = None,
    trainings: str | Path | None = None,
    report: Report | None = None,
) -> Tuned:
    """Look for the best hyperparameters of a model on a dataset; every evaluation trains it.

    Args:
        objective: What is trained: :func:`hpo_gym.live.objective` for an estimator, space and data of your own,
            :func:`hpo_gym.live.preset_objective` for a model family.
        method: Name of an agent (``docs/agents``). ``grpo_universal`` is trained and plays any search space; ``tpe``,
            ``gp``, ``averaged_gp``, ``random`` and others know nothing before; ``hyperband``, ``asha`` and ``bohb``
            train with fewer rows or iterations at first.
        budget: Full trainings, the first included.
        start: The configuration to begin with, e.g. the one that is in use; ``None``: the default of the space.
        seed: Of the method. With equal seeds it does the same as long as scores are the same.
        run: Folder of a trained policy of ``method``; ``None``: one that travels with the repository.
        settings: Of a method that is not trained.
        executor: Where models are trained, and under which limits; ``None``: in worker processes here.
        output: A CSV file for the trials, one line after each training, so that none is lost; it must not exist.
        trainings: A file where finished trainings are kept, and from where they are taken: the same call after a
            kill, with another ``output``, trains only what was not trained before. ``None``: none.
        report: Called after every training; ``None`` prints a line.

    Raises:
        UnknownNameError: For an unknown method, setting or hyperparameter.
        InvalidSettingError: If the method cannot play here, or for an impossible value.
        EvaluationFailedError: If no training ended well; ``output`` has all of them.
        DataMissingError: If there is no such run.
        OSError: If ``output`` cannot be written.
    """
    agent = find_agent(method).agent
    if agent.uses_training_tasks:
        raise InvalidSettingError(
            f"method={method!r} learns from other datasets of the same search space, and there is one dataset. Use "
            "'grpo_universal', which has learned already, or 'averaged_gp'."
        )
    if not isinstance(objective, LiveObjective):
        raise InvalidSettingError(
            f"objective={objective!r} must be what hpo_gym.live.objective or preset_objective returns. A function of "
            "your own is played as an environment: hpo_gym.live.live_suite."
        )
    require_integer("budget", budget, 2, "the first training is that of the start")
    suite = suite_of([objective], executor=executor, trainings=trainings)
    rules: dict[str, Any] = {
        "budget": budget,
        "multi_fidelity": issubclass(agent, MultiFidelityAgent),
        "start": "default" if start is None else "fixed",
        "start_configuration": start,
        # Nobody knows the range of scores that a reward would need, and no reward is looked at.
        "reward": "score",
        "reward_scale": "none",
    }
    trained = [] if run is None else [load_trained(run)]
    trained += shipped_policies([method], trained, suite)
    # Whoever tunes a dataset may have trained on it.
    field = Field(suite, "all", _PROTOCOL, rules, "same-space", "none", seed, allow_leak=True)
    (contender,) = Participants(field, [method], trained, {} if settings is None else {method: settings}).contenders
    env = field.environment(contender.action, contender.observation)
    act = contender.begin() if isinstance(contender, EpisodicContender) else contender.act
    engine, dynamics, draws = env.engine, env.engine.dynamics, generator(seed, "tune")
    # With cheaper trainings there are more of them, nobody knows how many.
    total = None if rules["multi_fidelity"] else budget
    trials = _Trials(suite, None if output is None else Path(output), report or _print_line(suite.spec.metric, total))
    with torch.no_grad():
        state, outcome = engine.begin_with_outcome(1, draws)
        while True:
            assert outcome is not None  # it begins with a configuration
            trials.add(state, outcome.evaluation)
            if bool(outcome.terminated):
                return trials.tuned()
            action = act(dynamics.observe(state), dynamics.action_mask(state), draws)
            state, outcome = dynamics.step(state, engine.check_action(action, 1))


def _print_line(metric: str, total: int | None) -> Report:
    """Return what prints a line after every training; ``total`` is how many there will be, ``None`` where unknown."""
    of = "" if total is None else f" of {total}"
    console, best = make_console(), ["none yet"]

    def report(row: Mapping[str, Any]) -> None:
        value = f"{row[metric]:.4g}"
        if row["best"]:
            best[0] = value
        ended = "" if row["status"] == "ok" else f" ({row['status']})"
        text = f"training {row['trial']}{of}: {metric} {value}{ended}, best {best[0]}, {row['seconds']:.2f} s"
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    return report


class _Trials:
    """The trainings so far, and the file that they are written to.

    Args:
        suite: What is trained.
        output: The file; ``None``: none.
        report: Called with every row.
    """

    def __init__(self, suite: TaskSuite, output: Path | None, report: Report) -> None:
        self._suite, self._report = suite, report
        self._rows: list[dict[str, Any]] = []
        # Beside the rows, where a value of None cannot be told from none.
        self._configurations: list[dict[str, Value]] = []
        self._best, self._reached = 0, (0.0, -math.inf)
        self._metrics = [metric.name for metric in suite.surrogate.metrics]
        require_own_names(suite.space.names, ("trial", *self._metrics, *_ENDED))
        self._columns = ("trial", *suite.space.names, *self._metrics, *_ENDED)
        self._output = output
        if output is not None:
            if output.exists():
                raise InvalidSettingError(f"output={str(output)!r} is there already. Move it away, or name another.")
            if not output.absolute().parent.is_dir():
                raise InvalidSettingError(f"output={str(output)!r}: there is no folder {output.parent}. Make it first.")

    def add(self, state: EpisodeState, evaluation: Evaluation) -> None:
        """Take in a training."""
        configuration = self._suite.space.to_dicts(state.u)[0]
        row: dict[str, Any] = dict.fromkeys(self._columns)
        row |= {"trial": int(state.trial), "fidelity": float(state.fidelity), **configuration}
        row |= dict(zip(self._metrics, evaluation.metrics[0].tolist(), strict=True))
        seconds, status = self._suite.seconds(evaluation), evaluation.status
        row["seconds"] = None if seconds is None else float(seconds)
        row["status"] = STATUSES[0 if status is None else int(status)]
        # The start is the incumbent of an episode whatever came of it; nobody wants a configuration that failed, and
        # a cheap training only where none with more data or epochs ended well.
        reached = (round(row["fidelity"], _DECIMALS), float(state.score))
        row["best"] = row["status"] == "ok" and reached > self._reached
        if row["best"]:
            self._best, self._reached = len(self._rows), reached
        self._rows.append(row)
        self._configurations.append(configuration)
        if self._output is not None:
            if len(self._rows) == 1:
                # Not before: a call that fails at once can be made again.
                self._write(self._columns)
            self._write([row[name] for name in self._columns])
        self._report(row)

    def _write(self, values: Sequence[Any]) -> None:
        """Add a line to the file; it is on disk when this returns."""
        assert self._output is not None
        with self._output.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(values)
            file.flush()
            os.fsync(file.fileno())

    def tuned(self) -> Tuned:
        """Return what was found.

        Raises:
            EvaluationFailedError: If no training ended well.
        """
        import pandas as pd

        counts = Counter(str(row["status"]) for row in self._rows)
        if not counts["ok"]:
            told = [each.message.splitlines()[-1:] for each in getattr(self._suite.surrogate, "failures", ())]
            ended = ", ".join(f"{count} {status}" for status, count in counts.items())
            raise EvaluationFailedError(
                f"None of {len(self._rows)} trainings ended well ({ended}): there is nothing to choose from. The last "
                f"failure: {' '.join(told[-1]) if told else 'none, the search space forbids all of them'}"
            )
        metric, best = self._suite.spec.metric, self._rows[self._best]
        return Tuned(
            self._configurations[self._best],
            metric,
            float(best[metric]),
            pd.DataFrame(self._rows, columns=self._columns),
        )
