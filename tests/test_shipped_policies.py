"""Trained policies as files that travel with the repository: written, read, refused, and found by evaluate.py."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from agents import comparison, shipped_policies
from agents.comparison import ComparisonConfig, compare, prepare
from agents.comparison import shipped_policies as shipped_policies_of
from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig
from agents.experiment import ExperimentConfig, load_trained, run_training
from agents.grpo import GRPOConfig
from agents.shipped_policies import load_shipped, ship, shipped_names
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, SplitLeakError
from hpo_gym.seeding import generator
from hpo_gym.sources import load_suite
from hpo_gym.spaces import SearchSpace

SPACE = "bbob-2d"
ENV = EnvironmentConfig(id="HPO-Synthetic-v0", space=SPACE, num_envs=16, budget=6)
# As small as can be, with an outcome model: networks large enough that some weights are halved.
AGENT = GRPOConfig(
    total_steps=320,
    group_size=8,
    epochs=1,
    minibatches=1,
    width=32,
    layers=1,
    heads=2,
    bins=8,
    proposals=8,
    candidates=8,
    neighbours=8,
    rounds=1,
    samples=60,
    hidden=32,
    surface_steps=40,
    kernel_steps=3,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    config = ExperimentConfig(
        agent=AGENT,
        env=ENV,
        name="run",
        runs=str(tmp_path_factory.mktemp("runs")),
        validate_every=1_000,
        validation_seeds=1,
        tensorboard=False,
    )
    return run_training(config).path


@pytest.fixture(scope="module")
def policies(run, tmp_path_factory) -> Path:
    """Return a folder with that policy."""
    folder = tmp_path_factory.mktemp("policies")
    assert ship(run, folder) == folder / f"grpo-{SPACE}.safetensors"
    return folder


@pytest.fixture
def shipped(policies, monkeypatch) -> Path:
    """Let that folder be the one that travels with the repository."""
    monkeypatch.setattr(shipped_policies, "FOLDER", policies)
    monkeypatch.setattr(comparison, "load_fitting", functools.partial(shipped_policies.load_fitting, folder=policies))
    return policies


def tensors_of(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            found |= tensors_of(value, f"{prefix}{name}/")
        elif isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
    return found


def test_a_shipped_policy_is_the_trained_one_in_half_precision(run, policies):
    trained, found = load_trained(run), load_shipped("grpo", SPACE, folder=policies)
    assert found is not None
    assert found.config == trained.config and found.agent.interface == trained.agent.interface
    assert found.training_datasets == trained.training_datasets != ()
    assert found.validation_datasets == trained.validation_datasets != ()
    assert found.folder.name == f"grpo-{SPACE}"
    mine, theirs = (tensors_of(one.agent.state_dict(resumable=False)) for one in (trained, found))
    assert mine.keys() == theirs.keys() and any("outcome" in name for name in mine)
    halved = 0
    for name, value in mine.items():
        rounded = value.half().float() if value.dtype == torch.float32 and value.numel() >= 512 else value
        halved += rounded is not value
        assert torch.equal(theirs[name], rounded), name
    assert 0 < halved < len(mine)
    size, full = (policies / f"grpo-{SPACE}.safetensors").stat().st_size, (run / "policy.pt").stat().st_size
    assert size < 0.75 * full


def test_a_shipped_policy_acts_like_the_trained_one(run, policies):
    agents = [load_trained(run).agent, *(load_shipped("grpo", SPACE, folder=policies) for _ in range(2))]
    actors = [getattr(one, "agent", one) for one in agents]
    env = HPOVectorEnv(
        64, source="synthetic", space=SPACE, split="test", action="continuous", observation="history", budget=6
    )
    observation, _ = env.reset(seed=0)
    actions = [one.act(observation, None, generator(0, "test")) for one in actors]
    assert torch.equal(actions[1], actions[2]), "two copies of one file differ"
    # Half precision may tip the balance between two candidates that are as good.
    assert float((actions[0] - actions[1]).abs().amax(1).median()) < 0.05
    first = [one.act(observation, None, generator(0, "test"), explore=True) for one in actors]
    assert float(((first[0] - first[1]).abs().amax(1) < 0.05).float().mean()) > 0.9


def test_there_is_no_policy_where_nobody_made_one(policies, tmp_path, shipped):
    assert load_shipped("grpo", "bbob-3d", folder=policies) is None
    assert load_shipped("dqn", SPACE, folder=policies) is None
    assert shipped_names() == [f"grpo-{SPACE}"]
    with pytest.raises(DataMissingError):
        ship(tmp_path / "nowhere", tmp_path)


def metadata_of(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return dict(header["__metadata__"])


def rewritten(source: Path, folder: Path, tensors: Mapping[str, Tensor] | None = None, **metadata: str) -> Path:
    """Write a policy anew with other metadata or tensors."""
    path = folder / source.name
    described = metadata_of(source) | metadata
    kept = {name: value for name, value in described.items() if value}
    path.write_bytes(save(dict(tensors or load(source.read_bytes())), metadata=kept))
    return path


def broken(source: Path, folder: Path, how: str) -> None:
    raw = source.read_bytes()
    path = folder / source.name
    if how == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no header":
        path.write_bytes(b"\xff" * 8 + raw[8:])
    elif how == "no metadata":
        path.write_bytes(save(load(raw)))
    elif how == "a tensor is missing":
        tensors = load(raw)
        rewritten(source, folder, {name: tensors[name] for name in sorted(tensors)[1:]})
    elif how == "a tensor of another shape":
        rewritten(source, folder, {name: value.flatten()[:1] for name, value in load(raw).items()})
    elif how == "not JSON":
        rewritten(source, folder, config="{")
    elif how == "no such agent":
        config = json.loads(metadata_of(source)["config"])
        config["agent"] = {"name": "grpoo"}
        rewritten(source, folder, config=json.dumps(config))
    elif how == "an impossible setting":
        rewritten(source, folder, config=metadata_of(source)["config"].replace('"bins": 8', '"bins": 1'))
    elif how == "no content":
        rewritten(source, folder, content="")


@pytest.mark.parametrize(
    "how",
    [
        *("truncated", "empty", "no header", "no metadata", "a tensor is missing", "a tensor of another shape"),
        *("not JSON", "no such agent", "an impossible setting", "no content"),
    ],
)
def test_a_corrupt_file_is_named(policies, tmp_path, how):
    source = policies / f"grpo-{SPACE}.safetensors"
    broken(source, tmp_path, how)
    assert (tmp_path / source.name).read_bytes() != source.read_bytes()
    with pytest.raises(DataIntegrityError, match=rf"(?s)grpo-{SPACE}\.safetensors cannot be read .*git checkout"):
        load_shipped("grpo", SPACE, folder=tmp_path)


def test_a_comparison_finds_the_policy_that_ships(shipped):
    config = ComparisonConfig(agents=("random", "grpo"), env=ENV, split="test", seeds=1, budget=6)
    records = compare(config)
    assert records.agents == ("grpo", "random")
    frame = records.frame
    assert set(frame[frame["agent"] == "grpo"]["trial"]) == {1, 2, 3, 4, 5, 6}
    assert set(frame[frame["agent"] == "grpo"]["run"]) == {f"grpo-{SPACE}"}


def test_the_same_space_under_another_name_is_played_by_its_policy():
    embedded = load_suite("bundled", "rpart")
    scenario = load_suite("bundled", "rpart")
    scenario.spec = dataclasses.replace(scenario.spec, source="yahpo", name="rbv2_rpart")
    found = [shipped_policies_of(["grpo", "random"], [], suite) for suite in (embedded, scenario)]
    assert [policy.folder.name for policies in found for policy in policies] == ["grpo-rpart"] * 2
    for changes in ({"metric": "auc"}, {"name": "rbv2_svm"}):
        scenario.spec = dataclasses.replace(embedded.spec, **{"name": "rbv2_rpart", **changes})
        assert shipped_policies_of(["grpo"], [], scenario) == []
    # As many hyperparameters of the same names, of which one reaches further.
    scenario = load_suite("bundled", "rpart")
    column, *others = scenario.space.spec.columns
    wider = dataclasses.replace(column, upper=2.0 * column.upper)
    scenario.space = SearchSpace(dataclasses.replace(scenario.space.spec, columns=(wider, *others)))
    scenario.spec = dataclasses.replace(scenario.spec, name="rbv2_rpart")
    assert shipped_policies_of(["grpo"], [], scenario) == []


def test_a_run_that_is_given_takes_the_place_of_what_ships(shipped, run):
    both = prepare(ComparisonConfig(agents=("random", "grpo"), runs=(str(run),), env=ENV, seeds=1, budget=6))
    assert [one.run for one in both.contenders if one.name == "grpo"] == ["run"]
    # Nobody asked for it: it does not take part.
    alone = prepare(ComparisonConfig(env=ENV, seeds=1, budget=6))
    assert {one.name for one in alone.contenders} == {"random"}


def test_a_shipped_policy_is_not_scored_on_what_it_learned_from(shipped):
    for split in ("train", "val"):
        with pytest.raises(SplitLeakError, match=r"allow_leak=true"):
            prepare(ComparisonConfig(agents=("random", "grpo"), env=ENV, split=split, seeds=1, budget=6))


def test_where_there_is_none_it_says_what_there_is(shipped):
    env = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-3d", budget=6)
    there_is = rf"'grpo' .*'bbob-3d'.*there are: grpo-{SPACE}.*train\.py agent=grpo"
    with pytest.raises(InvalidSettingError, match=there_is):
        prepare(ComparisonConfig(agents=("random", "grpo"), env=env, seeds=1, budget=6))
    with pytest.raises(InvalidSettingError, match=rf"'dqn' .*{SPACE}.*train\.py agent=dqn"):
        prepare(ComparisonConfig(agents=("random", "dqn"), env=ENV, seeds=1, budget=6))


def test_the_command_ships_runs(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped_policies.ship, "__defaults__", (tmp_path,))
    monkeypatch.setattr("sys.argv", ["shipped_policies", str(run)])
    assert shipped_policies.main() == 0
    assert f"grpo-{SPACE}.safetensors" in capsys.readouterr().out
    assert load_shipped("grpo", SPACE, folder=tmp_path) is not None
    monkeypatch.setattr("sys.argv", ["shipped_policies", str(tmp_path / "nowhere")])
    assert shipped_policies.main() == 2
    assert "no run" in capsys.readouterr().err


def test_any_trained_agent_can_be_shipped(tmp_path):
    small = DQNConfig(total_steps=400, hidden=(32,), learning_starts=200, batch_size=32, buffer_size=300)
    config = ExperimentConfig(
        agent=small, env=ENV, name="dqn", runs=str(tmp_path / "runs"), validate_every=0, tensorboard=False
    )
    path = run_training(config).path
    ship(path, tmp_path)
    found = load_shipped("dqn", SPACE, folder=tmp_path)
    assert found is not None and found.config.agent == small and found.validation_datasets == ()
