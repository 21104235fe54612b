"""Settings of agents that learn from replayed transitions."""

from __future__ import annotations

from dataclasses import dataclass

from agents.checked_numbers import require_numbers
from hpo_gym.errors import InvalidSettingError, require_booleans, require_effect, require_integer

__all__ = ["OffPolicyConfig", "require_update"]


@dataclass(frozen=True)
class OffPolicyConfig:
    """What the configurations of all agents that learn from replay have in common.

    Args:
        total_steps: Transitions to train on; more than ``learning_starts``.
        learning_rate: Adam's, falling linearly to a tenth over the training.
        discount: Gamma, in ``[0, 1]``.
        buffer_size: Transitions kept for replay.
        learning_starts: Transitions before the first gradient step.
        batch_size: Transitions per gradient step.
        transitions_per_update: Transitions between gradient steps.
        multi_step: Steps that one replayed transition joins (``n``).
        priority_exponent: How much more often transitions with a large error are replayed, in ``[0, 1]``; 0 draws
            all alike (Schaul et al., 2016: 0.6).
        priority_correction: How far the loss undoes that at first, in ``[0, 1]``; at the end of the training it is 1.
        target_rate: Share of the way that the target network moves towards the network at every gradient step
            (Polyak averaging), in ``(0, 1]``.
        target_interval: Gradient steps between moves of the target network; with ``target_rate=1`` it is copied.
        weight_decay: Decoupled weight decay.
        max_gradient_norm: Gradients are scaled down to this norm.
        save_buffer: Whether checkpoints hold the replay buffer; without it a resumed run first collects
            ``learning_starts`` transitions again (or a full buffer), and is then not bitwise the unbroken one.
    """

    total_steps: int = 600_000
    learning_rate: float = 5e-4
    discount: float = 0.98
    buffer_size: int = 300_000
    learning_starts: int = 20_000
    batch_size: int = 512
    transitions_per_update: int = 128
    multi_step: int = 1
    priority_exponent: float = 0.0
    priority_correction: float = 0.4
    target_rate: float = 0.01
    target_interval: int = 1
    weight_decay: float = 0.01
    max_gradient_norm: float = 10.0
    save_buffer: bool = True

    def __post_init__(self) -> None:
        require_booleans(self)
        require_numbers(
            self,
            counts=(
                "total_steps",
                "buffer_size",
                "batch_size",
                "transitions_per_update",
                "multi_step",
                "target_interval",
            ),
            positive=("learning_rate",),
            shares=("discount", "priority_exponent", "priority_correction"),
            not_negative=("weight_decay",),
        )
        require_integer("learning_starts", self.learning_starts, 0)
        require_update(self.total_steps, self.learning_starts, "transitions_per_update", self.transitions_per_update)
        # Infinite: gradients are not scaled.
        if not self.max_gradient_norm > 0.0:
            raise InvalidSettingError(f"max_gradient_norm={self.max_gradient_norm!r} must be greater than 0.")
        if not 0.0 < self.target_rate <= 1.0:
            raise InvalidSettingError(f"target_rate={self.target_rate!r} must lie in (0, 1].")
        if self.priority_exponent == 0.0:
            remedy = "Set agent.priority_exponent=0.6"
            require_effect(self, ("priority_correction",), "priority_exponent=0", remedy)


def require_update(total_steps: int, learning_starts: int, name: str, every: int) -> None:
    """Refuse a training that ends before its first gradient step.

    Args:
        total_steps: Transitions of the training.
        learning_starts: Transitions before gradient steps are due.
        name: Setting that says how often they are.
        every: Its value, transitions.

    Raises:
        InvalidSettingError: Naming all three, and the remedy.
    """
    first = learning_starts + every
    if total_steps < first:
        raise InvalidSettingError(
            f"total_steps={total_steps!r} ends before the first gradient step, which comes after "
            f"learning_starts={learning_starts!r} and {name}={every!r} transitions: nothing would be learned. Set "
            f"agent.total_steps to {first} or more, or agent.learning_starts to less."
        )
