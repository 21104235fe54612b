"""Who reached what in the transfer study, space by space: series of regrets, their intervals and their tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agents.study import WALK, mean_curves
from hpo_gym.errors import DataIntegrityError
from hpo_gym.evaluation import PairedTest, RegretCurves, bootstrap_interval, pairwise_tests

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["PORTFOLIO", "RANDOM", "Series", "SpaceSeries"]

RANDOM, PORTFOLIO = "random", "portfolio"


@dataclass(frozen=True)
class Series:
    """What one agent reached after training on so many datasets of one space.

    Args:
        agent: Its name.
        trained_on: The space; empty for a method that learned nothing.
        datasets: Training datasets; 0 for a method that learned nothing.
        seeds: What tells its ``S`` runs apart, each with a subset of its own.
        tasks: The ``N`` datasets that it was tested on, sorted.
        regret: Means over repetitions, float64 ``[N, S, K]``: test datasets, runs, trials.
    """

    agent: str
    trained_on: str
    datasets: int
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    regret: np.ndarray[Any, Any]

    @property
    def label(self) -> str:
        """What tells it from the others of its space."""
        return f"{self.agent}, {self.datasets} of {self.trained_on}" if self.datasets else self.agent

    @property
    def runs(self) -> int:
        """``S``."""
        return int(self.regret.shape[1])

    @property
    def final(self) -> np.ndarray[Any, Any]:
        """Regret when the budget is spent, means over runs, ``[N]``."""
        mean: np.ndarray[Any, Any] = self.regret[:, :, -1].mean(axis=1)
        return mean

    @property
    def mean(self) -> float:
        """Mean of :attr:`final`."""
        return float(self.final.mean())

    @property
    def interval(self) -> str:
        """Mean and 95 % interval over datasets when the budget is spent."""
        return self.interval_at(-1)

    def interval_at(self, index: int) -> str:
        """Return mean and 95 % interval over datasets after the trial with an index."""
        values = self.regret[:, :, index].mean(axis=1, keepdims=True)
        low, high = bootstrap_interval(values)
        return f"{values.mean():.4f} [{low[0]:.4f}, {high[0]:.4f}]"

    def band(self) -> tuple[float, float]:
        """Return the 95 % interval over runs of the final mean over datasets; NaN with one run."""
        low, high = bootstrap_interval(self.regret[:, :, -1].mean(axis=0)[:, None])
        return float(low[0]), float(high[0])


class SpaceSeries:
    """All series on the test datasets of one space.

    Args:
        name: The space.
        training: Its training datasets; 0 where nobody was trained on it.
        series: In order.
    """

    def __init__(self, name: str, training: int, series: Sequence[Series]) -> None:
        self.name, self.training, self.series = name, training, tuple(series)
        self.tests = len(self.series[0].regret)

    @classmethod
    def of_training(cls, frame: pd.DataFrame, space: str, training: int, trials: Sequence[int]) -> SpaceSeries:
        """Return everyone who was trained on the space itself, and random search."""
        mine = frame[(frame["space"] == space) & frame["trained_on"].isin([space, ""]) & (frame["agent"] != WALK)]
        return cls(space, training, _series(mine, space, trials))

    @classmethod
    def of_agents(cls, frame: pd.DataFrame, space: str, training: int, trials: Sequence[int]) -> SpaceSeries:
        """Return everyone who learned from all training datasets of the space itself, or from none beforehand."""
        here = frame[frame["space"] == space]
        whole = (here["trained_on"] == space) & (here["datasets"] == training)
        return cls(space, training, _series(here[whole | (here["trained_on"] == "")], space, trials))

    @classmethod
    def of_other_spaces(
        cls, frame: pd.DataFrame, space: str, training: Mapping[str, int], trials: Sequence[int]
    ) -> SpaceSeries:
        """Return who came from other spaces, the same agents trained on all of this one, random search and walks."""
        here = frame[frame["space"] == space]
        agents = set(here.loc[~here["trained_on"].isin([space, ""]), "agent"])
        whole = (here["trained_on"] == space) & (here["datasets"] == training.get(space, 0))
        kept = here["agent"].isin([RANDOM, WALK]) | (
            here["agent"].isin(agents) & (whole | (here["trained_on"] != space))
        )
        return cls(space, training.get(space, 0), _series(here[kept], space, trials))

    @property
    def trained(self) -> tuple[Series, ...]:
        """Series of policies: neither random search nor portfolios."""
        return tuple(series for series in self.series if series.trained_on and series.agent != PORTFOLIO)

    @property
    def random(self) -> Series:
        """Random search."""
        return next(series for series in self.series if series.agent == RANDOM)

    def portfolio(self, datasets: int) -> Series | None:
        """Return the portfolio of so many training datasets."""
        return next((each for each in self.series if (each.agent, each.datasets) == (PORTFOLIO, datasets)), None)

    def rival(self, series: Series) -> Series | None:
        """Return the portfolio of the same training datasets: of the same number, and of the same runs' subsets."""
        whole = self.portfolio(series.datasets)
        if whole is None or not set(series.seeds) <= set(whole.seeds):
            return None
        chosen = [whole.seeds.index(seed) for seed in series.seeds]
        return replace(whole, seeds=series.seeds, regret=whole.regret[:, chosen])

    @cached_property
    def against_random(self) -> dict[str, PairedTest]:
        """Tests against random search by label, corrected for all of them."""
        return pairwise_tests(_curves({series.label: series.final for series in self.series}), RANDOM)

    @cached_property
    def against_walk(self) -> dict[str, PairedTest]:
        """Tests against the random walk by label, corrected for all of them."""
        return pairwise_tests(_curves({series.label: series.final for series in self.series}), WALK)

    @cached_property
    def against_portfolio(self) -> dict[str, PairedTest]:
        """Tests of policies against the portfolio of the same training datasets, corrected for all of them."""
        gaps = {each.label: each.final - rival.final for each in self.trained if (rival := self.rival(each))}
        # Each has a rival of its own: what is tested is the difference, against none.
        return pairwise_tests(_curves({**gaps, "none": 0.0 * self.random.final}), "none") if gaps else {}


