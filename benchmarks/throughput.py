"""Throughput of the environments, relative to what they are built on.

``python benchmarks/throughput.py`` measures, in turns and on this machine:

* a whole vector step (decode, surrogate, reward, observation, autoreset) at 4,096 environments, relative to one
  batched onnxruntime call on the same scenario, and to the published package's way, one dictionary at a time;
* a step of the scalar environment, relative to one onnxruntime call with a batch of one;
* steps per second from 1 to 262,144 environments, and which share of that time matrix products alone would take.

The reference is always the published graph of the scenario. Its data (``HPO_GYM_DATA``) and onnxruntime are needed;
a space whose files are missing is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from _reference import Reference
from _scaling import Point, scaling
from _timing import CLOCKS, Pairs, compare, machine, markdown_table, write_between
from rich.console import Console
from rich.table import Table

import hpo_gym  # noqa: F401  (registers the environments)
from hpo_gym.errors import DataMissingError, UnknownNameError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BATCH = 4096

#: Scenario of the exact surrogates -> space of the bundle.
SPACES = {"rbv2_rpart": "rpart", "rbv2_xgboost": "xgboost", "lcbench": "lcbench", "rbv2_ranger@v2": "ranger"}
DEFAULT_SPACES = ("rbv2_rpart", "rbv2_xgboost", "lcbench")
EXACT = ("HPO-YAHPO-v0", "HPO-YAHPOContinuous-v0")
BUNDLE = ("HPO-OpenML-v0", "HPO-OpenMLContinuous-v0")


@dataclass(frozen=True)
class Measured:
    """One comparison.

    Args:
        table: ``batched``, ``published`` or ``scalar``.
        name: Id of the environment.
        space: Its space.
        pairs: Seconds per configuration of the environment and of the reference; ``scalar``: per step and per call.
        limit: What is accepted: the least speed-up, for ``scalar`` the largest ratio of times.
    """

    table: str
    name: str
    space: str
    pairs: Pairs
    limit: float

    @property
    def ratio(self) -> float:
        """Speed relative to the reference; for ``scalar``, time relative to the reference."""
        return self._judged(self.pairs.ratio)

    @property
    def spread(self) -> tuple[float, float]:
        """Quartiles of :attr:`ratio` over the pairs."""
        low, high = sorted(self._judged(value) for value in self.pairs.quartiles)
        return low, high

    @property
    def ratio_of_best(self) -> float:
        """:attr:`ratio` of the shortest times."""
        return self._judged(self.pairs.ratio_of_best)

    @property
    def accepted(self) -> bool:
        """Whether the limit is kept."""
        return self.ratio <= self.limit if self.table == "scalar" else self.ratio >= self.limit

    def _judged(self, ratio_of_times: float) -> float:
        return ratio_of_times if self.table == "scalar" else 1.0 / ratio_of_times


def vector_step(name: str, space: str, batch: int, device: str = "cpu") -> Callable[[], object]:
    """Return a function that steps a vector environment with prepared random actions.

    Episodes are staggered first, so that every step holds its share of autoresets.
    """
    env: Any = gym.make_vec(name, num_envs=batch, space=space, split="all", device=device)
    env.reset(seed=0)
    saved = env.state_dict()
    trials = torch.arange(batch, device=device) % (env.engine.settings.budget - 1) + 1
    saved["episodes"] |= {"trial": trials, "spent": trials.float()}
    env.load_state_dict(saved)
    generator = torch.Generator().manual_seed(0)
    shape = env.action_space.shape
    if isinstance(env.single_action_space, gym.spaces.Discrete):
        choices = [
            torch.randint(int(env.single_action_space.n), shape, generator=generator).to(device) for _ in range(8)
        ]
    else:
        choices = [torch.rand(shape, generator=generator).to(device) for _ in range(8)]
    return _in_turn(env.step, choices)


def scalar_step(name: str, space: str) -> Callable[[], object]:
    """Return a function that takes one step of a scalar environment, in an episode that is too long to end."""
    env: Any = gym.make(name, space=space, split="all", budget=1_000_000).unwrapped
    env.reset(seed=0)
    env.action_space.seed(0)
    return _in_turn(env.step, [env.action_space.sample() for _ in range(64)])


def _in_turn(run: Callable[[Any], object], arguments: Sequence[Any]) -> Callable[[], object]:
    """Return a function that calls ``run`` with the next argument, round and round."""
    each = itertools.cycle(arguments)
    return lambda: run(next(each))


def measure(scenario: str, turns: int, clock: Callable[[], float]) -> list[Measured]:
    """Run all comparisons of one scenario."""
    reference = Reference.load(scenario)
    batched, single = reference.batched(BATCH), reference.batched(1)
    published = reference.published(256)
    found = []
    for name in (*EXACT, *BUNDLE):
        exact = name in EXACT
        space = scenario if exact else SPACES[scenario]
        try:
            whole = vector_step(name, space, BATCH)
            one = scalar_step(name, space)
        except (DataMissingError, UnknownNameError) as error:
            Console(stderr=True).print(f"{name}, {space}: left out ({error})")
            continue
        pairs = compare(whole, batched, turns=turns, seconds=0.15, clock=clock)
        found.append(Measured("batched", name, space, _per(pairs, BATCH, BATCH), 0.8 if exact else 2.0))
        pairs = compare(whole, published, turns=turns, seconds=0.15, clock=clock)
        found.append(Measured("published", name, space, _per(pairs, BATCH, 1), 25.0 if exact else 60.0))
        pairs = compare(one, single, turns=4 * turns, seconds=0.03, clock=clock)
        found.append(Measured("scalar", name, space, pairs, 4.0))
    return found


def _per(pairs: Pairs, first: int, second: int) -> Pairs:
    return Pairs(tuple(value / first for value in pairs.first), tuple(value / second for value in pairs.second))


_HEADINGS = {
    "batched": (
        f"Vector step, B = {BATCH:,}, against one batched onnxruntime call",
        (
            "environment",
            "space",
            "configurations / s",
            "onnxruntime / s",
            "speed-up",
            "quartiles",
            "of best",
            "accepted",
        ),
    ),
    "published": (
        f"Vector step, B = {BATCH:,}, against the published package's way, one dictionary at a time",
        (
            "environment",
            "space",
            "configurations / s",
            "published way / s",
            "speed-up",
            "quartiles",
            "of best",
            "accepted",
        ),
    ),
    "scalar": (
        "Scalar step against one onnxruntime call with a batch of one",
        ("environment", "space", "step, µs", "call, µs", "times a call", "quartiles", "of best", "accepted"),
    ),
}
_SCALING = ("environment", "space", "device", "B", "configurations / s", "MFLOP each", "matrix products alone")


def cells(row: Measured) -> list[str]:
    """Return a comparison as text."""
    ours, theirs = row.pairs.medians
    digits = 1 if row.table == "published" else 2
    if row.table == "scalar":
        speeds = [f"{1e6 * ours:.0f}", f"{1e6 * theirs:.0f}"]
        limit = f"<= {row.limit:g}"
    else:
        speeds = [f"{1 / ours:,.0f}", f"{1 / theirs:,.0f}"]
        limit = f">= {row.limit:g}"
    figures = [f"{row.ratio:.{digits}f}", " to ".join(f"{value:.{digits}f}" for value in row.spread)]
    verdict = f"{limit}: {'yes' if row.accepted else 'NO'}"
    return [row.name, row.space, *speeds, *figures, f"{row.ratio_of_best:.{digits}f}", verdict]


def point_cells(point: Point) -> list[str]:
    """Return a row of the scaling table as text."""
    speed, flops = f"{point.batch / point.seconds:,.0f}", f"{point.flops / 1e6:.3f}"
    return [point.name, point.space, point.device, f"{point.batch:,}", speed, flops, f"{100 * point.share:.0f} %"]


def report(results: list[Measured], points: list[Point], console: Console) -> str:
    """Print the tables and return them as Markdown."""
    blocks = [machine() + "."]
    tables = [
        (title, columns, [cells(row) for row in results if row.table == name])
        for name, (title, columns) in _HEADINGS.items()
    ]
    tables.append(("Scaling", _SCALING, [point_cells(point) for point in points]))
    for title, columns, rows in tables:
        if not rows:
            continue
        shown = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            shown.add_column(column, justify="left" if index < 2 else "right")
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
        blocks.append(f"### {title}\n\n{markdown_table(columns, rows, 2)}")
    return "\n\n".join(blocks)


def as_json(results: list[Measured], points: list[Point]) -> dict[str, Any]:
    """Return everything that was measured."""
    comparisons: list[Mapping[str, Any]] = [
        {
            "table": row.table,
            "environment": row.name,
            "space": row.space,
            "ratio": row.ratio,
            "ratio_of_best": row.ratio_of_best,
            "limit": row.limit,
            "accepted": row.accepted,
            "seconds": row.pairs.first,
            "reference_seconds": row.pairs.second,
        }
        for row in results
    ]
    return {"machine": machine(), "comparisons": comparisons, "scaling": [point.__dict__ for point in points]}


def main() -> int:
    """Measure, print and, where asked, write; return 1 if a comparison misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns and small batches: a look, not a result")
    parser.add_argument("--spaces", nargs="+", default=list(DEFAULT_SPACES), choices=list(SPACES), metavar="SCENARIO")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: only with OMP_NUM_THREADS=1")
    parser.add_argument("--no-scaling", action="store_true", help="leave the scaling table out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time to FILE")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the tables of {PAGE.name}")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    if options.clock == "cpu" and torch.get_num_threads() > 1:
        parser.error("--clock cpu adds up the time of all threads: set OMP_NUM_THREADS=1.")
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(machine())
    results: list[Measured] = []
    for scenario in options.spaces:
        results += measure(scenario, 5 if options.quick else 15, CLOCKS[options.clock])
    points: list[Point] = []
    if not options.no_scaling:
        largest = 2**12 if options.quick else 2**18
        for scenario in options.spaces[:1] if options.quick else options.spaces:
            for name, space in ((EXACT[1], scenario), (BUNDLE[1], SPACES[scenario])):
                try:
                    points += scaling(vector_step, name, space, largest)
                except (DataMissingError, UnknownNameError) as error:
                    Console(stderr=True).print(f"{name}, {space}: left out ({error})")
    text = report(results, points, console)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, points), indent=1), encoding="utf-8")
    if options.write_docs:
        write_between(PAGE, "throughput", text)
    refused = [row for row in results if not row.accepted]
    console.print(f"{len(results) - len(refused)} of {len(results)} comparisons accepted.")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
