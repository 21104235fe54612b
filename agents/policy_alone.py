"""What a policy does without the outcome model that chooses among its proposals."""

from __future__ import annotations

import dataclasses

from agents.contenders import as_contender
from agents.group_relative_agent import GroupRelativeAgent
from agents.problem import Problem
from agents.registry import find_trainable
from hpo_gym.evaluation import Contender
from hpo_gym.fingerprint import content_digest

__all__ = ["policy_alone"]


def policy_alone(agent: GroupRelativeAgent, name: str, problem: Problem | None = None) -> Contender:
    """Return a trained policy without its outcome model as a contender.

    Args:
        agent: The policy; it stays as it is.
        name: Of the contender.
        problem: What it is told of the search space before it acts, where it needs that.
    """
    saved = agent.state_dict(resumable=False)
    alone = find_trainable(agent.name)(agent.config.without_outcome_model(), agent.interface, agent.seed)
    alone.load_state_dict(saved, resumable=False)
    if problem is not None:
        alone.prepare(problem)
    contender = as_contender(alone, name, {"policy": content_digest(sorted(saved.items()))})
    assert isinstance(contender, Contender)  # no SequentialAgent
    return dataclasses.replace(contender, name=name)
