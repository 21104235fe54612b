"""A table of anyone's evaluations as a task suite."""

import csv
import dataclasses
import itertools
import math
import warnings

import gymnasium as gym
import pytest
import torch

import hpo_gym
from hpo_gym.errors import DataIntegrityError, DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import CellStore, Contender, Rules, evaluate_all
from hpo_gym.fitting.runs import RunFitSettings
from hpo_gym.sources import load_suite
from hpo_gym.surrogates.compact import CompactArchitecture

QUICK = RunFitSettings(CompactArchitecture(24, 16, 1), members=2, steps=250, batch=256, folds=3)
# For what does not depend on how good a fit is; long enough to report progress.
TINY = dataclasses.replace(QUICK, steps=30)
COLUMNS = {"task_column": "data", "hyperparameters": ["rate", "depth", "kind"], "metrics": ["accuracy", "seconds"]}


def accuracy(task: int, rate: float, depth: int, kind: str) -> float:
    bonus = 0.1 if (kind == "a") == (task % 2 == 0) else 0.0
    return 0.8 + bonus - 0.05 * (math.log10(rate) + 2) ** 2 - 0.01 * abs(depth - 3 - task)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "rate", "depth", "kind", "accuracy", "seconds"])
        writer.writerows(rows)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shared(tmp_path):
    grid = itertools.product(range(4), (1e-4, 1e-3, 1e-2, 1e-1), range(1, 7), "ab")
    return write(tmp_path / "shared.csv", [(t, r, d, k, accuracy(t, r, d, k), d * 0.5) for t, r, d, k in grid])


@pytest.fixture
def ragged(tmp_path):
    draws = torch.Generator().manual_seed(0)
    rows = []
    for task in range(4):
        for _ in range(150 + 10 * task):
            rate = 10 ** float(torch.rand((), generator=draws) * 3 - 4)
            depth = int(torch.randint(1, 7, (), generator=draws))
            kind = "ab"[int(torch.randint(2, (), generator=draws))]
            rows.append((task, rate, depth, kind, accuracy(task, rate, depth, kind), depth * 0.5))
    return write(tmp_path / "ragged.csv", rows)


def test_a_shared_grid_is_looked_up_exactly(shared):
    suite = load_suite("runs", str(shared), **COLUMNS)
    assert suite.spec.provenance["mode"] == "lookup"
    assert [(c.name, c.kind, c.log) for c in suite.space.spec.columns] == [
        ("rate", "float", True),
        ("depth", "integer", False),
        ("kind", "categorical", False),
    ]
    configurations = [{"rate": r, "depth": d, "kind": k} for r in (1e-4, 1e-1) for d in (1, 6) for k in "ab"]
    u = suite.space.from_dicts(configurations)
    task = torch.full((len(u),), 2)
    measured = suite.evaluate(task, u, torch.ones_like(u, dtype=torch.bool)).metrics
    expected = [[accuracy(2, **c), c["depth"] * 0.5] for c in configurations]
    torch.testing.assert_close(measured, torch.tensor(expected))


def test_look_up_answers_with_the_nearest_row_of_the_task(shared):
    suite = load_suite("runs", str(shared), **COLUMNS)
    u = suite.space.from_dicts([{"rate": 1.3e-3, "depth": 4, "kind": "b"}])
    found = suite.evaluate(torch.tensor([1]), u, torch.ones_like(u, dtype=torch.bool)).metrics[0, 0]
    assert float(found) == pytest.approx(accuracy(1, 1e-3, 4, "b"))


def test_the_range_of_a_looked_up_task_is_that_of_its_rows(shared):
    suite = load_suite("runs", str(shared), **COLUMNS)
    known = suite.require_range()
    grid = list(itertools.product((1e-4, 1e-3, 1e-2, 1e-1), range(1, 7), "ab"))
    for task in range(4):
        best = max(accuracy(task, *row) for row in grid)
        assert float(suite.to_metric(known.best[task])) == pytest.approx(best, abs=1e-6)
    regret = suite.regret(torch.arange(4), known.best)
    torch.testing.assert_close(regret, torch.zeros(4))


