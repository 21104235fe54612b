"""Accuracy of the ONNX compiler on the published YAHPO scenarios.

``python benchmarks/onnx_compiler.py`` evaluates random legal configurations on every instance of every
scenario whose graph is in the data folder, and counts the values that differ from onnxruntime by more than
1e-4 relative and 1e-6 absolute. So that the count can be judged, it also says how often onnxruntime differs
from itself at another batch size, and how far both are from the same graph in double precision. The tables
replace those of ``docs/onnx_compiler.md``. onnxruntime and the data (``HPO_GYM_DATA``) are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from rich.progress import track

from hpo_gym.errors import DataMissingError
from hpo_gym.sources.cards import ScenarioCard, load_card, scenario_names
from hpo_gym.sources.store import find_file
from hpo_gym.sources.yahpo import make_inputs
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.legacy_json import read_space_json
from hpo_gym.surrogates.onnx_compiler import compile_onnx
from hpo_gym.surrogates.yahpo import YahpoInputs

Array = np.ndarray[Any, Any]

RELATIVE, ABSOLUTE = 1e-4, 1e-6
BATCH, OTHER_BATCH = 4096, 7
PAGE = Path(__file__).resolve().parents[1] / "docs" / "onnx_compiler.md"


@dataclass(frozen=True)
class Scenario:
    """One scenario: its graph, and how legal configurations become raw inputs."""

    card: ScenarioCard
    path: Path
    inputs: YahpoInputs

    @property
    def instances(self) -> int:
        """Number of tasks."""
        return len(self.inputs.instances)

    def sample(self, rows: int, task: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return raw inputs of random legal configurations; a random task each where ``task`` is ``None``."""
        generator = torch.Generator().manual_seed(seed)
        u = self.inputs.space.sample(rows, generator)
        tasks = torch.randint(self.instances, (rows,), generator=generator)
        if task is not None:
            tasks.fill_(task)
        with torch.no_grad():
            codes, continuous = self.inputs(tasks, u, self.inputs.space.active(u), None)
        return codes, continuous


@dataclass(frozen=True)
class Difference:
    """How often, and how far, values are outside the tolerance of their reference."""

    outside: int
    worst: float

    @classmethod
    def between(cls, values: Array, expected: Array, absolute: float = ABSOLUTE) -> Difference:
        """Compare ``[N]`` with ``[N]``; ``worst`` is in multiples of the tolerance."""
        values, expected = values.astype(np.float64), expected.astype(np.float64)
        tolerance = np.maximum(RELATIVE * np.abs(expected), absolute)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.abs(values - expected) / tolerance
        same = (values == expected) | (np.isnan(values) & np.isnan(expected))
        ratio = np.where(same, 0.0, np.nan_to_num(ratio, nan=np.inf))
        return cls(int((ratio > 1.0).sum()), float(ratio.max(initial=0.0)))


@dataclass(frozen=True)
class Accuracy:
    """What was counted for one target of one scenario.

    Args:
        scenario: The scenario.
        target: The target.
        main: Whether it is the scenario's main metric.
        values: Number of values.
        ours: Compiled graph against onnxruntime.
        scaled: The same with an absolute tolerance of 1e-6 times the observed range of the target.
        itself: onnxruntime, 7 rows at a time, against onnxruntime, 4,096 rows at a time.
        reference_double: onnxruntime against the graph in double precision.
        ours_double: Compiled graph against the graph in double precision.
    """

    scenario: str
    target: str
    main: bool
    values: int
    ours: Difference
    scaled: Difference
    itself: Difference
    reference_double: Difference
    ours_double: Difference


def load_scenario(name: str) -> Scenario:
    """Read a scenario with its whole published space: fidelity and constants vary as well.

    Raises:
        DataMissingError: If a file of it is in no data folder.
    """
    card = load_card(name)
    spec = read_space_json(find_file(f"{card.folder}/config_space.json", None))
    encoding = json.loads(find_file(f"{card.folder}/encoding.json", None).read_text(encoding="utf-8"))
    instances: tuple[Any, ...] = ()
    if card.instance_name is not None:
        instances = spec.columns[spec.position(card.instance_name)].choices
        spec = spec.restrict({card.instance_name: instances[0]})
    spec, fixed = spec.drop_constants()
    fixed.pop(card.instance_name or "", None)
    inputs = make_inputs(card, SearchSpace(spec), encoding, fixed, instances)
    return Scenario(card, find_file(f"{card.folder}/model.onnx", None), inputs)


def available() -> list[str]:
    """Return the scenarios whose graph is in the data folder."""
    found = []
    for name in scenario_names():
        try:
            find_file(f"{load_card(name).folder}/model.onnx", None)
        except DataMissingError:
            continue
        found.append(name)
    return found


