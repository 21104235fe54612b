"""A model of the user's own by name, so that a command line can ask for it: ``<module>:<name>``."""

from __future__ import annotations

import importlib

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.live.user_model import UserModel

__all__ = ["is_model_name", "named_model"]


def is_model_name(name: str) -> bool:
    """Whether a name is that of a model in a module, and not of a model family."""
    return ":" in name


def named_model(name: str) -> UserModel:
    """Return the :class:`~hpo_gym.live.user_model.UserModel` of a module; its code runs, as ``import`` runs it.

    Args:
        name: ``<module>:<name>``, e.g. ``mine.models:FOREST``.

    Raises:
        UnknownNameError: If the module has no such model, with the closest.
        InvalidSettingError: If the module cannot be imported or its code fails, or the name is of something else.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise InvalidSettingError(f"space={name!r} must be <module>:<name>, e.g. 'mine.models:FOREST'.")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        # Its code runs, and may fail in any way.
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        remedy = "Check its name, and that its folder is in PYTHONPATH." if missing else "Mend it, and try again."
        raise InvalidSettingError(
            f"space={name!r}: the module {module!r} cannot be imported ({type(error).__name__}: {error}). {remedy}"
        ) from error
    models = [key for key, value in vars(found).items() if isinstance(value, UserModel)]
    if not hasattr(found, attribute):
        raise unknown_name(f"model of {module}", attribute, models)
    model = getattr(found, attribute)
    if not isinstance(model, UserModel):
        raise InvalidSettingError(
            f"space={name!r} is a {type(model).__name__}, and must be what hpo_gym.live.own_model returns. "
            f"{module} has: {', '.join(models) or 'none'}."
        )
    return model
