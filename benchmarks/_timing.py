"""Paired timing, the description of the machine, and tables in a page: shared by the benchmarks."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["CLOCKS", "Pairs", "compare", "machine", "markdown_table", "seconds_per_call", "show", "write_between"]

#: Wall time is what a user waits for. Processor time is less disturbed by other programs, and comparable only
#: where both sides run on one thread (``OMP_NUM_THREADS=1``).
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

# Seconds after which threads that were left spinning sleep.
_PAUSE = 0.05


@dataclass(frozen=True)
class Pairs:
    """Seconds per call of two programs, measured in turns.

    Args:
        first: Seconds per call of the first, one entry per turn.
        second: The same of the second; entry ``i`` was measured right after entry ``i`` of ``first``.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the pairs of ``first / second``."""
        return statistics.median(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def ratio_of_best(self) -> float:
        """Ratio of the shortest times: what disturbances by other programs move least."""
        return min(self.first) / min(self.second)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Quartiles over the pairs of ``first / second``."""
        if len(self.first) < 2:
            return self.ratio, self.ratio
        ratios = [a / b for a, b in zip(self.first, self.second, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds per call of either."""
        return statistics.median(self.first), statistics.median(self.second)


def seconds_per_call(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    """Return the mean seconds of ``calls`` calls in a row."""
    begin = clock()
    for _ in range(calls):
        run()
    return (clock() - begin) / calls


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    turns: int,
    seconds: float,
    clock: Callable[[], float],
) -> Pairs:
    """Measure two programs in turns: first, second, first, second ...

    A change of the machine's speed then meets both alike. There is a pause before every block: the threads of
    onnxruntime go on spinning for a while after a call, and would take a core away from what is measured next.

    Args:
        first: The program that is judged.
        second: What it is compared with.
        turns: Number of pairs.
        seconds: Least duration of a block.
        clock: An entry of :data:`CLOCKS`.
    """
    counts = []
    for run in (first, second):
        run()
        once = min(seconds_per_call(run, 1, clock) for _ in range(3))
        counts.append(max(1, round(seconds / max(once, 1e-7))))
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for run, count, into in zip((first, second), counts, taken, strict=True):
            time.sleep(_PAUSE)
            into.append(seconds_per_call(run, count, clock))
    return Pairs(tuple(taken[0]), tuple(taken[1]))


def machine() -> str:
    """Return one sentence about processor, accelerator, threads and versions."""
    parts = [f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch thread(s)"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts.append(f"Python {platform.python_version()}")
    for package in ("torch", "onnxruntime", "ConfigSpace", "gymnasium"):
        try:
            parts.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            parts.append(f"no {package}")
    return ", ".join(parts)


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a Markdown table whose first ``left`` columns are text and whose others are figures."""
    lines = [titles, ["---"] * left + ["---:"] * (len(titles) - left), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(titles: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print what machine it is and a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, title=title)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(machine())
    console.print(table)


def write_between(page: Path, marker: str, text: str) -> None:
    """Replace what stands between ``<!-- marker:begin -->`` and ``<!-- marker:end -->`` of a page.

    Raises:
        SystemExit: If the page lacks the markers.
    """
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"{page} lacks the markers {begin} and {end}.")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
