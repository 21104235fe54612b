"""``python -m hpo_gym.download yahpo rbv2_svm``: fetch published data, checked against pinned checksums."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpo_gym.errors import DataIntegrityError, HPOGymError, InvalidSettingError, require_names, unknown_name
from hpo_gym.sources.archives import ORIGIN_FILE, unpack_zip
from hpo_gym.sources.fetch import Progress, fetch
from hpo_gym.sources.pinned import PinnedTable, packaged_table
from hpo_gym.sources.store import cache_folder, data_places
from hpo_gym.sources.temporaries import discard, one_writer, remove_stale

__all__ = ["addresses", "download_hpob", "download_yahpo", "main"]

_SOURCES = ("yahpo", "hpob")
_ARCHIVES = ("hpob-data", "saved-surrogates")


def main(arguments: Sequence[str] | None = None, table: PinnedTable | None = None) -> int:
    """Run the command; return the exit status: 0, or 2 after an error, which is printed.

    Args:
        arguments: Command line; ``None`` means that of the process.
        table: Pinned files; ``None`` means those of the package.
    """
    table = packaged_table() if table is None else table
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.download", description=__doc__)
    parser.add_argument("source", help=f"what to download: {' or '.join(_SOURCES)}")
    parser.add_argument("names", nargs="*", help="YAHPO scenarios, or archives of HPO-B; default: all of them")
    parser.add_argument(
        "--to", type=Path, default=None, metavar="DIR", help="data folder; default: the cache of hpo_gym"
    )
    parser.add_argument(
        "--mirror",
        action="extend",
        nargs="+",
        default=[],
        metavar="URL",
        help="base address of a copy of the publication, tried before the published one; also HPO_GYM_MIRROR",
    )
    parser.add_argument("--only-mirrors", action="store_true", help="never ask the published address")
    options = parser.parse_intermixed_args(arguments)
    try:
        if options.source not in _SOURCES:
            raise unknown_name("source", options.source, _SOURCES)
        mirrors = _mirrors(options.mirror, options.only_mirrors)
        folder = cache_folder() if options.to is None else options.to.expanduser()
        if options.source == "yahpo":
            download_yahpo(options.names, folder, mirrors, table, published=not options.only_mirrors)
        else:
            download_hpob(options.names, folder, mirrors, table, published=not options.only_mirrors)
        _tell_use(folder)
    except HPOGymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}. Name another folder with --to DIR.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what is complete stays, the same command goes on", file=sys.stderr)
        return 130
    return 0


def _tell_use(folder: Path) -> None:
    if folder.resolve() not in [place.resolve() for place in data_places(None).values()]:
        print(f"hpo_gym finds these files with data_dir={str(folder)!r} or HPO_GYM_DATA={folder}")


def _mirrors(named: Sequence[str], only_mirrors: bool) -> list[str]:
    mirrors = [*named, *os.environ.get("HPO_GYM_MIRROR", "").split()]
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise InvalidSettingError(
                f"Mirror {mirror!r} is no address: it must begin with https:// or http://. "
                "Names of scenarios go before --mirror."
            )
    if only_mirrors and not mirrors:
        raise InvalidSettingError("--only-mirrors leaves no address: name one with --mirror URL or HPO_GYM_MIRROR.")
    return mirrors


def addresses(relative: str, mirrors: Sequence[str], table: PinnedTable, published: bool = True) -> list[str]:
    """Return the addresses of a file in the order in which they are tried.

    Args:
        relative: Path relative to a data folder, e.g. ``yahpo/rbv2_rpart/model.onnx``.
        mirrors: Base addresses of copies of the publication; tried first.
        table: Pinned files.
        published: Whether to end with the published addresses.
    """
    path = relative.partition("/")[2]
    publication = table.publication(relative)
    own = [] if publication is None or not published else [url.replace("{path}", path) for url in publication.urls]
    return [f"{mirror.rstrip('/')}/{path}" for mirror in mirrors] + own


def download_yahpo(
    scenarios: Sequence[str], folder: Path, mirrors: Sequence[str], table: PinnedTable, published: bool = True
) -> None:
    """Download YAHPO scenarios into ``folder/yahpo/<scenario>/``.

    Args:
        scenarios: Their names; none means all.
        folder: Data folder.
        mirrors: Base addresses to try first; a file is at ``<mirror>/<scenario>/<file>``.
        table: Pinned files.
        published: Whether to end with the published address.

    Raises:
        UnknownNameError: For a scenario that cannot be downloaded.
        DataError: If a file cannot be had, or is not the published one everywhere.
    """
    known = table.scenarios()
    for scenario in scenarios:
        if scenario not in known:
            remedy = (
                "Scenarios with @v2 are not released: put their files into a data folder." if "@" in scenario else ""
            )
            raise unknown_name("YAHPO scenario", scenario, known, remedy)
    for scenario in scenarios or known:
        for relative in known[scenario]:
            with _progress(relative) as progress:
                urls = addresses(relative, mirrors, table, published)
                source = fetch(urls, folder / relative, table.files[relative], progress=progress, report=_report)
            print(f"{folder / relative}: {'already there' if source is None else f'from {source}'}")


def download_hpob(
    archives: Sequence[str], folder: Path, mirrors: Sequence[str], table: PinnedTable, published: bool = True
) -> None:
    """Download HPO-B's archives and unpack them into ``folder/hpob/<archive>/``.

    Args:
        archives: ``hpob-data`` (the evaluations), ``saved-surrogates``; none means both.
        folder: Data folder.
        mirrors: Base addresses to try first; an archive is at ``<mirror>/<archive>.zip``.
        table: Pinned files.
        published: Whether to end with the published address.

    Raises:
        UnknownNameError: For an unknown archive.
        DataError: If an archive cannot be had, is not the published one, or is unsafe to unpack.
    """
    require_names("archive of HPO-B", archives, _ARCHIVES)
    for name in archives or _ARCHIVES:
        relative = f"hpob/{name}.zip"
        target = folder / "hpob" / name
        pinned = table.files[relative]
        with one_writer(target):
            if target.exists():
                _check_unpacked(target, str(pinned.sha256))
                print(f"{target}: already there")
                continue
            remove_stale(target)
            archive = folder / relative
            with _progress(relative) as progress:
                urls = addresses(relative, mirrors, table, published)
                source = fetch(urls, archive, pinned, progress=progress, report=_report)
            unpack_zip(archive, target, str(pinned.sha256))
            if source is not None:
                discard(archive)
            print(f"{target}: from {source or archive}")


def _check_unpacked(target: Path, expected: str) -> None:
    origin = target / ORIGIN_FILE
    found = origin.read_text(encoding="ascii").strip() if origin.is_file() else "unknown"
    if found != expected:
        raise DataIntegrityError(
            f"{target} was unpacked from an archive with SHA-256 {found}, expected {expected}. "
            "Move it away and run the command again."
        )


def _report(problem: str) -> None:
    print(f"warning: {problem}", file=sys.stderr)


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """Show a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)
        yield lambda received, total: bars.update(task, completed=received, total=total)


if __name__ == "__main__":
    sys.exit(main())
