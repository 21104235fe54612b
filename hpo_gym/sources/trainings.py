"""What the sources share whose evaluations are trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from hpo_gym.errors import InvalidSettingError, require_names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)
else:
    Settings = TypeVar("Settings")

__all__ = ["MEASURED", "deciding_options", "refuse_data_dir", "settings_of"]

#: Note of every suite of trainings.
MEASURED = "Evaluations are trainings: their seconds are measured, and no two runs agree on them."

# Options of sources that say where models are trained, and where that is kept: they change no result.
_NO_RESULT = ("executor", "scheduler", "trainings", "workers")


def deciding_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those options of a source that decide what is measured."""
    return {name: value for name, value in (options or {}).items() if name not in _NO_RESULT}


def refuse_data_dir(source: str, data_dir: str | None) -> None:
    """Refuse a folder of surrogates.

    Raises:
        InvalidSettingError: If there is one.
    """
    if data_dir is not None:
        raise InvalidSettingError(
            f"data_dir={data_dir!r}: source={source!r} takes files by their paths. Leave it out, and write them into "
            "source_options={'datasets': ['<file>.csv']}."
        )


def settings_of(kind: type[Settings], name: str, values: Mapping[str, Any] | None) -> Settings:
    """Return a settings dataclass with some fields given by name.

    Args:
        kind: The dataclass.
        name: What its fields are settings of, for the message.
        values: Fields; ``None``: its defaults.

    Raises:
        UnknownNameError: For a field that it does not have.
        InvalidSettingError: If it is no mapping, or a value is impossible.
    """
    if values is not None and not isinstance(values, Mapping):
        raise InvalidSettingError(f"{name}={values!r} must map names of settings to values.")
    require_names(f"setting of {name}", values or {}, [field.name for field in fields(kind)])
    return kind(**(values or {}))
