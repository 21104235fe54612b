"""Known ranges of suites that do not travel with the package: found once, kept in a file.

Ranges of the published surrogates are shipped (``data/ranges/``) where this project has found them;
others are found by ``python -m hpo_gym.find_optima`` and kept in the user's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hpo_gym.errors import DataIntegrityError
from hpo_gym.sources.bundle_files import write_atomic
from hpo_gym.sources.store import cache_folder
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import KnownRange

__all__ = ["PACKAGED_RANGES", "load_range", "range_name", "save_range"]

PACKAGED_RANGES = Path(__file__).resolve().parent.parent / "data" / "ranges"


def range_name(source: str, space: str, restriction: str, metric: str) -> str:
    """Return the file name of a range."""
    return f"{source}-{space}-{restriction}-{metric}.safetensors".replace("@", "_at_")


def save_range(name: str, known: KnownRange, tasks: Sequence[TaskRef], folder: Path | None = None) -> Path:
    """Write a range, by default into the user's cache; return the file."""
    from safetensors.torch import save

    path = (folder or cache_folder() / "ranges") / name
    tensors = {
        "worst": known.worst.cpu(),
        "median": known.median.cpu(),
        "best": known.best.cpu(),
        "best_u": known.best_u.cpu(),
    }
    metadata = {"method": known.method, "tasks": " ".join(map(str, tasks))}
    data = save({key: value.contiguous() for key, value in tensors.items()}, metadata)
    write_atomic(path, data)
    return path


def load_range(name: str, tasks: Sequence[TaskRef]) -> KnownRange | None:
    """Return the range of exactly these tasks, from the user's cache or the package, if known.

    Raises:
        DataIntegrityError: If a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    for folder in (cache_folder() / "ranges", PACKAGED_RANGES):
        path = folder / name
        if not path.exists():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            found, method = metadata["tasks"].split(), metadata["method"]
            parts = [tensors[key] for key in ("worst", "median", "best", "best_u")]
        except (SafetensorError, KeyError, TypeError) as error:
            # A file of the same format without metadata has None instead of them.
            raise DataIntegrityError(
                f"{path} is corrupt ({error}). Delete it and run `python -m hpo_gym.find_optima`."
            ) from error
        rows = {identity: index for index, identity in enumerate(found)}
        if not all(str(ref) in rows for ref in tasks):
            continue
        pick = torch.tensor([rows[str(ref)] for ref in tasks])
        worst, median, best, best_u = (part[pick] for part in parts)
        return KnownRange(worst, median, best, best_u, method)
    return None
