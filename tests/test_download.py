"""Downloads from a real server on loopback: what lands, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import hpo_gym
from hpo_gym.download import addresses, main
from hpo_gym.errors import DataIntegrityError, DataMissingError
from hpo_gym.sources.archives import unpack_zip
from hpo_gym.sources.fetch import fetch
from hpo_gym.sources.pinned import PinnedFile, PinnedTable, Publication, packaged_table
from hpo_gym.sources.temporaries import one_writer, remove_stale, temporary_path

CONTENT = bytes(range(256)) * 2048
PINNED = PinnedFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """Answers ``/<behaviour>/<name>``."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        _, behaviour, name = self.path.split("/", 2)
        content = self.server.contents.get(name)
        if content is None and behaviour in ("good", "hanging"):
            behaviour = "404"
        if behaviour.isdecimal():
            self.send_error(int(behaviour))
            return
        self.send_response(200)
        content = content or CONTENT
        if behaviour == "endless":
            self.end_headers()
            while True:
                self.wfile.write(content)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if behaviour == "good":
            self.wfile.write(content)
        elif behaviour == "wrong":
            self.wfile.write(content[::-1])
        elif behaviour == "truncated":
            self.wfile.write(content[: len(content) // 2])
        elif behaviour == "hanging":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.ended.wait()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves ``contents`` and remembers what it was asked."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.ended = threading.Event()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: here they do so on purpose."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HPO_GYM_MIRROR", raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.ended.set()
        running.shutdown()


@pytest.fixture
def target(tmp_path: Path, server: Server) -> Path:
    server.contents["model.onnx"] = CONTENT
    return tmp_path / "data" / "model.onnx"


def in_folder(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_right_file_lands_and_is_not_fetched_twice(server: Server, target: Path) -> None:
    url = f"{server.url('good')}/model.onnx"
    seen: list[tuple[int, int | None]] = []
    assert fetch([url], target, PINNED, progress=lambda *state: seen.append(state)) == url
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch([url], target, PINNED) is None
    assert server.asked == ["/good/model.onnx"]
    assert in_folder(target) == ["model.onnx"]


def test_wrong_file_on_disk_is_replaced(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-1])
    assert fetch([f"{server.url('good')}/model.onnx"], target, PINNED) is not None
    assert target.read_bytes() == CONTENT


def test_file_of_which_only_the_git_blob_id_is_known_is_checked(server: Server, target: Path) -> None:
    pinned = PinnedFile(git_blob=hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest())
    with pytest.raises(DataIntegrityError, match="git blob id"):
        fetch([f"{server.url('wrong')}/model.onnx"], target, pinned)
    assert fetch([f"{server.url('good')}/model.onnx"], target, pinned) is not None


@pytest.mark.parametrize(
    ("behaviour", "error", "says"),
    [
        ("wrong", DataIntegrityError, PINNED.sha256),
        ("truncated", DataIntegrityError, f"broke off after {len(CONTENT) // 2:,}"),
        ("hanging", DataIntegrityError, "broke off after"),
        ("endless", DataIntegrityError, f"longer than {len(CONTENT):,} bytes"),
        ("404", DataMissingError, "404 Not Found"),
        ("500", DataMissingError, "500 Internal Server Error"),
    ],
)
def test_failure_says_why_and_leaves_nothing(
    server: Server, target: Path, behaviour: str, error: type[Exception], says: str
) -> None:
    url = f"{server.url(behaviour)}/model.onnx"
    with pytest.raises(error) as caught:
        fetch([url], target, PINNED, timeout=(2.0, 0.3))
    for part in [url, says, str(target.parent), "--mirror"]:
        assert part in str(caught.value)
    assert in_folder(target) == []


def test_failure_leaves_the_file_that_was_there(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(DataIntegrityError):
        fetch([f"{server.url('wrong')}/model.onnx"], target, PINNED)
    assert target.read_bytes() == b"old"


def test_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(DataMissingError, match=rf"127\.0\.0\.1:{port}.*cannot be reached.*refused"):
        fetch([f"http://127.0.0.1:{port}/x"], tmp_path / "x", PINNED)


def test_mirrors_are_tried_in_order_and_every_failure_is_reported(server: Server, target: Path) -> None:
    order = ["500", "404", "wrong", "truncated", "good", "500"]
    said: list[str] = []
    urls = [f"{server.url(behaviour)}/model.onnx" for behaviour in order]
    assert fetch(urls, target, PINNED, report=said.append) == urls[4]
    assert [path.split("/")[1] for path in server.asked] == order[:5]
    assert len(said) == 4 and all(url in sentence for url, sentence in zip(urls, said, strict=False))
    assert in_folder(target) == ["model.onnx"]


def processes() -> multiprocessing.context.ForkServerContext:
    """Return real processes that need not import torch each: they are forked from one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hpo_gym.sources.fetch", "requests", "filelock"])
    return context


def test_eight_processes_at_once_end_with_one_good_copy(server: Server, target: Path) -> None:
    context = processes()
    urls = [f"{server.url('good')}/model.onnx"]
    workers = [context.Process(target=fetch, args=(urls, target, PINNED)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert target.read_bytes() == CONTENT
    assert in_folder(target) == ["model.onnx"]
    assert 1 <= len(server.asked) <= 8


def test_others_wait_for_the_first(server: Server, target: Path) -> None:
    urls = [f"{server.url('good')}/model.onnx"]
    with one_writer(target):
        worker = processes().Process(target=fetch, args=(urls, target, PINNED))
        worker.start()
        worker.join(1.0)
        assert worker.is_alive()
        target.write_bytes(CONTENT)
    worker.join(60)
    assert worker.exitcode == 0
    assert server.asked == []


def test_killed_download_leaves_no_half_file_and_the_next_run_cleans_up(server: Server, target: Path) -> None:
    worker = processes().Process(target=fetch, args=([f"{server.url('hanging')}/model.onnx"], target, PINNED))
    worker.start()
    limit = time.monotonic() + 60
    while not any(path.stat().st_size > 0 for path in target.parent.glob(".*.part")):
        assert worker.is_alive() and time.monotonic() < limit
        time.sleep(0.02)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert not target.exists()
    assert any(name.endswith(".part") for name in in_folder(target))

    assert fetch([f"{server.url('good')}/model.onnx"], target, PINNED) is not None
    assert target.read_bytes() == CONTENT
    assert in_folder(target) == ["model.onnx"]


def test_only_temporaries_of_dead_processes_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    alive = temporary_path(target)
    machine = alive.name.split(".")[3]
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f".model.onnx.{machine}.{finished.pid}.00000000.part"
    elsewhere = tmp_path / f".model.onnx.00000000.{finished.pid}.00000000.part"
    old = tmp_path / f".model.onnx.00000000.{finished.pid}.00000001.part"
    foreign = tmp_path / ".model.onnx.backup.part"
    other = tmp_path / f".other.onnx.{machine}.{finished.pid}.00000000.part"
    for path in (alive, dead, elsewhere, old, foreign, other):
        path.touch()
    week_ago = time.time() - 7 * 24 * 3600
    os.utime(old, (week_ago, week_ago))
    assert sorted(remove_stale(target)) == sorted([dead, old])
    assert in_folder(target) == sorted(path.name for path in (alive, elsewhere, foreign, other))


# --- the command


def small_table(contents: dict[str, bytes]) -> PinnedTable:
    def pin(content: bytes) -> PinnedFile:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return PinnedFile(len(content), hashlib.sha256(content).hexdigest(), blob)

    published = Publication("nowhere", "none", ("http://127.0.0.1:9/published/{path}",))
    return PinnedTable(
        {name: pin(content) for name, content in contents.items()}, {"yahpo": published, "hpob": published}
    )


SCENARIOS = {
    f"yahpo/{scenario}/{name}": f"{scenario} {name}".encode()
    for scenario in ("first", "second")
    for name in ("config_space.json", "encoding.json", "model.onnx")
}


@pytest.fixture
def served(server: Server) -> Server:
    server.contents.update({name.partition("/")[2]: content for name, content in SCENARIOS.items()})
    return server


def test_command_fetches_the_named_scenario_and_then_says_that_it_is_there(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["yahpo", "first", "--to", str(tmp_path), "--mirror", served.url("good")]
    assert main(arguments, small_table(SCENARIOS)) == 0
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {name: content for name, content in SCENARIOS.items() if "first" in name}
    output = capsys.readouterr().out
    assert f"{served.url('good')}/first/model.onnx" in output
    assert f"data_dir={str(tmp_path)!r}" in output

    asked = len(served.asked)
    assert main(arguments, small_table(SCENARIOS)) == 0
    assert len(served.asked) == asked
    assert capsys.readouterr().out.count("already there") == 3


def test_command_without_names_fetches_every_scenario_into_the_cache_from_mirrors_of_the_variable(
    served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HPO_GYM_MIRROR", f"{served.url('500')} {served.url('good')}/")
    assert main(["yahpo"], small_table(SCENARIOS)) == 0
    assert all((tmp_path / "cache" / name).read_bytes() == content for name, content in SCENARIOS.items())
    assert capsys.readouterr().err.count("500 Internal Server Error") == 6


def test_named_mirrors_come_first_then_the_published_address() -> None:
    table = packaged_table()
    found = addresses("yahpo/rbv2_svm/model.onnx", ["https://a.example/y/", "https://b.example"], table)
    assert found[:2] == ["https://a.example/y/rbv2_svm/model.onnx", "https://b.example/rbv2_svm/model.onnx"]
    commit = "efdab9072f63bd680396cd4b78b927c4a0caaad3"
    assert found[2:] == [f"https://raw.githubusercontent.com/slds-lmu/yahpo_data/{commit}/rbv2_svm/model.onnx"]
    assert addresses("yahpo/rbv2_svm/model.onnx", [], table, published=False) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["yahpo", "frist"], ["'frist'", "Did you mean 'first'", "second"]),
        (["yahpo", "first@v2"], ["'first@v2'", "not released"]),
        (["yaphoo"], ["'yaphoo'", "Did you mean 'yahpo'", "hpob"]),
        (["hpob", "hpob-dat"], ["'hpob-dat'", "Did you mean 'hpob-data'", "saved-surrogates"]),
        (["yahpo", "--mirror", "http://127.0.0.1:9", "first"], ["'first'", "https://", "before --mirror"]),
        (["yahpo", "--only-mirrors"], ["--mirror URL", "HPO_GYM_MIRROR"]),
        (["yahpo", "first"], ["http://127.0.0.1:9/published/first/", "cannot be reached", "--mirror"]),
    ],
)
def test_mistake_ends_with_status_2_and_one_sentence(
    server: Server, arguments: list[str], says: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments[:1], "--to", str(tmp_path), *arguments[1:]], small_table(SCENARIOS)) == 2
    output = capsys.readouterr()
    error = output.err.splitlines()[-1]
    assert error.startswith("error: ")
    for part in says:
        assert part in error
    assert "Traceback" not in output.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_folder_that_cannot_be_written_is_named(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    status = main(
        ["yahpo", "first", "--to", str(tmp_path / "file"), "--mirror", served.url("good")], small_table(SCENARIOS)
    )
    assert status == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_command_line_downloads_a_scenario_that_loads(server: Server, tmp_path: Path, data_folder: Path) -> None:
    for path in (data_folder / "yahpo/rbv2_rpart").iterdir():
        server.contents[f"rbv2_rpart/{path.name}"] = path.read_bytes()
    command = [sys.executable, "-m", "hpo_gym.download", "yahpo"]
    end = ["--to", str(tmp_path), "--mirror", server.url("good"), "--only-mirrors"]
    done = subprocess.run([*command, "rbv2_rpart", *end], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert hpo_gym.load_suite("yahpo", "rbv2_rpart", data_dir=str(tmp_path)).num_tasks > 100

    failed = subprocess.run([*command, "rbv2_rpar", *end], capture_output=True, text=True, timeout=120)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1 and "Did you mean 'rbv2_rpart'" in failed.stderr


# --- archives


def zipped(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, destination in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, destination)
    return memory.getvalue()


HPOB = zipped({"hpob-data/meta-test-dataset.json": b"{}", "hpob-data/sub/more.json": b"[1]", "__MACOSX/x": b"junk"})


def test_hpob_archives_are_fetched_unpacked_and_kept(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.contents["hpob-data.zip"] = HPOB
    table = small_table({"hpob/hpob-data.zip": HPOB})
    arguments = ["hpob", "hpob-data", "--to", str(tmp_path), "--mirror", server.url("good")]
    assert main(arguments, table) == 0
    assert (tmp_path / "hpob/hpob-data/meta-test-dataset.json").read_bytes() == b"{}"
    assert (tmp_path / "hpob/hpob-data/sub/more.json").read_bytes() == b"[1]"
    assert [path.name for path in (tmp_path / "hpob").iterdir()] == ["hpob-data"]

    assert main(arguments, table) == 0
    assert server.asked == ["/good/hpob-data.zip"]
    assert "already there" in capsys.readouterr().out


def test_folder_of_another_archive_is_not_overwritten(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hpob/hpob-data").mkdir(parents=True)
    (tmp_path / "hpob/hpob-data/mine.json").write_text("mine")
    arguments = ["hpob", "hpob-data", "--to", str(tmp_path), "--mirror", server.url("good")]
    assert main(arguments, small_table({"hpob/hpob-data.zip": HPOB})) == 2
    assert "Move it away" in capsys.readouterr().err
    assert (tmp_path / "hpob/hpob-data/mine.json").read_text() == "mine"
    assert server.asked == []


@pytest.mark.parametrize(
    ("members", "links", "says"),
    [
        ({"ok.json": b"1", "../evil.json": b"2"}, {}, "leads outside"),
        ({"a/../../evil.json": b"2"}, {}, "leads outside"),
        ({"/evil.json": b"2"}, {}, "leads outside"),
        ({"C:/evil.json": b"2"}, {}, "leads outside"),
        ({"..\\evil.json": b"2"}, {}, "leads outside"),
        ({"a/file": b"2"}, {"link": "../.."}, "link or a device"),
        ({"a": b"1", "a/evil.json": b"2"}, {}, "as a file and as a folder"),
        ({"bomb": bytes(10_000_000)}, {}, "-fold"),
        ({"big": os.urandom(200_000)}, {}, "200,000 bytes, allowed are 100,000"),
        ({str(index): b"" for index in range(60)}, {}, "60 members, allowed are 50"),
    ],
    ids=["parent", "hidden-parent", "absolute", "drive", "backslash", "link", "clash", "ratio", "size", "members"],
)
def test_archive_that_is_not_safe_is_refused_and_leaves_nothing(
    tmp_path: Path, members: dict[str, bytes], links: dict[str, str], says: str
) -> None:
    archive = tmp_path / "in" / "archive.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped(members, links))
    target = tmp_path / "out" / "deeper" / "folder"
    limits = {"most_bytes": 100_000} if "big" in members else {}
    with pytest.raises(DataIntegrityError, match=says) as caught:
        unpack_zip(archive, target, "0" * 64, most_members=50, **limits)
    assert str(archive) in str(caught.value)
    assert [path for path in (tmp_path / "out").rglob("*") if path != target.parent] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_archive_that_holds_more_than_it_announces_is_refused(tmp_path: Path) -> None:
    content = zipped({"bomb": bytes(1_000_000)})
    announced = (1_000_000).to_bytes(4, "little")
    assert content.count(announced) == 2  # local header and central directory
    archive = tmp_path / "archive.zip"
    archive.write_bytes(content.replace(announced, (10).to_bytes(4, "little")))
    with pytest.raises(DataIntegrityError, match="no intact zip"):
        unpack_zip(archive, tmp_path / "folder", "0" * 64)
    assert in_folder(archive) == ["archive.zip"]


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    content = bytearray(zipped({"data": os.urandom(1000)}))
    content[500] ^= 1
    for damaged in (bytes(content), bytes(content[:400]), b"no zip at all"):
        archive.write_bytes(damaged)
        with pytest.raises(DataIntegrityError, match="no intact zip"):
            unpack_zip(archive, tmp_path / "folder", "0" * 64)
        assert in_folder(archive) == ["archive.zip"]
