"""The trainings of the ablation study of GRPO: a base, and variants of which each differs in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.configuration import ExperimentConfig
from agents.environments import EnvironmentConfig
from agents.experiment import resume_training, run_training
from agents.grpo import GRPO
from agents.grpo_config import GRPOConfig
from agents.run_folder import RunFolder
from agents.study_runs import StudyRun, read_run, require_alike

__all__ = ["BASE", "CHURN", "DATASETS", "VARIANTS", "Variant", "experiment", "trained"]

BASE = "base"

_NUM_ENVS, _BUDGET = 256, 30


@dataclass(frozen=True)
class Variant:
    """What a training differs in from the base.

    Args:
        what: In words, for the page.
        agent: Settings of the agent.
        datasets: How many training datasets; ``None`` means all.
    """

    what: str
    agent: Mapping[str, Any] = field(default_factory=dict)
    datasets: int | None = None


#: By name, in the order of the page. A weight that changes no parameter lets the churn be measured that it does not
#: hold back: with 0 nothing is measured.
VARIANTS = {
    BASE: Variant("the base"),
    "churn_off": Variant("policy churn regularisation off (weight 1e-12 instead of 0.01)", {"churn_weight": 1e-12}),
    "churn_0.1": Variant("its weight 0.1", {"churn_weight": 0.1}),
    "churn_1": Variant("its weight 1", {"churn_weight": 1.0}),
    "group_4": Variant("groups of 4 rollouts instead of 16, four times as many groups", {"group_size": 4}),
    "group_64": Variant("groups of 64 rollouts, a quarter of the groups", {"group_size": 64}),
    "trajectory": Variant("advantage of whole trajectories instead of every step", {"advantage": "trajectory"}),
    "meta_features": Variant("the policy sees meta-features", {"meta_features": True}),
    "independent": Variant("hyperparameters drawn independently, not one after the other", {"autoregressive": False}),
    "datasets_1": Variant("1 training dataset", datasets=1),
    "datasets_4": Variant("4 training datasets", datasets=4),
    "datasets_16": Variant("16 training datasets", datasets=16),
    "datasets_64": Variant("64 training datasets", datasets=64),
}

#: Variants by weight of policy churn regularisation, and by number of training datasets (the base has all).
CHURN = {"churn_off": 0.0, BASE: GRPOConfig.churn_weight, "churn_0.1": 0.1, "churn_1": 1.0}
DATASETS = {name: variant.datasets for name, variant in VARIANTS.items() if variant.datasets is not None}


def experiment(variant: str, space: str, seed: int, runs: Path, steps: int) -> ExperimentConfig:
    """Return the training of a variant.

    Args:
        variant: A name of :data:`VARIANTS`.
        space: The search space.
        seed: Root of its random numbers, and which training datasets.
        runs: Folder of run folders.
        steps: Transitions.
    """
    chosen = VARIANTS[variant]
    # The learner is looked at, so that no outcome model chooses among its proposals.
    agent = GRPOConfig(total_steps=steps, proposals=1, **chosen.agent)
    some: dict[str, Any] = {} if chosen.datasets is None else {"max_tasks": chosen.datasets, "tasks_seed": seed}
    env = EnvironmentConfig(
        id="HPO-OpenML-v0",
        space=space,
        num_envs=_NUM_ENVS,
        budget=_BUDGET,
        action=GRPO.action_kinds[0],
        observation=GRPO.observation_kinds[0],
        **GRPO.training_rules,
        **some,
    )
    return ExperimentConfig(
        agent=agent,
        env=env,
        seed=seed,
        name=f"{variant}-{space}-seed{seed}",
        runs=str(runs),
        # After every update: all its episodes are over then.
        log_every=_NUM_ENVS * (_BUDGET - 1),
        validate_every=max(1, steps // 4),
        validation_seeds=2,
    )


def trained(config: ExperimentConfig) -> StudyRun:
    """Return a finished run with these settings: the one that is there, which goes on where it stopped, or a new one.

    Raises:
        InvalidSettingError: If the run that is there has other settings.
        DataIntegrityError: If its files cannot be read.
    """
    assert config.name is not None  # experiment
    path = Path(config.runs) / config.name
    if not (path / "config.yaml").is_file():
        return read_run(run_training(config).path)
    require_alike([StudyRun(Path("The study"), config, None), read_run(path)], ())
    if not RunFolder.open(path).finished:
        resume_training(path)
    return read_run(path)
