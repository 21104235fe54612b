"""What is used once a search is over, and estimators that would meet other columns or classes than they name."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.live import LiveObjective, Validation, objective, preset_objective, refit
from hpo_gym.spaces import Column, SpaceSpec

pytest.importorskip("sklearn")

from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeRegressor

C = SpaceSpec((Column("C", "float", 0.1, 10.0, default=1.0),), {})
DEPTH = SpaceSpec((Column("max_depth", "integer", 1, 5, default=3),), {})


def mixed_rows(rows: int = 400) -> tuple[pd.DataFrame, Any]:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({"text": draws.choice(["u", "v"], rows), "number": draws.normal(size=rows)})
    return frame, np.where((frame["number"] > 0) ^ (frame["text"] == "u"), "yes", "no")


def test_what_was_found_is_trained_as_it_was_scored() -> None:
    X, y = load_wine(return_X_y=True)
    mine = objective(SVC(gamma=0.1), C, X, y)
    model = refit(mine, {"C": 1.0}, X, y)
    # Not preprocessed, the same model knows next to nothing.
    assert model.score(X, y) > 0.99 and SVC(gamma=0.1).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) < 0.5
    again = refit(mine, {"C": 1.0}, X, y)
    assert np.array_equal(model.predict(X), again.predict(X))


@pytest.mark.parametrize("as_array", [False, True])
def test_a_refitted_model_takes_and_tells_what_its_user_has(as_array: bool) -> None:
    frame, labels = mixed_rows()
    rows: Any = frame.to_numpy() if as_array else frame
    mine = objective(RandomForestClassifier(20), DEPTH, rows, labels)
    model = pickle.loads(pickle.dumps(refit(mine, {"max_depth": 5}, rows, labels)))
    assert model.score(rows, labels) > 0.9 and model.classes_.tolist() == ["no", "yes"]
    new = pd.DataFrame({"text": ["u", "unseen", None], "number": [1.0, -2.0, None]})
    given: Any = new.to_numpy() if as_array else new
    assert set(model.predict(given)) <= {"no", "yes"} and model.predict_proba(given).shape == (3, 2)
    with pytest.raises(InvalidSettingError, match="expected"):
        model.predict(frame[["number"]])


@pytest.mark.parametrize("family", ["rf", "svm", "nn", "torch_mlp"])
def test_models_of_families_are_refitted(family: str) -> None:
    data = load_wine(as_frame=True)
    mine = preset_objective(family, "sklearn:wine")
    configuration = mine.space.to_dicts(mine.space.default()[None])[0]
    assert refit(mine, configuration, data.data, data.target).score(data.data, data.target) > 0.9


def test_a_regressor_is_refitted() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = refit(objective(SVR(), C, X, y), {"C": 10.0}, X, y)
    assert model.predict(X[:3]).dtype == np.float64 and model.score(X, y) > 0.1


def test_other_columns_are_no_rows_to_refit_on() -> None:
    frame, labels = mixed_rows()
    mine = objective(LogisticRegression(), C, frame, labels)
    with pytest.raises(InvalidSettingError, match="give the same, in their order"):
        refit(mine, {"C": 1.0}, frame[["number", "text"]], labels)
    with pytest.raises(InvalidSettingError, match="'text' of X is numeric, and categorical"):
        refit(mine, {"C": 1.0}, frame.assign(text=1.5 * np.arange(len(frame))), labels)
    with pytest.raises(UnknownNameError, match="hyperparameter"):
        refit(mine, {"D": 1.0}, frame, labels)


def test_weights_are_of_the_classes_that_the_user_names() -> None:
    draws = np.random.default_rng(1)
    X = draws.normal(size=(600, 2))
    y = np.where(X[:, 0] + draws.normal(size=600) > 1.5, 1, 2)

    def recall_of_the_rare(weights: Any) -> float:
        return (
            refit(objective(LogisticRegression(class_weight=weights), C, X, y), {"C": 1.0}, X, y)
            .predict(X)[y == 1]
            .tolist()
            .count(1)
        )

    assert recall_of_the_rare({1: 100, 2: 1}) > 1.5 * recall_of_the_rare(None) > recall_of_the_rare({1: 1, 2: 100})
    with pytest.raises(UnknownNameError, match="class of class_weight 0"):
        objective(LogisticRegression(class_weight={0: 1.0, 1: 2.0}), C, X, y)({"C": 1.0})


@pytest.mark.parametrize("columns", [["number"], "number", make_column_selector()])
def test_columns_by_name_are_refused(columns: Any) -> None:
    pipeline = make_pipeline(ColumnTransformer([("scaled", StandardScaler(), columns)]), KNeighborsClassifier())
    space = SpaceSpec((Column("kneighborsclassifier__n_neighbors", "integer", 1, 9, default=5),), {})
    for preprocess in (False, True):
        with pytest.raises(InvalidSettingError, match=r"by name, .* positions among \['text', 'number'\]"):
            objective(pipeline, space, *mixed_rows(), preprocess=preprocess).require_fitting()


def test_columns_by_position_are_those_of_the_user() -> None:
    coded = ColumnTransformer([("text", OneHotEncoder(), [0]), ("number", StandardScaler(), [1])])
    space = SpaceSpec((Column("kneighborsclassifier__n_neighbors", "integer", 1, 9, default=5),), {})

    def made(**settings: Any) -> LiveObjective:
        return objective(make_pipeline(coded, KNeighborsClassifier()), space, *mixed_rows(), **settings)

    with pytest.raises(InvalidSettingError, match="use preprocess=False"):
        made().require_fitting()
    assert made(preprocess=False)({"kneighborsclassifier__n_neighbors": 5})["accuracy"] > 0.9


@pytest.mark.parametrize(
    "regressor", [RandomForestRegressor, lambda max_depth: DecisionTreeRegressor(max_depth=max_depth)]
)
def test_a_regressor_that_a_call_makes_does_not_learn_classes(regressor: Any) -> None:
    X, y = load_wine(return_X_y=True)
    with pytest.raises(InvalidSettingError, match=r"is a regressor, .* Give task='regression'"):
        objective(regressor, DEPTH, X, y)({"max_depth": 2})
    assert "r2" in objective(regressor, DEPTH, X, y, task="regression", metric="r2")({"max_depth": 2})


def test_a_seed_is_not_tuned() -> None:
    space = SpaceSpec((Column("random_state", "integer", 0, 9, default=1),), {})
    for estimator in (RandomForestClassifier(), RandomForestClassifier):
        with pytest.raises(InvalidSettingError, match="'random_state' is set to the seed"):
            objective(estimator, space, *mixed_rows())


def test_folds_and_shares_without_effect_are_refused() -> None:
    with pytest.raises(InvalidSettingError, match="folds=10 has no effect with method='holdout'"):
        Validation(folds=10)
    with pytest.raises(InvalidSettingError, match=r"share=0\.5 has no effect with method='cross-validation'"):
        Validation("cross-validation", share=0.5)
