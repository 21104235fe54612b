"""A server on loopback that answers as OpenML's does, with data of our own, and that can be told to misbehave.

The answers follow OpenML's XML interface (https://www.openml.org/apis) as the client reads it: descriptions, features
and tasks in XML, data and splits in ARFF, Parquet from an object store of the S3 kind.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

ROWS = 60
COLOURS = ("red", "green", "blue")

_NAMESPACE = 'xmlns:oml="http://openml.org/openml"'
_HTML = b"<html><head><title>oops</title></head><body>Something went <b>wrong</body></html>"


def rows() -> list[tuple[str, str, str, str, str]]:
    """Return length, width, colour, remark and class of every row as ARFF writes them."""
    draws = np.random.default_rng(5)
    found = []
    for index in range(ROWS):
        label = "yes" if index % 3 else "no"
        length = f"{(2.0 if label == 'yes' else 0.0) + draws.normal():.4f}"
        width = "?" if index % 10 == 0 else f"{draws.normal():.4f}"
        found.append((length, width, COLOURS[index % 2], f"'remark {index}'", label))
    return found


def data_arff() -> str:
    """Return the dataset; ``blue`` is declared and never used."""
    header = "@RELATION flowers\n@ATTRIBUTE length REAL\n@ATTRIBUTE width REAL\n"
    header += (
        f"@ATTRIBUTE colour {{{','.join(COLOURS)}}}\n@ATTRIBUTE remark STRING\n@ATTRIBUTE class {{no,yes}}\n@DATA\n"
    )
    return header + "\n".join(",".join(row) for row in rows()) + "\n"


def splits_arff(kind: str) -> str:
    """Return the splits of a 3-fold cross-validation with two repetitions, or of a holdout."""
    lines = ["@relation splits", "@attribute type {TRAIN,TEST}"]
    lines += [f"@attribute {name} numeric" for name in ("rowid", "repeat", "fold")] + ["@data"]
    repeats, folds = (2, 3) if kind == "crossvalidation" else (1, 1)
    for repeat in range(repeats):
        for fold in range(folds):
            for row in range(ROWS):
                test = (row // 3 + repeat) % 3 == fold
                lines.append(f"{'TEST' if test else 'TRAIN'},{row},{repeat},{fold}")
    return "\n".join(lines) + "\n"


def parquet() -> bytes:
    """Return the dataset as the object store has it."""
    import pandas as pd

    columns = list(zip(*rows(), strict=True))
    numbers = [[float("nan") if value == "?" else float(value) for value in column] for column in columns[:2]]
    frame = pd.DataFrame({"length": numbers[0], "width": numbers[1]})
    frame["colour"] = pd.Categorical(columns[2], categories=COLOURS)
    frame["remark"] = [value.strip("'") for value in columns[3]]
    frame["class"] = pd.Categorical(columns[4], categories=["no", "yes"])
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _description(address: str, identity: int) -> str:
    checksum = hashlib.md5(data_arff().encode(), usedforsecurity=False).hexdigest()
    target = "" if identity == 4 else "<oml:default_target_attribute>class</oml:default_target_attribute>"
    return f"""<oml:data_set_description {_NAMESPACE}>
  <oml:id>{identity}</oml:id><oml:name>flowers</oml:name><oml:version>1</oml:version>
  <oml:description>Fixture.</oml:description><oml:format>ARFF</oml:format>
  <oml:upload_date>2020-01-02T03:04:05</oml:upload_date><oml:licence>CC0</oml:licence>
  <oml:url>{address}/data/v1/download/{identity}/flowers.arff</oml:url>
  <oml:parquet_url>{address}/datasets/dataset_{identity}.pq</oml:parquet_url>
  {target}<oml:visibility>public</oml:visibility><oml:status>active</oml:status>
  <oml:md5_checksum>{checksum}</oml:md5_checksum>
