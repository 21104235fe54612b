"""Bayesian optimisation with a Gaussian process, as Optuna's ``GPSampler`` has it.

Matérn 5/2 kernel with a length scale per hyperparameter, fitted by maximum a posteriori; log expected improvement
(Ament et al., 2023, arXiv 2310.20708) maximised by batched L-BFGS from quasi-random and incumbent points, discrete
hyperparameters by search over their values (Optuna's documentation of ``GPSampler``).
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from agents.acquisition import maximise_acquisition
from agents.optuna_space import OptunaSpace, Parameters, StudyOptimizer, quiet
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Trial
from hpo_gym.errors import require_booleans, require_integer, unknown_name
from hpo_gym.threads import one_thread

if TYPE_CHECKING:
    from optuna.samplers import GPSampler
    from optuna.trial import Trial as OptunaTrial

__all__ = ["ACQUISITIONS", "GPConfig", "GPOptimizer", "GaussianProcess", "fast_sampler", "require_acquisition"]

#: Ways to maximise the acquisition function.
ACQUISITIONS = ("batched", "optuna")


@dataclass(frozen=True)
class GPConfig:
    """Configuration of :class:`GaussianProcess`.

    Args:
        startup_trials: Trials before the model is used; the start that all methods share is one of them, the
            others are random. Optuna's default.
        deterministic: Whether the noise of the model is fixed to (almost) nothing. The surrogates answer the same
            question alike; Optuna's own default is ``False``.
        acquisition: How expected improvement is maximised: ``batched`` (:mod:`agents.acquisition`) or ``optuna``, as
            the library does, which takes several times as long where there are integers.
    """

    startup_trials: int = 10
    deterministic: bool = True
    acquisition: str = "batched"

    def __post_init__(self) -> None:
        require_integer("startup_trials", self.startup_trials, 1)
        require_acquisition(self.acquisition)
        require_booleans(self)


class GaussianProcess(SequentialAgent):
    """Optuna's Gaussian process.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "gp"
    # 2: the acquisition function in closed form, equal to about ten digits. 3: forbidden suggestions are not paid for.
    version: ClassVar[int] = 3
    libraries: ClassVar[tuple[str, ...]] = ("optuna", "scipy")
    config: GPConfig

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        config = self.config
        sampler = fast_sampler(seed, config.startup_trials, config.deterministic, config.acquisition)
        return GPOptimizer(OptunaSpace(problem.space), sampler, config.startup_trials)


class GPOptimizer(StudyOptimizer):
    """A study whose model always sees all hyperparameters.

    ``GPSampler`` models only what occurs in every trial, and draws everything else at random. So with conditions, the
    process proposes a value for every hyperparameter, and what turned out to be inactive is told with its default (as
    in SMAC): two configurations that differ in nothing that matters are one point of the model.

    Args:
        space: The search space in Optuna's terms.
        sampler: A ``GPSampler``.
        startup_trials: As for :class:`~agents.optuna_space.StudyOptimizer`.
    """

    def suggest(self) -> tuple[OptunaTrial, Parameters]:
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            asked = self.study.ask(fixed_distributions=self.space.distributions)
        return asked, dict(asked.params)

    def learn(self, asked: OptunaTrial, parameters: Parameters, active: Tensor, score: float) -> None:
        from optuna.trial import TrialState

        imputed = self.space.imputed(parameters, active)
        if imputed == parameters:
            super().learn(asked, parameters, active, score)
            return
        self.study.tell(asked, state=TrialState.FAIL)
        self.add(imputed, score)

    def foreign(self, trial: Trial) -> Parameters:
        return self.space.parameters(trial, impute=True)


def require_acquisition(kind: str) -> None:
    """Refuse an unknown way to maximise the acquisition function.

    Raises:
        UnknownNameError: With the closest one.
    """
    if kind not in ACQUISITIONS:
        raise unknown_name("acquisition", kind, ACQUISITIONS)


def fast_sampler(seed: int, startup_trials: int, deterministic: bool, acquisition: str) -> GPSampler:
    """Return a ``GPSampler`` that takes less time; with ``optuna`` it proposes what Optuna's own does, bit by bit.

    Args:
        seed: Its seed.
        startup_trials: ``n_startup_trials``.
        deterministic: ``deterministic_objective``.
        acquisition: One of :data:`ACQUISITIONS`.
    """
    with quiet():
        return _sampler_class(acquisition == "batched")(
            seed=seed,
            n_startup_trials=startup_trials,
            deterministic_objective=deterministic,
        )


@functools.cache
def _sampler_class(batched: bool) -> type[GPSampler]:
    from optuna.samplers import GPSampler

    # What ``with torch.device("cpu")`` does to every single operation takes almost half of the time, and changes
    # nothing where the default device is the CPU, which it is once no such mode is heard. Elsewhere, and in versions
    # of Optuna without this method, nothing is overridden.
    deaf = getattr(torch._C, "DisableTorchFunction", nullcontext)

    class FastGPSampler(GPSampler):
        def _sample_relative_impl(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            with deaf():
                return super()._sample_relative_impl(*arguments, **named)

    class BatchedGPSampler(FastGPSampler):
        # Optuna's own comment offers this method to those who want another algorithm.
        def _optimize_acqf(self, acqf: Any, best_params: Any) -> Any:
            return maximise_acquisition(
                acqf, best_params, self._rng.rng, self._n_preliminary_samples, self._n_local_search, self._tol
            )

    return BatchedGPSampler if batched else FastGPSampler
