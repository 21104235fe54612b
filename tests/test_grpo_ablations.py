"""The ablation study of GRPO: its trainings differ in one thing each; what it trains, keeps and writes."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import grpo_ablations
from agents.configuration import ExperimentConfig
from agents.experiment import run_training
from agents.grpo_ablation_study import main
from agents.grpo_ablation_study_results import COMMAND, NAME, TRAINING
from agents.grpo_ablations import BASE, VARIANTS, experiment, trained
from agents.study import read_results
from hpo_gym.errors import InvalidSettingError

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Three updates of the small trainings of these tests.
STEPS = 3 * 32 * 5


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Let trainings play 32 episodes of six evaluations at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo_ablations, "_NUM_ENVS", 32)
        patch.setattr(grpo_ablations, "_BUDGET", 6)
        yield


def of(variant: str, runs: Path, seed: int = 0) -> ExperimentConfig:
    return experiment(variant, "lcbench", seed, runs, STEPS)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != BASE])
def test_a_variant_differs_from_the_base_in_what_it_says_and_nothing_else(variant):
    base, other = (of(name, Path("runs"), seed=3).to_mapping() for name in (BASE, variant))
    changed = {
        f"{part}.{name}"
        for part in ("agent", "env")
        for name, value in other[part].items()
        if value != base[part][name]
    }
    some = VARIANTS[variant].datasets
    assert changed == ({f"agent.{name}" for name in VARIANTS[variant].agent} if some is None else changed)
    assert (some is not None) == (changed == {"env.max_tasks", "env.tasks_seed"})
    rest = [
        {name: value for name, value in each.items() if name not in ("agent", "env", "name")} for each in (base, other)
    ]
    assert rest[0] == rest[1] and base["name"] != other["name"]


def test_trainings_are_kept_gone_on_with_and_not_mistaken(tmp_path):
    config = dataclasses.replace(of(BASE, tmp_path), validate_every=0, checkpoint_every=1)
    # Stopped after the first action.
    run_training(config, stop_after=1)
    run = trained(config)
    assert run.result is not None and run.seed == 0
    written = run.path / "policy.pt"
    before = written.stat().st_mtime_ns
    assert trained(config).result == run.result and written.stat().st_mtime_ns == before
    other = dataclasses.replace(config, agent=dataclasses.replace(config.agent, churn_weight=0.5))
    with pytest.raises(InvalidSettingError, match=r"agent\.churn_weight"):
        trained(other)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Return a folder in which a study of three variants was made, the last of them later."""
    folder = tmp_path_factory.mktemp("ablations")
    (folder / "docs" / "studies").mkdir(parents=True)
    shutil.copy(DOCS / "studies" / "grpo-ablations.md", folder / "docs" / "studies")
    given = command(folder)
    assert main([*given, "--variants", "churn_off"]) == 0
    assert main([*given, "--variants", "datasets_4", "datasets_16"]) == 0
    return folder


def command(folder: Path) -> list[str]:
    values = {"documents": folder / "docs", "runs": folder / "runs", "output": folder / "cells"}
    options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return [*options, "--spaces", "lcbench", "--seeds", "2", "--steps", str(STEPS)]


def test_the_study_trains_plays_and_writes(studied):
    tables, facts = read_results(studied / "docs" / "studies" / "data", NAME, COMMAND)
    rows = tables[NAME]
    # Sixteen datasets are more than there are.
    variants = {"base", "random", "churn_off", "datasets_4"}
    assert set(rows["variant"]) == variants and set(tables[TRAINING]["variant"]) == variants - {"random"}
    assert rows.groupby("variant").size().to_dict() == dict.fromkeys(variants, 5 * 2)
    assert facts["steps"] == STEPS and facts["datasets"] == {"lcbench": 12}
    page = (studied / "docs" / "studies" / "grpo-ablations.md").read_text()
    assert "5 held-out datasets, 2 trainings of each." in page and "| `datasets_4` | 4 training datasets |" in page
    assert "| `lcbench` | 0 |" in page and "figures/grpo-ablations-lcbench.png" in page
    assert (studied / "docs" / "studies" / "figures" / "grpo-ablations-lcbench.png").stat().st_size > 10_000
    # Few datasets are those of the training's seed.
    seen = [(studied / "runs" / f"datasets_4-lcbench-seed{seed}" / "config.yaml").read_text() for seed in (0, 1)]
    assert all(f"tasks_seed: {seed}" in text for seed, text in enumerate(seen))


def test_the_page_alone_is_the_same_and_other_lengths_are_not_mixed(studied, capsys):
    page = studied / "docs" / "studies" / "grpo-ablations.md"
    before = page.read_bytes()
    assert main(["--page", "--documents", str(studied / "docs")]) == 0
    assert page.read_bytes() == before
    capsys.readouterr()
    assert main([*command(studied)[:-1], "9000"]) == 2
    assert f"--steps {STEPS}" in capsys.readouterr().err
    assert main([*command(studied), "--variants", "churn_of"]) == 2
    assert "churn_off" in capsys.readouterr().err
