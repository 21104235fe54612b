"""Start-up times: importing torch, importing hpo_gym on top of it, and making the first environment.

``python benchmarks/startup.py`` starts a fresh interpreter for every single time. The first start of each kind is
not counted: it reads files that the later ones find in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from _timing import machine, markdown_table, show, write_between

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

#: What is shown -> what comes before (not timed), and what is timed.
STEPS = {
    "import torch": ("", "import torch"),
    "import hpo_gym, torch being there": ("import torch", "import hpo_gym"),
    "import hpo_gym, torch and gymnasium being there": ("import torch, gymnasium", "import hpo_gym"),
    'gymnasium.make("HPO-OpenML-v0"), first of a process': (
        "import torch, gymnasium, hpo_gym",
        "gymnasium.make('HPO-OpenML-v0')",
    ),
    "its first reset and step": (
        "import torch, gymnasium, hpo_gym; env = gymnasium.make('HPO-OpenML-v0')",
        "env.reset(seed=0); env.step(0)",
    ),
}


@dataclass(frozen=True)
class StartUp:
    """Seconds of one step, one entry per interpreter."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def measure(before: str, timed: str) -> float:
    """Return the seconds that ``timed`` takes in a fresh interpreter, after ``before``.

    Raises:
        subprocess.CalledProcessError: If either fails.
    """
    script = f"{before}\nimport time\nbegin = time.perf_counter()\n{timed}\nprint(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_all(repetitions: int) -> list[StartUp]:
    """Measure all steps in turns, so that a change of the machine's speed meets them alike."""
    rounds = [[measure(*step) for step in STEPS.values()] for _ in range(repetitions + 1)][1:]
    return [StartUp(name, tuple(times)) for name, times in zip(STEPS, zip(*rounds, strict=True), strict=True)]


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three interpreters of each kind instead of eleven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time to FILE")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    results = measure_all(3 if options.quick else 11)
    titles = ("what", "median, ms", "shortest, ms")
    rows = [[row.name, f"{1e3 * row.median:.0f}", f"{1e3 * min(row.seconds):.0f}"] for row in results]
    show(titles, rows, "Start-up")
    if options.json:
        options.json.write_text(json.dumps({row.name: row.seconds for row in results}, indent=1), encoding="utf-8")
    if options.write_docs:
        write_between(PAGE, "startup", f"{machine()}.\n\n{markdown_table(titles, rows, 1)}")


if __name__ == "__main__":
    main()
