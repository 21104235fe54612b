"""The exact YAHPO Gym surrogates, read from their published files without the ``yahpo-gym`` package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo_gym.errors import DataIntegrityError, unknown_name
from hpo_gym.sources.cards import ScenarioCard, load_card, scenario_names
from hpo_gym.sources.pinned import packaged_table
from hpo_gym.sources.ranges import load_range, range_name
from hpo_gym.sources.store import find_file
from hpo_gym.spaces import SearchSpace, SpaceSpec
from hpo_gym.spaces.columns import Value
from hpo_gym.spaces.legacy_json import read_space_json
from hpo_gym.surrogates.onnx_compiler import compile_onnx
from hpo_gym.surrogates.yahpo import YahpoInputs, YahpoSurrogate
from hpo_gym.tasks.meta_features import suite_meta_features
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import SuiteSpec, TaskSuite

__all__ = ["DEFAULT_SCENARIO", "load_yahpo"]

DEFAULT_SCENARIO = "rbv2_rpart"


def load_yahpo(
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    restriction: str = "default",
) -> TaskSuite:
    """Load a YAHPO scenario.

    Args:
        space: The scenario, e.g. ``rbv2_svm`` or ``lcbench``, or the name of an embedded space that was fitted
            to one, e.g. ``ranger``; ``None`` means ``rbv2_rpart``.
        metric: The optimised metric; ``None`` means the card's main metric.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        data_dir: Folder that holds ``yahpo/<scenario>/``; ``None`` means the usual search order.
        restriction: Named restriction of the space: ``default``, or ``original`` where the
            published space is known to be defective.

    Raises:
        UnknownNameError: For an unknown scenario, metric or restriction.
        DataError: If a file is missing, corrupt or not what the card says.
    """
    card = load_card(_scenario(space or DEFAULT_SCENARIO))
    targets = [target.name for target in card.targets]
    main = metric or card.main_metric
    if main not in targets:
        raise unknown_name(f"metric of {card.scenario}", main, targets)
    wanted = [main] if main == card.cost_metric else [main, card.cost_metric]
    spec, fixed, instances = _space(card, restriction, data_dir)
    encoding = _read_json(find_file(f"{card.folder}/encoding.json", data_dir))
    search_space = SearchSpace(spec)
    tasks = tuple(TaskRef(card.instance_kind, str(value)) for value in instances)
    try:
        inputs = make_inputs(card, search_space, encoding, fixed, instances)
    except KeyError as error:
        raise DataIntegrityError(
            f"encoding.json of {card.scenario} has no code for {error}: it does not belong to this "
            f"card. Run `python -m hpo_gym.download yahpo {card.scenario}`."
        ) from error
    columns = [targets.index(name) for name in wanted]
    graph = compile_onnx(find_file(f"{card.folder}/model.onnx", data_dir), columns)
    metrics = tuple(card.targets[column] for column in columns)
    surrogate = YahpoSurrogate(inputs, graph, metrics, card.fidelity)
    suite_spec = SuiteSpec(
        name=card.scenario,
        source="yahpo",
        metric=main,
        tasks=tasks,
        cost_metric=card.cost_metric,
        notes=_notes(card, restriction),
        provenance={
            "scenario": card.scenario,
            "version": card.version,
            "licence": card.licence,
            "restriction": restriction,
            "sha256": _checksums(card),
        },
    )
    known = load_range(range_name("yahpo", card.scenario, restriction, main), tasks)
    features = suite_meta_features(card.scenario, protocol, tasks)
    return TaskSuite(suite_spec, search_space, surrogate, features, known)


def make_inputs(
    card: ScenarioCard,
    space: SearchSpace,
    encoding: Mapping[str, Mapping[str, int]],
    fixed: Mapping[str, Value],
    instances: Sequence[Value],
) -> YahpoInputs:
    """Return what turns configurations of a scenario into raw inputs of its graph.

    Args:
        card: The scenario.
        space: Its search space, without the instance.
        encoding: Codes of every category, by input and value.
        fixed: Values of inputs that are no hyperparameters.
        instances: The values of its tasks.

    Raises:
        KeyError: If the encoding has no code for a value.
    """
    name = card.instance_name
    codes = None if name is None else [int(encoding[name][str(value)]) for value in instances]
    return YahpoInputs(space, card.continuous, card.categorical, encoding, fixed, codes, name, card.fidelity)


def _scenario(name: str) -> str:
    """Return the scenario that an embedded space was fitted to, or the name unchanged."""
    if name in scenario_names():
        return name
    # Only here: the recipes import everything that fits networks.
    from hpo_gym.fitting.recipes import SURROGATE_RECIPES

    return {recipe.space: recipe.scenario for recipe in SURROGATE_RECIPES}.get(name, name)


def _space(
    card: ScenarioCard, restriction: str, data_dir: str | None
) -> tuple[SpaceSpec, dict[str, Value], tuple[Value, ...]]:
    """Return the restricted space, the values that it fixes, and the instances."""
    spec = read_space_json(find_file(f"{card.folder}/config_space.json", data_dir))
    changes: dict[str, Any] = dict(card.restriction(restriction))
    for name, value in card.fixed.items():
        column = spec.columns[spec.position(name)]
        changes[name] = value if column.is_numeric else str(value)
    fidelity = spec.columns[spec.position(card.fidelity.name)]
    changes[card.fidelity.name] = fidelity.value(card.fidelity.upper)
    instances: tuple[Value, ...] = (card.scenario,)
    if card.instance_name is not None:
        instances = spec.columns[spec.position(card.instance_name)].choices
        changes[card.instance_name] = instances[0]
    spec, fixed = spec.restrict(changes).drop_constants()
    for given in (card.fidelity.name, card.instance_name):
        fixed.pop(given or "", None)
    return spec, fixed, instances


def _checksums(card: ScenarioCard) -> dict[str, str]:
    """Return the pinned checksums that the files were compared with; of a file that was never here git's object id."""
    names = [f"{card.folder}/{name}" for name in ("config_space.json", "encoding.json", "model.onnx")]
    pinned = {name: packaged_table().files[name] for name in names if name in packaged_table().files}
    return {name: file.sha256 or f"git:{file.git_blob}" for name, file in pinned.items()}


def _read_json(path: Path) -> dict[str, dict[str, int]]:
    try:
        data: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataIntegrityError(f"{path} is no JSON file ({error}).") from error
    return data


def _notes(card: ScenarioCard, restriction: str) -> tuple[str, ...]:
    if "original" in card.restrictions and restriction == "original":
        return (f"The space {card.scenario} (original) is DEFECTIVE.", *card.known_defects)
    return card.known_defects
