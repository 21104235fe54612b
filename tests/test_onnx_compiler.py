"""The compiler as a whole: what it fuses and what it must not, gradients, selection, batches, bad files."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_reference import (
    Array,
    assert_equal,
    codes,
    evaluate,
    node,
    numbers,
    onnx,
    reference,
    write_model,
)

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, UnsupportedOperatorError
from hpo_gym.surrogates.onnx_compiler import CPU_CHUNK, compile_onnx

FLOAT, DOUBLE = 1, 11
SIZES = (7, 3)
WIDTH, HALF = 6, 5
MEAN = np.float32(30)


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> Any:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


class Builder:
    """Collects the nodes and constants of a network such as YAHPO exports."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.counter = 0

    def name(self, stem: str = "v") -> str:
        self.counter += 1
        return f"{stem}{self.counter}"

    def constant(self, value: Any) -> str:
        name = self.name("c")
        self.constants[name] = np.asarray(value)
        return name

    def add(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or self.name()
        self.nodes.append(node(op, inputs, output, **attributes))
        return output

    def column(self, source: str, index: int) -> str:
        return self.add("Gather", [source, self.constant(np.int64(index))], axis=1)

    def linear(self, x: str, columns: int, width: int, output: str | None = None, around: float = 0.0) -> str:
        weight = floats(width, columns, seed=self.counter)
        inputs = [x, self.constant(weight), self.constant(floats(width, seed=self.counter) + np.float32(around))]
        return self.add("Gemm", inputs, output, transB=1)

    def normalise(self, x: str, width: int) -> str:
        """Batch normalisation around a mean far from zero, as trained networks have it."""
        seed = self.counter
        parts = [floats(width, seed=seed), floats(width, seed=seed + 1), MEAN + floats(width, seed=seed + 2)]
        parts.append(floats(width, seed=seed + 3, low=0.5, high=2.0))
        return self.add("BatchNormalization", [x, *map(self.constant, parts)])

    def reglu(self, wide: str, half: int, split: bool = False, swap: bool = False) -> str:
        if split:
            value, gate = self.name(), self.name()
            self.nodes.append(node("Split", [wide], f"{value} {gate}", axis=1))
        else:
            one = self.constant(integers(1))
            ends = (integers(0), integers(half), integers(2 * half))
            start, middle, end = (self.constant(item) for item in ends)
            value = self.add("Slice", [wide, start, middle, one])
            gate = self.add("Slice", [wide, middle, end, one])
        gate = self.add("Relu", [gate])
        return self.add("Mul", [gate, value] if swap else [value, gate])

    def unsqueeze(self, x: str) -> str:
        return self.add("Unsqueeze", [x, self.constant(integers(1))])

    def scaled(self, index: int, log: bool) -> str:
        """One numeric input, scaled by a chain of its own."""
        x = self.column("x_cont", index)
        if log:
            x = self.add("Log", [self.add("Add", [x, self.constant(np.float32(4 + index))])])
        x = self.add("Sub", [x, self.constant(np.float32(0.1 * index))])
        return self.unsqueeze(self.add("Div", [x, self.constant(np.float32(1.5 + index))]))

    def embedding(self, index: int) -> str:
        table = self.constant(floats(SIZES[index], 2 + index, seed=index))
        return self.add("Gather", [table, self.column("x_cat", index)])

    def first_layer(self) -> str:
        scaled = self.add("Concat", [self.scaled(index, log=index % 2 == 0) for index in range(4)], axis=1)
        embedded = self.add("Concat", [self.embedding(0), self.embedding(1)], axis=1)
        joined = self.add("Concat", [embedded, scaled], axis=1)
        return self.linear(joined, 2 + 3 + 4, WIDTH, around=float(MEAN))

    def block(self, stream: str, **more: Any) -> str:
        wide = self.linear(self.normalise(stream, WIDTH), WIDTH, 2 * HALF)
        return self.add("Add", [stream, self.linear(self.reglu(wide, HALF, **more), HALF, WIDTH)])

    def outputs(self, x: str, count: int = 3) -> None:
        """Outputs by chains of their own: a range, a logarithm, a negative exponential in double precision."""
        y = self.add("Sigmoid", [self.linear(x, WIDTH, count)])
        parts = []
        for index in range(count):
            z = self.column(y, index)
            z = self.add("Mul", [z, self.constant(np.float32(1 + index))])
            if index % 3 == 1:
                z = self.add("Exp", [z])
            if index % 3 == 2:
                z = self.add("Neg", [self.add("Log", [self.add("Cast", [z], to=DOUBLE)])])
                z = self.add("Cast", [z], to=FLOAT)
            parts.append(self.unsqueeze(z))
        self.add("Concat", parts, "out", axis=1)

    def write(self, path: Path, **more: Any) -> Path:
        return write_model(path, self.nodes, self.constants, **more)


def network(path: Path, blocks: int = 3, **more: Any) -> Path:
    build = Builder()
    stream = build.first_layer()
    for _ in range(blocks):
        stream = build.block(stream, **more)
    build.outputs(build.add("Relu", [build.normalise(stream, WIDTH)]))
    return build.write(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("onnx") / "network.onnx")


def batch(rows: int, seed: int = 0) -> tuple[Array, Array]:
    return codes(rows, SIZES, seed), numbers(rows, 4, seed)


# What must fuse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_a_whole_network_fuses_and_agrees(split: bool, swap: bool, tmp_path: Path) -> None:
    module = assert_equal(network(tmp_path / "m.onnx", split=split, swap=swap), *batch(50), relative=1e-4)
    assert module.operators.count("bag") == 1
    assert module.operators.count("reglu") == 3
    assert module.operators.count("residual") == 3
    assert not {"BatchNormalization", "Gemm", "Slice", "Split", "Gather", "Unsqueeze", "Sub", "Div"} & set(
        module.operators
    )


def test_a_graph_without_residual_blocks_fuses_its_first_layer(tmp_path: Path) -> None:
    module = assert_equal(network(tmp_path / "m.onnx", blocks=0), *batch(50))
    assert "bag" in module.operators
    assert "BatchNormalization" not in module.operators


def test_odd_inner_widths_are_padded(model: Path) -> None:
    module = compile_onnx(model)
    widths = {tuple(buffer.shape) for buffer in module.buffers() if buffer.ndim == 2}
    assert (WIDTH, 32) in widths  # 2 x 5 padded to 2 x 16
    assert (16, WIDTH) in widths


def test_centring_a_stream_far_from_zero_loses_no_precision(tmp_path: Path) -> None:
    build = Builder()
    stream = build.linear("x_cont", 4, WIDTH)
    stream = build.add("Add", [stream, build.linear("x_cont", 4, WIDTH)])
    far = floats(WIDTH, seed=3) + 20000
    scale, shift, spread = (floats(WIDTH, seed=seed, low=0.5, high=1.5) for seed in (4, 5, 6))
    # The first layer's own bias puts the stream near 20000, where float32 resolves 0.002.
    first = next(item for item in build.nodes if item.op_type == "Gemm")
    build.constants[first.input[2]] = far.astype(np.float32)
    normal = build.add("BatchNormalization", [stream, *map(build.constant, (scale, shift, far, spread))])
    build.linear(normal, WIDTH, 2, "out")
    path = build.write(tmp_path / "m.onnx", codes=0)
    x = numbers(200, 4)
    weights = [build.constants[name].astype(np.float64) for name in build.constants]
    w1, b1, w2, b2 = weights[:4]
    hidden = (x @ w1.T + b1) + (x @ w2.T + b2)
    normalised = (hidden - far) / np.sqrt(spread.astype(np.float64) + 1e-5) * scale + shift
    w3, b3 = weights[-2:]
    exact = normalised @ w3.T + b3
    ours = evaluate(compile_onnx(path), None, x).numpy()
    theirs = reference(path, None, x)
    assert np.abs(theirs - exact).max() > 1e-4
    assert np.abs(ours - exact).max() < 1e-5


# Near misses: equal to onnxruntime although a pattern nearly matches ---------------------------------------


def test_reglu_whose_halves_are_read_twice_is_left_alone(tmp_path: Path) -> None:
    build = Builder()
    wide = build.linear("x_cont", 4, 2 * HALF)
    gated = build.reglu(wide, HALF)
    again = build.add("ReduceSum", [wide, build.constant(integers(1))])
    build.add("Add", [gated, again], "out")
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert "reglu" not in module.operators


def test_reglu_of_unequal_or_reversed_parts_is_left_alone(tmp_path: Path) -> None:
    for index, (low, high) in enumerate([((0, 4), (4, 8)), ((5, 10), (0, 5)), ((0, 5), (0, 5))]):
        build = Builder()
        wide = build.linear("x_cont", 4, 2 * HALF)
        one = build.constant(integers(1))
        parts = []
        for start, end in (low, high):
            places = [build.constant(integers(start)), build.constant(integers(end))]
            parts.append(build.add("Slice", [wide, *places, one]))
        build.add("Mul", [parts[0], build.add("Relu", [parts[1]])], "out")
        module = assert_equal(build.write(tmp_path / f"{index}.onnx", codes=0), None, numbers(20, 4))
        assert "reglu" not in module.operators


def test_reglu_of_an_input_does_not_write_into_it(tmp_path: Path) -> None:
    build = Builder()
    build.add("Identity", [build.reglu("x_cont", 2)], "out")
    path = build.write(tmp_path / "m.onnx", codes=0)
    x = numbers(20, 4)
    before = x.copy()
    assert_equal(path, None, x)
    np.testing.assert_array_equal(x, before)


def test_stream_that_is_itself_a_reglu_keeps_its_width(tmp_path: Path) -> None:
    build = Builder()
    stream = build.reglu(build.linear("x_cont", 4, 2 * HALF), HALF)
    inner = build.reglu(build.linear("x_cont", 4, 2 * HALF), HALF)
    build.add("Add", [stream, build.linear(inner, HALF, HALF)], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))


