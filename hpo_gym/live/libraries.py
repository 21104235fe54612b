"""Optional libraries: whether they are there, and how to get them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hpo_gym.errors import InvalidSettingError

__all__ = ["EXTRAS", "model_versions", "require_library"]

#: The extra of this package that installs a module.
EXTRAS = {"sklearn": "live", "xgboost": "xgboost", "lightgbm": "lightgbm", "openml": "openml"}

# Modules beside this one that say how a model is made, trained and scored, and on which rows.
_TRAINING = (
    "coded",
    "datasets",
    "embedded_boosting",
    "embedded_models",
    "embedded_network",
    "embedded_suite",
    "fit",
    "frame_coder",
    "frames",
    "live_objective",
    "models",
    "openml_data",
    "openml_fetch",
    "prepared_rows",
    "preprocessing",
    "presets",
    "scoring",
    "table",
    "torch_models",
    "user_model",
    "validation",
)
# Distributions that models are trained by, as pip names them.
_TRAINERS = ("numpy", "scipy", "scikit-learn", "torch", "xgboost", "lightgbm")


def model_versions() -> dict[str, str]:
    """Return the versions of the libraries that models are trained by, as far as they are installed."""
    found = {}
    for name in _TRAINERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def training_code() -> str:
    """Return a digest of this package's own code that decides what a training measures."""
    here = Path(__file__)
    content = hashlib.sha256()
    for file in (*(here.with_name(f"{name}.py") for name in _TRAINING), here.parent.parent / "seeding.py"):
        content.update(file.read_bytes())
    return content.hexdigest()


def require_library(module: str, what: str) -> None:
    """Refuse to go on where a library is not installed; it is not imported.

    Args:
        module: One of :data:`EXTRAS`.
        what: What needs it, for the message.

    Raises:
        InvalidSettingError: Naming what needs it and how to install it.
    """
    if find_spec(module) is None:
        raise InvalidSettingError(
            f"{what} needs the package {module}, which is not installed. Install it with "
            f"`pip install '.[{EXTRAS[module]}]'` in a checkout of hpo_gym."
        )
