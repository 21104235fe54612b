"""What isolation costs, what it leaks, and how live evaluations scale with workers, here and through a Dask cluster.

``python benchmarks/live.py`` trains support vector machines and random forests on scikit-learn's wine data in worker
processes. Overhead: what a call of a warm worker takes beyond the call of the objective itself. Leaks: resident memory,
open files, threads and processes of this process before and after. Scaling: evaluations per second of a vector
environment with one worker, with two, and through a Dask cluster of two worker processes on this machine, measured in
turns. Where two cores are not idle, only the objective that waits tells what the machinery costs. ``--write-docs``
renews the tables in docs/live_isolation.md.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from _timing import machine, markdown_table, show, write_between

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.live import live_suite, preset_objective
from hpo_gym.live.executors import EvaluationExecutor, ExecutorSettings, close_executors, open_executor, pickled
from hpo_gym.live.limits import Limits
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.surrogates.base import Metric
from hpo_gym.tasks.ref import TaskRef

PAGE = Path(__file__).resolve().parents[1] / "docs" / "live_isolation.md"
LIMITS = Limits(seconds=60.0, memory=2048)
DATASET = "sklearn:wine"
# Environments in the scaling table, where nothing else is said.
ROWS = 32
OVERHEAD_TITLES = ("objective", "calls", "in the objective, median ms", "overhead, median ms", "95 %, ms")
LEAK_TITLES = ("after", "resident memory, MB", "open files", "threads", "processes")
SCALING_TITLES = (
    "objective",
    "executor",
    "evaluations per second, median",
    "quartiles",
    "of one worker",
    "of two workers",
)


def nothing(configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
    """Return a metric at once."""
    return {"accuracy": 0.5}


def wait(configuration: dict[str, Any], share: float, seed: int) -> dict[str, float]:
    """Take 50 ms, and no processor."""
    time.sleep(0.05)
    return {"accuracy": configuration["C"] / 1024.0}


def configurations(count: int) -> list[dict[str, float]]:
    """Return random configurations of the support vector machine."""
    values = torch.rand(count, 2, generator=generator(0, "benchmark", "configurations"))
    return [{"C": 2.0 ** (20 * float(c) - 10), "gamma": 2.0 ** (20 * float(g) - 10)} for c, g in values]


def overheads(executor: EvaluationExecutor, objective: Any, calls: int) -> tuple[list[float], list[float]]:
    """Return milliseconds within the objective and beyond it, one entry per call."""
    content, inside, beyond = pickled(objective), [], []
    for number, configuration in enumerate(configurations(calls + 10)):
        begun = time.perf_counter()
        found = executor.submit(content, configuration, 1.0, 0).result()
        taken = time.perf_counter() - begun
        if found.status != "ok":
            raise SystemExit(f"{configuration}: {found.status}: {found.message}")
        if number >= 10:  # the worker is warm from there on
            inside.append(1e3 * found.seconds)
            beyond.append(1e3 * (taken - found.seconds))
    return inside, beyond


def state() -> tuple[float, int, int, int]:
    """Return resident megabytes, open files, threads and descendants of this process."""
    me = psutil.Process()
    children = len(me.children(recursive=True))
    return me.memory_info().rss / 2**20, me.num_fds(), threading.active_count(), children


def isolation(calls: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of the first two tables."""
    executor = open_executor(ExecutorSettings(workers=1, limits=LIMITS))
    rows, leaks = [], []
    for name, objective in (("returns at once", nothing), (f"`svm` on {DATASET}", preset_objective("svm", DATASET))):
        overheads(executor, objective, 1)
        leaks.append([f"the first calls: {name}", *(f"{value:.0f}" for value in state())])
        inside, beyond = overheads(executor, objective, calls)
        leaks.append([f"{calls:,} calls: {name}", *(f"{value:.0f}" for value in state())])
        high = statistics.quantiles(beyond, n=20, method="inclusive")[-1]
        figures = (statistics.median(inside), statistics.median(beyond), high)
        rows.append([name, f"{calls:,}", *(f"{value:.2f}" for value in figures)])
    close_executors()
    return rows, leaks


@contextmanager
def dask_cluster() -> Iterator[ExecutorSettings]:
    """Begin a cluster of two worker processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield ExecutorSettings("dask", scheduler=cluster.scheduler_address, limits=LIMITS)
        close_executors()


def player(
    objective: Any, space: SearchSpace, settings: ExecutorSettings, steps: int, rows: int
) -> Callable[[], float]:
    """Return what plays random configurations in a vector environment, and returns its evaluations per second."""
    metrics = (Metric("accuracy", False, 0.0, 1.0),)
    suite = live_suite("benchmark", space, {TaskRef("custom", DATASET): objective}, metrics, executor=settings)
    env = HPOVectorEnv(rows, source=suite, split="all", action="continuous", budget=10**6)
    # The same configurations for all: a forest takes two or three times as long as another.
    draws = generator(0, "benchmark", "played")
    env.reset(seed=0)
    # Every worker imports its libraries and reads its data here.
    for _ in range(4):
        env.step(torch.rand(rows, space.dimension, generator=draws))

    def play() -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            env.step(torch.rand(rows, space.dimension, generator=draws))
        return rows * steps / (time.perf_counter() - begun)

    return play


def scaling(steps: int, turns: int, rows: int) -> list[list[str]]:
    """Return the rows of the last table."""
    table: list[list[str]] = []
    with dask_cluster() as dask:
        kinds = {
            "local, 1 worker": ExecutorSettings(workers=1, limits=LIMITS),
            "local, 2 workers": ExecutorSettings(workers=2, limits=LIMITS),
            "dask, 2 workers": dask,
        }
        svm, forest = (preset_objective(preset, DATASET) for preset in ("svm", "rf"))
        objectives = (
            ("waits 50 ms", wait, svm.space),
            (f"`svm` on {DATASET}", svm, svm.space),
            (f"`rf` on {DATASET}", forest, forest.space),
        )
        for what, objective, space in objectives:
            play = {name: player(objective, space, settings, steps, rows) for name, settings in kinds.items()}
            speeds: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(turns):
                for name in kinds:
                    speeds[name].append(play[name]())
            table += [[what, *row] for row in _compared(speeds)]
    return table


def _compared(speeds: dict[str, list[float]]) -> Iterator[list[str]]:
    references = list(speeds.values())[:2]
    for name, found in speeds.items():
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        ratios = [statistics.median(a / b for a, b in zip(found, other, strict=True)) for other in references]
        shown = f"{low:,.1f} .. {high:,.1f}"
        yield [name, f"{statistics.median(found):,.1f}", shown, *(f"{ratio:.2f}" for ratio in ratios)]


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, two turns")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the tables of {PAGE.name}")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"environments in the scaling table (default: {ROWS})")
    options = parser.parse_args()
    calls, steps, turns = (100, 2, 2) if options.quick else (1000, 3, 5)
    overhead, leaks = isolation(calls)
    show(OVERHEAD_TITLES, overhead, "Isolation in a warm worker")
    show(LEAK_TITLES, leaks, "What is left in this process")
    scaled = scaling(steps, turns, options.rows)
    show(SCALING_TITLES, scaled, f"A vector environment of {options.rows} rows")
    if options.write_docs:
        tables = ((OVERHEAD_TITLES, overhead, 1), (LEAK_TITLES, leaks, 1), (SCALING_TITLES, scaled, 2))
        text = "\n\n".join(markdown_table(*table) for table in tables)
        write_between(PAGE, "live", f"{machine()}.\n\n{text}")


if __name__ == "__main__":
    main()
