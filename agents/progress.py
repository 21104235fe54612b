"""What a person sees of a training run: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["TrainingDisplay"]

_LINE_SECONDS = 15.0


class TrainingDisplay:
    """Shows transitions, speed, time left and the latest figures.

    Args:
        title: What is being trained.
        total: Transitions in all.
        done: Transitions done by an earlier part of the run.
        console: Where to write; default: standard output.
    """

    def __init__(self, title: str, total: int, done: int = 0, console: Console | None = None) -> None:
        self.console = console or Console()
        self._title, self._total, self._begun_at = title, total, done
        self._begun = self._last_line = time.monotonic()
        self._last_steps = -1
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, figures="")

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def steps_per_second(self, steps: int) -> float:
        """Return the mean speed since this part of the run began."""
        return (steps - self._begun_at) / max(1e-9, time.monotonic() - self._begun)

    def update(self, steps: int, figures: Mapping[str, float]) -> None:
        """Show the state after ``steps`` transitions."""
        speed = self.steps_per_second(steps)
        text = " · ".join([f"{speed:,.0f} steps/s", *(f"{name} {value:.4g}" for name, value in figures.items())])
        self._progress.update(self._task, completed=min(steps, self._total), figures=text)
        now = time.monotonic()
        due = now - self._last_line > _LINE_SECONDS or steps >= self._total
        if not self.console.is_terminal and due and steps > self._last_steps:
            self._last_line, self._last_steps = now, steps
            left = max(0, self._total - steps) / max(speed, 1e-9)
            self.console.print(
                f"{self._title}: {steps:,}/{self._total:,} · {left:.0f} s left · {text}", highlight=False
            )
