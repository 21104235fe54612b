"""The environment an experiment runs on, as configuration."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from hpo_gym import registered_ids
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.mdp import EpisodeSettings
from hpo_gym.tasks.unknown_range import MEASURED_SOURCES

__all__ = [
    "ENVIRONMENTS",
    "EnvironmentConfig",
    "is_live",
    "make_environment",
    "preset",
    "resolved",
    "space_name",
    "suited",
]

#: Names on the command line (``env=openml``) and the ids behind them.
ENVIRONMENTS = {
    "openml": "HPO-OpenML-v0",
    "openml_continuous": "HPO-OpenMLContinuous-v0",
    "openml_multi_fidelity": "HPO-OpenMLMultiFidelity-v0",
    "yahpo": "HPO-YAHPO-v0",
    "yahpo_continuous": "HPO-YAHPOContinuous-v0",
    "hpob": "HPO-HPOB-v0",
    "hpob_continuous": "HPO-HPOBContinuous-v0",
    "synthetic": "HPO-Synthetic-v0",
    "synthetic_continuous": "HPO-SyntheticContinuous-v0",
    "live": "HPO-Live-v0",
    "live_continuous": "HPO-LiveContinuous-v0",
    "live_multi_fidelity": "HPO-LiveMultiFidelity-v0",
    "live_spg": "HPO-LiveContinuous-v0",
}

# Where every evaluation is a training: as many episodes at once as a machine can train models for; and nobody knows
# the range of scores that a training reward could be divided by.
_LIVE: dict[str, Any] = {"num_envs": 8, "reward_scale": "none"}

# What is trained where the card has another model.
_SPACES = {"live_spg": "agents.spg_networks:MLP"}

# Fields that are not keyword arguments of the environment.
_OWN = ("id", "num_envs")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Which environment, and what overrides its card. ``None`` means: as the card says.

    Every field but ``id`` and ``num_envs`` is an argument of :class:`hpo_gym.envs.HPOVectorEnv`.

    Args:
        id: A registered Gymnasium id; ``module:id`` imports a module first that registers it.
        num_envs: Episodes at once, ``B``.
        max_tasks: Only so many tasks of the split, for training; evaluation always plays the whole test split.
        tasks_seed: Which ones; fewer tasks of one seed are part of more.
        reward_scale: ``range`` divides rewards by the task's known range, so that no dataset dominates the
            loss. It needs knowledge of the objective and is meant for training.
    """

    id: str = "HPO-OpenML-v0"
    num_envs: int = 512
    source: str | None = None
    space: str | None = None
    split: str | None = None
    protocol: str | None = None
    max_tasks: int | None = None
    tasks_seed: int | None = None
    metric: str | None = None
    device: str = "cpu"
    data_dir: str | None = None
    source_options: dict[str, Any] = field(default_factory=dict)
    budget: int | None = None
    action: str | None = None
    observation: str | None = None
    reward: str | None = None
    reward_scale: str | None = "range"
    cost_weight: float | None = None
    start: str | None = None
    start_configuration: dict[str, Any] = field(default_factory=dict)
    levels: int | None = None
    multi_fidelity: bool | None = None
    min_fidelity: float | None = None
    terminate_on_repeat: bool | None = None

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise InvalidSettingError(f"env.num_envs={self.num_envs!r} must be at least 1.")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and not value.strip():
                raise InvalidSettingError(
                    f"env.{item.name}= is empty. Leave it out for what the environment says, or name something."
                )

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that override the card."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OWN}
        return {name: value for name, value in given.items() if value is not None and value != {}}


def preset(name: str) -> EnvironmentConfig:
    """Return what ``env=<name>`` on the command line means."""
    live = _LIVE if name.startswith("live") else {}
    return EnvironmentConfig(id=ENVIRONMENTS[name], space=_SPACES.get(name), **live)


def resolved(config: EnvironmentConfig) -> dict[str, Any]:
    """Return every argument of an environment, whether it was given, is on its card, or is a default.

    Raises:
        UnknownNameError: For an unknown id.
    """
    arguments = inspect.signature(HPOVectorEnv).parameters.values()
    defaults = {item.name: item.default for item in arguments if item.default is not item.empty}
    settings = {item.name: item.default for item in fields(EpisodeSettings)}
    spec = _spec(config.id)
    chosen = {"id": spec.id, **defaults, **settings, **spec.kwargs, **config.arguments()}
    return {name: None if value in ({}, None) else value for name, value in chosen.items()}


def make_environment(config: EnvironmentConfig, **changes: Any) -> HPOVectorEnv:
    """Make the vector environment of a configuration.

    Args:
        config: Which environment.
        changes: Arguments that replace the configuration's.

    Raises:
        UnknownNameError: For an unknown id, argument, space, split or metric.
        InvalidSettingError: For an impossible value or combination.
        DataError: If a data file is missing or corrupt.
    """
    arguments: Mapping[str, Any] = {"num_envs": config.num_envs, **config.arguments(), **changes}
    env = gym.make_vec(_spec(config.id), **arguments)
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, HPOVectorEnv)  # see _spec
    return unwrapped


def suited(config: EnvironmentConfig, actions: Sequence[str], observations: Sequence[str]) -> EnvironmentConfig:
    """Return a configuration whose kinds of actions and observations an agent can use.

    What the configuration says stays; what it leaves to the card becomes the agent's first choice, unless the card's
    is one of them.

    Args:
        config: The environment.
        actions: Kinds of actions that the agent can take, the preferred one first.
        observations: Kinds of observations that it can read, the preferred one first.
    """
    chosen = resolved(config)
    changes: dict[str, Any] = {}
    for name, kinds in (("action", actions), ("observation", observations)):
        if getattr(config, name) is None and chosen[name] not in kinds:
            changes[name] = kinds[0]
    return replace(config, **changes) if changes else config


def is_live(config: EnvironmentConfig) -> bool:
    """Return whether every evaluation is a training, so that nobody knows the best configuration of a task.

    Raises:
        UnknownNameError: For an unknown id.
    """
    return resolved(config)["source"] in MEASURED_SOURCES


def space_name(config: EnvironmentConfig) -> str:
    """Return the search space that a configuration names, or the one on its card, without loading anything.

    Raises:
        UnknownNameError: For an unknown id.
    """
    if config.space:
        return config.space
    spec = _spec(config.id)
    return str(spec.kwargs.get("space") or spec.id)


def _spec(name: str) -> EnvSpec:
    """Return what is registered under an id, if it is an environment of this package."""
    module, separator, identifier = name.rpartition(":")
    if separator:
        _import_module(module, name)
    try:
        spec = gym.spec(identifier)
        creator: Any = load_env_creator(spec.vector_entry_point) if isinstance(spec.vector_entry_point, str) else None
    except (gym.error.Error, ImportError) as error:
        raise unknown_name("environment id", name, registered_ids()) from error
    if not (isinstance(creator, type) and issubclass(creator, HPOVectorEnv)):
        raise unknown_name("environment id", name, registered_ids(), "It must be a vector environment of hpo_gym.")
    return spec


def _import_module(module: str, name: str) -> None:
    """Import what registers an id, as :func:`gymnasium.make` does for ``module:id``."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise unknown_name("environment id", name, registered_ids(), "Write an id, or <module>:<id>.")
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InvalidSettingError(
            f"env.id={name}: the module {module!r} cannot be imported ({error}). Check its name, and that its folder "
            "is in PYTHONPATH; an id that is registered already needs no module."
        ) from error