def _series(frame: pd.DataFrame, space: str, trials: Sequence[int]) -> list[Series]:
    import numpy as np

    tasks = sorted(map(str, frame["task"].unique()))
    found = []
    for (agent, trained_on, datasets), part in frame.groupby(["agent", "trained_on", "datasets"], observed=True):
        wide = part.pivot(index="task", columns="seed", values="regret")
        if sorted(map(str, wide.index)) != tasks or wide.isna().to_numpy().any():
            raise DataIntegrityError(
                f"{agent} trained on {datasets} datasets of {trained_on or 'nothing'} was not tested on every dataset "
                f"of {space}. Evaluate again with `python -m agents.transfer_study`."
            )
        regret = np.array([[list(cell) for cell in row] for row in wide.reindex(tasks).to_numpy()], dtype=np.float64)
        seeds = tuple(int(seed) for seed in wide.columns)
        shape = (len(tasks), len(seeds), len(trials))
        found.append(Series(str(agent), str(trained_on), int(datasets), seeds, tuple(tasks), regret.reshape(shape)))
    # References first, then agents by name, each from few datasets to many.
    order = (RANDOM, WALK, PORTFOLIO)
    return sorted(
        found,
        key=lambda each: (
            order.index(each.agent) if each.agent in order else len(order),
            each.agent,
            each.trained_on,
            each.datasets,
        ),
    )


def _curves(values: Mapping[str, np.ndarray[Any, Any]]) -> RegretCurves:
    """Return final regrets ``[N]`` as curves of one trial, which tests are made for."""
    count = len(next(iter(values.values())))
    tasks = [("", "", str(index)) for index in range(count)]
    return mean_curves(tasks, {name: value[:, None] for name, value in values.items()})
