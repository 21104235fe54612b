"""Reading and writing the files of the embedded bundle.

A space is two files, ``<space>.json`` (everything but tensors) and ``<space>.safetensors`` (network weights
in half precision, ranges in single precision); ``manifest.json`` holds the SHA-256 of all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hpo_gym.errors import DataIntegrityError, DataMissingError, UnknownNameError, unknown_name
from hpo_gym.sources.temporaries import replacing

__all__ = [
    "BUNDLE_FOLDER",
    "bundled_spaces",
    "read_bundle",
    "read_kept",
    "sha256",
    "write_atomic",
    "write_bundle",
    "write_kept",
]

#: Where the bundle lies inside the package.
BUNDLE_FOLDER = Path(__file__).resolve().parent.parent / "data" / "bundle"

_REPAIR = "Reinstall hpo_gym, or refit the bundle with `python -m hpo_gym.fit_bundle`."


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    # The folder of a run knows what a killed process left there by this name.
    with replacing(path, path.with_name(f".{path.name}.{os.getpid()}.tmp")) as temporary:
        temporary.write_bytes(data)


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataIntegrityError(f"{path} is not JSON: {error}. {_REPAIR}") from error
    return manifest


def bundled_spaces(folder: Path = BUNDLE_FOLDER) -> list[str]:
    """Return the names of the embedded spaces."""
    return sorted(Path(name).stem for name in _manifest(folder) if name.endswith(".safetensors"))


def _read_checked(folder: Path, name: str, manifest: Mapping[str, str]) -> bytes:
    path = folder / name
    if name not in manifest or not path.exists():
        raise DataMissingError(f"The bundle in {folder} has no {name}. {_REPAIR}")
    data = path.read_bytes()
    found = sha256(data)
    if found != manifest[name]:
        raise DataIntegrityError(f"{path} is corrupt: its SHA-256 is {found}, expected {manifest[name]}. {_REPAIR}")
    return data


def read_bundle(space: str, folder: Path = BUNDLE_FOLDER) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and tensors of an embedded space, checked against the manifest.

    Raises:
        UnknownNameError: If the bundle has no such space.
        DataMissingError: If a file is missing.
        DataIntegrityError: If a file does not match its checksum.
    """
    from safetensors.torch import load

    manifest = _manifest(folder)
    spaces = bundled_spaces(folder)
    if space not in spaces:
        if not spaces:
            repair = _REPAIR if folder == BUNDLE_FOLDER else f"Correct data_dir={str(folder)!r}, or leave it out."
            raise DataMissingError(f"There is no bundle in {folder}. {repair}")
        raise unknown_name(
            "embedded space",
            space,
            spaces,
            "Other spaces come with source='yahpo' (`python -m hpo_gym.download yahpo`).",
        )
    header = json.loads(_read_checked(folder, f"{space}.json", manifest))
    return header, load(_read_checked(folder, f"{space}.safetensors", manifest))


def read_kept(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return what :func:`write_kept` wrote; ``None`` where it did not, has not finished, or the files are damaged."""
    try:
        return read_bundle(name, folder)
    except (UnknownNameError, DataMissingError, DataIntegrityError):
        return None


def write_kept(name: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write what can be made again into a folder of its own, whatever is there."""
    _write(name, header, tensors, folder, {})


def write_bundle(
    space: str,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    folder: Path = BUNDLE_FOLDER,
) -> int:
    """Write a space and its checksums; return its size in bytes."""
    return _write(space, header, tensors, folder, _manifest(folder))


def _write(
    space: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, manifest: dict[str, str]
) -> int:
    from safetensors.torch import save

    files = {
        f"{space}.json": (json.dumps(header, indent=1, sort_keys=True) + "\n").encode(),
        f"{space}.safetensors": save({key: value.contiguous() for key, value in tensors.items()}),
    }
    for name, data in files.items():
        write_atomic(folder / name, data)
        manifest[name] = sha256(data)
    write_atomic(folder / "manifest.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    return sum(len(data) for data in files.values())
