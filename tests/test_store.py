"""The file store: where files are searched, and that wrong ones are not used."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

import hpo_gym
from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.sources.pinned import PinnedFile, PinnedTable, Publication, packaged_table, read_table
from hpo_gym.sources.store import cache_folder, find_file

CONTENT = b"what was published\n"
NAME = "yahpo/rbv2_tiny/model.onnx"


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def table(content: bytes = CONTENT, with_sha256: bool = True) -> PinnedTable:
    sha256 = hashlib.sha256(content).hexdigest()
    pinned = (
        PinnedFile(len(content), sha256, git_blob(content))
        if with_sha256
        else PinnedFile(None, None, git_blob(content))
    )
    other = PinnedFile(len(content), sha256)
    return PinnedTable(
        {NAME: pinned, "yahpo_v2/tiny/model.onnx": other},
        {"yahpo_v2": Publication("an unreleased branch", "Apache-2.0")},
    )


def put(folder: Path, content: bytes, relative: str = NAME) -> Path:
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the three places that are searched: argument, environment variable, cache."""
    found = {name: tmp_path / name for name in ("argument", "variable", "cache")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("HPO_GYM_DATA", str(found["variable"]))
    monkeypatch.setenv("HPO_GYM_CACHE", str(found["cache"]))
    return found


def test_argument_comes_before_the_variable_before_the_cache(places: dict[str, Path]) -> None:
    argument = str(places["argument"])
    for name in ("cache", "variable", "argument"):
        put(places[name], CONTENT)
        assert find_file(NAME, argument, table()) == places[name] / NAME
    assert find_file(NAME, None, table()) == places["variable"] / NAME


def test_cache_is_in_the_users_cache_unless_the_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_GYM_CACHE", "")
    assert cache_folder().name == "hpo_gym" and cache_folder().is_absolute()
    monkeypatch.setenv("HPO_GYM_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_missing_file_names_every_place_and_the_command(places: dict[str, Path]) -> None:
    with pytest.raises(DataMissingError) as caught:
        find_file(NAME, str(places["argument"]), table())
    message = str(caught.value)
    for part in [NAME, *map(str, places.values()), "`python -m hpo_gym.download yahpo rbv2_tiny`"]:
        assert part in message


def test_missing_unreleased_file_says_where_to_put_it(places: dict[str, Path]) -> None:
    with pytest.raises(DataMissingError, match=r"an unreleased branch.*data folder") as caught:
        find_file("yahpo_v2/tiny/model.onnx", None, table())
    assert "hpo_gym.download" not in str(caught.value)


@pytest.mark.parametrize("with_sha256", [True, False], ids=["sha256", "git_blob"])
@pytest.mark.parametrize(
    "content",
    [CONTENT[:-1], CONTENT + b"\n", b"", CONTENT.replace(b"w", b"v")],
    ids=["truncated", "longer", "empty", "changed"],
)
def test_wrong_content_is_refused_with_both_checksums_and_the_command(
    places: dict[str, Path], content: bytes, with_sha256: bool
) -> None:
    path = put(places["argument"], content)
    put(places["cache"], CONTENT)  # a right file further down must not hide that the first is wrong
    pinned = table(with_sha256=with_sha256)
    with pytest.raises(DataIntegrityError) as caught:
        find_file(NAME, str(places["argument"]), pinned)
    digest = (lambda data: hashlib.sha256(data).hexdigest()) if with_sha256 else git_blob
    command = f"`python -m hpo_gym.download yahpo rbv2_tiny --to {places['argument']}`"
    for part in [str(path), digest(content), digest(CONTENT), f"{len(content)} bytes", command]:
        assert part in str(caught.value)


def test_wrong_file_in_the_cache_is_replaced_by_the_plain_command(places: dict[str, Path]) -> None:
    put(places["cache"], b"wrong")
    with pytest.raises(DataIntegrityError, match=r"`python -m hpo_gym.download yahpo rbv2_tiny`"):
        find_file(NAME, None, table())


def test_file_that_is_not_pinned_is_taken_as_it_is(places: dict[str, Path]) -> None:
    path = put(places["variable"], b"anything", "mine/table.csv")
    assert find_file("mine/table.csv", None, table()) == path


def test_check_is_remembered_until_the_file_changes(places: dict[str, Path]) -> None:
    path = put(places["cache"], CONTENT)
    assert find_file(NAME, None, table()) == path
    state = path.stat()

    # Same size and time stamp: only a file that is read again could be found out.
    path.write_bytes(CONTENT.swapcase())
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert find_file(NAME, None, table()) == path

    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    with pytest.raises(DataIntegrityError):
        find_file(NAME, None, table())


def test_broken_table_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "pinned.json"
    for text in ["", "[]", '{"files": {"a": {"md5": "0"}}, "publications": {}}']:
        path.write_text(text)
        with pytest.raises(DataIntegrityError, match="no table of pinned files"):
            read_table(path)


def test_packaged_table_has_every_yahpo_scenario_with_its_three_files() -> None:
    scenarios = packaged_table().scenarios()
    assert len(scenarios) == 14
    for name, files in scenarios.items():
        expected = ["config_space.json", "encoding.json", "model.onnx"]
        assert files == [f"yahpo/{name}/{file}" for file in expected]


def test_packaged_table_agrees_with_the_published_data(data_folder: Path) -> None:
    files = packaged_table().files
    listed = (data_folder / "yahpo" / "git_blobs.txt").read_text().splitlines()
    assert {f"yahpo/{line.split()[1]}": line.split()[0] for line in listed} == {
        name: pinned.git_blob for name, pinned in files.items() if pinned.git_blob is not None
    }
    present = {name: pinned for name, pinned in files.items() if (data_folder / name).is_file()}
    assert len(present) > 50
    for name, pinned in present.items():
        assert pinned.problem(data_folder / name) is None, name
        if pinned.git_blob is not None:
            assert PinnedFile(git_blob=pinned.git_blob).problem(data_folder / name) is None, name


@pytest.fixture
def rpart(places: dict[str, Path], data_folder: Path) -> Path:
    """Return a data folder with a copy of rbv2_rpart, the only one that is searched apart from empty ones."""
    shutil.copytree(data_folder / "yahpo/rbv2_rpart", places["argument"] / "yahpo/rbv2_rpart")
    return places["argument"]


def test_copy_of_the_published_scenario_loads(rpart: Path) -> None:
    assert hpo_gym.load_suite("yahpo", "rbv2_rpart", data_dir=str(rpart)).num_tasks > 100


@pytest.mark.parametrize("name", ["config_space.json", "encoding.json", "model.onnx"])
def test_scenario_with_a_missing_or_damaged_file_does_not_load(rpart: Path, name: str) -> None:
    path = rpart / "yahpo/rbv2_rpart" / name
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[: len(content) // 2], b""):
        path.chmod(0o644)
        path.write_bytes(damaged)
        with pytest.raises(DataIntegrityError) as caught:
            hpo_gym.load_suite("yahpo", "rbv2_rpart", data_dir=str(rpart))
        assert str(path) in str(caught.value)
        assert f"hpo_gym.download yahpo rbv2_rpart --to {rpart}`" in str(caught.value)
    path.unlink()
    with pytest.raises(DataMissingError, match=r"hpo_gym\.download yahpo rbv2_rpart`") as missing:
        hpo_gym.load_suite("yahpo", "rbv2_rpart", data_dir=str(rpart))
    assert str(rpart) in str(missing.value)
