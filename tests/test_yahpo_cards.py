"""The cards of the YAHPO scenarios against what the publishers say of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

import hpo_gym  # noqa: F401  (registers the environments)
from hpo_gym.errors import DataIntegrityError, UnknownNameError
from hpo_gym.sources import load_suite
from hpo_gym.sources.cards import load_card, read_card, scenario_names
from hpo_gym.spaces.legacy_json import read_space_json

FIRST = (
    [f"iaml_{learner}" for learner in ("glmnet", "ranger", "rpart", "super", "xgboost")]
    + ["lcbench", "nb301"]
    + [f"rbv2_{learner}" for learner in ("aknn", "glmnet", "ranger", "rpart", "super", "svm", "xgboost")]
)
SECOND = ["nb301@v2", "rbv2_ranger@v2"]
ALL = FIRST + SECOND

# Epochs of lcbench are meaningful from 2 to 51 only; the published space allows 1 to 52.
NARROWED_FIDELITY = {"lcbench": (2, 51)}


@pytest.fixture(scope="session")
def published(data_folder: Path) -> dict[str, dict[str, Any]]:
    """What the publishers say, by name of our card."""
    found: dict[str, dict[str, Any]] = json.loads((data_folder / "yahpo" / "scenarios.json").read_text("utf-8"))
    for name in SECOND:
        path = data_folder / load_card(name).folder / "meta.json"
        found[name] = json.loads(path.read_text("utf-8"))
    return found


def read(data_folder: Path, name: str, file: str) -> Any:
    return json.loads((data_folder / load_card(name).folder / file).read_text("utf-8"))


def test_there_is_one_card_for_each_published_scenario(published: dict[str, Any]) -> None:
    assert sorted(scenario_names()) == sorted(ALL)
    assert set(published) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_targets_are_in_the_published_order(name: str, published: dict[str, Any]) -> None:
    assert [target.name for target in load_card(name).targets] == published[name]["y_names"]


@pytest.mark.parametrize("name", ALL)
def test_directions_are_the_published_ones_except_for_f1(name: str, published: dict[str, Any]) -> None:
    card, said = load_card(name), published[name]
    differing = {
        target.name
        for target, minimised in zip(card.targets, said["y_minimize"], strict=True)
        if target.minimize != minimised
    }
    mistaken = name.startswith("rbv2_") and "f1" in said["y_names"]
    assert differing == ({"f1"} if mistaken else set())
    assert any("F1 as minimised" in defect for defect in card.known_defects) == mistaken


@pytest.mark.parametrize("name", ALL)
def test_inputs_are_in_the_published_order(name: str, published: dict[str, Any]) -> None:
    card = load_card(name)
    assert list(card.continuous) == published[name]["cont_names"]
    assert list(card.categorical) == published[name]["cat_names"]


@pytest.mark.parametrize("name", ALL)
def test_fidelity_and_instance_are_the_published_ones(name: str, published: dict[str, Any]) -> None:
    card, said = load_card(name), published[name]
    assert card.fidelity.name == said["fidelity_params"][0]
    # A second fidelity, the number of repetitions, is held at its maximum.
    assert set(said["fidelity_params"][1:]) <= set(card.fixed)
    assert card.instance_name == said.get("instance_names")
    assert card.cost_metric == said["runtime_name"]


@pytest.mark.parametrize("name", ALL)
def test_inputs_are_the_hyperparameters_of_the_space(name: str, data_folder: Path) -> None:
    card = load_card(name)
    spec = read_space_json(data_folder / card.folder / "config_space.json")
    kinds = {column.name: column for column in spec.columns}
    inputs = {*card.continuous, *card.categorical}
    assert len(inputs) == len(card.continuous) + len(card.categorical)
    assert inputs <= set(kinds)
    assert {name for name in kinds if name not in inputs} == set()
    assert all(kinds[item].is_numeric for item in card.continuous)


@pytest.mark.parametrize("name", ALL)
def test_fidelity_lies_within_the_space(name: str, data_folder: Path) -> None:
    card = load_card(name)
    spec = read_space_json(data_folder / card.folder / "config_space.json")
    column = spec.columns[spec.position(card.fidelity.name)]
    expected = NARROWED_FIDELITY.get(card.scenario, (column.lower, column.upper))
    assert (card.fidelity.lower, card.fidelity.upper) == pytest.approx(expected)
    assert column.lower <= card.fidelity.lower < card.fidelity.upper <= column.upper
    assert card.fidelity.integer == (column.kind == "integer")


@pytest.mark.parametrize("name", ALL)
def test_fixed_and_restricted_values_are_legal(name: str, data_folder: Path) -> None:
    card = load_card(name)
    spec = read_space_json(data_folder / card.folder / "config_space.json")
    for parameter, value in card.fixed.items():
        column = spec.columns[spec.position(parameter)]
        if column.is_numeric:
            assert column.lower <= value <= column.upper
            assert value == column.upper
        else:
            assert str(value) in [str(choice) for choice in column.choices]
    assert "default" in card.restrictions
    for restriction in card.restrictions:
        narrowed = spec.restrict(card.restriction(restriction))
        assert len(narrowed.columns) == len(spec.columns)


@pytest.mark.parametrize("name", ALL)
def test_every_category_has_a_code(name: str, data_folder: Path) -> None:
    card = load_card(name)
    encoding = read(data_folder, name, "encoding.json")
    spec = read_space_json(data_folder / card.folder / "config_space.json")
    for item in card.categorical:
        column = spec.columns[spec.position(item)]
        values = column.choices or range(int(column.lower), int(column.upper) + 1)
        missing = [value for value in values if str(value) not in encoding[item]]
        assert missing == [], item
        codes = [encoding[item][str(value)] for value in values]
        assert len(set(codes)) == len(codes), item
        # 0 means inactive.
        assert min(codes) >= 1 if "#na#" in encoding[item] else min(codes) >= 0, item
        assert encoding[item].get("#na#", 0) == 0, item


@pytest.mark.parametrize("name", ALL)
def test_metrics_have_sensible_bounds(name: str) -> None:
    card = load_card(name)
    by_name = {target.name: target for target in card.targets}
    assert by_name[card.main_metric].trusted
    assert by_name[card.cost_metric].minimize
    assert by_name[card.cost_metric].unit == "s"
    assert all(target.lower < target.upper for target in card.targets)
    assert all(target.lower >= 0.0 for target in card.targets)


@pytest.mark.parametrize("name", FIRST)
def test_bounds_of_metrics_hold_all_published_extremes(name: str, data_folder: Path) -> None:
    path = data_folder / "yahpo" / "global_statistics" / "instance_target_statistics.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scenario"] == name]
    values = {
        target.name: [float(r["value"]) for r in rows if r["metric"] == target.name]
        for target in load_card(name).targets
    }
    assert all(values.values())
    for target in load_card(name).targets:
        # Rounding of float32 may step over a bound, and is clipped.
        assert min(values[target.name]) >= target.lower - 1e-5, target.name
        assert max(values[target.name]) <= target.upper * (1 + 1e-5), target.name


@pytest.mark.parametrize("name", FIRST)
def test_the_instance_is_a_dataset_except_in_lcbench(name: str, data_folder: Path) -> None:
    card = load_card(name)
    expected = {"lcbench": "openml-task", "nb301": "custom"}.get(name, "openml-dataset")
    assert card.instance_kind == expected
    if card.instance_name is not None:
        spec = read_space_json(data_folder / card.folder / "config_space.json")
        choices = spec.columns[spec.position(card.instance_name)].choices
        assert len(choices) >= 4
        assert all(str(choice).isdigit() for choice in choices)


def test_unknown_scenario_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"rbv2_xgbost.*Did you mean 'rbv2_xgboost'"):
        load_card("rbv2_xgbost")


def test_unknown_restriction_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"orginal.*Did you mean 'original'"):
        load_card("rbv2_xgboost").restriction("orginal")


def card_text() -> dict[str, Any]:
    import hpo_gym.sources.cards as cards

    path = Path(cards.__file__).parent / "yahpo_cards" / "lcbench.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return values


def test_incomplete_or_broken_cards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    values = card_text()
    path.write_text(yaml.safe_dump(values), "utf-8")
    assert read_card(path) == load_card("lcbench")
    del values["main_metric"]
    path.write_text(yaml.safe_dump(values), "utf-8")
    with pytest.raises(DataIntegrityError, match="main_metric"):
        read_card(path)
    path.write_text(yaml.safe_dump({**card_text(), "licens": "MIT"}), "utf-8")
    with pytest.raises(UnknownNameError, match=r"licens.*licence"):
        read_card(path)
    path.write_text("a: [", "utf-8")
    with pytest.raises(DataIntegrityError, match=r"card\.yaml"):
        read_card(path)
    with pytest.raises(DataIntegrityError, match=r"none\.yaml"):
        read_card(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["", "just text", "- a\n- b\n"])
def test_a_card_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(DataIntegrityError, match=r"card\.yaml"):
        read_card(path)


@pytest.mark.parametrize(
    ("space", "scenario"),
    [
        ("rpart", "rbv2_rpart"),
        ("xgboost", "rbv2_xgboost"),
        ("ranger", "rbv2_ranger@v2"),
        ("lcbench", "lcbench"),
        (None, "rbv2_rpart"),
    ],
)
def test_an_embedded_space_names_the_scenario_that_it_was_fitted_to(
    space: str | None, scenario: str, data_folder: Path
) -> None:
    suite = load_suite("yahpo", space)
    assert suite.name == scenario and suite.space.spec == load_suite("yahpo", scenario).space.spec


def test_only_the_source_of_an_environment_may_be_changed_to_yahpo(data_folder: Path) -> None:
    env = gym.make("HPO-OpenML-v0", source="yahpo")
    assert env.unwrapped.suite.name == "rbv2_rpart"
    with pytest.raises(UnknownNameError, match="'adaboost'"):
        load_suite("yahpo", "adaboost")  # fitted to runs: there is no such scenario
