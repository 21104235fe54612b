"""One seed tree for everything that draws random numbers.

A seed and a path of names determine a stream: ``generator(0, "env", "reset")`` is the same stream
in every process and independent of ``generator(0, "agent")``. Nothing in hpo_gym touches the global
generators of Python, NumPy or torch.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import torch

from hpo_gym.errors import InvalidSettingError

__all__ = ["fresh_seed", "generator", "numpy_generator", "stream_seed"]


def fresh_seed() -> int:
    """Return a non-reproducible seed in ``[0, 2**31)`` drawn from the operating system."""
    return secrets.randbits(31)


def _sequence(seed: int, path: tuple[str | int, ...]) -> np.random.SeedSequence:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidSettingError(f"A seed must be a non-negative integer, got {seed!r}. Write for example seed=0.")
    digest = hashlib.sha256("\x1f".join(map(str, path)).encode()).digest()
    words = np.frombuffer(digest[:16], dtype=np.uint32)
    return np.random.SeedSequence(int(seed), spawn_key=tuple(int(word) for word in words))


def stream_seed(seed: int, *path: str | int) -> int:
    """Return the 63-bit seed of the stream named ``path`` below ``seed``."""
    return int(_sequence(seed, path).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a ``torch.Generator`` on ``device`` for the stream named ``path`` below ``seed``."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *path))


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return a ``numpy.random.Generator`` for the stream named ``path`` below ``seed``."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, path)))
