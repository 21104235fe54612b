"""What of classes, code, sets and states is told of an object (:mod:`hpo_gym.live.description`), and what is not."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from enum import Enum, EnumMeta
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from hpo_gym.live.code_origin import is_installed, is_module

__all__ = [
    "PLAIN",
    "Undescribed",
    "content_of",
    "has_its_name",
    "in_order",
    "modules_along",
    "own_attributes",
    "told_code",
    "without_cached",
]

#: What its text says all of, of exactly these types: a class made of one of them may hold more, and do something else.
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
# What the interpreter writes into classes, or what follows from the rest.
_OF_CLASSES = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__annotations__",
    "__abstractmethods__",
    "_abc_impl",
    "__static_attributes__",
    "__firstlineno__",
    "__annotate_func__",
    "__annotations_cache__",
    # What a dataclass says of itself is in its fields and in the methods that are made of them.
    "__dataclass_params__",
    "__match_args__",
    # What is added when a class is first used.
    "__slotnames__",
}
# Combinations of flags are added to them as they are met.
_OF_ENUMS = {
    "_member_map_",
    "_member_names_",
    "_value2member_map_",
    "_inverted_",
    "_hashable_values_",
    "_unhashable_values_",
    "_unhashable_values_map_",
}
_OF_SPARSE = {"_has_canonical_format", "_has_sorted_indices"}
# Py_TPFLAGS_HEAPTYPE: a class that a statement or a call has made.
_HEAP_TYPE = 1 << 9


class Undescribed(Exception):
    """A part of an objective cannot be told from others of its kind."""


def has_its_name(value: type | FunctionType) -> bool:
    """Whether a class or function is what its module has under its name, as pickle requires of it."""
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        # Compiled; some of those have a name in no module.
        return True
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = inspect.getattr_static(found, part, None)
        found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return found is value


def modules_along(value: Any, attributes: tuple[str, ...]) -> set[str]:
    """Return the modules of the user that are reached from a module by attributes: ``import package.module``."""
    found: set[str] = set()
    if isinstance(value, ModuleType) and not is_installed(value.__name__):
        name = value.__name__
        for attribute in attributes:
            name = f"{name}.{attribute}"
            if not is_module(name):
                break
            found.add(name)
    return found


def in_order(items: set[Any] | frozenset[Any]) -> list[Any]:
    """Return the items of a set in an order that is the same in every process.

    Raises:
        Undescribed: If they have none.
    """
    keys = [_order(item) for item in items]
    if len(set(keys)) < len(keys):
        raise Undescribed("set of what has no order")
    return [item for _, item in sorted(zip(keys, items, strict=True), key=lambda pair: pair[0])]


def _order(item: Any) -> str:
    if type(item) in PLAIN:
        return f"{type(item).__name__} {item!r}"
    if isinstance(item, type | FunctionType):
        return f"{item.__module__}.{item.__qualname__}"
    if isinstance(item, Enum):
        return f"{type(item).__module__}.{type(item).__qualname__} {item.name}"
    if type(item) is tuple:
        return f"tuple {[_order(each) for each in item]}"
    if type(item) is frozenset:
        return f"frozenset {sorted(map(_order, item))}"
    raise Undescribed(f"set of {type(item).__module__}.{type(item).__qualname__}")


def without_cached(kind: type, state: Any) -> Any:
    """Return a state without what was only made because it was asked for: it follows from the rest."""
    if type(state) is not dict:
        return state
    if kind.__module__.startswith("scipy.sparse"):
        # What is found out when it is asked for.
        state = {name: held for name, held in state.items() if name not in _OF_SPARSE}
    attributes = {name: inspect.getattr_static(kind, str(name), None) for name in state}
    kept = {name: held for name, held in state.items() if type(attributes[name]) is not functools.cached_property}
    # What holds nothing has no state.
    return kept or None


def own_attributes(value: type) -> list[tuple[str, Any]]:
    """Return what a class statement has put into a class, what descriptors wrap instead of them, by name."""
    found = []
    for name, held in sorted(vars(value).items()):
        if name in _OF_CLASSES or (isinstance(value, EnumMeta) and _is_of_enum(value, name, held)):
            continue
        # A protocol puts one there when it is first used.
        if name == "__init__" and (held is object.__init__ or getattr(held, "__module__", "") == "typing"):
            continue
        found.append((name, _bare(held)))
    return found


def _is_of_enum(enum: EnumMeta, name: str, held: Any) -> bool:
    """Whether an attribute of an enumeration is a member, or one of the tables that it keeps of them."""
    return isinstance(held, enum) or name in enum.__members__ or name in _OF_ENUMS


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


def content_of(cell: CellType) -> Any:
    """Return what a cell holds; one that is not filled yet holds the mark of that."""
    try:
        return cell.cell_contents
    except ValueError:
        return Ellipsis


def told_code(code: CodeType) -> Iterator[bytes]:
    """Yield all that decides what code does, where the names in it mean the same."""
    yield code.co_code
    yield code.co_exceptiontable
    counts = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    yield repr((counts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    yield f"constants {len(code.co_consts)}".encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from told_code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()
