"""Environment steps per second of DQN, learning included: ours against Stable-Baselines3's, in turns.

Both play the same task suite with the same network, optimiser, learning rate and discount, and replay the same number
of transitions per environment step. Stable-Baselines3 steps its own vector environment (``DummyVecEnv``) of scalar
environments, and takes minibatches of its default size; ours steps one batch of environments and takes fewer, larger
minibatches. ``--write-docs`` renews the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from _timing import Pairs, machine, markdown_table, show, write_between

# The zoo is not installed: it is in the checkout, beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hpo_gym  # noqa: F401, registers the environments
from agents.base import Interface
from agents.dqn import DQN, DQNConfig
from hpo_gym.envs import HPOVectorEnv

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
TITLES = (
    "network",
    "replayed per step",
    "environments",
    "device",
    "ours, steps/s",
    "SB3, steps/s",
    "ratio, median",
    "quartiles",
)


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Args:
        hidden: Widths of the network's layers.
        replayed: Transitions replayed per environment step.
        num_envs: Environments of ours.
        batch_size: Transitions per minibatch of ours.
        device: Where ours computes.
    """

    hidden: tuple[int, ...]
    replayed: int
    num_envs: int
    batch_size: int
    device: str = "cpu"


#: Stable-Baselines3's network and replay ratio for DQN (batches of 32 every 4 steps), and our own default network.
SETTINGS = (
    Setting((64, 64), 8, 2048, 4096),
    Setting((64, 64), 4, 2048, 4096),
    Setting((256, 256), 4, 2048, 4096),
)
CUDA_SETTINGS = (
    Setting((64, 64), 8, 16_384, 65_536, "cuda"),
    Setting((64, 64), 1, 65_536, 65_536, "cuda"),
    Setting((256, 256), 4, 65_536, 65_536, "cuda"),
)
SPACE, BUDGET = "rpart", 50
SB3_ENVS, SB3_BATCH = 8, 32
BUFFER, LEARNING_RATE, DISCOUNT = 100_000, 5e-4, 0.98


class Ours:
    """Our DQN, which goes on training when called.

    Args:
        setting: What is compared.
        steps: Environment steps per call.
    """

    def __init__(self, setting: Setting, steps: int) -> None:
        self._env = HPOVectorEnv(
            setting.num_envs, source="bundled", space=SPACE, budget=BUDGET, reward_scale="range", device=setting.device
        )
        self._env.reset(seed=0)
        config = DQNConfig(
            total_steps=10**9,
            hidden=setting.hidden,
            learning_rate=LEARNING_RATE,
            discount=DISCOUNT,
            buffer_size=BUFFER,
            learning_starts=setting.num_envs,
            batch_size=setting.batch_size,
            transitions_per_update=setting.batch_size // setting.replayed,
            weight_decay=0.0,
        )
        self._agent = DQN(config, Interface.of(self._env), 0, setting.device)
        self._steps = steps

    def __call__(self) -> int:
        """Train on; return the environment steps made."""
        before = self._agent.steps
        self._agent.train(self._env, lambda steps, logs, info: steps - before >= self._steps)
        if self._agent.device.type == "cuda":
            torch.cuda.synchronize()
        return self._agent.steps - before


class Theirs:
    """Stable-Baselines3's DQN with our network, which goes on training when called.

    Args:
        setting: What is compared.
        steps: Environment steps per call.
    """

    def __init__(self, setting: Setting, steps: int) -> None:
        import stable_baselines3
        from stable_baselines3.common.vec_env import DummyVecEnv

        def make() -> gym.Env[Any, Any]:
            return gym.make("HPO-OpenML-v0", space=SPACE, budget=BUDGET, reward_scale="range", disable_env_checker=True)

        self._model = stable_baselines3.DQN(
            "MlpPolicy",
            DummyVecEnv([make] * SB3_ENVS),
            learning_rate=LEARNING_RATE,
            gamma=DISCOUNT,
            buffer_size=BUFFER,
            learning_starts=SB3_ENVS,
            batch_size=SB3_BATCH,
            train_freq=1,
            gradient_steps=setting.replayed * SB3_ENVS // SB3_BATCH,
            target_update_interval=1_000,
            seed=0,
            device="cpu",
            policy_kwargs={"net_arch": list(setting.hidden)},
        )
        self._use_our_network(setting)
        self._steps = steps
        self._model.learn(SB3_ENVS * 4)

    def _use_our_network(self, setting: Setting) -> None:
        """Replace the layers, so that layer normalisation is not what makes the difference."""
        from agents.networks import perceptron

        policy = self._model.policy
        for net in (policy.q_net, policy.q_net_target):
            width, actions = net.q_net[0].in_features, net.q_net[-1].out_features
            net.q_net = torch.nn.Sequential(
                perceptron(width, setting.hidden), torch.nn.Linear(setting.hidden[-1], actions)
            )
        policy.q_net_target.load_state_dict(policy.q_net.state_dict())
        policy.optimizer = torch.optim.Adam(policy.q_net.parameters(), LEARNING_RATE)

    def __call__(self) -> int:
        """Train on; return the environment steps made."""
        before = self._model.num_timesteps
        self._model.learn(self._steps, reset_num_timesteps=False)
        return int(self._model.num_timesteps - before)


def measure(setting: Setting, turns: int, seconds: float) -> list[str]:
    """Return one row of the table."""
    programs = (Ours(setting, setting.num_envs), Theirs(setting, SB3_ENVS * 8))
    for program in programs:
        # The first updates pay for what is made once.
        for _ in range(3):
            program()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for program, into in zip(programs, taken, strict=True):
            begun, steps = time.perf_counter(), 0
            while time.perf_counter() - begun < seconds:
                steps += program()
            into.append((time.perf_counter() - begun) / steps)
    pairs = Pairs(tuple(taken[1]), tuple(taken[0]))
    low, high = pairs.quartiles
    ours, theirs = (1.0 / statistics.median(times) for times in taken)
    network = " x ".join(map(str, setting.hidden))
    speeds = [f"{ours:,.0f}", f"{theirs:,.0f}", f"{pairs.ratio:.1f}", f"{low:.1f} to {high:.1f}"]
    return [network, f"{setting.replayed}", f"{setting.num_envs:,}", setting.device, *speeds]


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short turn of the first setting")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    turns, seconds = (1, 2.0) if options.quick else (7, 5.0)
    chosen = SETTINGS[:1] if options.quick else SETTINGS
    if torch.cuda.is_available():
        chosen += CUDA_SETTINGS[:1] if options.quick else CUDA_SETTINGS
    rows = [measure(setting, turns, seconds) for setting in chosen]
    show(TITLES, rows, "DQN on rpart, learning included")
    if options.write_docs:
        write_between(PAGE, "dqn", f"{machine()}.\n\n{markdown_table(TITLES, rows, 1)}")


if __name__ == "__main__":
    main()