</oml:data_set_description>"""


def _features() -> str:
    kinds = {"length": "numeric", "width": "numeric", "colour": "nominal", "remark": "string", "class": "nominal"}
    levels = {"colour": COLOURS, "class": ("no", "yes")}
    parts = []
    for index, (name, kind) in enumerate(kinds.items()):
        values = "".join(f"<oml:nominal_value>{level}</oml:nominal_value>" for level in levels.get(name, ()))
        parts.append(
            f"<oml:feature><oml:index>{index}</oml:index><oml:name>{name}</oml:name><oml:data_type>{kind}"
            f"</oml:data_type>{values}<oml:is_target>{str(name == 'class').lower()}</oml:is_target>"
            "<oml:is_ignore>false</oml:is_ignore><oml:is_row_identifier>false</oml:is_row_identifier>"
            "<oml:number_of_missing_values>0</oml:number_of_missing_values></oml:feature>"
        )
    return f"<oml:data_features {_NAMESPACE}>{''.join(parts)}</oml:data_features>"


def _task(address: str, identity: int) -> str:
    kind = "crossvalidation" if identity == 31 else "holdout"
    number, title = (5, "Clustering") if identity == 33 else (1, "Supervised Classification")
    return f"""<oml:task {_NAMESPACE}>
  <oml:task_id>{identity}</oml:task_id><oml:task_type_id>{number}</oml:task_type_id>
  <oml:task_type>{title}</oml:task_type>
  <oml:input name="source_data"><oml:data_set><oml:data_set_id>3</oml:data_set_id>
    <oml:target_feature>class</oml:target_feature></oml:data_set></oml:input>
  <oml:input name="estimation_procedure"><oml:estimation_procedure><oml:type>{kind}</oml:type>
    <oml:data_splits_url>{address}/api_splits/get/{identity}/splits.arff</oml:data_splits_url>
    <oml:parameter name="number_repeats">2</oml:parameter><oml:parameter name="number_folds">3</oml:parameter>
    </oml:estimation_procedure></oml:input>
  <oml:input name="evaluation_measures"><oml:evaluation_measures>
    <oml:evaluation_measure>predictive_accuracy</oml:evaluation_measure></oml:evaluation_measures></oml:input>
