"""Sequential Policy Gradient as an agent of live environments, and models of one's own by name."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spg_suites import bowl_suite

from agents.base import Interface
from agents.contenders import as_contender
from agents.environments import make_environment, preset
from agents.problem import Problem
from agents.spg_networks import CNN, MLP, SPGNetworkClassifier, cnn, mlp
from agents.spg_search import SPGSearch, SPGSearchConfig
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import HPOGymError, InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import evaluate
from hpo_gym.live import STATUSES, LiveObjective, data_source, own_model
from hpo_gym.live.executors import close_executors
from hpo_gym.live.fit import Fit
from hpo_gym.live.torch_models import NetworkClassifier
from hpo_gym.sources import load_suite
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.spaces.clauses import Atom
from hpo_gym.testing.tiny import quadratic_suite

pytest.importorskip("sklearn")

SHAPE = {"depth": 1, "width": 16}
BLOCKS = {"blocks": 1, "channels": 4}
LEARNING = {"batch_size": 16, "weight_decay": 1e-4, "learning_rate": 3e-3}


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    close_executors()


def an_agent(env: HPOVectorEnv, **settings: Any) -> SPGSearch:
    agent = SPGSearch(SPGSearchConfig(**settings), Interface.of(env), 0)
    agent.prepare(Problem.of(env))
    return agent


def play(env: HPOVectorEnv, agent: SPGSearch, steps: int) -> torch.Tensor:
    observation, _ = env.reset(seed=3)
    draws, chosen = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        action = agent.act(observation, None, draws)
        chosen.append(action)
        observation = env.step(action)[0]
    return torch.stack(chosen, 1)


@pytest.mark.parametrize(("training", "value"), [("spg", 0.75), ("plain", 0.25)])
def test_the_default_first_then_random_ones_all_of_one_training(training: str, value: float) -> None:
    env = HPOVectorEnv(8, source=bowl_suite(), split="all", budget=8, action="continuous", observation="history")
    chosen = play(env, an_agent(env, training=training), 6)
    assert (chosen[:, :, 0] == value).all()
    default = float(env.suite.space.default()[1])
    # The start is the default, which is plain: as the control it was tried already.
    first = chosen[:, 0, 1] == pytest.approx(default)
    assert bool(first) == (training == "spg")
    drawn = chosen[:, 1:, 1].flatten()
    assert len(drawn.unique()) == drawn.numel() and 0.3 < float(drawn.mean()) < 0.7


def test_a_training_is_tried_with_what_a_space_of_one_s_own_allows_of_it() -> None:
    # The default's learning rate is 0.01: where SPG may not have it, no trial does.
    for highest, defaults in ((0.1, 1), (0.005, 0)):
        suite = bowl_suite(forbidden=((Atom(0, "in", (1.0,)), Atom(1, "gt", (highest,))),))
        env = HPOVectorEnv(8, source=suite, split="all", budget=8, action="continuous", observation="history")
        chosen = play(env, an_agent(env), 6)
        tried = chosen.flatten(0, 1)
        assert (chosen[:, :, 0] == 0.75).all() and suite.space.legal(tried).all()
        is_default = chosen[:, :, 1] == float(suite.space.default()[1])
        assert is_default.sum(1).eq(defaults).all() and len(tried.unique(dim=0)) == 48 - 7 * defaults
    env = HPOVectorEnv(
        1,
        source=bowl_suite(conditions={0: ((Atom(1, "gt", (0.01,)),),)}),
        split="all",
        budget=8,
        action="continuous",
        observation="history",
    )
    with pytest.raises(InvalidSettingError, match="'training' of this search space is conditional"):
        an_agent(env)


def test_it_needs_a_space_that_says_how_a_network_is_trained() -> None:
    env = HPOVectorEnv(1, source=quadratic_suite(), split="all", action="continuous", observation="history")
    with pytest.raises(
        InvalidSettingError, match=r"'training', which is no hyperparameter.*learning_rate.*agents/spg\.md"
    ):
        an_agent(env)
    with pytest.raises(UnknownNameError, match="Did you mean 'spg'"):
        SPGSearchConfig(training="spgs")


def digits(image: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Fit]:
    from sklearn.datasets import load_digits

    features, target = load_digits(return_X_y=True)
    shape = (1, 8, 8) if image else None
    return features[:600] / 16.0, target[:600], Fit("classification", 600, 64, 10, iterations=6, seed=1, image=shape)


@pytest.mark.parametrize(("make", "shape"), [(mlp, SHAPE), (cnn, BLOCKS)])
def test_networks_learn_either_way_and_keep_nothing_of_the_replicas(make: Any, shape: dict[str, int]) -> None:
    features, target, fit = digits(make is cnn)
    plain = make(fit, "plain", dropout=0.1, **shape, **LEARNING)
    spg, again = (make(fit, "spg", **shape, **LEARNING) for _ in range(2))
    assert type(plain) is NetworkClassifier and type(spg) is SPGNetworkClassifier
    for network in (plain, spg, again):
        network.fit(features, target)
    errors = [float((network.predict(features) != target).mean()) for network in (plain, spg, again)]
    assert max(errors) < 0.2 and errors[1] == errors[2]
    states = [network._network.state_dict() for network in (plain, spg, again)]
    assert list(states[0]) == list(states[1]), "a trained network is that of its shape and nothing more"
    assert not any(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert not any(module._forward_pre_hooks for module in spg._network.modules())


def test_a_training_that_is_none_is_refused() -> None:
    *_, fit = digits(False)
    with pytest.raises(UnknownNameError, match="Did you mean 'spg'"):
        mlp(fit, "SPG", **SHAPE, **LEARNING)
    with pytest.raises(InvalidSettingError, match=r"dropout=0\.5 with training='spg'"):
        mlp(fit, "spg", dropout=0.5, **SHAPE, **LEARNING)


@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_dropout_is_a_hyperparameter_of_plain_trainings_only(model: Any) -> None:
    space = SearchSpace(model.spec)
    names = list(space.names)
    u = space.default().expand(2, -1).clone()
    u[1, names.index("training")] = 0.75
    active = space.active(space.snap(u))
    assert active[:, names.index("dropout")].tolist() == [True, False] and active.sum() == 2 * len(names) - 1


def test_spg_plays_a_live_environment_of_networks() -> None:
    options = {"datasets": ["sklearn:iris", "sklearn:wine"], "workers": 2, "iterations": 6}
    env = make_environment(preset("live_spg"), num_envs=1, source_options=options, observation="history", budget=3)
    assert env.suite.name == "agents.spg_networks:MLP" and env.suite.surrogate.identity_is_stable
    records = evaluate(as_contender(an_agent(env)), env.suite, split="all", seeds=1, budget=3)
    frame = records.frame
    assert (
        frame["status"].eq(STATUSES.index("ok")).all()
        and frame["score"].gt(0.5).all()
        and frame["seconds"].gt(0.0).all()
    )
    # SPG's trainings differ from the start's, which is the same configuration trained plainly.
    assert (frame.groupby("task", observed=True)["seconds"].nunique() == 3).all()


OWN = """
from sklearn.tree import DecisionTreeClassifier
from ConfigSpace import ConfigurationSpace
from hpo_gym.live import own_model

