"""Gradient-boosted trees in XGBoost's JSON: against XGBoost itself and against one node after the other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hpob_files import predict, random_booster
from hypothesis import given
from hypothesis import strategies as st

from hpo_gym.errors import InvalidSettingError
from hpo_gym.surrogates.base import Metric
from hpo_gym.surrogates.trees import TreeSurrogate, stack_trees
from hpo_gym.surrogates.xgboost_json import read_booster

ACCURACY = Metric("accuracy", False, 0.0, 1.0)
# Models that XGBoost 3.2 trained and saved, 40 points, and what it predicts there.
GOLDEN = json.loads((Path(__file__).parent / "golden" / "xgboost_regressors.json").read_text())


def surrogate(*models: dict[str, Any]) -> TreeSurrogate:
    boosters = [read_booster(model) for model in models]
    return TreeSurrogate(stack_trees(boosters), boosters[0].num_features, ACCURACY)


def test_predictions_are_those_of_xgboost() -> None:
    names = ("squarederror", "logistic")
    trees, x = surrogate(*(GOLDEN[name]["model"] for name in names)), torch.tensor(GOLDEN["x"])
    for index, name in enumerate(names):
        found = trees(torch.full((len(x),), index), x)[:, 0]
        torch.testing.assert_close(found, torch.tensor(GOLDEN[name]["predictions"]), rtol=0.0, atol=1e-6)


def test_files_of_older_versions_are_read_alike() -> None:
    old = copy.deepcopy(GOLDEN["squarederror"]["model"])
    learner = old["learner"]
    learner["learner_model_param"] = {"base_score": "5E-1", "num_class": "0", "num_feature": "4"}
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["default_left"] = [bool(value) for value in tree["default_left"]]
        for name in ("split_type", "categories", "categories_nodes", "categories_segments", "categories_sizes"):
            del tree[name]
    new, x = surrogate(GOLDEN["squarederror"]["model"]), torch.tensor(GOLDEN["x"])
    task = torch.zeros(len(x), dtype=torch.int64)
    assert torch.equal(surrogate(old)(task, x), new(task, x))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9))
def test_trees_of_all_shapes_answer_as_one_node_after_the_other(seed: int, dimension: int, trees: int) -> None:
    draws = np.random.default_rng(seed)
    # Tasks with more and with fewer trees, deeper and flatter ones.
    models = [random_booster(draws, dimension, trees), random_booster(draws, dimension, 1)]
    x = torch.from_numpy(draws.random((8, dimension)).astype(np.float32))
    # A point on a threshold goes to the second child.
    tree = models[0]["learner"]["gradient_booster"]["model"]["trees"][0]
    x[0, tree["split_indices"][0]] = tree["split_conditions"][0] if tree["left_children"][0] >= 0 else 0.5
    task = torch.arange(8) % 2
    found = surrogate(*models)(task, x)[:, 0]
    expected = [predict(models[int(index)], row.numpy()) for index, row in zip(task, x, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=0.0, atol=1e-6)


def test_a_row_alone_is_answered_as_in_a_batch_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = surrogate(*(random_booster(np.random.default_rng(seed), 3) for seed in range(3)))
    task, u = torch.arange(50) % 3, torch.rand(50, 3)
    whole = trees(task, u)
    monkeypatch.setattr("hpo_gym.surrogates.trees._CHUNK_PAIRS", 40)
    assert torch.equal(trees(task, u), whole)
    alone = torch.cat([trees(task[row : row + 1], u[row : row + 1]) for row in range(50)])
    torch.testing.assert_close(alone, whole, rtol=0.0, atol=1e-6)


def test_a_tree_without_a_test_is_a_constant() -> None:
    model = random_booster(np.random.default_rng(0), 2, 1)
    leaf = {"left_children": [-1], "right_children": [-1], "split_indices": [0], "split_conditions": [0.25]}
    model["learner"]["gradient_booster"]["model"]["trees"] = [leaf]
    answers = surrogate(model)(torch.zeros(5, dtype=torch.int64), torch.rand(5, 2))
    assert torch.equal(answers, torch.full((5, 1), 0.75))


def _tree(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda learner: change(learner["gradient_booster"]["model"]["trees"][0])


def _chain(tree: dict[str, Any]) -> None:
    """Make a tree of 13 levels."""
    count = 27
    tree["left_children"] = [node + 1 if node % 2 == 0 and node < count - 1 else -1 for node in range(count)]
    tree["right_children"] = [node + 2 if node % 2 == 0 and node < count - 1 else -1 for node in range(count)]
    tree["split_indices"], tree["split_conditions"] = [0] * count, [0.5] * count
    tree["split_type"] = [0] * count


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "linear": (lambda learner: learner["gradient_booster"].update(name="gblinear"), "its booster is 'gblinear'"),
    "classes": (lambda learner: learner["learner_model_param"].update(num_class="3"), "several outputs"),
    "objective": (
        lambda learner: learner["objective"].update(name="multi:softmax"),
        "its objective is 'multi:softmax'",
    ),
    "no tree": (lambda learner: learner["gradient_booster"]["model"].update(trees=[]), "no tree"),
    "no learner": (lambda learner: learner.pop("objective"), "no model of XGBoost in JSON .KeyError: 'objective'"),
    "base": (
        lambda learner: (
            learner["objective"].update(name="reg:logistic"),
            learner["learner_model_param"].update(base_score="1E0"),
        ),
        "base_score is 1.0, and no probability",
    ),
    "feature": (lambda learner: learner["learner_model_param"].update(num_feature="1"), "features 0 to 1, it has 1"),
    "wide": (_tree(lambda tree: tree["split_indices"].__setitem__(0, 65_536)), "to 65536, it has 2"),
    "negative": (_tree(lambda tree: tree["split_indices"].__setitem__(0, -1)), "asks for features -1 to"),
    "categories": (_tree(lambda tree: tree.update(split_type=[1])), "splits by categories"),
    "cycle": (_tree(lambda tree: tree["left_children"].__setitem__(0, 0)), "form no tree"),
    "outside": (_tree(lambda tree: tree["right_children"].__setitem__(0, 10_000)), "form no tree"),
    "half": (_tree(lambda tree: tree["right_children"].__setitem__(0, -1)), "do not belong together"),
    "lengths": (_tree(lambda tree: tree["split_conditions"].pop()), "do not belong together"),
    "deep": (_tree(_chain), "deeper than 12 levels"),
}


@pytest.mark.parametrize(("change", "reason"), WRONG.values(), ids=WRONG)
def test_other_models_and_damaged_ones_are_refused(change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    model = random_booster(np.random.default_rng(3), 2)
    read_booster(copy.deepcopy(model))
    change(model["learner"])
    with pytest.raises(ValueError, match=reason):
        read_booster(model)


def test_trees_that_ask_for_more_features_than_the_space_has_are_refused() -> None:
    tensors = stack_trees([read_booster(random_booster(np.random.default_rng(3), 3))])
    with pytest.raises(InvalidSettingError, match="ask for feature 2, the space has 2"):
        TreeSurrogate(tensors, 2, ACCURACY)