def test_a_ragged_table_is_fitted_with_cross_validated_quality(ragged):
    suite = load_suite("runs", str(ragged), **COLUMNS, settings=QUICK)
    assert suite.spec.provenance["mode"] == "fit"
    quality = suite.spec.provenance["quality"]
    assert quality["cv_spearman_median"] > 0.9
    assert quality["cv_r2_median"] > 0.8
    u = suite.space.from_dicts([{"rate": 1e-2, "depth": 3, "kind": "a"}, {"rate": 2e-4, "depth": 6, "kind": "b"}])
    score = suite.evaluate(torch.zeros(2, dtype=torch.int64), u, torch.ones_like(u, dtype=torch.bool)).score
    assert score[0] > score[1]


def test_a_fit_is_kept_and_found_again(ragged, tmp_path):
    first = load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    written = (folder / "fit.safetensors").stat().st_mtime_ns
    again = load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    assert (folder / "fit.safetensors").stat().st_mtime_ns == written
    u = first.space.sample(64, torch.Generator().manual_seed(1))
    task, active = torch.arange(64) % 4, torch.ones_like(u, dtype=torch.bool)
    assert torch.equal(first.evaluate(task, u, active).metrics, again.evaluate(task, u, active).metrics)
    assert again.spec.provenance["quality"] == first.spec.provenance["quality"]


def test_a_damaged_fit_is_made_again(ragged, tmp_path):
    first = load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    whole = (folder / "fit.safetensors").read_bytes()
    (folder / "fit.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    assert (folder / "fit.safetensors").read_bytes() == whole
    u = first.space.sample(8, torch.Generator().manual_seed(1))
    task, active = torch.arange(8) % 4, torch.ones_like(u, dtype=torch.bool)
    assert torch.equal(first.evaluate(task, u, active).metrics, again.evaluate(task, u, active).metrics)


def test_what_is_measured_is_part_of_what_episodes_are_kept_under(shared, tmp_path):
    def act(seen, mask, draws):
        return torch.rand((len(seen), 3), generator=draws)

    uniform = Contender("uniform", "", "continuous", "flat", act)
    rules = Rules(split="all", seeds=1, budget=4)
    changes = ({}, {"minimize": ["accuracy"]}, {"cost_metric": "seconds"})
    suites = [load_suite("runs", str(shared), **COLUMNS, **change) for change in changes]
    with CellStore(tmp_path / "cells.sqlite") as store:
        played = [evaluate_all([uniform], suite, rules, store=store) for suite in suites]
        assert [each.reused for each in played] == [0, 0, 0]
        assert evaluate_all([uniform], suites[1], rules, store=store).reused == 4
    # The first trial is the default everywhere, the best of the one being the worst of the other.
    firsts = [each.records.frame[each.records.frame["trial"] == 1] for each in played]
    regrets = [each["regret"].to_numpy() for each in firsts]
    assert (regrets[0] + regrets[1] == pytest.approx(1.0, abs=1e-5)) and played[2].records.frame[
        "seconds"
    ].notna().all()
    envs = [gym.make_vec("HPO-OpenMLContinuous-v0", source=each, split="all", num_envs=2) for each in suites]
    for env in envs:
        env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="data"):
        envs[1].unwrapped.load_state_dict(envs[0].unwrapped.state_dict())


@pytest.mark.parametrize("name", ["seed", "trial", "task"])
def test_a_hyperparameter_that_is_called_like_a_column_of_the_results_is_refused(shared, name):
    suite = load_suite("runs", str(shared), **COLUMNS, rename={"depth": name})
    walk = Contender("walk", "", "continuous", "flat", lambda seen, mask, draws: torch.rand(len(seen), 3))
    with pytest.raises(InvalidSettingError, match=rf"hyperparameter '{name}' is called like another column.*rename"):
        evaluate_all([walk], suite, Rules(split="all", seeds=1, budget=4))


