"""Warnings that point to the line of the user, however deep in the package they are found."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_user"]

# gymnasium.make calls this package for the user.
_BETWEEN = ("hpo_gym", "gymnasium")


def warn_user(message: str) -> None:
    """Issue a ``UserWarning`` at the nearest line outside of this package and of Gymnasium."""
    # Of level 1 is this function, of level 2 the one that calls it.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
