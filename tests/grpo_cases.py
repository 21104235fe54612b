"""Small environments, histories, networks and agents for the tests of the GRPO-Transformer."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from agents.base import Interface
from agents.grpo import GRPO, GRPOConfig
from agents.proposal_network import ProposalNetwork
from agents.trial_tokens import TrialHistory, TrialTokens
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.testing.tiny import TINY_SUITES

__all__ = ["BINS", "TINY", "a_network", "an_agent", "environment", "histories", "with_later_trials"]

BINS = 6
#: Settings of an agent that learns little and fast.
TINY = {"group_size": 4, "width": 16, "layers": 1, "heads": 2, "bins": BINS, "proposals": 1}


def environment(tiny: str = "quadratic", num_envs: int = 16, **changes: Any) -> HPOVectorEnv:
    rules = {"budget": 8, "reward": "log_regret", "action": "continuous", "observation": "history"} | changes
    return HPOVectorEnv(num_envs, source=TINY_SUITES[tiny](), split="all", **rules)


def histories(tiny: str = "conditional", num_envs: int = 16, steps: int = 7, seed: int = 0) -> list[TrialHistory]:
    """Return what random episodes show after each of their trials, the start included."""
    env, draws = environment(tiny, num_envs, start="random"), generator(seed, "test")
    dimension = env.suite.space.dimension
    shown = [TrialHistory.of(env.reset(seed=seed)[0])]
    for _ in range(steps):
        _, _, _, _, info = env.step(torch.rand(num_envs, dimension, generator=draws))
        shown.append(TrialHistory.of(info["final_obs"]))
    return shown


def with_later_trials(history: TrialHistory, first: int, seed: int = 9) -> TrialHistory:
    """Return a history whose trials from ``first`` on are others."""
    draws, trials = generator(seed, "test"), history.trials
    changed = {"u": trials.u.clone(), "active": trials.active.clone(), "score": trials.score.clone()}
    for name in ("u", "score"):
        part = changed[name][:, first:]
        part.copy_(torch.rand(part.shape, generator=draws))
    changed["active"][:, first:] = ~changed["active"][:, first:]
    return dataclasses.replace(history, trials=dataclasses.replace(trials, **changed))


def a_network(
    layout: TrialTokens, autoregressive: bool = False, bins: int = BINS, spread: float = 3.0
) -> ProposalNetwork:
    """Return a network whose distributions are far from uniform."""
    with seeded(3):
        network = ProposalNetwork(layout.width, layout.dimension, bins, 16, 2, 4, autoregressive)
        with torch.no_grad():
            network.bias.normal_(std=spread / 3.0)
            network.weight.mul_(10.0 * spread / 3.0)
    return network


def an_agent(env: HPOVectorEnv, seed: int = 0, **settings: Any) -> GRPO:
    return GRPO(GRPOConfig(**TINY | settings), Interface.of(env), seed)
