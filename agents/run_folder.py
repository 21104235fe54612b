"""A run folder: what was run, with which versions, its checkpoints and its result.

==========================  ==================================================================
``config.yaml``             every setting, resolved
``versions.json``           packages, platform, git commit, provenance of the data
``checkpoints/*.pt``        the newest few: all that is needed to go on bitwise (CPU)
``policy.pt``               the trained agent alone
``result.json``             written last: a run without it is not finished
``events.out.tfevents.*``   TensorBoard
==========================  ==================================================================

Every file is written under a temporary name and then renamed, so that a killed run leaves no half file.
"""

from __future__ import annotations

import io
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError
from hpo_gym.sources.bundle_files import write_atomic

__all__ = ["RunFolder"]

_PACKAGES = ("hpo_gym", "torch", "numpy", "gymnasium", "ConfigSpace", "hydra-core")


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
            InvalidSettingError: If there is a run already and ``overwrite`` is false.
        """
        if (path / "config.yaml").exists():
            if not overwrite:
                raise InvalidSettingError(
                    f"{path} already holds a run. Continue it with resume={path}, start again with overwrite=true, "
                    "or choose another name=..."
                )
            shutil.rmtree(path)
        folder = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        folder._write_json("versions.json", {**_versions(), "data": dict(provenance)})
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

    def save_checkpoint(self, steps: int, content: Mapping[str, Any], keep: int) -> Path:
        """Write a resumable checkpoint and remove all but the newest ``keep``."""
        path = self.path / "checkpoints" / f"step-{steps:012d}.pt"
        _save(path, content)
        for old in self._checkpoints()[:-keep]:
            old.unlink()
        return path

    def save_policy(self, content: Mapping[str, Any]) -> Path:
        """Write the trained agent."""
        path = self.path / "policy.pt"
        _save(path, content)
        return path

    def latest_checkpoint(self) -> dict[str, Any] | None:
        """Return the newest checkpoint, or ``None`` if the run was stopped before its first."""
        paths = self._checkpoints()
        return _load(paths[-1]) if paths else None

    def policy(self) -> dict[str, Any]:
        """Return the trained agent; of an unfinished run, the one in its newest checkpoint.

        Raises:
            DataMissingError: If there is neither.
            DataIntegrityError: If the file is corrupt.
        """
        path = self.path / "policy.pt"
        if path.exists():
            return _load(path)
        latest = self.latest_checkpoint()
        if latest is None:
            raise DataMissingError(f"{self.path} holds no trained agent yet. Train on with resume={self.path}.")
        return latest

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which marks the run as finished."""
        self._write_json("result.json", result)

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return (self.path / "result.json").exists()

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*.pt"))

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomic(self.path / name, (json.dumps(content, indent=1, default=str) + "\n").encode())


def _save(path: Path, content: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomic(path, buffer.getvalue())


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError) as error:
        raise DataIntegrityError(f"{path} cannot be read ({error}); remove it to use the one before.") from error
    except Exception as error:
        # torch raises pickle.UnpicklingError for a file with anything but tensors and plain values.
        raise DataIntegrityError(f"{path} is no checkpoint of hpo_gym ({type(error).__name__}).") from error
    return loaded


def _versions() -> dict[str, Any]:
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
