"""An exact YAHPO surrogate: a compiled graph behind the unit cube of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Fidelity, Metric, Surrogate
from hpo_gym.surrogates.onnx_compiler import OnnxModule

__all__ = ["YahpoInputs", "YahpoSurrogate"]


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

    template: Tensor
    codes: Tensor
    instances: Tensor

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
        names = list(space.names)
        self._order_continuous = [i for i, name in enumerate(continuous) if name in names]
        self._order_categorical = [i for i, name in enumerate(categorical) if name in names]
        template = torch.zeros(len(continuous))
        for i, name in enumerate(continuous):
            if name in fixed:
                template[i] = float(fixed[name])  # type: ignore[arg-type]
        self._fidelity_column = list(continuous).index(fidelity.name)
        template[self._fidelity_column] = fidelity.upper
        code_template = torch.zeros(len(categorical), dtype=torch.int32)
        for i, name in enumerate(categorical):
            if name in fixed:
                code_template[i] = encoding[name][str(fixed[name])]
        self._instance_column = None if instance_name is None else list(categorical).index(instance_name)
        self._index("from_continuous", [names.index(continuous[i]) for i in self._order_continuous])
        self._index("to_continuous", self._order_continuous)
        self._index("from_categorical", [names.index(categorical[i]) for i in self._order_categorical])
        self._index("to_categorical", self._order_categorical)
        offsets, codes = [], []
        for i in self._order_categorical:
            column = space.spec.columns[names.index(categorical[i])]
            offsets.append(len(codes))
            values = column.choices if column.choices else _integers(column.lower, column.upper)
            codes.extend(encoding[categorical[i]][str(value)] for value in values)
        lowest = [
            0.0
            if space.spec.columns[names.index(categorical[i])].choices
            else space.spec.columns[names.index(categorical[i])].lower
            for i in self._order_categorical
        ]
        self._index("offsets", offsets)
        self.register_buffer("lowest", torch.tensor(lowest), persistent=False)
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.int32), persistent=False)
        self.register_buffer("template", template, persistent=False)
        self.register_buffer("code_template", code_template, persistent=False)
        tasks = torch.tensor(list(instances or [0]), dtype=torch.int32)
        self.register_buffer("instances", tasks, persistent=False)

    def _index(self, name: str, values: Sequence[int]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def forward(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``x_cat`` int32 ``[B, C]`` and ``x_cont`` float32 ``[B, R]``; inactive inputs are 0."""
        value = self.space.numbers(u)
        if self.space.has_conditions:
            value = value * active
        batch = len(task)
        continuous = self.template.expand(batch, -1).index_copy(
            1,
            self.to_continuous,
            value[:, self.from_continuous],  # type: ignore[arg-type, index]
        )
        if fidelity is not None:
            continuous[:, self._fidelity_column] = fidelity
        codes = self.code_template.expand(batch, -1).clone()  # type: ignore[operator, union-attr]
        if self._order_categorical:
            picked = value.detach()[:, self.from_categorical] - self.lowest  # type: ignore[index, operator]
            code = self.codes[picked.long().clamp(min=0) + self.offsets]  # type: ignore[operator]
            if self.space.has_conditions:
                code = code * active[:, self.from_categorical]  # type: ignore[index]
            codes[:, self.to_categorical] = code  # type: ignore[index]
        if self._instance_column is not None:
            codes[:, self._instance_column] = self.instances[task]
        return codes, continuous


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
        codes, continuous = self.inputs(task, u, active, fidelity)
        out: Tensor = self.graph(codes, continuous)
        return out

    def subset(self, tasks: Sequence[int]) -> YahpoSurrogate:
        """Return the same surrogate for some of its tasks."""
        import copy

        inputs = copy.copy(self.inputs)
        inputs._buffers = dict(self.inputs._buffers)
        inputs._buffers["instances"] = self.inputs.instances[list(tasks)]
        return YahpoSurrogate(inputs, self.graph, self.metrics, self.fidelity)  # type: ignore[arg-type]