def test_names_that_are_no_hyperparameters_or_not_one_are_refused(shared, tmp_path):
    with pytest.raises(UnknownNameError, match=r"hyperparameter to rename 'dept'.*Did you mean 'depth'"):
        load_suite("runs", str(shared), **COLUMNS, rename={"dept": "levels"})
    twice = tmp_path / "twice.csv"
    twice.write_text(shared.read_text().replace("data,rate,depth,kind", "data,rate,rate,kind", 1))
    with pytest.raises(DataIntegrityError, match="two columns are called 'rate'"):
        load_suite("runs", str(twice), **{**COLUMNS, "hyperparameters": ["rate", "kind"]})
    unnamed = tmp_path / "unnamed.arff"
    unnamed.write_text("@RELATION runs\n@ATTRIBUTE\n@DATA\n1\n")
    with pytest.raises(DataIntegrityError, match="names no attribute"):
        load_suite("runs", str(unnamed), **COLUMNS)


def test_a_minimised_metric_scores_best_when_smallest(shared):
    suite = load_suite("runs", str(shared), **COLUMNS, metric="seconds", minimize=["seconds"])
    u = suite.space.from_dicts([{"rate": 1e-2, "depth": d, "kind": "a"} for d in (1, 6)])
    score = suite.evaluate(torch.zeros(2, dtype=torch.int64), u, torch.ones_like(u, dtype=torch.bool)).score
    torch.testing.assert_close(score, torch.tensor([1.0, 0.0]))


def test_an_environment_of_ones_own_table_learns_and_reports_seconds(shared):
    suite = load_suite("runs", str(shared), **COLUMNS, cost_metric="seconds")
    env = gym.make("HPO-OpenMLContinuous-v0", source=suite, split="all", budget=5)
    env.reset(seed=0)
    _, _, _, _, info = env.step(env.action_space.sample())
    assert 0.5 <= float(info["seconds"]) <= 3.0
    direct = gym.make(
        "HPO-OpenMLContinuous-v0", source="runs", space=str(shared), split="all", budget=5, source_options=COLUMNS
    )
    direct.reset(seed=0)


def test_a_path_is_text(shared):
    with pytest.raises(InvalidSettingError, match="space=5 must be the path of a table"):
        load_suite("runs", 5, **COLUMNS)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"batch": 0}, {"members": 0}, {"folds": 1}, {"members": 1.5}, {"learning_rate": math.nan}],
    ids=str,
)
def test_impossible_fits_are_refused(change):
    with pytest.raises(InvalidSettingError, match=f"{next(iter(change))}="):
        dataclasses.replace(TINY, **change)


def test_a_fit_that_cannot_be_kept_is_used_all_the_same(ragged, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"fitted to ragged\.csv cannot be kept .*HPO_GYM_CACHE.*cache=False"):
        suite = load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    assert suite.spec.provenance["mode"] == "fit"


