"""A policy over histories that learns by group-relative policy optimisation, whatever reads them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.group_relative import categorical_divergence, clipped_surrogate, group_advantages
from agents.grpo_config import GroupRelativeConfig
from agents.history_reader import HistoryReader, TokenLayout
from agents.proposal_network import BinnedProposals
from agents.rollout import Played, Rollout
from agents.schedules import CosineSchedule
from agents.trial_tokens import TrialHistory
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator

__all__ = ["GroupRelativeAgent"]

_WARM_UP = 0.01
_LAST_RATE = 0.05


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
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self._learning_rate = CosineSchedule(config.learning_rate, config.total_steps, _LAST_RATE, _WARM_UP)
        self.updates = 0
        self._draws = generator(seed, "agent", "act", device=self.device)
        self._reader = HistoryReader(self.layout)
        self._rollout: Rollout | None = None
        # Which environment is played, and by environment the begin of earlier trajectories, on whose states the
        # policy is held.
        self._playing = 0
        self._earlier: dict[int, Played] = {}
        self._environments: Sequence[HPOVectorEnv] = ()
        # The state of an environment that is not the run's own, until training goes on.
        self._left: Mapping[str, Any] | None = None

    @torch.no_grad()
    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        history = TrialHistory.of(observation, self.dimension(observation))
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

    @abstractmethod
    def dimension(self, observation: Observation) -> int:
        """Return the number of hyperparameters ``D`` of the space that an observation is of."""

    @property
    @abstractmethod
    def chooses(self) -> bool:
        """Whether an outcome model chooses among proposals in evaluation."""

    @abstractmethod
    def choose(self, history: TrialHistory, proposals: Tensor, draws: torch.Generator) -> Tensor:
        """Return what an outcome model prefers of proposals ``[B, P, D]``, ``[B, D]``."""

    def shown(self, observation: Observation, env: HPOVectorEnv) -> TrialHistory:
        """Return what the policy sees in training of an observation of one of the environments."""
        return TrialHistory.of(observation, len(env.suite.space.names))

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.interface.require_same(Interface.of(env))
        environments = self._environments = self.environments(env)
        for other in environments:
            self._require_playable(other)
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
            self.steps += played.num_envs
            if bool(terminated.all()):
                logs = self._learn(self._rollout.played(), allowed)
                self._rollout = cache = None
            else:
                hidden = self._read(token, cache)
            if callback(self.steps, logs, info):
                return

    def _require_playable(self, env: HPOVectorEnv) -> None:
        if env.num_envs % self.config.group_size:
            raise InvalidSettingError(
                f"env.num_envs={env.num_envs} is no multiple of agent.group_size={self.config.group_size}: a group "
                "plays one task. Change one of them."
            )
        if env.engine.settings.terminate_on_repeat:
            raise InvalidSettingError(
                f"Agent {self.name!r} learns from episodes of one length. Set env.terminate_on_repeat=false."
            )
        settings = env.engine.settings
        actions = settings.budget - (settings.start != "none")
        if self.config.total_steps < env.num_envs * actions:
            raise InvalidSettingError(
                f"agent.total_steps={self.config.total_steps} is less than the episodes of one update: env.num_envs="
                f"{env.num_envs} x {actions} actions. Set it to {env.num_envs * actions} or more, or env.num_envs or "
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
        hidden: Tensor = self.network.read(tokens, cache)[:, -1]
        return hidden

    def _read_again(self, rollout: Rollout, trials: int) -> tuple[Tensor, Any]:
        """Fill a cache with what was read of a rollout, call by call, so that it is the same bit by bit."""
        hidden, cache = torch.empty(0), self.network.cache(rollout.tokens[0], trials + 1)
        for tokens in rollout.tokens:
            hidden = self._read(tokens, cache)
        return hidden, cache

    def _learn(self, played: Played, allowed: Tensor) -> dict[str, float | Tensor]:
        """Improve the policy by what it just played."""
        config = self.config
        advantage = group_advantages(played.reward, config.group_size, config.advantage, config.discount)
        earlier, before = self._earlier.get(self._playing), None
        if earlier is not None and config.churn_weight > 0.0:
            with torch.no_grad():
                before = self._log_probabilities(earlier, allowed)
        batch = len(advantage)
        rate = self._learning_rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        for _ in range(config.epochs):
            order = torch.randperm(batch, generator=self._draws, device=self.device)
            for rows in order.chunk(config.minibatches):
                churn = torch.zeros((), device=self.device)
                if earlier is not None and before is not None:
                    some = rows[: max(1, len(rows) // 4)] % len(earlier.reward)
                    now = self._log_probabilities(earlier.rows(some), allowed)
                    churn = categorical_divergence(
                        before[some].flatten(0, 1), now.flatten(0, 1), earlier.active[some].flatten(0, 1)
                    ).mean()
                parts = self._losses(played.rows(rows), advantage[rows], allowed) | {"churn": churn}
                loss = parts["policy_loss"] - config.entropy * parts["entropy"] + config.churn_weight * churn
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
                self.optimizer.step()
                self.updates += 1
                for name, value in (parts | {"loss": loss, "gradient_norm": norm}).items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach()
        self._reader.forget()
        if config.churn_weight > 0.0:
            self._earlier[self._playing] = self._begins(played)
        steps = config.epochs * len(order.chunk(config.minibatches))
        logs: dict[str, float | Tensor] = {name: value / steps for name, value in sums.items()}
        return logs | {"learning_rate": rate, "updates": self.updates, "advantage_spread": self._spread(played)}

    def _begins(self, played: Played) -> Played:
        """Return the first ``churn_share`` of every trajectory."""
        kept = max(1, round(self.config.churn_share * played.choice.shape[1]))
        end = played.first + kept
        parts = (played.choice, played.log_probability, played.active, played.reward)
        return Played(played.tokens[:, :end], *(part[:, :kept] for part in parts))

    def _spread(self, played: Played) -> Tensor:
        """Return the mean standard deviation of returns within a group."""
        returns = played.reward.sum(1).unflatten(0, (-1, self.config.group_size))
        spread: Tensor = returns.std(1).mean()
        return spread

    def _log_probabilities(self, played: Played, allowed: Tensor) -> Tensor:
        """Return the log-probabilities of all bins at every action of episodes, ``[B, A, D, K]``."""
        actions = played.choice.shape[1]
        # The token after the last action chose nothing.
        hidden = self.network.read(played.tokens[:, :-1])[:, played.first - 1 :]
        flat = self.network.log_probabilities(hidden.flatten(0, 1), played.choice.flatten(0, 1), allowed)
        found: Tensor = flat.unflatten(0, (-1, actions))
        return found

    def _losses(self, played: Played, advantage: Tensor, allowed: Tensor) -> dict[str, Tensor]:
        everything = self._log_probabilities(played, allowed)
        chosen = everything.gather(3, played.choice[..., None]).squeeze(3)
        # An inactive hyperparameter has no effect: nothing is to be learned from its value.
        now, before = ((part * played.active).sum(2) for part in (chosen, played.log_probability))
        loss = clipped_surrogate(now, before, advantage, self.config.clip).mean()
        finite = everything.masked_fill(everything == -torch.inf, 0.0)
        entropy = (-(everything.exp() * finite).sum(3) * played.active).sum(2).mean()
        with torch.no_grad():
            clipped = ((now - before).exp() - 1.0).abs() > self.config.clip
            divergence = (before - now).mean()
        return {"policy_loss": loss, "entropy": entropy, "clipped": clipped.float().mean(), "divergence": divergence}

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved: dict[str, Any] = {
            "network": {name: value.clone() for name, value in self.network.state_dict().items()},
            "steps": self.steps,
            "updates": self.updates,
        }
        if resumable:
            saved |= {"optimizer": self.optimizer.state_dict(), "draws": self._draws.get_state()}
            saved |= {"playing": self._playing}
            saved["earlier"] = {str(index): part.state_dict() for index, part in self._earlier.items()}
            if self._rollout is not None:
                saved["rollout"] = self._rollout.state_dict()
                if self._playing > 0:
                    saved["environment"] = self._environments[self._playing].state_dict()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.network.load_state_dict(saved["network"])
        self.steps, self.updates = int(saved["steps"]), int(saved["updates"])
        self._reader.forget()
        if not resumable or "optimizer" not in saved:
            return
        self.optimizer.load_state_dict(saved["optimizer"])
        restore_generator(self._draws, saved["draws"])
        self._playing, self._left = int(saved["playing"]), saved.get("environment")
        self._rollout = Rollout.from_state_dict(saved["rollout"], self.device) if "rollout" in saved else None
        self._earlier = {
            int(index): Played.from_state_dict(part, self.device) for index, part in saved["earlier"].items()
        }
