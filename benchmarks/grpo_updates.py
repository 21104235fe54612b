"""Whether ``torch.compile`` and bfloat16 make the gradient steps of the GRPO-Transformer faster.

Each form takes the gradient steps of one update on the same episodes, in turns with the others; the first three, in
which shapes that differ are compiled, are timed by themselves. ``--write-docs`` renews the table in
docs/performance.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from _timing import machine, markdown_table, show, write_between

# It makes the zoo, which is not installed, importable.
from grpo import PAGE, environment, policy

from agents.group_relative_learner import GroupRelativeLearner
from agents.grpo import GRPO, GRPOConfig
from agents.processes import Processes
from hpo_gym.seeding import generator

TITLES = ("gradient steps in", "device", "first three updates, s", "an update, ms, median", "quartiles", "of float32")
FORMS = {"float32": ("float32", False), "float32, compiled": ("float32", True), "bfloat16": ("bfloat16", False)}


def played(num_envs: int, budget: int, device: str) -> tuple[GRPO, tuple[Any, ...]]:
    """Return an agent and what it learns from after its first episodes."""
    env = environment(num_envs, budget, device)
    agent = policy(env, GRPOConfig(proposals=1, total_steps=10**9))
    given: list[tuple[Any, ...]] = []

    class Noting(GroupRelativeLearner):
        """Keeps what it was to learn from."""

        def learn(self, *episodes: Any, **_: Any) -> dict[str, Any]:
            given.append(episodes[:2])
            return {}

    agent.learner = Noting(agent.config, agent.network, agent.device)
    env.reset(seed=0)
    agent.train(env, lambda steps, logs, info: bool(given))
    return agent, given[0]


def update(agent: GRPO, episodes: tuple[Any, ...], precision: str, compiled: bool) -> Callable[[], float]:
    """Return what makes the gradient steps of one update, and returns their seconds."""
    network = copy.deepcopy(agent.network)
    if compiled:
        network.read = torch.compile(network.read)  # type: ignore[method-assign]
    learner = GroupRelativeLearner(replace(agent.config, precision=precision), network, agent.device)
    draws = generator(0, "benchmark", device=agent.device)

    def run() -> float:
        begun = time.perf_counter()
        learner.learn(*episodes, draws, steps=0, environment=0, processes=Processes())
        if agent.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    return run


def rows(device: str, num_envs: int, budget: int, turns: int) -> list[list[str]]:
    """Return the rows of a device."""
    agent, episodes = played(num_envs, budget, device)
    runs = {name: update(agent, episodes, *form) for name, form in FORMS.items()}
    first = {name: sum(run() for _ in range(3)) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            found[name].append(run())
    table = []
    for name, seconds in found.items():
        low, _, high = statistics.quantiles([1e3 * value for value in seconds], n=4, method="inclusive")
        ratio = statistics.median(a / b for a, b in zip(found["float32"], seconds, strict=True))
        median = 1e3 * statistics.median(seconds)
        table.append(
            [name, device, f"{first[name]:.1f}", f"{median:,.0f}", f"{low:,.0f} .. {high:,.0f}", f"{ratio:.2f}"]
        )
    return table


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short episodes, two turns")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    num_envs, budget, turns = (64, 10, 2) if options.quick else (256, 30, 5)
    table = rows("cpu", num_envs, budget, turns)
    if torch.cuda.is_available():
        table += rows("cuda", 4096, 100, turns)
    show(TITLES, table, "Gradient steps; a ratio above 1 is faster than float32")
    if options.write_docs:
        write_between(PAGE, "updates", f"{machine()}.\n\n{markdown_table(TITLES, table, 2)}")


if __name__ == "__main__":
    main()
