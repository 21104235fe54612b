"""Three tiny task suites with closed-form objectives, for tests of environments and agents.

They are real :class:`~hpo_gym.surrogates.base.Surrogate` objects over real search spaces, small
enough to reason about: a quadratic bowl, a conditional space with a forbidden clause, and a
learning curve.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.clauses import Atom
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.surrogates.base import Fidelity, Metric, Surrogate
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = [
    "TINY_SUITES",
    "BowlSurrogate",
    "CurveSurrogate",
    "KernelSurrogate",
    "conditional_suite",
    "fidelity_suite",
    "quadratic_suite",
]

_SECONDS = Metric("seconds", minimize=True, lower=0.0, upper=1000.0, unit="s")


class BowlSurrogate(Surrogate):
    """``error = 50 * sum_j (u_j - c_j)^2`` in percent; the centre ``c`` depends on the task.

    Args:
        centres: The optimum of each task, float32 ``[N, 2]``.
    """

    centres: Tensor

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.metrics = (Metric("error", minimize=True, lower=0.0, upper=100.0, unit="%"), _SECONDS)
        self.num_tasks, self.num_hyperparameters = centres.shape
        self.register_buffer("centres", centres, persistent=False)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        error = 50.0 * (u - self.centres[task]).square().sum(1)
        return torch.stack([error, 1.0 + 9.0 * u[:, 0]], 1)


class KernelSurrogate(Surrogate):
    """An accuracy over ``kernel``, ``C``, ``gamma``, ``degree`` and ``shrinking``.

    The accuracy reads ``gamma`` and ``degree`` only where they are active. ``memory`` is below its
    legal range for small ``C``, so clipping can be seen.

    Args:
        targets: Best ``C`` and ``gamma`` of each task in the unit interval, float32 ``[N, 2]``.
    """

    targets: Tensor
    kernel_bonus: Tensor

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.metrics = (
            Metric("accuracy", minimize=False, lower=0.0, upper=1.0),
            _SECONDS,
            Metric("memory", minimize=True, lower=0.0, upper=100.0, unit="MB", trusted=False),
        )
        self.num_tasks, self.num_hyperparameters = targets.shape[0], 5
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("kernel_bonus", torch.tensor([0.0, 0.2, 0.1]), persistent=False)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        kernel = (u[:, 0] * 3).long().clamp(max=2)
        target = self.targets[task]
        accuracy = 0.6 + self.kernel_bonus[kernel]
        accuracy = accuracy - 0.4 * (u[:, 1] - target[:, 0]).square()
        accuracy = accuracy - 0.4 * (u[:, 2] - target[:, 1]).square() * active[:, 2]
        accuracy = accuracy - 0.1 * (u[:, 3] - 0.5).abs() * active[:, 3]
        accuracy = accuracy + 0.02 * (u[:, 4] > 0.5)
        return torch.stack([accuracy, 1.0 + 50.0 * u[:, 1], 40.0 * u[:, 1] - 5.0], 1)


class CurveSurrogate(Surrogate):
    """A learning curve: ``accuracy = asymptote(u) * (1 - exp(-epochs / 9))``, one second per epoch.

    Args:
        centres: The best configuration of each task, float32 ``[N, 2]``.
    """

    centres: Tensor

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.metrics = (Metric("accuracy", minimize=False, lower=0.0, upper=1.0), _SECONDS)
        self.num_tasks, self.num_hyperparameters = centres.shape
        self.fidelity = Fidelity("epochs", lower=1.0, upper=27.0, integer=True)
        self.register_buffer("centres", centres, persistent=False)

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        epochs = torch.full_like(u[:, 0], 27.0) if fidelity is None else fidelity
        asymptote = 0.95 - 0.4 * (u - self.centres[task]).square().sum(1)
        return torch.stack([asymptote * (1.0 - torch.exp(-epochs / 9.0)), epochs], 1)


def quadratic_suite(num_tasks: int = 6, seed: int = 0) -> TaskSuite:
    """Return a suite of quadratic bowls over two floats, one of them on a log scale.

    Meta-features are the bowl's centre, shifted and scaled: a policy that reads them can go
    straight to the optimum.

    Args:
        num_tasks: ``N``.
        seed: Root of the centres.
    """
    columns = (
        Column("learning_rate", "float", 1e-4, 1.0, True, (), 1e-2),
        Column("momentum", "float", 0.0, 1.0, False, (), 0.5),
    )
    centres = _uniform(num_tasks, seed, "quadratic")
    surrogate = BowlSurrogate(centres)
    farthest = (centres < 0.5).float()
    return _suite(
        "tiny-quadratic",
        SpaceSpec(columns, {}),
        surrogate,
        (centres - 0.5) * 3.0,
        farthest,
        centres,
    )


def conditional_suite(num_tasks: int = 4, seed: int = 0) -> TaskSuite:
    """Return a suite over a space with conditions and a forbidden clause.

    ``gamma`` is active for the kernels ``rbf`` and ``poly``, ``degree`` for ``poly``; ``linear``
    with ``shrinking = yes`` is forbidden.

    Args:
        num_tasks: ``N``.
        seed: Root of the targets.
    """
    columns = (
        Column("kernel", "categorical", choices=("linear", "rbf", "poly"), default="rbf", upper=2),
        Column("C", "float", 1e-3, 1e3, True, (), 1.0),
        Column("gamma", "float", 1e-4, 1.0, True, (), 0.1),
        Column("degree", "integer", 2, 5, False, (), 3),
        Column("shrinking", "categorical", choices=("no", "yes"), default="no", upper=1),
    )
    spec = SpaceSpec(
        columns,
        conditions={2: ((Atom(0, "in", (1.0, 2.0)),),), 3: ((Atom(0, "in", (2.0,)),),)},
        forbidden=((Atom(0, "in", (0.0,)), Atom(4, "in", (1.0,))),),
    )
    targets = _uniform(num_tasks, seed, "conditional")
    # Best: rbf at its targets with shrinking. Worst: poly, everything farthest away, without.
    best = torch.full((num_tasks, 5), 0.5)
    best[:, 1:3] = targets
    best[:, 4] = 0.75
    worst = torch.zeros(num_tasks, 5)
    worst[:, 0] = 5.0 / 6.0
    worst[:, 1:3] = (targets < 0.5).float()
    return _suite("tiny-conditional", spec, KernelSurrogate(targets), targets * 2.0 - 1.0, worst, best)


def fidelity_suite(num_tasks: int = 4, seed: int = 0) -> TaskSuite:
    """Return a suite of learning curves with 1 to 27 epochs as fidelity and no meta-features.

    Args:
        num_tasks: ``N``.
        seed: Root of the best configurations.
    """
    columns = (
        Column("learning_rate", "float", 1e-4, 1.0, True, (), 1e-2),
        Column("width", "integer", 8, 512, True, (), 64),
    )
    spec = SpaceSpec(columns, {})
    centres = SearchSpace(spec).snap(_uniform(num_tasks, seed, "fidelity"))
    return _suite(
        "tiny-fidelity",
        spec,
        CurveSurrogate(centres),
        torch.zeros(num_tasks, 0),
        (centres < 0.5).float(),
        centres,
    )


#: Every tiny suite by name.
TINY_SUITES = {
    "quadratic": quadratic_suite,
    "conditional": conditional_suite,
    "fidelity": fidelity_suite,
}


def _uniform(num_tasks: int, seed: int, name: str) -> Tensor:
    return 0.15 + 0.7 * torch.rand(num_tasks, 2, generator=generator(seed, "tiny", name))


def _suite(
    name: str,
    spec: SpaceSpec,
    surrogate: Surrogate,
    meta_features: Tensor,
    worst_u: Tensor,
    best_u: Tensor,
) -> TaskSuite:
    space = SearchSpace(spec)
    suite = TaskSuite(
        SuiteSpec(
            name=name,
            source="tiny",
            metric=surrogate.metrics[0].name,
            tasks=_tasks(name, surrogate.num_tasks),
            cost_metric="seconds",
        ),
        space,
        surrogate,
        meta_features,
    )
    task = torch.arange(surrogate.num_tasks)
    scores = []
    for u in (worst_u, best_u):
        snapped = space.snap(u)
        scores.append(suite.evaluate(task, snapped, space.active(snapped)).score)
    worst, best = scores
    suite.known_range = KnownRange(
        worst, (worst + best) / 2.0, best, best_u, "closed form; the median is the mid-range"
    )
    return suite


def _tasks(name: str, count: int) -> tuple[TaskRef, ...]:
    return tuple(TaskRef("synthetic", f"{name}-{index}") for index in range(count))
