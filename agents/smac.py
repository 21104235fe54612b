"""SMAC: Bayesian optimisation with a random forest, as the library SMAC3 sets it up for hyperparameters.

Lindauer, Eggensperger, Feurer, Biedenkapp, Deng, Benjamins, Ruhkopf, Sass and Hutter (2022), "SMAC3: A Versatile
Bayesian Optimization Package for Hyperparameter Optimization", JMLR 23(54); Hutter, Hoos and Leyton-Brown (2011).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.seeding import generator
from hpo_gym.spaces.columns import Value

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

__all__ = ["SMAC", "SMACConfig", "SMACOptimizer"]

# Far more than there are trials: a tree has at most one leaf per trial.
_LEAVES = 1024


@dataclass(frozen=True)
class SMACConfig:
    """Configuration of :class:`SMAC`; the defaults are those of SMAC3's ``HyperparameterOptimizationFacade``.

    Args:
        trees: Trees of the random forest.
        initial_per_hyperparameter: Points of the initial design per hyperparameter.
        initial_share: Most that the initial design may take of the budget, in ``(0, 1]``; the start that all methods
            share comes on top.
        random_probability: How likely a suggestion is random, in ``[0, 1]``.
        retrain_after: Suggestions from one model, before it learns what came out.
    """

    trees: int = 10
    initial_per_hyperparameter: int = 10
    initial_share: float = 0.25
    random_probability: float = 0.2
    retrain_after: int = 8

    def __post_init__(self) -> None:
        for name in ("trees", "initial_per_hyperparameter", "retrain_after"):
            require_integer(name, getattr(self, name), 1)
        if not 0.0 < self.initial_share <= 1.0:
            raise InvalidSettingError(f"initial_share={self.initial_share!r} must lie in (0, 1]; SMAC3 uses 0.25.")
        if not 0.0 <= self.random_probability <= 1.0:
            raise InvalidSettingError(
                f"random_probability={self.random_probability!r} must lie in [0, 1]; SMAC3 uses 0.2."
            )


class SMACOptimizer(Optimizer):
    """One episode of SMAC, by its ask and tell.

    It never suggests a configuration twice. Where all of a small space has been tried, the rest of the budget goes to
    random configurations.

    Args:
        config: Its settings.
        problem: The search space and the budget, which sets the size of the initial design.
        seed: Root of its random numbers.
    """

    def __init__(self, config: SMACConfig, problem: Problem, seed: int) -> None:
        self._space = problem.space
        self._configspace = problem.space.to_configspace()
        self._draws = generator(seed, "smac", "exhausted")
        self._exhausted = False
        self._pending: tuple[Any, Tensor] | None = None
        self._facade = _make_facade(config, self._configspace, problem.budget, seed)
        # SMAC files a trial under the seed of its target function, and goes on with the first that it was told of.
        self._trial_seed = 0

    def ask(self) -> Suggestion:
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        if self._pending is None and not self._exhausted:
            try:
                with _quiet():
                    info = self._facade.ask()
            except (StopIteration, ConfigurationSpaceExhaustedException):
                self._exhausted = True
            else:
                self._pending = info, self._point(info.config)
        if self._pending is None:
            return Suggestion(self._space.sample(1, self._draws)[0])
        return Suggestion(self._pending[1])

    def tell(self, trial: Trial) -> None:
        from smac.runhistory import TrialInfo, TrialValue

        if self._exhausted:
            return
        if self._pending is not None and trial.answers(self._pending[1], self._space):
            info, self._pending = self._pending[0], None
            self._trial_seed = info.seed
        else:
            info = TrialInfo(self._configuration(trial.configuration), seed=self._trial_seed)
        with _quiet():
            self._facade.tell(info, TrialValue(cost=1.0 - trial.score), save=False)

    def _point(self, configuration: Any) -> Tensor:
        """Return a configuration of ConfigSpace as a point of the unit cube, float64 ``[D]``."""
        values: dict[str, Value] = {}
        for name, value in dict(configuration).items():
            column = self._space.spec.columns[self._space.spec.position(name)]
            # ConfigSpace rounds the bounds of floats, up and down.
            values[name] = min(max(value, column.lower), column.upper) if column.is_numeric else value
        return self._space.from_dicts([values])[0]

    def _configuration(self, values: dict[str, Value]) -> Any:
        """Return active hyperparameters by name as a configuration of ConfigSpace."""
        from ConfigSpace import Configuration

        inside: dict[str, Any] = dict(values)
        for column in self._space.spec.columns:
            if column.is_numeric and column.name in inside:
                parameter: Any = self._configspace[column.name]
                inside[column.name] = min(max(inside[column.name], parameter.lower), parameter.upper)
        return Configuration(self._configspace, values=inside)


class SMAC(SequentialAgent):
    """A random forest of all that was seen, and the largest expected improvement on the best of it.

    Every evaluation is a full one, also where the environment offers cheaper ones.
    """

    name: ClassVar[str] = "smac"
    libraries: ClassVar[tuple[str, ...]] = ("smac", "scikit-learn")
    config: SMACConfig

    def prepare(self, problem: Problem) -> None:
        _require_package()
        super().prepare(problem)

    def make_optimizer(self, problem: Problem, seed: int) -> SMACOptimizer:
        _require_package()
        return SMACOptimizer(self.config, problem, seed)


def _require_package() -> None:
    try:
        from smac import HyperparameterOptimizationFacade  # noqa: F401
    except ImportError as error:
        raise InvalidSettingError(
            f"Agent 'smac' needs the package smac, which cannot be imported ({error}). Install it with "
            "`pip install '.[smac]'` in a checkout of hpo_gym (`make install` has it), or leave out 'smac'."
        ) from error


def _make_facade(config: SMACConfig, configspace: ConfigurationSpace, budget: int, seed: int) -> Any:
    """Return SMAC3's own set-up for hyperparameters, without a target function, workers or files."""
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario

    # SMAC writes to its folder when it is made; what it is told with save=False, it never writes.
    with tempfile.TemporaryDirectory(prefix="hpo_gym_smac_") as folder, _quiet():
        scenario = Scenario(
            configspace, deterministic=True, n_trials=budget, seed=seed, output_directory=Path(folder), n_workers=1
        )
        return Facade(
            scenario,
            model=_forest(scenario, config.trees),
            acquisition_maximizer=_maximizer(scenario),
            initial_design=Facade.get_initial_design(
                scenario,
                n_configs_per_hyperparameter=config.initial_per_hyperparameter,
                max_ratio=config.initial_share,
            ),
            random_design=Facade.get_random_design(scenario, probability=config.random_probability),
            config_selector=Facade.get_config_selector(scenario, retrain_after=config.retrain_after),
            logging_level=False,
        )


