"""What a method may know before its first evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.actions import FULL_FIDELITY
from hpo_gym.sources.slow_work import telling_progress
from hpo_gym.spaces import SearchSpace
from hpo_gym.tasks.suite import KnownRange, TaskSuite

__all__ = ["Problem", "TrainingTasks"]

# Trainings between two reports of how long the rest takes.
_TOLD_AT_ONCE = 16


class TrainingTasks:
    """The training tasks of a space: whatever a method asks them is offline work, counted but not charged.

    Where models are really trained nobody knows the range of scores: there it is that of the configurations that are
    asked for first, and those that are better later have a regret below 0.

    Args:
        suite: The tasks; their ranges make scores comparable.
        tasks: Which of them are for training, int64 ``[N]``.

    Raises:
        InvalidSettingError: If a range could be found and has not been.
    """

    def __init__(self, suite: TaskSuite, tasks: Tensor) -> None:
        if not suite.measured:
            suite.require_range()
        self._suite, self._tasks = suite, tasks
        known = suite.known_range
        self._range = None
        if known is not None:
            mine = (known.worst[tasks], known.median[tasks], known.best[tasks], known.best_u[tasks])
            self._range = KnownRange(*mine, known.method)
        #: Evaluations made so far.
        self.evaluations = 0

    @property
    def count(self) -> int:
        """``N``."""
        return len(self._tasks)

    @property
    def span(self) -> Tensor:
        """Best minus worst score of every task, float64 ``[N]``: what a regret of 1 is worth in scores.

        Raises:
            InvalidSettingError: Before anything was asked, where models are really trained.
        """
        if self._range is None:
            raise InvalidSettingError("The range of scores is not known before training tasks were asked for a regret.")
        return (self._range.best - self._range.worst).double()

    @torch.no_grad()
    def regret(self, u: Tensor) -> Tensor:
        """Return the normalised regret of ``P`` configurations on every task at full fidelity.

        Args:
            u: Points of the unit cube, float32 ``[P, D]``.

        Returns:
            float64 ``[P, N]``; 0 is the best that is known, a forbidden configuration scores worst.
        """
        suite, tasks = self._suite, self._tasks
        u = suite.space.snap(u.to(suite.device, torch.float32))
        count, points = len(tasks), len(u)
        task = tasks.repeat(points)
        repeated = u.repeat_interleave(count, 0)
        score = self._evaluated(task, repeated) * suite.space.legal(repeated)
        self.evaluations += count * points
        found = score.view(points, count)
        if self._range is None:
            best, at = found.max(0)
            self._range = KnownRange(found.amin(0), found.median(0).values, best, u[at], "what was asked for first")
        return ((self._range.best - found) * self._range.inverse_range).double()

    def _evaluated(self, task: Tensor, u: Tensor) -> Tensor:
        """Return scores, and tell how long it takes where models are really trained."""
        suite = self._suite
        if not suite.measured:
            return suite.evaluate(task, u, suite.space.active(u)).score
        parts = []
        doing = f"training {len(task)} models on training tasks"
        with telling_progress(doing, "candidates (samples for transfer_gp) says how many") as tell:
            for begin in range(0, len(task), _TOLD_AT_ONCE):
                rows = slice(begin, begin + _TOLD_AT_ONCE)
                parts.append(suite.evaluate(task[rows], u[rows], suite.space.active(u[rows])).score)
                tell(min(1.0, (begin + _TOLD_AT_ONCE) / len(task)))
        return torch.cat(parts)


@dataclass(frozen=True)
class Problem:
    """A search space, a budget and what came before.

    Args:
        space: The search space, on the CPU.
        budget: Full evaluations per episode, the first included.
        least_fidelity: Smallest share of a full evaluation that may be asked for; 1 without multi-fidelity.
        multi_fidelity: Whether an action has one more coordinate, which chooses the fidelity.
        training: The training tasks; ``None`` where the protocol gives none.
        starts_at_default: Whether the first evaluation of every episode is that of the default configuration.
    """

    space: SearchSpace
    budget: int
    least_fidelity: float = 1.0
    multi_fidelity: bool = False
    training: TrainingTasks | None = None
    starts_at_default: bool = True

    @classmethod
    def of(cls, env: HPOVectorEnv, training: TrainingTasks | None = None) -> Problem:
        """Return the problem that an environment poses."""
        shares = env.engine.dynamics.shares
        return cls(
            space=SearchSpace(env.suite.space.spec),
            budget=env.engine.settings.budget,
            least_fidelity=1.0 if shares is None else float(shares[0]),
            multi_fidelity=shares is not None,
            training=training,
            starts_at_default=env.engine.settings.start == "default",
        )

    def require_training(self, agent: str) -> TrainingTasks:
        """Return the training tasks.

        Raises:
            InvalidSettingError: If the protocol gives none.
        """
        if self.training is None or self.training.count == 0:
            raise InvalidSettingError(
                f"Agent {agent!r} learns from training tasks of the same search space, and this comparison gives it "
                f"none. Use protocol=openml-transfer, or leave out {agent!r}."
            )
        return self.training

    def fidelity_coordinate(self, share: Tensor) -> Tensor:
        """Return the last coordinate of a continuous multi-fidelity action that asks for shares of an evaluation.

        The inverse of what :class:`hpo_gym.mdp.actions.Continuous` does; shares below ``least_fidelity`` ask for it.
        """
        least = torch.tensor(self.least_fidelity, dtype=torch.float64)
        if self.least_fidelity >= 1.0:
            return torch.ones_like(share)
        value = FULL_FIDELITY * (1.0 - share.double().clamp(self.least_fidelity, 1.0).log() / least.log())
        # A full evaluation is asked for by the end point, beyond all rounding.
        return torch.where(share >= 1.0, 1.0, value).to(share.dtype)