def test_parquet_may_hold_types_that_know_missing_values(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = {"data": [0, 0, 0], "depth": [1, 2, 3], "accuracy": [0.5, 0.7, 0.9], "note": ["a", None, "b"]}
    frame = pandas.DataFrame(rows).astype({"depth": "Int64", "note": "string"})
    frame.loc[2, "depth"] = pandas.NA
    frame.to_parquet(tmp_path / "t.parquet")
    given = {"task_column": "data", "hyperparameters": ["depth"], "metrics": ["accuracy"]}
    with pytest.warns(UserWarning, match=r"1 of 3 rows .*'depth' \(1 without"):
        suite = load_suite("runs", str(tmp_path / "t.parquet"), **given)
    assert suite.space.spec.columns[0].upper == 2


@pytest.mark.parametrize("quote", ["'", '"'])
def test_values_of_arff_stand_in_quotes_of_either_kind(tmp_path, quote):
    kinds = ["u, v", f"it{quote}s", "plain"]
    cells = [f"{quote}u, v{quote}", f"{quote}it\\{quote}s{quote}", "plain"]
    lines = ["@relation r", "@attribute data numeric", "@attribute kind string", "@attribute accuracy numeric", "@data"]
    lines += [f"0, {cell} , {quote}0.{row}{quote}" for row, cell in enumerate(cells)]
    (tmp_path / "t.arff").write_text("\n".join(lines))
    given = {"task_column": "data", "hyperparameters": ["kind"], "metrics": ["accuracy"]}
    suite = load_suite("runs", str(tmp_path / "t.arff"), **given)
    assert set(suite.space.spec.columns[0].choices) == set(kinds)
    for broken in (f"0,{quote}u,0.1", f"0,{quote}u{quote}v,0.1"):
        (tmp_path / "t.arff").write_text("\n".join([*lines, broken]))
        with pytest.raises(DataIntegrityError, match="quote that"):
            load_suite("runs", str(tmp_path / "t.arff"), **given)


@pytest.mark.parametrize("ending", ["parquet", "arff"])
def test_parquet_and_arff_read_like_csv(shared, tmp_path, ending):
    with shared.open() as file:
        header, *rows = list(csv.reader(file))
    path = tmp_path / f"table.{ending}"
    if ending == "parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.read_csv(shared).to_parquet(path)
    else:
        kinds = ["NUMERIC", "NUMERIC", "NUMERIC", "{a, b}", "NUMERIC", "NUMERIC"]
        # Blanks, tabs and quotes, as files have them.
        forms = itertools.cycle(
            ["@ATTRIBUTE {} {}", "@attribute\t{}\t{}", "@attribute '{}' {}", '@ATTRIBUTE  "{}"\t{}']
        )
        attributes = [form.format(name, kind) for form, name, kind in zip(forms, header, kinds, strict=False)]
        lines = ["% runs", "@RELATION runs", *attributes, "@DATA", *(",".join(row) for row in rows)]
        path.write_text("\n".join(lines))
    first, second = (load_suite("runs", str(p), **COLUMNS) for p in (shared, path))
    assert first.space.spec == second.space.spec
    assert first.tasks == second.tasks
    torch.testing.assert_close(first.surrogate.results, second.surrogate.results)


def test_rows_with_missing_cells_are_dropped_and_counted_and_repeats_averaged(tmp_path):
    rows = [(0, 0.1, 1, "a", 0.5, 1), (0, 0.1, 1, "a", 0.7, 1), (0, 0.2, 2, "b", 0.9, 2), (0, 0.3, 2, "b", "", 2)]
    suite = load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS, mode="lookup")
    assert suite.spec.provenance["rows_dropped"] == 1
    u = suite.space.from_dicts([{"rate": 0.1, "depth": 1, "kind": "a"}])
    found = suite.evaluate(torch.zeros(1, dtype=torch.int64), u, torch.ones_like(u, dtype=torch.bool)).metrics[0, 0]
    assert float(found) == pytest.approx(0.6)
    assert suite.spec.provenance["rows_averaged"] == 1 and suite.spec.provenance["rows"] == 2


