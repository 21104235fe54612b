"""Live training in the search space of an embedded response surface: what a policy was trained for, made real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_gym.live.datasets import DataSource
from hpo_gym.live.embedded_models import EmbeddedEstimator
from hpo_gym.live.live_objective import LiveObjective
from hpo_gym.live.suite import live_suite
from hpo_gym.live.user_model import UserModel
from hpo_gym.live.validation import Validation
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.columns import Value
from hpo_gym.tasks.ref import TaskRef

if TYPE_CHECKING:
    from hpo_gym.tasks.suite import TaskSuite

__all__ = ["EmbeddedObjective", "LiveData", "embedded_suite"]

_ACCURACY = "accuracy"


@dataclass(frozen=True)
class EmbeddedObjective:
    """A live objective that calls its accuracy as the embedded surface does, in its unit.

    Args:
        objective: What is trained; its first metric is the accuracy.
        metric: Name of the surface's metric.
        full: Its value for an accuracy of 1, e.g. 100 for percent.
    """

    objective: LiveObjective
    metric: str
    full: float

    def prepare(self) -> None:
        """Load the data and the libraries."""
        self.objective.prepare()

    def __call__(self, configuration: dict[str, Value], share: float = 1.0, seed: int = 0) -> dict[str, float]:
        """Train; see :meth:`hpo_gym.live.LiveObjective.__call__`.

        Args:
            configuration: Active hyperparameters in natural units.
            share: Share of the training rows, in (0, 1].
            seed: Seed of the models.

        Returns:
            The accuracy on the validation rows under the name of the surface's metric.
        """
        return {self.metric: self.full * self.objective(configuration, share, seed)[_ACCURACY]}


@dataclass(frozen=True)
class LiveData:
    """A dataset of classes to train on.

    Args:
        source: Where it comes from.
        subsample: Share of the training rows that a full evaluation sees, in (0, 1].
    """

    source: DataSource
    subsample: float = 1.0


def embedded_suite(
    family: str, data: Mapping[TaskRef, LiveData], *, validation: Validation | None = None, **settings: Any
) -> TaskSuite:
    """Return live tasks with the search space and the name of the metric of an embedded surface.

    Args:
        family: One of :data:`hpo_gym.live.embedded_models.EMBEDDED_FAMILIES`.
        data: The datasets by the task that each is known as.
        validation: Which rows are trained and validated on; ``None``: half of them each, none for testing.
        settings: Further arguments of :func:`hpo_gym.live.suite.live_suite`.

    Raises:
        UnknownNameError: For another family.
        DataMissingError: If the embedded surface is not installed.
        InvalidSettingError: If there is no dataset, or one learns no classes.
    """
    from hpo_gym.sources import load_suite

    estimator = EmbeddedEstimator(family)
    embedded = load_suite("bundled", family)
    metric = next(each for each in embedded.surrogate.metrics if each.name == embedded.spec.metric)
    # A dictionary of its own: the conditions may be a view, which cannot be sent to other processes.
    spec = replace(embedded.space.spec, conditions=dict(embedded.space.spec.conditions))
    model = UserModel(estimator, spec, family)
    chosen = validation or Validation("holdout", share=0.5, test_share=0.0)
    objectives = {
        task: LiveObjective(
            model, each.source, (_ACCURACY,), chosen, "subsample", subsample=each.subsample, preprocess=False
        )
        for task, each in data.items()
    }
    return live_suite(
        family,
        SearchSpace(spec),
        {task: EmbeddedObjective(objective, metric.name, metric.upper) for task, objective in objectives.items()},
        [metric],
        qualities=[objective.table.qualities for objective in objectives.values()],
        **settings,
    )
