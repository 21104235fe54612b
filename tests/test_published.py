"""The published numbers of HPO-B v3 are reproduced, from the incumbents and from what is shipped, digit by digit."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from hpo_gym.errors import (
    DataIntegrityError,
    DataMissingError,
    HPOGymError,
    InvalidSettingError,
    UnknownNameError,
)
from hpo_gym.evaluation.published import (
    GRPOFORMER_36,
    HPOB_V3,
    PUBLISHED_METHODS,
    QUOTED,
    PublishedCurves,
    PublishedMethod,
    aggregate_incumbents,
    build_hpob,
    published_curves,
    read_result_file,
    report,
)
from hpo_gym.evaluation.published.build_hpob import INCUMBENTS, read_incumbents
from hpo_gym.evaluation.published.shipped import card, write_curves
from hpo_gym.evaluation.published.tables import TABLES
from hpo_gym.sources.bundle_files import sha256
from hpo_gym.spaces import SearchSpace
from hpo_gym.tasks.ref import TaskRef

REPOSITORY = Path(__file__).resolve().parent.parent

# methods.md 5.5: @0 @5 @10 @25 @50 @100, standard error, without 5970, rank.
DISCRETE = """
FSBO2 (refactored)                | .2029 .0814 .0553 .0286 .0182 .0105 .0025 .0112 4.40
FSBO                              | .2029 .0874 .0602 .0356 .0210 .0125 .0030 .0134 4.54
BOHAMIANN                         | .2029 .1176 .0767 .0461 .0280 .0158 .0036 .0168 5.62
DGP (deep-kernel GP, no transfer) | .2029 .0994 .0733 .0480 .0281 .0173 .0034 .0184 5.52
DNGO                              | .2029 .0989 .0702 .0449 .0285 .0224 .0049 .0235 5.62
TAF                               | .2029 .1011 .0717 .0467 .0359 .0254 .0057 .0273 5.39
GP                                | .2029 .1059 .0799 .0511 .0345 .0258 .0070 .0276 5.84
RGPE                              | .2029 .1036 .0763 .0562 .0464 .0278 .0103 .0298 5.06
TST                               | .2029 .1040 .0749 .0510 .0389 .0278 .0064 .0298 5.36
Random                            | .2029 .1419 .1120 .0864 .0722 .0540 .0113 .0575 7.66
"""

# methods.md 5.6: the same without ranks.
CONTINUOUS = """
OptFormer-EI                  | .1758 .0493 .0374 .0276 .0228 .0199 .0054 .0143
FSBO2-C                       | .1835 .0939 .0693 .0400 .0294 .0224 .0054 .0237
OptFormer-PI                  | .1758 .0525 .0409 .0289 .0253 .0233 .0057 .0179
OptFormer-TS                  | .1758 .0583 .0432 .0336 .0264 .0240 .0056 .0187
OptFormer-H-EI                | .1758 .0605 .0433 .0332 .0292 .0257 .0062 .0206
OptFormer-UCB                 | .1758 .0464 .0368 .0289 .0268 .0261 .0058 .0209
oss OptFormer-H-EI            | .1805 .0782 .0667 .0444 .0346 .0264 .0054 .0209
OptFormer-min-EI              | .1758 .1038 .0869 .0598 .0407 .0272 .0075 .0222
Vizier (GP-UCB)               | .1827 .1049 .0823 .0580 .0382 .0281 .0082 .0300
DGP                           | .1827 .1005 .0834 .0576 .0413 .0291 .0062 .0290
HyperBO                       | .1827 .0704 .0617 .0487 .0378 .0293 .0047 .0313
random + OptFormer-EI ranking | .1758 .0554 .0488 .0412 .0351 .0302 .0087 .0254
OptFormer-R-EI                | .1758 .0938 .0712 .0545 .0411 .0309 .0086 .0261
oss OptFormer-B-EI            | .1805 .0957 .0814 .0576 .0438 .0337 .0077 .0288
GP                            | .1827 .1030 .0815 .0518 .0419 .0346 .0085 .0312
oss OptFormer-B               | .1805 .1191 .0962 .0629 .0453 .0352 .0069 .0303
FSBO (OptFormer repository)   | .1827 .0911 .0740 .0578 .0479 .0366 .0062 .0391
oss OptFormer-H               | .1805 .1102 .0904 .0658 .0532 .0408 .0072 .0364
OptFormer-B-EI                | .1758 .0961 .0843 .0677 .0535 .0429 .0112 .0390
OptFormer prior               | .1758 .1210 .0989 .0737 .0594 .0448 .0096 .0411
OptFormer-min prior           | .1758 .1003 .0846 .0656 .0565 .0467 .0098 .0431
gp_ucb                        | .1827 .1032 .0850 .0713 .0609 .0547 .0118 .0563
ABLR                          | .1827 .0843 .0732 .0632 .0599 .0547 .0083 .0585
Random                        | .1827 .1015 .0910 .0770 .0653 .0554 .0102 .0523
RS-C (HPO-B repository)       | .1835 .1023 .0917 .0777 .0660 .0561 .0102 .0523
GP-C (HPO-B repository)       | .1835 .1037 .0822 .0525 .0428 .0358 .0086 .0312
DGP-C (HPO-B repository)      | .1835 .1010 .0835 .0576 .0417 .0301 .0064 .0291
"""

# methods.md 5.6, second table: D, n, then regret at 100 of these files; NAP's column is quoted.
SPACE_COLUMNS = (
    *("hpob/Random", "hpob/GP", "hpob/DGP", "hpob/FSBO", "hpob/FSBO2", "NAP"),
    *("optformer/random_search", "optformer/vizier", "optformer/hyperbo", "fsbo/FSBO2-C", "optformer/optformer_ei"),
)
SPACES = """
4796  3 4 .0188 .0172 .0259 .0345 .0259 .0000 .0077 .0027 .0018 .0022 .0068
5527  8 6 .0426 .0510 .0274 .0188 .0098 .0097 .0699 .0550 .0612 .0619 .0336
5636  6 6 .3097 .1118 .0373 .0213 .0178   -   .0978 .0333 .0781 .0412 .0265
5859  6 6 .1626 .0031 .0207 .0014 .0080 .0017 .0270 .0161 .0580 .0146 .0105
5860  2 3 .0010 .0011 .0000 .0000 .0000 .0000 .0047 .0000 .0000 .0000 .0002
5889  6 2 .0273 .0558 .0000 .0067 .0000 .0000 .0559 .0098 .0290 .0421 .0491
5891  8 6 .0223 .0288 .0240 .0229 .0202   -   .0599 .0443 .0287 .0354 .0188
5906 16 2 .0361 .0000 .0182 .0242 .0454 .0206 .0314 .0004 .0468 .0182 .0000
5965 10 7 .0378 .0370 .0247 .0196 .0185   -   .0267 .0127 .0231 .0092 .0045
5970  2 6 .0068 .0008 .0027 .0007 .0007   -   .0963 .0023 .0028 .0057 .0949
5971 16 6 .0087 .0008 .0008 .0001 .0001   -   .0180 .0002 .0176 .0054 .0014
6766  2 6 .0300 .0426 .0300 .0264 .0131   -   .0086 .0000 .0000 .0000 .0000
6767 18 6 .0334 .0253 .0251 .0138 .0051   -   .2744 .1819 .0543 .0885 .0456
6794 10 6 .0298 .0289 .0230 .0164 .0174   -   .0271 .0191 .0077 .0087 .0064
7607  9 7 .0240 .0015 .0038 .0004 .0028   -   .0153 .0068 .0245 .0064 .0023
7609  9 7 .0183 .0006 .0010 .0006 .0004   -   .0250 .0188 .0251 .0175 .0163
"""

# methods.md 5.7: only test0, @10 @25 @50 @100.
FIRST_SEED = """
optformer/optformer_ei  .0357 .0263 .0229 .0197
fsbo/FSBO2-C            .0589 .0366 .0308 .0233
optformer/dgp           .0810 .0535 .0357 .0261
optformer/hyperbo       .0612 .0466 .0352 .0273
optformer/vizier        .0816 .0616 .0410 .0308
optformer/gp            .0826 .0533 .0433 .0380
optformer/random_search .0941 .0756 .0647 .0548
"""

# methods.md 5.9: the six spaces of NAP, @10 @25 @50 @100; its own two rows are quoted.
SUBSET = """
hpob/BOHAMIANN .0833 .0467 .0251 .0092
hpob/FSBO2     .0635 .0324 .0183 .0131
hpob/FSBO      .0683 .0428 .0280 .0139
hpob/DGP       .0828 .0525 .0358 .0186
hpob/GP        .1013 .0581 .0397 .0221
hpob/Random    .1531 .1115 .0865 .0624
"""


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


def once(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def twice(value: float) -> str:
    """Round to five digits, then to four, as two columns of methods.md were."""
    return once(round(value, 5))


@pytest.fixture(scope="module")
def shipped() -> PublishedCurves:
    return published_curves()


@pytest.fixture(scope="module")
def recomputed(data_folder: Path) -> PublishedCurves:
    path = data_folder / INCUMBENTS
    if not path.is_file():
        pytest.skip("needs the published incumbents")
    return read_incumbents(path)[0]


@pytest.fixture(params=["shipped", "recomputed"])
def curves(request: pytest.FixtureRequest) -> PublishedCurves:
    """Return what needs no data, then the same from the incumbents (skipped without them)."""
    found: PublishedCurves = request.getfixturevalue(request.param)
    return found


# --- the printed numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "printed"), [("discrete", DISCRETE), ("continuous", CONTINUOUS)])
def test_every_row_of_the_published_tables_is_reproduced(curves, setting, printed):
    rows = curves.table(setting=setting)
    assert len(rows) == len(lines(printed))
    rounded_twice = []
    for row, line in zip(rows, lines(printed), strict=True):
        name, _, numbers = line.partition("|")
        expected = numbers.split()
        assert row.method.printed == name.strip()
        assert [once(value) for value in row.regret] == expected[:6], name
        assert once(row.without_5970) == expected[7], name
        assert twice(row.standard_error) == expected[6], name
        if once(row.standard_error) != expected[6]:
            rounded_twice.append(row.method.name)
        if setting == "discrete":
            assert f"{row.mean_rank:.2f}" == expected[8], name
        else:
            assert row.mean_rank is None
    # The only standard errors that depend on rounding twice; docs/published.md names them.
    expected_twice = {"discrete": [], "continuous": ["optformer/oss_optformer_H_ei", "optformer/optformer_min"]}
    assert rounded_twice == expected_twice[setting]


def test_the_table_by_search_space_is_reproduced(curves):
    (nap,) = (quoted for quoted in QUOTED if quoted.name == "NAP")
    differing = []
    for line in lines(SPACES):
        space, dimension, datasets, *numbers = line.split()
        assert HPOB_V3.space(space).dimension == int(dimension)
        assert len(HPOB_V3.space(space).tasks) == int(datasets)
        for name, expected in zip(SPACE_COLUMNS, numbers, strict=True):
            if name == "NAP":
                assert expected == (once(nap.per_space[space]) if space in nap.spaces else "-")
                continue
            value = curves.per_space(name)[space]
            assert twice(value) == expected, (space, name)
            if once(value) != expected:
                differing.append((space, name))
    assert len(differing) == 8  # as docs/published.md says


def test_the_runs_of_test0_are_reproduced(curves):
    for line in lines(FIRST_SEED):
        name, *expected = line.split()
        assert [once(curves.first_seed_mean(name, trial)) for trial in (10, 25, 50, 100)] == expected
    for name, trial, counts, p_value in (
        ("fsbo/FSBO2-C", 100, (40, 30, 16), "0.011"),
        ("optformer/hyperbo", 100, (45, 29, 12), "0.0003"),
        ("optformer/vizier", 100, (32, 37, 17), "0.14"),
        ("optformer/vizier", 10, (49, 25, 12), "4e-06"),
    ):
        test = curves.paired_test("optformer/optformer_ei", name, trial, first_seed=True)
        assert (test.wins, test.ties, test.losses) == counts
        digits = len(p_value.partition("e")[0].replace("0.", "").lstrip("0"))
        assert f"{test.p_value:.{digits}g}" == p_value
        turned = curves.paired_test(name, "optformer/optformer_ei", trial, first_seed=True)
        assert (turned.losses, turned.ties, turned.wins) == counts
        assert turned.p_value == pytest.approx(test.p_value)


def test_the_six_spaces_of_nap_are_reproduced(curves):
    (nap,) = (quoted for quoted in QUOTED if quoted.name == "NAP")
    for line in lines(SUBSET):
        name, *expected = line.split()
        assert [once(curves.mean_regret(name, trial, nap.spaces)) for trial in (10, 25, 50, 100)] == expected
    others = [space for space in curves.spaces if space not in nap.spaces]
    assert curves.mean_regret("hpob/GP", 50, without=others) == curves.mean_regret("hpob/GP", 50, nap.spaces)


def test_quoted_numbers_agree_among_themselves(shipped):
    (nap,) = (quoted for quoted in QUOTED if quoted.name == "NAP")
    weights = {space: len(HPOB_V3.space(space).tasks) for space in nap.spaces}
    assert sum(weights.values()) * 5 == 115
    mean = sum(weights[space] * nap.per_space[space] for space in nap.spaces) / sum(weights.values())
    assert mean == pytest.approx(nap.regret[100], abs=1e-4)
    (forest,) = (quoted for quoted in QUOTED if quoted.name == "RF")
    assert once(shipped.mean_regret("hpob/GP", 0)) == once(forest.regret[0])  # the same initial points


# --- what is shipped -------------------------------------------------------------------------------------------


def test_what_is_shipped_is_what_the_incumbents_give(shipped, recomputed):
    assert shipped.methods == recomputed.methods == PUBLISHED_METHODS
    assert (shipped.spaces, shipped.datasets, shipped.chosen) == (
        recomputed.spaces,
        recomputed.datasets,
        recomputed.chosen,
    )
    for name in ("runs", "regret", "dataset_regret", "first_seed_regret"):
        np.testing.assert_array_equal(getattr(shipped, name), getattr(recomputed, name), err_msg=name)
    for i, one in enumerate(shipped.methods):
        for j, two in enumerate(shipped.methods):
            if i != j and one.setting == two.setting:  # other pairs mean nothing and are not shipped
                assert shipped.better[i, j] == recomputed.better[i, j]
                assert shipped.ties[i, j] == recomputed.ties[i, j]


def test_the_card_names_source_licences_and_checksum(data_folder):
    source = card()["source"]
    assert source["sha256"] == sha256((data_folder / INCUMBENTS).read_bytes())
    assert source["non_monotone_curves"] == {"hpob/GP": 13}
    assert source["repositories"]["releaunifreiburg/HPO-B"] == "MIT"
    assert source["repositories"]["google-research/optformer"] == "Apache-2.0"


def test_the_files_are_package_data_and_small():
    folder = importlib.resources.files("hpo_gym.evaluation.published") / "data"
    sizes = {item.name: len(item.read_bytes()) for item in folder.iterdir()}
    names = {"hpob.json", "hpob_curves.parquet", "hpob_datasets.parquet", "hpob_pairs.parquet"}
    assert set(sizes) == names
    assert sum(sizes.values()) < 300_000
    listed = json.loads((folder / "hpob.json").read_text())["sha256"]
    assert {name: sha256((folder / name).read_bytes()) for name in names - {"hpob.json"}} == listed


def test_means_by_space_and_by_dataset_agree(shipped):
    assert len(shipped.datasets) == 86 and int(shipped.runs.sum()) == 430
    for method in shipped.methods:
        curve = shipped.curve(method.name)
        assert curve.shape == (101,) and ((curve >= 0) & (curve <= 1)).all()
        row = shipped.index(method.name)
        # Every dataset has five runs, so that the plain mean over datasets is the mean over runs.
        np.testing.assert_allclose(shipped.dataset_regret[row].mean(axis=0), curve[list(shipped.chosen)], atol=1e-12)


def test_a_file_that_is_missing_or_changed_is_an_error(tmp_path, shipped):
    with pytest.raises(DataMissingError, match=r"hpob\.json is missing"):
        published_curves(tmp_path)
    write_curves(shipped, card()["source"], tmp_path)
    again = published_curves(tmp_path)
    np.testing.assert_array_equal(again.regret, shipped.regret)
    np.testing.assert_array_equal(again.ties, shipped.ties)
    published_curves.cache_clear()
    path = tmp_path / "hpob_pairs.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataIntegrityError, match="build_hpob"):
        published_curves(tmp_path)
    path.unlink()
    with pytest.raises(DataMissingError, match="hpob_pairs"):
        published_curves(tmp_path)


def test_the_build_command(tmp_path, data_folder, capsys, monkeypatch):
    assert build_hpob.main(["--data-dir", str(data_folder), "--output", str(tmp_path)]) == 0
    assert "37 methods, 430 runs each" in capsys.readouterr().out
    np.testing.assert_array_equal(published_curves(tmp_path).regret, published_curves().regret)
    assert json.loads((tmp_path / "hpob.json").read_text())["source"] == card()["source"]
    assert build_hpob.main(["--data-dir", str(tmp_path)]) == 2
    assert "published_incumbents.npz is missing" in capsys.readouterr().err
    monkeypatch.delenv("HPO_GYM_DATA")
    with pytest.raises(SystemExit):
        build_hpob.main(["--output", str(tmp_path)])


def test_incumbents_of_other_files_are_refused(tmp_path, data_folder):
    with np.load(data_folder / INCUMBENTS, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["incumbents"] = arrays["incumbents"].copy()
    arrays["incumbents"][list(arrays["methods"]).index("fsbo/GP"), 0, 0] = 0.125
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(DataIntegrityError, match="fsbo/GP is not the copy of hpob/GP"):
        read_incumbents(tmp_path / "changed.npz")
    arrays["methods"] = np.where(arrays["methods"] == "hpob/GP", "hpob/XY", arrays["methods"])
    np.savez(tmp_path / "renamed.npz", **arrays)
    with pytest.raises(DataIntegrityError, match=r"hpob/GP.*hpob/XY"):
        read_incumbents(tmp_path / "renamed.npz")


# --- what is said about the files ------------------------------------------------------------------------------


def test_what_the_methods_say_about_their_starts_is_true(data_folder):
    with np.load(data_folder / INCUMBENTS, allow_pickle=False) as archive:
        arrays = dict(archive)
    files = [str(name) for name in arrays["methods"]]
    first = arrays["incumbents"][:, :, 0]
    pairs = np.char.add(np.char.add(arrays["space"], "/"), arrays["dataset"])
    test0 = arrays["seed"] == "test0"
    reference = first[files.index("optformer/vizier")]
    for method in PUBLISHED_METHODS:
        mine = first[files.index(method.name)]
        alike = all(len(set(mine[pairs == pair])) == 1 for pair in np.unique(pairs))
        assert alike == (method.start == "shared"), method.name
        if method.start == "shared":
            np.testing.assert_array_equal(mine[test0], reference[test0])
        if method.start == "unknown":
            assert (mine[test0] == reference[test0]).mean() < 0.5
    flat = arrays["space"] == "5970"
    for method in PUBLISHED_METHODS:
        if method.start == "shared":
            curves = arrays["incumbents"][files.index(method.name)][flat]
            assert (curves == curves[:, :1]).all(), method.name


def test_methods_are_named_once_and_come_from_known_repositories():
    names = [name for method in PUBLISHED_METHODS for name in (method.name, *method.aliases)]
    assert len(names) == len(set(names)) == 50
    assert all(method.licence for method in PUBLISHED_METHODS)
    assert [method.setting for method in PUBLISHED_METHODS].count("discrete") == 10
    with pytest.raises(UnknownNameError, match="discrete"):
        PublishedMethod("x/y", "y", "discreet")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="shared"):
        PublishedMethod("x/y", "y", "discrete", start="share")  # type: ignore[arg-type]
    assert PublishedMethod("mine/run", "run", "discrete").licence == ""


# --- aggregation on small tables -------------------------------------------------------------------------------

SMALL_RUNS = [("1", "7", "test0"), ("1", "7", "test1"), ("1", "8", "test0"), ("2", "9", "test0"), ("2", "9", "test1")]
SMALL_METHODS = tuple(PublishedMethod(f"mine/{name}", name, "discrete") for name in ("a", "b", "c"))


def small(methods: int = 3) -> np.ndarray:
    """Return incumbents whose final values are few, so that there are ties."""
    final = np.array([[0.5, 1.0, 0.5, 0.25, 1.0], [1.0, 1.0, 0.25, 0.25, 0.5], [0.5, 0.5, 0.5, 0.75, 0.75]])
    steps = np.linspace(0.0, 1.0, 101)
    return final[:methods, :, None] * steps


def aggregate(incumbents: np.ndarray, methods=SMALL_METHODS) -> PublishedCurves:
    spaces, datasets, seeds = zip(*SMALL_RUNS, strict=True)
    return aggregate_incumbents(incumbents, spaces, datasets, seeds, methods)


def test_a_hand_worked_aggregate():
    curves = aggregate(small())
    assert curves.spaces == ("1", "2") and curves.runs.tolist() == [3, 2]
    assert curves.mean_regret("mine/a", 100) == pytest.approx(1 - (0.5 + 1.0 + 0.5 + 0.25 + 1.0) / 5)
    assert curves.mean_regret("mine/a", 100, ["2"]) == pytest.approx(1 - (0.25 + 1.0) / 2)
    assert curves.per_space("mine/b", 0) == {"1": 1.0, "2": 1.0}
    means = np.array([0.25, 0.5, 0.375])  # regret of a on datasets 7, 8, 9
    assert curves.standard_error("mine/a") == pytest.approx(means.std(ddof=1) / 3**0.5)
    assert curves.first_seed_mean("mine/a", 100) == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    # Regret of b on these datasets: 0, 0.75, 0.625; of its runs test0 alone: 0, 0.75, 0.75.
    over_seeds = curves.paired_test("mine/a", "mine/b", first_seed=False)
    assert (over_seeds.wins, over_seeds.ties, over_seeds.losses) == (2, 0, 1)
    first_seed = curves.paired_test("mine/a", "mine/b", first_seed=True)
    assert (first_seed.wins, first_seed.ties, first_seed.losses) == (1, 1, 1)
    assert first_seed.p_value == pytest.approx(1.0)  # gaps of 0.5 and -0.25: either sign is as likely


def test_ranks_from_counts_of_pairs_are_ranks(shipped):
    curves = aggregate(small())
    expected = rankdata(-small()[:, :, -1], axis=0).mean(axis=1)
    names = [method.name for method in SMALL_METHODS]
    assert list(curves.mean_ranks(names).values()) == pytest.approx(expected.tolist())
    two = rankdata(-small()[[2, 0], :, -1], axis=0).mean(axis=1)
    assert list(curves.mean_ranks(["mine/c", "mine/a"]).values()) == pytest.approx(two.tolist())
    ten = shipped.mean_ranks([method.name for method in shipped.of_setting("discrete")])
    assert sum(ten.values()) == pytest.approx(55.0)


def test_order_of_runs_and_methods_changes_nothing():
    runs, methods = [3, 0, 4, 2, 1], [2, 0, 1]
    spaces, datasets, seeds = zip(*(SMALL_RUNS[run] for run in runs), strict=True)
    shuffled = aggregate_incumbents(
        small()[methods][:, runs], spaces, datasets, seeds, [SMALL_METHODS[index] for index in methods]
    )
    curves = aggregate(small())
    for method in SMALL_METHODS:
        np.testing.assert_allclose(shuffled.curve(method.name), curves.curve(method.name), atol=1e-15)
        assert shuffled.standard_error(method.name) == pytest.approx(curves.standard_error(method.name))
    assert shuffled.mean_ranks(["mine/a", "mine/b"]) == curves.mean_ranks(["mine/a", "mine/b"])


def test_irregular_files_never_make_a_mean_over_fewer_runs():
    """One file that ends after 5 trials, one that lacks a space, one whose curve falls."""
    incumbents = small()
    incumbents[0, :, 6:] = np.nan
    incumbents[1, 3:] = np.nan
    incumbents[2, 0, 50] = 0.0
    curves = aggregate(incumbents)
    assert curves.mean_regret("mine/a", 5) == pytest.approx(1 - 0.05 * 3.25 / 5)
    assert np.isnan(curves.curve("mine/a")[6:]).all()
    with pytest.raises(InvalidSettingError, match=r"trial=6 .* mine/a: choose one of 0 \.\. 5"):
        curves.mean_regret("mine/a", 6)
    with pytest.raises(InvalidSettingError, match=r"mine/b has no published runs on 2.*spaces=\['1'\]"):
        curves.curve("mine/b")
    assert curves.mean_regret("mine/b", 100, ["1"]) == pytest.approx(1 - 2.25 / 3)
    assert list(curves.per_space("mine/b")) == ["1"]
    assert curves.mean_regret("mine/c", 50) == pytest.approx(1 - (0.0 + 0.25 + 0.25 + 0.375 + 0.375) / 5)
    for name in ("mine/a", "mine/b"):
        with pytest.raises(InvalidSettingError, match=name):
            curves.standard_error(name)
        with pytest.raises(InvalidSettingError, match="incomplete file"):
            curves.mean_ranks([name, "mine/c"])
    short, lacking, whole = curves.table(trials=(5, 100))
    assert short.regret[0] == pytest.approx(1 - 0.05 * 3.25 / 5) and short.regret[1] is None
    assert lacking.regret == (None, None) and lacking.standard_error is None
    assert whole.regret[1] == pytest.approx(1 - 3.0 / 5) and whole.mean_rank is None


def test_result_files_are_read_with_their_gaps(tmp_path):
    spaces, datasets, seeds = zip(*SMALL_RUNS, strict=True)
    content = {"1": {"7": {"test0": [0.1, 0.2], "test1": [0.5] * 101}}}
    path = tmp_path / "RF.json"
    path.write_text(json.dumps(content))
    found = read_result_file(path, spaces, datasets, seeds)
    assert found.shape == (5, 101)
    assert found[0, :2].tolist() == [0.1, 0.2] and np.isnan(found[0, 2:]).all()
    assert (found[1] == 0.5).all() and np.isnan(found[2:]).all()
    for text in ("[1, 2]", "{", '{"1": {"7": {"test0": ["a"]}}}', '{"1": 3}'):
        path.write_text(text)
        with pytest.raises(DataIntegrityError, match="no result file of HPO-B"):
            read_result_file(path, spaces, datasets, seeds)
    path.write_text(json.dumps({"1": {"7": {"test0": [0.0] * 102}}}))
    with pytest.raises(DataIntegrityError, match="at most 101"):
        read_result_file(path, spaces, datasets, seeds)
    with pytest.raises(DataMissingError, match=r"nothing\.json"):
        read_result_file(tmp_path / "nothing.json", spaces, datasets, seeds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, runs: (x[:, :4], runs), "shape"),
        (lambda x, runs: (x, [*runs[:4], runs[0]]), "more than once"),
        (lambda x, runs: (x * 1.5, runs), r"scaled to \[0, 1\]"),
        (lambda x, runs: (x, [*runs[:3], ("2", "9", "test2"), runs[4]]), "no run 'test0'"),
    ],
    ids=["shape", "twice", "range", "seed"],
)
def test_incumbents_that_cannot_be_aggregated_are_refused(change, message):
    incumbents, runs = change(small(), SMALL_RUNS)
    spaces, datasets, seeds = zip(*runs, strict=True)
    with pytest.raises(DataIntegrityError, match=message):
        aggregate_incumbents(incumbents, spaces, datasets, seeds, SMALL_METHODS)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda c: c.curve("hpob/FSBO3"), UnknownNameError, "Did you mean 'hpob/FSBO"),
        (lambda c: c.mean_regret("hpob/GP", 101), InvalidSettingError, r"0 \.\. 100"),
        (lambda c: c.mean_regret("hpob/GP", -1), InvalidSettingError, r"0 \.\. 100"),
        (lambda c: c.curve("hpob/GP", ["5971x"]), UnknownNameError, "5971"),
        (lambda c: c.curve("hpob/GP", without=["x"]), UnknownNameError, "search space 'x'"),
        (lambda c: c.curve("hpob/GP", without="5970"), InvalidSettingError, r"without=\['5970'\]"),
        (lambda c: c.curve("hpob/GP", ["5970"], ["5970"]), InvalidSettingError, "no search space"),
        (lambda c: c.standard_error("hpob/GP", 3), InvalidSettingError, "not kept per dataset"),
        (lambda c: c.mean_ranks(["hpob/GP"]), InvalidSettingError, "two or more"),
        (lambda c: c.mean_ranks(["hpob/GP", "fsbo/GP"]), InvalidSettingError, "different methods"),
        (lambda c: c.mean_ranks(["hpob/GP", "hpob/GP-C"]), InvalidSettingError, "mix settings"),
        (lambda c: c.table(trials=(0, 200)), InvalidSettingError, "trial=200"),
        (
            lambda c: c.paired_test("hpob/GP", "optformer/gp", first_seed=True),
            InvalidSettingError,
            "nothing to compare",
        ),
        (
            lambda c: c.paired_test("optformer/optformer_ei", "optformer/gp", first_seed=False),
            InvalidSettingError,
            "use first_seed=True",
        ),
        (
            lambda c: c.paired_test("optformer/oss_optformer_B", "optformer/gp", first_seed=True),
            InvalidSettingError,
            "no pairs",
        ),
    ],
)
def test_questions_without_an_answer_are_errors(shipped, ask, error, message):
    with pytest.raises(error, match=message) as caught:
        ask(shipped)
    assert isinstance(caught.value, HPOGymError)


def test_a_copy_answers_for_its_original_and_equals_win_nothing(shipped):
    np.testing.assert_array_equal(shipped.curve("fsbo/GP"), shipped.curve("hpob/GP"))
    same = shipped.paired_test("fsbo/GP", "hpob/GP", first_seed=False)
    assert (same.wins, same.ties, same.losses, same.p_value) == (0, 86, 0, None)
    shared = shipped.paired_test("optformer/optformer_ei", "optformer/optformer_pi", first_seed=False)
    assert shared.wins + shared.ties + shared.losses == 86


# --- the protocols ---------------------------------------------------------------------------------------------


def test_hpob_names_the_runs_that_are_published(shipped):
    assert len(HPOB_V3.spaces) == 16 and len(HPOB_V3.runs()) == 430
    pairs = {(space.name, task.id) for space in HPOB_V3.spaces for task in space.tasks}
    assert pairs == set(shipped.datasets)
    assert all(task.kind == "openml-task" for space in HPOB_V3.spaces for task in space.tasks)
    assert len({task for _, task, _ in HPOB_V3.runs()}) == 46
    assert HPOB_V3.trials + 1 == len(shipped.curve("hpob/GP"))
    assert {method.setting for method in PUBLISHED_METHODS} == set(HPOB_V3.settings)
    with pytest.raises(UnknownNameError, match="5970"):
        HPOB_V3.space("597")


def test_hpob_agrees_with_its_own_files(data_folder):
    tasks = json.loads((data_folder / "hpob" / "meta-test-tasks-per-space.json").read_text())
    descriptors = json.loads((data_folder / "hpob" / "meta-dataset-descriptors.json").read_text())
    assert {space.name: [task.id for task in space.tasks] for space in HPOB_V3.spaces} == tasks
    for space in HPOB_V3.spaces:
        assert space.dimension == len(descriptors[space.name]["variables_order"])


def test_grpoformer_has_36_scenarios_on_openml_tasks():
    scenarios = GRPOFORMER_36.scenarios()
    assert len(scenarios) == len({(family.name, task) for family, task in scenarios}) == 36
    assert [family.name for family in GRPOFORMER_36.families] == ["xgb", "svm", "nn", "lr", "rf", "histgb"]
    ids = ("167149", "167097", "167155", "167168", "167079", "167069")
    assert GRPOFORMER_36.tasks == tuple(TaskRef("openml-task", task) for task in ids)
    assert set(GRPOFORMER_36.metrics) == {"BtR", "MP", "MnP", "MnR"}
    spent = {budget.method: budget.evaluations for budget in GRPOFORMER_36.budgets}
    assert spent["GRPOformer"] == 4008 and spent["OptFormer"] == 505 and spent["SBOA"] == 500
    with pytest.raises(UnknownNameError, match="histgb"):
        GRPOFORMER_36.family("histgbm")


# methods.md 1.3, as text: one line per hyperparameter.
GRPOFORMER_SPACES = """
xgb eta float 2^-10 1 log
xgb max_depth integer 1 50 log
xgb colsample_bytree float 0.1 1 linear
xgb reg_lambda float 2^-10 2^10 log
svm C float 2^-10 2^10 log
svm gamma float 2^-10 2^10 log
nn depth integer 1 3 linear
nn width integer 16 1024 log
nn batch_size integer 4 256 log
nn alpha float 1e-8 1 log
nn learning_rate_init float 1e-5 1 log
lr alpha float 1e-5 1 log
lr eta0 float 1e-5 1 log
rf max_depth integer 1 50 log
rf min_samples_split integer 2 128 log
rf max_features float 0 1 linear
rf min_samples_leaf integer 1 20 linear
histgb max_depth integer 6 30 log
histgb max_leaf_nodes integer 2 64 log
histgb learning_rate float 2^-10 1 log
histgb l2_regularization float 2^-10 2^10 log
"""

# methods.md 1.3: the digits that are printed there.
GRPOFORMER_FIRST = {
    "xgb": {"eta": "0.00185", "max_depth": "5", "colsample_bytree": "0.4753", "reg_lambda": "10.62"},
    "svm": {"C": "0.3165", "gamma": "0.00351"},
    "nn": {"depth": "3", "width": "28", "batch_size": "5", "alpha": "2.17e-05", "learning_rate_init": "0.2458"},
    "lr": {"alpha": "0.001216", "eta0": "2.895e-05"},
    "rf": {"max_depth": "33", "max_features": "0.493", "min_samples_leaf": "3", "min_samples_split": "3"},
}


def test_grpoformer_spaces_are_those_of_the_released_code():
    def number(text: str) -> float:
        base, power, exponent = text.partition("^")
        return float(base) ** float(exponent) if power else float(text)

    expected = [
        (family, name, kind, number(lower), number(upper), scale == "log")
        for family, name, kind, lower, upper, scale in map(str.split, lines(GRPOFORMER_SPACES))
    ]
    found = [
        (family.name, column.name, column.kind, column.lower, column.upper, column.log)
        for family in GRPOFORMER_36.families
        for column in family.spec.columns
    ]
    assert found == expected


@pytest.mark.parametrize("family", GRPOFORMER_36.families, ids=lambda family: family.name)
def test_grpoformer_spaces_compile_and_hold_their_first_configuration(family):
    space = SearchSpace(family.spec)
    assert space.default().shape == (space.dimension,)
    back = space.to_configspace()
    assert set(back.keys()) == set(space.names)
    sample = space.sample(64, torch.Generator().manual_seed(0))
    assert space.legal(sample).all()
    assert family.fidelity["subsample"] == 0.1
    if family.first is None:
        assert family.name == "histgb" and family.name not in GRPOFORMER_FIRST
        return
    u = space.from_dicts([family.first])
    assert space.legal(u).all() and ((u >= 0) & (u <= 1)).all()
    (decoded,) = space.to_dicts(u)
    assert decoded == pytest.approx(dict(family.first))
    printed = GRPOFORMER_FIRST[family.name]
    assert set(printed) == set(family.first)
    for name, digits in printed.items():
        significant = len(re.sub(r"e.*|\.|^0\.0*", "", digits).lstrip("0"))
        assert f"{family.first[name]:.{significant}g}" == digits


def test_neither_protocols_nor_curves_can_be_changed(shipped):
    with pytest.raises(ValueError, match="read-only"):
        shipped.regret[0, 0, 0] = 0.0
    with pytest.raises(AttributeError):
        HPOB_V3.trials = 50  # type: ignore[misc]
    with pytest.raises(TypeError):
        GRPOFORMER_36.family("svm").first["C"] = 1.0  # type: ignore[index]
    assert replace(HPOB_V3, trials=50).trials == 50 and HPOB_V3.trials == 100


def test_importing_the_definitions_loads_nothing_heavy():
    script = "import hpo_gym.evaluation.published, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"pandas", "pyarrow", "scipy", "matplotlib", "rich", "ConfigSpace"})


# --- for people ------------------------------------------------------------------------------------------------


def test_the_page_is_up_to_date_and_holds_every_table():
    path = REPOSITORY / "docs" / "published.md"
    assert report.main(["--check", str(path)]) == 0
    text = path.read_text()
    assert all(f"<!-- {name}:begin -->" in text for name in TABLES)
    assert text.count("not verified") >= 6


def test_the_example_of_the_page_runs():
    text = (REPOSITORY / "docs" / "published.md").read_text()
    # The second one reads what an evaluation wrote: tests/test_hpob.py runs it.
    block = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(compile(block, "docs/published.md", "exec"), names)
    assert names["curves"] is published_curves()


def test_the_command_prints_and_fills(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert report.main(["--table", "discrete", "--table", "spaces"]) == 0
    printed = capsys.readouterr().out
    assert ".0105" in printed and ".3097" in printed and "5.06" in printed and "5970" in printed
    assert report.main(["--table", "discret"]) == 2
    assert "Did you mean 'discrete'" in capsys.readouterr().err
    path = tmp_path / "x.md"
    path.write_text("before\n<!-- subset:begin -->\nold\n<!-- subset:end -->\nafter\n")
    assert report.main(["--check", str(path)]) == 1
    assert "old" in path.read_text()
    assert report.main([str(path)]) == 0
    assert report.main(["--check", str(path)]) == 0
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and ".0131" in text and "old" not in text
    path.write_text("nothing to fill")
    assert report.main([str(path)]) == 2
    assert "no table to fill" in capsys.readouterr().err
    for wrong in (["--check"], ["--table", "subset", str(path)]):
        with pytest.raises(SystemExit):
            report.main(wrong)


def test_every_table_renders_whole_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert report.main([]) == 0
    printed = capsys.readouterr().out
    for make in TABLES.values():
        for row in make().rows:
            for cell in row:
                assert all(word in printed for word in cell.replace("`", "").split()), row
