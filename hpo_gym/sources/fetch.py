"""Downloading one file from the first address that has the right one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from hpo_gym.errors import DataError, DataIntegrityError, DataMissingError
from hpo_gym.sources.pinned import PinnedFile
from hpo_gym.sources.temporaries import one_writer, remove_stale, replacing

__all__ = ["Progress", "Report", "fetch"]

#: Called with the bytes received so far and the bytes in all, if known.
Progress = Callable[[int, int | None], None]
#: Called with a sentence about an address that failed.
Report = Callable[[str], None]

# Seconds to connect, and seconds without a byte.
_TIMEOUT = (10.0, 60.0)
# The largest file whose size is not pinned is a few MB.
_LARGEST_UNPINNED = 256 * 1024**2
_REMEDY = "Check the connection, name another place with --mirror URL or HPO_GYM_MIRROR, or try again later."


def _silent(*_: object) -> None:
    pass


def fetch(
    urls: Sequence[str],
    target: Path,
    pinned: PinnedFile,
    *,
    progress: Progress = _silent,
    report: Report = _silent,
    timeout: tuple[float, float] = _TIMEOUT,
) -> str | None:
    """Download a file unless the right one is there already.

    The file gets its name only once it is complete and its checksum is right; processes that ask for the same
    file at the same time wait for the first.

    Args:
        urls: Addresses to try in order.
        target: Where the file goes.
        pinned: What it must be.
        progress: Called while bytes arrive.
        report: Called for every address that failed.
        timeout: Seconds to connect, and seconds without a byte.

    Returns:
        The address it came from, or ``None`` if the right file was there already.

    Raises:
        DataIntegrityError: If no address had the right content, and at least one had another.
        DataMissingError: If no address answered with content.
        OSError: If the target cannot be written.
    """
    if _right_file(target, pinned):
        # The folder may be somebody else's, and read-only.
        with contextlib.suppress(PermissionError):
            remove_stale(target)
        return None
    with one_writer(target):
        remove_stale(target)
        if _right_file(target, pinned):
            return None
        failures: list[DataError] = []
        for url in urls:
            try:
                _fetch_one(url, target, pinned, progress, timeout)
            except (DataIntegrityError, DataMissingError) as error:
                failures.append(error)
                report(str(error))
            else:
                return url
    wrong = any(isinstance(failure, DataIntegrityError) for failure in failures)
    kind = DataIntegrityError if wrong else DataMissingError
    listed = "; ".join(str(failure).rstrip(".") for failure in failures) or "no address is known"
    raise kind(f"{target.name} could not be downloaded to {target.parent}: {listed}. {_REMEDY}")


def _right_file(target: Path, pinned: PinnedFile) -> bool:
    return target.is_file() and pinned.problem(target) is None


def _fetch_one(url: str, target: Path, pinned: PinnedFile, progress: Progress, timeout: tuple[float, float]) -> None:
    with replacing(target) as temporary:
        _receive(url, temporary, pinned, progress, timeout)
        problem = pinned.problem(temporary)
        if problem is not None:
            raise DataIntegrityError(f"{url} has another file: {problem}.")


def _receive(url: str, temporary: Path, pinned: PinnedFile, progress: Progress, timeout: tuple[float, float]) -> None:
    import requests

    largest = _LARGEST_UNPINNED if pinned.size is None else pinned.size
    received = 0
    try:
        # Compressed, neither the announced length nor a broken end would say anything about the file.
        with requests.get(url, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code != 200:
                raise DataMissingError(f"{url} answered {response.status_code} {response.reason}.")
            announced = response.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else pinned.size
            with temporary.open("wb") as file:
                for chunk in response.iter_content(1 << 16):
                    received += len(chunk)
                    if received > largest:
                        raise DataIntegrityError(f"{url} has another file: it is longer than {largest:,} bytes.")
                    file.write(chunk)
                    progress(received, total)
            # Some servers and versions of urllib3 end a cut body like a whole one.
            if announced.isdecimal() and received < int(announced):
                raise DataIntegrityError(f"{url} broke off after {received:,} of {int(announced):,} bytes.")
    except requests.RequestException as error:
        if received:
            raise DataIntegrityError(f"{url} broke off after {received:,} bytes ({_cause(error)}).") from error
        raise DataMissingError(f"{url} cannot be reached ({_cause(error)}).") from error


def _cause(error: BaseException) -> str:
    """Return what went wrong first: requests and urllib3 wrap it several times."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}"