def test_repeats_whose_means_are_alike_leave_nothing_to_optimise(tmp_path):
    rows = [
        (task, rate, 1, kind, score, 1)
        for task in (0, 1)
        for rate, kind in ((0.1, "a"), (0.2, "b"))
        for score in (0.1, 0.9)
    ]
    with pytest.raises(InvalidSettingError, match=r"0\.5 of every configuration, whose repeats are averaged"):
        load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS, mode="lookup")


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"task_column": "dta"}, UnknownNameError, "data"),
        ({"hyperparameters": ["rat"]}, UnknownNameError, "rate"),
        ({"metrics": ["accurcy"]}, UnknownNameError, "accuracy"),
        ({"metric": "loss"}, UnknownNameError, "accuracy"),
        ({"mode": "nearest"}, UnknownNameError, "lookup"),
        ({"task_column": ["data"]}, InvalidSettingError, r"task_column=\['data'\] must be the name"),
        ({"settings": TINY}, InvalidSettingError, "has no effect: rows of all tasks hold the same"),
        ({"settings": TINY, "mode": "lookup"}, InvalidSettingError, "has no effect: mode='lookup'"),
        ({"settings": "fast", "mode": "fit"}, InvalidSettingError, "settings='fast' must be a .*RunFitSettings"),
        ({"ranges": {"accuracy": (2.0, 3.0)}}, InvalidSettingError, r"one single score of task '0': .* lie in \[0"),
        ({"hyperparameters": []}, InvalidSettingError, "hyperparameters="),
        ({"hyperparameters": ["rate", "accuracy"]}, InvalidSettingError, "accuracy"),
        ({"hyperparameters": "rate"}, InvalidSettingError, r"write hyperparameters=\['rate'\]"),
        ({"metrics": "accuracy"}, InvalidSettingError, r"write metrics=\['accuracy'\]"),
        ({"minimize": "seconds"}, InvalidSettingError, r"write minimize=\['seconds'\]"),
        ({"log": "rate"}, InvalidSettingError, r"write log=\['rate'\]"),
        ({"ranges": {"accuracy": (1.0, 0.0)}}, InvalidSettingError, "must be less than the second"),
        ({"ranges": {"accuracy": (0.0, math.nan)}}, InvalidSettingError, "two finite numbers"),
        ({"ranges": {"accuracy": "0,1"}}, InvalidSettingError, "two finite numbers"),
        ({"ranges": [0.0, 1.0]}, InvalidSettingError, "must map metrics"),
    ],
)
def test_wrong_columns_are_named(shared, changes, error, says):
    with pytest.raises(error, match=says):
        load_suite("runs", str(shared), **(COLUMNS | changes))


def test_missing_empty_truncated_and_foreign_files_are_refused(tmp_path, shared):
    with pytest.raises(DataMissingError, match=r"nothing\.csv"):
        load_suite("runs", str(tmp_path / "nothing.csv"), **COLUMNS)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(DataIntegrityError, match="empty"):
        load_suite("runs", str(empty), **COLUMNS)
    cut = tmp_path / "cut.csv"
    cut.write_bytes(shared.read_bytes()[:-12])
    with pytest.raises(DataIntegrityError, match="row"):
        load_suite("runs", str(cut), **COLUMNS)
    foreign = tmp_path / "table.xlsx"
    foreign.write_text("x")
    with pytest.raises(InvalidSettingError, match="xlsx"):
        load_suite("runs", str(foreign), **COLUMNS)
    with pytest.raises(InvalidSettingError, match="path"):
        hpo_gym.load_suite("runs", **COLUMNS)


def test_a_categorical_metric_is_no_metric(tmp_path, shared):
    with pytest.raises(DataIntegrityError, match="kind"):
        load_suite("runs", str(shared), task_column="data", hyperparameters=["rate"], metrics=["kind"])


@pytest.mark.parametrize("ending", ["csv", "arff"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(shared, tmp_path, ending):
    text = shared.read_text()
    if ending == "arff":
        names = text.splitlines()[0].split(",")
        kinds = ["NUMERIC", "NUMERIC", "NUMERIC", "{a, b}", "NUMERIC", "NUMERIC"]
        attributes = [f"@ATTRIBUTE {name} {kind}" for name, kind in zip(names, kinds, strict=True)]
        text = "\n".join([*attributes, "@DATA", *text.splitlines()[1:]])
    path = tmp_path / f"excel.{ending}"
    path.write_text(text, encoding="utf-8-sig")
    suite = load_suite("runs", str(path), **COLUMNS)
    assert suite.tasks == load_suite("runs", str(shared), **COLUMNS).tasks


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "NAN", "1e39"])
def test_a_metric_that_is_not_finite_is_missing(tmp_path, value):
    rows = [(0, 0.1, 1, "a", 0.5, 1), (0, 0.2, 2, "b", 0.9, 2), (0, 0.3, 2, "b", value, 2)]
    suite = load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS, mode="lookup")
    assert suite.spec.provenance["rows_dropped"] == 1
    assert (suite.metric.lower, suite.metric.upper) == (pytest.approx(0.5), pytest.approx(0.9))
    u = suite.space.from_dicts([{"rate": r, "depth": d, "kind": k} for r, d, k in ((0.1, 1, "a"), (0.2, 2, "b"))])
    score = suite.evaluate(torch.zeros(2, dtype=torch.int64), u, torch.ones_like(u, dtype=torch.bool)).score
    torch.testing.assert_close(score, torch.tensor([0.0, 1.0]))


