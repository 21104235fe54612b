"""Evaluations per second of the evaluation loop: thousands of episodes at once, every trial recorded.

``python benchmarks/evaluation.py`` plays random search on the test tasks of every embedded space, with as many
repetitions as ``python evaluate.py agents=[random] seeds=1000`` has, and counts what it takes to play them, and to make
the tables of trials and configurations of them. ``--write-docs`` renews the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from _timing import machine, markdown_table, show, write_between

# The zoo is not installed: it is in the checkout, beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.comparison import ComparisonConfig, prepare
from agents.environments import EnvironmentConfig
from hpo_gym.sources.bundle_files import bundled_spaces

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
TITLES = ("space", "test tasks", "evaluations", "evaluations per second, median", "best")


def measure(space: str, seeds: int, budget: int, turns: int) -> list[str]:
    """Return one row of the table."""
    config = ComparisonConfig(agents=("random",), env=EnvironmentConfig(space=space), seeds=seeds, budget=budget)
    comparison = prepare(config)
    speeds, count = [], 0
    for _ in range(turns):
        begun = time.perf_counter()
        count = len(comparison.run().records)
        speeds.append(count / (time.perf_counter() - begun))
    tasks = count // (seeds * budget)
    return [f"`{space}`", f"{tasks}", f"{count:,}", f"{statistics.median(speeds):,.0f}", f"{max(speeds):,.0f}"]


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions, one turn")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    seeds, turns = (100, 1) if options.quick else (1000, 3)
    rows = [measure(space, seeds, 50, turns) for space in sorted(bundled_spaces())]
    show(TITLES, rows, f"Random search, {seeds} repetitions, budget 50")
    if options.write_docs:
        write_between(PAGE, "evaluation", f"{machine()}.\n\n{markdown_table(TITLES, rows, 1)}")


if __name__ == "__main__":
    main()
