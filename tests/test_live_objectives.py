"""Live objectives: what a model is trained on, what its scores are worth, and what a share of an evaluation is."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation.published.grpoformer import GRPOFORMER_36
from hpo_gym.live import LiveObjective, Validation, grpoformer_objective, load_table, objective, preset_objective
from hpo_gym.live.datasets import data_source
from hpo_gym.live.fit import Fit
from hpo_gym.live.models import FAMILIES
from hpo_gym.live.presets import GRPOFORMER_FAMILIES, PRESETS, preset_space
from hpo_gym.live.scoring import DEFAULT_METRICS, SCORES
from hpo_gym.live.torch_models import Dropout, make_cnn, make_network_model
from hpo_gym.live.validation import beginning_with, make_splits, nested_order, subsample
from hpo_gym.seeding import generator
from hpo_gym.spaces import Column, SpaceSpec

OPTIONAL = ("xgb", "lightgbm")
# What shall be learned in a blink: some of the rows, some of the iterations.
QUICK = {"subsample": 0.8, "validation": Validation(test_share=0.3)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))


def default(evaluate: LiveObjective) -> dict[str, Any]:
    return evaluate.space.to_dicts(evaluate.space.default()[None])[0]


def test_the_six_published_spaces_are_presets() -> None:
    assert tuple(family.name for family in GRPOFORMER_36.families) == GRPOFORMER_FAMILIES
    for family in GRPOFORMER_36.families:
        assert preset_space(family.name) == family.spec
        rounds = [value for name, value in family.fidelity.items() if name != "subsample"]
        assert FAMILIES[family.name].iterations == (rounds[0] if rounds else 0)


@pytest.mark.parametrize("family", PRESETS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_presets_are_spaces_of_configspace(family: str, task: Any) -> None:
    from hpo_gym.spaces import SearchSpace

    space = SearchSpace(preset_space(family, task))
    assert set(space.to_configspace()) == set(space.names)
    assert bool(space.legal(space.default()[None]).all())
    assert space.to_dicts(space.default()[None])[0].keys() == set(space.names)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("data", ["sklearn:wine", "sklearn:diabetes"])
def test_every_family_learns_and_repeats_itself(family: str, data: str) -> None:
    if FAMILIES[family].images:
        if data == "sklearn:diabetes":
            pytest.skip("needs images")
        data = "sklearn:digits"
    if find_spec(FAMILIES[family].library) is None:
        with pytest.raises(InvalidSettingError, match=rf"'{family}' needs .*pip install '\.\[{family[:3]}"):
            preset_objective(family, data)
        return
    evaluate = preset_objective(family, data, **QUICK)
    share = 1.0 if evaluate.fidelity_kind == "subsample" else 0.3
    scores = evaluate(default(evaluate), share, 5)
    assert tuple(scores) == evaluate.metric_names
    for metric in evaluate.metric_definitions:
        assert metric.lower <= scores[metric.name] <= metric.upper
    main = evaluate.metric_names[0]
    assert scores[main] > (0.6 if main == "accuracy" else 0.2)
    again = pickle.loads(pickle.dumps(evaluate))
    assert again == evaluate and again(default(evaluate), share, 5) == scores
    if family in ("rf", "nn", "torch_mlp", "torch_cnn"):
        assert evaluate(default(evaluate), share, 6) != scores


def test_a_score_is_that_of_scikit_learn_by_hand() -> None:
    from sklearn.metrics import accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    validation = Validation("cross-validation", folds=4)
    evaluate = preset_objective("knn", "sklearn:wine", validation=validation)
    found = evaluate({"n_neighbors": 5, "weights": "distance", "p": 1})
    table, validated, tested = load_table(evaluate.data), [], []
    splits = make_splits(table, validation)
    for split in splits.folds:
        scaler = StandardScaler().fit(table.values[split.train])
        model = KNeighborsClassifier(5, weights="distance", p=1)
        model.fit(scaler.transform(table.values[split.train]), table.target[split.train])
        for rows, scores in ((split.validation, validated), (splits.test, tested)):
            predicted = model.predict(scaler.transform(table.values[rows]))
            scores.append(accuracy_score(table.target[rows], predicted))
    assert found["accuracy"] == pytest.approx(np.mean(validated), abs=1e-12)
    assert found["test_accuracy"] == pytest.approx(np.mean(tested), abs=1e-12)


class Recorder:
    """A nearest-mean classifier that writes down what it is given."""

    calls: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, power: float, rounds: int = 0, random_state: int = -1) -> None:
        self.power, self.rounds, self.random_state = power, rounds, random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> Recorder:
        self.classes_ = np.unique(y)
        self.means = np.stack([X[y == label].mean(0) for label in self.classes_])
        seen = {"rounds": self.rounds, "seed": self.random_state, "X": X.copy(), "y": y.copy()}
        Recorder.calls.append(seen)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        distance = (np.abs(X[:, None] - self.means) ** self.power).sum(-1)
        return self.classes_[distance.argmin(1)]

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())


POWER = SpaceSpec((Column("power", "float", 1.0, 3.0, default=2.0),), {})


@pytest.fixture
def recorded() -> Iterator[list[dict[str, Any]]]:
    Recorder.calls.clear()
    yield Recorder.calls
    Recorder.calls.clear()


def frame(count: int = 90) -> tuple[pd.DataFrame, np.ndarray]:
    draws = np.random.default_rng(3)
    label = np.arange(count) % 3
    columns = {"a": draws.normal(size=count) + label, "b": draws.normal(size=count)}
    columns["kind"] = [f"k{index % 4}" for index in range(count)]
    return pd.DataFrame(columns), label


def test_nothing_about_validation_and_test_rows_reaches_the_training(recorded: list[dict[str, Any]]) -> None:
    features, target = frame()
    features.loc[5::10, "a"] = np.nan
    evaluate = objective(Recorder, POWER, features, target, validation=Validation("cross-validation", folds=3))
    evaluate({"power": 2.0})
    before = recorded.copy()
    recorded.clear()
    splits = make_splits(evaluate.table, evaluate.validation)
    changed = features.copy()
    held = splits.folds[0].validation
    # Other numbers, other gaps, and a level that no other row has.
    changed.loc[[*held, *splits.test], ["a", "b"]] = 1e6
    changed.loc[held[:5], "b"] = np.nan
    changed.loc[splits.test, "kind"] = "never seen"
    again = objective(Recorder, POWER, changed, target, validation=evaluate.validation)
    again({"power": 2.0})
    assert len(before) == len(recorded) == 3
    np.testing.assert_array_equal(before[0]["X"], recorded[0]["X"])
    assert not np.array_equal(before[1]["X"], recorded[1]["X"])
    np.testing.assert_allclose(before[0]["X"][:, :2].mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(before[0]["X"][:, :2].std(0), 1.0, atol=1e-12)
    assert before[0]["X"].shape[1] == 2 + 4


def test_levels_that_are_new_in_validation_rows_are_ignored() -> None:
    features, target = frame()
    validation = Validation()
    rows = make_splits(objective(Recorder, POWER, features, target).table, validation)
    features.loc[rows.folds[0].validation, "kind"] = "new"
    scores = objective(Recorder, POWER, features, target, validation=validation)({"power": 2.0})
    assert 0.34 < scores["accuracy"] <= 1.0


def test_a_share_is_of_the_rows_or_of_the_iterations(recorded: list[dict[str, Any]]) -> None:
    features, target = frame()
    by_rows = objective(Recorder, POWER, features, target)
    assert by_rows.fidelity_kind == "subsample"
    full = len(make_splits(by_rows.table, by_rows.validation).folds[0].train)
    for share in (1.0, 0.5, 0.25, 1e-6):
        by_rows({"power": 2.0}, share)
    assert [len(call["X"]) for call in recorded] == [full, math.ceil(full / 2), math.ceil(full / 4), 6]
    assert all(set(call["y"]) == {0, 1, 2} for call in recorded)
    recorded.clear()
    by_rounds = objective(Recorder, POWER, features, target, iterations=("rounds", 40), subsample=0.5)
    assert by_rounds.fidelity_kind == "iterations"
    for share in (1.0, 0.25, 1e-6):
        by_rounds({"power": 2.0}, share)
    assert [(call["rounds"], len(call["X"])) for call in recorded] == [(n, math.ceil(full / 2)) for n in (40, 10, 1)]
    recorded.clear()
    replace(by_rounds, fidelity="subsample", subsample=1.0)({"power": 2.0}, 0.5)
    assert [(call["rounds"], len(call["X"])) for call in recorded] == [(40, math.ceil(full / 2))]


def test_seeds_reach_the_model_and_not_the_rows(recorded: list[dict[str, Any]]) -> None:
    features, target = frame()
    evaluate = objective(Recorder, POWER, features, target, validation=Validation("cross-validation", folds=2))
    for seed in (0, 0, 1):
        evaluate({"power": 2.0}, 0.5, seed)
    seeds = [call["seed"] for call in recorded]
    assert seeds[:2] == seeds[2:4] and len(set(seeds)) == 4 and min(seeds) >= 0
    np.testing.assert_array_equal(recorded[0]["X"], recorded[4]["X"])


def test_raw_features_reach_a_model_that_asks_for_them(recorded: list[dict[str, Any]]) -> None:
    features, target = frame()
    objective(Recorder, POWER, features, target, preprocess=False)({"power": 2.0})
    assert set(recorded[0]["X"][:, 2]) == {0.0, 1.0, 2.0, 3.0}


def test_own_estimators_come_as_instance_class_function_or_pipeline() -> None:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.feature_selection import SelectKBest
    from sklearn.pipeline import Pipeline

    spec = SpaceSpec((Column("max_depth", "integer", 1, 9, default=3),), {})
    features, target = frame()
    template = ExtraTreesClassifier(n_estimators=7, random_state=99)

    def make(max_depth: int, random_state: int) -> ExtraTreesClassifier:
        return ExtraTreesClassifier(n_estimators=7, max_depth=max_depth, random_state=random_state)

    scores = [objective(model, spec, features, target)({"max_depth": 4}) for model in (template, make)]
    assert scores[0] == scores[1] and template.max_depth is None
    # A function that asks for no seed makes what has one.
    careless = objective(lambda **settings: ExtraTreesClassifier(n_estimators=7, **settings), spec, features, target)
    assert careless({"max_depth": 4}) == scores[0]
    fit = Fit("classification", 50, 3, 3, 1, 11)
    fixed = objective(lambda **settings: ExtraTreesClassifier(**settings, random_state=5), spec, features, target)
    assert fixed.model.build({"max_depth": 2}, fit).random_state == 5  # type: ignore[union-attr]
    piped = Pipeline([("select", SelectKBest(k=2)), ("trees", template)])
    depth = SpaceSpec((Column("trees__max_depth", "integer", 1, 9, default=3),), {})
    evaluate = objective(piped, depth, features, target, metric=("f1_macro", "accuracy"))
    assert evaluate({"trees__max_depth": 4})["f1_macro"] > 0.4 and evaluate.metric_names[0] == "f1_macro"
    grown = objective(template, spec, features, target, iterations=("n_estimators", 20))
    built = grown.model.build({"max_depth": 2}, Fit("classification", 50, 3, 3, 5, 11))  # type: ignore[union-attr]
    assert (built.n_estimators, built.max_depth, built.random_state) == (5, 2, 11)


def test_the_example_in_the_documents_runs_verbatim(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "live.md").read_text()
    block = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    exec(compile(block, "docs/live.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert "'test_accuracy'" in first and second.startswith("{'f1_macro': ") and "'test_f1_macro': " in second


def test_configspace_and_names_of_data_will_do() -> None:
    from ConfigSpace import ConfigurationSpace
    from sklearn.linear_model import Ridge

    evaluate = objective(Ridge(), ConfigurationSpace({"alpha": (0.1, 10.0)}), "sklearn:diabetes", metric="rmse")
    scores = evaluate({"alpha": 1.0})
    assert set(scores) == {"rmse", "test_rmse"} and 40 < scores["rmse"] < 70
    assert evaluate.metric_definitions[0].minimize and evaluate.metric_definitions[0].upper > 1000


@pytest.mark.parametrize("family", ["svm", "torch_mlp", "lr"])
def test_probabilities_are_there_where_a_metric_needs_them(family: str) -> None:
    evaluate = preset_objective(family, "sklearn:wine", metrics=("log_loss", "roc_auc"))
    scores = evaluate(default(evaluate))
    assert scores["roc_auc"] > 0.9 and 0.0 < scores["log_loss"] < 0.6


def test_every_metric_is_a_scorer_within_its_bounds() -> None:
    for task, data in (("classification", "sklearn:iris"), ("regression", "sklearn:diabetes")):
        names = tuple(name for name, score in SCORES.items() if score.task == task)
        evaluate = preset_objective("knn", data, metrics=names, validation=Validation(test_share=0.0))
        scores = evaluate(default(evaluate))
        assert tuple(scores) == names and set(DEFAULT_METRICS[task]) <= set(names)  # type: ignore[index]
        for metric in evaluate.metric_definitions:
            assert metric.lower <= scores[metric.name] <= metric.upper


def test_published_scenarios_train_on_a_tenth() -> None:
    evaluate = grpoformer_objective("svm", "sklearn:digits")
    # Ten rows of each class are more than a tenth of the 806.
    assert evaluate.subsample == 100 / 806 and evaluate.metric_names[3] == "precision_macro"
    first = GRPOFORMER_36.family("svm").first
    assert first is not None and 0.05 < evaluate(first)["accuracy"] <= 1.0
    with pytest.raises(UnknownNameError, match=r"family of GRPOformer 'knn'"):
        grpoformer_objective("knn", "sklearn:digits")
    with pytest.raises(UnknownNameError, match=r"metric of regression 'accuracy'"):
        grpoformer_objective("svm", "sklearn:diabetes")({"C": 1.0, "gamma": 1.0})


def test_threads_warnings_and_global_generators_stay_as_they_are(recwarn: pytest.WarningsRecorder) -> None:
    threads, state, legacy = torch.get_num_threads(), torch.random.get_rng_state(), np.random.get_state()[1].copy()
    for family in ("nn", "torch_mlp"):
        evaluate = preset_objective(family, "sklearn:iris")
        configuration = {**default(evaluate)}
        configuration["learning_rate_init" if family == "nn" else "learning_rate"] = 0.1
        evaluate(configuration, 0.1)
    assert torch.get_num_threads() == threads and torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)
    assert len(recwarn) == 0


@pytest.mark.parametrize("method", ["holdout", "cross-validation"])
@pytest.mark.parametrize("data", ["sklearn:wine", "sklearn:diabetes"])
def test_rows_are_partitioned_and_classes_stratified(method: Any, data: str) -> None:
    parts: dict[str, Any] = {"share": 0.25} if method == "holdout" else {"folds": 4}
    table = load_table(preset_objective("knn", data).data)
    validation = Validation(method, test_share=0.2, seed=2, **parts)
    splits = make_splits(table, validation)
    assert len(splits.test) == math.ceil(0.2 * table.num_rows)
    for split in splits.folds:
        assert sorted([*split.train, *split.validation, *splits.test]) == list(range(table.num_rows))
        if table.task == "classification":
            shares = [np.bincount(table.target[rows]) / len(rows) for rows in (split.train, split.validation)]
            np.testing.assert_allclose(shares[0], shares[1], atol=0.04)
    if method == "cross-validation":
        assert sorted(np.concatenate([split.validation for split in splits.folds])) == sorted(
            set(range(table.num_rows)) - set(splits.test.tolist())
        )
    other = make_splits(table, replace(validation, seed=3))
    assert not np.array_equal(other.folds[0].validation, splits.folds[0].validation)


@given(st.lists(st.integers(0, 4), min_size=5, max_size=120), st.floats(0.01, 1.0), st.integers(0, 99))
def test_subsamples_are_nested_stratified_and_hold_every_class(labels: list[int], share: float, seed: int) -> None:
    found = np.array(labels)
    order = nested_order(found, len(found), seed, 0)
    assert sorted(order) == list(range(len(found)))
    classes = np.unique(found)
    rows = subsample(order, share, len(classes))
    assert set(found[rows]) == set(classes)
    for label in classes:
        expected = share * np.sum(found == label)
        assert abs(np.sum(found[rows] == label) - expected) <= len(classes) + 1
    fewer = subsample(order, share / 2, len(classes))
    np.testing.assert_array_equal(rows[: len(fewer)], fewer)


def test_splits_that_cannot_be_are_refused() -> None:
    features, target = frame(12)
    rare = target.copy()
    rare[:] = 0
    rare[:3] = 1
    build = lambda labels, **how: objective(Recorder, POWER, features, labels, validation=Validation(**how))  # noqa: E731
    with pytest.raises(InvalidSettingError, match=r"Class '1' of arrays has 2 of \d+ rows, fewer than 5.*fewer folds"):
        build(rare, method="cross-validation")({"power": 2.0})
    with pytest.raises(InvalidSettingError, match=r"has \d+ rows for 30 folds"):
        objective(Recorder, POWER, features, target.astype(float), validation=Validation("cross-validation", folds=30))(
            {"power": 2.0}
        )
    with pytest.raises(InvalidSettingError, match=r"test_share=0.9 of the 12 rows .* change test_share"):
        build(target, test_share=0.9)({"power": 2.0})
    more, _ = frame(20)
    rare = np.repeat([0, 1], [18, 2])
    scored = objective(Recorder, POWER, more, rare, metric="roc_auc", validation=Validation(test_share=0.1))
    with pytest.raises(InvalidSettingError, match=r"roc_auc needs every class .* none of class '1'"):
        scored({"power": 2.0})
    assert 0.0 <= replace(scored, metrics=("accuracy",))({"power": 2.0})["test_accuracy"] <= 1.0
    with pytest.raises(InvalidSettingError, match="has no official splits"):
        build(target, method="official")({"power": 2.0})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "holduot"}, "Did you mean 'holdout'"),
        ({"share": 1.0}, r"share=1.0 .* \(0, 1\)"),
        ({"test_share": -0.1}, r"test_share=-0.1 .* \[0, 1\)"),
        ({"folds": 1}, "folds=1 .* >= 2"),
        ({"share": "a"}, r"share='a' must lie in \(0, 1\)"),
        ({"seed": -1}, "seed=-1"),
        ({"fold": True}, "fold=True"),
    ],
)
def test_validation_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidSettingError, UnknownNameError), match=said):
        Validation(**settings)


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("rff", {}, r"model family 'rff'.*Did you mean 'rf'"),
        ("rf", {"metrics": ("acuracy",)}, r"'acuracy'.*Did you mean"),
        ("rf", {"metrics": ("accuracy", "accuracy")}, "twice"),
        ("rf", {"metrics": ("accuracy", "rmse")}, "mix those of classification and of regression"),
        ("rf", {"fidelity": "iteration"}, "Did you mean 'iterations'"),
        ("svm", {"fidelity": "iterations"}, "svm is not trained in iterations"),
        ("knn", {"iterations": 5}, "knn is not trained in iterations"),
        ("rf", {"iterations": 0}, "iterations=0"),
        ("rf", {"subsample": 0.0}, r"subsample=0.0 .* \(0, 1\]"),
        ("rf", {"subsample": "x"}, r"subsample='x' .* \(0, 1\]"),
        ("rf", {"validation": "cv"}, r"validation='cv' must be a Validation"),
        ("rf", {"preprocess": "no"}, r"preprocess='no' must be True or False"),
        ("rf", {"metric": "accuracy"}, r"'metric'.*Did you mean 'metrics'"),
        ("rf", {"task": "regression"}, r"'task'.*metrics"),
    ],
)
def test_objective_settings_are_checked(family: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidSettingError, UnknownNameError), match=said):
        preset_objective(family, "sklearn:iris", **settings)


def test_calls_are_checked() -> None:
    evaluate = preset_objective("svm", "sklearn:iris")
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(InvalidSettingError, match=r"share=.* \(0, 1\]"):
            evaluate({"C": 1.0, "gamma": 1.0}, share)
    with pytest.raises(UnknownNameError, match=r"hyperparameter 'gama'.*Did you mean 'gamma'"):
        evaluate({"C": 1.0, "gama": 1.0})
    with pytest.raises(InvalidSettingError, match="seed must be a non-negative"):
        evaluate({"C": 1.0, "gamma": 1.0}, 1.0, -1)
    with pytest.raises(UnknownNameError, match=r"metric of regression 'accuracy'"):
        _ = preset_objective("svm", "sklearn:diabetes", metrics=("accuracy",)).metric_names
    with pytest.raises(InvalidSettingError, match="torch_cnn needs images, and sklearn:iris is none"):
        _ = preset_objective("torch_cnn", "sklearn:iris").metric_names
    assert preset_objective("rf", "sklearn:iris", metrics="accuracy").metrics == ("accuracy",)


@pytest.mark.parametrize("data", ["sklearn:iris", "sklearn:wine"])
def test_a_model_that_is_calibrated_has_rows_of_every_class_to_do_it_with(data: str) -> None:
    cheap = preset_objective("svm", data, metrics=("roc_auc",), validation=Validation(test_share=0.1))
    scores = [cheap({"C": 1.0, "gamma": 0.1}, share) for share in (0.01, 0.05, 0.1, 1.0)]
    assert all(0.5 < each["roc_auc"] <= 1.0 for each in scores) and scores[0] != scores[-1]
    labels = np.array([2, 0, 1, 0, 0, 1, 2, 1, 1])
    assert [beginning_with(labels, rows) for rows in (1, 2, 3, 4)] == [3, 7, 8, 9]


def test_own_models_are_checked() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge

    features, target = frame()
    alpha = SpaceSpec((Column("alhpa", "float", 0.1, 1.0, default=0.5),), {})
    with pytest.raises(UnknownNameError, match=r"parameter of Ridge 'alhpa'.*Did you mean 'alpha'"):
        objective(Ridge(), alpha, features, target)
    with pytest.raises(UnknownNameError, match=r"parameter of Ridge 'epochs'"):
        objective(Ridge(), SpaceSpec((), {}), features, target, iterations=("epochs", 5))
    with pytest.raises(InvalidSettingError, match=r"'power' is a hyperparameter and cannot be the fidelity"):
        objective(Recorder, POWER, features, target, iterations=("power", 5))
    for estimator, labels, task in (
        (Ridge(), [0, 1], "regression"),
        (LogisticRegression(), [0.0, 1.0], "classification"),
    ):
        wrong = np.resize(labels, len(target))
        with pytest.raises(InvalidSettingError, match=f"{type(estimator).__name__} is a .*Give task='{task}'"):
            objective(estimator, SpaceSpec((), {}), features, wrong)
        objective(estimator, SpaceSpec((), {}), features, wrong, task=task)
    with pytest.raises(InvalidSettingError, match="Ridge is a regressor"):
        _ = objective(Ridge(), SpaceSpec((), {}), "sklearn:iris").metric_names
    with pytest.raises(InvalidSettingError, match=r"must be a ConfigSpace\.ConfigurationSpace"):
        objective(Recorder, {"power": (1.0, 3.0)}, features, target)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"'validatoin'.*Did you mean 'validation'"):
        objective(Recorder, POWER, features, target, validatoin=Validation())
    with pytest.raises(UnknownNameError, match=r"'metrics'.*Did you mean 'metric'"):
        objective(Recorder, POWER, features, target, metrics=("accuracy",))
    with pytest.raises(InvalidSettingError, match=r"data_source\(<path>, target="):
        objective(Recorder, POWER, "sklearn:iris", target="species")
    with pytest.raises(InvalidSettingError, match=r"iterations_parameter='rounds' and iterations=0 belong together"):
        objective(Recorder, POWER, features, target, iterations=("rounds", 0))
    with pytest.raises(InvalidSettingError, match="is neither an estimator"):
        objective("ridge", POWER, features, target)
    for wrong_task in ("clasification", "regresion"):
        with pytest.raises(UnknownNameError, match=f"task type '{wrong_task}'.*Did you mean"):
            objective(Recorder, POWER, features, target, task=wrong_task)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match=r"iterations=10 must be .*\('n_estimators', 100\)"):
        objective(Recorder, POWER, features, target, iterations=10)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match=r"drop='age' .*drop=\('age',\)"):
        data_source("sklearn:iris", drop="age")
    with pytest.raises(InvalidSettingError, match="X without y"):
        objective(Recorder, POWER, features)
    with pytest.raises(InvalidSettingError, match="names data with a target"):
        objective(Recorder, POWER, "sklearn:iris", target)


def test_dropout_draws_from_its_own_generator_and_keeps_the_mean() -> None:
    x = torch.ones(20_000)
    layer = Dropout(0.4, generator(0, "a"))
    once, twice = layer(x), layer(x)
    assert not torch.equal(once, twice) and torch.equal(once, Dropout(0.4, generator(0, "a"))(x))
    assert float((once == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float(once.mean()) == pytest.approx(1.0, abs=0.03)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(InvalidSettingError, match=r"rate=1\.0"):
        Dropout(1.0, generator(0))


def test_networks_have_the_size_that_is_asked_for_and_divergence_is_an_error() -> None:
    network = make_cnn((1, 8, 8), 10, 2, 4, 0.0, generator(0))
    assert network(torch.zeros(3, 64)).shape == (3, 10)
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 4] == [(4, 1, 3, 3), (8, 4, 3, 3)]
    assert make_cnn((3, 2, 1), 2, 3, 4, 0.0, generator(0))(torch.zeros(5, 6)).shape == (5, 2)
    fit = Fit("classification", 8, 2, 2, iterations=3, seed=0)
    settings = {"depth": 1, "width": 4, "batch_size": 4, "dropout": 0.0, "weight_decay": 0.0, "learning_rate": 1e30}
    features = np.arange(16.0).reshape(8, 2) * 1e20
    with pytest.raises(ValueError, match="training diverged"):
        make_network_model("mlp", settings, fit).fit(features, np.array([0, 1] * 4)).predict(features)
