"""Unpacking archives from elsewhere without trusting them."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hpo_gym.errors import DataIntegrityError
from hpo_gym.sources.temporaries import discard, temporary_path

__all__ = ["ORIGIN_FILE", "unpack_zip"]

#: Name of the file in an unpacked folder that holds the SHA-256 of its archive.
ORIGIN_FILE = ".unpacked_from"

_MOST_BYTES = 16 * 1024**3
_MOST_MEMBERS = 100_000
# Deflate reaches about 1000 on constant bytes; tables of numbers in JSON reach 5 to 20.
_MOST_EXPANSION = 200


def unpack_zip(
    archive: Path,
    target: Path,
    origin: str,
    *,
    most_bytes: int = _MOST_BYTES,
    most_members: int = _MOST_MEMBERS,
    most_expansion: int = _MOST_EXPANSION,
) -> None:
    """Unpack a zip archive into a new folder, which gets its name only once it is complete.

    A single folder that holds everything becomes ``target`` itself.

    Args:
        archive: The archive.
        target: The folder; must not exist.
        origin: Kept in the folder's ``.unpacked_from``; the SHA-256 of the archive.
        most_bytes: Largest sum of unpacked sizes in bytes.
        most_members: Largest number of members.
        most_expansion: Largest ratio of unpacked to packed bytes.

    Raises:
        DataIntegrityError: If the archive is damaged, leads outside of its folder, holds links or encrypted
            members, or grows beyond the limits. Nothing is left behind.
        OSError: If the folder cannot be written.
    """
    temporary = temporary_path(target)
    try:
        temporary.mkdir(parents=True)
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _check_size(archive, members, most_bytes, most_members, most_expansion)
            for member in members:
                _unpack_member(archive, file, member, temporary)
        folder = _only_folder(temporary)
        (folder / ORIGIN_FILE).write_text(origin + "\n", encoding="ascii")
        os.rename(folder, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataIntegrityError(f"{archive} is no intact zip archive ({error}). Download it again.") from error
    finally:
        discard(temporary)


def _refused(archive: Path, reason: str) -> DataIntegrityError:
    return DataIntegrityError(f"{archive} is refused: {reason}. Nothing was unpacked; do not use this archive.")


def _check_size(
    archive: Path, members: list[zipfile.ZipInfo], most_bytes: int, most_members: int, most_expansion: int
) -> None:
    unpacked = sum(member.file_size for member in members)
    packed = max(1, archive.stat().st_size)
    if len(members) > most_members:
        raise _refused(archive, f"it has {len(members):,} members, allowed are {most_members:,}")
    if unpacked > most_bytes:
        raise _refused(archive, f"it would unpack to {unpacked:,} bytes, allowed are {most_bytes:,}")
    if unpacked > most_expansion * packed:
        raise _refused(archive, f"it would grow {unpacked / packed:,.0f}-fold, allowed is {most_expansion}-fold")


def _unpack_member(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or set(name) & {"\\", ":", "\0"}:
        raise _refused(archive, f"its member {name!r} leads outside of the folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, f"its member {name!r} is a link or a device, allowed are files and folders")
    if member.flag_bits & 1:
        raise _refused(archive, f"its member {name!r} is encrypted")
    target = folder / path
    try:
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # zipfile gives no more than the size that was announced, and checks each member's CRC at its end.
        with file.open(member) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(archive, f"it holds {name!r} twice, or as a file and as a folder") from error


def _only_folder(folder: Path) -> Path:
    # macOS adds a folder of its own to every archive.
    entries = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
