"""What decides what an objective measures, as bytes that are the same in every process.

Kept results are found again by it: what is left out of it would let a changed model have the results of the old one.
So an object is told as pickle would write it, its state and all, and the classes and functions it is made of by their
code. Two pickles of equal objects may differ (it depends on which of their strings are one object), and the text of an
estimator is shortened by scikit-learn, so that neither will do.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import Field
from pathlib import Path
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from hpo_gym.live.code_origin import digests_of_files, imported_modules, is_installed, version_of

__all__ = ["Undescribed", "describe"]

# Of exactly these types: a class made of one of them may hold more, and do something else.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
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
    whole modules of the user that it names, by their files and those of what they import. Nothing is imported for it.

    Raises:
        Undescribed: If it holds something that cannot be pickled and is no class, function or module, or a set of what
            has no order, or lies too deep.
    """
    digest = hashlib.sha256()
    try:
        for part in _Description().parts(objective):
            digest.update(f"{len(part)}:".encode())
            digest.update(part)
    except RecursionError as error:
        raise Undescribed("object that holds others too deeply") from error
    return digest.digest()


class _Description:
    """The parts of one objective, each object told once: where it is met again, its number is told."""

    def __init__(self) -> None:
        # With the objects: the number of one that is gone could be that of another.
        self._told: dict[int, tuple[int, Any]] = {}
        self._files: set[str] = set()

    def parts(self, value: Any) -> Iterator[bytes]:
        if type(value) in _PLAIN:
            yield f"{type(value).__name__}={value!r}".encode()
        elif type(value) is tuple:
            # Equal ones may or may not be one object; what they hold is told once.
            yield f"tuple {len(value)}".encode()
            for item in value:
                yield from self.parts(item)
        elif id(value) in self._told:
            yield f"again {self._told[id(value)][0]}".encode()
        else:
            self._told[id(value)] = len(self._told), value
            if isinstance(value, type | FunctionType):
                yield from self._code(value)
            else:
                yield from self._held(value)

    def _code(self, value: type | FunctionType) -> Iterator[bytes]:
        yield _name(value)
        if not is_installed(value.__module__):
            yield from self._class(value) if isinstance(value, type) else self._function(value)

    def _held(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        if kind is np.ndarray or isinstance(value, np.generic):
            yield from self._array(np.asarray(value))
        elif kind in (dict, MappingProxyType):
            yield f"mapping {len(value)}".encode()
            for key, item in value.items():
                yield from self.parts(key)
                yield from self.parts(item)
        elif kind is list:
            yield f"list {len(value)}".encode()
            for item in value:
                yield from self.parts(item)
        elif isinstance(value, set | frozenset):
            yield f"set {len(value)}".encode()
            yield from self.parts((kind, getattr(value, "__dict__", None), *_in_order(value)))
        elif kind is ModuleType:
            yield from self._module(value.__name__)
        elif kind is MethodType:
            yield from self.parts(("method", value.__func__, value.__self__))
        elif kind is functools._lru_cache_wrapper:
            yield from self.parts(("cache", value.__wrapped__, value.cache_parameters(), value.__dict__))
        elif isinstance(value, Path):
            yield f"path {value}".encode()
        elif kind is Field:
            yield from self.parts(("field", value.name, value.default, value.default_factory))
        elif kind.__module__ == dataclasses.__name__:
            # Marks of absent defaults, each the only one of its class.
            yield kind.__qualname__.encode()
        elif (torch := sys.modules.get("torch")) is not None and isinstance(value, torch.Tensor):
            yield from self._tensor(value, torch)
        else:
            yield from self._pickled(value)

    def _array(self, array: np.ndarray[Any, Any]) -> Iterator[bytes]:
        yield f"array {array.dtype.descr} {array.shape}".encode()
        if array.dtype.hasobject:
            yield from self.parts(array.ravel().tolist())
        else:
            yield array.tobytes()

    def _tensor(self, tensor: Any, torch: ModuleType) -> Iterator[bytes]:
        # Its own pickle holds addresses.
        yield from self.parts(("tensor", type(tensor), str(tensor.dtype), tuple(tensor.shape), tensor.requires_grad))
        try:
            yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        except RuntimeError as error:
            raise Undescribed(f"tensor of layout {tensor.layout}") from error

    def _pickled(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        except Exception as error:
            # Classes of the user may refuse in any way.
            raise Undescribed(f"{kind.__module__}.{kind.__qualname__}, which cannot be pickled") from error
        if isinstance(reduced, str):
            # Compiled, or the only one of its kind: it has a name in a module.
            module = str(getattr(value, "__module__", None) or kind.__module__)
            yield reduced.encode()
            yield from self._module(module)
            return
        whole: list[Any] = [*reduced, *[None] * (6 - len(reduced))]
        make, given, state, items, pairs, *rest = whole
        yield b"object"
        state = _without_cached(kind, state)
        yield from self.parts((make, given, state, tuple(items or ()), tuple(pairs or ()), *rest))

    def _module(self, name: str) -> Iterator[bytes]:
        yield f"module {name} {version_of(name)}".encode()
        yield from digests_of_files(name, self._files)

    def _class(self, value: type) -> Iterator[bytes]:
        if type(value) is not type:
            yield from self.parts(type(value))
        yield from self.parts(value.__bases__)
        for name in sorted(set(vars(value)) - _OF_CLASSES):
            yield name.encode()
            yield from self.parts(_bare(vars(value)[name]))

    def _function(self, value: FunctionType) -> Iterator[bytes]:
        yield from _told_code(value.__code__)
        enclosed = tuple(_content(cell) for cell in value.__closure__ or ())
        yield from self.parts((value.__defaults__, value.__kwdefaults__, enclosed, value.__dict__))
        for name in sorted(_names(value.__code__) & set(value.__globals__)):
            yield name.encode()
            yield from self.parts(value.__globals__[name])
        for module in sorted(imported_modules(value.__code__, value.__globals__.get("__package__"))):
            yield from self._module(module)


def _in_order(items: set[Any] | frozenset[Any]) -> list[Any]:
    """Return the items of a set in an order that is the same in every process.

    Raises:
        Undescribed: If they have none.
    """
    keys = [_order(item) for item in items]
    if len(set(keys)) < len(keys):
        raise Undescribed("set of what has no order")
    return [item for _, item in sorted(zip(keys, items, strict=True), key=lambda pair: pair[0])]


def _order(item: Any) -> str:
    if type(item) in _PLAIN:
        return f"{type(item).__name__} {item!r}"
    if isinstance(item, type | FunctionType):
        return f"{item.__module__}.{item.__qualname__}"
    if type(item) is tuple:
        return f"tuple {[_order(each) for each in item]}"
    if type(item) is frozenset:
        return f"frozenset {sorted(map(_order, item))}"
    raise Undescribed(f"set of {type(item).__module__}.{type(item).__qualname__}")


def _without_cached(kind: type, state: Any) -> Any:
    """Return a state without what was only made because it was asked for: it follows from the rest."""
    if type(state) is not dict:
        return state
    attributes = {name: inspect.getattr_static(kind, str(name), None) for name in state}
    kept = {name: held for name, held in state.items() if type(attributes[name]) is not functools.cached_property}
    # What holds nothing has no state.
    return kept or None


def _bare(attribute: Any) -> Any:
    """Return what a descriptor wraps."""
    if isinstance(attribute, staticmethod | classmethod):
        return (type(attribute), attribute.__func__)
    if isinstance(attribute, property):
        return (type(attribute), attribute.fget, attribute.fset, attribute.fdel)
    if type(attribute) is functools.cached_property:
        return attribute.func
    # Slots say nothing but their names.
    return None if isinstance(attribute, MemberDescriptorType | GetSetDescriptorType) else attribute


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


def _told_code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield code.co_exceptiontable
    counts = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    yield repr((counts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    yield f"constants {len(code.co_consts)}".encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _told_code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()


def _name(value: type | Callable[..., Any]) -> bytes:
    return f"{value.__module__}.{value.__qualname__} {version_of(value.__module__)}".encode()
