"""Initial weights from a stream of their own: layers of torch draw theirs from the global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the initial weights of modules from one stream; afterwards the global generator is where it was.

    Args:
        seed: Seed of the stream (see :func:`hpo_gym.seeding.stream_seed`).
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed seeds every CUDA device, too, which nobody would restore.
        torch.default_generator.manual_seed(seed)
        yield