def test_reglu_right_above_embeddings_compiles(tmp_path: Path) -> None:
    build = Builder()
    scaled = build.add("Concat", [build.scaled(index, log=False) for index in range(4)], axis=1)
    joined = build.add("Concat", [build.embedding(0), build.embedding(1), scaled], axis=1)
    wide = build.linear(joined, 2 + 3 + 4, 2 * HALF)
    build.linear(build.reglu(wide, HALF), HALF, 3, "out")
    assert_equal(build.write(tmp_path / "m.onnx"), codes(20, SIZES), numbers(20, 4))


def test_linear_layer_read_twice_is_not_merged_into_a_sum(tmp_path: Path) -> None:
    build = Builder()
    product = build.linear("x_cont", 4, 4)
    total = build.add("Add", ["x_cont", product])
    build.add("Mul", [total, product], "out")
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert "residual" not in module.operators


def test_sum_of_a_layer_with_itself(tmp_path: Path) -> None:
    build = Builder()
    product = build.linear("x_cont", 4, 4)
    build.add("Relu", [build.normalise(build.add("Add", [product, product]), 4)], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4), absolute=1e-5)


def test_stream_of_one_column_is_broadcast_not_accumulated(tmp_path: Path) -> None:
    build = Builder()
    narrow = build.unsqueeze(build.column("x_cont", 1))
    build.add("Add", [narrow, build.linear("x_cont", 4, 4)], "out")
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert "residual" not in module.operators


