"""Configuration of a training run: dataclasses of plain values, and reading them back with every value checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from agents.dqn import DQNConfig
from agents.environments import EnvironmentConfig
from agents.registry import AGENTS, find_agent
from hpo_gym.errors import InvalidSettingError, require_booleans, unknown_name

__all__ = ["ExperimentConfig", "build", "plain"]


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides a training run.

    Args:
        agent: The agent's configuration; its class says which agent.
        env: The environment.
        seed: Root of the seed tree.
        name: Name of the run folder; ``None`` makes one of agent, space and seed.
        runs: Folder of run folders.
        overwrite: Replace a run of that name.
        checkpoint_every: Transitions between checkpoints.
        keep_checkpoints: How many checkpoints stay.
        log_every: Transitions between points in TensorBoard.
        validate_every: Transitions between measurements on the validation split; the policy that does best there
            is the one that is kept. 0 keeps the last.
        validation_seeds: Repetitions per validation task.
        tensorboard: Whether to write TensorBoard events.
        threads: Threads that torch computes on. More than one pay off for large batches on cores that are free, and
            cost many times as much where another process has one of them.
    """

    agent: Any = field(default_factory=DQNConfig)
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    seed: int = 0
    name: str | None = None
    runs: str = "runs"
    overwrite: bool = False
    checkpoint_every: int = 250_000
    keep_checkpoints: int = 2
    log_every: int = 10_000
    validate_every: int = 50_000
    validation_seeds: int = 4
    tensorboard: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        require_booleans(self)
        for name in ("checkpoint_every", "keep_checkpoints", "log_every", "threads"):
            if getattr(self, name) < 1:
                raise InvalidSettingError(f"{name}={getattr(self, name)!r} must be at least 1.")
        if self.validate_every < 0 or self.validation_seeds < 1:
            raise InvalidSettingError(
                f"validate_every={self.validate_every!r} must not be negative and validation_seeds="
                f"{self.validation_seeds!r} must be at least 1."
            )
        if self.seed < 0:
            raise InvalidSettingError(f"seed={self.seed!r} must not be negative.")

    @property
    def agent_name(self) -> str:
        """The agent's registered name."""
        return next(name for name, entry in AGENTS.items() if type(self.agent) is entry.config)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_mapping` reads back."""
        values: dict[str, Any] = plain(asdict(self))
        values["agent"] = {"name": self.agent_name, **values["agent"]}
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ExperimentConfig:
        """Read a configuration from plain values.

        Raises:
            UnknownNameError: For an unknown key or agent.
            InvalidSettingError: For a missing part, or a value of the wrong type or outside its range.
        """
        given = dict(values)
        agent = _part(given, "agent")
        if "name" not in agent:
            raise InvalidSettingError(f"'agent' has no 'name'; it must be one of {', '.join(AGENTS)}.")
        config_class = find_agent(str(agent.pop("name"))).config
        env = build(EnvironmentConfig, _part(given, "env"), "environment setting")
        rest = _checked(cls, given, "setting")
        return cls(agent=build(config_class, agent, "agent setting"), env=env, **rest)


def build(config_class: type[Any], values: Mapping[str, Any], kind: str) -> Any:
    """Make a configuration dataclass of plain values; lists become tuples.

    Raises:
        UnknownNameError: For an unknown key, with the closest name.
        InvalidSettingError: For a value of the wrong type or outside its range.
    """
    return config_class(**_checked(config_class, values, kind))


def plain(value: Any) -> Any:
    """Return nested values with lists for tuples, as YAML and checkpoints without pickle can hold them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    part = values.pop(name, None)
    if not isinstance(part, Mapping):
        raise InvalidSettingError(f"{name!r} must hold the settings of the {name}; it is {part!r}.")
    return dict(part)


def _checked(config_class: type[Any], values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    names = [f.name for f in fields(config_class)]
    hints = get_type_hints(config_class)
    for key, value in values.items():
        if key not in names:
            raise unknown_name(kind, key, names)
        if not _fits(value, hints[key]):
            expected = getattr(hints[key], "__name__", "") if isinstance(hints[key], type) else str(hints[key])
            raise InvalidSettingError(f"The {kind} {key}={value!r} must be of type {expected}.")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value may stand where a dataclass declares ``hint``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
    if hint in (int, float):
        numbers = (int,) if hint is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) and kind is not Any else True
