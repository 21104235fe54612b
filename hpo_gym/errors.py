"""Exceptions of hpo_gym.

Every message names the offending value, what is allowed (closest match first) and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from typing import Any

__all__ = [
    "DataError",
    "DataIntegrityError",
    "DataMissingError",
    "EvaluationFailedError",
    "HPOGymError",
    "InvalidActionError",
    "InvalidSettingError",
    "SplitLeakError",
    "UnknownNameError",
    "UnsupportedOperatorError",
    "require_booleans",
    "require_effect",
    "require_integer",
    "require_names",
    "require_number",
    "unknown_name",
]


class HPOGymError(Exception):
    """Base class of every error raised on purpose by hpo_gym."""


class UnknownNameError(HPOGymError, ValueError):
    """A space, split, metric, source, card, key or agent of that name does not exist."""


class InvalidSettingError(HPOGymError, ValueError):
    """A setting has a value outside its legal range."""


class InvalidActionError(HPOGymError, ValueError):
    """An action has the wrong shape, dtype or range, or is NaN."""


class SplitLeakError(HPOGymError, ValueError):
    """A combination of splits would let test datasets leak into training."""


class EvaluationFailedError(HPOGymError, RuntimeError):
    """Some episodes of an evaluation could not be played."""


class UnsupportedOperatorError(HPOGymError, NotImplementedError):
    """An ONNX graph contains an operator that the compiler does not know."""


class DataError(HPOGymError, OSError):
    """A data file is missing, corrupt or not what it should be."""


class DataMissingError(DataError):
    """A data file is in none of the places that were searched."""


class DataIntegrityError(DataError):
    """A data file does not match its pinned checksum, or cannot be parsed."""


def unknown_name(kind: str, name: object, allowed: Iterable[object], remedy: str = "") -> UnknownNameError:
    """Build the error for an unknown name, with its closest match first.

    Args:
        kind: What the name should have been, e.g. ``"space"``.
        name: The offending value.
        allowed: Every legal value.
        remedy: A sentence that says what to do about it.
    """
    choices = sorted(str(choice) for choice in allowed)
    # As typed first; then as if case did not matter.
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.4) or [
        folded[match] for match in difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.4)
    ]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(choices) if choices else "(none)"
    message = f"Unknown {kind} {name!r}.{hint} Allowed: {listed}."
    return UnknownNameError(f"{message} {remedy}".rstrip())


def require_names(kind: str, names: Iterable[object], allowed: Collection[object]) -> None:
    """Require that names are known.

    Args:
        kind: What they should be, in the singular, e.g. ``"space"``.
        names: The values.
        allowed: Every legal value.

    Raises:
        UnknownNameError: For the first that is not legal.
    """
    for name in names:
        if name not in allowed:
            raise unknown_name(kind, name, allowed)


def require_effect(config: Any, names: Collection[str], cause: str, remedy: str) -> None:
    """Refuse settings that were changed although nothing reads them.

    Args:
        config: A dataclass whose fields have defaults.
        names: Fields that have no effect.
        cause: What makes it so, e.g. ``churn_weight=0``.
        remedy: What would give them one.

    Raises:
        InvalidSettingError: Naming the first that is not its default.
    """
    for part in fields(config):
        value = getattr(config, part.name)
        if part.name in names and value != part.default:
            raise InvalidSettingError(f"{part.name}={value!r} has no effect with {cause}. {remedy}, or leave it out.")


def require_booleans(config: Any) -> None:
    """Refuse switches that are neither ``True`` nor ``False``: 0, ``None`` or ``"no"`` would pass for one of them.

    Args:
        config: A dataclass; a field whose default is ``True`` or ``False`` is a switch.

    Raises:
        InvalidSettingError: Naming the first that is neither, and its value.
    """
    for part in fields(config):
        value = getattr(config, part.name)
        if isinstance(part.default, bool) and not isinstance(value, bool):
            raise InvalidSettingError(f"{part.name}={value!r} must be True or False.")


def require_number(name: str, value: object, says: str, holds: Callable[[float], bool]) -> None:
    """Refuse a setting that is no number (``True`` is none), or not one that is allowed.

    Args:
        name: Of the setting.
        value: What was given.
        says: What is allowed, for the message, e.g. ``must lie in (0, 1]``.
        holds: Whether a number is allowed.

    Raises:
        InvalidSettingError: Naming the setting, its value and what is allowed.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not holds(value):
        raise InvalidSettingError(f"{name}={value!r} {says}.")


def require_integer(name: str, value: object, least: int, why: str = "") -> None:
    """Refuse a setting that is no integer (``True`` is none) or below ``least``.

    Raises:
        InvalidSettingError: Naming the setting, its value, what is allowed and, if given, why.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        reason = f": {why}" if why else ""
        if hasattr(value, "__index__") and not isinstance(value, int):
            reason = " of Python: write int(...)"
        raise InvalidSettingError(f"{name}={value!r} must be an integer >= {least}{reason}.")
