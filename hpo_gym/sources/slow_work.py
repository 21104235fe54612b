"""Saying that something takes a while, and how long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["telling_progress"]

# Seconds after which work says that it goes on.
_MOMENT = 2.0


@contextmanager
def telling_progress(doing: str, kept: str) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal and one line elsewhere, on stderr, once the work has taken longer than a moment.

    Args:
        doing: What is done, e.g. ``fitting 5 networks``.
        kept: What becomes of the result, e.g. ``kept in ~/.cache/hpo_gym``.

    Yields:
        What is called with the share done, in ``[0, 1]``.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console, transient=True)
    task = bars.add_task(doing.split(" ")[0], total=1.0)
    begun: float | None = None
    told = False

    def report(share: float) -> None:
        nonlocal begun, told
        # From the first report on, because the very first step also loads libraries.
        begun = time.monotonic() if begun is None else begun
        bars.update(task, completed=share)
        taken = time.monotonic() - begun
        if told or taken < _MOMENT or share == 0:
            return
        told = True
        print(f"hpo_gym: {doing}; about {taken * (1 - share) / share:.0f} s left; {kept}", file=sys.stderr, flush=True)
        if console.is_terminal:
            bars.start()

    try:
        yield report
    finally:
        # Stopping what never started would print an empty line.
        if told and console.is_terminal:
            bars.stop()
