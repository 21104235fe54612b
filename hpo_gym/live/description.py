"""What decides what an objective measures, as bytes that are the same in every process.

Kept results are found again by it: what is left out of it would let a changed model have the results of the old one.
Two pickles of equal objects may differ (it depends on which of their strings are one object), and the text of an
estimator is shortened by scikit-learn, so that neither will do.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

__all__ = ["Undescribed", "describe"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
# What the interpreter writes into classes, or what follows from the rest.
_OF_CLASSES = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__annotations__",
    "__abstractmethods__",
    "_abc_impl",
}
# What a dataclass says of itself is in its fields and in the methods that are made of them.
_OF_CLASSES |= {"__dataclass_params__", "__match_args__"}
_OF_CLASSES |= {"__static_attributes__", "__firstlineno__", "__annotate_func__", "__annotations_cache__"}


class Undescribed(Exception):
    """A part of an objective cannot be told from others of its kind."""


def describe(objective: Any) -> bytes:
    """Return a digest of an objective: of all its parts, and of the code of classes and functions of the user.

    What is installed counts by its name and version; what is not, by its code and by what of its module that names;
    whole modules of the user that it names, by their files and those of what they import.

    Raises:
        Undescribed: If it holds something that is no plain value, array, estimator, dataclass, class or function.
    """
    digest = hashlib.sha256()
    for part in _Description().parts(objective):
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.digest()


class _Description:
    """The parts of one objective, each class and function of the user told once."""

    def __init__(self) -> None:
        self._told: set[type | FunctionType] = set()
        # Containers that are being told: one may hold itself.
        self._open: list[int] = []

    def parts(self, value: Any) -> Iterator[bytes]:
        if type(value).__module__ == dataclasses.__name__ and not isinstance(value, Field):
            # Marks of absent defaults, each the only one of its class.
            yield type(value).__qualname__.encode()
        elif isinstance(value, _PLAIN):
            yield f"{type(value).__name__}={value!r}".encode()
        elif isinstance(value, type | FunctionType):
            yield _name(value)
            if not _is_installed(value.__module__) and value not in self._told:
                self._told.add(value)
                yield from self._class(value) if isinstance(value, type) else self._function(value)
        elif id(value) in self._open:
            yield f"again {len(self._open) - self._open.index(id(value))}".encode()
        else:
            self._open.append(id(value))
            yield from self._held(value)
            self._open.pop()

    def _held(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            yield f"array {array.dtype} {array.shape}".encode()
            yield from self.parts(array.ravel().tolist()) if array.dtype.hasobject else iter([array.tobytes()])
        elif isinstance(value, Mapping):
            pairs = sorted((b"".join(self.parts(key)), list(self.parts(item))) for key, item in value.items())
            yield f"mapping {len(pairs)}".encode()
            for key, told in pairs:
                yield from (key, *told)
        elif isinstance(value, list | tuple):
            yield f"{type(value).__name__} {len(value)}".encode()
            for item in value:
                yield from self.parts(item)
        elif isinstance(value, set | frozenset):
            yield f"set {len(value)}".encode()
            yield from sorted(b"".join(self.parts(item)) for item in value)
        elif isinstance(value, ModuleType):
            yield f"module {value.__name__}".encode()
            yield from _files(value.__name__)
        elif isinstance(value, functools.partial):
            yield from self.parts(["partial", value.func, value.args, value.keywords])
        elif isinstance(value, MethodType):
            yield from self.parts(["method", value.__func__, value.__self__])
        elif isinstance(value, Field):
            yield from self.parts(["field", value.name, value.default, value.default_factory])
        elif isinstance(value, Path):
            yield f"path {value}".encode()
        elif is_dataclass(value):
            yield from self.parts([type(value), *((each.name, getattr(value, each.name)) for each in fields(value))])
        elif callable(getattr(value, "get_params", None)):
            yield from self.parts([type(value), value.get_params(deep=False)])
        elif callable(value) and hasattr(value, "__wrapped__"):
            # A cache around a function, for example.
            yield from self.parts([type(value), value.__wrapped__])
        elif callable(value) and hasattr(value, "__qualname__") and _is_installed(str(value.__module__)):
            # Compiled: it has a name and no code.
            yield _name(value)
        else:
            raise Undescribed(f"{type(value).__module__}.{type(value).__qualname__}")

    def _class(self, value: type) -> Iterator[bytes]:
        yield from self.parts(list(value.__bases__))
        for name in sorted(set(vars(value)) - _OF_CLASSES):
            yield name.encode()
            yield from self.parts(_bare(vars(value)[name]))

    def _function(self, value: FunctionType) -> Iterator[bytes]:
        yield from _code(value.__code__)
        enclosed = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        yield from self.parts([value.__defaults__, value.__kwdefaults__, enclosed])
        for name in sorted(_names(value.__code__) & set(value.__globals__)):
            yield name.encode()
            yield from self.parts(value.__globals__[name])


def _bare(attribute: Any) -> Any:
    """Return what a descriptor wraps."""
    if isinstance(attribute, staticmethod | classmethod):
        return attribute.__func__
    if isinstance(attribute, property):
        return (attribute.fget, attribute.fset, attribute.fdel)
    if isinstance(attribute, functools.cached_property):
        return attribute.func
    # Slots and the like say nothing but their names.
    return attribute if isinstance(attribute, type | FunctionType) or not hasattr(attribute, "__set__") else None


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and what is defined within it, may look up outside of itself."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()


def _name(value: type | Callable[..., Any]) -> bytes:
    top = str(value.__module__).partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", "") if _is_installed(value.__module__) else ""
    return f"{value.__module__}.{value.__qualname__} {version}".encode()


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (*(Path(folder).resolve() for folder in folders), Path(__file__).resolve().parent.parent)


def _is_installed(module: str) -> bool:
    """Whether a module came with Python, a package or this one, so that its name and version say what it is."""
    found = sys.modules.get(module)
    if found is None:
        return False
    origin = getattr(found, "__file__", None)
    if origin is None:
        # Built in, or the interpreter's own prompt.
        return module != "__main__"
    path = Path(origin).resolve()
    return any(path.is_relative_to(folder) for folder in _installed_folders())


def _files(module: str) -> Iterator[bytes]:
    """Yield digests of the user's file that a module is, and of those that it imports, in order of their names."""
    known: dict[str, ModuleType] = {}
    left = [module]
    while left:
        name = left.pop()
        found = sys.modules.get(name)
        if found is None or name in known or _is_installed(name):
            continue
        known[name] = found
        for value in list(vars(found).values()):
            origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(origin, str):
                left.append(origin)
    for name in sorted(known):
        origin = getattr(known[name], "__file__", None)
        if origin is not None and Path(origin).is_file():
            yield hashlib.sha256(Path(origin).read_bytes()).digest()