def test_a_column_without_any_finite_value_is_named(tmp_path):
    rows = [(0, 0.1, 1, "a", 0.5, "inf"), (0, 0.2, 2, "b", 0.9, "")]
    with pytest.raises(DataIntegrityError, match=r": 'seconds' holds no \(finite\) value"):
        load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS)


def test_an_infinite_hyperparameter_is_refused(tmp_path):
    rows = [(0, 0.1, 1, "a", 0.5, 1), (0, "inf", 2, "b", 0.9, 2)]
    with pytest.raises(DataIntegrityError, match="'rate' holds an infinite value"):
        load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS)


def test_a_range_without_an_end_is_refused(shared):
    with pytest.raises(InvalidSettingError, match=r"'accuracy': .*two finite numbers"):
        load_suite("runs", str(shared), **COLUMNS, ranges={"accuracy": (0.0, math.inf)})


def write_optimizers(path, momentum_of_adam=""):
    """Write runs of two optimizers, of which only one has a momentum."""
    rows = ["data,rate,optimizer,momentum,accuracy"]
    for task, (name, momentum) in itertools.product(range(3), (("adam", momentum_of_adam), ("sgd", 0.5), ("sgd", 0.9))):
        rows.extend(f"{task},{rate},{name},{momentum},{0.9 - rate}" for rate in (0.001, 0.1))
    path.write_text("\n".join(rows))
    return path


OPTIMIZERS = {"task_column": "data", "metrics": ["accuracy"], "mode": "lookup"}


def test_rows_without_a_conditional_hyperparameter_are_left_out_with_a_warning(tmp_path):
    path = write_optimizers(tmp_path / "t.csv")
    says = r"6 of 18 rows of t\.csv are left out.*'momentum' \(6 without a value\).*[Cc]onditional .*not supported"
    with pytest.warns(UserWarning, match=says) as caught:
        suite = hpo_gym.load_suite("runs", str(path), hyperparameters=["rate", "momentum"], **OPTIMIZERS)
    # The warning points at the line of the caller, not into this package or Gymnasium's.
    assert [warning.filename for warning in caught] == [__file__]
    options = {"hyperparameters": ["rate", "momentum"], **OPTIMIZERS}
    with pytest.warns(UserWarning, match=says) as caught:
        gym.make("HPO-OpenML-v0", source="runs", space=str(path), source_options=options, split="all")
    assert __file__ in {warning.filename for warning in caught}
    assert suite.spec.provenance["rows_dropped"] == 6


def test_a_missing_metric_is_no_conditional_hyperparameter(tmp_path):
    rows = [(0, 0.1, 1, "a", 0.5, 1), (0, 0.2, 2, "b", 0.9, 2), (0, 0.3, 2, "b", "", 2)]
    with pytest.warns(UserWarning, match=r"1 of 3 rows .*'accuracy' \(1 without a value\)\.$"):
        load_suite("runs", str(write(tmp_path / "t.csv", rows)), **COLUMNS, mode="lookup")


def test_a_complete_table_warns_of_nothing(tmp_path, shared):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_suite("runs", str(shared), **COLUMNS)


