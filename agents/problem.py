"""What a method may know before its first evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.actions import FULL_FIDELITY
from hpo_gym.spaces import SearchSpace
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["Problem", "TrainingTasks"]


class TrainingTasks:
    """The training tasks of a space: whatever a method asks them is offline work, counted but not charged.

    Args:
        suite: The tasks; their known ranges make scores comparable.
        tasks: Which of them are for training, int64 ``[N]``.
    """

    def __init__(self, suite: TaskSuite, tasks: Tensor) -> None:
        suite.require_range()
        self._suite, self._tasks = suite, tasks
        #: Evaluations made so far.
        self.evaluations = 0

    @property
    def count(self) -> int:
        """``N``."""
        return len(self._tasks)

    @property
    def span(self) -> Tensor:
        """Best minus worst score of every task, float64 ``[N]``: what a regret of 1 is worth in scores."""
        known = self._suite.require_range()
        return (known.best - known.worst)[self._tasks].double()

    @torch.no_grad()
    def regret(self, u: Tensor) -> Tensor:
        """Return the normalised regret of ``P`` configurations on every task at full fidelity.

        Args:
            u: Points of the unit cube, float32 ``[P, D]``.

        Returns:
            float64 ``[P, N]``; 0 is the known optimum, a forbidden configuration scores worst.
        """
        suite, tasks = self._suite, self._tasks
        u = suite.space.snap(u.to(suite.device, torch.float32))
        count, points = len(tasks), len(u)
        task = tasks.repeat(points)
        repeated = u.repeat_interleave(count, 0)
        score = suite.evaluate(task, repeated, suite.space.active(repeated)).score
        score = score * suite.space.legal(repeated)
        self.evaluations += count * points
        return suite.regret(task, score).view(points, count).double()


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
