"""An exact YAHPO surrogate: a compiled graph behind the unit cube of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Fidelity, Metric, Surrogate
from hpo_gym.surrogates.onnx_compiler import OnnxModule

__all__ = ["YahpoInputs", "YahpoSurrogate"]

# Rows evaluated at once on a CPU with two threads. The widest activation (about 900 columns) then stays in the
# second-level cache, and below the size that the C library's allocator hands back to the system after every use:
# with 1,024 rows, a quarter of the time went into having the same pages mapped again.
_CPU_ROWS = 256


class YahpoInputs(torch.nn.Module):
    """Turns configurations of the unit cube into the raw inputs of a graph.

    Args:
        space: The search space.
        continuous: Names of ``x_cont`` in order.
        categorical: Names of ``x_cat`` in order.
        encoding: Codes of every category, by input and value.
        fixed: Values of inputs that are no hyperparameters.
        instances: Code of every task, or ``None`` for a single task.
        instance_name: The input that takes it.
        fidelity: The fidelity; its input is in ``continuous``.
    """

    instances: Tensor
    _source: Tensor
    _scale: Tensor
    _offset: Tensor
    _lower: Tensor
    _upper: Tensor
    _is_log: Tensor
    _is_integer: Tensor
    _is_choice: Tensor
    _always: Tensor
    _codes: Tensor
    _bases: Tensor

    def __init__(
        self,
        space: SearchSpace,
        continuous: Sequence[str],
        categorical: Sequence[str],
        encoding: Mapping[str, Mapping[str, int]],
        fixed: Mapping[str, object],
        instances: Sequence[int] | None,
        instance_name: str | None,
        fidelity: Fidelity,
    ) -> None:
        super().__init__()
        self.space = space
        self._width = len(continuous)
        self._fidelity_column = list(continuous).index(fidelity.name)
        tasks = list(instances or [0])
        values = {**fixed, fidelity.name: fidelity.upper}
        # What is no hyperparameter is a constant, whatever column it is said to come from.
        source, constants = [], []
        for name in (*continuous, *categorical):
            known = name in space.names
            source.append(space.names.index(name) if known else 0)
            constants.append(0.0 if known or name in categorical else float(values.get(name, 0.0)))  # type: ignore[arg-type]
        free = torch.tensor([name in space.names for name in (*continuous, *categorical)])
        index = torch.tensor(source, dtype=torch.int64)
        constant = torch.tensor(constants)
        bounds = {name: getattr(space, f"_{name}32").cpu()[index] for name in ("scale", "offset", "lower", "upper")}
        self._keep("source", index)
        self._keep("scale", torch.where(free, bounds["scale"], 0.0))
        for name in ("offset", "lower", "upper"):
            self._keep(name, torch.where(free, bounds[name], constant))
        for name in ("log", "integer", "choice"):
            flags = getattr(space, f"_is_{name}").cpu()[index] & free
            setattr(self, f"_any_{name}", bool(flags.any()))
            self._keep(f"is_{name}", flags)
        self._keep("always", ~free)
        codes, bases = self._code_table(categorical, encoding, fixed, tasks, instance_name)
        self._keep("codes", codes)
        self._keep("bases", bases)
        self.register_buffer("instances", torch.tensor(tasks, dtype=torch.int32), persistent=False)
        self._hold()

    def _hold(self) -> None:
        """Gather the buffers: looking one up in a module takes as long as an addition."""
        self._numeric = (self._source, self._scale, self._offset, self._lower, self._upper)
        self._flags = (self._is_log, self._is_integer, self._is_choice, self._always)
        self._coding = (self._codes, self._bases)

    def _apply(self, fn: Any, recurse: bool = True) -> YahpoInputs:
        super()._apply(fn, recurse)
        self._hold()
        return self

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(f"_{name}", tensor, persistent=False)

    def _code_table(
        self,
        categorical: Sequence[str],
        encoding: Mapping[str, Mapping[str, int]],
        fixed: Mapping[str, object],
        instances: Sequence[int],
        instance_name: str | None,
    ) -> tuple[Tensor, Tensor]:
        """Return all codes in a row, and where those of each input begin, by task: ``[N, C]``."""
        codes: list[int] = []
        bases = torch.zeros(len(instances), len(categorical), dtype=torch.int64)
        for column, name in enumerate(categorical):
            bases[:, column] = len(codes)
            if name == instance_name:
                bases[:, column] += torch.arange(len(instances))
                codes += instances
            elif name in self.space.names:
                about = self.space.spec.columns[self.space.names.index(name)]
                values = about.choices if about.choices else _integers(about.lower, about.upper)
                codes += [encoding[name][str(value)] for value in values]
                if not about.choices:
                    bases[:, column] -= int(about.lower)
            else:
                codes.append(encoding[name][str(fixed[name])] if name in fixed else 0)
        return torch.tensor(codes, dtype=torch.int32), bases

    def forward(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``x_cat`` int32 ``[B, C]`` and ``x_cont`` float32 ``[B, R]``; inactive inputs are 0."""
        # The same arithmetic as SearchSpace.numbers, on the columns of the graph instead of the space: at a batch
        # of one each operation costs more than its numbers, and writing columns into a template takes many.
        source, scale, offset, lower, upper = self._numeric
        is_log, is_integer, is_choice, always = self._flags
        codes, bases = self._coding
        value = torch.addcmul(offset, u.index_select(1, source), scale)
        if self._any_log:
            exponent = value.masked_fill(~is_log, 0.0) if value.requires_grad else value
            value = torch.where(is_log, exponent.exp(), value)
        if self._any_integer:
            value = torch.where(is_integer, value.round(), value)
        if self._any_choice:
            value = torch.where(is_choice, value.floor(), value)
        value = torch.clamp(value, lower, upper)
        on = None
        if self.space.has_conditions:
            on = active.index_select(1, source) | always
        continuous = value[:, : self._width]
        # Whole numbers have no gradient; long() drops it.
        position = value[:, self._width :].long() + bases.index_select(0, task)
        chosen = codes.take(position)
        if on is not None:
            continuous = continuous * on[:, : self._width]
            chosen = chosen * on[:, self._width :]
        if fidelity is not None:
            continuous[:, self._fidelity_column] = fidelity
        return chosen, continuous


