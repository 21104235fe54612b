"""Small ONNX graphs for tests, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hpo_gym.surrogates.onnx_compiler import OnnxModule, compile_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Array = np.ndarray[Any, Any]

#: Strict, as for the accuracy of whole scenarios.
RELATIVE, ABSOLUTE = 1e-5, 1e-6


def node(op: str, inputs: Sequence[str] | str, output: str = "out", **attributes: Any) -> Any:
    """Return a node; several names may be given as one string with spaces."""
    names = inputs.split() if isinstance(inputs, str) else list(inputs)
    return onnx.helper.make_node(op, names, output.split(), **attributes)


def write_model(
    path: Path,
    nodes: Sequence[Any],
    constants: Mapping[str, Any] | None = None,
    *,
    columns: int = 4,
    codes: int = 2,
    opset: int = 13,
    result: str = "float32",
    rank: int = 2,
) -> Path:
    """Write a graph with inputs ``x_cont`` float32 ``[B, columns]`` and ``x_cat`` int32 ``[B, codes]``."""
    helper, numbers = onnx.helper, onnx.TensorProto
    inputs = []
    if codes:
        inputs.append(helper.make_tensor_value_info("x_cat", numbers.INT32, ["batch", codes]))
    if columns:
        inputs.append(helper.make_tensor_value_info("x_cont", numbers.FLOAT, ["batch", columns]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(result))
    # Unknown sizes: onnxruntime and the compiler have to find them out.
    output = helper.make_tensor_value_info("out", kind, [None] * rank)
    stored = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", inputs, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def session(path: Path) -> Any:
    """Return an onnxruntime session on one thread, without warnings about unused constants."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def numbers(rows: int, columns: int, seed: int = 0, low: float = -3.0, high: float = 3.0) -> Array:
    """Return float32 ``[rows, columns]``, uniform."""
    return np.random.default_rng(seed).uniform(low, high, (rows, columns)).astype(np.float32)


def codes(rows: int, sizes: Sequence[int], seed: int = 0) -> Array:
    """Return int32 ``[rows, len(sizes)]``, each column below its size."""
    generator = np.random.default_rng(seed + 1)
    return np.stack([generator.integers(0, size, rows) for size in sizes], 1).astype(np.int32)


def reference(path: Path, x_cat: Array | None, x_cont: Array | None) -> Array:
    """Return what onnxruntime computes."""
    runtime = session(path)
    given = {"x_cat": x_cat, "x_cont": x_cont}
    result: Array = runtime.run(None, {item.name: given[item.name] for item in runtime.get_inputs()})[0]
    return result


def evaluate(module: OnnxModule, x_cat: Array | None, x_cont: Array | None) -> Tensor:
    """Return what a compiled graph computes."""
    return module(
        None if x_cat is None else torch.from_numpy(x_cat),
        None if x_cont is None else torch.from_numpy(x_cont),
    )


def assert_equal(
    path: Path,
    x_cat: Array | None,
    x_cont: Array | None,
    *,
    relative: float = RELATIVE,
    absolute: float = ABSOLUTE,
) -> OnnxModule:
    """Assert that both agree in values, shape and type, also where gradients are recorded."""
    expected = reference(path, x_cat, x_cont)
    module = compile_onnx(path)
    fast = evaluate(module, x_cat, x_cont)
    results = [fast]
    if x_cont is not None:
        lead = torch.from_numpy(x_cont.copy()).requires_grad_()
        results.append(module(None if x_cat is None else torch.from_numpy(x_cat), lead).detach())
    for result in results:
        assert tuple(result.shape) == expected.shape
        assert result.numpy().dtype == expected.dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=relative, atol=absolute)
    return module
