"""Live objectives behind the contract of a surrogate: what a table answers by look-up, they answer by training."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, require_integer
from hpo_gym.live.cache import MeasurementCache, Question
from hpo_gym.live.description import Undescribed, describe
from hpo_gym.live.executors import ExecutorSettings, open_executor, pickled
from hpo_gym.live.libraries import model_versions, training_code
from hpo_gym.live.measurement import Measurement, checked
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.spaces.columns import Value
from hpo_gym.surrogates.base import Fidelity, Measured, MeasuredSurrogate, Metric

__all__ = ["LEAST_SHARE", "LiveSurrogate", "Objective"]

#: Smallest share of a full evaluation, unless an objective says otherwise.
LEAST_SHARE = 0.05

# Failures that are kept for whoever looks for the reason.
_KEPT_FAILURES = 100

_FORBIDDEN = Measurement("forbidden", message="forbidden by the search space: nothing was trained")

_log = logging.getLogger("hpo_gym.live")


class Objective(Protocol):
    """Trains one configuration of a model on one dataset; picklable.

    A method ``prepare()`` is called first, once in every worker, if there is one: what it takes to read data and to
    import libraries is no part of a training, and neither its limit nor its time counts it.
    """

    def __call__(self, configuration: dict[str, Value], share: float, seed: int) -> Mapping[str, float]:
        """Train, and return metrics by name.

        Args:
            configuration: Active hyperparameters in natural units.
            share: Of a full evaluation, in (0, 1].
            seed: Root of everything random.
        """


def _file(trainings: str | Path) -> Path:
    if not isinstance(trainings, str | Path) or not str(trainings):
        raise InvalidSettingError(f"trainings={trainings!r} must be the path of a file, e.g. 'trainings.sqlite'.")
    return Path(trainings).expanduser().absolute()


class _Decoder:
    """A search space on the CPU, which moving the surrogate to another device leaves there."""

    def __init__(self, spec: SpaceSpec) -> None:
        self.space = SearchSpace(spec)

    def legal(self, u: Tensor) -> list[bool]:
        """Return which rows the search space allows."""
        legal: list[bool] = self.space.legal(u.detach().cpu()).tolist() if self.space.has_forbidden else [True] * len(u)
        return legal

    def questions(
        self, task: Tensor, u: Tensor, active: Tensor, share: Tensor | None, seed: int
    ) -> list[tuple[Question, dict[str, Value]]]:
        """Return for each row what decides its measurement, and its configuration by name."""
        numbers = self.space.decode(u.detach().double().cpu(), active.cpu())
        shares = [1.0] * len(numbers) if share is None else share.double().cpu().tolist()
        columns = self.space.spec.columns
        found = []
        for index, row, part in zip(task.tolist(), numbers, shares, strict=True):
            configuration = {
                column.name: column.value(number)
                for column, number in zip(columns, row.tolist(), strict=True)
                if number == number  # NaN marks what is inactive
            }
            found.append(((index, row.numpy().tobytes(), part, seed), configuration))
        return found


class LiveSurrogate(MeasuredSurrogate):
    """Trains what it is asked for, in isolated workers; all rows of a batch at once, as far as there are workers.

    A configuration that was measured before is answered from a cache. One that fails, or that the search space forbids
    and that is never trained, has the worst legal value of every metric; :attr:`failures` says why trainings failed, as
    does the logger ``hpo_gym.live``.

    Args:
        space: The search space, shared by all tasks.
        objectives: One per task.
        metrics: What the objectives return, by name.
        executor: Where and under which limits they are called.
        seed: Given to every call, at least 0.
        least_share: Smallest share of a full evaluation that may be asked for, in (0, 1]; 1 for objectives that have
            no fidelity.
        trainings: A file where finished trainings are kept, and from where they are taken (see
            :class:`~hpo_gym.live.kept_trainings.KeptTrainings`); ``None``: they are known to this process alone.

    Raises:
        InvalidSettingError: For an impossible value, or an objective that cannot be pickled, or that another process
            could not tell from others where its trainings are to be kept.
        DataError: If the file cannot be used.
    """

    identity: Tensor

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        metrics: Sequence[Metric],
        executor: ExecutorSettings | None = None,
        *,
        seed: int = 0,
        least_share: float = LEAST_SHARE,
        trainings: str | Path | None = None,
    ) -> None:
        super().__init__()
        require_integer("seed", seed, 0)
        if not objectives:
            raise InvalidSettingError("A live surrogate needs at least one objective: one per task.")
        if not metrics:
            raise InvalidSettingError("A live surrogate needs at least one metric: what its objectives return.")
        if not 0.0 < least_share <= 1.0:
            raise InvalidSettingError(
                f"least_share={least_share!r} must lie in (0, 1]: it is a share of an evaluation."
            )
        self.metrics = tuple(metrics)
        self.num_tasks = len(objectives)
        self.num_hyperparameters = space.dimension
        self.fidelity = None if least_share == 1.0 else Fidelity("share", least_share, 1.0)
        self.executor = executor or ExecutorSettings()
        self.most_seconds = float(self.executor.limits.seconds)
        self.seed = seed
        #: The latest failures, the newest last.
        self.failures: deque[Measurement] = deque(maxlen=_KEPT_FAILURES)
        self._objectives = tuple(pickled(objective) for objective in objectives)
        self._decoder = _Decoder(space.spec)
        self._names = tuple(metric.name for metric in self.metrics)
        self._worst = tuple(metric.upper if metric.minimize else metric.lower for metric in self.metrics)
        # Results of other objectives, limits, seeds or code are other results: whoever compares tensors sees it.
        code = (sorted(model_versions().items()), training_code())
        decides = (self.metrics, self.executor.limits, seed, least_share, code)
        content = hashlib.sha256(repr(decides).encode())
        #: Whether equal objectives of another process have the same ``identity``.
        self.identity_is_stable = True
        told = []
        for objective, as_bytes in zip(objectives, self._objectives, strict=True):
            try:
                told.append(describe(objective))
            except Undescribed as error:
                # Pickles of equal objects may differ: then nothing is found again, rather than something else.
                told.append(as_bytes)
                self.identity_is_stable = False
                if trainings is not None:
                    raise InvalidSettingError(
                        f"trainings={str(trainings)!r}: another process could not tell this objective from others, "
                        f"because it holds a {error}. Make it of plain values, arrays, estimators, dataclasses, "
                        "functions and classes, or leave out trainings."
                    ) from error
            content.update(told[-1])
        # The seed and the share are part of what is asked.
        limits = (float(self.executor.limits.seconds), self.executor.limits.memory)
        common = repr((limits, code, space.spec)).encode()
        file = None if trainings is None else _file(trainings)
        #: What was measured already.
        self.cache = MeasurementCache(file=file, objectives=[hashlib.sha256(common + each).digest() for each in told])
        self.register_buffer("identity", torch.tensor(list(content.digest()), dtype=torch.uint8), persistent=False)

    def measure(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Measured:
        """Train what was not trained before and is not forbidden, and wait for all of it.

        Raises:
            EvaluationFailedError: If workers cannot be started, or load the objective, or the cluster is gone.
        """
        asked = self._decoder.questions(task, u, active, fidelity, self.seed)
        answers: list[Measurement | Future[Measurement]] = []
        try:
            for (question, configuration), legal in zip(asked, self._decoder.legal(u), strict=True):
                answers.append(self._ask(question, configuration) if legal else _FORBIDDEN)
            measurements = [self._wait(answer, *each) for answer, each in zip(answers, asked, strict=True)]
        except BaseException:
            # Nobody waits any more, whether for an interruption or a broken cluster.
            for answer in answers:
                if isinstance(answer, Future):
                    answer.cancel()
            raise
        values = [self._values(measurement) for measurement in measurements]
        return Measured(
            torch.tensor(values, dtype=torch.float32, device=u.device),
            torch.tensor([each.seconds for each in measurements], dtype=torch.float32, device=u.device),
            torch.tensor([each.code for each in measurements], dtype=torch.int64, device=u.device),
        )

    def _ask(self, question: Question, configuration: dict[str, Value]) -> Measurement | Future[Measurement]:
        index, _, share, seed = question

        def submit() -> Future[Measurement]:
            executor = open_executor(self.executor)
            future = executor.submit(self._objectives[index], configuration, share, seed)
            future.add_done_callback(ended)
            return future

        def ended(future: Future[Measurement]) -> None:
            if not future.cancelled() and future.exception() is None:
                tell(future.result())

        def tell(measurement: Measurement) -> None:
            self._tell(measurement, configuration)

        return self.cache.ask(question, submit, tell)

    def _tell(self, measurement: Measurement, configuration: Mapping[str, Any]) -> None:
        found = checked(measurement, self._names)
        if found.status == "ok":
            return
        # The first of each kind is news; a thousand of them are not.
        level = logging.INFO if any(each.status == found.status for each in self.failures) else logging.WARNING
        self.failures.append(found)
        _log.log(level, "%s with %s: %s", found.status, dict(configuration), found.message)

    def _wait(
        self,
        answer: Measurement | Future[Measurement],
        question: Question,
        configuration: dict[str, Value],
        anew: bool = True,
    ) -> Measurement:
        try:
            found = answer.result() if isinstance(answer, Future) else answer
        except EvaluationFailedError:
            raise
        except Exception as error:  # of whatever cluster: it is told in full
            if anew and isinstance(error, CancelledError):
                # Somebody else had begun it, and waits no more.
                return self._wait(self._ask(question, configuration), question, configuration, anew=False)
            raise EvaluationFailedError(
                f"executor={self.executor.kind!r} failed ({type(error).__name__}: {error}). Nothing was measured: see "
                "to the cluster, or use executor='local'."
            ) from error
        self.cache.wait_kept(question)
        return checked(found, self._names)

    def _values(self, measurement: Measurement) -> tuple[float, ...]:
        if measurement.status != "ok":
            return self._worst
        return tuple(measurement.metrics[name] for name in self._names)
