"""What a person sees of a training run or an evaluation: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from agents.processes import is_first_process

__all__ = ["EvaluationDisplay", "TrainingDisplay", "make_console"]

_LINE_SECONDS = 15.0
# After which a bar is drawn anew even where no figures are.
_SHOWN_SECONDS = 2.0

# Of a pipe or a file nobody knows the width, and rich would assume 80 columns: too few for a table of results.
_FILE_WIDTH = 140


def make_console(stderr: bool = False) -> Console:
    """Return a console on standard output or standard error, wide enough for tables where it is no terminal.

    Of several processes that train one policy, the first alone says something, unless it is an error.
    """
    quiet = not stderr and not is_first_process()
    console = Console(stderr=stderr, quiet=quiet)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(stderr=stderr, width=_FILE_WIDTH, quiet=quiet)


def _progress(console: Console, description: TextColumn, *, disable: bool = False, transient: bool = False) -> Progress:
    """Return bars with a description, the share done, the time taken and the time left."""
    return Progress(
        description,
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
        transient=transient,
    )


class TrainingDisplay:
    """Shows transitions, speed, time left and the latest figures.

    Args:
        title: What is being trained.
        total: Transitions in all.
        done: Transitions done by an earlier part of the run.
        console: Where to write; default: standard output.
    """

    def __init__(self, title: str, total: int, done: int = 0, console: Console | None = None) -> None:
        self.console = console or make_console()
        self._title, self._total, self._begun_at = title, total, done
        self._begun = self._last_line = self._shown = time.monotonic()
        self._last_steps = -1
        self._progress = _progress(self.console, TextColumn("[bold]{task.description}"))
        self._task = self._progress.add_task(title, total=total, completed=done)
        # Below the bar: beside it, the figures would leave no room for it in a terminal of 80 columns.
        self._figures = Text()
        self._live = Live(Group(self._progress, self._figures), console=self.console)

    def __enter__(self) -> TrainingDisplay:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()

    def steps_per_second(self, steps: int) -> float:
        """Return the mean speed since this part of the run began."""
        return (steps - self._begun_at) / max(1e-9, time.monotonic() - self._begun)

    @property
    def outdated(self) -> bool:
        """Whether nothing was shown for a while: a transition may take as long as training a model."""
        return time.monotonic() - self._shown > _SHOWN_SECONDS

    def update(self, steps: int, figures: Mapping[str, float]) -> None:
        """Show the state after ``steps`` transitions."""
        speed = self.steps_per_second(steps)
        text = " · ".join([f"{speed:,.0f} steps/s", *(f"{name} {value:.4g}" for name, value in figures.items())])
        self._progress.update(self._task, completed=min(steps, self._total))
        self._figures.plain = text
        now = self._shown = time.monotonic()
        due = now - self._last_line > _LINE_SECONDS or steps >= self._total
        if not self.console.is_terminal and due and steps > self._last_steps:
            self._last_line, self._last_steps = now, steps
            left = max(0, self._total - steps) / max(speed, 1e-9)
            line = f"{self._title}: {steps:,}/{self._total:,} · {left:.0f} s left · {text}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class EvaluationDisplay:
    """Shows for every contender how many of its episodes are played, and the time left.

    Args:
        console: Where to write; default: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        description = TextColumn("{task.description}", markup=False)
        self._progress = _progress(self.console, description, disable=not self.console.is_terminal, transient=True)
        self._bars: dict[str, TaskID] = {}
        self._latest = time.monotonic()
        self._begun: dict[str, tuple[float, float]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> EvaluationDisplay:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def update(self, label: str, share: float) -> None:
        """Show that a share of a contender's episodes is played, in ``[0, 1]``."""
        now = time.monotonic()
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(label, total=1.0, start=False)
            self._begun[label] = (now, share)
        bar = self._bars[label]
        if share < self._progress.tasks[bar].completed:
            # Another comparison of the same contender, with another budget.
            self._progress.reset(bar, start=False)
            self._begun[label] = (now, share)
        if not self._progress.tasks[bar].started and share > self._begun[label][1]:
            # A contender waits for those before it: its time runs from the last that was heard of them.
            self._begun[label] = (self._latest, self._begun[label][1])
            self._progress.start_task(bar)
        self._latest = now
        self._progress.update(bar, completed=share)
        if not self.console.is_terminal and now - self._last_line > _LINE_SECONDS and share < 1.0:
            self._last_line = now
            since, before = self._begun[label]
            left = (1.0 - share) * (now - since) / max(share - before, 1e-9)
            line = f"{label}: {share:.0%} · {left:.0f} s left"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
