"""A Transformer over trials that learns to propose configurations by group-relative policy optimisation.

After Guo, Pan and Zhai (2025), "GRPOformer: Advancing Hyperparameter Optimization via Group Relative Policy
Optimization", arXiv 2509.17105, with a group in the sense of Shao et al. (2024), arXiv 2402.03300: rollouts of one task
from one start. It is trained over many tasks at once, so that what it learned holds for tasks it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Callback, Interface, TrainableAgent, restore_generator
from agents.group_relative import categorical_divergence, clipped_surrogate, group_advantages
from agents.grpo_config import GRPOConfig
from agents.history_reader import HistoryReader
from agents.networks import seeded
from agents.outcome_search import OutcomeSearch
from agents.problem import Problem, TrainingTasks
from agents.proposal_network import ProposalNetwork
from agents.rollout import Played, Rollout
from agents.schedules import CosineSchedule
from agents.transfer_model import TransferModel
from agents.trial_tokens import TrialHistory, TrialTokens
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator, stream_seed

__all__ = ["GRPO", "GRPOConfig"]

_WARM_UP = 0.01
_LAST_RATE = 0.05


class GRPO(TrainableAgent):
    """The GRPO-Transformer.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.

    Raises:
        InvalidSettingError: With multi-fidelity.
    """

    name: ClassVar[str] = "grpo"
    learns: ClassVar[bool] = True
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    observation_kinds: ClassVar[tuple[str, ...]] = ("history",)
    training_rules: ClassVar[Mapping[str, Any]] = {"reward": "log_regret", "reward_scale": "none"}
    config: GRPOConfig

    def __init__(
        self, config: GRPOConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, interface, seed, device)
        dimension = len(interface.hyperparameters)
        if interface.action_dimension != dimension:
            raise InvalidSettingError(
                f"Agent {self.name!r} chooses configurations, and no fidelity. Set env.multi_fidelity=false."
            )
        self.layout = TrialTokens(dimension, interface.meta_features * config.meta_features, config.scores)
        with seeded(stream_seed(seed, "agent", "weights")):
            self.network = ProposalNetwork(
                self.layout.width,
                dimension,
                config.bins,
                config.width,
                config.layers,
                config.heads,
                config.autoregressive,
            )
        self.network.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self._learning_rate = CosineSchedule(config.learning_rate, config.total_steps, _LAST_RATE, _WARM_UP)
        self.updates = 0
        self._draws = generator(seed, "agent", "act", device=self.device)
        self._reader = HistoryReader(self.layout)
        self._rollout: Rollout | None = None
        #: The begin of earlier trajectories, on whose states the policy is held.
        self._earlier: Played | None = None
        #: What chooses among proposals in evaluation, with its search; ``None``: the policy alone.
        self._chooser: tuple[TransferModel, OutcomeSearch] | None = None

    @torch.no_grad()
    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        history = TrialHistory.of(observation, self.layout.dimension)
        hidden = self._reader(self.network, history)
        allowed = self.network.allowed(history.levels)
        if explore or self._chooser is None or int(history.count.min()) == 0:
            temperature = 1.0 if explore else self.config.evaluation_temperature
            choice, _ = self.network.sample(hidden, allowed, draws, temperature)
            return self.network.values(choice, history.levels, draws)
        return self._most_promising(*self._chooser, hidden, history, allowed, draws)

    def _most_promising(
        self,
        outcome: TransferModel,
        search: OutcomeSearch,
        hidden: Tensor,
        history: TrialHistory,
        allowed: Tensor,
        draws: torch.Generator,
    ) -> Tensor:
        """Return what an outcome model prefers of the policy's proposals, ``[B, D]``."""
        config, batch = self.config, len(hidden)
        many = hidden.repeat_interleave(config.proposals, 0)
        choice, _ = self.network.sample(many, allowed, draws, config.evaluation_temperature)
        proposals = self.network.values(choice, history.levels, draws).unflatten(0, (batch, -1))
        candidates = search.space.snap(proposals.flatten(0, 1)).view_as(proposals)
        if config.candidates > 0:
            candidates = torch.cat([candidates, outcome.candidates(batch, config.candidates, draws)], 1)
        return search(history.trials, candidates, draws)

    def _choose_with(self, outcome: TransferModel | None) -> None:
        """Let an outcome model choose among proposals in evaluation from now on; ``None``: the policy alone."""
        config = self.config
        self._chooser = None
        if outcome is not None:
            search = OutcomeSearch(outcome.process, config.neighbours, config.rounds, config.head)
            self._chooser = outcome, search

    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        self.interface.require_same(Interface.of(env))
        self._require_playable(env)
        config = self.config
        if config.proposals > 1 and self._chooser is None and env.suite.known_range is not None:
            training = TrainingTasks(env.suite, env.engine.tasks)
            self._choose_with(TransferModel.learn(Problem.of(env), training, config, self.seed, self.device))
        history = TrialHistory.of(env.observe()[0], self.layout.dimension)
        allowed = self.network.allowed(history.levels)
        hidden, cache = torch.empty(0), None
        if self._rollout is not None:
            hidden, cache = self._read_again(self._rollout, history.trials.done.shape[1])
        logs: dict[str, float | Tensor] = {}
        while self.steps < config.total_steps:
            if self._rollout is None or cache is None:
                history = self._begin(env)
                tokens = self.layout.read(history, 0, int(history.count[0]) + 1)
                self._rollout = Rollout(tokens)
                cache = self.network.trials.cache(env.num_envs, history.trials.done.shape[1] + 1)
                hidden = self._read(tokens, cache)
            with torch.no_grad():
                choice, log_probability = self.network.sample(hidden, allowed, self._draws)
                action = self.network.values(choice, history.levels, self._draws)
            _, reward, terminated, _, info = env.step(action)
            history = TrialHistory.of(info["final_obs"], self.layout.dimension)
            trial = int(history.count[0])
            token = self.layout.read(history, trial, trial + 1)
            self._rollout.add(choice, log_probability, history.trials.active[:, trial - 1], reward, token)
            self.steps += env.num_envs
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
        return TrialHistory.of(env.reset(options=options)[0], self.layout.dimension)

    @torch.no_grad()
    def _read(self, tokens: Tensor, cache: Any) -> Tensor:
        hidden: Tensor = self.network.read(tokens, cache)[:, -1]
        return hidden

    def _read_again(self, rollout: Rollout, trials: int) -> tuple[Tensor, Any]:
        """Fill a cache with what was read of a rollout, call by call, so that it is the same bit by bit."""
        hidden, cache = torch.empty(0), self.network.trials.cache(len(rollout.tokens[0]), trials + 1)
        for tokens in rollout.tokens:
            hidden = self._read(tokens, cache)
        return hidden, cache

    def _learn(self, played: Played, allowed: Tensor) -> dict[str, float | Tensor]:
        """Improve the policy by what it just played."""
        config = self.config
        advantage = group_advantages(played.reward, config.group_size, config.advantage, config.discount)
        earlier, before = self._earlier, None
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
            self._earlier = self._begins(played)
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
        if self._chooser is not None:
            saved["outcome"] = self._chooser[0].state_dict()
        if resumable:
            saved |= {"optimizer": self.optimizer.state_dict(), "draws": self._draws.get_state()}
            for name, part in (("rollout", self._rollout), ("earlier", self._earlier)):
                if part is not None:
                    saved[name] = part.state_dict()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        self.network.load_state_dict(saved["network"])
        self.steps, self.updates = int(saved["steps"]), int(saved["updates"])
        self._reader.forget()
        kept = saved.get("outcome") if self.config.proposals > 1 else None
        self._choose_with(None if kept is None else TransferModel.from_state_dict(kept, self.device))
        if not resumable or "optimizer" not in saved:
            return
        self.optimizer.load_state_dict(saved["optimizer"])
        restore_generator(self._draws, saved["draws"])
        self._rollout = Rollout.from_state_dict(saved["rollout"], self.device) if "rollout" in saved else None
        self._earlier = Played.from_state_dict(saved["earlier"], self.device) if "earlier" in saved else None
