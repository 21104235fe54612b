"""Speed by batch size, and how much of it the matrix products alone would take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Point", "products_of", "scaling"]

#: ``(rows, inner, columns)`` of a matrix product -> how often a step does it.
Products = Counter[tuple[int, int, int]]


@dataclass(frozen=True)
class Point:
    """Speed at one batch size.

    Args:
        name: Id of the environment.
        space: Its space.
        device: ``cpu`` or ``cuda``.
        batch: ``B``.
        seconds: Median seconds of a vector step.
        flops: Floating-point operations of the matrix products of one configuration.
        share: Seconds of the step's matrix products alone, in the same shapes and on the same machine, divided by
            ``seconds``.
    """

    name: str
    space: str
    device: str
    batch: int
    seconds: float
    flops: float
    share: float


class _Recorder(TorchDispatchMode):
    """Notes the shapes of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Products = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_", "bmm", "baddbmm"):
            left, right = args[-2:]
            count = left.shape[0] if left.ndim == 3 else 1
            self.products[(left.shape[-2], left.shape[-1], right.shape[-1])] += count
        return func(*args, **(kwargs or {}))


def products_of(run: Callable[[], object]) -> Products:
    """Return the shapes of the matrix products that one call does."""
    with _Recorder() as recorder:
        run()
    return recorder.products


def scaling(
    vector_step: Callable[[str, str, int, str], Callable[[], object]], name: str, space: str, largest: int
) -> list[Point]:
    """Measure steps of 1, 4, 16 ... ``largest`` environments, on the CPU and on CUDA where there is any.

    Args:
        vector_step: Builds a program that takes one step: ``(id, space, batch, device)``.
        name: Id of the environment.
        space: Its space.
        largest: Largest batch.
    """
    points = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        batch = 1
        while batch <= largest:
            step = vector_step(name, space, batch, device)
            products = products_of(step)
            alone = _multiply(products, device)
            seconds, limit = _in_turns(step, alone, device)
            flops = sum(2 * rows * inner * columns * count for (rows, inner, columns), count in products.items())
            points.append(Point(name, space, device, batch, seconds, flops / batch, limit / seconds))
            batch *= 4
    return points


def _multiply(products: Products, device: str) -> Callable[[], object]:
    """Return a program that does nothing but these products, on ready operands and into ready results."""
    generator = torch.Generator().manual_seed(0)
    work: list[tuple[Tensor, Tensor, Tensor]] = []
    for (rows, inner, columns), count in products.items():
        left = torch.rand(rows, inner, generator=generator).to(device)
        right = torch.rand(inner, columns, generator=generator).to(device)
        work += [(left, right, torch.empty(rows, columns, device=device))] * count

    def run() -> None:
        for left, right, result in work:
            torch.mm(left, right, out=result)

    return run


def _in_turns(step: Callable[[], object], alone: Callable[[], object], device: str) -> tuple[float, float]:
    """Return the median seconds of both; the median of 7 turns of at least 20 ms."""
    programs = (step, alone)
    counts = [max(1, round(0.02 / max(_seconds(run, 1, device), 1e-6))) for run in programs]
    times = [[_seconds(run, count, device) for run, count in zip(programs, counts, strict=True)] for _ in range(7)]
    middle = [sorted(column)[len(column) // 2] for column in zip(*times, strict=True)]
    return middle[0], middle[1]


def _seconds(run: Callable[[], object], calls: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / calls
