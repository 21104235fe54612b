"""RMSProp as TensorFlow 1 computes it, for reproductions of agents that were trained with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["TensorFlowRMSprop"]


class TensorFlowRMSprop(torch.optim.Optimizer):
    """Tieleman and Hinton's RMSProp with momentum, as ``tf.train.RMSPropOptimizer`` of TensorFlow 1.

    ``s <- decay s + (1 - decay) g^2``; ``m <- momentum m + lr g / sqrt(s + eps)``; ``w <- w - m``. torch's own differs
    in three ways: it adds ``eps`` to the root and not under it, which with ``eps=0.01`` is ten times less; its ``s``
    begins at 0 and not at 1; and its momentum adds up steps without the learning rate, so that a change of the rate
    also scales the steps of the past.

    Args:
        parameters: What it changes.
        learning_rate: Greater than 0.
        decay: Of the mean square, in ``[0, 1)``; TensorFlow's default is 0.9.
        momentum: In ``[0, 1)``.
        epsilon: Greater than 0.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        learning_rate: float,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
    ) -> None:
        defaults = {"lr": learning_rate, "decay": decay, "momentum": momentum, "epsilon": epsilon}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Args:
            closure: Evaluates the model again and returns the loss, as for every optimiser of torch.

        Returns:
            The loss that ``closure`` returned, or ``None``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, parameter.grad, group)
        return loss

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["square"] = torch.ones_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        square, momentum = state["square"], state["momentum"]
        square.lerp_(gradient.square(), 1.0 - group["decay"])
        momentum.mul_(group["momentum"]).addcdiv_(gradient, (square + group["epsilon"]).sqrt(), value=group["lr"])
        parameter.sub_(momentum)
