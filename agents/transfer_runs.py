"""Which runs the transfer study is made of, and which of them a folder holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.environments import EnvironmentConfig
from agents.registry import find_agent
from agents.study_runs import StudyRun, require_alike, settings_of
from hpo_gym.errors import InvalidSettingError, require_integer, require_names

__all__ = ["Cell", "Plan", "common_environment", "matched"]

# What runs of one agent may differ in.
_FREE = ("seed", "env.space", "env.max_tasks", "env.tasks_seed", "env.device", "env.num_envs")
# What runs of different agents may differ in beside.
_OF_AGENT = ("env.action", "env.observation", "env.reward", "env.reward_scale", "env.terminate_on_repeat")


@dataclass(frozen=True, order=True)
class Cell:
    """What tells the runs of the study apart.

    Args:
        agent: Name of the agent.
        space: The search space that it is trained on.
        datasets: Training datasets; 0 means all.
        seed: Root of the run's random numbers, and which datasets.
    """

    agent: str
    space: str
    datasets: int
    seed: int

    def __str__(self) -> str:
        count = f"{self.datasets} training dataset(s)" if self.datasets else "all training datasets"
        return f"{self.agent} on {self.space}, {count}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Which runs the study is made of.

    Args:
        agents: Agents that are trained on all training datasets of every space.
        spaces: Search spaces that they are trained on.
        targets: Search spaces that policies for any space are tested on.
        sizes: Numbers of training datasets, beside all of them.
        subset_agents: Those of the agents that are trained on so few, too.
        subset_spaces: Those of the spaces where they are.
        untrained: Q-agents that learn within an episode alone, and need no run.
        seeds: Runs of each.

    Raises:
        UnknownNameError: For an unknown agent, or a subset agent or space that is not among the others.
        InvalidSettingError: For an agent on the wrong side of learning beforehand, or a number that is too small.
    """

    agents: tuple[str, ...] = ("portfolio_q", "dqn", "naf", "agnostic_q")
    spaces: tuple[str, ...] = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")
    targets: tuple[str, ...] = ("rpart", "xgboost", "ranger", "lcbench", "adaboost", "random_forest")
    sizes: tuple[int, ...] = (1, 4, 16)
    subset_agents: tuple[str, ...] = ("portfolio_q", "dqn")
    subset_spaces: tuple[str, ...] = ("rpart", "xgboost", "ranger")
    untrained: tuple[str, ...] = ("tabular_q",)
    seeds: int = 1

    def __post_init__(self) -> None:
        for name in self.agents:
            if not find_agent(name).agent.learns:
                raise InvalidSettingError(
                    f"--agents {name}: it does not learn, so that nothing transfers. Leave it out: random search and "
                    "portfolios are there anyway; a Q-agent that learns within an episode belongs to --untrained."
                )
        for name in self.untrained:
            if find_agent(name).agent.learns:
                raise InvalidSettingError(f"--untrained {name}: it needs a trained policy. Name it in --agents.")
        for option, chosen, among in (
            ("--subset-agents", self.subset_agents, self.agents),
            ("--subset-spaces", self.subset_spaces, self.spaces),
        ):
            require_names(f"name in {option}", chosen, among)
        require_integer("--seeds", self.seeds, 1)
        for size in self.sizes:
            require_integer("--sizes", size, 1, "all training datasets are always among them")

    def cells(self, training: Mapping[str, int]) -> list[Cell]:
        """Return the runs there should be.

        Args:
            training: Number of training datasets by space; numbers that reach it are left out.
        """
        return [
            Cell(agent, space, size, seed)
            for agent in self.agents
            for space in self.spaces
            for size in (*self._fewer(agent, space, training[space]), 0)
            for seed in range(self.seeds)
        ]

    def _fewer(self, agent: str, space: str, training: int) -> tuple[int, ...]:
        if agent not in self.subset_agents or space not in self.subset_spaces:
            return ()
        return tuple(size for size in self.sizes if size < training)


def matched(runs: Sequence[StudyRun]) -> dict[Cell, StudyRun]:
    """Return runs by what they are.

    Raises:
        InvalidSettingError: If two are the same, one draws its datasets with another seed, or runs of one agent differ
            in more than the study is about.
    """
    found: dict[Cell, StudyRun] = {}
    for run in runs:
        env = run.config.env
        cell = Cell(run.config.agent_name, run.space, env.max_tasks or 0, run.seed)
        if env.max_tasks is not None and (env.tasks_seed or 0) != run.seed:
            raise InvalidSettingError(
                f"{run.path} has seed={run.seed} and env.tasks_seed={env.tasks_seed or 0}: portfolios could not be "
                "built on the datasets of each run. Train it with 'env.tasks_seed=${seed}'."
            )
        if cell in found:
            raise InvalidSettingError(
                f"{found[cell].path} and {run.path} are both {cell}. Move one of them to another folder."
            )
        found[cell] = run
    for agent in {cell.agent for cell in found}:
        require_alike([run for cell, run in found.items() if cell.agent == agent], _FREE)
    return found


def common_environment(runs: Sequence[StudyRun]) -> EnvironmentConfig:
    """Return the environment that runs of different agents were trained on.

    Raises:
        InvalidSettingError: If they were trained on different ones.
    """
    of_agents = {name for run in runs for name in settings_of(run) if name.startswith("agent.")}
    require_alike(runs, (*_FREE, *_OF_AGENT, *sorted(of_agents)))
    env = runs[0].config.env
    return dataclasses.replace(env, max_tasks=None, tasks_seed=None, action=None, observation=None, device="cpu")
