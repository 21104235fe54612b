"""A run folder: what was run, with which versions, its checkpoints and its result.

==========================  ==================================================================
``config.yaml``             every setting, resolved
``versions.json``           packages, platform, git commit, provenance and checksums of the data
``checkpoints/*.pt``        the newest few: all that is needed to go on bitwise (CPU)
``policy.pt``               the trained agent alone
``result.json``             written last: a run without it is not finished
``events.out.tfevents.*``   TensorBoard
``evaluation``              what ``evaluate.py`` writes
==========================  ==================================================================

Every file is written under a temporary name and then renamed, so that a killed run leaves no half file.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from agents.saved_files import SETTINGS, Saved, load, save
from agents.versions import versions
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.sources.bundle_files import write_atomic
from hpo_gym.sources.temporaries import discard, remove_stale, temporary_path

__all__ = ["RunFolder", "as_override", "default_name", "one_trainer", "resume_command"]

_NAMES = ("config.yaml", "versions.json", "checkpoints", "policy.pt", "result.json", "evaluation")
_EVENTS = "events.out.tfevents."
_POLICY = ("agent", "interface", "training_datasets", "validation_datasets", "state")
_CHECKPOINT = (*_POLICY, "environment", "validation", "recorder", SETTINGS)


@contextlib.contextmanager
def one_trainer(path: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder meanwhile.

    Raises:
        InvalidSettingError: If one does, or no folder can be there.
    """
    from filelock import FileLock, Timeout

    folder = path.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidSettingError(
            f"{path.parent} is a file, or within one: runs are kept in a folder. Choose another runs=..."
        ) from error
    # Beside the folder: overwriting a run moves the folder away.
    file = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InvalidSettingError(
            f"Another process is training in {path} (it holds {file}). Wait until it ends or stop it, or choose "
            "another name=..."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            file.unlink(missing_ok=True)
        lock.release()


def resume_command(path: Path) -> str:
    """Return the command that goes on with a run, as it can be pasted into a shell whatever the folder is called."""
    return shlex.join(["python", "train.py", as_override("resume", path)])


def as_override(key: str, path: Path) -> str:
    """Return ``key=path`` as Hydra reads it back: what means something to it, or is no ASCII, goes in quotes."""
    from hydra.core.override_parser.types import Quote, QuotedString

    text = str(path)
    if re.fullmatch(r"[\w./+-]+( +[\w./+-]+)*", text, re.ASCII):
        return f"{key}={text}"
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


class RunFolder:
    """The folder of one training run.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], provenance: Mapping[str, Any], overwrite: bool) -> RunFolder:
        """Make the folder of a new run and write what it is.

        Raises:
            InvalidSettingError: If the folder is not empty and ``overwrite`` is false, or holds what no run wrote.
        """
        remove_stale(path)
        if path.exists() and not path.is_dir():
            raise InvalidSettingError(f"{path} is a file, no folder for a run. Choose another name=... or runs=...")
        found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        if found:
            _require_replaceable(path, found, overwrite)
            # Deleting takes time and may fail halfway; renaming does neither.
            away = temporary_path(path)
            path.rename(away)
            discard(away)
        folder = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        folder._write_json("versions.json", {**versions(), "data": dict(provenance)})
        write_atomic(path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False).encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            DataMissingError: If there is none.
        """
        if not (path / "config.yaml").is_file():
            near = sorted(str(p.parent) for p in path.parent.glob("*/config.yaml")) if path.parent.is_dir() else []
            found = f" Runs beside it: {', '.join(near)}." if near else ""
            raise DataMissingError(
                f"There is no run in {path} (no config.yaml).{found} Train one with `python train.py name={path.name}`."
            )
        return cls(path)

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half written; only within :func:`one_trainer`."""
        for folder in (self.path, self.path / "checkpoints"):
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """Return the settings of the run.

        Raises:
            DataIntegrityError: If ``config.yaml`` cannot be read.
        """
        path = self.path / "config.yaml"
        try:
            parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataIntegrityError(f"{path} is not YAML ({error}). Train again with overwrite=true.") from error
        if not isinstance(parsed, dict):
            raise DataIntegrityError(f"{path} does not hold settings. Train again with overwrite=true.")
        return parsed

    def require_same_data(self, provenance: Mapping[str, Any]) -> None:
        """Refuse to go on with other data than the run began with.

        Args:
            provenance: That of the data as they are now.

        Raises:
            DataIntegrityError: If ``versions.json`` cannot be read.
            InvalidSettingError: If a checksum differs.
        """
        path = self.path / "versions.json"
        try:
            began = json.loads(path.read_text(encoding="utf-8"))["data"].get("sha256") or {}
            names = sorted({*began, *(provenance.get("sha256") or {})})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataIntegrityError(
                f"{path} does not say which data the run began with ({error!r}). Train again with overwrite=true."
            ) from error
        now = provenance.get("sha256") or {}
        changed = [
            f"{name}: {began.get(name)} then, {now.get(name)} now" for name in names if began.get(name) != now.get(name)
        ]
        if changed:
            raise InvalidSettingError(
                f"The data changed since the run in {self.path} began (SHA-256 of {'; '.join(changed)}). Go on with "
                "the data, or the version of hpo_gym, that it began with, or train again with another name=..."
            )

    def save_checkpoint(self, steps: int, content: Mapping[str, Any], keep: int) -> Path:
        """Write a resumable checkpoint and remove all but the newest ``keep``."""
        path = self.path / "checkpoints" / f"step-{steps:012d}.pt"
        save(path, content)
        for old in self._checkpoints()[:-keep]:
            old.unlink()
        return path

    def save_policy(self, content: Mapping[str, Any]) -> Path:
        """Write the trained agent."""
        path = self.path / "policy.pt"
        save(path, content)
        return path

    def latest_checkpoint(self) -> Saved | None:
        """Return the newest checkpoint, or ``None`` if the run was stopped before its first.

        Raises:
            DataIntegrityError: If the file is corrupt.
            InvalidSettingError: If another version of hpo_gym wrote it.
        """
        paths = self._checkpoints()
        if not paths:
            return None
        before = "use the one before" if len(paths) > 1 else "start the run anew"
        return load(paths[-1], _CHECKPOINT, f"Remove it to {before}.")

    def policy(self) -> Saved:
        """Return the trained agent; of an unfinished run, the best or else the last in its newest checkpoint.

        Raises:
            DataMissingError: If there is neither.
            DataIntegrityError: If the file is corrupt.
            InvalidSettingError: If another version of hpo_gym wrote it.
        """
        if self.has_policy:
            remedy = f"Remove it and run `{resume_command(self.path)}`: the newest checkpoint holds the policy, too."
            return load(self.path / "policy.pt", _POLICY, remedy)
        latest = self.latest_checkpoint()
        if latest is None:
            way = "Train again with overwrite=true" if self.finished else f"Train on with resume={self.path}"
            raise DataMissingError(f"{self.path} holds no trained agent. {way}.")
        validation = latest.content["validation"]
        best = validation.get("state") if isinstance(validation, Mapping) else None
        return latest if best is None else Saved(latest.path, {**latest.content, "state": best})

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which marks the run as finished."""
        self._write_json("result.json", result)

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return (self.path / "result.json").exists()

    @property
    def has_curves(self) -> bool:
        """Whether TensorBoard has something to show."""
        return any(self.path.glob(f"{_EVENTS}*"))

    @property
    def has_policy(self) -> bool:
        """Whether there is a trained agent outside the checkpoints."""
        return (self.path / "policy.pt").exists()

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*.pt"))

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(_json(content), indent=1, default=str, allow_nan=False)
        write_atomic(self.path / name, (text + "\n").encode())


def _json(content: Any) -> Any:
    """Return the same with null for numbers that JSON does not have."""
    if isinstance(content, Mapping):
        return {key: _json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_json(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def default_name(*parts: object) -> str:
    """Return the name of a folder that nobody has named, without the colon in that of a model of one's own."""
    return "-".join(str(part) for part in parts).replace(":", ".")


def _final_name(name: str) -> str:
    """Return the name of the file that a temporary one would have become; any other name as it is."""
    return name[1:].rsplit(".", 2)[0] if name.startswith(".") and name.endswith(".tmp") else name


def _require_replaceable(path: Path, found: list[str], overwrite: bool) -> None:
    """Refuse to replace a folder against the user's will, or one that is more than a run."""
    again = "start again with overwrite=true, or choose another name=..."
    finals = {name: _final_name(name) for name in found}
    foreign = [name for name, final in finals.items() if final not in _NAMES and not final.startswith(_EVENTS)]
    is_run = "versions.json" in finals.values()
    if is_run and not overwrite and "config.yaml" in found:
        raise InvalidSettingError(
            f"{path} already holds a run. Continue it with {shlex.quote(as_override('resume', path))}, {again}"
        )
    if foreign or not is_run:
        shown = ", ".join((foreign or found)[:5])
        more = ", which no run wrote" if is_run else ", and is no run folder"
        raise InvalidSettingError(
            f"{path} holds {shown}{more}. Choose another name=... or runs=..., or move that away yourself."
        )
    if not overwrite:
        raise InvalidSettingError(f"{path} holds what is left of a run ({', '.join(found[:5])}): {again}")
