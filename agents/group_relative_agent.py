"""A policy over histories that learns by group-relative policy optimisation, whatever reads them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.group_relative_learner import GroupRelativeLearner
from agents.grpo_config import GroupRelativeConfig
from agents.history_reader import HistoryReader, TokenLayout
from agents.processes import Processes
from agents.proposal_network import BinnedProposals
from agents.rollout import Rollout
from agents.trial_tokens import TrialHistory
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator

__all__ = ["GroupRelativeAgent"]


class GroupRelativeAgent(TrainableAgent):
    """What policies that learn by group-relative policy optimisation share.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.
        layout: What is read of a history.
        network: What reads it and proposes.

    Raises:
        InvalidSettingError: With multi-fidelity.
    """

    learns: ClassVar[bool] = True
    many_processes: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)
    training_rules: ClassVar[Mapping[str, Any]] = {"reward": "log_regret", "reward_scale": "none"}
    config: GroupRelativeConfig

    def __init__(
        self,
        config: GroupRelativeConfig,
        interface: Interface,
        seed: int,
        device: torch.device | str,
        layout: TokenLayout,
        network: BinnedProposals,
    ) -> None:
        super().__init__(config, interface, seed, device)
        if interface.action_dimension != len(interface.hyperparameters):
            raise InvalidSettingError(
                f"Agent {self.name!r} chooses configurations, and no fidelity. Set env.multi_fidelity=false."
            )
        self.layout, self.network = layout, network.to(self.device)
        #: What improves the network, and what only that needs.
        self.learner = GroupRelativeLearner(config, self.network, self.device)
        self._draws = generator(seed, "agent", "act", device=self.device)
        self._reader = HistoryReader(self.layout)
        self._rollout: Rollout | None = None
        # Which environment is played.
        self._playing = 0
        self._environments: Sequence[HPOVectorEnv] = ()
        # The state of an environment that is not the run's own, until training goes on.
        self._left: Mapping[str, Any] | None = None

    def join(self, processes: Processes) -> None:
        super().join(processes)
        if processes.rank > 0:
            # Equal weights, other episodes.
            self._draws = generator(self.seed, "agent", "act", processes.rank, device=self.device)

    @torch.no_grad()
    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        history = TrialHistory.of(observation)
        hidden = self._reader(self.network, history)
        allowed = self.network.allowed(history.levels)
        config = self.config
        if explore or not self.chooses or int(history.count.min()) == 0:
            temperature = 1.0 if explore else config.evaluation_temperature
            choice, _ = self.network.sample(hidden, allowed, draws, temperature)
            return self.network.values(choice, history.levels, draws)
        many = hidden.repeat_interleave(config.proposals, 0)
        choice, _ = self.network.sample(many, allowed, draws, config.evaluation_temperature)
        proposals = self.network.values(choice, history.levels, draws).unflatten(0, (len(hidden), -1))
        return self.choose(history, proposals, draws)

    @property
    @abstractmethod
    def chooses(self) -> bool:
        """Whether an outcome model chooses among proposals in evaluation."""

    def get_ready(self, env: HPOVectorEnv) -> None:
        """Do what training needs once, of an environment that has been found playable."""

    @abstractmethod
    def choose(self, history: TrialHistory, proposals: Tensor, draws: torch.Generator) -> Tensor:
        """Return what an outcome model prefers of proposals ``[B, P, D]``, ``[B, D]``."""

    def shown(self, observation: Observation, env: HPOVectorEnv) -> TrialHistory:
        """Return what the policy sees in training of an observation of one of the environments."""
        return TrialHistory.of(observation)

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.require_trainable(env)
        environments = self._environments = self.environments(env)
        self.get_ready(env)
        played = environments[self._playing]
        if self._left is not None:
            played.load_state_dict(dict(self._left))
            self._left = None
        history = self.shown(played.observe()[0], played)
        allowed = self.network.allowed(history.levels)
        hidden, cache = torch.empty(0), None
        if self._rollout is not None:
            hidden, cache = self._read_again(self._rollout, history.trials.done.shape[1])
        logs: dict[str, float | Tensor] = {}
        while self.steps < self.config.total_steps:
            if self._rollout is None or cache is None:
                if len(environments) > 1:
                    self._playing = int(torch.randint(len(environments), (), generator=self._draws, device=self.device))
                played = environments[self._playing]
                history = self._begin(played)
                allowed = self.network.allowed(history.levels)
                tokens = self.layout.read(history, 0, int(history.count[0]) + 1)
                self._rollout = Rollout(tokens)
                cache = self.network.cache(tokens, history.trials.done.shape[1] + 1)
                hidden = self._read(tokens, cache)
            with torch.no_grad():
                choice, log_probability = self.network.sample(hidden, allowed, self._draws)
                action = self.network.values(choice, history.levels, self._draws)
            _, reward, terminated, _, info = played.step(action)
            history = self.shown(info["final_obs"], played)
            trial = int(history.count[0])
            token = self.layout.read(history, trial, trial + 1)
            self._rollout.add(choice, log_probability, history.trials.active[:, trial - 1], reward, token)
            self.steps += played.num_envs * self.processes.size
            if bool(terminated.all()):
                logs = self.learner.learn(
                    self._rollout.played(),
                    allowed,
                    self._draws,
                    steps=self.steps,
                    environment=self._playing,
                    processes=self.processes,
                )
                self._reader.forget()
                self._rollout = cache = None
            else:
                hidden = self._read(token, cache)
            if callback(self.steps, logs, info):
                return

    def require_trainable(self, env: HPOVectorEnv) -> None:
        super().require_trainable(env)
        for each in self.environments(env):
            self._require_playable(each)

    def _require_playable(self, env: HPOVectorEnv) -> None:
        if env.num_envs % self.config.group_size:
            raise InvalidSettingError(
                f"env.num_envs={env.num_envs} is no multiple of agent.group_size={self.config.group_size}: a group "
                "plays one task. Change one of them."
            )
        if self.config.minibatches > env.num_envs:
            raise InvalidSettingError(
                f"agent.minibatches={self.config.minibatches} of env.num_envs={env.num_envs} trajectories: each needs "
                f"one at least. Set agent.minibatches to {env.num_envs} or less."
            )
        if env.engine.settings.terminate_on_repeat:
            raise InvalidSettingError(
                f"Agent {self.name!r} learns from episodes of one length. Set env.terminate_on_repeat=false."
            )
        settings = env.engine.settings
        actions = settings.budget - (settings.start != "none")
        processes = self.processes.size
        least = env.num_envs * actions * processes
        if self.config.total_steps < least:
            of_all = f" x {processes} processes" if processes > 1 else ""
            raise InvalidSettingError(
                f"agent.total_steps={self.config.total_steps} is less than the episodes of one update: env.num_envs="
                f"{env.num_envs} x {actions} actions{of_all}. Set it to {least} or more, or env.num_envs or "
                "env.budget to less."
            )

    def _begin(self, env: HPOVectorEnv) -> TrialHistory:
        """Begin an episode in every row: a task and a start for each group."""
        tasks, groups = env.engine.tasks, env.num_envs // self.config.group_size
        order = [
            torch.randperm(len(tasks), generator=self._draws, device=self.device)
            for _ in range(-(-groups // len(tasks)))
        ]
        chosen = tasks[torch.cat(order)[:groups]].repeat_interleave(self.config.group_size)
        options: dict[str, Any] = {"task_index": chosen}
        if env.engine.settings.start == "random":
            start = env.suite.space.sample(groups, self._draws)
            options["start"] = start.repeat_interleave(self.config.group_size, 0)
        return self.shown(env.reset(options=options)[0], env)

    @torch.no_grad()
    def _read(self, tokens: Tensor, cache: Any) -> Tensor:
        return self.learner.read(tokens, cache)[:, -1]

    def _read_again(self, rollout: Rollout, trials: int) -> tuple[Tensor, Any]:
        """Fill a cache with what was read of a rollout, call by call, so that it is the same bit by bit."""
        hidden, cache = torch.empty(0), self.network.cache(rollout.tokens[0], trials + 1)
        for tokens in rollout.tokens:
            hidden = self._read(tokens, cache)
        return hidden, cache

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved: dict[str, Any] = {
            "network": {name: value.clone() for name, value in self.network.state_dict().items()},
            "steps": self.steps,
            "updates": self.learner.updates,
        }
        if resumable:
            saved |= {**self.learner.state_dict(), "draws": self._draws.get_state(), "playing": self._playing}
            if self._rollout is not None:
                saved["rollout"] = self._rollout.state_dict()
                if self._playing > 0:
                    saved["environment"] = self._environments[self._playing].state_dict()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.network.load_state_dict(saved["network"])
        self.steps, self.learner.updates = int(saved["steps"]), int(saved["updates"])
        self._reader.forget()
        if not resumable or "optimizer" not in saved:
            return
        self.learner.load_state_dict(saved)
        restore_generator(self._draws, saved["draws"])
        self._playing, self._left = int(saved["playing"]), saved.get("environment")
        self._rollout = Rollout.from_state_dict(saved["rollout"], self.device) if "rollout" in saved else None
