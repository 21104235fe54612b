"""What a person writes on the command line, checked against the settings there are before Hydra reads it."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from agents.registry import AGENTS
from hpo_gym.errors import HPOGymError, InvalidSettingError, unknown_name

__all__ = ["Overrides", "check_overrides", "compose_config", "fixed_keys", "override_key"]

# Longer names of files are a nuisance, and beyond 255 bytes an error.
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Overrides:
    """The settings that a command line names.

    Args:
        items: All of them, as ``key=value``.
        swept: Those in which the jobs of a sweep differ.
    """

    items: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all items."""
        return tuple(override_key(item) for item in self.items)

    def label(self, without: Sequence[str] = ()) -> str:
        """Return what tells this job from others of its sweep, fit for a file name and for the command line.

        Args:
            without: Keys to leave out.
        """
        kept = [item for item in self.swept if override_key(item) not in without]
        # "=", "," and brackets mean something to Hydra: a folder of that name could not be given to run=.
        label = "-".join(re.sub(r"[^\w.+-]+", "_", item.lstrip("+")).strip("_") for item in kept)
        if len(label) <= _LONGEST_NAME:
            return label
        return f"{label[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def override_key(item: str) -> str:
    """Return the key of an override."""
    return item.partition("=")[0].lstrip("+~")


def fixed_keys(items: Sequence[str]) -> set[str]:
    """Return the keys to which a sweep gives one value."""
    # Of a key that is given twice the last value counts, as for Hydra.
    last = {override_key(item): item for item in items}
    return {key for key, item in last.items() if not _parse(item).is_sweep_override()}


def compose_config(name: str, items: Sequence[str], groups: Mapping[str, Sequence[str]]) -> DictConfig:
    """Compose a config from overrides.

    Args:
        name: The stored config.
        items: ``key=value`` items.
        groups: Config groups and their options.

    Raises:
        UnknownNameError: For an unknown key or group option, with the closest one.
        InvalidSettingError: For an item that is no override, or a value of the wrong type.
    """
    checked = check_overrides(name, items, groups)
    with initialize(version_base="1.3", config_path=None):
        try:
            return compose(name, overrides=checked)
        except (HydraException, OmegaConfBaseException) as error:
            raise InvalidSettingError(first_line(error)) from error


def first_line(error: BaseException) -> str:
    """Return the gist of an error of Hydra or OmegaConf as a sentence."""
    found = [part for part in (error, error.__cause__) if part is not None]
    return ": ".join(str(part).strip().partition("\n")[0].rstrip(".") for part in found) + "."


def check_overrides(
    name: str, items: Sequence[str], groups: Mapping[str, Sequence[str]], sweep: bool = False
) -> list[str]:
    """Return overrides as Hydra wants them: a lone value of a list in brackets, free-form keys marked as new.

    Args:
        name: The stored config.
        items: ``key=value`` items; those of Hydra itself pass.
        groups: Config groups and their options.
        sweep: Whether ``key=a,b`` means one job for each.

    Raises:
        UnknownNameError: For an unknown key or group option, with the closest one.
        InvalidSettingError: For an item that is no override.
    """
    parsed = [_parse(item) for item in items]
    choices: dict[str, list[str]] = {}
    for item, override in zip(items, parsed, strict=True):
        key = override_key(item)
        if override.is_delete():
            raise InvalidSettingError(f"{item!r}: a setting cannot be removed. Write {key}=value to change it.")
        if override.is_sweep_override() and not sweep and key in groups:
            raise _several(item)
        if key in groups:
            choices[key] = _options(override, groups[key])
            for option in choices[key]:
                if option not in groups[key]:
                    raise _unknown_option(key, option, groups[key])
    schemas = []
    with initialize(version_base="1.3", config_path=None):
        for chosen in itertools.product(*([f"{key}={value}" for value in values] for key, values in choices.items())):
            schemas.append(compose(name, overrides=list(chosen)))
    checked = []
    for item, override in zip(items, parsed, strict=True):
        key = override_key(item)
        if key in groups:
            checked.append(item.lstrip("+"))
        elif sweep and re.match(r"hydra[./]", key):
            checked.append(item)
        else:
            nodes = [_find(schema, key) for schema in schemas]
            checked.append(_fitted(item, override, nodes[0], sweep))
    return checked


