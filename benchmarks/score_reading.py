"""Do the shipped GRPO policies read the scores of an episode? ``python benchmarks/score_reading.py [--write-docs]``.

Each plays the test datasets as they are, with the scores that it is shown shuffled among the trials, and with all of
them equal; alone, and with its outcome model. A policy that is not hurt is a distribution that does not depend on what
happens. ``--write-docs`` renews the table in docs/agents/grpo.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from _timing import markdown_table, show, write_between
from torch import Tensor

# The zoo is not installed: it is in the checkout, beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.base import TrainableAgent
from agents.grpo import GRPO
from agents.problem import Problem
from agents.shipped_policies import load_shipped
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.seeding import generator
from hpo_gym.sources.bundle_files import bundled_spaces

PAGE = Path(__file__).resolve().parents[1] / "docs" / "agents" / "grpo.md"
SHOWN = ("as they are", "shuffled", "all equal")
BUDGET, EPISODES = 30, 120
# An outcome model takes fifty times as long as the policy alone.
REPETITIONS = {"the policy alone": 4, "with its outcome model": 1}
TITLES = ("space", "plays", "episodes", *(f"regret at {BUDGET}, scores {how}" for how in SHOWN), "hurt by shuffling")


def changed(observation: dict[str, Tensor], how: str, draws: torch.Generator) -> dict[str, Tensor]:
    """Return a history with the scores that the policy is shown."""
    done = observation["mask"] > 0.5
    if how == "as they are":
        return observation
    if how == "all equal":
        return observation | {"score": torch.where(done, 0.5, 0.0)}
    order = torch.rand(done.shape, generator=draws).masked_fill(~done, torch.inf).argsort(1)
    return observation | {"score": observation["score"].gather(1, order)}


def final_regret(agent: TrainableAgent, space: str, how: str, seed: int) -> Tensor:
    """Return the regret of episodes on test datasets, drawn and begun alike whatever is shown, float32 ``[B]``."""
    env = HPOVectorEnv(
        EPISODES, "bundled", space, split="test", budget=BUDGET, action="continuous", observation="history"
    )
    agent.prepare(Problem.of(env))
    observation, _ = env.reset(seed=seed)
    draws, order = generator(seed, "score reading"), generator(seed, "order")
    while True:
        action = agent.act(changed(observation, how, order), None, draws)  # type: ignore[arg-type]  # a history
        observation, _, ended, _, info = env.step(action)
        if bool(ended.all()):
            found: Tensor = info["final_info"]["regret"]
            return found


def alone(agent: GRPO) -> GRPO:
    """Return the same policy without its outcome model."""
    single = GRPO(agent.config.without_outcome_model(), agent.interface, agent.seed)
    single.load_state_dict(agent.state_dict(resumable=False), resumable=False)
    return single


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for space in bundled_spaces():
        trained = load_shipped("grpo", space)
        assert trained is not None and isinstance(trained.agent, GRPO)
        for (kind, repetitions), agent in zip(REPETITIONS.items(), (alone(trained.agent), trained.agent), strict=True):
            found = {
                how: torch.cat([final_regret(agent, space, how, seed) for seed in range(repetitions)]).double()
                for how in SHOWN
            }
            # Episodes of one seed are of the same tasks, from the same start.
            loss = found["shuffled"] - found["as they are"]
            error = 1.96 * float(loss.std()) / len(loss) ** 0.5
            numbers = [f"{float(found[how].mean()):.4f}" for how in SHOWN]
            rows.append([f"`{space}`", kind, str(len(loss)), *numbers, f"{float(loss.mean()):+.4f} ± {error:.4f}"])
            print(*rows[-1], flush=True)
    show(TITLES, rows, "Shipped policies on test datasets")
    if options.write_docs:
        write_between(PAGE, "score_reading", markdown_table(TITLES, rows, 2))


if __name__ == "__main__":
    main()
