"""Tuning a model of one's own: what is tried, kept, returned and refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition, ForbiddenAndConjunction, ForbiddenEqualsClause
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from agents.tuning import tune
from hpo_gym.errors import EvaluationFailedError, InvalidSettingError, UnknownNameError
from hpo_gym.live import LiveObjective, close_executors, objective


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPO_GYM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    close_executors()


class BreaksWhenDeep(DecisionTreeClassifier):
    """A tree that no depth of more than three is trained of."""

    def fit(self, X: Any, y: Any) -> BreaksWhenDeep:
        if self.max_depth is not None and self.max_depth > 3:
            raise RuntimeError("too deep")
        return super().fit(X, y)


class LogsItsTrainings(DecisionTreeClassifier):
    """A tree that writes a sign to a file whenever it is trained."""

    def __init__(self, *, log: str = "", ccp_alpha: float = 0.0, random_state: Any = None) -> None:
        super().__init__(ccp_alpha=ccp_alpha, random_state=random_state)
        self.log = log

    def fit(self, X: Any, y: Any) -> LogsItsTrainings:
        with open(self.log, "a") as file:
            file.write(".")
        return super().fit(X, y)


def tree(estimator: Any = None, **space: Any) -> LiveObjective:
    X, y = load_iris(return_X_y=True)
    given = ConfigurationSpace(space or {"max_depth": (1, 8), "criterion": ["gini", "entropy"]}, seed=0)
    return objective(estimator or DecisionTreeClassifier(), given, X, y)


def quiet(row: Any) -> None:
    """Say nothing."""


@pytest.mark.parametrize("method", ["grpo_universal", "tpe", "random", "grid", "hyperband"])
def test_a_method_tunes_an_estimator(method, tmp_path):
    rows: list[Any] = []
    found = tune(tree(), method, budget=4, output=tmp_path / "trials.csv", report=rows.append)
    trials = found.trials
    assert len(trials) == len(rows) and trials["trial"].tolist() == list(range(1, len(trials) + 1))
    # Methods that pay for fidelity have more trainings for the same budget.
    assert (len(trials) > 4) == (method == "hyperband") and trials["fidelity"].sum() <= 4.0 + 1e-6
    best = trials[trials["best"]].iloc[-1]
    assert found.metric == "accuracy" and found.value == best["accuracy"]
    assert found.configuration == {"max_depth": best["max_depth"], "criterion": best["criterion"]}
    assert found.value == trials.loc[trials["fidelity"] == 1.0, "accuracy"].max()
    DecisionTreeClassifier(**found.configuration)
    written = pd.read_csv(tmp_path / "trials.csv")
    pd.testing.assert_frame_equal(written, trials, check_dtype=False)


@pytest.mark.parametrize("method", ["grpo_universal", "random"])
def test_it_begins_where_one_is_and_does_the_same_again(method):
    start = {"max_depth": 2, "ccp_alpha": 0.01}
    model = tree(max_depth=(1, 8), ccp_alpha=(0.0, 0.1))
    first, again, other = (tune(model, method, budget=4, start=start, seed=seed, report=quiet) for seed in (0, 0, 1))
    columns = ["max_depth", "ccp_alpha", "accuracy"]
    assert first.trials.loc[0, "max_depth"] == 2 and first.trials.loc[0, "ccp_alpha"] == pytest.approx(0.01)
    assert first.trials[columns].equals(again.trials[columns])
    # The trained policy is nearly sure of its first trials, whatever is drawn.
    assert method != "random" or not first.trials[columns].equals(other.trials[columns])


def test_a_training_that_breaks_is_told_and_never_the_best(capsys):
    found = tune(tree(BreaksWhenDeep()), "random", budget=8, start={"max_depth": 8})
    broken = found.trials["max_depth"] > 3
    assert broken.any() and not broken.all()
    assert (found.trials["status"] == "error").tolist() == broken.tolist()
    assert found.configuration["max_depth"] <= 3 and found.value > 0.5
    printed = capsys.readouterr().out
    assert printed.count("(error)") == broken.sum() and "training 8 of 8: accuracy" in printed


def test_where_no_training_ends_well_there_is_nothing_to_choose(tmp_path):
    output = tmp_path / "trials.csv"
    with pytest.raises(EvaluationFailedError, match=r"None of 3 trainings ended well \(3 error\).*too deep"):
        tune(tree(BreaksWhenDeep(), max_depth=(4, 8)), "random", budget=3, output=output, report=quiet)
    assert pd.read_csv(output)["status"].tolist() == ["error"] * 3


class BreaksWithMuchData(DecisionTreeClassifier):
    """A tree that has no room for more than 60 rows."""

    def fit(self, X: Any, y: Any) -> BreaksWithMuchData:
        if len(X) > 60:
            raise MemoryError("too much data")
        return super().fit(X, y)


def test_a_tuning_that_never_began_leaves_no_file(tmp_path):
    output = tmp_path / "trials.csv"
    with pytest.raises(InvalidSettingError, match="is a regressor"):
        tune(tree(DecisionTreeRegressor()), "random", budget=3, output=output)
    assert not output.exists()
    tune(tree(), "random", budget=3, output=output, report=quiet)


def test_nobody_says_how_many_cheap_trainings_there_will_be(capsys):
    tune(tree(), "hyperband", budget=3)
    printed = capsys.readouterr().out
    assert "training 4: accuracy" in printed and " of 3" not in printed


def test_a_cheap_training_is_the_best_only_where_no_full_one_ends_well():
    found = tune(tree(BreaksWithMuchData()), "hyperband", budget=6, report=quiet)
    trials = found.trials.round({"fidelity": 4})
    assert trials.loc[0, "status"] == "memory" and not trials.loc[0, "best"]
    (best,) = trials[trials["best"]].index[-1:]
    well = trials[trials["status"] == "ok"]
    assert 0.0 < well["fidelity"].max() < 1.0
    assert trials.loc[best, "fidelity"] == well["fidelity"].max()
    assert found.value == well.loc[well["fidelity"] == well["fidelity"].max(), "accuracy"].max() > 0.5
    assert found.configuration["max_depth"] == trials.loc[best, "max_depth"]
    whole = tune(tree(), "hyperband", budget=6, report=quiet).trials
    assert (whole.loc[whole["best"], "fidelity"] == 1.0).all() and (whole["fidelity"] < 1.0).any()


class Counts(DecisionTreeClassifier):
    """A tree that breaks where it is trained on what is forbidden."""

    def fit(self, X: Any, y: Any) -> Counts:
        if self.splitter == "random" and self.criterion == "entropy":
            raise RuntimeError("trained on what is forbidden")
        return super().fit(X, y)


def test_what_the_space_forbids_is_not_trained(monkeypatch):
    space = ConfigurationSpace({"splitter": ["best", "random"], "criterion": ["gini", "entropy"]}, seed=0)
    both = [ForbiddenEqualsClause(space["splitter"], "random"), ForbiddenEqualsClause(space["criterion"], "entropy")]
    space.add(ForbiddenAndConjunction(*both))
    X, y = load_iris(return_X_y=True)
    model = objective(Counts(), space, X, y)
    for method in ("random", "tpe"):
        assert (tune(model, method, budget=12, report=quiet).trials["status"] == "ok").all()
    # A method that asks for it all the same.
    monkeypatch.setattr("agents.optuna_space._MOST_FORBIDDEN", 0)
    found = tune(model, "tpe", budget=12, report=quiet).trials
    wrong = (found["splitter"] == "random") & (found["criterion"] == "entropy")
    assert wrong.any() and (found["status"] == wrong.map({True: "forbidden", False: "ok"})).all()
    assert not found.loc[wrong, "best"].any() and (found.loc[wrong, ["accuracy", "seconds"]] == 0.0).all(axis=None)


def test_inactive_hyperparameters_are_missing():
    space = ConfigurationSpace({"splitter": ["best", "random"], "max_depth": (1, 4)}, seed=0)
    space.add(EqualsCondition(space["max_depth"], space["splitter"], "random"))
    X, y = load_iris(return_X_y=True)
    found = tune(objective(DecisionTreeClassifier(), space, X, y), "random", budget=6, report=quiet)
    missing = found.trials["max_depth"].isna()
    assert missing.any() and missing.tolist() == (found.trials["splitter"] == "best").tolist()


@pytest.mark.parametrize(
    ("method", "arguments", "error", "says"),
    [
        ("tp", {}, UnknownNameError, "Did you mean 'tpe'"),
        ("portfolio", {}, InvalidSettingError, r"other datasets of the same search space.*'grpo_universal'"),
        ("dqn", {}, InvalidSettingError, "needs a trained policy"),
        ("random", {"budget": 1}, InvalidSettingError, "budget=1 .*>= 2"),
        ("random", {"output": "/nowhere/at/all.csv"}, InvalidSettingError, "no folder /nowhere/at"),
        ("random", {"start": {"depth": 3}}, UnknownNameError, "max_depth"),
        ("random", {"settings": {"speed": 3}}, UnknownNameError, "speed"),
        ("grpo_universal", {"settings": {"width": 3}}, InvalidSettingError, "is as it was trained"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(method, arguments, error, says, tmp_path):
    output = tmp_path / "trials.csv"
    with pytest.raises(error, match=says):
        tune(tree(), method, **({"output": output} | arguments))
    assert not output.exists()


def test_a_function_is_no_objective_of_tune():
    with pytest.raises(InvalidSettingError, match="live_suite"):
        tune(lambda configuration, share, seed: {"accuracy": 1.0}, "random")  # type: ignore[arg-type, misc]


def test_no_file_is_overwritten(tmp_path):
    output = tmp_path / "trials.csv"
    output.write_text("mine")
    with pytest.raises(InvalidSettingError, match="is there already"):
        tune(tree(), "random", budget=3, output=output)
    assert output.read_text() == "mine"


def test_a_tuning_that_was_killed_trains_only_what_is_left(tmp_path):
    X, y = load_iris(return_X_y=True)
    log = tmp_path / "log.txt"
    model = objective(LogsItsTrainings(log=str(log)), ConfigurationSpace({"ccp_alpha": (0.0, 0.1)}, seed=0), X, y)

    def killed(row: Any) -> None:
        if row["trial"] == 3:
            raise KeyboardInterrupt

    kept = tmp_path / "trainings.sqlite"
    with pytest.raises(KeyboardInterrupt):
        tune(model, "random", budget=6, trainings=kept, report=killed)
    assert len(log.read_text()) == 3
    found = tune(model, "random", budget=6, trainings=kept, report=quiet)
    assert len(log.read_text()) == 6 and len(found.trials) == 6
    assert tune(model, "random", budget=6, trainings=kept, report=quiet).trials.equals(found.trials)