def test_a_table_in_which_every_row_lacks_something_says_what(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("data,momentum,beta,accuracy\n0,0.9,,0.5\n0,,0.99,0.6\n")
    with pytest.raises(DataIntegrityError, match=r"'momentum' \(1 .*'beta' \(1 .*onditional"):
        load_suite("runs", str(path), hyperparameters=["momentum", "beta"], **OPTIMIZERS)


@pytest.mark.parametrize(
    ("log", "error", "says"),
    [
        (["optimizer"], InvalidSettingError, "'optimizer'.*'adam'.*only numeric hyperparameters can have a log scale"),
        (["rate", "momentum"], InvalidSettingError, "'momentum', which holds 0 .*above 0"),
        (["accuracy"], UnknownNameError, "'accuracy'.*momentum, optimizer, rate"),
        (["rte"], UnknownNameError, "'rate'"),
    ],
)
def test_what_cannot_have_a_log_scale_is_named(tmp_path, log, error, says):
    path = write_optimizers(tmp_path / "t.csv", momentum_of_adam="0")
    with pytest.raises(error, match=says):
        load_suite("runs", str(path), hyperparameters=["rate", "optimizer", "momentum"], log=log, **OPTIMIZERS)


@pytest.mark.parametrize("kind", ["openml-dataset", "openml-task"])
def test_names_are_no_ids_of_openml(tmp_path, kind):
    path = tmp_path / "t.csv"
    path.write_text("data,rate,accuracy\n61,0.1,0.5\n61,0.2,0.6\niris,0.1,0.5\niris,0.2,0.7\n")
    with pytest.raises(InvalidSettingError, match=f"{kind}.*'iris'.*task_kind='custom'"):
        load_suite("runs", str(path), hyperparameters=["rate"], task_kind=kind, **OPTIMIZERS)
    assert [ref.id for ref in load_suite("runs", str(path), hyperparameters=["rate"], **OPTIMIZERS).tasks] == [
        "61",
        "iris",
    ]


def test_a_small_table_is_fitted_with_little_effort_and_well(tmp_path):
    draws = torch.Generator().manual_seed(0)
    rows = []
    for task in range(3):
        for _ in range(60):
            rate = 10 ** float(torch.rand((), generator=draws) * 3 - 4)
            depth = int(torch.randint(1, 7, (), generator=draws))
            kind = "ab"[int(torch.randint(2, (), generator=draws))]
            rows.append((task, rate, depth, kind, accuracy(task, rate, depth, kind), depth * 0.5))
    path = write(tmp_path / "small.csv", rows)
    # Two folds and two networks keep this test fast; steps and batch are those of settings=None.
    quick = dataclasses.replace(RunFitSettings.for_rows(180), members=2, folds=2)
    suite = load_suite("runs", str(path), **COLUMNS, settings=quick)
    assert suite.spec.provenance["quality"]["cv_spearman_median"] > 0.9


def test_without_settings_the_effort_is_that_of_the_number_of_rows(tmp_path, monkeypatch):
    # The most steps that for_rows gives: what is compared is a key, not a fit.
    monkeypatch.setattr(RunFitSettings, "steps", 2)
    path = tmp_path / "t.csv"
    path.write_text("data,rate,accuracy\n" + "\n".join(f"{i % 2},{0.1 + i / 50},{i / 20}" for i in range(20)))
    columns = {"task_column": "data", "hyperparameters": ["rate"], "metrics": ["accuracy"], "mode": "fit"}
    load_suite("runs", str(path), **columns)
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    # The same settings spelt out are answered by the fit that is there already.
    load_suite("runs", str(path), **columns, settings=RunFitSettings.for_rows(20))
    assert list((tmp_path / "cache" / "runs").iterdir()) == [folder]


def test_a_long_fit_says_what_it_does_and_where_it_is_kept(ragged, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hpo_gym.sources.slow_work._MOMENT", math.inf)
    load_suite("runs", str(ragged), **COLUMNS, settings=TINY, cache=False)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("hpo_gym.sources.slow_work._MOMENT", 0.0)
    load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "fitting 2 networks to 660 rows of ragged.csv, 3-fold validated" in err and f"kept in {folder}" in err
    load_suite("runs", str(ragged), **COLUMNS, settings=TINY)
    assert capsys.readouterr() == ("", "")
