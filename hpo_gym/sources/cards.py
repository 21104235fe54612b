"""Cards of the YAHPO scenarios: order of inputs and targets, directions, ranges, known defects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpo_gym.errors import DataIntegrityError, require_names, unknown_name
from hpo_gym.surrogates.base import Fidelity, Metric
from hpo_gym.tasks.ref import TaskKind

__all__ = ["ScenarioCard", "load_card", "read_card", "scenario_names"]

_FOLDER = Path(__file__).resolve().parent / "yahpo_cards"


@dataclass(frozen=True)
class ScenarioCard:
    """One scenario.

    Args:
        scenario: Its name, e.g. ``rbv2_xgboost``; ``@v2`` marks the unreleased second version.
        folder: Its folder within the data.
        version: Version of the data.
        licence: Licence of the data.
        main_metric: The target that is optimised by default.
        cost_metric: The target that holds the seconds of an evaluation.
        instance_name: The input that names the task; ``None`` for a scenario with a single task.
        instance_kind: What its values are.
        fidelity: The fidelity that may be chosen.
        fixed: Inputs with a fixed value.
        restrictions: By name: what is narrowed; ``{"choices": [...]}`` or ``{"range": [low, high]}``.
        known_defects: What is known to be wrong.
        continuous: Inputs of ``x_cont`` in order.
        categorical: Inputs of ``x_cat`` in order.
        targets: Outputs in order.
    """

    scenario: str
    folder: str
    version: str
    licence: str
    main_metric: str
    cost_metric: str
    instance_name: str | None
    instance_kind: TaskKind
    fidelity: Fidelity
    fixed: Mapping[str, Any]
    restrictions: Mapping[str, Mapping[str, Mapping[str, Any]]]
    known_defects: tuple[str, ...]
    continuous: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[Metric, ...]

    def restriction(self, name: str) -> dict[str, Any]:
        """Return a named restriction as changes for ``SpaceSpec.restrict``.

        Raises:
            UnknownNameError: If the scenario has no restriction of that name.
        """
        if name not in self.restrictions:
            raise unknown_name(f"restriction of {self.scenario}", name, self.restrictions)
        return {
            parameter: list(change["choices"]) if "choices" in change else tuple(change["range"])
            for parameter, change in self.restrictions[name].items()
        }


@cache
def scenario_names() -> tuple[str, ...]:
    """Return the names of all scenarios with a card."""
    return tuple(sorted(path.stem.replace("_at_", "@") for path in _FOLDER.glob("*.yaml")))


@cache
def load_card(scenario: str) -> ScenarioCard:
    """Return the card of a scenario.

    Raises:
        UnknownNameError: If there is no such scenario.
    """
    if scenario not in scenario_names():
        raise unknown_name("YAHPO scenario", scenario, scenario_names())
    return read_card(_FOLDER / f"{scenario.replace('@', '_at_')}.yaml")


def read_card(path: Path) -> ScenarioCard:
    """Read a card file.

    Raises:
        DataIntegrityError: If it is not a complete YAML mapping.
        UnknownNameError: For an unknown key, with the closest match.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataIntegrityError(f"Cannot read scenario card {path}: {error}") from error
    if not isinstance(values, dict):
        raise DataIntegrityError(f"Cannot read scenario card {path}: it is no mapping of names to values.")
    known = {item.name for item in fields(ScenarioCard)}
    known = (known - {"instance_name", "instance_kind"}) | {"instance"}
    require_names(f"key in scenario card {path.name}", values, known)
    missing = sorted(known - set(values))
    if missing:
        raise DataIntegrityError(f"Scenario card {path} lacks {missing}.")
    instance = values.pop("instance")
    return ScenarioCard(
        **{
            **values,
            "instance_name": instance["name"],
            "instance_kind": instance["kind"],
            "fidelity": Fidelity(**values["fidelity"]),
            "known_defects": tuple(values["known_defects"]),
            "continuous": tuple(values["continuous"]),
            "categorical": tuple(values["categorical"]),
            "targets": tuple(Metric(**target) for target in values["targets"]),
        }
    )
