"""Names of a package that are imported on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return what a package calls for a name that it does not hold yet, as its ``__getattr__`` (PEP 562).

    Args:
        package: ``__name__`` of the package.
        modules: By name, the module inside the package that defines it.

    Returns:
        A function of the name; it raises AttributeError for one that ``modules`` does not have.
    """

    def attribute(name: str) -> Any:
        if name in modules:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
