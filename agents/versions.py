"""What a result was made with."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["versions", "versions_text"]

_PACKAGES = (
    "hpo_gym",
    "torch",
    "numpy",
    "scipy",
    "gymnasium",
    "ConfigSpace",
    "hydra-core",
    "optuna",
    "cmaes",
    "smac",
)


def versions() -> dict[str, Any]:
    """Return versions of packages and of the interpreter, the kind of machine, and the git commit."""
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "packages": packages,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "git": _git(),
    }


def versions_text(made_with: Mapping[str, Any]) -> str:
    """Return the interpreter and the kind of machine of what :func:`versions` said, for a page."""
    return ", ".join(f"{name} {value}" for name, value in sorted(made_with.items()) if isinstance(value, str))


def _git() -> dict[str, Any] | None:
    """Return commit and whether the tree had changes; ``None`` outside a repository."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())}
