"""Files of search spaces: every published one loads, damaged ones name themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo_gym.errors import DataIntegrityError
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.clauses import Relation

# Files, hyperparameters and conditions, counted in the published files.
PUBLISHED = {
    "yahpo/iaml_glmnet": (4, 0),
    "yahpo/iaml_ranger": (10, 1),
    "yahpo/iaml_rpart": (6, 0),
    "yahpo/iaml_super": (30, 27),
    "yahpo/iaml_xgboost": (15, 8),
    "yahpo/lcbench": (9, 0),
    "yahpo/nb301": (35, 24),
    "yahpo/rbv2_aknn": (9, 0),
    "yahpo/rbv2_glmnet": (6, 0),
    "yahpo/rbv2_ranger": (11, 1),
    "yahpo/rbv2_rpart": (8, 0),
    "yahpo/rbv2_super": (41, 36),
    "yahpo/rbv2_svm": (9, 2),
    "yahpo/rbv2_xgboost": (17, 8),
    "yahpo_v2/nb301": (35, 24),
    "yahpo_v2/rbv2_ranger": (12, 1),
}

OLD: dict[str, Any] = {
    "json_format_version": 0.2,
    "hyperparameters": [
        {"name": "kind", "type": "categorical", "choices": ["a", "b"], "default": "a", "weights": None},
        {"name": "size", "type": "ordinal", "sequence": [1, 10, 100], "default": 10},
        {"name": "rate", "type": "uniform_float", "log": True, "lower": 1e-6, "upper": 1.0, "default": 1e-3},
        {"name": "depth", "type": "uniform_int", "log": False, "lower": 1, "upper": 20, "default": 5},
        {"name": "width", "type": "uniform_int", "log": False, "lower": 1, "upper": 20, "default": 5},
        {"name": "version", "type": "constant", "value": "v1"},
        {"name": "x", "type": "uniform_float", "log": False, "lower": 0.0, "upper": 1.0, "default": 0.5},
        {"name": "y", "type": "uniform_float", "log": False, "lower": 0.0, "upper": 1.0, "default": 0.5},
        {"name": "z", "type": "uniform_float", "log": False, "lower": 0.0, "upper": 1.0, "default": 0.5},
    ],
    "conditions": [
        {
            "child": "x",
            "type": "AND",
            "conditions": [
                {"child": "x", "parent": "kind", "type": "EQ", "value": "a"},
                {"child": "x", "parent": "depth", "type": "GT", "value": 10},
            ],
        },
        {
            "child": "y",
            "type": "OR",
            "conditions": [
                {"child": "y", "parent": "size", "type": "IN", "values": [1, 100]},
                {"child": "y", "parent": "rate", "type": "LT", "value": 1e-4},
            ],
        },
        {"child": "z", "parent": "kind", "type": "NEQ", "value": "a"},
    ],
    "forbiddens": [
        {
            "type": "AND",
            "clauses": [
                {"name": "kind", "type": "EQUALS", "value": "b"},
                {"name": "size", "type": "IN", "values": [10, 100]},
            ],
        },
        {"type": "RELATION", "left": "depth", "right": "width", "lambda": "LESS"},
    ],
}


def _write(folder: Path, content: object) -> Path:
    path = folder / "config_space.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_file_loads_and_can_be_sampled(name: str, data_folder: Path) -> None:
    ours = SearchSpace.from_json(data_folder / name / "config_space.json")
    assert (ours.dimension, len(ours.spec.conditions)) == PUBLISHED[name]
    u = ours.sample(300, generator(0, name))
    assert u.shape == (300, ours.dimension)
    active = ours.active(u)
    assert (~active).any() == bool(ours.spec.conditions)
    assert torch.equal(ours.active(ours.from_dicts(ours.to_dicts(u))), active)


def test_every_published_file_is_covered(data_folder: Path) -> None:
    found = {str(path.parent.relative_to(data_folder)) for path in data_folder.glob("yahpo*/*/config_space.json")}
    assert found == set(PUBLISHED)


def test_reading_the_old_format_does_not_import_configspace(tmp_path: Path) -> None:
    path = _write(tmp_path, OLD)
    code = (
        "import sys; from hpo_gym.spaces import SearchSpace; "
        f"SearchSpace.from_json({str(path)!r}); sys.exit('ConfigSpace' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_feature_of_the_old_format_is_understood(tmp_path: Path) -> None:
    ours = SearchSpace.from_json(_write(tmp_path, OLD))
    assert [column.kind for column in ours.spec.columns] == [
        *("categorical", "ordinal", "float", "integer", "integer", "constant", "float", "float", "float"),
    ]
    base = {"kind": "a", "size": 10, "rate": 1e-2, "depth": 11, "width": 3}
    rows = [base, base | {"depth": 10}, base | {"kind": "b"}, base | {"size": 1}, base | {"rate": 1e-5}]
    active = ours.active(ours.from_dicts(rows))[:, -3:].tolist()
    assert active == [
        [True, False, False],
        [False, False, False],
        [False, False, True],
        [True, True, False],
        [True, True, False],
    ]
    rows = [base, base | {"width": 11}, base | {"width": 12}, base | {"kind": "b"}, base | {"kind": "b", "size": 1}]
    assert ours.legal(ours.from_dicts(rows)).tolist() == [True, True, False, False, True]
    assert isinstance(ours.spec.forbidden[-1][0], Relation)


@pytest.mark.parametrize("spelling", ["LESS", "LT"])
def test_both_spellings_of_relations_are_read(spelling: str, tmp_path: Path) -> None:
    forbidden = [{"type": "RELATION", "left": "depth", "right": "width", "lambda": spelling}]
    ours = SearchSpace.from_json(_write(tmp_path, OLD | {"forbiddens": forbidden}))
    assert ours.legal(ours.from_dicts([{"depth": 2, "width": 3}, {"depth": 3, "width": 3}])).tolist() == [False, True]


def _changed(part: str, index: int, **entries: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(OLD))
    content[part][index].update(entries)
    return content


DAMAGED: dict[str, tuple[object, str]] = {
    "empty": ("", "JSONDecodeError"),
    "truncated": (json.dumps(OLD)[:500], "JSONDecodeError"),
    "a page of HTML": ("<html><body>404</body></html>", "JSONDecodeError"),
    "a list": ([], "TypeError"),
    "a number": (5, "TypeError"),
    "nothing in it": ({}, "hyperparameters"),
    "no hyperparameters": (OLD | {"hyperparameters": []}, "no hyperparameters"),
    "no conditions": ({key: OLD[key] for key in ("json_format_version", "hyperparameters")}, "conditions"),
    "unknown type": (_changed("hyperparameters", 0, type="quantum"), "'quantum' of 'kind'"),
    "unknown condition": (_changed("conditions", 2, type="XOR"), "'XOR'"),
    "unknown clause": (_changed("forbiddens", 0, type="NAND", name="kind"), "'NAND'"),
    "unknown relation": (_changed("forbiddens", 1, **{"lambda": "NEAR"}), "'NEAR'"),
    "unknown parent": (_changed("conditions", 2, parent="knd"), "'knd'"),
    "unknown choice": (_changed("conditions", 2, value="c"), "Unknown choice of 'kind' 'c'"),
    "bounds the wrong way": (_changed("hyperparameters", 3, lower=30), "lower < upper"),
    "log from zero": (_changed("hyperparameters", 2, lower=0.0), "lower > 0"),
    "no bound": (_changed("hyperparameters", 3, lower=None), "TypeError"),
    "a name twice": (_changed("hyperparameters", 5, name="depth"), "'depth'"),
    "unknown type, new format": (
        {"hyperparameters": [{"type": "quantum", "name": "a"}], "conditions": [], "forbiddens": []},
        "'quantum'",
    ),
    "no object, new format": ({"hyperparameters": [1], "conditions": [], "forbiddens": []}, "AttributeError"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_with_what_is_wrong_and_the_remedy(case: str, tmp_path: Path) -> None:
    content, reason = DAMAGED[case]
    path = _write(tmp_path, content)
    with pytest.raises(DataIntegrityError) as caught:
        SearchSpace.from_json(path)
    for part in (str(path), reason, "hpo_gym.download"):
        assert part in str(caught.value)


def test_a_file_that_is_not_text_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config_space.json"
    with pytest.raises(DataIntegrityError, match=r"config_space\.json.*FileNotFoundError"):
        SearchSpace.from_json(path)
    path.write_bytes(b"\x80\x81\xff")
    with pytest.raises(DataIntegrityError, match=r"config_space\.json.*UnicodeDecodeError"):
        SearchSpace.from_json(path)


@pytest.mark.parametrize("name", ["yahpo/rbv2_svm", "yahpo/nb301"])
def test_no_truncation_of_a_published_file_passes(name: str, data_folder: Path, tmp_path: Path) -> None:
    text = (data_folder / name / "config_space.json").read_text(encoding="utf-8").rstrip()
    for length in range(0, len(text) - 1, max(1, len(text) // 100)):
        with pytest.raises(DataIntegrityError, match=r"config_space\.json"):
            SearchSpace.from_json(_write(tmp_path, text[:length]))