def _unknown_option(key: str, option: str, known: Sequence[str]) -> HPOGymError:
    if key == "agent" and option in AGENTS:
        return InvalidSettingError(
            f"agent={option}: this agent needs no training. Play it with `python evaluate.py agents=[{option}]`. "
            f"Agents to train: {', '.join(sorted(known))}."
        )
    return unknown_name(key, option, known)


def _parse(item: str) -> Override:
    if item.startswith("-"):
        raise InvalidSettingError(f"{item!r} is no flag that is known. --help lists what there is.")
    if "=" not in item and not item.startswith("~"):
        raise InvalidSettingError(f"{item!r} is no setting. Write key=value, for example seed=1.")
    try:
        (override,) = OverridesParser.create().parse_overrides([item])
    except HydraException as error:
        key, _, value = item.partition("=")
        raise InvalidSettingError(
            f"{item!r} cannot be read ({first_line(error).rstrip('.')}). Put text with special characters in two "
            f"pairs of quotes: \"{key}='{value}'\"."
        ) from error
    return override


def _options(override: Override, allowed: Sequence[str]) -> list[str]:
    if override.is_choice_sweep():
        return list(override.sweep_string_iterator())
    # A glob or a range has yet to be expanded by Hydra, and yields nothing that is not allowed.
    return list(allowed) if override.is_sweep_override() else [str(override.value())]


def _find(schema: DictConfig, key: str) -> Any:
    """Return the node that a key names; for a key within a free-form mapping, that mapping."""
    node: Any = schema
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise InvalidSettingError(f"Setting {'.'.join(seen)!r} holds a value; it has no part {part!r}.")
        if _is_free_form(node):
            return node
        if part not in node:
            raise unknown_name("setting", key, [".".join([*seen, str(name)]) for name in node])
        node = node._get_node(part)
        seen.append(part)
    return node


def _is_free_form(node: Any) -> bool:
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict


def _fitted(item: str, override: Override, node: Any, sweep: bool) -> str:
    plain = item.lstrip("+")
    key, _, value = plain.partition("=")
    if override.is_sweep_override():
        values = list(override.sweep_string_iterator()) if override.is_choice_sweep() else []
        bare = [element for element in values if not element.startswith(("[", "null", "$"))]
        if isinstance(node, ListConfig) and bare:
            each = ",".join(f"[{element}]" for element in values)
            several = f"In a sweep write {key}={each}; for one list" if sweep else "For a list"
            raise InvalidSettingError(f"{plain!r}: {key} takes a list. {several} write {key}=[{value}].")
        if not sweep:
            raise _several(item)
    elif isinstance(node, ListConfig) and not isinstance(override.value(), list | None) and not value.startswith("$"):
        return f"{key}=[{_as_text(value, override) if node._metadata.element_type is str else value}]"
    elif isinstance(node, StringNode):
        return f"{key}={_as_text(value, override)}"
    # Hydra wants to be told of keys that no schema has.
    return f"++{plain}" if _is_free_form(node) else plain


def _as_text(value: str, override: Override) -> str:
    """Return a value of a text setting: what looks like a number, a date say, would come out as that number."""
    # 2026_01_15 as 20260115, 1e3 as 1000.0.
    return f"'{value}'" if isinstance(override.value(), int | float) else value


def _several(item: str) -> InvalidSettingError:
    return InvalidSettingError(
        f"{item!r} names several values, and this is one job. Name one, or run a job for each: add -m (a sweep)."
    )