def in_double_precision(path: Path) -> onnx.ModelProto:
    """Return a graph with every float32 of it, inputs and outputs included, as float64."""
    model = onnx.load(str(path))

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))

    for tensor in model.graph.initializer:
        widen(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    for item in (*model.graph.input, *model.graph.output):
        if item.type.tensor_type.elem_type == TensorProto.FLOAT:
            item.type.tensor_type.elem_type = TensorProto.DOUBLE
    del model.graph.value_info[:]
    return model


def open_session(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session on as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, codes: Array, continuous: Array, batch: int) -> Array:
    """Evaluate some rows at a time."""
    parts = []
    for start in range(0, len(codes), batch):
        rows = slice(start, start + batch)
        parts.append(session.run(None, {"x_cat": codes[rows], "x_cont": continuous[rows]})[0])
    return np.concatenate(parts)


def measure(name: str, configurations: int, seed: int = 0) -> list[Accuracy]:
    """Compare all targets of a scenario on random configurations for every instance.

    Args:
        name: The scenario.
        configurations: Number of configurations per instance, different ones for each.
        seed: Of the configurations.
    """
    scenario = load_scenario(name)
    compiled = compile_onnx(scenario.path)
    runtime = open_session(scenario.path)
    double = open_session(in_double_precision(scenario.path))
    found: dict[str, list[Array]] = {"ours": [], "reference": [], "itself": [], "double": []}
    for codes, continuous in _batches(scenario, configurations, seed):
        with torch.no_grad():
            found["ours"].append(compiled(codes, continuous).numpy())
        cat, cont = codes.numpy(), continuous.numpy()
        found["reference"].append(run_session(runtime, cat, cont, BATCH))
        found["itself"].append(run_session(runtime, cat, cont, OTHER_BATCH))
        found["double"].append(run_session(double, cat, cont.astype(np.float64), BATCH))
    joined = {key: np.concatenate(parts) for key, parts in found.items()}
    results = []
    for column, target in enumerate(scenario.card.targets):
        ours, reference, itself, exact = (joined[key][:, column] for key in ("ours", "reference", "itself", "double"))
        finite = reference[np.isfinite(reference)].astype(np.float64)
        span = float(np.ptp(finite)) if len(finite) else 0.0
        results.append(
            Accuracy(
                name,
                target.name,
                target.name == scenario.card.main_metric,
                len(ours),
                Difference.between(ours, reference),
                Difference.between(ours, reference, max(1e-6 * span, np.finfo(np.float64).tiny)),
                Difference.between(itself, reference),
                Difference.between(reference, exact),
                Difference.between(ours, exact),
            )
        )
    return results


def _batches(scenario: Scenario, configurations: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    label = f"{scenario.card.scenario} ({scenario.instances} instances)"
    for task in track(range(scenario.instances), label, disable=not sys.stderr.isatty()):
        yield scenario.sample(configurations, task, seed + 1000 * task)


def table(results: Sequence[Accuracy]) -> str:
    """Return a Markdown table."""
    titles = (
        "scenario",
        "target",
        "values",
        "compiled / onnxruntime",
        "onnxruntime / itself",
        "onnxruntime / double",
        "compiled / double",
        "compiled / onnxruntime, scaled",
    )
    lines = [" | ".join(titles), " | ".join(["---", "---"] + ["---:"] * (len(titles) - 2))]
    for row in results:
        counts = (row.ours, row.itself, row.reference_double, row.ours_double, row.scaled)
        cells = [row.scenario, row.target, f"{row.values:,}", *(_cell(item, row.values) for item in counts)]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(difference: Difference, values: int) -> str:
    if difference.outside == 0:
        return f"0 ({difference.worst:.2g})"
    return f"{difference.outside:,} = {difference.outside / values:.1e} ({difference.worst:.3g})"


def report(results: Sequence[Accuracy], configurations: int) -> str:
    """Return the tables and how they were made."""
    made = f"{configurations:,} configurations per instance, torch {torch.__version__.split('+')[0]}, "
    made += f"onnxruntime {onnxruntime.__version__}."
    main = [row for row in results if row.main]
    rest = [row for row in results if not row.main]
    return f"{made}\n\n### Main metrics\n\n{table(main)}\n\n### All other targets\n\n{table(rest)}"


def write_page(text: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of a page."""
    start, end = "<!-- accuracy: start -->", "<!-- accuracy: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} lacks the markers {start} and {end}.")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=10_000, help="per instance (default: 10,000)")
    parser.add_argument("--scenarios", nargs="+", help="default: all in the data folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="leave docs/onnx_compiler.md as it is")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    results = []
    for name in options.scenarios or available():
        begin = time.perf_counter()
        results += measure(name, options.configurations, options.seed)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    text = report(results, options.configurations)
    print(text)
    if not options.no_write:
        write_page(text)


if __name__ == "__main__":
    main()