def test_column_times_vector_before_a_layer_is_not_folded_into_it(tmp_path: Path) -> None:
    build = Builder()
    column = build.unsqueeze(build.column("x_cont", 2))
    outer = build.add("Mul", [column, build.constant(floats(WIDTH))])
    build.linear(outer, WIDTH, 3, "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))


def test_column_times_vector_within_the_first_layer(tmp_path: Path) -> None:
    build = Builder()
    column = build.unsqueeze(build.column("x_cont", 2))
    waves = build.add("Sin", [build.add("Mul", [column, build.constant(floats(WIDTH))])])
    joined = build.add("Concat", [build.embedding(0), waves, build.scaled(1, log=False)], axis=1)
    build.linear(joined, 2 + WIDTH + 1, 3, "out")
    module = assert_equal(build.write(tmp_path / "m.onnx"), *batch(20))
    assert "bag" in module.operators


def test_normalisation_read_by_several_layers(tmp_path: Path) -> None:
    build = Builder()
    normal = build.normalise(build.linear("x_cont", 4, WIDTH), WIDTH)
    first, second = build.linear(normal, WIDTH, 3), build.linear(normal, WIDTH, 3)
    build.add("Mul", [first, second], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4), absolute=1e-3)


def test_stream_read_by_normalisation_and_by_something_else_is_not_shifted(tmp_path: Path) -> None:
    build = Builder()
    stream = build.linear("x_cont", 4, WIDTH)
    other = build.add("Exp", [stream])
    normal = build.linear(build.normalise(stream, WIDTH), WIDTH, WIDTH)
    build.add("Sub", [normal, other], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4), absolute=1e-4)


