"""What the agents of Stable-Baselines3 share: one training loop per kind, streams of their own, plain checkpoints.

Raffin et al. (2021), "Stable-Baselines3: Reliable Reinforcement Learning Implementations", JMLR 22. How it differs from
SB3's own ``learn`` and ``save`` is listed in ``docs/agents/stable_baselines.md``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent
from agents.global_streams import GlobalStreams
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.initial_weights import seeded
from hpo_gym.integrations.sb3 import require_sb3
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import stream_seed

__all__ = [
    "StableBaselinesAgent",
    "check_network",
]


class StableBaselinesAgent(TrainableAgent):
    """An algorithm of Stable-Baselines3 on flat observations.

    Training calls the algorithm's own ``collect_rollouts`` and ``train``, a vector step at a time, and the callback
    where every transition is stored and every due update made.

    Args:
        config, interface, seed, device: As for :class:`agents.base.Agent`.

    Raises:
        InvalidSettingError: If the package is not installed, or the agent cannot use such actions or observations.
    """

    learns: ClassVar[bool] = True
    observation_kinds: ClassVar[tuple[str, ...]] = ("flat",)
    libraries: ClassVar[tuple[str, ...]] = ("stable-baselines3",)
    #: The module that holds the algorithm.
    package: ClassVar[str] = "stable_baselines3"
    #: Numbers of the model that an interrupted training needs again.
    counters: ClassVar[tuple[str, ...]] = ("_n_updates", "_episode_num")
    #: Arrays of the model's buffer, the first axis of which is time.
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(config, interface, seed, device)
        require_sb3(f"agent={self.name}", self.package)
        from stable_baselines3.common.logger import Logger

        from agents.stable_baselines_models import masked_spaces

        self._hidden = 0 if config.meta_features else interface.meta_features
        self._streams = GlobalStreams(seed, self.device)
        with seeded(stream_seed(seed, "agent", "weights")):
            self.model = self.make_model()
            self.model.observation_space, self.model.action_space = masked_spaces(interface, config.meta_features)
            self.model.n_envs = 1
            self.model._setup_model()
        self.model.set_logger(Logger(None, []))
        # How large it is, the number of environments decides.
        self._buffer: Any = None
        self._saved_memory: Mapping[str, Any] | None = None

    @abstractmethod
    def make_model(self) -> Any:
        """Return the algorithm, made by :meth:`bare_model`."""

    def bare_model(self, algorithm: Any, policy: Any, **arguments: Any) -> Any:
        """Return an algorithm of SB3 without environment, networks and buffers, as its own ``load`` begins.

        Args:
            algorithm: Its class.
            policy: Name or class of its networks.
            arguments: Of the algorithm.
        """
        return algorithm(policy, None, device=self.device, _init_setup_model=False, **arguments)

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return all optimisers of the model by name."""

    @abstractmethod
    def make_buffer(self) -> Any:
        """Return an empty buffer for the environments of the model."""

    @abstractmethod
    def advance(self, hooks: Any) -> None:
        """Make one vector step, and the updates that are due after it.

        Args:
            hooks: What SB3 wants to call meanwhile.
        """

    def seen(self, observation: Observation, mask: Tensor | None) -> Tensor:
        """Return what the networks take: the observation and, for discrete actions, the mask behind it."""
        from agents.stable_baselines_models import model_input

        assert isinstance(observation, Tensor)  # observation_kinds
        if mask is None and self.interface.num_actions:
            mask = torch.ones(len(observation), self.interface.num_actions, dtype=torch.bool, device=observation.device)
        return model_input(observation, mask, self._hidden)

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        from agents.stable_baselines_models import LegalVecEnv

        self.require_trainable(env)
        model, total = self.model, int(self.config.total_steps)
        view = LegalVecEnv(env, self.interface, self.config.meta_features)
        model.env, model.n_envs, model.num_timesteps = view, env.num_envs, self.steps
        try:
            self._continue_memory(env.num_envs)
            # Not None, so that SB3 does not reset the environment.
            model._last_obs = view.observe()
            _, hooks = model._setup_learn(total - self.steps, None, reset_num_timesteps=False)
            while self.steps < total:
                with self._streams:
                    self.advance(hooks)
                self.steps = model.num_timesteps
                if callback(self.steps, self._logs(), view.info):
                    return
        finally:
            model.env = None

    def _logs(self) -> dict[str, float]:
        """Return what SB3 logged last, without the groups in its names."""
        values = {name.rpartition("/")[2]: float(value) for name, value in self.model.logger.name_to_value.items()}
        if "exploration_rate" in values:
            values["epsilon"] = values.pop("exploration_rate")
        return values

    def _continue_memory(self, num_envs: int) -> None:
        """Make the buffer, with what was saved of it; one of an earlier call of :meth:`train` goes on."""
        saved, self._saved_memory = self._saved_memory, None
        if self._buffer is None or saved is not None or self._buffer.n_envs != num_envs:
            self._buffer = self.make_buffer()
            self.model._last_episode_starts = np.ones(num_envs, dtype=bool)
        if saved is None:
            return
        if int(saved["num_envs"]) != num_envs:
            self._saved_memory = saved
            raise InvalidSettingError(
                f"The saved training had num_envs={int(saved['num_envs'])}, this environment has {num_envs}: the "
                "transitions in memory are ordered by environment. Resume with the same env.num_envs."
            )
        count = int(saved["filled"])
        for name, values in saved["arrays"].items():
            getattr(self._buffer, name)[:count] = values.numpy()
        self._buffer.pos, self._buffer.full = int(saved["position"]), bool(saved["full"])
        self.model._last_episode_starts = saved["episode_starts"].numpy()

    def _memory(self) -> Mapping[str, Any] | None:
        """Return the buffer as tensors; ``None`` before the first training."""
        if self._buffer is None or self._saved_memory is not None:
            return self._saved_memory
        buffer = self._buffer
        filled, position, full = self.extent()
        # None of a rollout that was learned from: SB3 has rearranged its arrays.
        names = self.arrays if filled else ()
        return {
            "num_envs": buffer.n_envs,
            "filled": filled,
            "position": position,
            "full": full,
            # Copies: the buffer is written in place while training goes on.
            "arrays": {name: torch.from_numpy(getattr(buffer, name)[:filled].copy()) for name in names},
            "episode_starts": torch.from_numpy(self.model._last_episode_starts.copy()),
        }

    @abstractmethod
    def extent(self) -> tuple[int, int, bool]:
        """Return how many rows of the buffer count, where the next one goes, and whether it is full."""

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved: dict[str, Any] = {
            "policy": {name: value.clone() for name, value in self.model.policy.state_dict().items()},
            "steps": self.steps,
        }
        if resumable:
            saved |= {
                "optimizers": {name: one.state_dict() for name, one in self.optimizers().items()},
                "counters": {name: getattr(self.model, name) for name in self.counters},
                "logs": {name: float(value) for name, value in self.model.logger.name_to_value.items()},
                "streams": self._streams.state_dict(),
                "memory": self._memory(),
            }
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.model.policy.load_state_dict(saved["policy"])
        self.steps = int(saved["steps"])
        self.model._update_current_progress_remaining(self.steps, int(self.config.total_steps))
        if not resumable or "optimizers" not in saved:
            return
        for name, one in self.optimizers().items():
            one.load_state_dict(saved["optimizers"][name])
        for name in self.counters:
            setattr(self.model, name, saved["counters"][name])
        self.model.logger.name_to_value.clear()
        self.model.logger.name_to_value.update(saved["logs"])
        self._streams.load_state_dict(saved["streams"])
        self._saved_memory, self._buffer = saved["memory"], None


def check_network(net_arch: tuple[int, ...]) -> None:
    """Refuse layers without units.

    Raises:
        InvalidSettingError: Naming them.
    """
    if any(width < 1 for width in net_arch):
        raise InvalidSettingError(f"net_arch={list(net_arch)!r} must name layers of at least one unit each.")
