"""Choosing the policy to keep by its regret on validation datasets, while training goes on."""

from __future__ import annotations

from typing import Any

from agents.base import TrainableAgent
from agents.contenders import as_contender, evaluation_settings
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.evaluation import evaluate
from hpo_gym.tasks.datasets import dataset_key

__all__ = ["Validation"]


class Validation:
    """Measures an agent on the validation split of the tasks it trains on, and remembers the best state.

    Test tasks play no part in it. There is nothing to measure, and the last policy is kept, where the agent does
    not train on the ``train`` split, the split has no validation tasks, or regret is unknown.

    Args:
        env: The training environment.
        every: Transitions between measurements; 0 turns them off.
        seeds: Repetitions per task.
        seed: Root of the seed tree.
    """

    def __init__(self, env: HPOVectorEnv, every: int, seeds: int, seed: int) -> None:
        self.every, self.seeds, self.seed = every, seeds, seed
        self._suite, self._protocol = env.suite, env.engine.protocol
        self._budget = env.engine.settings.budget
        self._settings = evaluation_settings(env)
        held_out = env.suite.split(self._protocol, "val")
        known = env.suite.known_range is not None
        self.active = every > 0 and env.engine.split == "train" and len(held_out) > 0 and known
        keys = {dataset_key(env.suite.tasks[index]) for index in held_out} if self.active else set()
        #: What the kept policy is chosen by, as dataset keys.
        self.datasets = tuple(sorted(keys))
        self.best_regret = float("inf")
        self.best_steps = 0
        self._best: dict[str, Any] | None = None
        self._next = every

    def due(self, steps: int) -> bool:
        """Return whether a measurement is due after ``steps`` transitions."""
        return self.active and steps >= self._next

    def measure(self, agent: TrainableAgent, steps: int) -> float:
        """Return the mean final regret on the validation tasks, and keep the agent's state if it is the best."""
        records = evaluate(
            as_contender(agent, "validation"),
            self._suite,
            split="val",
            protocol=self._protocol,
            seeds=self.seeds,
            seed=self.seed,
            budget=self._budget,
            settings=self._settings,
        )
        last = records.frame.groupby(["task", "seed"], observed=True)["regret"].last()
        regret = float(last.mean())
        if regret < self.best_regret:
            self.best_regret, self.best_steps = regret, steps
            self._best = agent.state_dict(resumable=False)
        self._next = (steps // self.every + 1) * self.every
        return regret

    def best(self, agent: TrainableAgent) -> dict[str, Any]:
        """Return the state to keep: the best that was measured, else the agent's own."""
        return agent.state_dict(resumable=False) if self._best is None else self._best

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"regret": self.best_regret, "steps": self.best_steps, "state": self._best, "next": self._next}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        self.best_regret, self.best_steps = float(saved["regret"]), int(saved["steps"])
        self._best, self._next = saved["state"], int(saved["next"])
