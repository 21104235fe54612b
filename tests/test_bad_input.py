"""Bad input: each gets the right error, with the value, what is allowed and the remedy."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hpo_gym
from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.errors import (
    HPOGymError,
    InvalidActionError,
    InvalidSettingError,
    UnknownNameError,
    require_integer,
)
from hpo_gym.testing.tiny import conditional_suite, fidelity_suite, quadratic_suite

# Arguments, the error, and what its message must hold: the value, what is allowed, the remedy.
ARGUMENTS: list[tuple[dict[str, Any], type[HPOGymError], list[str]]] = [
    ({"source": "bundeld"}, UnknownNameError, ["'bundeld'", "Did you mean 'bundled'", "yahpo"]),
    ({"space": "bbob-17d"}, UnknownNameError, ["'bbob-17d'", "Did you mean 'bbob-", "bbob-2d"]),
    ({"split": "tets"}, UnknownNameError, ["'tets'", "Did you mean 'test'", "train"]),
    ({"protocol": "per_space"}, UnknownNameError, ["'per_space'", "Did you mean 'per-space'"]),
    ({"metric": "gpa"}, UnknownNameError, ["'gpa'", "Did you mean 'gap'", "value"]),
    ({"bugdet": 5}, UnknownNameError, ["'bugdet'", "Did you mean 'budget'", "split"]),
    ({"action": "discrete"}, UnknownNameError, ["'discrete'", "grid_step", "continuous"]),
    ({"observation": "falt"}, UnknownNameError, ["'falt'", "Did you mean 'flat'"]),
    ({"reward": "improvment"}, UnknownNameError, ["'improvment'", "Did you mean 'improvement'"]),
    ({"reward_scale": "rang"}, UnknownNameError, ["'rang'", "Did you mean 'range'"]),
    ({"start": "defualt"}, UnknownNameError, ["'defualt'", "Did you mean 'default'"]),
    ({"render_mode": "rgb"}, UnknownNameError, ["'rgb'", "Did you mean 'rgb_array'"]),
    ({"device": "gpu"}, UnknownNameError, ["'gpu'", "cuda"]),
    ({"source_options": {"sede": 1}}, UnknownNameError, ["'sede'", "Did you mean 'seed'"]),
    ({"source": "yahpo", "source_options": {"x": 1}}, UnknownNameError, ["'x'", "Allowed: restriction."]),
    ({"source_options": 5}, InvalidSettingError, ["source_options=5", "map names"]),
    ({"source_options": {1: 2}}, InvalidSettingError, ["source_options={1: 2}", "map names"]),
    *(
        ({"source_options": {name: "v"}}, InvalidSettingError, [f"'{name}'", f"environment argument, {name}='v'"])
        for name in ("protocol", "metric", "data_dir", "space", "source")
    ),
    ({"budget": 0}, InvalidSettingError, ["budget=0", ">= 1"]),
    ({"budget": -3}, InvalidSettingError, ["budget=-3", ">= 1"]),
    ({"budget": 2.5}, InvalidSettingError, ["budget=2.5", "integer"]),
    ({"budget": 10**9}, InvalidSettingError, ["budget=1000000000", "at most 10,000,000"]),
    ({"budget": 9_000_000, "observation": "history"}, InvalidSettingError, ["budget=9000000", "observation='flat'"]),
    ({"device": None}, UnknownNameError, ["device None", "cuda"]),
    ({"data_dir": 3}, InvalidSettingError, ["data_dir=3", "path"]),
    ({"source_options": {"sed": 2}}, UnknownNameError, ["'sed'", "Did you mean 'seed'"]),
    ({"budget": True}, InvalidSettingError, ["budget=True", "integer"]),
    ({"budget": "50"}, InvalidSettingError, ["budget='50'", "integer"]),
    ({"budget": 1}, InvalidSettingError, ["budget=1", "budget >= 2", "start='none'"]),
    ({"levels": 1}, InvalidSettingError, ["levels=1", ">= 2"]),
    ({"levels": 10**9}, InvalidSettingError, ["levels=1000000000", "at most 10,000", "action='continuous'"]),
    ({"source_options": {"instances": 2.5}}, InvalidSettingError, ["instances=2.5", "integer >= 1"]),
    ({"space": "mixed-3d", "source_options": {"instances": "2"}}, InvalidSettingError, ["instances='2'", ">= 1"]),
    ({"source_options": {"functions": "sphere"}}, InvalidSettingError, ["functions='sphere'", "['sphere']"]),
    ({"action": "grid_choice", "levels": 50}, InvalidSettingError, ["levels=50", "fewer"]),
    ({"min_fidelity": 0.0}, InvalidSettingError, ["min_fidelity=0.0", "(0, 1]"]),
    ({"min_fidelity": float("nan")}, InvalidSettingError, ["min_fidelity=nan", "(0, 1]"]),
    ({"min_fidelity": "a"}, InvalidSettingError, ["min_fidelity='a'", "number in (0, 1]"]),
    ({"min_fidelity": 0.5}, InvalidSettingError, ["min_fidelity=0.5", "no effect", "multi_fidelity=True"]),
    ({"min_fidelity": True}, InvalidSettingError, ["min_fidelity=True", "number in (0, 1]"]),
    ({"multi_fidelity": "yes"}, InvalidSettingError, ["multi_fidelity='yes'", "True or False"]),
    ({"terminate_on_repeat": 3}, InvalidSettingError, ["terminate_on_repeat=3", "True or False"]),
    ({"start": "fixed", "start_configuration": 3}, InvalidSettingError, ["start_configuration=3", "dictionary"]),
    ({"action": 3}, UnknownNameError, ["action 3", "grid_step"]),
    ({"reward": np.zeros(2)}, UnknownNameError, ["reward", "improvement"]),
    ({"multi_fidelity": True}, InvalidSettingError, ["multi_fidelity", "lcbench"]),
    ({"start": "none"}, InvalidSettingError, ["start='none'", "continuous"]),
    ({"start": "fixed"}, InvalidSettingError, ["start='fixed'", "start_configuration"]),
    (
        {"start": "fixed", "start_configuration": {"x9": 0.0}},
        UnknownNameError,
        ["'x9'", "Did you mean 'x"],
    ),
    (
        {"reward": "log_regret", "reward_scale": "range"},
        InvalidSettingError,
        ["log_regret", "reward_scale='none'"],
    ),
    ({"data_dir": "somewhere"}, InvalidSettingError, ["data_dir=None"]),
]


@pytest.mark.parametrize(("arguments", "error", "parts"), ARGUMENTS, ids=[str(row[0])[:60] for row in ARGUMENTS])
@pytest.mark.parametrize("make", [gym.make, gym.make_vec], ids=["make", "make_vec"])
def test_wrong_argument(make: Any, arguments: dict[str, Any], error: type[HPOGymError], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        make("HPO-Synthetic-v0", **arguments)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_unavailable_cuda_names_the_remedy() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InvalidSettingError, match=r"device='cpu'"):
        gym.make("HPO-Synthetic-v0", device="cuda")


def test_errors_are_ordinary_value_errors() -> None:
    with pytest.raises(ValueError, match="Did you mean"):
        gym.make("HPO-Synthetic-v0", split="trian")
    assert issubclass(InvalidActionError, ValueError)


# Action kind, wrong action, and what the message must hold.
ACTIONS: list[tuple[str, Any, list[str]]] = [
    ("grid_step", 4, ["0 .. 3", "got 4"]),
    ("grid_step", -1, ["0 .. 3", "got -1"]),
    ("grid_step", 1.0, ["integer", "float"]),
    ("grid_step", float("nan"), ["integer", "float"]),
    ("grid_step", True, ["integer", "bool"]),
    ("grid_step", np.zeros(2, int), ["shape", "[1, 2]"]),
    ("grid_step", "1", ["number"]),
    ("grid_step", None, ["number", "action_space.sample()"]),
    ("continuous", np.full(2, np.nan, np.float32), ["NaN", "[0, 1]"]),
    ("continuous", np.array([0.5, 1.2], np.float32), ["[0, 1]", "1.2", "Clip"]),
    ("continuous", np.array([-0.5, 0.5], np.float32), ["[0, 1]", "-0.5", "rescale"]),
    ("continuous", np.array([0.5, np.inf], np.float32), ["[0, 1]", "inf"]),
    ("continuous", np.full(3, 0.5, np.float32), ["[1, 2]", "[1, 3]"]),
    ("continuous", np.zeros(2, int), ["float", "int64"]),
    ("continuous", 0.5, ["[1, 2]", "[1]"]),
    ("continuous", [[0.1], [0.2, 0.3]], ["[[0.1], [0.2, 0.3]]", "action_space.sample()"]),
]


@pytest.mark.parametrize(("kind", "action", "parts"), ACTIONS)
def test_wrong_action(kind: Any, action: Any, parts: list[str]) -> None:
    env = HPOEnv(source=quadratic_suite(), split="all", action=kind)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError) as caught:
        env.step(action)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "action",
    [
        torch.tensor([0, 1, 4]),
        torch.tensor([0, 1]),
        torch.tensor([[0, 1, 2]]),
        torch.tensor([0.0, 1.0, 2.0]),
    ],
    ids=["range", "short", "shape", "float"],
)
def test_wrong_action_of_a_batch(action: torch.Tensor) -> None:
    envs = HPOVectorEnv(3, source=quadratic_suite(), split="all")
    envs.reset(seed=0)
    with pytest.raises(InvalidActionError, match=r"0 \.\. 3"):
        envs.step(action)


@pytest.mark.parametrize("task", [31, [31], np.array([31]), [True]])
def test_a_bare_number_is_no_task(task: Any) -> None:
    envs = HPOVectorEnv(1, source=quadratic_suite(), split="all")
    with pytest.raises(InvalidSettingError, match=r"options\['task'\]=.*a bare number may be"):
        envs.reset(seed=0, options={"task": task})


def test_a_position_outside_is_named() -> None:
    envs = HPOVectorEnv(1, source=quadratic_suite(), split="all")
    with pytest.raises(InvalidSettingError, match=r"options\['task_index'\]=99 must lie in 0 \.\. "):
        envs.reset(seed=0, options={"task_index": 99})


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True])
def test_wrong_seed(seed: Any) -> None:
    envs = HPOVectorEnv(2, source=quadratic_suite(), split="all")
    with pytest.raises(ValueError, match=f"non-negative integer, got {seed!r}"):
        envs.reset(seed=seed)


def test_forbidden_start_configuration() -> None:
    start = {"kernel": "linear", "shrinking": "yes"}
    with pytest.raises(InvalidSettingError, match="forbidden"):
        HPOEnv(source=conditional_suite(), split="all", start="fixed", start_configuration=start)


def test_unknown_choice_of_a_start_configuration() -> None:
    with pytest.raises(UnknownNameError, match=r"'rbff'.*Did you mean 'rbf'"):
        HPOEnv(
            source=conditional_suite(),
            split="all",
            start="fixed",
            start_configuration={"kernel": "rbff"},
        )


def test_regret_without_a_known_range() -> None:
    suite = fidelity_suite()
    suite.known_range = None
    for arguments in ({"reward": "log_regret"}, {"reward_scale": "range"}):
        with pytest.raises(InvalidSettingError, match="find_optima"):
            HPOEnv(source=suite, split="all", **arguments)
    _, info = HPOEnv(source=suite, split="all").reset(seed=0)
    assert "regret" not in info


def test_unknown_task_kind_and_attribute() -> None:
    with pytest.raises(UnknownNameError, match=r"'openml'.*openml-dataset"):
        hpo_gym.TaskRef("openml", "31")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no attribute 'HPOenv'"):
        hpo_gym.HPOenv  # noqa: B018


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_render_before_reset(mode: str) -> None:
    arguments: dict[str, Any] = {"source": quadratic_suite(), "split": "all", "render_mode": mode}
    for env in (HPOEnv(**arguments), HPOVectorEnv(2, **arguments)):
        with pytest.raises(gym.error.ResetNeeded, match=r"env\.reset\(\) before env\.render\(\)"):
            env.render()
        env.reset(seed=0)
        assert env.render() is not None


@pytest.mark.parametrize("make", [HPOEnv, HPOVectorEnv])
def test_a_window_is_what_gymnasium_opens(make: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"'human'.*Allowed: ansi, rgb_array\..*gym\.make\("):
        make(source=quadratic_suite(), split="all", render_mode="human")


def test_an_integer_of_numpy_is_told_apart_from_one_that_is_too_small() -> None:
    with pytest.raises(InvalidSettingError, match=r"budget=np.int64\(20\) must be an integer >= 2 of Python"):
        require_integer("budget", np.int64(20), 2)
    with pytest.raises(InvalidSettingError, match="budget=1 must be an integer >= 2: why"):
        require_integer("budget", 1, 2, "why")
