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
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import Field
from enum import EnumMeta
from pathlib import Path
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from hpo_gym.live.code_origin import (
    digests_of_files,
    imported_modules,
    is_installed,
    names_looked_up,
    version_of,
)
from hpo_gym.live.described_parts import (
    PLAIN,
    Undescribed,
    content_of,
    has_its_name,
    in_order,
    modules_along,
    own_attributes,
    told_code,
    without_cached,
)

__all__ = ["Undescribed", "describe"]

# The generators that whole modules draw from.
_RANDOM = (np.random.mtrand._rand, random._inst)


def describe(objective: Any) -> bytes:
    """Return a digest of an objective: of all its parts, and of the code of classes and functions of the user.

    What is installed counts by its name and version; what is not, by its code and by what of its module that names;
    whole modules of the user that it names, by their files and those of what they import. Nothing is imported for it.
    What a ``cached_property`` keeps is left out: it follows from the rest, unless somebody puts something else there.

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
        self._tuples: dict[int, tuple[bytes, tuple[Any, ...]]] = {}
        self._files: set[str] = set()

    def parts(self, value: Any) -> Iterator[bytes]:
        if type(value) in PLAIN:
            yield f"{type(value).__name__}={value!r}".encode()
        elif type(value) is tuple:
            yield self._tuple(value)
        elif id(value) in self._told:
            yield f"again {self._told[id(value)][0]}".encode()
        else:
            self._told[id(value)] = len(self._told), value
            if isinstance(value, type | FunctionType):
                yield from self._code(value)
            else:
                yield from self._held(value)

    def _tuple(self, value: tuple[Any, ...]) -> bytes:
        """Return a digest: equal ones may or may not be one object, so that they have no numbers."""
        if id(value) in self._tuples:
            return self._tuples[id(value)][0]
        content = hashlib.sha256()
        for item in value:
            for part in self.parts(item):
                content.update(f"{len(part)}:".encode())
                content.update(part)
            content.update(b";")
        digest = f"tuple {len(value)} ".encode() + content.digest()
        self._tuples[id(value)] = digest, value
        return digest

    def _code(self, value: type | FunctionType) -> Iterator[bytes]:
        yield f"{value.__module__}.{value.__qualname__} {version_of(value.__module__)}".encode()
        if is_installed(value.__module__) and has_its_name(value):
            return
        yield from self._class(value) if isinstance(value, type) else self._function(value)

    def _held(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        if value is os.environ or any(value is each for each in _RANDOM):
            # Another in every process, and after every use.
            yield f"the only {kind.__qualname__}".encode()
        elif kind is np.ndarray or isinstance(value, np.generic):
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
            yield from self.parts((kind, getattr(value, "__dict__", None), *in_order(value)))
        elif isinstance(value, ModuleType):
            yield from self._module(value.__name__)
        elif kind is MethodType:
            yield from self.parts(("method", value.__func__, value.__self__))
        elif kind is functools._lru_cache_wrapper:
            yield from self.parts(("cache", value.__wrapped__, value.cache_parameters(), value.__dict__))
        elif isinstance(value, Path):
            yield f"path {value}".encode()
        elif kind is Field:
            told = (value.default, value.default_factory, value.init, value.repr, value.compare, value.metadata)
            yield from self.parts(("field", value.name, *told))
        elif kind.__module__ == dataclasses.__name__:
            # Marks of absent defaults, each the only one of its class.
            yield kind.__qualname__.encode()
        elif (torch := sys.modules.get("torch")) is not None and isinstance(value, torch.Tensor):
            yield from self._tensor(value, torch)
        else:
            yield from self._pickled(value)

    def _array(self, array: np.ndarray[Any, Any]) -> Iterator[bytes]:
        yield f"array {array.dtype!r} {array.shape}".encode()
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
        state = without_cached(kind, state)
        yield from self.parts((make, given, state, tuple(items or ()), tuple(pairs or ()), *rest))

    def _module(self, name: str) -> Iterator[bytes]:
        yield f"module {name} {version_of(name)}".encode()
        yield from digests_of_files(name, self._files)

    def _class(self, value: type) -> Iterator[bytes]:
        if type(value) is not type:
            yield from self.parts(type(value))
        yield from self.parts(value.__bases__)
        if isinstance(value, EnumMeta):
            members: dict[str, Any] = dict(value.__members__)
            yield from self.parts(tuple((name, member.value) for name, member in members.items()))
        for name, attribute in own_attributes(value):
            yield name.encode()
            yield from self.parts(attribute)

    def _function(self, value: FunctionType) -> Iterator[bytes]:
        yield from told_code(value.__code__)
        # A decorator gives what it makes the name and module of what it was given.
        home = value.__globals__.get("__name__")
        if home == functools.__name__ and hasattr(value, "registry"):
            # A function for several types keeps those that it was called with.
            yield from self.parts(tuple(value.registry.items()))
            return
        enclosed = tuple(content_of(cell) for cell in value.__closure__ or ())
        yield from self.parts((value.__defaults__, value.__kwdefaults__, enclosed, value.__dict__))
        if is_installed(home):
            yield f"of {home} {version_of(home)}".encode()
            return
        chains = names_looked_up(value.__code__)
        for name in sorted({chain[0] for chain in chains} & set(value.__globals__)):
            yield name.encode()
            yield from self.parts(value.__globals__[name])
        modules = imported_modules(value.__code__, value.__globals__.get("__package__"))
        for chain in chains:
            modules |= modules_along(value.__globals__.get(chain[0]), chain[1:])
        for module in sorted(modules):
            yield from self._module(module)
