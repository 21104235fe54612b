"""What decides what an objective measures, as bytes that are the same in every process.

Kept results are found again by it: what is left out of it would let a changed model have the results of the old one.
Two pickles of equal objects may differ (it depends on which of their strings are one object), and the text of an
estimator is shortened by scikit-learn, so that neither will do.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
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
            yield _name_of_module(value.__name__)
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
        enclosed = [_content(cell) for cell in value.__closure__ or ()]
        yield from self.parts([value.__defaults__, value.__kwdefaults__, enclosed])
        for name in sorted(_names(value.__code__) & set(value.__globals__)):
            yield name.encode()
            yield from self.parts(value.__globals__[name])
        for module in sorted(_imported(value.__code__, value.__globals__.get("__package__"))):
            yield _name_of_module(module)
            yield from _files(module)


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


def _content(cell: CellType) -> Any:
    """Return what a cell holds; one that is not filled yet holds the mark of that."""
    try:
        return cell.cell_contents
    except ValueError:
        return Ellipsis


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and what is defined within it, may look up outside of itself."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _imported(code: CodeType, package: str | None) -> set[str]:
    """Return the modules that code, and what is defined within it, imports when it is called."""
    found, level = set(), 0
    constants: list[Any] = []
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_CONST":
            constants.append(step.argval)
        elif step.opname == "IMPORT_NAME":
            # The level and the names have been loaded just before.
            level, names = constants[-2:]
            base = f"{'.' * level}{step.argval}"
            module = resolve_name(base, package) if level and package else base.lstrip(".")
            # What is named after a package may be a module in it.
            found |= {module, *(f"{module}.{name}" for name in names or () if name != "*")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _imported(constant, package)
    return {name for name in found if _is_module(name)}


def _is_module(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):
        # What cannot be imported here cannot be told; whoever trains will say so.
        return False


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()


def _name(value: type | Callable[..., Any]) -> bytes:
    return f"{value.__module__}.{value.__qualname__} {_version(value.__module__)}".encode()


def _name_of_module(name: str) -> bytes:
    return f"module {name} {_version(name)}".encode()


def _version(module: str) -> str:
    """Return the version of what a module was installed with, empty for a module of the user."""
    if not _is_installed(module):
        return ""
    top = module.partition(".")[0]
    told = getattr(sys.modules.get(top), "__version__", None)
    return str(told) if told else " ".join(map(version, sorted(set(_distributions().get(top, ())))))


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return packages_distributions()


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (*(Path(folder).resolve() for folder in folders), Path(__file__).resolve().parent.parent)


def _is_installed(module: str) -> bool:
    """Whether a module came with Python, a package or this one, so that its name and version say what it is."""
    origin = _origin(module)
    if origin is None:
        # Built in, or the interpreter's own prompt.
        return module in sys.modules and module != "__main__"
    return any(origin.is_relative_to(folder) for folder in _installed_folders())


def _origin(module: str) -> Path | None:
    """Return the file of a module, whether this process has imported it or not."""
    found = sys.modules.get(module)
    if found is None:
        spec = find_spec(module) if _is_module(module) else None
        origin = spec.origin if spec is not None and spec.has_location else None
    else:
        origin = getattr(found, "__file__", None)
    return Path(origin).resolve() if origin else None


def _files(module: str) -> Iterator[bytes]:
    """Yield digests of the user's file that a module is, and of those that it imports, in order of their names."""
    known: dict[str, bytes] = {}
    left = [module]
    while left:
        name = left.pop()
        origin = _origin(name)
        if name in known or origin is None or not origin.is_file() or _is_installed(name):
            continue
        content = known[name] = origin.read_bytes()
        if origin.suffix == ".py":
            package = name if origin.name == "__init__.py" else name.rpartition(".")[0]
            # As text, because what has been imported differs from process to process.
            left += _imported(compile(content, str(origin), "exec"), package)
    for name in sorted(known):
        yield hashlib.sha256(known[name]).digest()
