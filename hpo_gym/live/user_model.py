"""A user's own estimator with a search space of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hpo_gym.errors import InvalidSettingError, require_integer, require_names
from hpo_gym.spaces.spec import SpaceSpec, Value

if TYPE_CHECKING:
    from hpo_gym.live.models import Fit

__all__ = ["UserModel"]

_SEED = "random_state"


@dataclass(frozen=True)
class UserModel:
    """An estimator, or what makes one.

    Args:
        estimator: An unfitted estimator of scikit-learn's interface, of which every training gets a clone with the
            hyperparameters set (``step__name`` reaches into pipelines); or a class or function that returns one, called
            with the hyperparameters as keywords. ``random_state`` is set to the seed wherever there is one.
        spec: Its search space.
        name: What messages call it.
        iterations_parameter: The parameter that counts trees, rounds or epochs, e.g. ``n_estimators``; empty: none.
        iterations: Its value in a full evaluation; 0 without such a parameter.

    Raises:
        InvalidSettingError: If the estimator is none, or the number of iterations and their parameter do not match.
        UnknownNameError: If an estimator has no parameter of the name of a hyperparameter or of the iterations.
    """

    estimator: Any
    spec: SpaceSpec
    name: str = "estimator"
    iterations_parameter: str = ""
    iterations: int = 0

    def __post_init__(self) -> None:
        require_integer("iterations", self.iterations, 0)
        if bool(self.iterations_parameter) != bool(self.iterations):
            raise InvalidSettingError(
                f"iterations_parameter={self.iterations_parameter!r} and iterations={self.iterations} belong together: "
                "give both, e.g. iterations=('n_estimators', 100), or none."
            )
        if self.iterations_parameter in self.spec.names:
            raise InvalidSettingError(
                f"{self.iterations_parameter!r} is a hyperparameter and cannot be the fidelity, too: leave one out."
            )
        if self._is_instance:
            allowed = self.estimator.get_params(deep=True)
            require_names(
                f"parameter of {self.name}", (*self.spec.names, *filter(None, [self.iterations_parameter])), allowed
            )
        elif not callable(self.estimator):
            raise InvalidSettingError(
                f"{self.estimator!r} is neither an estimator (with fit, get_params and set_params) nor a class or "
                "function that makes one."
            )

    @property
    def _is_instance(self) -> bool:
        return not isinstance(self.estimator, type) and hasattr(self.estimator, "get_params")

    @property
    def learns(self) -> Literal["classification", "regression"] | None:
        """What the estimator is for, as far as it says so."""
        if not self._is_instance or not hasattr(self.estimator, "__sklearn_tags__"):
            return None
        from sklearn.base import is_classifier, is_regressor

        if is_classifier(self.estimator):
            return "classification"
        return "regression" if is_regressor(self.estimator) else None

    def build(self, configuration: Mapping[str, Value], fit: Fit) -> Any:
        """Return an unfitted estimator for a configuration; its iterations and its seed are those of ``fit``."""
        settings: dict[str, Any] = dict(configuration)
        if self.iterations_parameter:
            settings[self.iterations_parameter] = fit.iterations
        if self._is_instance:
            from sklearn.base import clone

            seeds = {name: fit.seed for name in self.estimator.get_params(deep=True) if _is_seed(name)}
            return clone(self.estimator).set_params(**settings, **seeds)
        if _takes_seed(self.estimator):
            settings[_SEED] = fit.seed
        made = self.estimator(**settings)
        if not hasattr(made, "get_params"):
            return made
        # A function may make what has a seed without asking for one; one that it has given stays.
        parameters = made.get_params(deep=True).items()
        left = {name: fit.seed for name, value in parameters if _is_seed(name) and value is None}
        return made.set_params(**left) if left else made


def _is_seed(name: str) -> bool:
    return name == _SEED or name.endswith(f"__{_SEED}")


def _takes_seed(factory: Callable[..., Any]) -> bool:
    return _SEED in inspect.signature(factory).parameters
