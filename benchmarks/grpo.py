"""What the GRPO-Transformer costs: steps of training rollouts, how they grow with the trials, and one suggestion.

Rollouts are timed trial by trial: the policy reads the last token through its cache of keys and values, draws a
configuration, and the environment evaluates it. A cost that is linear in the number of trials per step (attention over
the cache) shows as a straight line; without a cache every step would read the whole history again. ``--write-docs``
renews the tables in docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from _timing import machine, markdown_table, show, write_between
from torch import Tensor

# The zoo is not installed: it is in the checkout, beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.base import Interface
from agents.grpo import GRPO, GRPOConfig
from agents.problem import Problem, TrainingTasks
from agents.transfer_model import TransferModel
from agents.trial_tokens import TrialHistory
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
SPACE = "rpart"
TITLES = ("heads", "parameters", "environments", "device", "steps/s, whole episode")
SUGGESTION_TITLES = ("one user's suggestion", "trial", "ms, median", "ms, 95th percentile")


@dataclass(frozen=True)
class Setting:
    """What is timed.

    Args:
        autoregressive: Whether hyperparameters are drawn one after the other.
        num_envs: Episodes side by side, ``B``.
        budget: Trials ``T`` of an episode.
        device: Where policy and environment compute.
    """

    autoregressive: bool
    num_envs: int
    budget: int
    device: str = "cpu"


SETTINGS = (Setting(False, 1024, 100), Setting(True, 1024, 100))
CUDA_SETTINGS = (Setting(False, 4096, 100, "cuda"), Setting(True, 4096, 100, "cuda"))
QUICK = (Setting(True, 128, 30),)
SHOWN = (10, 25, 50, 100)


def environment(num_envs: int, budget: int, device: str) -> HPOVectorEnv:
    """Return the environment of a training."""
    return HPOVectorEnv(
        num_envs,
        source="bundled",
        space=SPACE,
        budget=budget,
        action="continuous",
        observation="history",
        reward="log_regret",
        device=device,
    )


def policy(env: HPOVectorEnv, config: GRPOConfig) -> GRPO:
    """Return a policy as it is before its training; what it costs does not depend on what it learned."""
    return GRPO(config, Interface.of(env), 0, env.device)


class Timeline:
    """Seconds of each step of an episode, of policy and environment together.

    Notes the time whenever a training has made a step of all its environments, and ends it before the episode does, so
    that no gradient step is timed.

    Args:
        agent: What is trained.
        env: What it plays.
    """

    def __init__(self, agent: GRPO, env: HPOVectorEnv) -> None:
        self._agent, self._env = agent, env

    def episode(self) -> list[float]:
        """Return the seconds of the steps of one episode but its last one, the first trial of which is step 2."""
        env, agent = self._env, self._agent
        env.reset(seed=0)
        times = [self._now()]

        def callback(steps: int, logs: object, info: object) -> bool:
            times.append(self._now())
            # The last step of an episode is followed by gradient steps.
            return len(times) == env.engine.settings.budget - 1

        agent.train(env, callback)
        return [after - before for before, after in itertools.pairwise(times)]

    def _now(self) -> float:
        if self._agent.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def rollouts(setting: Setting, repetitions: int) -> tuple[list[str], list[float]]:
    """Return one row of the table, and the median seconds of each step."""
    config = GRPOConfig(autoregressive=setting.autoregressive, proposals=1, total_steps=10**9)
    episodes = []
    env = environment(setting.num_envs, setting.budget, setting.device)
    for _ in range(repetitions + 1):
        agent = policy(env, config)
        episodes.append(Timeline(agent, env).episode())
    # The first one pays for what is made once.
    steps = [statistics.median(column) for column in zip(*episodes[1:], strict=True)]
    count = sum(parameter.numel() for parameter in agent.network.parameters())
    speed = setting.num_envs * len(steps) / sum(steps)
    heads = "one after the other" if setting.autoregressive else "all at once"
    return [heads, f"{count:,}", f"{setting.num_envs:,}", setting.device, f"{speed:,.0f}"], steps


def growth(steps: Sequence[float], shown: Sequence[int]) -> list[str]:
    """Return milliseconds per step near the trials ``shown``, and how well a straight line describes all steps.

    Args:
        steps: Seconds of each step; the first one makes trial 2.
        shown: Trials.
    """
    near = []
    for trial in shown:
        around = steps[max(0, trial - 6) : trial + 2]
        near.append(f"{1e3 * statistics.median(around):.1f}")
    trial = torch.arange(2, len(steps) + 2, dtype=torch.float64)
    seconds = torch.tensor(steps, dtype=torch.float64)
    powers = torch.stack([torch.ones_like(trial), trial, trial.square()], 1)
    shares = []
    for degree in (1, 2):
        chosen = powers[:, : degree + 1]
        fitted = chosen @ torch.linalg.lstsq(chosen, seconds[:, None]).solution
        left = (seconds - fitted[:, 0]).square().sum() / (seconds - seconds.mean()).square().sum()
        shares.append(f"{1.0 - float(left):.3f}")
    return [*near, *shares]


def suggestions(trials: int, calls: int) -> list[list[str]]:
    """Return what one user waits for at the last trial, with the policy alone and with an outcome model."""
    rows = []
    for title, proposals in (("policy alone", 1), ("with the outcome model", GRPOConfig().proposals)):
        env = environment(1, trials + 1, "cpu")
        agent = policy(env, GRPOConfig(proposals=proposals))
        if proposals > 1:
            # As large as that of a trained policy; how well it was fitted does not change its cost.
            small = GRPOConfig(samples=400, surface_steps=5, kernel_steps=2)
            tasks = TrainingTasks(env.suite, env.engine.tasks)
            model = TransferModel.learn(Problem.of(env), tasks, small, 0, agent.device)
            agent.load_state_dict(agent.state_dict(resumable=False) | {"outcome": model.state_dict()})
        taken = [_seconds_of_a_suggestion(agent, env, trials, seed) for seed in range(calls + 1)][1:]
        high = sorted(taken)[min(len(taken) - 1, round(0.95 * len(taken)))]
        rows.append([title, f"{trials}", f"{1e3 * statistics.median(taken):.1f}", f"{1e3 * high:.1f}"])
    return rows


def _seconds_of_a_suggestion(agent: GRPO, env: HPOVectorEnv, trials: int, seed: int) -> float:
    """Return what the suggestion after ``trials`` trials takes; all but the last of them are read already."""
    observation, _ = env.reset(seed=seed)
    draws, dimension = generator(seed, "benchmark"), env.suite.space.dimension
    for trial in range(1, trials):
        if trial == trials - 1:
            agent.act(observation, None, draws)
        action: Tensor = torch.rand(1, dimension, generator=draws)
        observation = env.step(action)[0]
    assert int(TrialHistory.of(observation).count) == trials  # type: ignore[arg-type]  # a history
    begun = time.perf_counter()
    agent.act(observation, None, draws)
    return time.perf_counter() - begun


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few environments and trials, once")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the tables of {PAGE.name}")
    options = parser.parse_args()
    repetitions, calls = (1, 3) if options.quick else (5, 30)
    chosen = QUICK if options.quick else SETTINGS
    if torch.cuda.is_available() and not options.quick:
        chosen += CUDA_SETTINGS
    shown = [trial for trial in SHOWN if trial <= chosen[0].budget]
    titles = (*TITLES, *(f"ms at trial {trial}" for trial in shown), "R2, linear", "R2, quadratic")
    rows = []
    for setting in chosen:
        row, steps = rollouts(setting, repetitions)
        rows.append(row + growth(steps, shown))
    show(titles, rows, f"Rollouts on {SPACE}, policy and environment")
    single = suggestions(20 if options.quick else 100, calls)
    show(SUGGESTION_TITLES, single, f"A suggestion on {SPACE}")
    if options.write_docs:
        tables = (markdown_table(titles, rows, 1), markdown_table(SUGGESTION_TITLES, single, 1))
        write_between(PAGE, "grpo", "\n\n".join([f"{machine()}.", *tables]))


if __name__ == "__main__":
    main()
