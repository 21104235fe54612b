"""Every operator of the ONNX compiler against onnxruntime, on small random graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_reference import assert_equal, codes, node, numbers, onnx, write_model

from hpo_gym.errors import UnsupportedOperatorError
from hpo_gym.surrogates.onnx_compiler import compile_onnx
from hpo_gym.surrogates.onnx_operators import OPERATORS

FLOAT, INT32, INT64, BOOL, DOUBLE = 1, 6, 7, 9, 11
ROWS = 17


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 5, low: float = -2.0, high: float = 2.0) -> Any:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


# Name -> nodes, constants, and what differs from opset 13, float32 and values in -3..3.
Case = tuple[Sequence[Any], dict[str, Any], dict[str, Any]]


def unary(op: str, low: float = -3.0, high: float = 3.0, **attributes: Any) -> Case:
    return [node(op, "x_cont", **attributes)], {}, {"low": low, "high": high}


def pair(op: str, other: Any, swap: bool = False, result: str = "float32", **more: Any) -> Case:
    """Return an operator of the numbers ``[B, 4]`` and a constant."""
    names = ["c", "x_cont"] if swap else ["x_cont", "c"]
    return [node(op, names)], {"c": other}, {"result": result, **more}


def coded(op: str, other: Any, result: str = "int32", **more: Any) -> Case:
    """Return an operator of the codes ``[B, 2]`` and a constant."""
    return [node(op, "x_cat c")], {"c": np.asarray(other, np.int32)}, {"result": result, **more}


def compared(op: str) -> Case:
    return (
        [node(op, "x_cont c", "hit"), node("Cast", "hit", to=FLOAT)],
        {"c": floats(4)},
        {},
    )


def logical(op: str) -> Case:
    return (
        [
            node("Greater", "x_cont c", "left"),
            node("Less", "x_cont d", "right"),
            node(op, "left right", "both"),
            node("Cast", "both", to=INT32),
        ],
        {"c": floats(4), "d": floats(1)},
        {"result": "int32"},
    )


def reduced(op: str, axes: Sequence[int] | None, opset: int = 13, **attributes: Any) -> Case:
    if axes is None:
        return [node(op, "x_cont", **attributes)], {}, {"opset": opset}
    # ReduceSum takes its axes as an input from opset 13 on, all others from opset 18 on.
    if opset >= 18 or (op == "ReduceSum" and opset >= 13):
        return [node(op, "x_cont axes", **attributes)], {"axes": integers(*axes)}, {"opset": opset}
    return [node(op, "x_cont", axes=list(axes), **attributes)], {}, {"opset": opset}


GELU_BY_ERF = [
    node("Div", "x_cont root", "scaled"),
    node("Erf", "scaled", "erf"),
    node("Add", "erf one", "raised"),
    node("Mul", "x_cont raised", "double"),
    node("Mul", "double half"),
]

CASES: dict[str, Case] = {
    "Abs": unary("Abs"),
    "Add matrix and vector": pair("Add", floats(4)),
    "Add matrix and scalar": pair("Add", floats()),
    "Add grows a third axis": pair("Add", floats(3, 1, 4)),
    "Add integers": coded("Add", [3, -4]),
    "And": logical("And"),
    "Cast to double and back": (
        [node("Cast", "x_cont", "wide", to=DOUBLE), node("Exp", "wide", "e"), node("Cast", "e", to=FLOAT)],
        {},
        {"low": -30.0, "high": 30.0},
    ),
    "Cast truncates": ([node("Cast", "x_cont", to=INT64)], {}, {"result": "int64"}),
    "Cast codes": ([node("Cast", "x_cat", to=FLOAT)], {}, {}),
    "Cast to bool": ([node("Cast", "x_cat", "b", to=BOOL), node("Cast", "b", to=FLOAT)], {}, {}),
    "Ceil": unary("Ceil"),
    "Celu": unary("Celu", alpha=0.7),
    "Clip both": ([node("Clip", "x_cont low high")], {"low": np.float32(-1), "high": np.float32(0.5)}, {}),
    "Clip low": ([node("Clip", "x_cont low")], {"low": np.float32(-1)}, {}),
    "Clip high": ([node("Clip", ["x_cont", "", "high"])], {"high": np.float32(0.5)}, {}),
    "Clip neither": ([node("Clip", "x_cont", "y"), node("Neg", "y")], {}, {}),
    "Clip by attributes": ([node("Clip", "x_cont", min=-1.0, max=0.5)], {}, {"opset": 6}),
    "Clip integers": (
        [node("Clip", "x_cat low high")],
        {"low": np.int32(1), "high": np.int32(3)},
        {"result": "int32"},
    ),
    "Clip low above high": ([node("Clip", "x_cont low high")], {"low": np.float32(1), "high": np.float32(-1)}, {}),
    "Concat columns": ([node("Concat", "x_cont x_cont", axis=1)], {}, {}),
    "Concat negative axis": (
        [node("Cast", "x_cat", "c", to=FLOAT), node("Concat", "c x_cont c", axis=-1)],
        {},
        {},
    ),
    "Concat rows": ([node("Concat", "x_cont x_cont", axis=0)], {}, {}),
    "Constant": (
        [node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0, 4.0]), node("Mul", "x_cont c")],
        {},
        {},
    ),
    "Constant float": ([node("Constant", "", "c", value_float=0.3), node("Mul", "x_cont c")], {}, {}),
    "Constant int": (
        [node("Constant", "", "j", value_int=2), node("Gather", "x_cont j", axis=1)],
        {},
        {},
    ),
    "Constant ints": (
        [node("Constant", "", "j", value_ints=[2, 0]), node("Gather", "x_cont j", axis=1)],
        {},
        {},
    ),
    "ConstantOfShape": (
        [
            node("Shape", "x_cont", "s"),
            node(
                "ConstantOfShape",
                "s",
                "filled",
                value=onnx.helper.make_tensor("v", FLOAT, [1], [2.5]),
            ),
            node("Mul", "filled x_cont"),
        ],
        {},
        {},
    ),
    "ConstantOfShape zeros": ([node("Shape", "x_cont", "s"), node("ConstantOfShape", "s")], {}, {}),
    "Cos": unary("Cos"),
    "Div": pair("Div", floats(4, low=0.5)),
    "Div by the numbers": pair("Div", floats(4), swap=True, low=0.5),
    "Div integers": coded("Div", [2, -3]),
    "Dropout": ([node("Dropout", "x_cont", "y"), node("Neg", "y")], {}, {}),
    "Elu": unary("Elu", alpha=1.3),
    "Equal codes": (
        [node("Equal", "x_cat c", "hit"), node("Cast", "hit", to=FLOAT)],
        {"c": np.array([1, 2], np.int32)},
        {},
    ),
    "Erf": unary("Erf"),
    "Exp": unary("Exp"),
    "Expand": (
        [node("Unsqueeze", "x_cont axes", "y"), node("Expand", "y shape")],
        {"axes": integers(1), "shape": integers(1, 3, 4)},
        {},
    ),
    "Expand to the batch": (
        [
            node("Shape", "x_cont", "s"),
            node("Gather", "s zero", "rows", axis=0),
            node("Concat", "rows three", "shape", axis=0),
            node("Expand", "c shape", "wide"),
            node("Concat", "wide x_cont", axis=1),
        ],
        {"zero": integers(0), "three": integers(3), "c": floats(1, 3)},
        {},
    ),
    "Flatten": (
        [node("Unsqueeze", "x_cont axes", "y"), node("Mul", "y c", "wide"), node("Flatten", "wide", axis=1)],
        {"axes": integers(2), "c": floats(3)},
        {},
    ),
    "Flatten from the end": (
        [node("Unsqueeze", "x_cont axes", "y"), node("Mul", "y c", "wide"), node("Flatten", "wide", axis=-1)],
        {"axes": integers(2), "c": floats(3)},
        {},
    ),
    "Floor": unary("Floor"),
    "Gather columns": ([node("Gather", "x_cont j", axis=1)], {"j": integers(3, 0, -1)}, {}),
    "Gather embedding": ([node("Gather", "table x_cat")], {"table": floats(5, 3)}, {}),
    "Gather embeddings from the end, then Gemm": (
        [
            node("Gather", "x_cat last", "code", axis=1),
            node("Gather", "table code", "embedded"),
            node("Concat", "embedded x_cont", "joined", axis=1),
            node("Gemm", "joined w b"),
        ],
        {"last": np.array(-1, np.int64), "table": floats(5, 3), "w": floats(7, 2), "b": floats(2)},
        {},
    ),
    "Gather from a vector": ([node("Gather", "table x_cat")], {"table": floats(5)}, {}),
    "Gather negative axis": ([node("Gather", "x_cont j", axis=-1)], {"j": np.array(-2, np.int64)}, {}),
    "Gelu": ([node("Gelu", "x_cont")], {}, {"opset": 20}),
    "Gelu by tanh": ([node("Gelu", "x_cont", approximate="tanh")], {}, {"opset": 20}),
    "Gelu by Erf": (
        GELU_BY_ERF,
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
        {},
    ),
    "Gemm": ([node("Gemm", "x_cont w b")], {"w": floats(4, 3), "b": floats(3)}, {}),
    "Gemm without bias": ([node("Gemm", "x_cont w", transB=1)], {"w": floats(3, 4)}, {}),
    "Gemm scaled": (
        [node("Gemm", "x_cont w b", alpha=0.5, beta=-2.0, transB=1)],
        {"w": floats(3, 4), "b": floats(3)},
        {},
    ),
    "Gemm scalar bias": ([node("Gemm", "x_cont w b", beta=2.0)], {"w": floats(4, 3), "b": floats(1)}, {}),
    "Gemm row bias": ([node("Gemm", "x_cont w b", beta=2.0)], {"w": floats(4, 3), "b": floats(1, 3)}, {}),
    "Gemm column bias": (
        [node("Gemm", "x_cont w b", "y", transA=0), node("Gemm", "y y", transB=1)],
        {"w": floats(4, 3), "b": floats(3)},
        {},
    ),
    "Gemm transposed": ([node("Gemm", "x_cont x_cont", transA=1)], {}, {}),
    "Greater": compared("Greater"),
    "GreaterOrEqual": compared("GreaterOrEqual"),
    "HardSigmoid": unary("HardSigmoid", alpha=0.3, beta=0.4),
    "HardSigmoid default": unary("HardSigmoid"),
    "HardSwish": ([node("HardSwish", "x_cont")], {}, {"opset": 14, "low": -5.0, "high": 5.0}),
    "Identity": ([node("Identity", "x_cont", "y"), node("Exp", "y")], {}, {}),
    "IsNaN": (
        [node("Log", "x_cont", "l"), node("IsNaN", "l", "n"), node("Cast", "n", to=FLOAT)],
        {},
        {},
    ),
    "LayerNormalization": (
        [node("LayerNormalization", "x_cont s b", axis=-1, epsilon=1e-3)],
        {"s": floats(4), "b": floats(4)},
        {"opset": 17},
    ),
    "LayerNormalization without shift": (
        [node("LayerNormalization", "x_cont s")],
        {"s": floats(4)},
        {"opset": 17},
    ),
    "LeakyRelu": unary("LeakyRelu", alpha=0.2),
    "LeakyRelu default": unary("LeakyRelu"),
    "Less": compared("Less"),
    "LessOrEqual": compared("LessOrEqual"),
    "Log": unary("Log", low=1e-6),
    "Log of zero and below": unary("Log", low=-1.0, high=1.0),
    "LogSoftmax": unary("LogSoftmax", axis=1),
    "MatMul": ([node("MatMul", "x_cont w")], {"w": floats(4, 3)}, {}),
    "MatMul of three axes": (
        [node("Unsqueeze", "x_cont axes", "y"), node("MatMul", "y w")],
        {"axes": integers(2), "w": floats(1, 6)},
        {},
    ),
    "MatMul batched": (
        [
            node("Unsqueeze", "x_cont last", "y"),
            node("Transpose", "y", "t", perm=[0, 2, 1]),
            node("MatMul", "y t"),
        ],
        {"last": integers(2)},
        {},
    ),
    "Max": pair("Max", floats(4)),
    "Max of three": ([node("Max", "x_cont c d")], {"c": floats(4), "d": floats(1)}, {}),
    "Max of one": ([node("Max", "x_cont")], {}, {}),
    "Mean": ([node("Mean", "x_cont c d")], {"c": floats(4), "d": floats(1)}, {}),
    "Min": pair("Min", floats(1)),
    "Min integers": coded("Min", [2, 1]),
    "Mish": ([node("Mish", "x_cont")], {}, {"opset": 18}),
    "Mod": coded("Mod", [3, -2]),
    "Mod of floats": ([node("Mod", "x_cont c", fmod=1)], {"c": floats(4, low=0.5)}, {}),
    "Mul": pair("Mul", floats(4)),
    "Mul outer product": (
        [node("Unsqueeze", "x_cont axes", "y"), node("Mul", "c y")],
        {"axes": integers(-1), "c": floats(4, 6)},
        {},
    ),
    "Neg": unary("Neg"),
    "Not": (
        [node("Greater", "x_cont c", "hit"), node("Not", "hit", "miss"), node("Cast", "miss", to=FLOAT)],
        {"c": floats(4)},
        {},
    ),
    "OneHot": (
        [node("Cast", "x_cat", "index", to=INT64), node("OneHot", "index depth values", axis=-1)],
        {"depth": integers(4), "values": np.array([0.0, 1.0], np.float32)},
        {},
    ),
    "OneHot on an inner axis": (
        [node("Cast", "x_cat", "index", to=INT64), node("OneHot", "index depth values", axis=1)],
        {"depth": np.int64(4), "values": np.array([-1.0, 2.0], np.float32)},
        {},
    ),
    "Or": logical("Or"),
    "PRelu": pair("PRelu", floats(4)),
    "Pow squares": pair("Pow", np.float32(2)),
    "Pow roots": pair("Pow", np.float32(0.5), low=0.0),
    "Pow of a constant": pair("Pow", np.float32(10), swap=True),
    "Pow with an integer exponent": pair("Pow", np.int64(3)),
    "Range": (
        [
            node("Shape", "x_cont", "s"),
            node("Gather", "s axis", "width", axis=0),
            node("Range", "zero width one", "r"),
            node("Cast", "r", "f", to=FLOAT),
            node("Mul", "x_cont f"),
        ],
        {"axis": np.int64(1), "zero": np.int64(0), "one": np.int64(1)},
        {},
    ),
    "Reciprocal": unary("Reciprocal", low=0.5),
    "ReduceL1": reduced("ReduceL1", [1]),
    "ReduceL2": reduced("ReduceL2", [1], keepdims=0),
    "ReduceLogSumExp": reduced("ReduceLogSumExp", [-1]),
    "ReduceMax": reduced("ReduceMax", [1]),
    "ReduceMean": reduced("ReduceMean", [1]),
    "ReduceMean drops the axis": reduced("ReduceMean", [-1], keepdims=0),
    "ReduceMean by input": reduced("ReduceMean", [1], opset=18),
    "ReduceMean of all": reduced("ReduceMean", None),
    "ReduceMin": reduced("ReduceMin", [1], keepdims=0),
    "ReduceSum by attribute": reduced("ReduceSum", [1], opset=11),
    "ReduceSum by input": reduced("ReduceSum", [-1], keepdims=0),
    "ReduceSum of nothing": reduced("ReduceSum", None, noop_with_empty_axes=1),
    "ReduceSumSquare": reduced("ReduceSumSquare", [1]),
    "Relu": unary("Relu"),
    "Reshape": ([node("Reshape", "x_cont shape")], {"shape": integers(0, 2, -1)}, {}),
    "Reshape to computed sizes": (
        [
            node("Shape", "x_cont", "s"),
            node("Gather", "s zero", "rows", axis=0),
            node("Unsqueeze", "rows axes", "r"),
            node("Concat", "r rest", "shape", axis=0),
            node("Reshape", "x_cont shape"),
        ],
        {"zero": np.int64(0), "axes": integers(0), "rest": integers(2, 2)},
        {},
    ),
    "Round": (
        [node("Mul", "x_cont two", "y"), node("Round", "y", "r"), node("Div", "r two", "h"), node("Round", "h")],
        {"two": np.float32(2)},
        {},
    ),
    "Selu": unary("Selu"),
    "Selu with attributes": unary("Selu", alpha=1.5, gamma=1.2),
    "Shape": ([node("Shape", "x_cont")], {}, {"result": "int64"}),
    "Shape in part": ([node("Shape", "x_cont", start=-1)], {}, {"result": "int64", "opset": 15}),
    "Shape in part, then Gather": (
        [node("Shape", "x_cont", "s", start=1), node("Gather", "s zero", axis=0)],
        {"zero": integers(0)},
        {"result": "int64", "opset": 15},
    ),
    "Sigmoid": unary("Sigmoid", low=-90.0, high=90.0),
    "Sign": unary("Sign"),
    "Sin": unary("Sin"),
    "Slice": (
        [node("Slice", "x_cont starts ends axes")],
        {"starts": integers(1), "ends": integers(3), "axes": integers(1)},
        {},
    ),
    "Slice by attributes": ([node("Slice", "x_cont", starts=[1], ends=[3], axes=[1])], {}, {"opset": 9}),
    "Slice from the end": (
        [node("Slice", "x_cont starts ends axes")],
        {"starts": integers(-3), "ends": integers(2**63 - 1), "axes": integers(-1)},
        {},
    ),
    "Slice with steps": (
        [node("Slice", "x_cont starts ends axes steps")],
        {"starts": integers(2, 0), "ends": integers(9, 4), "axes": integers(0, 1), "steps": integers(3, 2)},
        {},
    ),
    "Slice backwards": (
        [node("Slice", "x_cont starts ends axes steps")],
        {"starts": integers(-1), "ends": integers(-(2**63)), "axes": integers(1), "steps": integers(-1)},
        {},
    ),
    "Slice without axes": (
        [node("Slice", "x_cont starts ends")],
        {"starts": integers(1, 1), "ends": integers(-1, 9)},
        {},
    ),
    "Slice at computed places": (
        [
            node("Shape", "x_cont", "s"),
            node("Gather", "s one", "width", axis=0),
            node("Div", "width two", "half"),
            node("Slice", "x_cont half width axes"),
        ],
        {"one": integers(1), "two": integers(2), "axes": integers(1)},
        {},
    ),
    "Softmax": unary("Softmax", axis=-1),
    "Softmax over rows": unary("Softmax", axis=0),
    "Softmax before opset 13": ([node("Softmax", "x_cont", axis=1)], {}, {"opset": 11}),
    "Softplus": unary("Softplus", low=-90.0, high=90.0),
    "Softsign": unary("Softsign"),
    "Split": ([node("Split", "x_cont", "a out", axis=1)], {}, {}),
    "Split unevenly": (
        [node("Split", "x_cont sizes", "a b", axis=-1), node("Concat", "b a b", axis=1)],
        {"sizes": integers(1, 3)},
        {},
    ),
    "Split by attribute": ([node("Split", "x_cont", "a out", axis=1, split=[3, 1])], {}, {"opset": 11}),
    "Split into a number": (
        [node("Split", "x_cont", "a b out", axis=1, num_outputs=3)],
        {},
        {"opset": 18, "columns": 5},
    ),
    "Sqrt": unary("Sqrt", low=0.0),
    "Squeeze": (
        [node("Unsqueeze", "x_cont one", "y"), node("Neg", "y", "n"), node("Squeeze", "n one")],
        {"one": integers(1)},
        {},
    ),
    "Squeeze by attribute": (
        [node("Unsqueeze", "x_cont", "y", axes=[-1]), node("Neg", "y", "n"), node("Squeeze", "n", axes=[-1])],
        {},
        {"opset": 11},
    ),
    "Squeeze all": (
        [node("Unsqueeze", "x_cont axes", "y"), node("Neg", "y", "n"), node("Squeeze", "n")],
        {"axes": integers(0, 2)},
        {},
    ),
    "Sub": pair("Sub", floats(4)),
    "Sub from a constant": pair("Sub", floats(1), swap=True),
    "Sub integers": coded("Sub", 1),
    "Sum": ([node("Sum", "x_cont c d")], {"c": floats(4), "d": floats(1)}, {}),
    "Tan": unary("Tan", low=-1.0, high=1.0),
    "Tanh": unary("Tanh", low=-20.0, high=20.0),
    "ThresholdedRelu": unary("ThresholdedRelu", alpha=0.5),
    "Tile": ([node("Tile", "x_cont counts")], {"counts": integers(1, 3)}, {}),
    "Transpose": ([node("Transpose", "x_cont", perm=[1, 0])], {}, {}),
    "Transpose default": ([node("Transpose", "x_cont")], {}, {}),
    "Unsqueeze": ([node("Unsqueeze", "x_cont axes")], {"axes": integers(-1, 1)}, {}),
    "Unsqueeze by attribute": ([node("Unsqueeze", "x_cont", axes=[0, 3])], {}, {"opset": 11}),
    "Where": (
        [node("Greater", "x_cont c", "hit"), node("Where", "hit x_cont d")],
        {"c": floats(4), "d": floats(1)},
        {},
    ),
    "Where with a constant first": (
        [node("Equal", "x_cat c", "hit"), node("Where", "hit d e")],
        {"c": np.int32(2), "d": floats(2), "e": floats(1)},
        {},
    ),
    "Xor": logical("Xor"),
    "BatchNormalization": (
        [node("BatchNormalization", "x_cont s b m v", epsilon=1e-3)],
        {"s": floats(4), "b": floats(4, seed=6), "m": floats(4, seed=7), "v": floats(4, low=0.1)},
        {},
    ),
    "BatchNormalization of three axes": (
        [
            node("Unsqueeze", "x_cont axes", "y"),
            node("Mul", "y c", "wide"),
            node("BatchNormalization", "wide s b m v", "n"),
            node("Relu", "n"),
        ],
        {
            "axes": integers(2),
            "c": floats(4),
            "s": floats(4),
            "b": floats(4, seed=6),
            "m": floats(4, seed=7),
            "v": floats(4, low=0.1),
        },
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    nodes, constants, more = CASES[name]
    settings = dict(more)
    low, high = settings.pop("low", -3.0), settings.pop("high", 3.0)
    path = write_model(tmp_path / "model.onnx", nodes, constants, **settings)
    x_cont = numbers(ROWS, settings.get("columns", 4), low=low, high=high)
    # Graphs that leave an input out are compiled without it all the same.
    assert_equal(path, codes(ROWS, (5, 5)), x_cont)


def test_every_operator_of_the_table_has_a_case() -> None:
    tested = {item.op_type for nodes, _, _ in CASES.values() for item in nodes}
    assert set(OPERATORS) - tested == set()
    assert tested - set(OPERATORS) == set()


@pytest.mark.parametrize("op", ["Max", "Min", "Clip", "Relu", "Where", "Sigmoid", "Exp", "Round"])
def test_special_values_agree_with_onnxruntime(op: str, tmp_path: Path) -> None:
    nodes = {
        "Max": [node("Max", "x_cont c")],
        "Min": [node("Min", "x_cont c")],
        "Clip": [node("Clip", "x_cont low high")],
        "Where": [node("Greater", "x_cont c", "hit"), node("Where", "hit x_cont c")],
    }.get(op, [node(op, "x_cont")])
    constants = {"c": np.float32(0.5), "low": np.float32(-1.0), "high": np.float32(1.0)}
    used = {name for item in nodes for name in item.input}
    path = write_model(tmp_path / "m.onnx", nodes, {k: v for k, v in constants.items() if k in used}, codes=0)
    special = np.array([[np.inf, -np.inf, -0.0, 0.5], [2.5, -2.5, 1e30, -1e-30]], np.float32)
    assert_equal(path, None, special)


def test_unknown_operator_is_named_with_its_node(tmp_path: Path) -> None:
    item = node("Det", "y")
    item.name = "determinant_7"
    path = write_model(tmp_path / "odd.onnx", [node("Gemm", "x_cont x_cont", "y", transA=1), item])
    with pytest.raises(UnsupportedOperatorError, match=r"'Det'.*determinant_7.*odd\.onnx.*Sigmoid"):
        compile_onnx(path)


def test_operator_of_another_domain_is_refused_although_its_name_is_known(tmp_path: Path) -> None:
    item = node("Relu", "x_cont")
    item.domain = "com.example"
    path = write_model(tmp_path / "odd.onnx", [item])
    model = onnx.load(str(path))
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, str(path))
    with pytest.raises(UnsupportedOperatorError, match=r"com\.example\.Relu"):
        compile_onnx(path)


def test_unknown_attribute_is_refused(tmp_path: Path) -> None:
    nodes = [node("Cast", "x_cat", "y", to=FLOAT), node("Softmax", "y", "z", axis=1)]
    path = write_model(tmp_path / "m.onnx", [*nodes, node("CumSum", "z zero", exclusive=1)], {"zero": integers(0)})
    with pytest.raises(UnsupportedOperatorError, match="CumSum"):
        compile_onnx(path)
    path = write_model(tmp_path / "n.onnx", [node("Reshape", "x_cont s", allowzero=1)], {"s": integers(1, 4)}, opset=14)
    compile_onnx(path)


def test_dropout_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "m.onnx",
        [node("Dropout", "x_cont ratio training")],
        {"ratio": np.float32(0.5), "training": np.bool_(True)},
    )
    with pytest.raises(UnsupportedOperatorError, match=r"training mode.*eval\(\)"):
        compile_onnx(path)


def test_unsupported_element_type_is_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", [node("Cast", "x_cont", "s", to=8), node("Cast", "s", to=FLOAT)])
    with pytest.raises(UnsupportedOperatorError, match=r"Cast: ONNX element type 8"):
        module = compile_onnx(path)
        module(None, torch.zeros(2, 4))
