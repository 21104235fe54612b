"""The wheel, installed apart from the checkout: everything a user needs and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hpo_gym
from hpo_gym.sources.bundled import bundled_spaces

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parent.parent
IDS = [name for name in hpo_gym.registered_ids() if "YAHPO" not in name and "HPOB" not in name]

# Run from elsewhere: makes every id that needs no data and plays it.
PROGRAM = """
import json, sys
import gymnasium as gym
import hpo_gym

played = {}
for name in hpo_gym.registered_ids():
    if "YAHPO" in name or "HPOB" in name:
        continue
    # One warm worker for all real trainings: another one would import scikit-learn once more.
    options = {"source_options": {"workers": 1}} if "Live" in name else {}
    env = gym.make(name, budget=5, **options)
    env.reset(seed=0)
    total, done = 0.0, False
    env.action_space.seed(0)
    while not done:
        _, reward, done, _, _ = env.step(env.action_space.sample())
        total += reward
    envs = gym.make_vec(name, num_envs=3, budget=5, **options)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    played[name] = total
print(json.dumps({
    "file": hpo_gym.__file__,
    "version": hpo_gym.__version__,
    "registered": hpo_gym.registered_ids(),
    "played": played,
    "spaces": hpo_gym.load_suite("bundled", "rpart").num_tasks,
    "path": [entry for entry in sys.path if entry],
}))
"""

MODULES = ("download", "find_optima", "fit_bundle")
# As python -m runs them, one after the other in one process.
COMMANDS = """
import runpy, sys

modules = sys.argv[1:]
for module in modules:
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(f"hpo_gym.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        assert not stop.code, (module, stop.code)
    else:
        raise AssertionError(f"{module} told nothing to the shell")
"""


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    # No index: a test that needs the network would fail in a plane.
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """Return the files of the package in the checkout, listed before the wheel is built."""
    paths = (path for path in (CHECKOUT / "hpo_gym").rglob("*") if path.is_file())
    kept = (path for path in paths if "__pycache__" not in path.parts and not path.name.startswith("."))
    return {path.relative_to(CHECKOUT).as_posix() for path in kept}


@pytest.fixture(scope="module")
def wheel(sources: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs hatchling: pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(CHECKOUT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


def run_installed(installed: Path, *arguments: str) -> str:
    """Run Python in an empty folder, with the wheel in front of and the checkout off the path."""
    dependencies = [entry for entry in sys.path if entry.endswith("site-packages")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HPO_GYM"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(installed), *dependencies]), "OMP_NUM_THREADS": "1"}
    environment["HPO_GYM_CACHE"] = str(installed.parent / "cache")
    # Without site, no .pth file of an editable installation adds the checkout.
    command = [sys.executable, "-S", "-P", *arguments]
    elsewhere = installed.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_id_that_needs_no_data_plays_from_the_installed_wheel(installed: Path) -> None:
    told = json.loads(run_installed(installed, "-c", PROGRAM).splitlines()[-1])
    assert Path(told["file"]).is_relative_to(installed)
    assert not any(Path(entry).resolve() == CHECKOUT for entry in told["path"])
    assert told["version"] == hpo_gym.__version__
    assert tuple(told["registered"]) == hpo_gym.registered_ids()
    assert sorted(told["played"]) == sorted(IDS)
    assert all(total >= 0.0 for total in told["played"].values()) and any(told["played"].values())
    assert told["spaces"] == hpo_gym.load_suite("bundled", "rpart").num_tasks


def test_commands_run_from_the_installed_wheel(installed: Path) -> None:
    printed = run_installed(installed, "-c", COMMANDS, *MODULES)
    for module in MODULES:
        assert f"usage: python -m hpo_gym.{module}" in printed


def test_the_wheel_holds_every_file_of_the_package(names: list[str], sources: set[str]) -> None:
    assert sources <= set(names), sorted(sources - set(names))
    for needed in ("hpo_gym/py.typed", "hpo_gym/data/splits.json", "hpo_gym/data/meta_features.csv"):
        assert needed in names
    assert {f"hpo_gym/data/bundle/{space}.safetensors" for space in bundled_spaces()} <= set(names)
    assert "hpo_gym/data/bundle/manifest.json" in names
    assert "hpo_gym/evaluation/report.html.j2" in names
    cards = {f"hpo_gym/envs_registry/{path.name}" for path in (CHECKOUT / "envs_registry").glob("*.yaml")}
    assert len(cards) >= 7 and cards <= set(names)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path, names: list[str]) -> None:
    folders = {name.split("/")[0] for name in names}
    assert folders == {"hpo_gym", f"hpo_gym-{hpo_gym.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".tmp", ".arff", ".onnx"))]
    assert not [name for name in names if name.startswith(("hpo_gym/agents", "hpo_gym/tests"))]
    assert wheel.stat().st_size < 10_000_000


def test_the_metadata_name_licence_version_and_dependencies(installed: Path, names: list[str]) -> None:
    (folder,) = installed.glob("hpo_gym-*.dist-info")
    metadata = importlib.metadata.PathDistribution(folder).metadata
    assert metadata["Name"] == "hpo_gym" and metadata["Version"] == hpo_gym.__version__
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == ">=3.11"
    licence = f"{folder.name}/licenses/LICENSE"
    assert licence in names
    assert (installed / licence).read_bytes() == (CHECKOUT / "LICENSE").read_bytes()
    required = {line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line}
    assert any(line.startswith("torch") for line in required)
    # What only development needs is an extra.
    for name in ("pytest", "onnxruntime", "stable-baselines3", "hydra", "openml", "tensorboard", "hatchling"):
        assert not any(line.lower().startswith(name) for line in required), name
