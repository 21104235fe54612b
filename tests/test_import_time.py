"""What an import may pull in: the figures themselves are measured by benchmarks/startup.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "ConfigSpace",
    "matplotlib",
    "scipy",
    "pandas",
    "pyarrow",
    "sklearn",
    "onnx",
    "onnxruntime",
    "openml",
    "stable_baselines3",
    "hydra",
    "tensorboard",
    "pytest",
    "rich",
)


def _loaded_after(statements: str) -> set[str]:
    script = f"{statements}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "statements",
    [
        "import hpo_gym",
        "import gymnasium, hpo_gym; gymnasium.make('HPO-OpenML-v0').reset(seed=0)",
        "import gymnasium, hpo_gym; gymnasium.make_vec('HPO-Synthetic-v0', num_envs=2)",
    ],
    ids=["import", "bundled", "synthetic"],
)
def test_nothing_heavy_is_imported(statements: str) -> None:
    loaded = _loaded_after(statements)
    assert "hpo_gym" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_import_alone_needs_neither_the_dynamics_nor_data() -> None:
    script = "import hpo_gym, sys; print(*[m for m in sys.modules if m.startswith('hpo_gym')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "hpo_gym.mdp.settings" in done.stdout  # what a card is checked against
    assert not {"hpo_gym.sources.bundled", "hpo_gym.sources.yahpo"} & set(done.stdout.split())
