"""A search space as tensors: unit cube ``[0, 1]^D`` <-> configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces.columns import Value
from hpo_gym.spaces.descriptors import describe
from hpo_gym.spaces.grid import Grid
from hpo_gym.spaces.logic import ClauseTensors
from hpo_gym.spaces.spec import SpaceSpec

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

__all__ = ["SearchSpace"]

_SAMPLING_ROUNDS = 200


class SearchSpace(nn.Module):
    """A :class:`SpaceSpec` compiled to tensors; nothing here loops over ``B`` or ``D``.

    A float or integer hyperparameter maps to ``[0, 1]`` linearly or by its logarithm, exactly as in
    ConfigSpace 1.x (an integer is the rounded value, so its first and last value own half a bin); choice
    ``i`` of ``K`` owns ``[i / K, (i + 1) / K)``. Methods follow the dtype and device of their argument.
    In float32 every integer decodes exactly while its range, or for log scales the ratio of its bounds
    times the upper bound, stays below about 10^6; use float64 beyond.

    Args:
        spec: What the space is.
    """

    _scale32: Tensor
    _offset32: Tensor
    _lower32: Tensor
    _upper32: Tensor
    _scale64: Tensor
    _offset64: Tensor
    _lower64: Tensor
    _upper64: Tensor
    _is_log: Tensor
    _is_integer: Tensor
    _is_choice: Tensor
    _is_float: Tensor
    _any_log: bool
    _any_integer: bool
    _any_choice: bool

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__()
        self.spec = spec
        columns = spec.columns
        scale, offset = [], []
        for column in columns:
            if not column.is_numeric:
                offset.append(0.0)
                scale.append(float(len(column.choices)))
            elif column.log:
                offset.append(math.log(column.lower))
                scale.append(math.log(column.upper) - math.log(column.lower))
            else:
                offset.append(float(column.lower))
                scale.append(float(column.upper) - float(column.lower))
        lower = [column.lower if column.is_numeric else 0.0 for column in columns]
        upper = [column.upper if column.is_numeric else len(column.choices) - 1.0 for column in columns]
        for name, values in (("scale", scale), ("offset", offset), ("lower", lower), ("upper", upper)):
            tensor = torch.tensor(values, dtype=torch.float64)
            self.register_buffer(f"_{name}64", tensor, persistent=False)
            self.register_buffer(f"_{name}32", tensor.float(), persistent=False)
        self._flag("log", [column.log for column in columns])
        self._flag("integer", [column.kind == "integer" for column in columns])
        self._flag("choice", [not column.is_numeric for column in columns])
        self._flag("float", [column.kind == "float" for column in columns])
        self._levels = spec.levels()
        self._conditions = nn.ModuleList(
            ClauseTensors(columns, [spec.conditions[child] for child in level]) for level in self._levels
        )
        for depth, level in enumerate(self._levels):
            index = torch.tensor(level, dtype=torch.int64)
            self.register_buffer(f"_children{depth}", index, persistent=False)
        self.has_forbidden = bool(spec.forbidden)
        self._forbidden = ClauseTensors(columns, [spec.forbidden]) if self.has_forbidden else None

    def _flag(self, name: str, values: Sequence[bool]) -> None:
        tensor = torch.tensor(values, dtype=torch.bool)
        setattr(self, f"_any_{name}", bool(tensor.any()))
        self.register_buffer(f"_is_{name}", tensor, persistent=False)

    def _bounds(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if u.dtype == torch.float64:
            return self._scale64, self._offset64, self._lower64, self._upper64
        return self._scale32, self._offset32, self._lower32, self._upper32

    @classmethod
    def from_configspace(cls, space: ConfigurationSpace, columns: Sequence[str] | None = None) -> SearchSpace:
        """Compile a ``ConfigSpace.ConfigurationSpace``.

        Args:
            space: The configuration space.
            columns: Column order; default: the order of ``space``.
        """
        from hpo_gym.spaces.from_configspace import spec_from_configspace

        spec = spec_from_configspace(space)
        return cls(spec if columns is None else spec.reorder(columns))

    @classmethod
    def from_json(cls, path: str | Path) -> SearchSpace:
        """Compile a ConfigSpace JSON file, of the old format or the new."""
        from hpo_gym.spaces.legacy_json import read_space_json

        return cls(read_space_json(path))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the hyperparameters in column order."""
        return self.spec.names

    @property
    def dimension(self) -> int:
        """``D``."""
        return len(self.spec.columns)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self._scale32.device

    @property
    def has_conditions(self) -> bool:
        """Whether any hyperparameter is conditional."""
        return bool(self._levels)

    def active(self, u: Tensor) -> Tensor:
        """Return which hyperparameters are active: ``[B, D]`` -> bool ``[B, D]``."""
        active = torch.ones_like(u, dtype=torch.bool)
        if not self._levels:
            return active
        numbers = None
        for depth, condition in enumerate(self._conditions):
            if numbers is None and condition.needs_numbers:
                numbers = self.numbers(u)
            held = condition(u, numbers, None if depth == 0 else active)
            active = active.index_copy(1, getattr(self, f"_children{depth}"), held)
        return active

    def numbers(self, u: Tensor) -> Tensor:
        """Return natural values (see ``Column.number``) whether active or not: ``[B, D]``."""
        scale, offset, lower, upper = self._bounds(u)
        value = torch.addcmul(offset, u, scale)
        if self._any_log:
            # exp(89) is inf in float32, and inf times the 0 that where hands back is a NaN gradient.
            exponent = value.masked_fill(~self._is_log, 0.0) if value.requires_grad else value
            value = torch.where(self._is_log, exponent.exp(), value)
        if self._any_integer:
            value = torch.where(self._is_integer, value.round(), value)
        if self._any_choice:
            value = torch.where(self._is_choice, value.floor(), value)
        return torch.clamp(value, lower, upper)

    def decode(self, u: Tensor, active: Tensor | None = None) -> Tensor:
        """Return natural values, choices by position, NaN where inactive: ``[B, D]`` -> ``[B, D]``.

        Args:
            u: Points of the unit cube.
            active: Their activity, if it is known already.
        """
        value = self.numbers(u)
        if active is None:
            if not self._levels:
                return value
            active = self.active(u)
        return value.masked_fill(~active, torch.nan)

    def encode(self, values: Tensor) -> Tensor:
        """Return points of the unit cube: the inverse of :meth:`decode`; NaN becomes 0.5."""
        scale, offset, _, _ = self._bounds(values)
        if self._any_log:
            values = torch.where(self._is_log, values.clamp(min=1e-300).log(), values)
        if self._any_choice:
            values = torch.where(self._is_choice, values + 0.5, values)
        return ((values - offset) / scale).clamp(0.0, 1.0).nan_to_num(nan=0.5)

    def snap(self, u: Tensor) -> Tensor:
        """Move integers and choices to the representative of their value; floats stay."""
        if not (self._any_integer or self._any_choice):
            return u
        return torch.where(self._is_float, u, self.encode(self.numbers(u)))

    def canonical(self, u: Tensor) -> Tensor:
        """Return configurations as a history shows them: snapped, inactive hyperparameters 0, ``[B, D]``.

        Points that differ in nothing that matters have one canonical point, up to rounding.
        """
        u = self.snap(u)
        return u * self.active(u)

    def legal(self, u: Tensor) -> Tensor:
        """Return which configurations no forbidden clause holds for: ``[B, D]`` -> bool ``[B]``."""
        if self._forbidden is None:
            return torch.ones(len(u), dtype=torch.bool, device=u.device)
        numbers = self.numbers(u) if self._forbidden.needs_numbers else None
        active = self.active(u) if self._levels else None
        held: Tensor = self._forbidden(u, numbers, active)
        return ~held[:, 0]

    def sample(self, count: int, draws: torch.Generator) -> Tensor:
        """Return legal random configurations, float32 ``[count, D]``, on the generator's device.

        Floats, choices and log-scaled integers are uniform over the unit interval, other integers
        over their values; illegal configurations are drawn again.

        Raises:
            InvalidSettingError: If (almost) all of the space is forbidden.
        """
        u = self._draw(count, draws)
        if not self.has_forbidden:
            return u
        illegal = (~self.legal(u)).nonzero().squeeze(1)
        for _ in range(_SAMPLING_ROUNDS):
            if len(illegal) == 0:
                return u
            u[illegal] = self._draw(len(illegal), draws)
            illegal = illegal[~self.legal(u[illegal])]
        raise InvalidSettingError(
            f"No legal configuration in {_SAMPLING_ROUNDS} draws for {len(illegal)} of {count} rows: "
            "the forbidden clauses leave (almost) nothing of this search space."
        )

    def _draw(self, count: int, draws: torch.Generator) -> Tensor:
        u = torch.rand(count, self.dimension, generator=draws, device=draws.device)
        if self._any_integer:
            size = self._upper32 - self._lower32
            linear = self._is_integer & ~self._is_log
            level = torch.minimum((u * (size + 1.0)).floor(), size)
            u = torch.where(linear, level / size.clamp(min=1.0), u)
        return self.snap(u)

    def default(self) -> Tensor:
        """Return the default configuration, float32 ``[D]``."""
        numbers = [column.number(column.default) for column in self.spec.columns]
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        return self.encode(values).float()

    def grid(self, levels: int) -> Grid:
        """Return a grid with up to ``levels`` levels per numeric hyperparameter.

        Raises:
            InvalidSettingError: If ``levels < 2``.
        """
        if levels < 2:
            raise InvalidSettingError(f"levels={levels} must be >= 2.")
        return Grid(self.spec, levels, self.device)

    def descriptors(self) -> Tensor:
        """Return what each hyperparameter is, float32 ``[D, F]`` in ``[0, 1]``.

        See :data:`hpo_gym.spaces.DESCRIPTOR_NAMES`.
        """
        return describe(self.spec, self.default()).to(self.device)

    def to_dicts(self, u: Tensor) -> list[dict[str, Value]]:
        """Return configurations as dictionaries of their active hyperparameters."""
        u = u.double().cpu()
        space = self if self.device.type == "cpu" else SearchSpace(self.spec)
        numbers, active = space.numbers(u).tolist(), space.active(u).tolist()
        return [
            {
                column.name: column.value(number)
                for column, number, on in zip(self.spec.columns, row, flags, strict=True)
                if on
            }
            for row, flags in zip(numbers, active, strict=True)
        ]

    def from_dicts(self, configurations: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return configurations given by name as points of the unit cube, float64 ``[B, D]``.

        Hyperparameters that are left out become 0.5.

        Raises:
            UnknownNameError: For an unknown hyperparameter or choice.
            InvalidSettingError: For a value outside its range.
        """
        rows = torch.full((len(configurations), self.dimension), torch.nan, dtype=torch.float64)
        for row, configuration in enumerate(configurations):
            for name, value in configuration.items():
                index = self.spec.position(name)
                column = self.spec.columns[index]
                number = column.number(value)
                if column.is_numeric and not column.lower <= number <= column.upper:
                    raise InvalidSettingError(f"{name}={value!r} lies outside [{column.lower}, {column.upper}].")
                rows[row, index] = number
        return self.encode(rows.to(self.device))

    def changed_default(self, changes: Mapping[str, Any]) -> Tensor:
        """Return the default configuration with some hyperparameters changed, float64 ``[D]``.

        Hyperparameters that the changes make active keep their own default, too.

        Raises:
            UnknownNameError: For an unknown hyperparameter or choice.
            InvalidSettingError: For a value outside its range.
        """
        return self.from_dicts([{column.name: column.default for column in self.spec.columns} | dict(changes)])[0]

    def to_configspace(self) -> ConfigurationSpace:
        """Return an equivalent ``ConfigSpace.ConfigurationSpace``."""
        from hpo_gym.spaces.to_configspace import configspace_from_spec

        return configspace_from_spec(self.spec)