def test_stream_read_by_two_normalisations(tmp_path: Path) -> None:
    build = Builder()
    stream = build.linear("x_cont", 4, WIDTH)
    parts = [build.linear(build.normalise(stream, WIDTH), WIDTH, 2) for _ in range(2)]
    build.add("Concat", parts, "out", axis=1)
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4), absolute=1e-4)


def test_stream_that_is_the_output(tmp_path: Path) -> None:
    build = Builder()
    stream = build.block(build.first_layer())
    build.nodes[-1].output[0] = "out"
    assert stream not in {name for item in build.nodes for name in item.input}
    assert_equal(build.write(tmp_path / "m.onnx"), *batch(20), absolute=1e-4)


def test_clips_with_different_omitted_bounds_are_no_lanes_of_one_vector(tmp_path: Path) -> None:
    build = Builder()
    parts = []
    for index, bounds in enumerate(([-0.5, None], [None, 0.5], [-0.25, 0.25], [-1.0, None])):
        names = ["" if bound is None else build.constant(np.float32(bound)) for bound in bounds]
        while not names[-1]:
            names.pop()
        parts.append(build.unsqueeze(build.add("Clip", [build.column("x_cont", index), *names])))
    build.add("Concat", parts, "out", axis=1)
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert module.operators.count("Clip") == 3


def test_lanes_with_different_attributes_are_kept_apart(tmp_path: Path) -> None:
    build = Builder()
    settings = [{"alpha": 0.2, "beta": 0.1}, {"alpha": 0.2, "beta": 0.4}, {"alpha": 0.2, "beta": 0.1}]
    parts = []
    for index, attributes in enumerate(settings):
        parts.append(build.unsqueeze(build.add("HardSigmoid", [build.column("x_cont", index)], **attributes)))
    build.add("Concat", parts, "out", axis=1)
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert module.operators.count("HardSigmoid") == 2


def test_lanes_in_any_order_and_of_mixed_kinds_keep_their_places(tmp_path: Path) -> None:
    build = Builder()
    parts = []
    for index in (3, 0, 2, 1, 3):
        x = build.column("x_cont", index)
        if index % 2:
            x = build.add("Exp", [x])
        parts.append(build.unsqueeze(build.add("Mul", [x, build.constant(np.float32([index + 0.5]))])))
    build.add("Concat", parts, "out", axis=-1)
    module = assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))
    assert module.operators.count("Exp") == 1


def test_last_column_counted_from_the_end(tmp_path: Path) -> None:
    build = Builder()
    parts = [build.unsqueeze(build.add("Neg", [build.column("x_cont", index)])) for index in (-1, 0, -3)]
    table = build.constant(floats(3, 2))
    parts.append(build.add("Gather", [table, build.column("x_cat", -1)]))
    joined = build.add("Concat", parts, axis=1)
    build.linear(joined, 5, 3, "out")
    assert_equal(build.write(tmp_path / "m.onnx"), *batch(20))


def test_table_looked_up_with_a_matrix_is_no_lane(tmp_path: Path) -> None:
    build = Builder()
    found = [build.add("Gather", [build.constant(floats(7, seed=seed)), "x_cat"]) for seed in range(2)]
    build.add("Concat", [build.unsqueeze(item) for item in found], "out", axis=1)
    assert_equal(build.write(tmp_path / "m.onnx", rank=3), *batch(20))


