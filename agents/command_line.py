"""Hydra's command line with errors a person can act on: one message, exit status 2."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from hpo_gym.errors import HPOGymError, InvalidSettingError, unknown_name

__all__ = ["compose_config", "overridden_keys", "run_command", "store"]

# With these Hydra itself takes over: sweeps, help, shell completion.
_HYDRA_FLAGS = ("--multirun", "-m", "--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version")


def store(name: str, config: Any, group: str | None = None) -> None:
    """Register a dataclass instance or class as a Hydra config node.

    Frozen dataclasses are made overridable: the result is built anew from the composed values.
    """
    node = OmegaConf.structured(config)
    OmegaConf.set_readonly(node, None)
    ConfigStore.instance().store(group=group, name=name, node=node)


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that a list of ``key=value`` overrides sets."""
    return [item.partition("=")[0].lstrip("+~") for item in overrides]


def compose_config(name: str, overrides: Sequence[str], groups: Mapping[str, Sequence[str]]) -> DictConfig:
    """Compose a config from overrides.

    Args:
        name: The stored config.
        overrides: ``key=value`` items.
        groups: Config groups and their options.

    Raises:
        UnknownNameError: For an unknown key or group option, with the closest one.
        InvalidSettingError: For an item that is no override, or a value of the wrong type.
    """
    chosen = []
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise InvalidSettingError(f"{item!r} is no setting. Write key=value, for example seed=1.")
        if key in groups:
            if value not in groups[key]:
                raise unknown_name(key, value, groups[key])
            chosen.append(item)
    with initialize(version_base="1.3", config_path=None):
        schema = compose(name, overrides=chosen)
        for item in overrides:
            if item not in chosen and not item.startswith(("+", "~")):
                _require_key(schema, item.partition("=")[0])
        for count in range(len(overrides) + 1):
            try:
                config = compose(name, overrides=list(overrides[:count]))
            except (HydraException, OmegaConfBaseException) as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                raise InvalidSettingError(f"{overrides[count - 1]!r}: {reason}.") from error
    return config


def _require_key(schema: DictConfig, key: str) -> None:
    node: Any = schema
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise InvalidSettingError(f"Setting {'.'.join(seen)!r} holds a value; it has no part {part!r}.")
        if part not in node:
            names = [".".join([*seen, str(name)]) for name in node]
            if OmegaConf.get_type(node) is dict:
                raise InvalidSettingError(f"{key!r} is new: write +{key}=... to add it.")
            raise unknown_name("setting", key, names)
        node = node._get_node(part)
        if not isinstance(node, DictConfig):
            node = None
        seen.append(part)


def run_command(
    name: str,
    job: Callable[[DictConfig, Sequence[str]], None],
    groups: Mapping[str, Sequence[str]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Compose the config from the command line and run a job; return the exit status.

    Args:
        name: The stored config.
        job: Called with the composed config and the overrides.
        groups: Config groups and their options.
        arguments: Default: ``sys.argv[1:]``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if any(item.split("=")[0] in _HYDRA_FLAGS for item in given):
            _run_hydra(name, job, given)
        else:
            job(compose_config(name, given, groups), given)
    except HPOGymError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped", highlight=False)
        return 130
    return 0


def _run_hydra(name: str, job: Callable[[DictConfig, Sequence[str]], None], given: Sequence[str]) -> None:
    import hydra

    def entry(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        job(config, list(HydraConfig.get().overrides.task))

    before = sys.argv
    # What a run leaves behind is in its run folder; Hydra's own files go where nobody needs to look.
    with tempfile.TemporaryDirectory() as scratch:
        quiet = ["hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
        folders = [f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=.", f"hydra.run.dir={scratch}"]
        sys.argv = [before[0], *given, *quiet, *folders]
        try:
            hydra.main(version_base="1.3", config_path=None, config_name=name)(entry)()
        finally:
            sys.argv = before


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
