"""Where task suites come from.

``load_suite("bundled", "rpart")`` returns a :class:`~hpo_gym.tasks.suite.TaskSuite`; nothing outside this
package knows where a task came from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hpo_gym.errors import InvalidSettingError, unknown_name
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["load_suite", "register_source", "source_names"]

# Loaders are imported on first use: the embedded default needs none of the others' dependencies.
_LOADERS: dict[str, str | Callable[..., TaskSuite]] = {
    "bundled": "hpo_gym.sources.bundled:load_bundled",
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
        source: ``bundled``, ``yahpo``, ``runs``, ``synthetic`` or a registered name.
        space: Name of the search space within the source; ``None`` means its default.
        metric: The optimised metric; ``None`` means the source's main metric.
        protocol: Split protocol; meta-features are standardised on its training tasks.
        data_dir: Folder of the source's files; ``None`` means the usual search order.
        options: Further arguments of the source's loader.

    Raises:
        UnknownNameError: For an unknown source, space, metric or option.
        DataError: If a data file is missing or corrupt.
    """
    if source not in _LOADERS:
        raise unknown_name("source", source, _LOADERS)
    loader = _LOADERS[source]
    if isinstance(loader, str):
        module, _, function = loader.partition(":")
        loader = getattr(import_module(module), function)
    allowed = inspect.signature(loader).parameters
    for name in options:
        if name not in allowed and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values()):
            raise unknown_name(f"option of source {source!r}", name, allowed)
    suite: TaskSuite = loader(space, metric=metric, protocol=protocol, data_dir=data_dir, **options)
    return suite
