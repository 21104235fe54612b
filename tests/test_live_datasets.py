"""Datasets of live objectives: where they come from, what is refused, and what is measured about them."""

from __future__ import annotations

import gzip
import json
import math
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.live import DataSource, data_source, load_table, store_arrays
from hpo_gym.live.datasets import SKLEARN_DATASETS
from hpo_gym.live.frames import read_table, table_from_frame, write_table
from hpo_gym.live.table import Table
from hpo_gym.tasks.datasets import QUALITIES, qualities

# The packaged table is written with ten digits, OpenML's own answers with all of them: the definitions agree exactly,
# what is left is rounding.
ROUNDED, EXACT = 1e-9, 1e-12

# Complete datasets among the genuine answers of OpenML that scikit-learn ships for its own tests.
OPENML_IN_SKLEARN = (3, 61, 561, 40675, 40945, 42585)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def frame_of_arff(text: str) -> pd.DataFrame:
    arff = pytest.importorskip("arff", reason="needs liac-arff, which comes with openml")
    parsed = arff.loads(text)
    frame = pd.DataFrame(parsed["data"], columns=[name for name, _ in parsed["attributes"]])
    for name, kind in parsed["attributes"]:
        if isinstance(kind, list):
            frame[name] = pd.Categorical(frame[name], categories=[level for level in kind if level is not None])
        elif kind.upper() != "STRING":
            frame[name] = frame[name].astype(float)
    return frame


def assert_qualities(found: tuple[float, ...], known: dict[str, float], tolerance: float, least: int = 20) -> None:
    mine = dict(zip(QUALITIES, found, strict=True))
    compared = [name for name in QUALITIES if name in known]
    assert len(compared) >= least
    wrong = {n: (mine[n], known[n]) for n in compared if not math.isclose(mine[n], known[n], rel_tol=tolerance)}
    assert not wrong


# Those whose target is made of another are in test_grpoformer_protocol.py.
@pytest.mark.parametrize("name", [name for name in SKLEARN_DATASETS if "_" not in name or name == "breast_cancer"])
def test_datasets_of_scikit_learn_come_without_a_network(name: str) -> None:
    from sklearn import datasets

    table = load_table(data_source(f"sklearn:{name}"))
    features, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    np.testing.assert_array_equal(table.values, features)
    np.testing.assert_array_equal(table.target, target)
    assert table.task == ("regression" if name == "diabetes" else "classification")
    assert table.image == ((1, 8, 8) if name == "digits" else None) and table.folds is None
    assert len(table.qualities) == 20 and all(math.isfinite(value) for value in table.qualities)
    assert load_table(data_source(f"sklearn:{name}")) is table


def test_meta_features_of_wdbc_are_those_of_the_packaged_table() -> None:
    known = dict(zip(QUALITIES, qualities()["dataset:1510"], strict=True))
    assert_qualities(load_table(data_source("sklearn:breast_cancer")).qualities, known, ROUNDED)


def test_meta_features_of_iris_are_those_of_openml() -> None:
    known = {name: value for name, value in openml_answer(61)[1].items() if name in QUALITIES}
    assert_qualities(load_table(data_source("sklearn:iris")).qualities, known, EXACT)


def openml_answer(identity: int) -> tuple[dict[str, Any], dict[str, float], pd.DataFrame]:
    """Return description, qualities and data that OpenML gave scikit-learn."""
    pytest.importorskip("sklearn.datasets.tests.data.openml", reason="this scikit-learn comes without its tests")
    folder = files("sklearn.datasets.tests.data.openml").joinpath(f"id_{identity}")
    names = {path.name: path for path in folder.iterdir()}
    described, measured = f"api-v1-jd-{identity}.json.gz", f"api-v1-jdq-{identity}.json.gz"
    description = json.loads(gzip.decompress(names[described].read_bytes()))["data_set_description"]
    rows = json.loads(gzip.decompress(names[measured].read_bytes()))["data_qualities"]["quality"]
    # Empty answers are lists or null: a regression dataset has no class entropy.
    known = {row["name"]: float(row["value"]) for row in rows if isinstance(row.get("value"), str)}
    (data,) = (path for name, path in names.items() if name.endswith(".arff.gz"))
    return description, known, frame_of_arff(gzip.decompress(data.read_bytes()).decode())


