"""Interim: replaced by the full store."""

from __future__ import annotations

import os
from pathlib import Path

from hpo_gym.errors import DataMissingError


def cache_folder() -> Path:
    import platformdirs

    return Path(os.environ.get("HPO_GYM_CACHE") or platformdirs.user_cache_dir("hpo_gym"))


def find_file(relative: str, data_dir: str | None) -> Path:
    places = [Path(p) for p in (data_dir, os.environ.get("HPO_GYM_DATA")) if p] + [cache_folder()]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise DataMissingError(f"{relative} is in none of {places}")
