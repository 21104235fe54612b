"""A task suite: one search space, one objective, many datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Fidelity, MeasuredSurrogate, Metric, Surrogate
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.splits import split_tasks
from hpo_gym.tasks.unknown_range import range_remedy

__all__ = ["Evaluation", "KnownRange", "SuiteSpec", "TaskSuite"]

# Scores are float32 of about 1: a smaller range is rounding, and dividing by it would make noise of it.
_LEAST_RANGE = 1e-6

# A legal range as wide as this (seconds, megabytes) is a safeguard, not a scale: on it every measurement would lie
# within a hair of one end. Scores of such a metric are linear in its logarithm.
_OPEN_ENDED = 1e4


@dataclass
class Evaluation:
    """What one batch of evaluations returned.

    Args:
        score: The suite's main metric on its legal range, oriented so that 1 is best: float32 ``[B]``
            in ``[0, 1]``.
        metrics: Every metric in its own unit, clipped to its legal range: float32 ``[B, K]``.
        clipped: Whether any metric of the row was outside its legal range: bool ``[B]``.
        seconds: What each evaluation took, float32 ``[B]``; ``None`` where none was really made.
        status: How each ended, a position in :data:`hpo_gym.live.STATUSES`, int64 ``[B]``; ``None`` likewise.
    """

    score: Tensor
    metrics: Tensor
    clipped: Tensor
    seconds: Tensor | None = None
    status: Tensor | None = None


@dataclass(frozen=True)
class KnownRange:
    """Worst, typical and best score of every task, in score units, and how they were found.

    Args:
        worst: Smallest score of the Sobol sample, ``[N]``.
        median: Median score of the Sobol sample, ``[N]``.
        best: Largest score found by sample, gradient refinement and local search, ``[N]``.
        best_u: The configuration that reached ``best``, ``[N, D]``; where a source states a best score (``method``
            says so), the best that was found.
        method: One sentence that says how they were found.
    """

    worst: Tensor
    median: Tensor
    best: Tensor
    best_u: Tensor
    method: str

    @cached_property
    def inverse_range(self) -> Tensor:
        """``1 / (best - worst)`` per task, ``[N]``; 0 for a task on which every configuration scores alike."""
        span = self.best - self.worst
        return torch.where(span > _LEAST_RANGE, 1.0 / span, 0.0)

    def to(self, device: torch.device | str) -> KnownRange:
        """Return the same range on ``device``."""
        return KnownRange(
            self.worst.to(device),
            self.median.to(device),
            self.best.to(device),
            self.best_u.to(device),
            self.method,
        )


@dataclass(frozen=True)
class SuiteSpec:
    """What a :class:`TaskSuite` is made of, apart from its tensors."""

    name: str
    source: str
    metric: str
    tasks: tuple[TaskRef, ...]
    cost_metric: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    #: The side of every task under the protocol ``per-space``, where the source publishes one; empty: ours.
    sides: tuple[str, ...] = ()


class TaskSuite(nn.Module):
    """Search space + objective + meta-features + known range of ``N`` tasks.

    Args:
        spec: Names, task identities and provenance.
        space: The search space, shared by all tasks.
        surrogate: The objective.
        meta_features: Standardised on training tasks, float32 ``[N, M]``; ``M`` may be 0.
        known_range: Worst, median and best score of every task, or ``None`` where not yet known.
        protocol: Split protocol on whose training tasks the meta-features were standardised; ``None``: none.
        initial_points: Configurations that the source publishes for repetitions to begin with, float32
            ``[S, N, P, D]`` of ``S`` repetitions, NaN where a task has none; ``None``: there are none.

    Raises:
        InvalidSettingError: If the parts disagree about ``N`` or ``D``.
        UnknownNameError: If ``spec.metric`` or ``spec.cost_metric`` is no metric of the surrogate.
    """

    lower: Tensor
    upper: Tensor
    meta_features: Tensor
    _worst: Tensor

    def __init__(
        self,
        spec: SuiteSpec,
        space: SearchSpace,
        surrogate: Surrogate,
        meta_features: Tensor,
        known_range: KnownRange | None = None,
        protocol: str | None = None,
        initial_points: Tensor | None = None,
    ) -> None:
        super().__init__()
        count = len(spec.tasks)
        if not (surrogate.num_tasks == meta_features.shape[0] == count):
            raise InvalidSettingError(
                f"Suite {spec.name!r} names {count} tasks, its surrogate has "
                f"{surrogate.num_tasks} and its meta-features {meta_features.shape[0]}."
            )
        if surrogate.num_hyperparameters != space.dimension:
            raise InvalidSettingError(
                f"Suite {spec.name!r}: the space has {space.dimension} hyperparameters, the "
                f"surrogate {surrogate.num_hyperparameters}."
            )
        if len(spec.sides) not in (0, count):
            raise InvalidSettingError(f"Suite {spec.name!r} names {count} tasks and the sides of {len(spec.sides)}.")
        self.spec = spec
        self.space = space
        self.surrogate = surrogate
        self.known_range = known_range
        self.protocol = protocol
        self.initial_points = initial_points
        self.metric_column = surrogate.metric_index(spec.metric)
        self.cost_column = None if spec.cost_metric is None else surrogate.metric_index(spec.cost_metric)
        metrics = surrogate.metrics
        self.register_buffer("lower", torch.tensor([m.lower for m in metrics]), persistent=False)
        self.register_buffer("upper", torch.tensor([m.upper for m in metrics]), persistent=False)
        self.register_buffer("meta_features", meta_features.float(), persistent=False)
        main = self.metric
        self._logarithmic = main.upper - main.lower >= _OPEN_ENDED
        low, high = (0.0, math.log1p(main.upper - main.lower)) if self._logarithmic else (main.lower, main.upper)
        self._score_scale = (-1.0 if main.minimize else 1.0) / (high - low)
        self._score_offset = high if main.minimize else low
        #: Whether evaluations are really made: they take time, and may fail.
        self.measured = isinstance(surrogate, MeasuredSurrogate)
        self._is_score = (self._score_scale, self._score_offset) == (1.0, 0.0)
        self.register_buffer("_worst", torch.zeros(()), persistent=False)
        self._positions = {ref: index for index, ref in enumerate(spec.tasks)}

    @property
    def name(self) -> str:
        """The space's name, e.g. ``"rpart"``."""
        return self.spec.name

    @property
    def tasks(self) -> tuple[TaskRef, ...]:
        """The identities of the ``N`` tasks."""
        return self.spec.tasks

    @property
    def num_tasks(self) -> int:
        """``N``."""
        return len(self.spec.tasks)

    @property
    def metric(self) -> Metric:
        """The optimised metric."""
        return self.surrogate.metrics[self.metric_column]

    @property
    def measured_facts(self) -> dict[str, Any]:
        """What is measured, and in which direction it is good: plain values, for fingerprints."""
        fidelity = None if self.fidelity is None else asdict(self.fidelity)
        metrics = [asdict(metric) for metric in self.surrogate.metrics]
        return {"metrics": metrics, "cost": self.spec.cost_metric, "fidelity": fidelity}

    @property
    def fidelity(self) -> Fidelity | None:
        """The fidelity that may be asked for, or ``None``."""
        return self.surrogate.fidelity

    @property
    def most_seconds(self) -> float | None:
        """The most seconds that an evaluation may take; ``None`` where seconds are not known."""
        if isinstance(self.surrogate, MeasuredSurrogate):
            return self.surrogate.most_seconds
        return None if self.cost_column is None else self.surrogate.metrics[self.cost_column].upper

    @property
    def device(self) -> torch.device:
        """Where the suite's tensors lie."""
        return self.lower.device

    def _apply(self, fn: Any, recurse: bool = True) -> TaskSuite:
        super()._apply(fn, recurse)
        if self.known_range is not None:
            self.known_range = self.known_range.to(self.device)
        return self

    def evaluate(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Evaluation:
        """Evaluate a batch without checking its arguments (see :meth:`Surrogate.predict`)."""
        if u.dtype != torch.float32:
            u = u.float()
        seconds = status = None
        if self.measured:
            measured = cast(MeasuredSurrogate, self.surrogate).measure(task, u, active, fidelity)
            raw, seconds, status = measured.values, measured.seconds, measured.status
        else:
            raw = self.surrogate.predict(task, u, active, fidelity)
        metrics = torch.clamp(raw, self.lower, self.upper)
        clipped = (metrics != raw).any(1)
        # NaN survives the clamp and differs from itself: it is counted above and, fmax being what it is, scores worst.
        score = torch.fmax(self.to_score(metrics[:, self.metric_column]), self._worst)
        if not self._is_score:
            # For the last bit: rounding may put the end of a range beside it.
            score = score.clamp_(max=1.0)
        return Evaluation(score, metrics, clipped, seconds, status)

    def seconds(self, evaluation: Evaluation) -> Tensor | None:
        """Return what each evaluation took or, of a surrogate, would have taken: float32 ``[B]``; ``None``: unknown."""
        if self.cost_column is None:
            return evaluation.seconds
        return evaluation.metrics[:, self.cost_column]

    def cost(self, evaluation: Evaluation) -> Tensor:
        """Return the seconds of each evaluation as a share of the most that is legal: float32 ``[B]`` in ``[0, 1]``.

        Linear, or linear in ``log1p(seconds)`` where 10,000 seconds or more are legal.

        Raises:
            InvalidSettingError: If the seconds are not known.
        """
        most = self.require_seconds()
        seconds = self.seconds(evaluation)
        assert seconds is not None  # require_seconds saw to it
        share = seconds.clamp(0.0, most)
        return torch.log1p(share) / math.log1p(most) if most >= _OPEN_ENDED else share / most

    def require_seconds(self) -> float:
        """Return the most seconds that an evaluation may take.

        Raises:
            InvalidSettingError: If the suite does not know what an evaluation takes.
        """
        most = self.most_seconds
        if most is None:
            raise InvalidSettingError(
                f"{self.spec.source}:{self.name} does not know what an evaluation takes, so that it has no cost. Use "
                "another reward, or a space with a cost, such as rpart, xgboost, ranger, lcbench or a live one."
            )
        return most

    def to_score(self, value: Tensor) -> Tensor:
        """Map values of the main metric to scores in ``[0, 1]``, 1 being best.

        Linear, or linear in ``log1p(value - lower)`` where the metric's legal range is 10,000 units or wider.
        """
        if self._is_score:
            return value
        if self._logarithmic:
            value = torch.log1p(value - self.metric.lower)
        shifted = value - self._score_offset if self._score_offset else value
        return shifted * self._score_scale

    def to_metric(self, score: Tensor) -> Tensor:
        """Map scores back to values of the main metric."""
        value = score / self._score_scale + self._score_offset
        return torch.expm1(value) + self.metric.lower if self._logarithmic else value

    def regret(self, task: Tensor, score: Tensor) -> Tensor:
        """Return ``(best - score) / (best - worst)`` per row: 0 at the known optimum.

        A task on which every configuration scores alike has regret 0.

        Raises:
            InvalidSettingError: If the suite's range is not known.
        """
        known = self.require_range()
        return (known.best.index_select(0, task) - score) * known.inverse_range.index_select(0, task)

    def require_range(self) -> KnownRange:
        """Return the known range.

        Raises:
            InvalidSettingError: If it has not been found yet, with the command that finds it.
        """
        if self.known_range is None:
            source, metric = self.spec.source, self.metric.name
            restriction = self.spec.provenance.get("restriction", "default")
            more = "" if restriction == "default" else f" --restriction {restriction}"
            remedy = range_remedy(source, f"{self.name} --metric {metric}{more}")
            raise InvalidSettingError(
                f"The optimum and range of the tasks of {source}:{self.name} are not known for metric "
                f"{metric!r}, so regret is undefined. {remedy}"
            )
        return self.known_range

    def split(self, protocol: str, split: str) -> list[int]:
        """Return the positions of a split's tasks; see :func:`~hpo_gym.tasks.splits.split_tasks`.

        Raises:
            UnknownNameError: For an unknown protocol or split.
        """
        return split_tasks(self.name, protocol, split, self.tasks, self.spec.sides)

    def position(self, task: TaskRef | str) -> int:
        """Return the index of a task given as ``TaskRef``, ``"openml-dataset:31"`` or ``"31"``.

        Raises:
            UnknownNameError: If the suite has no such task.
        """
        if isinstance(task, TaskRef):
            if task in self._positions:
                return self._positions[task]
        else:
            for index, ref in enumerate(self.tasks):
                if str(task) in (str(ref), ref.id):
                    return index
        kind = self.tasks[0].kind if self.tasks else "none"
        raise unknown_name(
            "task",
            str(task),
            [ref.id for ref in self.tasks],
            f"Ids of {self.name!r} are of kind {kind!r}.",
        )

    def subset(self, refs: Sequence[TaskRef]) -> Tensor:
        """Return the indices of several tasks, int64, on the suite's device."""
        return torch.tensor([self.position(ref) for ref in refs], device=self.device)

    def describe(self, score: float) -> str:
        """Return a score as a readable value of the main metric."""
        value = float(self.to_metric(torch.tensor(score)))
        return f"{self.metric.name} = {value:.4g}{self.metric.unit}"
