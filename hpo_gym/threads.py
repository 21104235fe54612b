"""How many threads torch computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread", "torch_threads"]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads until the end of the block.

    Threads wait for each other at the end of every operation. Where another process has one of the cores, all of them
    wait for the one that has none, which costs many times what they save.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread until the end of the block: small matrices lose time on more."""
    with torch_threads(1):
        yield
