"""BOHB: Hyperband whose brackets begin with configurations of a model.

Falkner, Klein and Hutter (2018), "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML. Its model is
a tree-structured Parzen estimator over whole configurations; here it is Optuna's, hence "BOHB-type".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.hyperband import HyperbandOptimizer
from agents.optuna_space import OptunaSpace, StudyOptimizer, quiet
from agents.problem import Problem
from agents.sequential import Trial
from agents.successive_halving import (
    MultiFidelityAgent,
    RandomSource,
    SuccessiveHalvingConfig,
    hyperband_brackets,
    rung_shares,
)
from agents.tpe import tpe_sampler
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator, stream_seed
from hpo_gym.spaces import SearchSpace

__all__ = ["BOHB", "BOHBConfig", "ModelSource"]


@dataclass(frozen=True)
class BOHBConfig(SuccessiveHalvingConfig):
    """Configuration of :class:`BOHB`; the values are the paper's.

    Args:
        eta: One in ``eta`` configurations of a rung goes on to the next, which costs ``eta`` times as much.
        random_fraction: How likely a new configuration is random all the same, in ``[0, 1]``.
        candidates: Candidates drawn from the model per group of hyperparameters, of which the best ratio of
            densities is taken.
    """

    random_fraction: float = 1.0 / 3.0
    candidates: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.random_fraction <= 1.0:
            raise InvalidSettingError(
                f"random_fraction={self.random_fraction!r} must lie in [0, 1]; the paper uses 1/3, and 1 is Hyperband."
            )
        require_integer("candidates", self.candidates, 1)


class ModelSource:
    """New configurations from a model of the most expensive rung that has enough observations.

    Enough are ``D + 3``: the paper's Algorithm 2 asks for two more than its ``N_min = D + 1``, the fewest that a
    density is fitted to.

    Args:
        space: The search space.
        shares: Share of a full evaluation of each rung, rising to 1.
        config: How it draws.
        seed: Root of its random numbers.
    """

    def __init__(self, space: SearchSpace, shares: tuple[float, ...], config: BOHBConfig, seed: int) -> None:
        self._shares, self._fraction = shares, config.random_fraction
        self._enough = space.dimension + 3
        # The same stream as Hyperband's, and another for the coin: with random_fraction=1 the two play alike.
        self._random = RandomSource(space, seed)
        self._coin = generator(seed, "bohb", "coin")
        optuna_space = OptunaSpace(space)
        self._studies = [
            StudyOptimizer(
                optuna_space, tpe_sampler(stream_seed(seed, "bohb", rung) % 2**32, True, 0, config.candidates)
            )
            for rung in range(len(shares))
        ]
        self._counts = [0] * len(shares)

    def propose(self) -> Tensor:
        from optuna.trial import TrialState

        coin = float(torch.rand((), generator=self._coin))
        rungs = [rung for rung, count in enumerate(self._counts) if count >= self._enough]
        if coin < self._fraction or not rungs:
            return self._random.propose()
        model = self._studies[rungs[-1]]
        with quiet():
            asked, parameters = model.suggest_legal()
        # It is evaluated elsewhere, most often at a cheaper rung: what comes out is told to the study of that one.
        model.study.tell(asked, state=TrialState.FAIL)
        return model.space.point(parameters)

    def observe(self, trial: Trial, share: float) -> None:
        rung = min(range(len(self._shares)), key=lambda index: abs(self._shares[index] - share))
        study = self._studies[rung]
        study.add(study.foreign(trial), trial.score)
        self._counts[rung] += 1


class BOHB(MultiFidelityAgent):
    """Hyperband's brackets, new configurations mostly from a model of what was seen.

    Differences from the paper's code: the density is Optuna's, which splits at the best tenth (not 15 percent) and
    has its own bandwidths.
    """

    name: ClassVar[str] = "bohb"
    # 2: forbidden suggestions are not paid for.
    version: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)
    config: BOHBConfig

    def make_optimizer(self, problem: Problem, seed: int) -> HyperbandOptimizer:
        self.require_rungs(problem)
        least, eta = problem.least_fidelity, self.config.eta
        source = ModelSource(problem.space, rung_shares(least, eta), self.config, seed)
        return HyperbandOptimizer(problem.space, hyperband_brackets(least, eta), source)