def test_instances_own_ranges_become_one_look_up(tmp_path: Path) -> None:
    build = Builder()
    row = build.add("Sub", [build.column("x_cat", 0), build.constant(np.int32(1))])
    parts = []
    for index in range(3):
        low = build.add("Gather", [build.constant(floats(7, seed=index)), row])
        parts.append(build.unsqueeze(build.add("Add", [build.column("x_cont", index), low])))
    build.add("Concat", parts, "out", axis=1)
    module = assert_equal(build.write(tmp_path / "m.onnx"), *batch(20))
    assert module.operators.count("rows") == 1


def test_arithmetic_in_double_precision_stays_there(tmp_path: Path) -> None:
    build = Builder()
    x = build.add("Cast", ["x_cont"], to=DOUBLE)
    x = build.add("Sub", [x, build.constant(np.float64(1e-9))])
    x = build.add("Mul", [x, build.constant(np.float64(1e9))])
    build.add("Add", [x, build.constant(np.float64(0.1))], "out")
    path = build.write(tmp_path / "m.onnx", codes=0, result="float64")
    assert_equal(path, None, numbers(20, 4), relative=1e-14, absolute=0.0)


def test_difference_is_exactly_zero_at_the_lower_bound(tmp_path: Path) -> None:
    build = Builder()
    low = np.float32(0.1)
    x = build.add("Sub", ["x_cont", build.constant(low)])
    build.add("Div", [x, build.constant(np.float32(0.3))], "out")
    path = build.write(tmp_path / "m.onnx", codes=0)
    assert evaluate(compile_onnx(path), None, np.full((3, 4), low)).abs().max() == 0.0


def test_constant_over_the_numbers_is_no_multiplication(tmp_path: Path) -> None:
    build = Builder()
    build.add("Div", [build.constant(np.float32(2)), "x_cont"], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4, low=0.5))


def test_matrix_of_constants_is_broadcast(tmp_path: Path) -> None:
    build = Builder()
    x = build.add("Mul", ["x_cont", build.constant(floats(1, 4))])
    build.add("Add", [x, build.constant(floats(4))], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4))


def test_attention_over_columns_as_transformers_export_it(tmp_path: Path) -> None:
    build = Builder()
    tokens = build.add(
        "Mul", [build.add("Unsqueeze", ["x_cont", build.constant(integers(2))]), build.constant(floats(4, 6))]
    )
    rows = build.add("Gather", [build.add("Shape", [tokens]), build.constant(np.int64(0))])
    shape = build.add(
        "Concat",
        [build.add("Unsqueeze", [rows, build.constant(integers(0))]), build.constant(integers(4, 2, 3))],
        axis=0,
    )
    heads = build.add("Transpose", [build.add("Reshape", [tokens, shape])], perm=[0, 2, 1, 3])
    scores = build.add("MatMul", [heads, build.add("Transpose", [heads], perm=[0, 1, 3, 2])])
    weights = build.add("Softmax", [build.add("Div", [scores, build.constant(np.float32(1.7))])], axis=-1)
    mixed = build.add("ReduceMean", [build.add("MatMul", [weights, heads])], axes=[1, 2], keepdims=0)
    centred = build.add("Sub", [mixed, build.add("ReduceMean", [mixed], axes=[-1])])
    square = build.add("Pow", [centred, build.constant(np.float32(2))])
    spread = build.add(
        "Sqrt", [build.add("Add", [build.add("ReduceMean", [square], axes=[-1]), build.constant(np.float32(1e-5))])]
    )
    build.add("Div", [centred, spread], "out")
    assert_equal(build.write(tmp_path / "m.onnx", codes=0), None, numbers(20, 4), absolute=1e-5)


# Gradients, selection, batches -----------------------------------------------------------------------------


def test_gradients_agree_with_finite_differences(model: Path) -> None:
    module = compile_onnx(model)
    x_cat, x_cont = batch(16, seed=3)
    x = torch.from_numpy(x_cont).requires_grad_()
    direction = torch.from_numpy(numbers(16, 4, seed=9))
    weight = torch.tensor([1.0, 0.5, 0.25])
    (module(torch.from_numpy(x_cat), x) * weight).sum().backward()
    assert x.grad is not None
    along = (x.grad * direction).sum(1).numpy()
    step = 1e-2

    def value(sign: float) -> Array:
        moved = (x.detach() + sign * step * direction).numpy()
        return (reference(model, x_cat, moved).astype(np.float64) * weight.numpy()).sum(1)

    numeric = (value(1.0) - value(-1.0)) / (2 * step)
    # A step may cross the kink of a rectifier in a few rows, where the difference means little.
    close = np.abs(along - numeric) < 1e-2 * (np.abs(numeric) + np.abs(numeric).mean())
    assert close.mean() > 0.8
    assert np.abs(numeric).mean() > 1e-3


