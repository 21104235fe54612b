"""Where task suites come from.

``load_suite("bundled", "rpart")`` returns a :class:`~hpo_gym.tasks.suite.TaskSuite`; nothing outside this
package knows where a task came from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from typing import Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["check_source_options", "load_suite", "register_source", "source_names"]

# What every loader gets from an environment's own arguments.
_ENVIRONMENT_ARGUMENTS = ("source", "space", "metric", "protocol", "data_dir")

# Loaders are imported on first use: the embedded default needs none of the others' dependencies.
_LOADERS: dict[str, str | Callable[..., TaskSuite]] = {
    "bundled": "hpo_gym.sources.bundled:load_bundled",
    "grpoformer": "hpo_gym.sources.grpoformer:load_grpoformer",
    "hpob": "hpo_gym.sources.hpob:load_hpob",
    "live": "hpo_gym.sources.live:load_live",
    "openml": "hpo_gym.sources.openml_runs:load_openml",
    "runs": "hpo_gym.sources.runs:load_runs",
    "synthetic": "hpo_gym.sources.synthetic:load_synthetic",
    "yahpo": "hpo_gym.sources.yahpo:load_yahpo",
}


def source_names() -> list[str]:
    """Return the names that :func:`load_suite` knows."""
    return sorted(_LOADERS)


def register_source(name: str, loader: Callable[..., TaskSuite]) -> None:
    """Make ``load_suite(name, space, ...)`` call ``loader(space, metric=..., data_dir=..., ...)``.

    Raises:
        InvalidSettingError: If the name is taken.
    """
    if name in _LOADERS and _LOADERS[name] is not loader:
        raise InvalidSettingError(f"There is already a source {name!r}; choose another name.")
    _LOADERS[name] = loader


def check_source_options(source: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an environment's ``source_options`` as keyword arguments for :func:`load_suite`.

    Raises:
        UnknownNameError: For an option that a source, which is known, does not have.
        InvalidSettingError: If they are no mapping of names, or hold what is an environment argument.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidSettingError(
            f"source_options={options!r} must map names of arguments of source {source!r} to values, e.g. "
            '{"restriction": "original"} for yahpo.'
        )
    for name in options:
        if name in _ENVIRONMENT_ARGUMENTS:
            raise InvalidSettingError(
                f"source_options={dict(options)!r} holds {name!r}: give it as an environment argument, "
                f"{name}={options[name]!r}, not as an option of source {source!r}."
            )
    if options and source in _LOADERS:
        _require_options(source, _loader(source), options)
    return dict(options)


def _loader(source: str) -> Callable[..., TaskSuite]:
    loader = _LOADERS[source]
    if isinstance(loader, str):
        module, _, function = loader.partition(":")
        found: Callable[..., TaskSuite] = getattr(import_module(module), function)
        return found
    return loader


def _require_options(source: str, loader: Callable[..., TaskSuite], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(loader).parameters
    if any(part.kind is part.VAR_KEYWORD for part in parameters.values()):
        return
    allowed = [name for name in parameters if name not in _ENVIRONMENT_ARGUMENTS]
    for name in options:
        if name not in allowed:
            raise unknown_name(f"option of source {source!r}", name, allowed)


def load_suite(
    source: str,
    space: str | None = None,
    *,
    metric: str | None = None,
    protocol: str = "dataset-disjoint",
    data_dir: str | None = None,
    **options: Any,
) -> TaskSuite:
    """Load a task suite.

    Args:
        source: ``bundled``, ``yahpo``, ``hpob``, ``openml``, ``runs``, ``synthetic``, ``live``, ``grpoformer`` or a
            registered name.
        space: Name of the search space within the source; ``None`` means its default.
        metric: The optimised metric; ``None`` means the source's main metric.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        data_dir: Folder of the source's files; ``None`` means the usual search order.
        options: Further arguments of the source's loader.

    Raises:
        UnknownNameError: For an unknown source, space, metric or option.
        DataError: If a data file is missing or corrupt.
    """
    if not isinstance(source, str) or source not in _LOADERS:
        raise unknown_name("source", source, _LOADERS)
    if data_dir is not None and not isinstance(data_dir, str | PathLike):
        raise InvalidSettingError(f"data_dir={data_dir!r} must be the path of a folder, or None.")
    loader = _loader(source)
    _require_options(source, loader, options)
    suite: TaskSuite = loader(space, metric=metric, protocol=protocol, data_dir=data_dir, **options)
    if suite.protocol is None and suite.meta_features.shape[1] > 0:
        suite.protocol = protocol
    return suite
