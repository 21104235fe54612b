"""Configurations of the policies that learn by group-relative policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from agents.group_relative import ADVANTAGES
from agents.transfer_search import TransferSearchConfig
from agents.trial_tokens import SCORE_SCALES
from hpo_gym.errors import InvalidSettingError, require_booleans, require_effect, require_integer, require_names

__all__ = ["PRECISIONS", "GRPOConfig", "GroupRelativeConfig"]

#: What training computes in.
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class GroupRelativeConfig:
    """Configuration of a :class:`~agents.group_relative_agent.GroupRelativeAgent`.

    Args:
        total_steps: Transitions.
        group_size: Rollouts ``K`` of one task from one start, at least 2; ``env.num_envs`` is a multiple of it.
        width, layers, heads: Of the Transformer.
        bins: Bins of each hyperparameter's interval.
        advantage: ``step`` or ``trajectory`` (:func:`~agents.group_relative.group_advantages`).
        discount: Of later rewards, in ``(0, 1]``.
        clip: Range of the probability ratio.
        epochs: Passes over the rollouts of one policy.
        minibatches: Gradient steps per pass.
        learning_rate: Peak; rises over the first hundredth of the training, then falls along a cosine to a twentieth.
        entropy: Weight of the entropy bonus.
        churn_weight: Weight of policy churn regularisation; 0 turns it off.
        churn_share: Share of an earlier trajectory, from its begin, whose states it holds the policy to.
        max_gradient_norm: Larger gradients are scaled down.
        weight_decay: Of AdamW.
        precision: ``float32``, or ``bfloat16``: mixed precision in training. Weights, heads and losses stay float32,
            and so does everything in evaluation.
        evaluation_temperature: What logits of the trained policy are divided by: below 1 it is bolder.
        proposals: Configurations that the trained policy draws in every trial of an evaluation; the outcome model
            chooses one. 1: the policy alone decides, and there is no outcome model.
    """

    #: Settings of the outcome model.
    outcome_model: ClassVar[tuple[str, ...]] = ()

    total_steps: int = 1_000_000
    group_size: int = 16
    width: int = 96
    layers: int = 3
    heads: int = 4
    bins: int = 24
    advantage: str = "step"
    discount: float = 1.0
    clip: float = 0.2
    epochs: int = 2
    minibatches: int = 4
    learning_rate: float = 1e-3
    entropy: float = 0.003
    churn_weight: float = 0.01
    churn_share: float = 0.2
    max_gradient_norm: float = 0.5
    weight_decay: float = 1e-4
    precision: str = "float32"
    evaluation_temperature: float = 1.0
    proposals: int = 128

    def __post_init__(self) -> None:
        require_booleans(self)
        for name in ("total_steps", "width", "layers", "heads", "epochs", "minibatches", "proposals"):
            require_integer(name, getattr(self, name), 1)
        require_integer("group_size", self.group_size, 2, "a rollout is compared with the others of its group")
        require_integer("bins", self.bins, 2)
        if self.width % self.heads:
            raise InvalidSettingError(f"width={self.width} must be a multiple of heads={self.heads}.")
        require_names("advantage", [self.advantage], ADVANTAGES)
        require_names("precision", [self.precision], PRECISIONS)
        for name in ("discount", "churn_share", "evaluation_temperature", "clip", "learning_rate", "max_gradient_norm"):
            highest = 1.0 if name in ("discount", "churn_share") else float("inf")
            if not 0.0 < getattr(self, name) <= highest:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must lie in (0, {highest}].")
        if self.learning_rate == float("inf"):
            raise InvalidSettingError("learning_rate=inf must be finite.")
        for name in ("entropy", "churn_weight", "weight_decay"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be at least 0.")
        if self.churn_weight == 0.0:
            require_effect(self, ("churn_share",), "churn_weight=0", "Set agent.churn_weight=0.01")
        if self.proposals == 1:
            # A policy that decides alone.
            require_effect(self, self.outcome_model, "proposals=1", "Set agent.proposals=128")

    def without_outcome_model(self) -> Self:
        """Return the configuration of the policy that decides alone."""
        unused: dict[str, Any] = {part.name: part.default for part in fields(self) if part.name in self.outcome_model}
        return replace(self, proposals=1, **unused)


@dataclass(frozen=True)
class GRPOConfig(GroupRelativeConfig, TransferSearchConfig):
    """Configuration of :class:`~agents.grpo.GRPO`.

    Args:
        autoregressive: Whether hyperparameters are chosen one after the other.
        scores: What the policy sees of scores: ``absolute``, ``relative`` to the earlier ones of the episode, ``both``.
        meta_features: Whether it sees the meta-features of the dataset.
        candidates, neighbours, rounds, head: What else the outcome model may choose from, as for
            :class:`~agents.transfer_gp.TransferGPConfig`; 0 ``candidates``: nothing but proposals and their
            neighbours.
        samples, hidden, surface_steps, kernel_steps: How it is learned, as for
            :class:`~agents.transfer_model.TransferConfig`.

    The others are those of :class:`GroupRelativeConfig`.
    """

    outcome_model: ClassVar[tuple[str, ...]] = tuple(part.name for part in fields(TransferSearchConfig))

    autoregressive: bool = True
    scores: str = "both"
    meta_features: bool = False
    candidates: int = 0

    def __post_init__(self) -> None:
        TransferSearchConfig.__post_init__(self)
        GroupRelativeConfig.__post_init__(self)
        require_names("scores", [self.scores], SCORE_SCALES)
