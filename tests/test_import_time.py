"""What an import may pull in: the figures themselves are measured by benchmarks/startup.py."""

from __future__ import annotations

import json
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


# One after the other: what an earlier one must not import, a later one must not either.
STATEMENTS = {
    "import": "import hpo_gym",
    "bundled": "import gymnasium; gymnasium.make('HPO-OpenML-v0').reset(seed=0)",
    "synthetic": "import gymnasium; gymnasium.make_vec('HPO-Synthetic-v0', num_envs=2)",
}


@pytest.fixture(scope="module")
def stages() -> dict[str, set[str]]:
    """The modules that are there after each statement of one process."""
    script = f"""
import json, sys
loaded = {{}}
for name, statement in {STATEMENTS!r}.items():
    exec(statement)
    loaded[name] = list(sys.modules)
print(json.dumps(loaded))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name: set(modules) for name, modules in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_heavy_is_imported(stages: dict[str, set[str]], name: str) -> None:
    loaded = {module.partition(".")[0] for module in stages[name]}
    assert "hpo_gym" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_import_alone_needs_neither_the_dynamics_nor_data(stages: dict[str, set[str]]) -> None:
    loaded = stages["import"]
    assert "hpo_gym.mdp.settings" in loaded  # what a card is checked against
    assert not {"hpo_gym.sources.bundled", "hpo_gym.sources.yahpo"} & loaded
