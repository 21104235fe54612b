"""Optuna behind our interface: a search space as distributions, an episode as a study.

A library that is asked for one configuration at a time keeps a model of what it asked and heard. So it is given every
hyperparameter in its own kind, conditions by define-by-run, and told its own parameters back: the environment's
float32 copy of them never enters its model where the original is known.

Optuna (Akiba et al., 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD) has no forbidden
clauses: it is told a forbidden suggestion with score 0 (at the random start: that it failed), and asked again. That
takes no evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.sequential import Optimizer, Suggestion, Trial
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Column

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial as OptunaTrial

__all__ = ["OptunaSpace", "StudyOptimizer", "quiet"]

# So many suggestions in a row may be forbidden; one more is evaluated, scores 0 and is paid for.
_MOST_FORBIDDEN = 20

#: Numbers of Optuna parameters by name; choices by position.
Parameters = dict[str, float | int]


def distribution(column: Column) -> BaseDistribution | None:
    """Return a hyperparameter in Optuna's terms, or ``None`` where there is nothing to choose.

    Floats and integers keep range and scale. Choices are known by position, so that ``1`` and ``True`` stay two of
    them; those of an ordinal hyperparameter are integers, which keeps their order (Optuna has no ordinals).
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if column.cardinality == 1:
        return None
    if column.kind == "float":
        return FloatDistribution(column.lower, column.upper, log=column.log)
    if column.kind == "integer":
        return IntDistribution(int(column.lower), int(column.upper), log=column.log)
    count = len(column.choices)
    return IntDistribution(0, count - 1) if column.kind == "ordinal" else CategoricalDistribution(tuple(range(count)))


