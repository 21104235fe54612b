"""A user's own estimator with a search space of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from hpo_gym.errors import InvalidSettingError, require_booleans, require_integer, require_names, unknown_name
from hpo_gym.live.presets import TaskType
from hpo_gym.spaces.columns import Value
from hpo_gym.spaces.spec import SpaceSpec

if TYPE_CHECKING:
    from hpo_gym.live.fit import Fit

__all__ = ["UserModel", "learned_by", "takes_fit"]

_SEED, _FIT = "random_state", "fit"


@dataclass(frozen=True)
class UserModel:
    """An estimator, or what makes one.

    Args:
        estimator: An unfitted estimator of scikit-learn's interface, of which every training gets a clone with the
            hyperparameters set (``step__name`` reaches into pipelines); or a class or function that returns one, called
            with the hyperparameters as keywords. ``random_state`` is set to the seed wherever there is one.
        spec: Its search space.
        name: What messages call it.
        iterations_parameter: The parameter that counts trees, rounds or epochs, e.g. ``n_estimators``; empty: none, or
            ``fit.iterations`` is what counts.
        iterations: Its value in a full evaluation; 0 without such a parameter.
        task: What it learns, where an estimator does not say so itself; ``None``: either.
        images: Whether it needs images.

    Raises:
        InvalidSettingError: If the estimator is none, ``images`` is neither true nor false, the number of iterations
            and their parameter do not match, it says that it is for another task, or a seed is to be tuned.
        UnknownNameError: If an estimator has no parameter of the name of a hyperparameter or of the iterations.
    """

    estimator: Any
    spec: SpaceSpec
    name: str = "estimator"
    iterations_parameter: str = ""
    iterations: int = 0
    task: TaskType | None = None
    images: bool = False

    def __post_init__(self) -> None:
        require_integer("iterations", self.iterations, 0)
        require_booleans(self)
        if self.task not in (None, *get_args(TaskType)):
            raise unknown_name("task type", self.task, get_args(TaskType))
        counted = bool(self.iterations_parameter) or (bool(self.iterations) and takes_fit(self.estimator))
        if counted != bool(self.iterations):
            raise InvalidSettingError(
                f"iterations_parameter={self.iterations_parameter!r} and iterations={self.iterations} belong together: "
                "give both, e.g. iterations=('n_estimators', 100), or none. A function that asks for `fit` finds "
                "fit.iterations there, and needs no parameter."
            )
        if self.iterations_parameter in self.spec.names:
            raise InvalidSettingError(
                f"{self.iterations_parameter!r} is a hyperparameter and cannot be the fidelity, too: leave one out."
            )
        seeds = [name for name in self.spec.names if _is_seed(name)]
        if seeds:
            raise InvalidSettingError(
                f"{seeds[0]!r} is set to the seed of each evaluation and cannot be a hyperparameter: leave it out."
            )
        if self._is_instance:
            allowed = self.estimator.get_params(deep=True)
            require_names(
                f"parameter of {self.name}", (*self.spec.names, *filter(None, [self.iterations_parameter])), allowed
            )
            if self._says not in (None, self.task) and self.task is not None:
                raise InvalidSettingError(f"task={self.task!r}: {self.name} says that it is for {self._says}.")
        elif not callable(self.estimator):
            raise InvalidSettingError(
                f"{self.estimator!r} is neither an estimator (with fit, get_params and set_params) nor a class or "
                "function that makes one."
            )

    @property
    def _is_instance(self) -> bool:
        return _is_instance(self.estimator)

    @property
    def learns(self) -> TaskType | None:
        """What the estimator is for, as far as it is known."""
        return self.task or self._says

    @property
    def _says(self) -> TaskType | None:
        if self._is_instance:
            return learned_by(self.estimator)
        from sklearn.base import ClassifierMixin, RegressorMixin

        if not isinstance(self.estimator, type):
            return None
        if issubclass(self.estimator, ClassifierMixin):
            return "classification"
        return "regression" if issubclass(self.estimator, RegressorMixin) else None

    def build(self, configuration: Mapping[str, Value], fit: Fit) -> Any:
        """Return an unfitted estimator for a configuration; its iterations and its seed are those of ``fit``."""
        settings: dict[str, Any] = dict(configuration)
        if self.iterations_parameter:
            settings[self.iterations_parameter] = fit.iterations
        if self._is_instance:
            from sklearn.base import clone

            seeds = {name: fit.seed for name in self.estimator.get_params(deep=True) if _is_seed(name)}
            return clone(self.estimator).set_params(**settings, **seeds)
        if _takes(self.estimator, _SEED):
            settings[_SEED] = fit.seed
        if takes_fit(self.estimator):
            settings[_FIT] = fit
        made = self.estimator(**settings)
        if not hasattr(made, "get_params"):
            return made
        # A function may make what has a seed without asking for one; one that it has given stays.
        parameters = made.get_params(deep=True).items()
        left = {name: fit.seed for name, value in parameters if _is_seed(name) and value is None}
        return made.set_params(**left) if left else made


def learned_by(estimator: Any) -> TaskType | None:
    """Return what an estimator says that it is for; ``None``: nothing."""
    from sklearn.base import is_classifier, is_regressor

    if not hasattr(estimator, "__sklearn_tags__"):
        return None
    if is_classifier(estimator):
        return "classification"
    return "regression" if is_regressor(estimator) else None


def takes_fit(estimator: Any) -> bool:
    """Whether a class or function asks for ``fit``, what it is built for."""
    return not _is_instance(estimator) and callable(estimator) and _takes(estimator, _FIT)


def _is_instance(estimator: Any) -> bool:
    return not isinstance(estimator, type) and hasattr(estimator, "get_params")


def _is_seed(name: str) -> bool:
    return name == _SEED or name.endswith(f"__{_SEED}")


def _takes(factory: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(factory).parameters
