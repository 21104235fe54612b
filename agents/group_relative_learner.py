"""How a policy over histories improves by what it played: losses and gradient steps of group-relative optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agents.group_relative import categorical_divergence, clipped_surrogate, group_advantages
from agents.grpo_config import GroupRelativeConfig
from agents.processes import Processes
from agents.proposal_network import BinnedProposals
from agents.rollout import Played
from agents.schedules import CosineSchedule

__all__ = ["GroupRelativeLearner"]

_WARM_UP = 0.01
_LAST_RATE = 0.05


class GroupRelativeLearner:
    """Takes the gradient steps of a network, with all that only training needs.

    Args:
        config: Of the agent.
        network: What learns, on its device.
        device: Where that is.
    """

    def __init__(self, config: GroupRelativeConfig, network: BinnedProposals, device: torch.device) -> None:
        self.config, self.network, self.device = config, network, device
        self.optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self._learning_rate = CosineSchedule(config.learning_rate, config.total_steps, _LAST_RATE, _WARM_UP)
        self._mixed = config.precision == "bfloat16"
        #: Gradient steps so far.
        self.updates = 0
        # By environment the begin of earlier trajectories, on whose states the policy is held.
        self._earlier: dict[int, Played] = {}

    def read(self, tokens: Tensor, cache: Any = None) -> Tensor:
        """Return what the network reads in training, float32, whatever it computes in."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            hidden: Tensor = self.network.read(tokens, cache)
        return hidden.float()

    def learn(
        self,
        played: Played,
        allowed: Tensor,
        draws: torch.Generator,
        *,
        steps: int,
        environment: int,
        processes: Processes,
    ) -> dict[str, float | Tensor]:
        """Improve the policy by what it just played; return what there is to log.

        Args:
            played: Whole episodes, groups one after the other.
            allowed: Bins that exist, bool ``[D, K]``.
            draws: Where random numbers come from.
            steps: Transitions so far, which say how far training is.
            environment: Number of the environment that they are of.
            processes: Who learns the same policy.
        """
        config = self.config
        advantage = group_advantages(played.reward, config.group_size, config.advantage, config.discount)
        if self._mixed:
            # What was read trial by trial is rounded otherwise than as a whole: ratios would not begin at 1.
            with torch.no_grad():
                everything = self._log_probabilities(played, allowed)
            played = replace(played, log_probability=_of_chosen(everything, played))
        earlier, before = self._earlier.get(environment), None
        if earlier is not None and config.churn_weight > 0.0:
            with torch.no_grad():
                before = self._log_probabilities(earlier, allowed)
        batch = len(advantage)
        rate = self._learning_rate(steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        for _ in range(config.epochs):
            order = torch.randperm(batch, generator=draws, device=self.device)
            for rows in order.chunk(config.minibatches):
                churn = torch.zeros((), device=self.device)
                if earlier is not None and before is not None:
                    some = rows[: max(1, len(rows) // 4)] % len(earlier.reward)
                    now = self._log_probabilities(earlier.rows(some), allowed)
                    churn = categorical_divergence(
                        before[some].flatten(0, 1), now.flatten(0, 1), earlier.active[some].flatten(0, 1)
                    ).mean()
                parts = self.losses(played.rows(rows), advantage[rows], allowed) | {"churn": churn}
                loss = parts["policy_loss"] - config.entropy * parts["entropy"] + config.churn_weight * churn
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                processes.average_gradients(self.network.parameters())
                norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
                self.optimizer.step()
                self.updates += 1
                for name, value in (parts | {"loss": loss, "gradient_norm": norm}).items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach()
        if config.churn_weight > 0.0:
            self._earlier[environment] = self._begins(played)
        count = config.epochs * len(order.chunk(config.minibatches))
        logs: dict[str, float | Tensor] = {name: value / count for name, value in sums.items()}
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
        hidden = self.read(played.tokens[:, :-1])[:, played.first - 1 :]
        flat = self.network.log_probabilities(hidden.flatten(0, 1), played.choice.flatten(0, 1), allowed)
        found: Tensor = flat.unflatten(0, (-1, actions))
        return found

    def losses(self, played: Played, advantage: Tensor, allowed: Tensor) -> dict[str, Tensor]:
        everything = self._log_probabilities(played, allowed)
        chosen = _of_chosen(everything, played)
        # An inactive hyperparameter has no effect: nothing is to be learned from its value.
        now, before = ((part * played.active).sum(2) for part in (chosen, played.log_probability))
        loss = clipped_surrogate(now, before, advantage, self.config.clip).mean()
        finite = everything.masked_fill(everything == -torch.inf, 0.0)
        entropy = (-(everything.exp() * finite).sum(3) * played.active).sum(2).mean()
        with torch.no_grad():
            clipped = ((now - before).exp() - 1.0).abs() > self.config.clip
            divergence = (before - now).mean()
        return {"policy_loss": loss, "entropy": entropy, "clipped": clipped.float().mean(), "divergence": divergence}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed training needs but the network."""
        earlier = {str(index): part.state_dict() for index, part in self._earlier.items()}
        return {"optimizer": self.optimizer.state_dict(), "earlier": earlier}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        self.optimizer.load_state_dict(saved["optimizer"])
        self._earlier = {
            int(index): Played.from_state_dict(part, self.device) for index, part in saved["earlier"].items()
        }


def _of_chosen(everything: Tensor, played: Played) -> Tensor:
    """Return what ``[B, A, D, K]`` says of the bins that were chosen, ``[B, A, D]``."""
    return everything.gather(3, played.choice[..., None]).squeeze(3)
