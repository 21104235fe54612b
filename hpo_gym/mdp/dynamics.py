"""The dynamics of an episode, written once: ``reset`` and ``step`` on batches of tensors.

Both environments are shells over :class:`Dynamics`; nothing here knows Gymnasium. Neither function
changes its argument, with one exception for speed: the trial history of an episode is one buffer that
every step writes its own row of. Earlier states stay valid (their trial count hides later rows); call
``state.clone()`` before branching two continuations off one state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.actions import FULL_SHARE, Proposal, make_action_rule
from hpo_gym.mdp.observations import Observation, make_observation_rule
from hpo_gym.mdp.rewards import IMPROVEMENT_TOLERANCE, make_reward_rule
from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.mdp.state import EpisodeState, empty_history
from hpo_gym.tasks.suite import Evaluation, TaskSuite

__all__ = ["Dynamics", "Outcome"]

_FIDELITY_LEVELS = 5
_BUDGET_TOLERANCE = 1e-4
# Numbers that the trials of one episode may take.
_MOST_KEPT = 10_000_000


@dataclass
class Outcome:
    """What one step returned beside the next state.

    Args:
        reward: float32 ``[B]``.
        terminated: Whether the budget is spent (or a trial repeated, where that ends an episode),
            bool ``[B]``.
        evaluation: Metrics of the trial.
        legal: Whether the configuration violated no forbidden clause, bool ``[B]``. An illegal one
            costs its trial and scores 0.
    """

    reward: Tensor
    terminated: Tensor
    evaluation: Evaluation
    legal: Tensor


class Dynamics:
    """The rules of an episode over one task suite.

    Args:
        suite: The tasks.
        settings: The rules.

    Raises:
        InvalidSettingError: If the suite cannot do what the settings ask for.
    """

    def __init__(self, suite: TaskSuite, settings: EpisodeSettings) -> None:
        self.suite = suite
        self.settings = settings
        self.space = suite.space
        self.shares = self._fidelity_shares()
        least = 1.0 if self.shares is None else float(self.shares[0])
        self.max_trials = math.ceil(settings.budget / least - 1e-6)
        self.actions = make_action_rule(self.space, settings, self.shares)
        self.observations = make_observation_rule(suite, settings, self.max_trials)
        self._reward = make_reward_rule(settings, suite)
        #: Where episodes begin, float32 ``[D]``; ``None`` where that is random.
        self.start = self._start_configuration()
        # What is the same at every step is made once: at a batch of one that shows.
        self._tolerance = torch.tensor(IMPROVEMENT_TOLERANCE, device=suite.device)
        # Whole evaluations are counted in float32, where a fine tolerance would be rounded away from 2,048 on.
        whole = self.shares is None
        tolerance, kind = (0.5, torch.float32) if whole else (_BUDGET_TOLERANCE, torch.float64)
        self._spent_all = torch.tensor(settings.budget - tolerance, dtype=kind, device=suite.device)
        self._full = torch.empty(0)
        self._legal = torch.empty(0, dtype=torch.bool)
        self._keeps_history = settings.observation == "history" or settings.terminate_on_repeat
        if self._keeps_history and self.max_trials * self.space.dimension > _MOST_KEPT:
            raise InvalidSettingError(
                f"budget={settings.budget}: a history of {self.max_trials:,} trials of {self.space.dimension} "
                f"hyperparameters is more than {_MOST_KEPT:,} numbers for every episode. Use a smaller budget, or "
                "observation='flat' without terminate_on_repeat."
            )

    def _fidelity_shares(self) -> Tensor | None:
        if not self.settings.multi_fidelity:
            return None
        fidelity = self.suite.fidelity
        if fidelity is None:
            raise InvalidSettingError(
                f"multi_fidelity=True, but {self.suite.spec.source}:{self.suite.name} has no "
                "fidelity. Use space='lcbench', whose fidelity is the number of epochs."
            )
        least = max(self.settings.least_fidelity, fidelity.lower / fidelity.upper)
        if fidelity.integer:
            least = min(1.0, math.ceil(least * fidelity.upper - 1e-6) / fidelity.upper)
        shares = torch.exp(torch.linspace(math.log(least), 0.0, _FIDELITY_LEVELS, device=self.suite.device))
        if fidelity.integer:
            shares = torch.unique((shares * fidelity.upper).round() / fidelity.upper)
        return shares

    def _start_configuration(self) -> Tensor | None:
        if self.settings.start == "random":
            return None
        start = self.space.default()
        if self.settings.start_configuration is not None:
            start = self.space.changed_default(self.settings.start_configuration).to(start)
            if not bool(self.space.legal(start[None])):
                raise InvalidSettingError(
                    f"start_configuration={dict(self.settings.start_configuration)!r} is forbidden by the search space."
                )
        return start

    def reset(self, task: Tensor, draws: torch.Generator, start: Tensor | None = None) -> EpisodeState:
        """Begin episodes; see :meth:`begin`."""
        return self.begin(task, draws, start)[0]

    def begin(
        self, task: Tensor, draws: torch.Generator, start: Tensor | None = None
    ) -> tuple[EpisodeState, Outcome | None]:
        """Begin episodes, and say what the evaluation at reset returned.

        Args:
            task: Indices into the suite, int64 ``[B]``.
            draws: Where random starts come from.
            start: Configurations to start from, ``[B, D]``; default: what the settings say.

        Returns:
            The first state, and the outcome of its evaluation; ``None`` if nothing is evaluated at reset.
        """
        batch, device = len(task), task.device
        if start is None:
            start = self.start
        u = self.space.sample(batch, draws) if start is None else self.space.snap(start.expand(batch, -1)).clone()
        u, level = self.actions.start_level(u)
        zero = torch.zeros(batch, device=device)
        count = torch.zeros(batch, dtype=torch.int64, device=device)
        nothing = zero if self.shares is None else zero.double()
        last = 0 if self.shares is None else len(self.shares) - 1
        history = None
        if self._keeps_history:
            history = empty_history(batch, self.max_trials, self.space.dimension, u.device)
        state = EpisodeState(
            task=task,
            u=u,
            active=self.space.active(u),
            level=level,
            score=zero,
            incumbent=zero,
            trial=count,
            spent=nothing,
            fidelity=zero,
            fidelity_level=count + last,
            repeated=torch.zeros(batch, dtype=torch.bool, device=device),
            returns=zero,
            history=history,
        )
        if self.settings.start == "none":
            return state, None
        share = None if self.shares is None else torch.ones(batch, device=device)
        first = Proposal(u, state.active, level, share, state.fidelity_level)
        state, outcome = self._evaluate(state, first)
        state.returns = zero
        return state, outcome

    def step(self, state: EpisodeState, action: Tensor) -> tuple[EpisodeState, Outcome]:
        """Advance every episode by one trial.

        Args:
            state: Where the episodes stand.
            action: Checked actions (see ``Dynamics.actions.check``): int64 ``[B]`` or float32
                ``[B, D]``.
        """
        return self._evaluate(state, self.actions.propose(state, action))

    def _evaluate(self, state: EpisodeState, proposal: Proposal) -> tuple[EpisodeState, Outcome]:
        fidelity = None
        if proposal.fidelity is None:
            price = share = self._always(len(state.task))[0]
        else:
            # The last trial of an episode gets what is left of the budget, and no more.
            fidelity, price = self._priced(proposal.fidelity, self.settings.budget - state.spent)
            share = price.float()
        evaluation = self.suite.evaluate(state.task, proposal.u, proposal.active, fidelity)
        score = evaluation.score
        if self.space.has_forbidden:
            legal = self.space.legal(proposal.u)
            score = score * legal
        else:
            legal = self._always(len(share))[1]
        gained = torch.gt(score - state.incumbent, self._tolerance)
        if fidelity is not None:
            # On some datasets a model trained on less scores higher than it ever does on everything. A cheap trial
            # buys knowledge; only a full one is a result.
            gained &= share > FULL_SHARE
        incumbent = torch.where(gained, score, state.incumbent)
        reward = self._reward(state.task, score, state.score, state.incumbent, incumbent, evaluation)
        spent = state.spent + price
        repeated = state.repeated
        if self._keeps_history:
            repeated = self._record(state, proposal, score, share)
        following = EpisodeState(
            task=state.task,
            u=proposal.u,
            active=proposal.active,
            level=proposal.level,
            score=score,
            incumbent=incumbent,
            trial=state.trial + 1,
            spent=spent,
            fidelity=share,
            fidelity_level=proposal.fidelity_level,
            repeated=repeated,
            returns=state.returns + reward,
            history=state.history,
        )
        terminated = torch.gt(spent, self._spent_all)
        if self.settings.terminate_on_repeat:
            terminated = terminated | repeated
        if self.shares is not None:
            # What is left would not buy the cheapest evaluation.
            least = float(self.shares[0]) - _BUDGET_TOLERANCE
            terminated = terminated | (self.settings.budget - spent < least) | (following.trial >= self.max_trials)
        return following, Outcome(reward, terminated, evaluation, legal)

    def _always(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return ones, float32 ``[B]``, and True, bool ``[B]``; the same tensors as long as the batch is as large."""
        if len(self._full) != batch:
            self._full = torch.ones(batch, device=self.suite.device)
            self._legal = self._full.bool()
        return self._full, self._legal

    def _priced(self, share: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fidelity that shares of a full evaluation buy, in natural units, and the shares it costs.

        Args:
            share: What was asked for, float32 ``[B]``.
            left: What is left of the budget, at least the smallest share, float64 ``[B]``.

        Returns:
            The fidelity, float32 ``[B]``, and its price, float64 ``[B]``: hundreds of prices are added up, and a full
            evaluation that is exactly affordable must stay so.
        """
        fidelity = self.suite.fidelity
        assert fidelity is not None and self.shares is not None  # _fidelity_shares refused such a suite
        value, affordable = share.double() * fidelity.upper, left * fidelity.upper
        if fidelity.integer:
            # Whole numbers were spent, so that a whole number is left.
            value, affordable = value.round(), affordable.round()
        value = torch.minimum(value, affordable).clamp(float(self.shares[0]) * fidelity.upper, fidelity.upper)
        return value.float(), value / fidelity.upper

    def _record(self, state: EpisodeState, proposal: Proposal, score: Tensor, share: Tensor) -> Tensor:
        """Write the trial into the history and return whether it repeats an earlier one."""
        history = state.history
        assert history is not None  # reset made one whenever _keeps_history
        shown = proposal.u * proposal.active
        repeated = state.repeated
        if self.settings.terminate_on_repeat:
            position = torch.arange(self.max_trials, device=shown.device)
            done = position < state.trial[:, None]
            same = (history.u == shown[:, None]).all(2) & (history.active == proposal.active[:, None]).all(2)
            # A configuration may be tried again at another fidelity: that is what cheap trials are for.
            same &= (history.fidelity - share[:, None]).abs() < _BUDGET_TOLERANCE
            repeated = (same & done).any(1)
        row = state.trial.clamp(max=self.max_trials - 1)
        batch = torch.arange(len(row), device=row.device)
        history.u[batch, row] = shown
        history.active[batch, row] = proposal.active
        history.score[batch, row] = score
        history.fidelity[batch, row] = share
        return repeated

    def observe(self, state: EpisodeState) -> Observation:
        """Return the observation of a batch of states."""
        return self.observations.observe(state)

    def action_mask(self, state: EpisodeState) -> Tensor | None:
        """Return which actions are legal, bool ``[B, A]``, or ``None`` for continuous actions."""
        return self.actions.mask(state)