def test_gradients_do_not_change_values_and_are_off_where_not_wanted(model: Path) -> None:
    module = compile_onnx(model)
    x_cat, x_cont = (torch.from_numpy(item) for item in batch(64))
    plain = module(x_cat, x_cont)
    recorded = module(x_cat, x_cont.clone().requires_grad_())
    assert not plain.requires_grad
    assert recorded.requires_grad
    torch.testing.assert_close(recorded.detach(), plain, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert not module(x_cat, x_cont.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("outputs", [[0], [2], [1, 2], [2, 0], [1, 1]])
def test_selected_outputs_are_the_columns_of_all(model: Path, outputs: list[int]) -> None:
    x_cat, x_cont = batch(40)
    everything = evaluate(compile_onnx(model), x_cat, x_cont)
    some = evaluate(compile_onnx(model, outputs), x_cat, x_cont)
    torch.testing.assert_close(some, everything[:, outputs], rtol=1e-6, atol=1e-6)


def test_what_only_other_outputs_need_is_removed(model: Path) -> None:
    assert "Exp" in compile_onnx(model).operators
    first = compile_onnx(model, [0])
    assert "Exp" not in first.operators
    assert first.operators.count("Log") == 1  # that of the inputs
    assert len(first.operators) < len(compile_onnx(model).operators)


@pytest.mark.parametrize("outputs", [[3], [0, 7], [-1], []])
@pytest.mark.parametrize("lanes", [True, False])
def test_outputs_that_do_not_exist_are_refused(model: Path, outputs: list[int], lanes: bool, tmp_path: Path) -> None:
    path = model
    if not lanes:
        build = Builder()
        build.linear("x_cont", 4, 3, "out")
        path = build.write(tmp_path / "m.onnx", codes=0)
    with pytest.raises(InvalidSettingError, match=r"3 output columns") as caught:
        compile_onnx(path, outputs)
    assert f"outputs={outputs}" in str(caught.value)


@pytest.mark.parametrize("rows", [0, 1, 7, CPU_CHUNK - 1, CPU_CHUNK, CPU_CHUNK + 1, 4096])
def test_any_batch_size(model: Path, rows: int) -> None:
    x_cat, x_cont = batch(rows)
    result = evaluate(compile_onnx(model), x_cat, x_cont)
    assert result.shape == (rows, 3)
    if rows:
        np.testing.assert_allclose(result.numpy(), reference(model, x_cat, x_cont), rtol=1e-4, atol=1e-6)


def test_an_empty_batch_keeps_the_shape_of_what_is_reshaped(tmp_path: Path) -> None:
    build = Builder()
    wide = build.add("Mul", [build.unsqueeze("x_cont"), build.constant(floats(3, 1))])
    flat = build.add("Reshape", [wide, build.constant(integers(0, -1))])
    pair = build.add("Reshape", [flat, build.constant(integers(-1, 2, 6))])
    build.add("Flatten", [pair], "out", axis=1)
    path = build.write(tmp_path / "m.onnx", codes=0)
    assert_equal(path, None, numbers(5, 4))
    assert evaluate(compile_onnx(path), None, numbers(0, 4)).shape == (0, 12)


def test_rows_do_not_depend_on_their_neighbours(model: Path) -> None:
    module = compile_onnx(model)
    x_cat, x_cont = (torch.from_numpy(item) for item in batch(2500))
    together = module(x_cat, x_cont)
    for row in (0, 1023, 1024, 2499):
        alone = module(x_cat[row : row + 1], x_cont[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [50, 1500])
def test_inputs_in_any_memory_layout(model: Path, rows: int) -> None:
    module = compile_onnx(model)
    x_cat, x_cont = (torch.from_numpy(item) for item in batch(rows))
    expected = module(x_cat, x_cont)
    transposed = module(x_cat.T.contiguous().T, x_cont.T.contiguous().T)
    strided = module(
        torch.stack([x_cat, -x_cat], 2)[:, :, 0],
        torch.stack([x_cont, -x_cont], 1)[:, 0],
    )
    widened = module(x_cat.long(), x_cont)
    one = module(x_cat[:1].expand(rows, -1), x_cont[:1].expand(rows, -1))
    for result in (transposed, strided, widened):
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one, expected[:1].expand(rows, -1), rtol=1e-5, atol=1e-6)


def test_inputs_are_not_written_to_and_results_are_repeatable(model: Path) -> None:
    module = compile_onnx(model)
    x_cat, x_cont = (torch.from_numpy(item) for item in batch(300))
    before = x_cat.clone(), x_cont.clone()
    first = module(x_cat, x_cont)
    kept = first.clone()
    second = module(x_cat, x_cont)
    assert torch.equal(first, second)
    assert torch.equal(first, kept)
    assert torch.equal(x_cat, before[0])
    assert torch.equal(x_cont, before[1])


def test_a_copy_computes_the_same_and_shares_nothing(model: Path) -> None:
    module = compile_onnx(model)
    twin = copy.deepcopy(module)
    inputs = [torch.from_numpy(item) for item in batch(30)]
    assert torch.equal(module(*inputs), twin(*inputs))
    with torch.no_grad():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.zero_()
    assert not torch.equal(module(*inputs), twin(*inputs))


def test_graphs_with_only_one_kind_of_input(tmp_path: Path) -> None:
    build = Builder()
    build.linear("x_cont", 4, 2, "out")
    assert_equal(build.write(tmp_path / "numbers.onnx", codes=0), None, numbers(9, 4))
    build = Builder()
    joined = build.add("Concat", [build.embedding(0), build.embedding(1)], axis=1)
    build.linear(joined, 5, 2, "out")
    assert_equal(build.write(tmp_path / "codes.onnx", columns=0), codes(9, SIZES), None)


@pytest.mark.cuda
def test_a_graphics_card_agrees_with_onnxruntime(model: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x_cat, x_cont = batch(3000)
    module = compile_onnx(model).to("cuda")
    result = module(torch.from_numpy(x_cat).cuda(), torch.from_numpy(x_cont).cuda()).cpu()
    np.testing.assert_allclose(result.numpy(), reference(model, x_cat, x_cont), rtol=1e-4, atol=1e-5)


# Bad files -------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"nowhere\.onnx.*hpo_gym\.download"):
        compile_onnx(tmp_path / "nowhere.onnx")
    with pytest.raises(DataMissingError):
        compile_onnx(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_truncated_file(model: Path, share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    content = model.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataIntegrityError, match=r"cut\.onnx.*hpo_gym\.download"):
        compile_onnx(path)


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x00" * 64, b"\xff" * 64],
)
def test_file_that_is_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match=r"other\.onnx"):
        compile_onnx(path)


def test_damaged_graph(model: Path, tmp_path: Path) -> None:
    damaged = onnx.load(str(model))
    damaged.graph.node[5].input[0] = "nobody"
    path = tmp_path / "damaged.onnx"
    onnx.save(damaged, str(path))
    with pytest.raises(DataIntegrityError, match=r"damaged\.onnx"):
        compile_onnx(path)


def test_other_inputs_and_several_outputs_are_refused(model: Path, tmp_path: Path) -> None:
    renamed = onnx.load(str(model))
    for item in renamed.graph.input:
        if item.name == "x_cont":
            item.name = "numbers"
    for item in renamed.graph.node:
        for index, name in enumerate(item.input):
            if name == "x_cont":
                item.input[index] = "numbers"
    path = tmp_path / "renamed.onnx"
    onnx.save(renamed, str(path))
    with pytest.raises(UnsupportedOperatorError, match=r"'numbers'.*'x_cat'.*'x_cont'"):
        compile_onnx(path)
    double = onnx.load(str(model))
    extra = onnx.helper.make_tensor_value_info(double.graph.node[0].output[0], FLOAT, None)
    double.graph.output.append(extra)
    onnx.save(double, str(path))
    with pytest.raises((UnsupportedOperatorError, DataIntegrityError)):
        compile_onnx(path)
