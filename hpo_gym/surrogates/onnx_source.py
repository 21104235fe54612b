"""The steps of a compiled graph as one straight-line Python function.

At a batch of one, looking up what to do next and with which tensors costs as much as doing it. Written out, a
step is a line such as ``v17 = addmm(c4, v16, c3)``; a tensor is dropped right after its last use, so that the next
step finds its memory still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpo_gym.surrogates.onnx_fused import FUSED, bag
from hpo_gym.surrogates.onnx_operators import OPERATORS

__all__ = ["Step", "compile_steps"]


@dataclass(frozen=True)
class Step:
    """One operation: ``values[target] = op(values[sources], attributes)``."""

    op: str
    attributes: dict[str, Any]
    target: int
    sources: tuple[int, ...]


def compile_steps(
    steps: Sequence[Step],
    constants: Mapping[int, Tensor],
    arguments: Mapping[str, int],
    output: int,
    differentiable: bool,
) -> Callable[..., Tensor]:
    """Return a function of ``arguments`` (in their order) that takes the steps.

    Args:
        steps: In the order in which they can be taken.
        constants: Values that are known, by number.
        arguments: Numbers of the function's arguments, by name.
        output: Number of the value that is returned.
        differentiable: Whether gradients must flow; otherwise operators may work in place.
    """
    names = {number: f"c{number}" for number in constants} | {number: name for name, number in arguments.items()}
    scope: dict[str, Any] = {f"c{number}": value for number, value in constants.items()}
    scope |= {"addcmul": torch.addcmul, "addmm": torch.addmm, "bag": bag}
    last = {source: index for index, step in enumerate(steps) for source in step.sources}
    lines = [f"def run({', '.join(arguments)}):"]
    for index, step in enumerate(steps):
        names[step.target] = f"v{step.target}"
        # An optional input that was left out is a constant without a value.
        inputs = [names.get(source, "None") for source in step.sources]
        lines.append(f"    v{step.target} = {_expression(step, index, inputs, differentiable, scope)}")
        used = {source for source in step.sources if last[source] == index and source != output}
        over = sorted(names[source] for source in used if source in names and names[source].startswith("v"))
        if over:
            lines.append(f"    del {', '.join(over)}")
    lines.append(f"    return {names[output]}")
    exec(compile("\n".join(lines), "<compiled graph>", "exec"), scope)
    run: Callable[..., Tensor] = scope["run"]
    return run


def _expression(step: Step, index: int, inputs: Sequence[str], differentiable: bool, scope: dict[str, Any]) -> str:
    fused = FUSED.get(step.op)
    if fused is not None:
        template = fused.plain if differentiable and fused.plain else fused.fast
        return template.format(*inputs, **step.attributes)
    scope[f"operator{index}"], scope[f"attributes{index}"] = OPERATORS[step.op].run, step.attributes
    return f"operator{index}(attributes{index}, [{', '.join(inputs)}])"
