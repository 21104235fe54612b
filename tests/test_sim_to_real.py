"""Live training in the search spaces of embedded surfaces, and the study that shipped policies play it in."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from agents.base import Interface
from agents.shipped_policies import load_shipped
from agents.sim_to_real_study import contender, play
from agents.sim_to_real_study_data import DATASETS, StudyDataset, live_data, require_unseen
from agents.sim_to_real_study_page import NAME, write_page
from agents.study import write_results
from hpo_gym import load_suite
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError, UnknownNameError
from hpo_gym.live.embedded_boosting import RealBoostingClassifier
from hpo_gym.live.embedded_models import EMBEDDED_FAMILIES, EmbeddedEstimator
from hpo_gym.live.embedded_network import FunnelClassifier, funnel_widths
from hpo_gym.live.embedded_suite import EmbeddedObjective, embedded_suite
from hpo_gym.live.live_objective import LiveObjective
from hpo_gym.live.user_model import UserModel
from hpo_gym.live.validation import Validation

IRIS = DATASETS[0]
_SETTINGS: dict[str, Any] = {
    "reward": "score",
    "reward_scale": "none",
    "action": "continuous",
    "observation": "history",
}


def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    features, target = load_wine(return_X_y=True)
    return features, target


@pytest.mark.parametrize("family", sorted(EMBEDDED_FAMILIES))
def test_a_shipped_policy_fits_live_tasks(family: str) -> None:
    suite = embedded_suite(family, {IRIS.task_ref: live_data(IRIS)})
    embedded = load_suite("bundled", family)
    assert suite.space.spec.columns == embedded.space.spec.columns
    assert suite.spec.metric == embedded.spec.metric
    env = HPOVectorEnv(1, suite, split="all", budget=30, **_SETTINGS)
    trained = load_shipped("grpo", family)
    assert trained is not None
    trained.agent.interface.require_same(Interface.of(env))
    require_unseen(trained)


@pytest.mark.parametrize("family", ["adaboost", "random_forest", "rpart"])
def test_the_default_configuration_learns_and_repeats_itself(family: str) -> None:
    space = load_suite("bundled", family).space
    default = {column.name: column.default for column in space.spec.columns}
    default |= {"n_estimators": 50} if family == "adaboost" else {}
    model = UserModel(EmbeddedEstimator(family), space.spec, family)
    source = live_data(DATASETS[1]).source
    objective = LiveObjective(
        model, source, ("accuracy",), Validation("holdout", share=0.5, test_share=0.0), "subsample", preprocess=False
    )
    named = EmbeddedObjective(objective, "percent", 100.0)
    first = named(default, seed=3)
    assert first == named(default, seed=3)
    assert 70.0 < first["percent"] <= 100.0


def test_pruning_is_relative_to_the_root() -> None:
    features, target = _wine()
    settings: dict[str, Any] = {"maxdepth": 30, "minbucket": 1, "minsplit": 1, "num.impute.selected.cpo": "impute.hist"}
    estimator = EmbeddedEstimator("rpart")
    pruned = estimator(random_state=0, cp=1.0, **settings).fit(features, target)
    grown = estimator(random_state=0, cp=0.001, **settings).fit(features, target)
    assert len(np.unique(pruned.predict(features))) == 1
    assert (grown.predict(features) == target).all()


def test_boosting_with_probabilities_beats_its_first_tree() -> None:
    features, target = _wine()
    one = RealBoostingClassifier(1, 1, 1.0, 0).fit(features, target)
    many = RealBoostingClassifier(1, 50, 1.0, 0).fit(features, target)
    accuracy = [(model.predict(features) == target).mean() for model in (one, many)]
    assert accuracy[0] < 0.75
    assert accuracy[1] > 0.95


def test_boosting_ends_when_a_tree_makes_no_error() -> None:
    features, target = _wine()
    model = RealBoostingClassifier(10, 500, 1.0, 0).fit(features, target)
    assert (model.predict(features) == target).all()
    assert len(model._trees) == 1


def test_boosting_refuses_impossible_values() -> None:
    with pytest.raises(InvalidSettingError, match=r"learning_rate=0\.0"):
        RealBoostingClassifier(1, 1, 0.0, 0)


def test_the_network_learns_and_ends_in_a_funnel() -> None:
    features, target = _wine()
    scaled = (features - features.mean(0)) / features.std(0)
    settings: dict[str, Any] = {"batch_size": 64, "max_dropout": 0.0, "max_units": 64, "momentum": 0.9, "num_layers": 2}
    network = FunnelClassifier(learning_rate=0.05, weight_decay=1e-5, random_state=0, **settings).fit(scaled, target)
    assert (network.predict(scaled) == target).mean() > 0.95
    assert funnel_widths(3, 100, 10) == [100, 70, 40]


def test_the_seed_of_the_network_decides() -> None:
    features, target = _wine()
    settings: dict[str, Any] = {"batch_size": 64, "max_dropout": 0.5, "max_units": 64, "momentum": 0.1, "num_layers": 1}

    def weights(seed: int) -> torch.Tensor:
        made = FunnelClassifier(learning_rate=0.001, weight_decay=0.1, random_state=seed, **settings)
        return next(made.fit(features, target)._network.parameters()).detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UnknownNameError, match="rpart"):
        EmbeddedEstimator("rprat")


def test_a_dataset_that_a_policy_has_seen_is_refused() -> None:
    trained = load_shipped("grpo", "rpart")
    assert trained is not None
    for name in ("digits", "breast_cancer"):
        with pytest.raises(SplitLeakError, match=name):
            require_unseen(trained, (StudyDataset(f"sklearn:{name}", ""),))


def test_all_datasets_are_there() -> None:
    rows = []
    for dataset in DATASETS:
        suite = embedded_suite("rpart", {dataset.task_ref: live_data(dataset)})
        rows.append(float(suite.num_tasks))
        assert suite.meta_features.shape == (1, 21)
    assert len(rows) == 4
    with pytest.raises(UnknownNameError, match="fair"):
        live_data(StudyDataset("statsmodels:fare", ""))


def test_a_study_is_played_kept_and_written(tmp_path: Path) -> None:
    names = ("grpo", "random")
    first = play("rpart", names, 1, tmp_path, budget=3, datasets=DATASETS[:2])
    assert len(first) == 2 * 2 * 3
    again = play("rpart", names, 1, tmp_path, budget=3, datasets=DATASETS[:2])
    # Measured times would differ, had anything been played twice.
    assert first.equals(again)
    folder = tmp_path / "studies"
    facts = {"seeds": 1, "budget": 3, "versions": {}}
    write_results(folder / "data", NAME, {NAME: first}, facts)
    marks = ("answer", "episodes", "results", "scores", "datasets", "made")
    page = "\n".join(f"<!-- sim_to_real_{mark}:begin --><!-- sim_to_real_{mark}:end -->" for mark in marks)
    (folder / f"{NAME}.md").write_text(page, encoding="utf-8")
    write_page(tmp_path)
    written = (folder / f"{NAME}.md").read_text(encoding="utf-8")
    assert "| agent | BtR |" in written
    assert "12 evaluations" in written
    assert "2 pairs: not told apart from `random`" in written


@pytest.mark.parametrize(
    ("better", "said"), [("grpo", "better than `random` (16/0/0"), ("random", "worse than `random` (0/0/16")]
)
def test_pairs_of_episodes_say_who_is_better(better: str, said: str, tmp_path: Path) -> None:
    played = play("rpart", ("random",), 1, tmp_path, budget=3, datasets=DATASETS[:2])
    frames = []
    for agent, seed in itertools.product(("grpo", "random"), range(8)):
        gain = 0.1 * (played["trial"] - 1) * (2 if agent == better else 1) + 0.001 * seed * (played["trial"] > 1)
        frames.append(played.assign(agent=agent, run=agent, seed=seed, incumbent=0.2 + gain, score=0.2 + gain))
    folder = tmp_path / "studies"
    write_results(folder / "data", NAME, {NAME: pd.concat(frames)}, {"seeds": 8, "budget": 3, "versions": {}})
    (folder / f"{NAME}.md").write_text("<!-- sim_to_real_episodes:begin --><!-- sim_to_real_episodes:end -->")
    write_page(tmp_path)
    assert f"After 3 evaluations, 16 pairs: {said}" in (folder / f"{NAME}.md").read_text()


def test_a_portfolio_comes_from_the_surrogate() -> None:
    suite = embedded_suite("rpart", {IRIS.task_ref: live_data(IRIS)})
    made = contender("portfolio", suite, 2, DATASETS[:1])
    training = made.fingerprint["training"]
    assert len(training) > 40
    assert str(IRIS.task_ref) not in training


def test_the_live_source_offers_the_families() -> None:
    suite = load_suite("live", "adaboost", subsample=0.5)
    assert suite.spec.metric == "predictive_accuracy"
    assert suite.num_tasks == 4
    trained = pickle.loads(suite.surrogate._objectives[0]).objective
    assert trained.validation == Validation("holdout", share=0.5, test_share=0.0), "nobody reads a test score"
    with pytest.raises(InvalidSettingError, match="iterations=3"):
        load_suite("live", "adaboost", iterations=3)