@pytest.mark.parametrize("identity", OPENML_IN_SKLEARN)
def test_meta_features_agree_with_openml(identity: int) -> None:
    description, known, frame = openml_answer(identity)
    target = description["default_target_attribute"]
    table = table_from_frame(description["name"], frame.drop(columns=target), frame[target], text="drop")
    assert_qualities(table.qualities, known, EXACT, least=15 if table.task == "regression" else 19)
    if table.task == "regression":
        absent = {name: value for name, value in zip(QUALITIES, table.qualities, strict=True) if name not in known}
        assert set(absent.values()) == {0.0}
    if identity == 40945:
        assert table.columns == ("pclass", "sex", "age", "sibsp", "parch", "fare", "embarked", "body")


@pytest.mark.parametrize(("identity", "rows"), [(4, 625), (17, 1000)])
def test_meta_features_agree_with_those_of_a_test_server(data_folder: Path, identity: int, rows: int) -> None:
    import xml.etree.ElementTree as Tree

    folder = data_folder / f"openml_fixtures/history/examples/cache/org/openml/test/datasets/{identity}"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    elements = [list(entry) for entry in Tree.parse(folder / "qualities.xml").getroot()]
    known = {parts[0].text: float(parts[1].text) for parts in elements if len(parts) > 1 and parts[1].text}
    frame = frame_of_arff((folder / "dataset.arff").read_text())
    assert len(frame) == rows
    table = table_from_frame(str(identity), frame.drop(columns="class"), frame["class"])
    assert_qualities(table.qualities, known, EXACT)  # type: ignore[arg-type]


def mixed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": [1.5, np.nan, 3.0, 4.0, 5.5, 6.0],
            "count": [1, 2, 3, 4, 5, 6],
            "shop": ["b", "a", None, "a", "b", "c"],
            "open": [True, False, True, False, True, False],
            "label": ["no", "yes", "yes", "no", "no", "yes"],
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    mixed().to_csv(path, index=False) if suffix == "csv" else mixed().to_parquet(path)
    table = load_table(data_source(path, drop=("count",)))
    assert table.columns == ("size", "shop", "open") and table.levels == (0, 3, 2)
    np.testing.assert_array_equal(table.values[:, 1], [1, 0, np.nan, 0, 1, 2])
    np.testing.assert_array_equal(table.values[:, 2], [1, 0, 1, 0, 1, 0])
    assert table.classes == ("no", "yes") and table.target.tolist() == [0, 1, 1, 0, 0, 1]
    known = dict(zip(QUALITIES, table.qualities, strict=True))
    assert known["NumberOfMissingValues"] == 2 and known["NumberOfBinaryFeatures"] == 2
    assert known["NumberOfNumericFeatures"] == 1 and known["AutoCorrelation"] == pytest.approx(2 / 5)


