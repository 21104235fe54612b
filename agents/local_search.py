"""Local search: mutate the best configuration so far.

The neighbourhood is SMAC's (Hutter, Hoos and Leyton-Brown, 2011, "Sequential Model-Based Optimization for General
Algorithm Configuration", LION 5, section 4.3): Gaussian steps of standard deviation 0.2 in the unit cube, another
choice uniformly. The number of mutated hyperparameters is that of a (1 + 1) evolutionary algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.populations import HistoryAgent, Trials, uniform_at_inactive
from agents.problem import Problem
from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces import SearchSpace

__all__ = ["LocalSearch", "LocalSearchConfig", "Neighbourhood", "require_step"]

# Neighbours drawn per trial, of which the first legal one that was not tried yet is evaluated.
_NEIGHBOURS = 8


@dataclass(frozen=True)
class LocalSearchConfig:
    """Configuration of :class:`LocalSearch`.

    Args:
        sigma: Standard deviation of a step on a numeric hyperparameter, as a share of its (log) range, above 0.
        random_share: Probability of a random configuration instead of a neighbour, in ``[0, 1]``.

    Raises:
        InvalidSettingError: For an impossible value.
    """

    sigma: float = 0.2
    random_share: float = 0.0

    def __post_init__(self) -> None:
        require_step(self.sigma, f"sigma={self.sigma!r}")
        if not 0.0 <= self.random_share <= 1.0:
            raise InvalidSettingError(f"random_share={self.random_share!r} must lie in [0, 1]: it is a probability.")


def require_step(sigma: float, given: str) -> None:
    """Refuse what is no standard deviation of a step.

    Raises:
        InvalidSettingError: Beginning with ``given``, the setting and its value.
    """
    if not 0.0 < sigma < float("inf"):
        raise InvalidSettingError(
            f"{given} must be a number above 0, a share of a hyperparameter's range; SMAC uses 0.2."
        )


class Neighbourhood:
    """The configurations beside a configuration.

    Each active hyperparameter is mutated with probability 1 / (active ones), at least one of them: a number by a
    Gaussian step reflected into its range, an integer or ordinal one by at least one value, a choice to another one.

    Args:
        space: The search space, where neighbours are computed.
        sigma: Standard deviation of a step on a numeric hyperparameter, as a share of its (log) range.
    """

    def __init__(self, space: SearchSpace, sigma: float) -> None:
        self.space, self.sigma = space, sigma
        columns, device = space.spec.columns, space.device

        def tensor(values: list[bool] | list[float]) -> Tensor:
            return torch.tensor(values, device=device)

        self._stepped = tensor([column.kind in ("integer", "ordinal") for column in columns])
        self._chosen = tensor([column.kind == "categorical" for column in columns])
        self._mutable = tensor([column.cardinality > 1 for column in columns])
        self._lower = tensor([float(column.lower) if column.is_numeric else 0.0 for column in columns])
        last = [column.upper if column.is_numeric else len(column.choices) - 1.0 for column in columns]
        self._upper = tensor([float(value) for value in last])

    def draw(self, u: Tensor, active: Tensor, draws: torch.Generator) -> Tensor:
        """Return one neighbour of each configuration, snapped.

        Args:
            u: Points of the unit cube, float32 ``[P, D]``.
            active: Their activity, bool ``[P, D]``.
            draws: Where random numbers come from.
        """
        shape, device = u.shape, draws.device
        step = self.sigma * torch.randn(shape, generator=draws, device=device)
        uniform = torch.rand(shape, generator=draws, device=device)
        picked = torch.rand(shape, generator=draws, device=device)
        space, before = self.space, self.space.snap(u)
        # Reflected at both ends, however often.
        moved = space.snap(1.0 - (1.0 - (before + step).abs() % 2.0).abs())
        # A step too small to change an integer changes it by one, in its direction where the range allows.
        number, sign = space.numbers(before), torch.where(step < 0.0, -1.0, 1.0)
        one = number + sign
        one = torch.where((one < self._lower) | (one > self._upper), number - sign, one)
        stuck = self._stepped & (space.numbers(moved) == number)
        moved = torch.where(stuck, space.encode(one), moved)
        # Each of the other choices alike: so many places further, round and round.
        others = self._upper.clamp(min=1.0)
        further = 1.0 + torch.minimum((uniform * others).floor(), others - 1.0)
        moved = torch.where(self._chosen, space.encode((number + further) % (others + 1.0)), moved)
        return torch.where(self._flips(active & self._mutable, picked), moved, before)

    def fresh(self, trials: Trials, draws: torch.Generator) -> Tensor:
        """Return a neighbour of every incumbent, the first of eight that is legal and was not tried, ``[B, D]``.

        Where there is none, it is the first of the eight, which may be forbidden.

        Args:
            trials: What was evaluated so far, at least one trial a row; the latest of equally good ones is the
                incumbent.
            draws: Where random numbers come from.
        """
        batch, _, dimension = trials.u.shape
        incumbent = trials.incumbent()
        wide = (batch, _NEIGHBOURS, dimension)
        parent = uniform_at_inactive(incumbent, draws).expand(wide).reshape(-1, dimension)
        active = incumbent.active.expand(wide).reshape(-1, dimension)
        neighbours = self.draw(parent, active, draws)
        shown = self.space.canonical(neighbours).view(wide)
        fresh = ~trials.tried(shown) & self.space.legal(neighbours).view(wide[:2])
        # argmax returns the first of equal values.
        pick = fresh.int().argmax(1)
        return neighbours.view(wide)[torch.arange(batch, device=pick.device), pick]

    def _flips(self, mutable: Tensor, picked: Tensor) -> Tensor:
        """Return which hyperparameters to mutate: each with probability 1 / (mutable ones), at least one."""
        flips = mutable & (picked * mutable.sum(1, keepdim=True) < 1.0)
        # The smallest of independent uniform numbers is equally likely everywhere.
        least = picked.masked_fill(~mutable, 2.0).argmin(1, keepdim=True)
        return flips | (torch.zeros_like(mutable).scatter(1, least, True) & mutable)


class LocalSearch(HistoryAgent):
    """Evaluates a random neighbour of the incumbent, the latest of equally good trials.

    See :class:`Neighbourhood`. Hyperparameters that a mutation makes active have random values; neighbours that were
    tried already are passed over where eight draws hold another. An episode without a trial begins with a random
    configuration.
    """

    name: ClassVar[str] = "local_search"
    config: LocalSearchConfig

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        self._neighbourhood = Neighbourhood(self.space, self.config.sigma)

    def propose(self, trials: Trials, draws: torch.Generator) -> Tensor:
        batch = len(trials.u)
        chosen = self.random_where_forbidden(self._neighbourhood.fresh(trials, draws), draws)
        random = torch.rand(batch, generator=draws, device=draws.device) < self.config.random_share
        random |= trials.count == 0
        return torch.where(random[:, None], self.space.sample(batch, draws), chosen)
