"""Reading ConfigSpace JSON files without ConfigSpace.

The published ``config_space.json`` files of YAHPO Gym have format 0.2, which ConfigSpace 1.x reads with one
deprecation warning per hyperparameter and in over a second. Files of the 1.x format go through
ConfigSpace itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo_gym.errors import DataIntegrityError
from hpo_gym.spaces.clauses import Atom, Clause
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.normal_form import conjunction, disjunction, membership, relation
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["read_space_json"]

_NUMERIC = {
    f"{prefix}_{suffix}": kind
    for prefix in ("uniform", "normal", "beta")
    for suffix, kind in (("float", "float"), ("int", "integer"))
}
_COMPARISONS = {"EQ": "in", "NEQ": "ne", "LT": "lt", "GT": "gt"}
# What ConfigSpace 0.x wrote, and what 1.x reads.
_RELATIONS = {"LESS": "lt", "LT": "lt", "EQUALS": "in", "EQ": "in", "GREATER": "gt", "GT": "gt"}


def read_space_json(path: str | Path) -> SpaceSpec:
    """Read a ConfigSpace JSON file of the old format (up to 0.4) or of ConfigSpace 1.x.

    Raises:
        DataIntegrityError: If the file cannot be read as a search space.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        if not data["hyperparameters"]:
            raise ValueError("no hyperparameters")
        if "json_format_version" not in data:
            return _read_new(text)
        return _read_old(data)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataIntegrityError(
            f"{path} is no ConfigSpace JSON file, or is damaged ({type(error).__name__}: {error}). "
            "Fetch it again with `python -m hpo_gym.download`."
        ) from error


def _read_new(text: str) -> SpaceSpec:
    from ConfigSpace import ConfigurationSpace

    from hpo_gym.spaces.from_configspace import spec_from_configspace

    return spec_from_configspace(ConfigurationSpace.from_serialized_dict(json.loads(text)))


def _read_old(data: Mapping[str, Any]) -> SpaceSpec:
    columns = tuple(_column(item) for item in data["hyperparameters"])
    position = {column.name: index for index, column in enumerate(columns)}
    conditions: dict[int, tuple[Clause, ...]] = {}
    for item in data["conditions"]:
        child = position[item["child"]]
        clauses = _condition(item, columns, position)
        # Several conditions of one child must all hold.
        conditions[child] = conjunction([conditions[child], clauses]) if child in conditions else clauses
    forbidden = [clause for item in data["forbiddens"] for clause in _forbidden(item, columns, position)]
    return SpaceSpec(columns, conditions, tuple(forbidden))


def _column(item: Mapping[str, Any]) -> Column:
    name, kind = item["name"], item["type"]
    if kind in _NUMERIC:
        whole = _NUMERIC[kind] == "integer"
        cast = int if whole else float
        return Column(
            name,
            "integer" if whole else "float",
            cast(item["lower"]),
            cast(item["upper"]),
            bool(item["log"]),
            (),
            cast(item["default"]),
        )
    if kind == "categorical":
        return Column(name, kind, choices=tuple(item["choices"]), default=item["default"])
    if kind == "ordinal":
        return Column(name, kind, choices=tuple(item["sequence"]), default=item["default"])
    if kind in ("constant", "unparametrized"):
        return Column(name, "constant", choices=(item["value"],), default=item["value"])
    raise ValueError(f"unknown hyperparameter type {kind!r} of {name!r}")


def _condition(item: Mapping[str, Any], columns: tuple[Column, ...], position: Mapping[str, int]) -> tuple[Clause, ...]:
    kind = item["type"]
    if kind in ("AND", "OR"):
        parts = [_condition(part, columns, position) for part in item["conditions"]]
        return conjunction(parts) if kind == "AND" else disjunction(parts)
    parent = position[item["parent"]]
    if kind == "IN":
        return membership(parent, columns[parent], item["values"])
    if kind in _COMPARISONS:
        number = columns[parent].number(item["value"])
        return ((Atom(parent, _COMPARISONS[kind], (number,)),),)
    raise ValueError(f"unknown condition type {kind!r}")


def _forbidden(item: Mapping[str, Any], columns: tuple[Column, ...], position: Mapping[str, int]) -> tuple[Clause, ...]:
    kind = item["type"]
    if kind == "AND":
        return conjunction([_forbidden(part, columns, position) for part in item["clauses"]])
    if kind == "RELATION":
        operator = _RELATIONS[item["lambda"]]
        return relation(position[item["left"]], operator, position[item["right"]], columns)
    parent = position[item["name"]]
    if kind == "EQUALS":
        return membership(parent, columns[parent], [item["value"]])
    if kind == "IN":
        return membership(parent, columns[parent], item["values"])
    raise ValueError(f"unknown forbidden clause type {kind!r}")