def _maximizer(scenario: Any) -> Any:
    """Return the facade's maximiser of the acquisition function, of our own faster parts."""
    from smac import HyperparameterOptimizationFacade as Facade

    from agents.smac_components import ArrayLocalSearch, ArrayRandomSearch, require_known_smac

    require_known_smac()
    maximizer = Facade.get_acquisition_maximizer(scenario)
    of_scenario = {"configspace": scenario.configspace, "seed": scenario.seed}
    maximizer._random_search = ArrayRandomSearch(maximizer._local_search_iterations, **of_scenario)
    maximizer._local_search = ArrayLocalSearch(**of_scenario)
    return maximizer


def _forest(scenario: Any, trees: int) -> Any:
    """Return the model of the facade, the same trees for a hundredth of the time.

    By itself it takes all cores, and spends the time waiting for their threads; and it reserves memory for 2^20
    leaves per tree, which costs more than growing the few that a budget can fill.
    """
    from agents.smac_components import ArrayForest

    return ArrayForest(
        configspace=scenario.configspace,
        n_trees=trees,
        log_y=True,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_depth=2**20,
        max_leaf_nodes=max(_LEAVES, 2 * scenario.n_trials),
        bootstrapping=True,
        n_jobs=1,
        seed=scenario.seed,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence SMAC's own loggers, unless somebody has set how much they say."""
    logger = logging.getLogger("smac")
    unset = logger.level == logging.NOTSET
    if unset:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if unset:
            logger.setLevel(logging.NOTSET)
