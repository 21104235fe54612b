"""Our activity and legality are ConfigSpace's, on handwritten, random and real spaces."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import (
    HANDWRITTEN,
    build,
    configuration_spaces,
    points,
    reference_vectors,
    reference_verdicts,
)

from hpo_gym.errors import InvalidSettingError
from hpo_gym.spaces import SearchSpace

SAMPLES = 10_000

# The published files; a name that is missing from the data folder fails rather than passing silently.
REAL = (
    *(f"yahpo/iaml_{name}" for name in ("glmnet", "ranger", "rpart", "super", "xgboost")),
    *(f"yahpo/rbv2_{name}" for name in ("aknn", "glmnet", "ranger", "rpart", "super", "svm", "xgboost")),
    "yahpo/lcbench",
    "yahpo/nb301",
    "yahpo_v2/rbv2_ranger",
    "yahpo_v2/nb301",
)


def _assert_agreement(space: Any, ours: SearchSpace, count: int, seed: int) -> np.ndarray:
    u = ours.snap(points(count, ours.dimension, seed))
    vectors = reference_vectors(space, ours, u)
    # Raises where ConfigSpace has another opinion of what is active.
    legal = reference_verdicts(space, vectors)
    np.testing.assert_array_equal(ours.legal(u).numpy(), legal)
    active = ours.active(u)
    for row in range(min(count, 200)):
        expected = space.get_active_hyperparameters(vectors[row])
        assert {name for name, on in zip(ours.names, active[row], strict=True) if on} == expected
    return legal


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_activity_and_legality_agree_on_handwritten_spaces(name: str) -> None:
    space = HANDWRITTEN[name]()
    legal = _assert_agreement(space, SearchSpace.from_configspace(space), SAMPLES, seed=1)
    # Both verdicts must occur, or the comparison says nothing.
    assert (0.02 < legal.mean() < 0.98) == (name == "every clause")


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_a_space_that_went_through_ours_gives_the_same_verdicts(name: str) -> None:
    space = HANDWRITTEN[name]()
    ours = SearchSpace.from_configspace(space)
    _assert_agreement(ours.to_configspace(), ours, 2000, seed=2)


@pytest.mark.parametrize("name", REAL)
def test_activity_and_legality_agree_on_published_spaces(name: str, data_folder: Path) -> None:
    path = data_folder / name / "config_space.json"
    ours = SearchSpace.from_json(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ConfigSpace deprecates the old format once per hyperparameter.
        space = ConfigSpace.ConfigurationSpace.from_json(path)
    assert sorted(ours.names) == sorted(space)
    _assert_agreement(space, ours, SAMPLES, seed=3)
    # What ConfigSpace draws itself, we call active and legal, too.
    drawn = [dict(configuration) for configuration in space.sample_configuration(200)]
    u = ours.from_dicts(drawn)
    assert [set(row) for row in ours.to_dicts(u)] == [set(row) for row in drawn]
    assert ours.legal(u).all()


@settings(max_examples=150)
@given(space=configuration_spaces(), seed=st.integers(0, 10_000))
def test_activity_and_legality_agree_on_random_spaces(space: Any, seed: int) -> None:
    _assert_agreement(space, SearchSpace.from_configspace(space), 60, seed)


@settings(max_examples=60)
@given(space=configuration_spaces(), seed=st.integers(0, 10_000))
def test_random_spaces_mean_the_same_after_ours(space: Any, seed: int) -> None:
    ours = SearchSpace.from_configspace(space)
    back = ours.to_configspace()
    assert dict(back) == dict(space)
    _assert_agreement(back, ours, 40, seed)


def test_decoding_is_configspaces_own() -> None:
    space = HANDWRITTEN["flat"]()
    ours = SearchSpace.from_configspace(space)
    u = points(5000, ours.dimension, seed=4)
    values = ours.decode(u).numpy()
    for column, parameter in enumerate(space.values()):
        if ours.spec.columns[column].is_numeric:
            np.testing.assert_allclose(
                values[:, column], parameter.to_value(u[:, column].numpy()), rtol=1e-9, atol=1e-12
            )


def test_not_equals_holds_for_an_inactive_parent_as_in_configspace() -> None:
    parent = ConfigSpace.Categorical("parent", ["on", "off"])
    middle = ConfigSpace.Categorical("middle", ["p", "q"])
    child = ConfigSpace.Float("child", (0.0, 1.0))
    space = build(
        [parent, middle, child],
        [
            ConfigSpace.EqualsCondition(middle, parent, "on"),
            ConfigSpace.NotEqualsCondition(child, middle, "p"),
        ],
        [],
    )
    ours = SearchSpace.from_configspace(space)
    u = ours.from_dicts([{"parent": "off"}, {"parent": "on", "middle": "p"}, {"parent": "on", "middle": "q"}])
    column = ours.spec.position("child")
    assert ours.active(u)[:, column].tolist() == [True, False, True]
    assert ConfigSpace.Configuration(space, values={"parent": "off", "child": 0.5})["child"] == 0.5


def test_a_condition_below_a_billionth_is_not_lost_to_rounding() -> None:
    rate = ConfigSpace.Float("rate", (1e-12, 1.0), log=True)
    child = ConfigSpace.Float("child", (0.0, 1.0))
    ours = SearchSpace.from_configspace(build([rate, child], [ConfigSpace.LessThanCondition(child, rate, 1e-9)], []))
    u = ours.from_dicts([{"rate": 5e-10}, {"rate": 2e-9}]).float()
    assert ours.active(u)[:, ours.spec.position("child")].tolist() == [True, False]


def test_relations_compare_values_and_not_positions() -> None:
    size = ConfigSpace.OrdinalHyperparameter("size", [64, 16, 4], default_value=16)
    limit, number = ConfigSpace.Constant("limit", 32), ConfigSpace.Integer("number", (1, 20))
    space = build(
        [size, limit, number],
        [],
        [ConfigSpace.ForbiddenGreaterThanRelation(size, limit), ConfigSpace.ForbiddenLessThanRelation(size, number)],
    )
    ours = SearchSpace.from_configspace(space)
    rows = [{"size": 64, "number": 5}, {"size": 16, "number": 5}, {"size": 4, "number": 5}, {"size": 4, "number": 4}]
    assert ours.legal(ours.from_dicts(rows)).tolist() == [False, True, False, True]


def test_a_relation_between_text_and_numbers_is_refused() -> None:
    word, number = ConfigSpace.Categorical("word", ["a", "b"]), ConfigSpace.Integer("number", (1, 5))
    relation = ConfigSpace.ForbiddenLessThanRelation(word, number)
    space = ConfigSpace.ConfigurationSpace()
    space.add(word, number)
    # ConfigSpace notices only when it compares them.
    space._dag.unconditional_forbiddens.append(relation)
    with pytest.raises(InvalidSettingError, match="'word' with 'number'"):
        SearchSpace.from_configspace(space)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activity_does_not_depend_on_the_dtype_of_a_point(dtype: torch.dtype) -> None:
    ours = SearchSpace.from_configspace(HANDWRITTEN["every condition"]())
    u = ours.snap(points(5000, ours.dimension, seed=5).float())
    assert torch.equal(ours.active(u.to(dtype)), ours.active(u.double()))
