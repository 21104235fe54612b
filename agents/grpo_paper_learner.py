"""How GRPOformer learns from the latest trials of its members, as the paper says or as the released code does.

Guo, Pan and Zhai (2025), arXiv 2509.17105. ``K`` members, ``S`` steps of each between two updates, ``F`` tokens before
the first of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.group_relative import clipped_surrogate, group_advantages
from agents.grpo_paper_config import GRPOPaperConfig
from agents.grpo_paper_policy import ConfigurationPolicy, Proposals

__all__ = ["GroupLearner", "Iteration"]

# Weight of (ratio - 1)^2 in the released code.
_RATIO_WEIGHT = 0.01
# The released code computes with densities and their ratios themselves; beyond exp(20) they would overflow float32.
_LARGEST_EXPONENT = 20.0


class Iteration:
    """What the members did since the last update.

    Args:
        begin: Content of the tokens that were read before, float32 ``[K, F, W]``.
    """

    def __init__(self, begin: Tensor) -> None:
        self.begin = begin
        self._after: list[Tensor] = []
        self._columns: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def steps(self) -> int:
        """``S`` so far."""
        return len(self._columns)

    def add(self, drawn: Tensor, active: Tensor, before: Tensor, reward: Tensor, token: Tensor) -> None:
        """Add a step of every member.

        Args:
            drawn: What was drawn from the policy, ``[K, D]``.
            active: bool ``[K, D]``.
            before: Its log-density then, ``[K]``.
            reward: ``[K]``.
            token: Content of the token of what came out, ``[K, W]``.
        """
        self._columns.append((drawn, active, before, reward))
        self._after.append(token)

    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``drawn``, ``active``, ``before`` and ``reward`` of all steps, ``[K, S, ...]``."""
        drawn, active, before, reward = (torch.stack(column, 1) for column in zip(*self._columns, strict=True))
        return drawn, active, before, reward

    def tokens(self) -> Tensor:
        """Return what was read before the last step, ``[K, F + S - 1, W]``; token ``F - 1 + s`` led to step ``s``."""
        return torch.cat([self.begin, *(token[:, None] for token in self._after[:-1])], 1)


class GroupLearner:
    """Improves a policy by one iteration after the other.

    Args:
        policy: The policy.
        config: How it learns.
        draws: Orders groups, and draws the trajectories whose begins hold the policy.
    """

    def __init__(self, policy: ConfigurationPolicy, config: GRPOPaperConfig, draws: torch.Generator) -> None:
        self._policy, self._config, self._draws = policy, config, draws
        self._optimizer = torch.optim.Adam(
            policy.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        #: Gradient steps so far.
        self.updates = 0

    @property
    def window(self) -> int:
        """Most tokens that are read together."""
        return 1 + self._config.history + self._config.steps

    def groups(self, steps: int) -> list[tuple[Tensor, Tensor]]:
        """Return the groups of an iteration in the order in which they are learned from.

        Args:
            steps: ``S``.

        Returns:
            Members and steps of the ``K`` transitions of each group, int64 ``[K]`` each. ``paper``: all members at one
            step; ``released``: any transitions.
        """
        size = self._config.group_size
        if self._config.form == "paper":
            order = torch.randperm(steps, generator=self._draws).tolist()
            return [(torch.arange(size), torch.full((size,), step)) for step in order]
        shuffled = torch.randperm(size * steps, generator=self._draws)
        return [(some // steps, some % steps) for some in shuffled.chunk(steps)]

    @torch.enable_grad()
    def learn(self, iteration: Iteration, trajectory: list[Tensor]) -> None:
        """Make ``epochs`` gradient steps on every group of an iteration.

        Args:
            iteration: What was done.
            trajectory: Content of all tokens of the episode, the task's first, ``[K, W]`` each.
        """
        config = self._config
        tokens, (drawn, active, before, reward) = iteration.tokens(), iteration.columns()
        first = iteration.begin.shape[1]
        held = self._hold(trajectory) if config.form == "paper" and config.churn_weight > 0.0 else None
        for member, step in self.groups(iteration.steps):
            advantage = group_advantages(reward[member, step][:, None], config.group_size).squeeze(1)
            for _ in range(config.epochs):
                read = self._policy.read(tokens[member, : first + int(step.max())], self.window)
                now = self._policy.propose(read[torch.arange(len(member)), first - 1 + step])
                chosen = (drawn[member, step], active[member, step])
                if config.form == "paper":
                    loss = self._paper(now, *chosen, before[member, step], advantage)
                else:
                    loss = self._released(now, *chosen, before[member, step], advantage)
                if held is not None:
                    loss = loss + config.churn_weight * self._churn(*held)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._policy.parameters(), config.max_gradient_norm)
                self._optimizer.step()
                self.updates += 1

    def _paper(self, now: Proposals, drawn: Tensor, active: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        config = self._config
        surrogate = clipped_surrogate(now.log_probability(drawn, active), before, advantage, config.clip)
        return surrogate.mean() - config.entropy * now.entropy(active).mean()

    def _released(self, now: Proposals, drawn: Tensor, active: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """Return the loss of the released code, with what its parts are called there."""
        config = self._config
        log_density = now.log_probability(drawn, active).clamp(max=_LARGEST_EXPONENT)
        before = before.clamp(max=_LARGEST_EXPONENT)
        log_ratio = (log_density - before).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        ratio = log_ratio.exp()
        relative = log_ratio - ratio.mean().log()
        surrogate = clipped_surrogate(relative, torch.zeros_like(relative), advantage, config.clip)
        density = log_density.exp()
        some = slice(0, max(1, int(config.churn_share * config.group_size)))
        churn = (before.exp() * (before - log_density))[some].mean()
        entropy = -(density * log_density).mean()
        penalty = _RATIO_WEIGHT * (ratio - 1.0).square().mean()
        loss: Tensor = surrogate.mean() + penalty + config.churn_weight * churn - config.entropy * entropy
        return loss

    @torch.no_grad()
    def _hold(self, trajectory: list[Tensor]) -> tuple[Tensor, Proposals, int]:
        """Return the begins of the trajectories, ``[K, P, W]``, and what the policy proposes after each token now."""
        share = int(self._config.churn_share * (len(trajectory) - 1))
        # The policy never sees more than its window; later states would have to be read one by one.
        states = min(max(1, share), self._config.history + 1)
        begin = torch.stack(trajectory[:states], 1)
        before = self._policy.propose(self._policy.read(begin, self.window).flatten(0, 1))
        return begin, before, states

    def _churn(self, begin: Tensor, before: Proposals, states: int) -> Tensor:
        """Return how far the policy has moved on the begins of a quarter of the trajectories."""
        some = torch.randperm(len(begin), generator=self._draws)[: max(1, len(begin) // 4)]
        now = self._policy.propose(self._policy.read(begin[some], self.window).flatten(0, 1))
        index = (some[:, None] * states + torch.arange(states)).flatten()
        everything = torch.ones(now.mean.shape, dtype=torch.bool)
        divergence: Tensor = before.rows(index).divergence(now, everything).mean()
        return divergence