def test_a_target_of_numbers_is_for_regression_only_if_they_are_floats(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    mixed().to_csv(path, index=False)
    assert load_table(data_source(path, target="count")).task == "classification"
    assert load_table(data_source(path, target="count", task="regression")).target.dtype == np.float64
    with pytest.raises(InvalidSettingError, match=r"target 'size' of rows.csv is missing in 1 rows"):
        load_table(data_source(path, target="size"))
    with pytest.raises(InvalidSettingError, match=r"'label' .* not numeric .*task='classification'"):
        load_table(data_source(path, task="regression"))


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"There is no file .*absent\.csv"):
        data_source(tmp_path / "absent.csv")
    path = tmp_path / "rows.csv"
    mixed().to_csv(path, index=False)
    with pytest.raises(UnknownNameError, match=r"column of rows.csv 'lable'.*Did you mean 'label'"):
        load_table(data_source(path, target="lable"))
    with pytest.raises(UnknownNameError, match=r"column of rows.csv 'shp'.*Did you mean 'shop'"):
        load_table(data_source(path, drop=("shp",)))
    with pytest.raises(InvalidSettingError, match=r"'label' of rows\.csv is the target"):
        load_table(data_source(path, drop=("label",)))
    source = data_source(path)
    path.write_text(path.read_text() + "7,7,a,True,no\n")
    with pytest.raises(DataIntegrityError, match=r"has changed since its data source was made"):
        load_table(source)
    path.unlink()
    with pytest.raises(DataMissingError, match=r"There is no file .*rows\.csv"):
        load_table(source)
    for name, content in (
        ("bad.parquet", b"PAR1 no parquet"),
        ("bad.csv", b""),
        ("ragged.csv", b"a,b\n1,2\n1,2,3,4\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataIntegrityError, match=rf"{name} cannot be read as"):
            load_table(data_source(tmp_path / name))
    (tmp_path / "one.csv").write_text("a\n1\n2\n")
    with pytest.raises(InvalidSettingError, match=r"has 1 column"):
        load_table(data_source(tmp_path / "one.csv"))


def test_arrays_are_stored_once_and_read_back_without_pickle(cache: Path) -> None:
    frame = mixed()
    source = store_arrays(frame.drop(columns="label"), frame["label"], name="shops")
    assert store_arrays(frame.drop(columns="label"), frame["label"], name="shops") == source
    assert len(list(cache.rglob("*.npz"))) == 1
    table = load_table(source)
    assert table.name == "shops" and table.levels == (0, 0, 3, 2)
    with np.load(source.identity, allow_pickle=False) as stored:
        assert {str(stored[name].dtype) for name in stored.files} == {"float64", "int64", "uint8"}
    digits = store_arrays(np.arange(32.0).reshape(8, 4), [0, 1] * 4, image=(1, 2, 2))
    assert load_table(digits).image == (1, 2, 2)


def test_a_damaged_or_foreign_table_is_refused(tmp_path: Path) -> None:
    source = store_arrays(np.arange(12.0).reshape(6, 2), [0, 1] * 3)
    path = Path(source.identity)
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(DataIntegrityError, match="has changed since"):
        load_table(source)
    for bad in (content[: len(content) // 2], b"nothing", b""):
        path.write_bytes(bad)
        with pytest.raises(DataIntegrityError, match="no table of hpo_gym, or it is damaged"):
            read_table(path)
    np.savez(path, header=np.array([{"name": "pickled"}], dtype=object), allow_pickle=True)
    with pytest.raises(DataIntegrityError, match="no table of hpo_gym, or it is damaged"):
        read_table(path)
    assert store_arrays(np.arange(12.0).reshape(6, 2), [0, 1] * 3) == source
    assert path.read_bytes() == content


def test_tables_keep_everything(tmp_path: Path) -> None:
    folds = np.array([[0, 1, 0, 1, 0, -1]], dtype=np.int16)
    table = table_from_frame("t", mixed()[["size", "shop"]], mixed()["label"], folds=folds, provenance={"from": "x"})
    buffer = BytesIO()
    write_table(table, buffer)
    (tmp_path / "t.npz").write_bytes(buffer.getvalue())
    again = read_table(tmp_path / "t.npz")
    for name in ("values", "target", "folds"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    for name in ("name", "columns", "levels", "classes", "qualities", "image", "provenance"):
        assert getattr(again, name) == getattr(table, name)


X6 = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("features", "target", "said"),
    [
        (X6, ["a"] * 6, "one class only.*'a'.*needs two"),
        (X6, [1.5] * 6, "target of data is constant"),
        (X6, [1.0, 2.0, np.inf, 1.0, 2.0, 3.0], "missing or infinite in 1 rows"),
        (X6, [1, 2, 3], "X has 6 rows and y has 3"),
        (X6[:1], [1], "1 row"),
        (X6[:0], [], "has no rows"),
        (csr_array(X6), [0, 1] * 3, r"sparse.*X\.toarray"),
        (X6 * 1j, [0, 1] * 3, "complex"),
        (X6, np.eye(2)[[0, 1] * 3], r"\(6, 2\).*y\.argmax\(1\)"),
        (X6, np.zeros((6, 1)), r"y has the shape \(6, 1\).*ravel"),
        (pd.DataFrame({"when": pd.date_range("2020", periods=6)}), [0, 1] * 3, r"times in \['when'\]"),
        (X6[:, 0], [0, 1] * 3, r"shape \(6,\).*reshape"),
        (pd.Series(X6[:, 0]), [0, 1] * 3, r"shape \(6,\).*X\.to_frame"),
        (X6, pd.DataFrame({"y": [0, 1] * 3}), r"\(6, 1\).*y\.iloc\[:, 0\]"),
        (np.ones((6, 2)), [0, 1] * 3, r"Every feature of data is constant \('0', '1'\)"),
        (np.c_[X6, np.full(6, np.nan)], [0, 1] * 3, r"no value at all in '2'.*drop=\("),
        (np.c_[X6, [1, 2, 3, 4, np.inf, 5]], [0, 1] * 3, "infinite values in '2'"),
        (X6[:, :0], [0, 1] * 3, "has no features"),
        (pd.DataFrame(X6, columns=["a", "a"]), [0, 1] * 3, r"columns of the same name: \['a'\]"),
    ],
)
def test_data_of_no_use_is_refused(features: Any, target: Any, said: str) -> None:
    with pytest.raises(InvalidSettingError, match=said):
        store_arrays(features, target, name="data")


@pytest.mark.parametrize(
    ("column", "levels"),
    [
        (pd.Series([1.0, None, 3.0, 4.0, 5.0, 6.0], dtype=object), 0),
        (pd.Series([1, 2.5, np.float32(3), 4, np.nan, 6], dtype=object), 0),
        (pd.Series([True, False, None, True, False, True], dtype=object), 2),
        (pd.Series([1, "2", 3, 4, 5, 6], dtype=object), 6),
    ],
    ids=["with a gap", "mixed", "booleans", "with text"],
)
def test_objects_that_are_all_numbers_are_numbers(column: pd.Series, levels: int) -> None:
    frame = pd.DataFrame({"column": column.astype(str) if levels == 6 else column, "other": range(6)}).astype(object)
    table = load_table(store_arrays(frame, [0, 1] * 3))
    assert table.levels == (levels, 0)
    if not levels:
        np.testing.assert_array_equal(table.values[:, 0], column.astype(float).to_numpy())


def test_columns_to_drop_may_be_a_list(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(6), "b": [0, 0, 1, 0, 1, 1], "y": [0, 1] * 3}).to_csv(tmp_path / "rows.csv", index=False)
    assert load_table(data_source(tmp_path / "rows.csv", drop=["a"])).columns == ("b",)


def test_sources_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'sklern'.*Did you mean 'sklearn'"):
        data_source("sklern:iris")
    with pytest.raises(UnknownNameError, match=r"'irsi'.*Did you mean 'iris'"):
        data_source("sklearn:irsi")
    with pytest.raises(UnknownNameError, match=r"task type 'ranking'"):
        DataSource("sklearn:iris", task="ranking")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match=r"must end in \.csv"):
        DataSource("file:rows.xlsx")
    with pytest.raises(InvalidSettingError, match=r"target='x': 'openml-task:3' says that itself"):
        data_source("openml-task:3", target="x")
    with pytest.raises(InvalidSettingError, match=r"\['task'\] cannot change a DataSource"):
        data_source(DataSource("sklearn:iris"), task="regression")
    with pytest.raises(UnknownNameError, match=r"column of sklearn:iris"):
        load_table(data_source("sklearn:iris", drop=("petal",)))
    with pytest.raises(InvalidSettingError, match=r"no images of shape \(1, 3, 3\)"):
        store_arrays(X6, [0, 1] * 3, image=(1, 3, 3))


def test_sources_name_their_task() -> None:
    names = {
        "openml:61": "openml-dataset:61",
        "openml-dataset:61": "openml-dataset:61",
        "openml-task:59": "openml-task:59",
        "sklearn:iris": "custom:sklearn:iris",
    }
    assert {name: str(data_source(name).task_ref) for name in names} == names


def test_levels_that_are_declared_and_never_seen_count_as_on_openml() -> None:
    colour = pd.Categorical(["red", "green"] * 3, categories=["red", "green", "blue"])
    frame = pd.DataFrame({"colour": colour, "size": range(6)})
    target = pd.Series(pd.Categorical(["x", "y", "y"] * 2, categories=["w", "x", "y"]))
    table = table_from_frame("t", frame, target)
    known = dict(zip(QUALITIES, table.qualities, strict=True))
    assert known["NumberOfBinaryFeatures"] == 0 and known["NumberOfClasses"] == 2
    assert table.classes == ("x", "y") and table.levels == (3, 0) and isinstance(table, Table)
