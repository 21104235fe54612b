"""How the commands of this folder end: with one line of what went wrong, and an exit status."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from hpo_gym.errors import HPOGymError

__all__ = ["with_exit_status"]

_Arguments = ParamSpec("_Arguments")


def with_exit_status(command: Callable[_Arguments, None]) -> Callable[_Arguments, int]:
    """Make a command return its exit status.

    Args:
        command: What is done. It may be stopped at any time, and goes on where it stopped when it is given again.

    Returns:
        The command, which returns 0; 2 after an error that a person can do something about, which is said in one
        line; 130 (128 and the number of the signal, as shells count) after Ctrl-C.
    """

    @functools.wraps(command)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> int:
        try:
            command(*arguments, **options)
        except (HPOGymError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        return 0

    return run
