"""HPO-B as a source: files, official split and initial points, and the cache."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hpob_files import SPACE, SPACES, load, predict, random_booster

import hpo_gym
from hpo_gym.errors import DataIntegrityError, DataMissingError, HPOGymError, UnknownNameError
from hpo_gym.evaluation.published import HPOB_V3
from hpo_gym.sources.archives import ORIGIN_FILE
from hpo_gym.sources.hpob_files import hpob_columns
from hpo_gym.testing import VectorEnvCase

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(hpob_folder: Path, tmp_path: Path) -> Path:
    """Return a copy that may be changed."""
    shutil.copytree(hpob_folder / "hpob", tmp_path / "data" / "hpob")
    return tmp_path / "data"


def read(folder: Path, archive: str, name: str) -> Any:
    return json.loads((folder / "hpob" / archive / name).read_text())


def refused(kind: type[HPOGymError], folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load(folder, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("space", SPACES)
def test_answers_are_those_of_the_files(hpob_folder: Path, space: str) -> None:
    suite = load(hpob_folder, space)
    assert suite.space.names == tuple(SPACES[space]["columns"])
    task, u = torch.arange(40) % suite.num_tasks, torch.rand(40, suite.space.dimension)
    found = suite.evaluate(task, u, suite.space.active(u)).metrics[:, 1]
    models = [read(hpob_folder, "saved-surrogates", f"surrogate-{space}-{ref.id}.json") for ref in suite.tasks]
    expected = [predict(models[int(index)], row.numpy()) for index, row in zip(task, u, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=0.0, atol=1e-6)


def test_scores_are_scaled_and_clipped_as_hpob_does(hpob_folder: Path) -> None:
    suite, stated = load(hpob_folder), read(hpob_folder, "saved-surrogates", "summary-stats.json")
    task, u = torch.arange(700) % suite.num_tasks, torch.rand(700, 2)
    evaluation = suite.evaluate(task, u, suite.space.active(u))
    accuracy = evaluation.metrics[:, 1].numpy().astype(float)
    facts = [stated[f"surrogate-{SPACE}-{suite.tasks[int(index)].id}"] for index in task]
    low, high = (np.array([each[name] for each in facts]) for name in ("y_min", "y_max"))
    expected = np.clip((accuracy - low) / (high - low), 0.0, 1.0)
    np.testing.assert_allclose(evaluation.score.numpy(), expected, atol=1e-5)
    # Some of these random surfaces go beyond what the tables hold, on both sides.
    assert (expected == 0.0).any() and (expected == 1.0).any()
    np.testing.assert_allclose(suite.regret(task, evaluation.score).numpy(), 1.0 - expected, atol=1e-5)


def test_accuracy_itself_can_be_optimised(hpob_folder: Path) -> None:
    suite, stated = load(hpob_folder, metric="accuracy"), read(hpob_folder, "saved-surrogates", "summary-stats.json")
    known = suite.require_range()
    for index, ref in enumerate(suite.tasks):
        facts = stated[f"surrogate-{SPACE}-{ref.id}"]
        assert float(known.worst[index]) <= facts["y_min"] + 1e-6
        assert float(known.best[index]) >= facts["y_max"] - 1e-6
    task = torch.arange(suite.num_tasks)
    found = suite.evaluate(task, known.best_u, suite.space.active(known.best_u)).score
    assert bool((found <= known.best + 1e-6).all()) and bool((found > known.median).all())


def test_a_task_on_which_all_score_alike_has_no_regret(folder: Path) -> None:
    path = folder / "hpob" / "saved-surrogates" / "summary-stats.json"
    stated = json.loads(path.read_text())
    stated[f"surrogate-{SPACE}-3"] = {"y_min": 0.5, "y_max": 0.5}
    path.write_text(json.dumps(stated))
    suite = load(folder)
    task, u = torch.tensor([suite.position("3")] * 20), torch.rand(20, 2)
    score = suite.evaluate(task, u, suite.space.active(u)).score
    assert bool((score == 0.0).all()) and bool((suite.regret(task, score) == 0.0).all())


def test_names_of_columns_are_those_of_the_descriptors(data_folder: Path) -> None:
    described = json.loads((data_folder / "hpob" / "meta-dataset-descriptors.json").read_text())
    assert len(described) == 176
    for space, facts in described.items():
        assert list(hpob_columns(space)) == facts["variables_order"]
    assert {space.name: space.dimension for space in HPOB_V3.spaces} == {
        space.name: len(hpob_columns(space.name)) for space in HPOB_V3.spaces
    }


def test_the_split_per_space_is_that_of_the_files(hpob_folder: Path) -> None:
    suite = load(hpob_folder)
    for side in ("train", "val", "test"):
        ids = {suite.tasks[index].id for index in suite.split("per-space", side)}
        assert ids == set(SPACES[SPACE][side])
    assert {ref.id for ref in HPOB_V3.space(SPACE).tasks} == set(SPACES[SPACE]["test"])
    assert Counter(ref.kind for ref in suite.tasks) == {"openml-task": 7}
    assert suite.split("per-space", "all") == list(range(7))
    rare = load(hpob_folder, "3442")
    assert rare.split("per-space", "train") == [0, 1] and rare.initial_points is None


def test_a_dataset_is_on_one_side_of_all_spaces_where_that_is_asked_for(hpob_folder: Path) -> None:
    sides: dict[str, set[str]] = {}
    for space in SPACES:
        suite = load(hpob_folder, space)
        for side in ("train", "val", "test"):
            for index in suite.split("dataset-disjoint", side):
                sides.setdefault(suite.tasks[index].id, set()).add(side)
    assert all(len(each) == 1 for each in sides.values())
    adaboost = hpo_gym.load_suite("bundled", "adaboost")
    common = {
        ref.id: index for index, ref in enumerate(adaboost.tasks) if ref.id in sides and ref.kind == "openml-task"
    }
    assert common
    for task, index in common.items():
        others = {"train", "val", "test"} - sides[task]
        assert not any(index in adaboost.split("dataset-disjoint", other) for other in others)


def test_initial_points_are_the_rows_that_the_files_name(hpob_folder: Path) -> None:
    suite = load(hpob_folder)
    assert suite.initial_points is not None and suite.initial_points.shape == (5, 7, 5, 2)
    tables, chosen = (
        read(hpob_folder, "hpob-data", name) for name in ("meta-test-dataset.json", "bo-initializations.json")
    )
    for index, ref in enumerate(suite.tasks):
        points = suite.initial_points[:, index]
        if ref.id not in SPACES[SPACE]["test"]:
            assert bool(points.isnan().all())
            continue
        for seed in range(5):
            rows = [tables[SPACE][ref.id]["X"][row] for row in chosen[SPACE][ref.id][f"test{seed}"]]
            assert torch.equal(points[seed], torch.tensor(rows))


def test_the_second_load_reads_no_surrogate_and_gives_the_same(
    hpob_folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(hpob_folder)

    def refuse(model: Any) -> Any:
        raise AssertionError("read again")

    monkeypatch.setattr("hpo_gym.sources.hpob.read_booster", refuse)
    second = load(hpob_folder)
    for name, value in first.named_buffers():
        assert torch.equal(value, dict(second.named_buffers())[name]), name
    one, other = first.require_range(), second.require_range()
    assert all(torch.equal(getattr(one, part), getattr(other, part)) for part in ("worst", "median", "best", "best_u"))
    assert torch.equal(first.initial_points.nan_to_num(), second.initial_points.nan_to_num())  # type: ignore[union-attr]


@pytest.mark.parametrize("damaged", [f"{SPACE}.safetensors", f"{SPACE}.json", "manifest.json", "index.json"])
def test_what_is_damaged_in_the_cache_is_made_again(hpob_folder: Path, own_cache: Path, damaged: str) -> None:
    before = load(hpob_folder)
    (path,) = own_cache.rglob(damaged)
    path.write_bytes(b"{")
    after = load(hpob_folder)
    assert all(torch.equal(*each) for each in zip(before.buffers(), after.buffers(), strict=True))
    assert path.read_bytes() != b"{"


def test_without_a_cache_it_is_made_every_time(hpob_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    expected = load(hpob_folder)
    (tmp_path / "a_file").write_text("no folder")
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "a_file"))
    with pytest.warns(UserWarning, match="space 5860 cannot be kept .*HPO_GYM_CACHE"):
        suite = load(hpob_folder)
    assert all(torch.equal(*each) for each in zip(suite.buffers(), expected.buffers(), strict=True))


def test_what_is_kept_can_be_read_where_nothing_can_be_written(
    hpob_folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(hpob_folder)

    def refuse(*arguments: Any) -> Any:
        raise PermissionError("read-only")

    for name in ("one_writer", "write_kept"):
        monkeypatch.setattr(f"hpo_gym.sources.hpob.{name}", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(hpob_folder).num_tasks == 7


def test_other_files_have_a_cache_of_their_own(folder: Path) -> None:
    before = load(folder)
    path = folder / "hpob" / "saved-surrogates" / f"surrogate-{SPACE}-3.json"
    model = json.loads(path.read_text())
    model["learner"]["learner_model_param"]["base_score"] = "2.5E-1"
    path.write_text(json.dumps(model))
    after = load(folder)
    task, u = torch.tensor([after.position("3")]), torch.rand(1, 2)
    change = after.surrogate(task, u) - before.surrogate(task, u)
    assert float(change[0, 1]) == pytest.approx(-0.25, abs=1e-6)


def test_files_are_taken_only_from_the_pinned_archives(folder: Path) -> None:
    suite = load(folder)
    assert suite.spec.provenance["verified"] and len(suite.spec.provenance["sha256"]) == 2
    told = folder / "hpob" / "hpob-data" / ORIGIN_FILE
    told.write_text("0" * 64 + "\n")
    refused(DataIntegrityError, folder, "unpacked from SHA-256 0000", "expected ab1c439e")
    told.unlink()
    refused(DataIntegrityError, folder, "nothing says what it was unpacked from", "'verify': False")
    assert not load(folder, verify=False).spec.provenance["verified"]


def test_missing_files_are_told_with_the_command(tmp_path: Path) -> None:
    refused(
        DataMissingError,
        tmp_path,
        "hpob/hpob-data/bo-initializations.json",
        f"data_dir {tmp_path}",
        "python -m hpo_gym.download hpob",
    )


def test_names_are_checked(hpob_folder: Path) -> None:
    refused(UnknownNameError, hpob_folder, "'5861'", "'5860'", space="5861")
    refused(UnknownNameError, hpob_folder, "'acc'", "accuracy", metric="acc")
    assert load(hpob_folder, 5860).name == "5860"


SURROGATE, STATISTICS = f"saved-surrogates/surrogate-{SPACE}-37.json", "saved-surrogates/summary-stats.json"
DAMAGE: dict[str, tuple[str, Any, str]] = {
    "surrogate": (SURROGATE, "{", "surrogate-5860-37.json is not as HPO-B publishes it"),
    "no booster": (SURROGATE, {"learner": {}}, "surrogate-5860-37.json is no surrogate of HPO-B"),
    "statistics": (STATISTICS, {}, "no y_min and y_max of surrogate-5860-3"),
    "percent": (
        STATISTICS,
        {f"surrogate-{SPACE}-3": {"y_min": 10.0, "y_max": 90.0}},
        "y_min=10 and y_max=90 of surrogate-5860-3 are no accuracies",
    ),
    "columns": (SURROGATE, random_booster(np.random.default_rng(0), 3), "it has 3 features, space 5860 has 2 columns"),
    "initial points": (
        "hpob-data/bo-initializations.json",
        {},
        "bo-initializations.json is not as HPO-B publishes it (initial points of space 5860, dataset 14965: KeyError",
    ),
    "few initial points": (
        "hpob-data/bo-initializations.json",
        {SPACE: {name: {f"test{s}": [1, 2, 3] for s in range(5)} for name in SPACES[SPACE]["test"]}},
        "expected 5 rows of finite numbers each",
    ),
    "not finite": (
        "hpob-data/meta-test-dataset.json",
        {SPACE: {name: {"X": [[float("nan"), 0.5]] * 60} for name in SPACES[SPACE]["test"]}},
        "expected 5 rows of finite numbers each",
    ),
    "wide rows": (
        "hpob-data/meta-test-dataset.json",
        {SPACE: {name: {"X": [[0.5] * 3] * 60} for name in SPACES[SPACE]["test"]}},
        "have 3 columns, expected 2",
    ),
    "sides": ("hpob-data/meta-validation-dataset.json", {SPACE: ["37"]}, "space 5860 holds a list"),
    "a list": ("hpob-data/bo-initializations.json", [1], "holds a list, expected an object"),
    "test tables": ("hpob-data/meta-test-dataset.json", {SPACE: {"14965": {"X": []}}}, "IndexError"),
    "other datasets": ("hpob-data/meta-test-dataset.json", None, "no surrogate of 1 test dataset(s) of space 5860: 77"),
}


@pytest.mark.parametrize(("name", "content", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(folder: Path, own_cache: Path, name: str, content: Any, reason: str) -> None:
    path = folder / "hpob" / name
    if content is None:
        content = json.loads(path.read_text())
        content[SPACE]["77"] = content[SPACE].pop("14965")
        starts = folder / "hpob" / "hpob-data" / "bo-initializations.json"
        chosen = json.loads(starts.read_text())
        chosen[SPACE]["77"] = chosen[SPACE].pop("14965")
        starts.write_text(json.dumps(chosen))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(DataIntegrityError, folder, reason, "python -m hpo_gym.download hpob")
    assert not [path for path in own_cache.rglob("*") if path.suffix in (".part", ".tmp", ".lock")]


class TestVector(VectorEnvCase):
    @pytest.fixture(params=["HPO-HPOB-v0", "HPO-HPOBContinuous-v0"])
    def settings(self, request: pytest.FixtureRequest, hpob_folder: Path) -> dict[str, Any]:
        more = {"space": SPACE, "data_dir": str(hpob_folder)}
        return {"id": request.param, "budget": 5, **more}

    @pytest.fixture
    def make_env(self, settings: dict[str, Any]) -> Any:
        return lambda **overrides: gym.make(**(settings | overrides))

    @pytest.fixture
    def make_vector_env(self, settings: dict[str, Any]) -> Any:
        return lambda num_envs, **overrides: gym.make_vec(num_envs=num_envs, **(settings | overrides)).unwrapped
