"""Fixtures and settings that every test module shares."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hpob_files import write_hpob
from hypothesis import settings

# Two workers share two cores: one thread each. Results do not depend on it within a run.
torch.set_num_threads(1)

# No deadline: a shared machine makes single examples slow for reasons of its own.
settings.register_profile("hpo_gym", deadline=None, derandomize=True)
settings.load_profile("hpo_gym")


# Of how many usual tests a slow one takes the time.
_SLOW = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: a worker that gets one last keeps everybody waiting."""
    weight: Counter[Path] = Counter()
    for item in items:
        weight[item.path] += _SLOW if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weight[item.path])


@pytest.fixture(autouse=True)
def same_global_generators() -> None:
    """Begin every test alike: what a test draws from a global generator does not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of published data, or skip the test where there is none."""
    folder = os.environ.get("HPO_GYM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the published data: set HPO_GYM_DATA")
    return Path(folder)


@pytest.fixture(scope="session")
def hpob_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder in the form of HPO-B's archives; nobody may change it."""
    return write_hpob(tmp_path_factory.mktemp("hpob"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty cache; files of the user's are not found."""
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HPO_GYM_DATA", raising=False)
    return tmp_path / "cache"
