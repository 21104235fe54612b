"""Temporary names beside a target, what dead processes left of them, and one writer at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from hpo_gym.errors import InvalidSettingError

__all__ = ["discard", "one_writer", "remove_stale", "replacing", "require_writable", "temporary_path"]

# Whether a process of another machine lives cannot be asked; no download takes this long.
_STALE_SECONDS = 24 * 3600.0
_SUFFIX = ".part"


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def temporary_path(target: Path) -> Path:
    """Return an unused name in the target's folder that says which process writes it."""
    return target.with_name(f".{target.name}.{_machine()}.{os.getpid()}.{uuid.uuid4().hex[:8]}{_SUFFIX}")


def remove_stale(target: Path) -> list[Path]:
    """Remove what dead processes left under temporary names of ``target``; return what was removed."""
    removed = []
    for path in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
        parts = path.name.removeprefix(f".{target.name}.").split(".")
        if len(parts) == 4 and parts[1].isdecimal() and _stale(path, parts[0], int(parts[1])):
            discard(path)
            removed.append(path)
    return removed


def discard(path: Path) -> None:
    """Remove a file or a folder, or nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Give a path to write to; at the end that takes the place of ``target``, or goes where anything failed.

    Readers see the old content or the new, never a part. The folder is made where it is missing.

    Args:
        target: The file.
        temporary: Where to write, in the same folder; ``None``: a :func:`temporary_path`.

    Raises:
        OSError: If the folder cannot be written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = temporary or temporary_path(target)
    try:
        yield path
        os.replace(path, target)
    finally:
        discard(path)


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before long work is done for it; make it where it is missing.

    Raises:
        InvalidSettingError: Naming the folder.
    """
    probe = temporary_path(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise InvalidSettingError(f"Nothing can be written to {folder} ({error}). Name another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            discard(probe)


def _stale(path: Path, machine: str, process: int) -> bool:
    # On Windows os.kill(process, 0) is no question: it interrupts the process.
    if machine == _machine() and os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def one_writer(target: Path) -> Iterator[None]:
    """Wait until no other process writes ``target``, and keep others waiting meanwhile.

    It saves others the same download; that no reader ever sees a part of the file is due to the renaming alone.
    """
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    with FileLock(path):
        try:
            yield
        finally:
            # Removed while it is held. A process that waited on the removed file tries again, or, with an
            # old filelock, goes on beside the next one: a download too many, no wrong file.
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)