TREE = own_model(DecisionTreeClassifier(), ConfigurationSpace({"max_depth": (1, 8)}), name="tree")
DEPTH = 3
"""
BROKEN = """
import {module}
WIDTH = 1 / 0
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "mine_for_tests.py").write_text(textwrap.dedent(OWN))
    for name, imported in (("broken", "sys"), ("lacking", "no_such_module")):
        (tmp_path / f"{name}_for_tests.py").write_text(BROKEN.format(module=imported))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_for_tests"
    sys.modules.pop("mine_for_tests", None)


def test_a_model_of_one_s_own_is_played_by_its_name(module: str) -> None:
    import gymnasium as gym

    options = {"datasets": ["sklearn:iris"], "workers": 1}
    env = gym.make("HPO-LiveContinuous-v0", space=f"{module}:TREE", source_options=options, split="all", budget=3)
    _, info = env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([0.9], dtype=np.float32))
    assert info["status"] == 0 and info["seconds"] > 0.0
    assert env.unwrapped.suite.name == f"{module}:TREE"  # type: ignore[attr-defined]
    env.close()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("{}:TREES", UnknownNameError, "Did you mean 'TREE'"),
        ("{}:DEPTH", InvalidSettingError, "is a int, and must be what hpo_gym.live.own_model returns.*has: TREE"),
        ("no_such_module:TREE", InvalidSettingError, "cannot be imported.*ModuleNotFoundError.*PYTHONPATH"),
        ("broken_for_tests:TREE", InvalidSettingError, "cannot be imported.*ZeroDivisionError.*Mend it"),
        ("lacking_for_tests:TREE", InvalidSettingError, "No module named 'no_such_module'.*Mend it"),
        ("no module:TREE", InvalidSettingError, "must be <module>:<name>"),
        ("knnn", UnknownNameError, "Did you mean 'knn'.*<module>:<name>"),
    ],
)
def test_a_name_that_is_none_is_told(module: str, name: str, error: type[HPOGymError], says: str) -> None:
    with pytest.raises(error, match=says):
        load_suite("live", name.format(module))