def _integers(lower: float, upper: float) -> list[int]:
    return list(range(int(lower), int(upper) + 1))


class YahpoSurrogate(Surrogate):
    """The metrics of a compiled YAHPO graph.

    Args:
        inputs: How configurations become raw inputs.
        graph: The compiled graph; its outputs are ``metrics``.
        metrics: The ``K`` metrics.
        fidelity: The fidelity that may be chosen.
    """

    def __init__(
        self,
        inputs: YahpoInputs,
        graph: OnnxModule,
        metrics: tuple[Metric, ...],
        fidelity: Fidelity,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.graph = graph
        self.metrics = metrics
        self.fidelity = fidelity
        self.num_tasks = len(inputs.instances)
        self.num_hyperparameters = inputs.space.dimension

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        # At a batch of one, a module's __call__ is not free.
        run = self.graph.forward
        codes, continuous = self.inputs.forward(task, u, active, fidelity)
        if len(task) <= _CPU_ROWS or u.device.type != "cpu" or (continuous.requires_grad and torch.is_grad_enabled()):
            return run(codes, continuous)
        rows = _CPU_ROWS * max(1, torch.get_num_threads() // 2)
        return torch.cat([run(*part) for part in zip(codes.split(rows), continuous.split(rows), strict=True)])

    def subset(self, tasks: Sequence[int]) -> YahpoSurrogate:
        """Return the same surrogate for some of its tasks."""
        import copy

        inputs = copy.copy(self.inputs)
        inputs._buffers = dict(self.inputs._buffers)
        for name in ("instances", "_bases"):
            inputs._buffers[name] = getattr(self.inputs, name)[list(tasks)]
        inputs._hold()
        return YahpoSurrogate(inputs, self.graph, self.metrics, self.fidelity)  # type: ignore[arg-type]
