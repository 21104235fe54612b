"""Fingerprints of what decides a result, wherever it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["content_digest"]


def content_digest(named: Iterable[tuple[str, Any]]) -> str:
    """Return a fingerprint of tensors and plain values, wherever they came from, 64 hexadecimal digits.

    Args:
        named: Values and their names, in an order that is always the same; those of a mapping are sorted.
    """
    total = hashlib.sha256()
    for name, value in named:
        if isinstance(value, Mapping):
            total.update(f"{name}:{content_digest(sorted(value.items()))}".encode())
        elif isinstance(value, Tensor):
            total.update(f"{name}:{value.dtype}:{list(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            total.update(f"{name}:{value!r}".encode())
    return total.hexdigest()
