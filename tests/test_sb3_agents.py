"""The agents of Stable-Baselines3: the contract of all trained agents, legal actions, plain checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import QUICK

from agents.base import Interface
from agents.sb3_a2c import SB3A2C, SB3A2CConfig
from agents.sb3_dqn import SB3DQN, SB3DQNConfig
from agents.sb3_ppo import SB3PPO, SB3PPOConfig
from agents.sb3_qrdqn import SB3QRDQN, SB3QRDQNConfig
from agents.sb3_sac import SB3SAC, SB3SACConfig
from agents.sb3_td3 import SB3TD3, SB3TD3Config
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.testing.agent_case import assert_same
from hpo_gym.testing.tiny import TINY_SUITES

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install -e '.[sb3]'")
pytest.importorskip("sb3_contrib", reason="needs sb3-contrib: pip install -e '.[sb3]'")

CLASSES: dict[str, tuple[type[Any], type[Any]]] = {
    agent.name: (agent, config)
    for agent, config in (
        (SB3DQN, SB3DQNConfig),
        (SB3QRDQN, SB3QRDQNConfig),
        (SB3PPO, SB3PPOConfig),
        (SB3A2C, SB3A2CConfig),
        (SB3SAC, SB3SACConfig),
        (SB3TD3, SB3TD3Config),
    )
}


@pytest.fixture(params=sorted(CLASSES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def bowl(name: str, num_envs: int, **changes: Any) -> HPOVectorEnv:
    """Return a bowl whose centre the meta-features tell, with the actions an agent prefers."""
    settings = {"action": CLASSES[name][0].action_kinds[0], "budget": 12, "start": "random", "reward_scale": "range"}
    return HPOVectorEnv(num_envs, source=TINY_SUITES["quadratic"](), split="all", **(settings | changes))


def make(name: str, env: HPOVectorEnv, seed: int = 0, **changes: Any) -> Any:
    agent, config = CLASSES[name]
    return agent(config(**(QUICK[name] | changes)), Interface.of(env), seed)


DISCRETE = ("sb3_a2c", "sb3_dqn", "sb3_ppo", "sb3_qrdqn")


@pytest.mark.parametrize("name", DISCRETE, indirect=True)
def test_training_takes_legal_actions_only_and_stores_their_masks(name):
    env = bowl(name, 16, budget=30, start="default")
    env.reset(seed=0)
    agent, step, masks, rows = make(name, env), env.step, [], []

    def watched(actions: Any) -> Any:
        mask = env.observe()[1]["action_mask"]
        masks.append(mask)
        rows.append(mask.gather(1, torch.as_tensor(actions)[:, None]).all())
        return step(actions)

    env.step = watched
    # Past learning_starts, and in the middle of a rollout.
    agent.train(env, lambda steps, logs, info: steps >= 16 * 53)
    assert len(rows) == 53 and all(rows)
    assert any(not bool(mask.all()) for mask in masks), "no action was ever illegal"
    stored = torch.from_numpy(agent._buffer.observations[agent._buffer.pos - 1, :, -4:])
    assert torch.equal(stored > 0.5, masks[-1])


def test_the_networks_of_a_value_see_no_mask_and_no_hidden_meta_features():
    env = bowl("sb3_dqn", 4)
    width = env.single_observation_space.shape[0]
    for shown in (True, False):
        agent = make("sb3_dqn", env, meta_features=shown)
        hidden = 0 if shown else env.suite.meta_features.shape[1]
        assert agent.model.q_net.q_net[0].in_features == width - hidden
    observation, info = env.reset(seed=0)
    values = agent.values(agent.seen(observation, info["action_mask"]))
    altered = observation.clone()
    altered[:, : env.suite.meta_features.shape[1]] += 1.0
    assert torch.equal(agent.values(agent.seen(altered, info["action_mask"])), values)
    mask = info["action_mask"].clone()
    mask[:, 2] = False
    masked = agent.values(agent.seen(observation, mask))
    assert torch.equal(masked[:, [0, 1, 3]], values[:, [0, 1, 3]])
    assert bool((masked[:, 2] < -1e6).all())


def test_illegal_actions_have_no_probability_and_no_gradient():
    env = bowl("sb3_ppo", 4)
    agent = make("sb3_ppo", env)
    observation, info = env.reset(seed=0)
    mask = torch.ones_like(info["action_mask"])
    mask[:, 1] = False
    policy = agent.model.policy
    seen = agent.seen(observation, mask)
    chances = policy.get_distribution(seen).distribution.probs
    assert bool((chances[:, 1] == 0.0).all()) and bool((chances[:, [0, 2, 3]] > 0.0).all())
    _, logarithms, entropy = policy.evaluate_actions(seen, torch.zeros(4, dtype=torch.int64))
    assert torch.allclose(logarithms, chances[:, 0].log())
    assert bool(torch.isfinite(entropy).all()) and float(entropy.detach().max()) <= np.log(3) + 1e-5
    (logarithms.sum() + entropy.sum()).backward()
    gradient = policy.action_net.weight.grad
    assert bool((gradient[1] == 0.0).all()) and bool(gradient[0].any())


def test_the_target_is_the_best_legal_value():
    agent = make("sb3_dqn", bowl("sb3_dqn", 4))
    network = agent.model.q_net_target
    with torch.no_grad():
        network.q_net[-1].weight.zero_()
        network.q_net[-1].bias.copy_(torch.tensor([1.0, 4.0, 3.0, 2.0]))
    mask = torch.tensor([[True, True, True, True], [True, False, False, True]])
    seen = agent.seen(torch.zeros(2, agent.interface.observation_width), mask)
    assert network(seen).max(1).values.tolist() == [4.0, 2.0]


@pytest.mark.parametrize("name", ["sb3_a2c", "sb3_ppo"], indirect=True)
@pytest.mark.parametrize("deterministic", [True, False])
def test_policy_gradients_take_continuous_actions_too(name, deterministic):
    env = bowl(name, 16, action="continuous")
    agent = make(name, env, deterministic=deterministic)
    observation, _ = env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: steps >= 16 * 40)
    actions = [agent.act(observation, None, generator(seed, "test")) for seed in range(2)]
    for action in actions:
        env.engine.check_action(action, 16)
    assert torch.equal(*actions) == deterministic


@pytest.mark.parametrize("name", ["sb3_sac", "sb3_td3"], indirect=True)
def test_a_grid_is_refused(name):
    with pytest.raises(InvalidSettingError, match=r"env\.action=continuous"):
        make(name, bowl(name, 4, action="grid_step"))


def test_the_evaluation_setting_decides_how_random_the_policy_is():
    setting = {"sb3_dqn": "evaluation_epsilon", "sb3_qrdqn": "evaluation_epsilon", "sb3_td3": "evaluation_noise"}
    for name in CLASSES:
        env = bowl(name, 64)
        observation, info = env.reset(seed=0)
        quiet, loud = (
            ({setting[name]: value} for value in (0.0, 0.5))
            if name in setting
            else ({"deterministic": value} for value in (True, False))
        )
        for changes, alike in ((quiet, True), (loud, False)):
            agent = make(name, env, **changes)
            draws = (generator(seed, "test") for seed in range(2))
            assert torch.equal(*(agent.act(observation, info.get("action_mask"), one) for one in draws)) == alike


def test_global_generators_are_left_as_they_were(name):
    env = bowl(name, 32)
    env.reset(seed=0)
    agent = make(name, env)
    torch.manual_seed(4)
    np.random.seed(4)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    drawn: list[float] = []

    def callback(steps: int, logs: Any, info: Any) -> bool:
        drawn.append(np.random.random())
        return steps >= 1_000

    agent.train(env, callback)
    assert torch.equal(before[0], torch.get_rng_state())
    np.random.seed(4)
    assert drawn == [np.random.random() for _ in drawn], "what the callback draws is not its own stream"


def test_updates_are_counted_in_transitions():
    updates = {}
    for num_envs in (8, 64):
        env = bowl("sb3_dqn", num_envs)
        env.reset(seed=0)
        agent = make("sb3_dqn", env, total_steps=2_048)
        agent.train(env, lambda steps, logs, info: False)
        updates[num_envs] = agent.model._n_updates
    assert updates[8] == updates[64] == (2_048 - 500) // 16


def test_a_rollout_that_never_ends_is_refused():
    env = bowl("sb3_ppo", 32)
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"n_steps=8 .*32 environments.*total_steps to 256"):
        make("sb3_ppo", env, total_steps=255).train(env, lambda steps, logs, info: False)


def test_the_logs_are_sb3s_and_go_on_after_a_resumption():
    env, seen = bowl("sb3_ppo", 32), []
    env.reset(seed=0)
    agent = make("sb3_ppo", env)
    agent.train(env, lambda steps, logs, info: bool(seen.append(dict(logs))) or steps >= 32 * 12)
    assert seen[6] == {} and {"loss", "approx_kl", "explained_variance"} <= set(seen[7])
    resumed = make("sb3_ppo", env)
    resumed.load_state_dict(agent.state_dict())
    resumed.train(env, lambda steps, logs, info: bool(seen.append(dict(logs))) or True)
    assert seen[-1] == seen[-2]


def test_a_checkpoint_of_another_number_of_environments_is_refused(name):
    env, other = bowl(name, 32), bowl(name, 8)
    env.reset(seed=0)
    other.reset(seed=0)
    agent, resumed = make(name, env), make(name, env)
    agent.train(env, lambda steps, logs, info: steps >= 640)
    resumed.load_state_dict(agent.state_dict())
    with pytest.raises(InvalidSettingError, match=r"num_envs=32.* has 8.*env\.num_envs"):
        resumed.train(other, lambda steps, logs, info: False)
    resumed.train(env, lambda steps, logs, info: True)
    assert resumed.steps == 672


def test_another_space_is_refused(name):
    kind = CLASSES[name][0].action_kinds[0]
    other = HPOVectorEnv(4, source=TINY_SUITES["conditional"](), split="all", action=kind)
    other.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="hyperparameters"):
        make(name, bowl(name, 4)).train(other, lambda steps, logs, info: False)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sb3_dqn", "tau", 0.0),
        ("sb3_dqn", "gamma", 1.5),
        ("sb3_dqn", "train_freq", 0),
        ("sb3_dqn", "learning_starts", QUICK["sb3_dqn"]["total_steps"]),
        ("sb3_dqn", "net_arch", (64, 0)),
        ("sb3_dqn", "exploration_fraction", 0.0),
        ("sb3_dqn", "max_grad_norm", float("nan")),
        ("sb3_qrdqn", "n_quantiles", 0),
        ("sb3_ppo", "batch_size", 1),
        ("sb3_ppo", "target_kl", 0.0),
        ("sb3_ppo", "clip_range", 0.0),
        ("sb3_a2c", "rms_prop_eps", 0.0),
        ("sb3_a2c", "gae_lambda", -0.1),
        ("sb3_sac", "ent_coef", -1.0),
        ("sb3_sac", "ent_coef_init", 0.0),
        ("sb3_td3", "policy_delay", 0),
        ("sb3_td3", "action_noise", -0.1),
    ],
    indirect=["name"],
)
def test_an_impossible_setting_is_named(name, field, value):
    with pytest.raises(InvalidSettingError, match=field):
        CLASSES[name][1](**QUICK[name] | {field: value})


def test_configurations_are_frozen(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLASSES[name][1]().anything = 1


def policy_digest(folder: Path) -> str:
    """A hash of the numbers of the kept policy."""
    state = torch.load(folder / "policy.pt", weights_only=True)["state"]["policy"]
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode() + state[key].numpy().tobytes())
    return content.hexdigest()


def experiment(name: str, runs: Path, **changes: Any) -> Any:
    from agents.configuration import ExperimentConfig
    from agents.environments import EnvironmentConfig

    action = CLASSES[name][0].action_kinds[0]
    env = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", num_envs=16, budget=10, action=action)
    # Validation plays on the validation datasets while training goes on; it is to leave no trace.
    settings = {"agent": CLASSES[name][1](**QUICK[name] | {"total_steps": 1_600}), "env": env, "name": "run"}
    settings |= {"checkpoint_every": 500, "log_every": 500, "validate_every": 800, "validation_seeds": 1}
    return ExperimentConfig(**settings | {"runs": str(runs), "tensorboard": False} | changes)


def test_a_stopped_run_resumes_to_the_same_bits(name, tmp_path):
    from agents.experiment import load_trained, resume_training, run_training

    whole = run_training(experiment(name, tmp_path / "whole"))
    # 57 vector steps: in the middle of a rollout, and past the first validation.
    first = run_training(experiment(name, tmp_path / "parts"), stop_after=16 * 57)
    assert not first.finished
    second = resume_training(first.path)
    assert policy_digest(second.path) == policy_digest(whole.path)
    assert (second.path / "result.json").read_text() == (whole.path / "result.json").read_text()
    assert_same(load_trained(whole.path).agent, load_trained(second.path).agent)


def test_a_checkpoint_of_another_space_is_refused(tmp_path):
    import yaml

    from agents.experiment import resume_training, run_training

    folder = run_training(experiment("sb3_dqn", tmp_path), stop_after=800)
    values = yaml.safe_load((folder.path / "config.yaml").read_text())
    values["env"]["levels"] = 7
    (folder.path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidSettingError, match="levels"):
        resume_training(folder.path)


def test_a_trained_agent_can_be_sent_to_another_process(name):
    import pickle

    env = bowl(name, 32)
    observation, info = env.reset(seed=0)
    agent = make(name, env)
    agent.train(env, lambda steps, logs, info: steps >= 640)
    sent = pickle.loads(pickle.dumps(agent))
    mask = info.get("action_mask")
    actions = [one.act(observation, mask, generator(0, "test")) for one in (agent, sent)]
    assert torch.equal(*actions)


def test_an_agent_without_its_package_says_how_to_get_it(monkeypatch):
    import sys

    env = bowl("sb3_qrdqn", 4)
    # What Python itself does where a module may not be imported.
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(InvalidSettingError, match=r"agent=sb3_qrdqn .*pip install '\.\[sb3\]'"):
        make("sb3_qrdqn", env)


def test_the_agents_do_not_import_their_library_before_they_are_made():
    import subprocess
    import sys

    modules = sorted(CLASSES)
    script = f"import sys, importlib; [importlib.import_module('agents.' + m) for m in {modules!r}]; "
    script += "assert not {'stable_baselines3', 'sb3_contrib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_setting_that_nothing_reads_is_refused():
    with pytest.raises(InvalidSettingError, match=r"target_entropy=-9\.0 has no effect with ent_coef=0\.1"):
        CLASSES["sb3_sac"][1](ent_coef=0.1, target_entropy=-9.0)
    with pytest.raises(InvalidSettingError, match=r"rms_prop_eps=0\.3 has no effect with use_rms_prop=false"):
        CLASSES["sb3_a2c"][1](use_rms_prop=False, rms_prop_eps=0.3)