def test_what_a_network_cannot_learn_is_refused_before_it_is_trained() -> None:
    with pytest.raises(InvalidSettingError, match="spg_mlp is a classifier, and sklearn:diabetes is for regression"):
        load_suite("live", "agents.spg_networks:MLP", datasets=["sklearn:diabetes"])
    with pytest.raises(InvalidSettingError, match="spg_cnn needs images, and sklearn:iris is none"):
        load_suite("live", "agents.spg_networks:CNN", datasets=["sklearn:iris"])
    assert [str(task) for task in load_suite("live", "agents.spg_networks:CNN").tasks] == ["custom:sklearn:digits"]


def seen(fit: Fit, random_state: int, power: float) -> Any:
    return (fit, random_state, power)


def test_a_function_that_asks_for_fit_is_given_it() -> None:
    spec = SpaceSpec((Column("power", "float", 0.0, 1.0, default=0.5),), {})
    model = own_model(seen, spec, iterations=7, task="classification")
    fit = Fit("classification", 8, 2, 2, iterations=3, seed=5)
    assert model.build({"power": 0.5}, fit) == (fit, 5, 0.5) and model.iterations == 7
    assert LiveObjective(model, data_source("sklearn:iris")).fidelity_kind == "iterations"
    from sklearn.tree import DecisionTreeRegressor

    with pytest.raises(InvalidSettingError, match="says that it is for regression"):
        own_model(DecisionTreeRegressor(), SpaceSpec((), {}), task="classification")
    with pytest.raises(InvalidSettingError, match="images='no' must be True or False"):
        own_model(seen, spec, images="no")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'regression'"):
        own_model(seen, spec, task="regresion")  # type: ignore[arg-type]


def test_datasets_may_say_what_is_learned_of_them(tmp_path: Path) -> None:
    rows = "id,grade,price,size\n" + "".join(f"{i},{i % 3},{i * 1.5},{i % 7}\n" for i in range(60))
    file = tmp_path / "rows.csv"
    file.write_text(rows)
    told = {"name": str(file), "target": "grade", "task": "classification", "drop": ["id"]}
    suite = load_suite("live", "knn", datasets=[told, "sklearn:iris"], workers=1)
    u = suite.space.default()[None]
    evaluation = suite.evaluate(torch.tensor([0]), u, suite.space.active(u))
    assert suite.num_tasks == 2 and 0.0 <= float(evaluation.score) <= 1.0
    for wrong, error, says in (
        ([{**told, "traget": "grade"}], UnknownNameError, "Did you mean 'target'"),
        ([{"target": "grade"}], InvalidSettingError, "has no name"),
        ([{**told, "target": "grades"}], UnknownNameError, "Did you mean 'grade'"),
        ([3], InvalidSettingError, "must be a list of names"),
        ({"name": "rows.csv"}, InvalidSettingError, "must be a list of names"),
    ):
        with pytest.raises(error, match=says):
            load_suite("live", "knn", datasets=wrong)
