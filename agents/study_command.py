"""What the commands of this folder share: their options, and that they end with one line and an exit status."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

from hpo_gym.errors import HPOGymError

__all__ = ["add_workers", "study_parser", "with_exit_status"]

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


def study_parser(
    command: str, description: str | None, *, parts: str, names: Sequence[str], seeds: int, output: Path
) -> argparse.ArgumentParser:
    """Return the options that studies share: ``--page``, its parts, ``--seeds``, ``--documents`` and ``--output``.

    Args:
        command: What a person types.
        description: What it does.
        parts: What the study may be played in parts of, e.g. ``spaces``: the option's name.
        names: All of these parts.
        seeds: Repetitions, unless others are asked for.
        output: Where played episodes are kept, unless it is elsewhere.
    """
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--page", action="store_true", help="play nothing; only write the page")
    parser.add_argument(
        f"--{parts}", nargs="+", metavar="NAME", default=list(names), help=f"some of {', '.join(names)}"
    )
    parser.add_argument("--seeds", type=int, default=seeds, help=f"repetitions per dataset (default: {seeds})")
    parser.add_argument("--documents", type=Path, default=Path("docs"), help="where the page is (default: docs)")
    parser.add_argument("--output", type=Path, default=output, help=f"played episodes (default: {output})")
    return parser


def add_workers(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--workers``: processes that do ``what``."""
    parser.add_argument("--workers", type=int, default=1, help=f"processes that {what} (default: 1)")
