"""GRPOformer as published: one policy, trained from scratch on the one task that it searches, by its own trials.

Guo, Pan and Zhai (2025), "GRPOformer: Advancing Hyperparameter Optimization via Group Relative Policy Optimization",
arXiv 2509.17105, after its released code. Its training is its search, so that all of its trials are charged: an episode
begins with fresh weights, and its budget is divided among the members of the group.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agents.causal_transformer import KeyValueCache
from agents.grpo_paper_config import GRPOPaperConfig
from agents.grpo_paper_learner import GroupLearner, Iteration
from agents.grpo_paper_policy import ConfigurationPolicy, Proposals
from agents.problem import Problem
from agents.sequential import Optimizer, SequentialAgent, Suggestion, Trial
from hpo_gym.errors import InvalidSettingError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator, stream_seed

__all__ = ["GRPOPaper", "GRPOPaperConfig", "GRPOPaperOptimizer", "improvement"]

# Keeps the reward finite where the best possible score was reached.
_LEAST_ROOM = 1e-8


def improvement(score: Tensor, best: Tensor) -> Tensor:
    """Return the reward ``clip((score - best) / (1 - best), -1, 1)``.

    Args:
        score: In ``[0, 1]``, ``[K]``.
        best: The best of the same trajectory before it, ``[K]``.
    """
    return ((score - best) / (1.0 - best + _LEAST_ROOM)).clamp(-1.0, 1.0)


class GRPOPaperOptimizer(Optimizer):
    """One episode of GRPOformer: ``K`` members that take turns, each with a trajectory of its own.

    Trials that it is told before it was asked for any begin the trajectories of all members; one that it did not ask
    for takes the place of what the member whose turn it is would have tried.

    Args:
        config: Its settings.
        problem: The search space.
        seed: Root of its random numbers.
    """

    def __init__(self, config: GRPOPaperConfig, problem: Problem, seed: int) -> None:
        self._config, self._space = config, problem.space
        with seeded(stream_seed(seed, "grpo_paper", "weights")):
            self.policy = ConfigurationPolicy(problem.space, config.width, config.layers, config.heads)
        self._learner = GroupLearner(self.policy, config, generator(seed, "grpo_paper", "learn"))
        self._draws = generator(seed, "grpo_paper", "act")
        members = config.group_size
        #: Content of the tokens, the task's first, ``[K, content]`` each.
        self._tokens = [torch.zeros(members, self.policy.content)]
        #: The best score of each member, ``[K]``; nothing counts as 0.
        self._best = torch.zeros(members)
        self._iteration: Iteration | None = None
        self._cache: KeyValueCache | None = None
        self._hidden = torch.empty(0)
        self._proposals: Proposals | None = None
        self._drawn = torch.empty(0)
        self._turn: list[Trial] = []

    @property
    def updates(self) -> int:
        """Gradient steps so far."""
        return self._learner.updates

    def ask(self) -> Suggestion:
        self._begin_turn()
        return Suggestion(self._drawn[len(self._turn)].clamp(0.0, 1.0))

    def tell(self, trial: Trial) -> None:
        members = self._config.group_size
        if self._iteration is None:
            self._append([trial] * members)
            return
        self._begin_turn()
        member = len(self._turn)
        if not trial.answers(self._drawn[member].clamp(0.0, 1.0), self._space):
            self._drawn[member] = trial.u.float()
        self._turn.append(trial)
        if len(self._turn) == members:
            self._end_turn(self._iteration)

    def _append(self, trials: list[Trial]) -> Tensor:
        """Add one trial to every trajectory; return the rewards, ``[K]``."""
        score = torch.tensor([trial.score for trial in trials])
        reward = improvement(score, self._best)
        self._best = torch.maximum(self._best, score)
        u = torch.stack([trial.u.float() for trial in trials])
        active = torch.stack([trial.active for trial in trials])
        self._tokens.append(self.policy.describe(u, active, score, self._best))
        return reward

    @torch.no_grad()
    def _begin_turn(self) -> None:
        """Draw what each member tries next, unless that is still being tried."""
        if self._proposals is not None:
            return
        if self._iteration is None:
            self._iteration = self._begin_iteration()
        self._proposals = self.policy.propose(self._hidden)
        self._drawn = self._proposals.sample(self._draws)

    def _begin_iteration(self) -> Iteration:
        """Read the latest trials with the weights as they are now."""
        config = self._config
        latest = [self._tokens[0], *self._tokens[1:][-config.history :]]
        iteration = Iteration(torch.stack(latest, 1))
        self._cache = self.policy.trials.cache(config.group_size, len(latest) + config.steps)
        self._hidden = self.policy.read(iteration.begin, self._learner.window, self._cache)[:, -1]
        return iteration

    @torch.no_grad()
    def _end_turn(self, iteration: Iteration) -> None:
        assert self._proposals is not None  # _begin_turn
        active = torch.stack([trial.active for trial in self._turn])
        reward = self._append(self._turn)
        before = self._proposals.log_probability(self._drawn, active)
        iteration.add(self._drawn, active, before, reward, self._tokens[-1])
        self._proposals, self._turn = None, []
        if iteration.steps < self._config.steps:
            self._hidden = self.policy.read(self._tokens[-1][:, None], self._learner.window, self._cache)[:, -1]
            return
        self._learner.learn(iteration, self._tokens)
        self._iteration = self._begin_iteration()


class GRPOPaper(SequentialAgent):
    """GRPOformer as published; see :class:`GRPOPaperOptimizer`.

    Raises:
        InvalidSettingError: With multi-fidelity, from :meth:`prepare`.
    """

    name: ClassVar[str] = "grpo_paper"
    config: GRPOPaperConfig

    def prepare(self, problem: Problem) -> None:
        if problem.multi_fidelity:
            raise InvalidSettingError(
                f"Agent {self.name!r} chooses configurations, and no fidelity. Set env.multi_fidelity=false."
            )
        super().prepare(problem)

    def make_optimizer(self, problem: Problem, seed: int) -> Optimizer:
        return GRPOPaperOptimizer(self.config, problem, seed)