class OptunaSpace:
    """A :class:`~hpo_gym.spaces.SearchSpace` as Optuna distributions.

    Args:
        space: The search space, on the CPU.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        columns = space.spec.columns
        found = {index: distribution(column) for index, column in enumerate(columns)}
        #: By column; without hyperparameters of a single value.
        self.by_column = {index: kind for index, kind in found.items() if kind is not None}
        #: By name, in column order.
        self.distributions = {columns[index].name: kind for index, kind in self.by_column.items()}
        conditional = space.spec.levels()
        inner = {index for level in conditional for index in level}
        self._levels = [[index for index in range(len(columns)) if index not in inner], *conditional]
        self._default = space.numbers(space.default()[None].double())[0]

    def suggest(self, trial: OptunaTrial) -> Parameters:
        """Suggest define-by-run: parents first, children only where the parents make them active.

        Activity is that of the very point which the environment will evaluate (float32, snapped).

        Returns:
            The active parameters, in natural units, choices by position.
        """
        parameters: Parameters = {}
        for depth, level in enumerate(self._levels):
            active = None if depth == 0 else self.active(parameters)
            for index in level:
                kind = self.by_column.get(index)
                if kind is not None and (active is None or bool(active[index])):
                    name = self.space.names[index]
                    parameters[name] = suggest_one(trial, name, kind)
        return parameters

    def point(self, parameters: Parameters) -> Tensor:
        """Return parameters as a point of the unit cube, float64 ``[D]``; those left out become 0.5."""
        numbers = torch.full((1, self.space.dimension), torch.nan, dtype=torch.float64)
        for index in self.by_column:
            value = parameters.get(self.space.names[index])
            if value is not None:
                numbers[0, index] = value
        return self.space.encode(numbers)[0]

    def parameters(self, trial: Trial, impute: bool = False) -> Parameters:
        """Return the parameters of a trial that nobody asked for.

        Args:
            trial: The trial.
            impute: Whether inactive parameters have their default, or are left out.
        """
        numbers = self.space.numbers(trial.u[None])[0]
        if impute:
            numbers = torch.where(trial.active, numbers, self._default)
        return {
            self.space.names[index]: self._plain(index, float(numbers[index]))
            for index in self.by_column
            if impute or bool(trial.active[index])
        }

    def imputed(self, parameters: Parameters, active: Tensor) -> Parameters:
        """Return parameters of all hyperparameters with the inactive ones at their default.

        Args:
            parameters: All of them.
            active: bool ``[D]``.
        """
        names = self.space.names
        return {
            names[index]: parameters[names[index]]
            if bool(active[index])
            else self._plain(index, float(self._default[index]))
            for index in self.by_column
        }

    def active(self, parameters: Parameters) -> Tensor:
        """Return which hyperparameters are active where the environment evaluates parameters: bool ``[D]``."""
        return self.space.active(self._snapped(parameters))[0]

    def legal(self, parameters: Parameters) -> bool:
        """Return whether the search space allows what the environment would evaluate."""
        return not self.space.has_forbidden or bool(self.space.legal(self._snapped(parameters)))

    def _snapped(self, parameters: Parameters) -> Tensor:
        return self.space.snap(self.point(parameters)[None].float())

    def _plain(self, index: int, number: float) -> float | int:
        return number if self.space.spec.columns[index].kind == "float" else round(number)


class StudyOptimizer(Optimizer):
    """An episode as an Optuna study that maximises the score.

    Args:
        space: The search space in Optuna's terms.
        sampler: The method, with its seed.
        startup_trials: Trials that the sampler draws at random before it has a model, and counts. What is forbidden
            takes none of their places: the study is told that it failed, and learns nothing from it.
    """

    def __init__(self, space: OptunaSpace, sampler: BaseSampler, startup_trials: int = 0) -> None:
        import optuna

        self.space = space
        self._startup, self._evaluated = startup_trials, 0
        with quiet():
            self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: tuple[OptunaTrial, Parameters] | None = None

    def ask(self) -> Suggestion:
        with quiet():
            asked, parameters = self.suggest_legal()
        self._asked = asked, parameters
        return Suggestion(self.space.point(parameters))

    def tell(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        asked, self._asked = self._asked, None
        self._evaluated += 1
        if asked is not None and trial.answers(self.space.point(asked[1]), self.space.space):
            self.learn(*asked, trial.active, trial.score)
            return
        if asked is not None:
            # Something else was evaluated instead; Optuna must not wait for an outcome that never comes.
            self.study.tell(asked[0], state=TrialState.FAIL)
        self.add(self.foreign(trial), trial.score)

    def suggest(self) -> tuple[OptunaTrial, Parameters]:
        """Ask the study for a trial and its parameters."""
        asked = self.study.ask()
        return asked, self.space.suggest(asked)

    def suggest_legal(self) -> tuple[OptunaTrial, Parameters]:
        """Ask the study until it suggests what is not forbidden, at most 20 times more."""
        from optuna.trial import TrialState

        asked, parameters = self.suggest()
        for _ in range(_MOST_FORBIDDEN):
            if self.space.legal(parameters):
                break
            if self._evaluated < self._startup:
                self.study.tell(asked, state=TrialState.FAIL)
            else:
                self.learn(asked, parameters, self.space.active(parameters), 0.0)
            asked, parameters = self.suggest()
        return asked, parameters

    def learn(self, asked: OptunaTrial, parameters: Parameters, active: Tensor, score: float) -> None:
        """Tell the study the outcome of a trial that it asked for, and which hyperparameters were active, ``[D]``."""
        self.study.tell(asked, score)

    def foreign(self, trial: Trial) -> Parameters:
        """Return the parameters with which a trial is told that the study did not ask for."""
        return self.space.parameters(trial)

    def add(self, parameters: Parameters, score: float) -> None:
        """Add a completed trial to the study."""
        from optuna.trial import create_trial

        distributions = {name: self.space.distributions[name] for name in parameters}
        self.study.add_trial(create_trial(params=dict(parameters), distributions=distributions, value=score))


def suggest_one(trial: OptunaTrial, name: str, kind: BaseDistribution) -> float | int:
    """Suggest one parameter of a distribution made by :func:`distribution`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(kind, FloatDistribution):
        return trial.suggest_float(name, kind.low, kind.high, log=kind.log)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high, log=kind.log)
    assert isinstance(kind, CategoricalDistribution)
    choice: Any = trial.suggest_categorical(name, kind.choices)
    return int(choice)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log to errors, and its notes on experimental arguments away, until the end of the block.

    The verbosity is a setting of the whole process; a user's own studies find it as it was.
    """
    import warnings

    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
