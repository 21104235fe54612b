"""Random search: every configuration drawn independently, whatever was seen before.

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization", JMLR 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.exploration import uniform_legal
from agents.populations import random_where_forbidden
from agents.problem import Problem
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import require_integer
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace

__all__ = ["RandomSearch", "RandomSearchConfig"]


@dataclass(frozen=True)
class RandomSearchConfig:
    """Configuration of :class:`RandomSearch`.

    Args:
        total_steps: Transitions that ``train`` makes (it learns nothing, and logs returns).
    """

    total_steps: int = 100_000

    def __post_init__(self) -> None:
        require_integer("total_steps", self.total_steps, 1)


class RandomSearch(TrainableAgent):
    """Uniform points of the unit cube that the search space allows; with discrete actions, uniform legal ones.

    With multi-fidelity every configuration is evaluated fully: only that is a result, and a share of an evaluation buys
    knowledge that random search does not use. In training (``explore=True``) the share is drawn, too.

    With ``action="grid_step"`` that is a random walk on the grid, not random search: the baseline of every
    comparison uses ``continuous`` actions.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[int] = 3
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous", "grid_choice", "grid_step")
    observation_kinds: ClassVar[tuple[str, ...]] = ("flat", "history")

    def __init__(
        self,
        config: RandomSearchConfig,
        interface: Interface,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, interface, seed, device)
        self._draws = generator(seed, "agent", "act", device=self.device)
        self._space: SearchSpace | None = None

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        self._space = SearchSpace(problem.space.spec).to(self.device)

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        if mask is not None:
            return uniform_legal(mask, draws)
        block = next(iter(observation.values())) if isinstance(observation, dict) else observation
        shape = (len(block), self.interface.action_dimension)
        action = torch.rand(shape, generator=draws, device=block.device)
        if self._space is not None:
            dimension = self._space.dimension
            action[:, :dimension] = random_where_forbidden(self._space, action[:, :dimension], draws)
        if not explore and self.interface.action_dimension > len(self.interface.hyperparameters):
            action[:, -1] = 1.0
        return action

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.require_trainable(env)
        observation, info = env.observe()
        while self.steps < self.config.total_steps:
            action = self.act(observation, info.get("action_mask"), self._draws, explore=True)
            observation, _, _, _, info = env.step(action)
            self.steps += env.num_envs
            if callback(self.steps, {}, info):
                return

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        return {"steps": self.steps} | ({"draws": self._draws.get_state()} if resumable else {})

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.steps = int(saved["steps"])
        if resumable and "draws" in saved:
            restore_generator(self._draws, saved["draws"])
