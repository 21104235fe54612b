"""Checkpoints and policies as files: tensors and plain values, never pickled objects."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpo_gym.errors import DataIntegrityError, HPOGymError, InvalidSettingError
from hpo_gym.sources.bundle_files import write_atomic

__all__ = ["SETTINGS", "Saved", "deciding", "fits", "load", "require_same_settings", "save"]

_FORMAT = 2

#: Where a checkpoint holds the settings that decided it.
SETTINGS = "settings"

# The same data may lie elsewhere, and what belongs to another device says so itself.
_NOT_DECIDING = ("env.data_dir", "env.device")


@dataclass(frozen=True)
class Saved:
    """What a file of a run folder holds.

    Args:
        path: The file.
        content: Tensors and plain values by name.
    """

    path: Path
    content: dict[str, Any]


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **content}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, names: tuple[str, ...], remedy: str) -> Saved:
    """Read a file that :func:`save` wrote, onto the CPU.

    Args:
        path: The file.
        names: What it must hold.
        remedy: A sentence that says what to do where it does not.

    Raises:
        DataIntegrityError: If the file is corrupt or incomplete.
        InvalidSettingError: If another version of hpo_gym wrote it.
    """
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError) as error:
        raise DataIntegrityError(f"{path} cannot be read ({error}). {remedy}") from error
    except Exception as error:
        # torch raises pickle.UnpicklingError for a file with anything but tensors and plain values.
        raise DataIntegrityError(f"{path} is no checkpoint of hpo_gym ({type(error).__name__}). {remedy}") from error
    if not isinstance(loaded, dict):
        raise DataIntegrityError(f"{path} is no checkpoint of hpo_gym: it holds a {type(loaded).__name__}. {remedy}")
    if "format" in loaded and loaded["format"] != _FORMAT:
        raise InvalidSettingError(
            f"{path} is of format {loaded['format']!r}, and this version of hpo_gym reads format {_FORMAT}. Train "
            "again with overwrite=true, or use the version in versions.json."
        )
    missing = [name for name in ("format", *names) if name not in loaded]
    if missing:
        raise DataIntegrityError(f"{path} is incomplete: it has no {', '.join(missing)}. {remedy}")
    return Saved(path, loaded)


@contextlib.contextmanager
def fits(saved: Saved, config: Path) -> Iterator[None]:
    """Name the file where its content is not what the settings make of it.

    Args:
        saved: What is restored meanwhile.
        config: The file of those settings.

    Raises:
        DataIntegrityError: If it does not fit them.
        HPOGymError: Of the kind that was raised meanwhile, with the file in its message.
    """
    try:
        yield
    except HPOGymError as error:
        raise type(error)(f"{saved.path}: {error}") from error
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataIntegrityError(
            f"{saved.path} does not fit {config} ({reason}). Restore the setting that was changed, or train again with "
            "overwrite=true."
        ) from error


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that decide what is trained, by dotted names: of agent, environment and seed."""
    parts = {name: settings[name] for name in ("agent", "env") if name in settings}
    flat = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return {"seed": settings["seed"]} | {name: value for name, value in flat.items() if name not in _NOT_DECIDING}


def require_same_settings(saved: Saved, settings: Mapping[str, Any], config: Path) -> None:
    """Refuse to go on from a checkpoint with other settings than it was made with.

    Args:
        saved: The checkpoint.
        settings: The :func:`deciding` ones of the run.
        config: The file of those settings.

    Raises:
        DataIntegrityError: If it does not say which it was made with.
        InvalidSettingError: Naming all that differ.
    """
    made = saved.content[SETTINGS]
    if not isinstance(made, Mapping):
        raise DataIntegrityError(f"{saved.path} does not say which settings it was made with. Remove it.")
    differ = [name for name in sorted({*made, *settings}) if made.get(name) != settings.get(name)]
    if differ:
        told = "; ".join(f"{name}={made.get(name)!r} then, {settings.get(name)!r} now" for name in differ)
        raise InvalidSettingError(
            f"{saved.path} was made with other settings than {config} has ({told}). Restore them, or train a new run "
            "with another name=..."
        )
