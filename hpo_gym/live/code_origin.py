"""Where code comes from: what was installed counts by its version, files of the user by their content and imports.

Nothing is imported to find out: to import the user's modules may run their scripts.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import pkgutil
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CodeType
from typing import Any

import hpo_gym

__all__ = ["digests_of_files", "imported_modules", "is_installed", "is_module", "names_looked_up", "version_of"]

# Folders of packages, wherever they are: the user's own, a distribution's, those of the system beside an environment's.
_PACKAGES = {"site-packages", "dist-packages"}
# Instructions that look up a name of the module, or of Python.
_LOOKUPS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def is_installed(module: str | None) -> bool:
    """Whether a module came with Python, a package or this one, so that its name and version say what it is."""
    if module is None:
        return False
    origin = _origin(module)
    if origin is None:
        # Built in, or the interpreter's own prompt.
        return module in sys.modules and module != "__main__"
    return not _PACKAGES.isdisjoint(origin.parts) or any(map(origin.is_relative_to, _installed_folders()))


def version_of(module: str | None) -> str:
    """Return the version of what a module was installed with, empty for a module of the user.

    It is the same whether this process has imported the module or not.
    """
    if module is None or not is_installed(module):
        return ""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return platform.python_version()
    if top == hpo_gym.__name__:
        # To look for its distribution is to read those of all packages.
        return hpo_gym.__version__
    found = sorted(set(_distributions().get(top, ())))
    # What is in a folder of its own, without a distribution, was imported from there.
    return " ".join(map(version, found)) or str(getattr(sys.modules.get(top), "__version__", ""))


def imported_modules(code: CodeType, package: str | None) -> set[str]:
    """Return the modules that code, and what is defined within it, imports.

    Args:
        code: A function's, or a whole module's.
        package: What relative imports are relative to.
    """
    found: set[str] = set()
    for each in _with_inner(code):
        loaded: list[Any] = []
        for step in dis.get_instructions(each):
            if step.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
                loaded.append(step.argval)
            elif step.opname == "IMPORT_NAME":
                # The level and the names have been loaded just before.
                level, names = loaded[-2:]
                module = _absolute(step.argval, level, package)
                if module:
                    # What is named after a package may be a module in it.
                    found |= {module, *(f"{module}.{name}" for name in names or () if name != "*")}
    # To import a module is to run the packages that it is in.
    found |= {name.rsplit(".", depth)[0] for name in found for depth in range(1, name.count(".") + 1)}
    return {name for name in found if is_module(name)}


def _absolute(name: str, level: int, package: str | None) -> str:
    """Return the name of what is imported, empty where it lies beyond the outermost package: nobody can import it."""
    try:
        return resolve_name("." * level + name, package) if level and package else name
    except ImportError:
        return ""


def is_module(name: str) -> bool:
    """Whether there is a module of this name, imported or not."""
    return name in sys.modules or _spec(name) is not None


def names_looked_up(code: CodeType) -> set[tuple[str, ...]]:
    """Return what code, and what is defined within it, looks up outside of itself, with the attributes it then takes.

    E.g. ``("package", "module", "function")`` of ``package.module.function(1)``.
    """
    found: set[tuple[str, ...]] = set()
    for each in _with_inner(code):
        chain: tuple[str, ...] = ()
        for step in dis.get_instructions(each):
            if step.opname in _LOOKUPS:
                found.add(chain)
                chain = (step.argval,)
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
                chain = (*chain, step.argval)
            elif step.opname != "EXTENDED_ARG":
                found.add(chain)
                chain = ()
        found.add(chain)
    return found - {()}


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """Yield code and what is defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def digests_of_files(module: str, told: set[str]) -> Iterator[bytes]:
    """Yield digests of the user's file that a module is, and of those that it imports, in order of their names.

    Args:
        module: Its name.
        told: Modules to leave out; those that were found are added.
    """
    known: dict[str, bytes] = {}
    left = [module]
    while left:
        name = left.pop()
        origin = _origin(name)
        if name in told or origin is None or not origin.is_file() or is_installed(name):
            continue
        told.add(name)
        content = known[name] = origin.read_bytes()
        if origin.suffix == ".py":
            package = name if origin.name == "__init__.py" else name.rpartition(".")[0]
            left += _imports_of(content, origin, package)
    for name in sorted(known):
        yield name.encode()
        yield hashlib.sha256(known[name]).digest()


def _imports_of(content: bytes, origin: Path, package: str) -> Iterable[str]:
    """Return the modules that the text of a module imports: what has been imported differs from process to process."""
    try:
        return imported_modules(compile(content, str(origin), "exec"), package)
    except (SyntaxError, ValueError):
        # Nobody can import it either.
        return ()


def _origin(module: str) -> Path | None:
    """Return the file of a module, whether this process has imported it or not."""
    if module in sys.modules:
        origin = getattr(sys.modules[module], "__file__", None)
    else:
        spec = _spec(module)
        origin = spec.origin if spec is not None and spec.has_location else None
    return Path(origin).resolve() if origin else None


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module would be found; unlike ``find_spec`` without importing the packages that it is in."""
    top, *inner = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        # What cannot be imported here cannot be told; whoever trains will say so.
        return None
    reached = top
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        reached = f"{reached}.{part}"
        spec = _submodule(reached, spec.submodule_search_locations)
    return spec


def _submodule(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    portions: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = None if finder is None else finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or []
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return packages_distributions()


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (*(Path(folder).resolve() for folder in folders), Path(__file__).resolve().parent.parent)
