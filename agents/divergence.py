"""Trainings that diverge: numbers that are none any more end them, instead of being kept as a result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from agents.base import TrainableAgent
from hpo_gym.errors import InvalidSettingError

__all__ = ["require_finite_loss", "require_finite_policy"]

_REMEDY = (
    "Set agent.learning_rate, or a bound on gradients, to less and train again with overwrite=true; checkpoints of "
    "before are kept."
)


def require_finite_loss(figures: Mapping[str, float], steps: int) -> None:
    """Refuse to go on from a loss that is no number, or infinite.

    Args:
        figures: What a training reports; ``loss`` may be among it.
        steps: Transitions so far, for the message.

    Raises:
        InvalidSettingError: With the remedy.
    """
    loss = figures.get("loss", 0.0)
    if not math.isfinite(loss):
        reached = f"its loss is {loss} after {steps:,} transitions"
        raise InvalidSettingError(f"The training has diverged: {reached}. {_REMEDY}")


def require_finite_policy(agent: TrainableAgent) -> None:
    """Refuse to save an agent with a weight that is no number, or infinite.

    Raises:
        InvalidSettingError: Naming the weights, with the remedy.
    """
    for name, value in _tensors(agent.state_dict(resumable=False)):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InvalidSettingError(
                f"The training has diverged: after {agent.steps:,} transitions {name} of the agent is not finite. "
                f"{_REMEDY}"
            )


def _tensors(part: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(part, torch.Tensor):
        yield name, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from _tensors(value, f"{name}[{index}]")