</oml:task>"""


def _error(code: int, message: str) -> str:
    return f"<oml:error {_NAMESPACE}><oml:code>{code}</oml:code><oml:message>{message}</oml:message></oml:error>"


#: Runs: flow 77 on these tasks, every setup once, and on task 36, whose dataset is that of task 3, four times;
#: flow 79 is one of R; flow 78 has no run.
RUN_TASKS = {3: 3, 31: 31, 49: 50}
OTHER_TASK = 36
_FLOW = "sklearn.pipeline.Pipeline(imputer=sklearn.impute.SimpleImputer,tree=sklearn.tree.DecisionTreeClassifier)(2)"
_COMPONENTS = {
    "imputer": "sklearn.impute.SimpleImputer(4)",
    "tree": "sklearn.tree.DecisionTreeClassifier(9)",
}


def setups() -> dict[int, dict[str, str]]:
    """Return the hyperparameters of every setup by id, values as scikit-learn's flows write them."""
    found = {}
    for number in range(24):
        found[100 + number] = {
            f"{_COMPONENTS['imputer']}_strategy": json.dumps(("mean", "median")[number % 2]),
            f"{_COMPONENTS['tree']}_strategy": json.dumps("best"),
            f"{_COMPONENTS['tree']}_criterion": json.dumps((None, "gini", "entropy")[number % 3]),
            f"{_COMPONENTS['tree']}_min_samples_leaf": json.dumps(1 + number // 6),
            f"{_COMPONENTS['tree']}_ccp_alpha": json.dumps(10.0 ** -(1 + number % 4)),
            f"{_COMPONENTS['tree']}_random_state": json.dumps(number),
            f"{_COMPONENTS['tree']}_n_jobs": "null",
        }
    return found


def r_setups() -> dict[int, dict[str, str]]:
    """Return setups of a flow of R: plain text, a value that looks like a missing cell, one that is not said."""
    name = "mlr.classif.ranger(3)"
    given = {f"{name}_splitrule": "NA", f"{name}_num.threads": "1", f"{name}_mtry": "2"}
    other = {f"{name}_splitrule": "gini", f"{name}_num.threads": "2", f"{name}_mtry": ""}
    return {200: given, 201: other, 202: {**given, f"{name}_mtry": "5"}, 203: {}}


def runs(flow: str) -> list[tuple[int, int]]:
    """Return task and setup of all runs of a flow."""
    if flow == "79":
        return [(31, setup) for setup in r_setups()]
    if flow != "77":
        return []
    return [(task, setup) for task in RUN_TASKS for setup in setups()] + [(OTHER_TASK, 100 + n) for n in range(4)]


def run_value(measure: str, task: int, setup: int) -> float:
    """Return what a run reached."""
    number = setup - 100
    accuracy = 0.6 + 0.05 * (number % 3) + 0.04 * (number // 6) - 0.001 * (task % 7)
    return accuracy if measure == "predictive_accuracy" else 1000.0 * (1 + number % 4)


def _filters(path: str) -> dict[str, str]:
    """Return ``{"flow": "77", ...}`` of ``.../list/function/x/flow/77``."""
    parts = path.partition("/list/")[2].split("/")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _evaluations(path: str) -> tuple[int, bytes]:
    asked = _filters(path)
    measure = asked["function"]
    found = [run for flow in asked.get("flow", "77,79").split(",") for run in runs(flow)]
    if "task" in asked:
        found = [(task, setup) for task, setup in found if str(task) in asked["task"].split(",")]
    if "run" in asked:
        found = [(task, setup) for task, setup in found if str(1000 * task + setup) in asked["run"].split(",")]
    if measure != "predictive_accuracy":
        # One run lacks the second measure; and nothing says that two measures are listed in one order.
        found = [run for run in found if run != (3, 100)][::-1]
    if (31, 101) in found:
        # A second engine has evaluated it, too.
        found.insert(1, (31, 101))
    first = int(asked.get("offset", 0))
    found = found[first : first + int(asked.get("limit", 10_000))]
    if not found or measure == "no_measure":
        return 412, _error(542, "No results").encode()
    parts = [
        f"<oml:evaluation><oml:run_id>{1000 * task + setup}</oml:run_id><oml:task_id>{task}</oml:task_id>"
        f"<oml:setup_id>{setup}</oml:setup_id><oml:flow_id>77</oml:flow_id><oml:flow_name>{_FLOW}</oml:flow_name>"
        f"<oml:data_id>{RUN_TASKS.get(task, 3)}</oml:data_id><oml:data_name>d</oml:data_name>"
        f"<oml:function>{measure}</oml:function>"
        "<oml:upload_time>2020-01-02 03:04:05</oml:upload_time><oml:uploader>1</oml:uploader>"
        # A measure that an engine could not compute has no value.
        + ("" if (task, setup) == (49, 123) else f"<oml:value>{run_value(measure, task, setup)}</oml:value>")
        + "</oml:evaluation>"
        for task, setup in found
    ]
    return 200, f"<oml:evaluations {_NAMESPACE}>{''.join(parts)}</oml:evaluations>".encode()


def _setups(path: str) -> bytes:
    known, parts = setups() | r_setups(), []
    for number in map(int, _filters(path)["setup"].split(",")):
        inner = "".join(
            f"<oml:parameter><oml:id>{index}</oml:id><oml:flow_id>77</oml:flow_id><oml:flow_name>f</oml:flow_name>"
            f"<oml:full_name>{name}</oml:full_name><oml:parameter_name>p</oml:parameter_name>"
            f"<oml:data_type/><oml:default_value/><oml:value>{value}</oml:value></oml:parameter>"
            for index, (name, value) in enumerate(known[number].items())
        )
        parts.append(
            f"<oml:setup><oml:setup_id>{number}</oml:setup_id><oml:flow_id>77</oml:flow_id>{inner}</oml:setup>"
        )
    return f"<oml:setups {_NAMESPACE}>{''.join(parts)}</oml:setups>".encode()


class OpenMLServer(ThreadingHTTPServer):
    """The server: datasets 3 and 4 (without a target), tasks 31 (cross-validation), 32 (holdout), 33 (clustering).

    Attributes:
        faults: By the beginning of a path: ``404``, ``500``, ``hang``, ``truncate`` (fewer bytes than announced),
            ``shorten`` (half of the body), ``lines`` (half of
            the lines), ``garbage`` or ``drop`` (the connection is closed without an answer).
        requests: Paths that were asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: dict[str, str] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def api(self) -> str:
        """Address of its XML interface."""
        return f"{self.address}/api/v1/xml"

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a path without faults."""
        parts = path.strip("/").split("/")
        if path.startswith("/api/v1/xml/data/features/"):
            return 200, _features().encode()
        if path.startswith("/api/v1/xml/data/"):
            known = parts[-1] in ("3", "4")
            return (
                (200, _description(self.address, int(parts[-1])).encode())
                if known
                else (
                    412,
                    _error(111, "Unknown dataset").encode(),
                )
            )
        if path.startswith("/api/v1/xml/task/"):
            known = parts[-1] in ("31", "32", "33")
            return (
                (200, _task(self.address, int(parts[-1])).encode())
                if known
                else (
                    412,
                    _error(151, "Unknown task").encode(),
                )
            )
        if path.startswith("/api/v1/xml/evaluation/list/"):
            return _evaluations(path)
        if path.startswith("/api/v1/xml/setup/list/"):
            return 200, _setups(path)
        if path.startswith("/api/v1/xml/user/list/"):
            users = "<oml:user><oml:id>1</oml:id><oml:username>somebody</oml:username></oml:user>"
            return 200, f"<oml:users {_NAMESPACE}>{users}</oml:users>".encode()
        if path.startswith("/data/v1/download/"):
            return 200, data_arff().encode()
        if path.startswith("/api_splits/get/"):
            return 200, splits_arff("crossvalidation" if parts[2] == "31" else "holdout").encode()
        if path.startswith("/datasets/"):
            return 200, parquet()
        return 404, _HTML


class _Handler(BaseHTTPRequestHandler):
    server: OpenMLServer

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def _respond(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(path)
        fault = next((kind for start, kind in self.server.faults.items() if path.startswith(start)), "")
        status, body = self.server.answer(path)
        if fault == "hang":
            self.server.closing.wait()
            return
        if fault == "drop":
            self.close_connection = True
            return
        if fault in ("404", "500"):
            status, body = int(fault), _HTML
        elif fault == "garbage":
            body = b"\x00\x01 this is not what it should be"
        elif fault == "shorten":
            body = body[: len(body) // 2]
        elif fault == "lines":
            body = b"\n".join(body.splitlines()[: len(body.splitlines()) // 2])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 02 Jan 2020 03:04:05 GMT")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if fault == "truncate" else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are in the list."""


@contextmanager
def server_for_tests(folder: str) -> Iterator[OpenMLServer]:
    """Run a server; the client's own folders lie in ``folder``, apart from the user's."""
    with pytest.MonkeyPatch.context() as patch, openml_server() as running:
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "OPENML_CACHE_DIR"):
            patch.setenv(name, folder)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def begin_clean(server: OpenMLServer, monkeypatch: pytest.MonkeyPatch, folder: Path) -> OpenMLServer:
    """Give a test a cache, a folder of temporary files and the client's settings of its own."""
    import openml

    for name in ("server", "_root_cache_directory", "retry_policy", "connection_n_retries"):
        monkeypatch.setattr(openml.config, name, getattr(openml.config, name))
    monkeypatch.setenv(openml.config.OPENML_SKIP_PARQUET_ENV_VAR, "true")
    monkeypatch.setenv("HPO_GYM_CACHE", str(folder / "cache"))
    (folder / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    server.faults.clear()
    server.requests.clear()
    return server


@contextmanager
def openml_server() -> Iterator[OpenMLServer]:
    """Run a server in a thread until the end of the block."""
    with OpenMLServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
