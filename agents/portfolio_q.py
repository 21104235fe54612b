"""Q-learning over a portfolio: which of the configurations that were good elsewhere to try next, given what came out.

Hyp-RL (Jomaa, Grabocka and Schmidt-Thieme, 2019) values every point of a factorial grid, which over ten hyperparameters
has two levels each. Here the actions are configurations that a greedy set cover chose on the training tasks (Wistuba,
Schilling and Schmidt-Thieme, 2015): the discretisation is learned, too, and playing it in order is a policy that the
network can represent. Both are charged alike in an episode; choosing candidates is training.

A list is blind beside its entries. So some actions are no candidates but moves: a random neighbour of the incumbent, as
in SMAC's local search, with a step of its own size each. What is learned is when to leave the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface
from agents.checked_numbers import require_numbers, require_share
from agents.greedy_portfolio import greedy_portfolio
from agents.local_search import Neighbourhood, require_step
from agents.networks import ValueNetwork
from agents.populations import Trials
from agents.problem import Problem, TrainingTasks
from agents.replay import Transitions
from agents.value_learning import ValueAgent, ValueConfig
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, require_effect, require_integer
from hpo_gym.mdp.observations import Observation, history_view
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace

__all__ = ["PortfolioQ", "PortfolioQConfig"]

# Closer points are one configuration: snapped integers differ in the last digit of float32 at most.
_SAME = 1e-5
# Differences of scores below it are not told apart.
_LEAST_GAP = 1e-6
# A coordinate outside of the unit cube, where no configuration is.
_NOWHERE = 2.0


@dataclass(frozen=True)
class PortfolioQConfig(ValueConfig):
    """Configuration of :class:`PortfolioQ`.

    Args:
        candidates: Configurations to choose among, ``K``; at least 2.
        drawn: Configurations that the candidates are chosen from on the training tasks.
        hidden: Widths of the network's hidden layers.
        dueling: Whether the network estimates the value of a state and the advantages of actions apart.
        score_dropout: Probability that a replayed transition hides the scores, so that only what was tried remains.
        score_noise: Standard deviation of what is added to the (relative) scores of a replayed transition. Either keeps
            a network from recognising its few dozen training datasets by their scores.
        moves: Further actions ``N``, as standard deviations of a step from the incumbent (shares of a hyperparameter's
            range, see :class:`~agents.local_search.Neighbourhood`); with ``()`` only candidates are played.
        ahead: Among how many of the candidates that were not tried yet it may choose, the first ones of the list.
    """

    discount: float = 0.9
    batch_size: int = 256
    buffer_size: int = 100_000
    evaluation_epsilon: float = 0.0
    candidates: int = 64
    drawn: int = 4096
    hidden: tuple[int, ...] = (256, 256)
    dueling: bool = True
    score_dropout: float = 0.5
    score_noise: float = 0.05
    moves: tuple[float, ...] = (0.05, 0.2)
    ahead: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("candidates", self.candidates, 2)
        require_integer("drawn", self.drawn, self.candidates, "the candidates are chosen from them")
        require_integer("ahead", self.ahead, 1)
        require_share("score_dropout", self.score_dropout)
        require_numbers(self, not_negative=("score_noise",))
        if self.score_dropout == 1.0:
            require_effect(self, ("score_noise",), "score_dropout=1", "Set agent.score_dropout below 1")
        if self.ahead > self.candidates:
            raise InvalidSettingError(
                f"ahead={self.ahead} must be at most candidates={self.candidates}: there are no others to choose among."
            )
        for sigma in self.moves:
            require_step(sigma, f"moves={self.moves!r}: each")


class PortfolioQ(ValueAgent):
    """A value for each of ``K`` candidates and ``N`` moves, given which were tried and how far below the incumbent.

    An encoded observation is ``tried [K] | others | budget left | gap [K] | largest gap | waited``: the gap of a
    candidate to the incumbent is divided by the largest gap of the episode, so that neither the level nor the spread of
    a dataset's scores is what tells it apart; ``others`` counts trials that were no candidates, ``waited`` those since
    the incumbent was found, both as shares of the longest episode. A candidate is tried once; when all are and there
    are no moves, they may be tried again.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
    """

    name: ClassVar[str] = "portfolio_q"
    learns: ClassVar[bool] = True
    version: ClassVar[int] = 2
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)
    config: PortfolioQConfig
    network: ValueNetwork
    target: ValueNetwork

    def __init__(
        self, config: PortfolioQConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        count, self._dimension = config.candidates, len(interface.hyperparameters)
        super().__init__(config, interface, seed, device, 2 * count + 4, count + len(config.moves))
        draws = generator(seed, "agent", "candidates")
        #: The candidates, float32 ``[K, D]``: random ones until training chooses better ones.
        self.points = torch.rand(count, self._dimension, generator=draws).to(self.device)
        #: Evaluations on training tasks that choosing them took.
        self.training_evaluations = 0
        self._projection = torch.rand(self._dimension, generator=draws, dtype=torch.float64).to(self.device) + 0.5
        self._index_points()
        self._neighbourhoods: tuple[Neighbourhood, ...] | None = None

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        space = SearchSpace(problem.space.spec).to(self.device)
        self._neighbourhoods = tuple(Neighbourhood(space, sigma) for sigma in self.config.moves)

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.prepare(Problem.of(env))
        super().train(env, callback)

    def make_network(self, width: int, num_actions: int, heads: int, noise: float | None, prior: float) -> ValueNetwork:
        config = self.config
        return ValueNetwork(width, num_actions, config.hidden, heads, config.dueling, noise, prior)

    def begin_training(self, env: HPOVectorEnv) -> None:
        training = TrainingTasks(env.suite, env.engine.tasks)
        chosen = greedy_portfolio(
            Problem.of(env),
            training,
            self.config.candidates,
            candidates=self.config.drawn,
            seed=self.seed,
            after_default=Problem.of(env).starts_at_default,
        )
        # Of a small space fewer differ; the rest are nowhere, and never legal.
        self.points.fill_(_NOWHERE)
        self.points[: len(chosen)] = chosen.to(self.device)
        self.training_evaluations = training.evaluations
        self._index_points()

    def _index_points(self) -> None:
        """Sort the candidates along one direction, in which a trial is looked up."""
        self._key, self._order = (self.points.double() @ self._projection).sort()

    def _candidate(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the candidate nearest to configurations ``[B, T, D]`` along the direction, and whether it is the one.

        Returns:
            int64 ``[B, T]`` and bool ``[B, T]``.
        """
        key = u.double() @ self._projection
        right = torch.searchsorted(self._key, key).clamp(max=len(self._key) - 1)
        left = (right - 1).clamp(min=0)
        nearer = (self._key[left] - key).abs() < (self._key[right] - key).abs()
        index = self._order[torch.where(nearer, left, right)]
        return index, ((self.points[index] - u).abs() <= _SAME).all(2)

    def encode(self, observation: Observation) -> Tensor:
        assert isinstance(observation, dict)  # observation_kinds
        trials, count = observation["mask"].shape[1], self.config.candidates
        view = history_view(observation, trials, self._dimension)
        mask, score = view["mask"], view["score"]
        index, known = self._candidate(view["u"])
        known &= mask
        best = score.masked_fill(~mask, -torch.inf).amax(1, keepdim=True).clamp(min=0.0)
        gap = (best - score).masked_fill(~mask, 0.0)
        largest = gap.amax(1, keepdim=True)
        relative = gap / largest.clamp(min=_LEAST_GAP)
        # Whatever is no candidate goes to a column of its own, which is dropped.
        place = torch.where(known, index, count)
        tried = score.new_zeros(len(score), count + 1).scatter_(1, place, 1.0)[:, :count]
        gaps = score.new_zeros(len(score), count + 1).scatter_(1, place, relative)[:, :count]
        others = (mask & ~known).sum(1, keepdim=True) / trials
        # The first of equally good trials: one that only equals the incumbent is no improvement.
        found = score.masked_fill(~mask, -torch.inf).argmax(1, keepdim=True)
        waited = (mask.sum(1, keepdim=True) - 1 - found).clamp(min=0) / trials
        return torch.cat([tried, others, view["budget_left"], gaps, largest, waited], 1)

    @property
    def _scores(self) -> slice:
        """Columns of an encoded observation that depend on what came out."""
        return slice(self.config.candidates + 2, None)

    def legal(self, encoded: Tensor, mask: Tensor | None) -> Tensor:
        count, moves = self.config.candidates, len(self.config.moves)
        there = (self.points < _NOWHERE).all(1)
        free = (encoded[:, :count] < 0.5) & there
        free &= free.cumsum(1) <= self.config.ahead
        # Without a trial there is no incumbent to move from.
        movable = (encoded[:, : count + 1] > 0.0).any(1, keepdim=True).expand(-1, moves)
        legal = torch.cat([free, movable], 1)
        again = ~legal.any(1, keepdim=True)
        return legal | torch.cat([again & there, torch.zeros_like(movable)], 1)

    def executed(self, actions: Tensor, observation: Observation, draws: torch.Generator) -> Tensor:
        assert isinstance(observation, dict)  # observation_kinds
        count = self.config.candidates
        u = self.points[actions.clamp(max=count - 1)]
        for move, neighbourhood in enumerate(self._prepared(self._neighbourhoods)):
            rows = (actions == count + move).nonzero().squeeze(1)
            if len(rows) > 0:
                trials = Trials.of({name: value[rows] for name, value in observation.items()}, self._dimension)
                u[rows] = neighbourhood.fresh(trials, draws)
        if self.interface.action_dimension > self._dimension:
            # With multi-fidelity the last coordinate asks for a share of a full evaluation: all of it.
            u = torch.cat([u, torch.ones_like(u[:, :1])], 1)
        return u

    def augment(self, batch: Transitions) -> None:
        config, count = self.config, self.config.candidates
        shown = torch.rand(len(batch.reward), 1, generator=self._replay_draws, device=self.device)
        shown = (shown >= config.score_dropout).float()
        noise = torch.randn(len(batch.reward), count, generator=self._replay_draws, device=self.device)
        for encoded in (batch.observation, batch.following):
            scores = encoded[:, self._scores]
            # The same noise before and after a step: what was tried came out as it did.
            scores[:, :count] += config.score_noise * noise * encoded[:, :count]
            scores *= shown

    def shown(self, encoded: Tensor) -> Tensor:
        if self.config.score_dropout < 1.0:
            return encoded
        hidden = encoded.clone()
        hidden[:, self._scores] = 0.0
        return hidden

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        mine = {"points": self.points.clone(), "training_evaluations": self.training_evaluations}
        return super().state_dict(resumable) | mine

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        self.points = saved["points"].to(self.device)
        self.training_evaluations = int(saved["training_evaluations"])
        self._index_points()
