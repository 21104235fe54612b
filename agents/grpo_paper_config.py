"""Configuration of GRPOformer as published."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_gym.errors import InvalidSettingError, require_effect, require_integer, unknown_name

__all__ = ["FORMS", "GRPOPaperConfig"]

#: What is optimised: group relative policy optimisation as the paper describes it, or the loss of the released code.
FORMS = ("paper", "released")

_POSITIVE = ("clip", "learning_rate", "max_gradient_norm", "churn_share")
_NOT_NEGATIVE = ("weight_decay", "entropy", "churn_weight")


@dataclass(frozen=True)
class GRPOPaperConfig:
    """Configuration of :class:`~agents.grpo_paper.GRPOPaper`; the defaults are those of the released code.

    Args:
        form: ``paper``: a group is what the members did at one step; ``released``: transitions of all members and
            steps, shuffled, with the ratio, the regulariser and the "entropy" of the released code.
        group_size: Members ``K``, each with its own trajectory; at least 2.
        steps: Trials ``S`` of each member between two updates.
        history: Most trials before the current iteration that the policy sees of a trajectory, the latest ones.
        width, layers, heads: Of the Transformer.
        epochs: Gradient steps on each group of ``K`` transitions.
        clip: Range of the probability ratio.
        entropy: Weight of the entropy: that of the distributions (``paper``), or the mean of ``-p log p`` of what was
            chosen (``released``).
        churn_weight: Weight of policy churn regularisation; 0 turns it off.
        churn_share: Share of what it is computed on, in ``(0, 1]``: the begin of each trajectory (``paper``), the
            first transitions of a group (``released``).
        learning_rate, weight_decay: Of Adam.
        max_gradient_norm: Larger gradients are scaled down.

    Raises:
        InvalidSettingError: For an impossible value.
        UnknownNameError: For an unknown form.
    """

    form: str = "paper"
    group_size: int = 8
    steps: int = 10
    history: int = 20
    width: int = 256
    layers: int = 4
    heads: int = 4
    epochs: int = 3
    clip: float = 0.2
    entropy: float = 0.2
    churn_weight: float = 0.01
    churn_share: float = 0.2
    learning_rate: float = 3e-4
    weight_decay: float = 1e-5
    max_gradient_norm: float = 0.5

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown_name("form", self.form, FORMS)
        for name in ("steps", "history", "width", "layers", "heads", "epochs"):
            require_integer(name, getattr(self, name), 1)
        require_integer("group_size", self.group_size, 2, "a member is compared with the others of its group")
        if self.width % self.heads:
            raise InvalidSettingError(f"width={self.width} must be a multiple of heads={self.heads}.")
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            value = getattr(self, name)
            if not (math.isfinite(value) and (value > 0.0 or (value == 0.0 and name in _NOT_NEGATIVE))):
                least = "0 or greater" if name in _NOT_NEGATIVE else "greater than 0"
                raise InvalidSettingError(f"{name}={value!r} must be finite and {least}.")
        if self.churn_share > 1.0:
            raise InvalidSettingError(f"churn_share={self.churn_share!r} must lie in (0, 1]: it is a share.")
        if self.churn_weight == 0.0:
            require_effect(self, ("churn_share",), "churn_weight=0", "Set agent.churn_weight=0.1")
