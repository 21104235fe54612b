"""Agents of Stable-Baselines3 that learn from rollouts of the present policy: PPO and A2C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.base import Interface
from agents.checked_numbers import require_numbers
from agents.exploration import draw_by
from agents.stable_baselines import StableBaselinesAgent, check_network
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, require_booleans, require_effect
from hpo_gym.mdp.observations import Observation

__all__ = ["OnPolicyAgent", "OnPolicyConfig"]

# Beyond it a standard deviation is 0 or infinite in float32, or nearly so.
_MOST_LOG_STD = 20.0


@dataclass(frozen=True)
class OnPolicyConfig:
    """What PPO and A2C share; names and meaning are SB3's unless noted.

    Args:
        total_steps: Transitions to train on. A last rollout that they do not fill is not learned from.
        net_arch: Widths of the hidden layers of the actor, and of the critic.
        learning_rate: The optimiser's, constant.
        n_steps: Vector steps per rollout, which holds ``n_steps`` x ``num_envs`` transitions.
        gamma: Discount, in ``[0, 1]``.
        gae_lambda: Trade-off of bias and variance of the advantages, in ``[0, 1]``.
        ent_coef: Weight of the entropy in the loss.
        vf_coef: Weight of the critic in the loss.
        max_grad_norm: Gradients are scaled down to this norm.
        log_std_init: Logarithm of the first standard deviation of continuous actions, of which the range is
            ``[-1, 1]``.
        deterministic: Whether the trained policy takes its likeliest action. A policy without memory would then step
            to and fro between two configurations; by default it draws from its distribution, as in training.
        meta_features: Whether the networks see the dataset's meta-features. With a few dozen training datasets they
            otherwise recognise each one, and do worse on others.
    """

    total_steps: int = 600_000
    net_arch: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    n_steps: int = 16
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    log_std_init: float = 0.0
    deterministic: bool = False
    meta_features: bool = False

    def __post_init__(self) -> None:
        require_booleans(self)
        require_numbers(
            self,
            counts=("total_steps", "n_steps"),
            positive=("learning_rate", "max_grad_norm"),
            shares=("gamma", "gae_lambda"),
            not_negative=("ent_coef", "vf_coef"),
        )
        if not abs(self.log_std_init) <= _MOST_LOG_STD:
            raise InvalidSettingError(
                f"log_std_init={self.log_std_init!r} must lie in [-{_MOST_LOG_STD:g}, {_MOST_LOG_STD:g}]."
            )
        check_network(self.net_arch)

    def arguments(self) -> dict[str, Any]:
        """Return those that SB3's PPO and A2C share, by SB3's names."""
        names = ("learning_rate", "n_steps", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm")
        policy = {"net_arch": list(self.net_arch), "log_std_init": self.log_std_init}
        return {**{name: getattr(self, name) for name in names}, "policy_kwargs": policy}


class OnPolicyAgent(StableBaselinesAgent):
    """Learns from rollouts of ``n_steps`` vector steps; a checkpoint holds the rollout that has begun."""

    arrays = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        if interface.num_actions:
            remedy = "Set env.action=continuous"
            require_effect(config, ("log_std_init",), f"action={interface.action}, which has no deviation", remedy)
        super().__init__(config, interface, seed, device)

    def policy_class(self) -> Any:
        """Return the class of actor and critic: one that knows legal actions, where actions are discrete."""
        from stable_baselines3.common.policies import ActorCriticPolicy

        from agents.stable_baselines_models import LegalActorCriticPolicy

        return LegalActorCriticPolicy if self.interface.num_actions else ActorCriticPolicy

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"policy": self.model.policy.optimizer}

    def require_trainable(self, env: HPOVectorEnv) -> None:
        super().require_trainable(env)
        config = self.config
        least = config.n_steps * env.num_envs
        if config.total_steps < least:
            raise InvalidSettingError(
                f"total_steps={config.total_steps!r} ends before the first rollout of n_steps={config.n_steps!r} steps "
                f"in {env.num_envs} environments: nothing would be learned. Set agent.total_steps to {least} or more, "
                "or agent.n_steps or env.num_envs to less."
            )

    def make_buffer(self) -> Any:
        from agents.stable_baselines_models import PartialRolloutBuffer

        model = self.model
        model.rollout_buffer = PartialRolloutBuffer(
            model.n_steps,
            model.observation_space,
            model.action_space,
            device=model.device,
            gae_lambda=model.gae_lambda,
            gamma=model.gamma,
            n_envs=model.n_envs,
        )
        return model.rollout_buffer

    def advance(self, hooks: Any) -> None:
        model = self.model
        model.collect_rollouts(model.env, hooks, model.rollout_buffer, n_rollout_steps=1)
        model._update_current_progress_remaining(model.num_timesteps, self.config.total_steps)
        if model.rollout_buffer.full:
            model.train()

    def extent(self) -> tuple[int, int, bool]:
        # A full one has been learned from, and the next step begins another.
        rows = 0 if self._buffer.full else self._buffer.pos
        return rows, rows, False

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        with torch.no_grad():
            policy = self.model.policy.get_distribution(self.seen(observation, mask)).distribution
        deterministic = self.config.deterministic and not explore
        action: Tensor
        if self.interface.num_actions == 0:
            action = policy.mean
            if not deterministic:
                noise = torch.randn(action.shape, generator=draws, device=action.device)
                action = action + policy.stddev * noise
            action = (0.5 * (action + 1.0)).clamp(0.0, 1.0)
            return action
        if deterministic:
            action = policy.logits.argmax(1)
            return action
        return draw_by(policy.probs, draws)
