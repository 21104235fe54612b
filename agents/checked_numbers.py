"""Numbers of an agent's configuration, refused by name where they are impossible."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hpo_gym.errors import require_integer, require_number

__all__ = ["require_numbers", "require_share"]

_SHARE = "must lie in [0, 1]"


def _is_share(value: float) -> bool:
    return 0.0 <= value <= 1.0


def require_share(name: str, value: float) -> None:
    """Refuse a value outside ``[0, 1]``.

    Raises:
        InvalidSettingError: Naming it.
    """
    require_number(name, value, _SHARE, _is_share)


def require_numbers(
    config: Any,
    counts: Iterable[str] = (),
    positive: Iterable[str] = (),
    shares: Iterable[str] = (),
    not_negative: Iterable[str] = (),
) -> None:
    """Refuse impossible numbers of a configuration.

    Args:
        config: The configuration.
        counts: Names of fields that must be integers of at least 1.
        positive: Fields that must be greater than 0, and finite.
        shares: Fields that must lie in ``[0, 1]``.
        not_negative: Fields that must be at least 0, and finite.

    Raises:
        InvalidSettingError: Naming the field, its value and what is allowed.
    """
    for name in counts:
        require_integer(name, getattr(config, name), 1)
    rules = (
        (positive, lambda value: 0.0 < value < math.inf, "must be greater than 0, and finite"),
        (shares, _is_share, _SHARE),
        (not_negative, lambda value: 0.0 <= value < math.inf, "must not be negative, and finite"),
    )
    for names, holds, says in rules:
        for name in names:
            require_number(name, getattr(config, name), says, holds)
