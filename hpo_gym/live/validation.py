"""Which rows a model is trained on, chosen by, and tested on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hpo_gym.errors import InvalidSettingError, require_effect, require_integer, require_number, unknown_name
from hpo_gym.live.table import Table
from hpo_gym.seeding import numpy_generator, stream_seed

__all__ = ["Split", "Splits", "Validation", "make_splits", "nested_order", "subsample"]

Method = Literal["holdout", "cross-validation", "official"]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Validation:
    """How configurations are compared, and on which rows the winner is judged.

    Test rows are set aside first. Where the data has official splits they are those of one official fold, otherwise a
    random ``test_share``; classes are stratified. All configurations see the same rows.

    Args:
        method: ``holdout``, ``cross-validation``, or ``official``: the official folds of an OpenML task are the
            validation folds, and no row is a test row.
        share: Share of the rows that a holdout validates on, in (0, 1); HPOBench takes a third.
        folds: Folds of the cross-validation, at least 2.
        test_share: Share of all rows that are test rows where there are no official ones, in [0, 1); 0: none.
        repeat: Repetition of the official splits.
        fold: The official fold whose test rows are set aside (``holdout`` and ``cross-validation``).
        seed: Seed of the splits, which is not the seed of an evaluation; HPOBench's train and validation rows are
            scikit-learn's ``train_test_split`` with the seed 1.

    Raises:
        UnknownNameError: For an unknown method.
        InvalidSettingError: If a value is out of its range, or has no effect with the method.
    """

    method: Method = "holdout"
    share: float = 0.33
    folds: int = 5
    test_share: float = 0.2
    repeat: int = 0
    fold: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise unknown_name("validation method", self.method, get_args(Method))
        says = "must lie in (0, 1), e.g. 0.33: the part of the rows that is validated on"
        require_number("share", self.share, says, lambda share: 0.0 < share < 1.0)
        says = "must lie in [0, 1); 0 means no test rows"
        require_number("test_share", self.test_share, says, lambda share: 0.0 <= share < 1.0)
        require_integer("folds", self.folds, 2)
        if self.method != "cross-validation":
            require_effect(self, ("folds",), f"method={self.method!r}", "Use method='cross-validation'")
        if self.method != "holdout":
            require_effect(self, ("share",), f"method={self.method!r}", "Use method='holdout'")
        for name in ("repeat", "fold", "seed"):
            require_integer(name, getattr(self, name), 0)


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of one fold: int64, sorted, disjoint; ``train`` in the order in which subsamples grow."""

    train: Rows
    validation: Rows


@dataclass(frozen=True, eq=False)
class Splits:
    """All folds, and the rows that no fold holds."""

    folds: tuple[Split, ...]
    test: Rows


def make_splits(table: Table, validation: Validation) -> Splits:
    """Split the rows of a table.

    Args:
        table: ``n`` rows.
        validation: How.

    Returns:
        Disjoint ``train`` and ``validation`` rows of every fold, and test rows, ``[]`` where there are none.

    Raises:
        InvalidSettingError: If there are fewer rows than folds, or a class has too few rows for every part to hold it,
            or official splits are asked for that the data does not have.
    """
    rows = np.arange(table.num_rows)
    if table.folds is None and validation.method == "official":
        raise InvalidSettingError(
            f"{table.name} has no official splits: use method='holdout' or 'cross-validation', or 'openml-task:<id>'."
        )
    if table.folds is not None:
        official = _official(table, validation)
        if validation.method == "official":
            kept = [np.flatnonzero(official == fold) for fold in range(int(official.max()) + 1)]
            pairs = [(np.setdiff1d(rows, part), part) for part in kept]
            return Splits(_ordered(table, validation, pairs), rows[:0])
        test = np.flatnonzero(official == validation.fold)
        if len(test) == 0:
            raise InvalidSettingError(
                f"fold={validation.fold} of {table.name}: its official splits have {int(official.max()) + 1} folds."
            )
        development = np.setdiff1d(rows, test)
    else:
        development, test = _cut(table, rows, validation.test_share, validation, "test_share")
    if validation.method == "holdout":
        pairs = [_cut(table, development, validation.share, validation, "share")]
    else:
        pairs = _folds(table, development, validation)
    return Splits(_ordered(table, validation, pairs), test)


def _official(table: Table, validation: Validation) -> NDArray[np.int16]:
    assert table.folds is not None
    if validation.repeat >= len(table.folds):
        raise InvalidSettingError(
            f"repeat={validation.repeat} of {table.name}: its official splits have {len(table.folds)} repetition(s)."
        )
    folds: NDArray[np.int16] = table.folds[validation.repeat]
    return folds


def _cut(table: Table, rows: Rows, share: float, validation: Validation, setting: str) -> tuple[Rows, Rows]:
    """Return the rows that stay, with every class, and a random stratified share that goes."""
    from sklearn.model_selection import train_test_split

    if share == 0.0:
        return rows, rows[:0]
    labels = _labels(table, rows)
    parts = math.ceil(share * len(rows)), math.floor((1.0 - share) * len(rows))
    if labels is None:
        least = 1
    else:
        _require_members(table, rows, 2, f"a part that is set aside by {setting}={share:g}")
        least = len(np.unique(labels))
    if min(parts) < least:
        raise InvalidSettingError(
            f"{setting}={share:g} of the {len(rows)} rows of {table.name} leaves {min(parts)} row(s) on one side, "
            f"where {least} are needed: change {setting}."
        )
    kept, gone = train_test_split(rows, test_size=share, random_state=validation.seed, stratify=labels)
    return np.sort(kept), np.sort(gone)


def _folds(table: Table, rows: Rows, validation: Validation) -> list[tuple[Rows, Rows]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    count = validation.folds
    if len(rows) < count:
        raise InvalidSettingError(
            f"{table.name} has {len(rows)} rows for {count} folds: use folds={max(2, len(rows))}."
        )
    labels = _labels(table, rows)
    if labels is not None:
        _require_members(table, rows, count, f"each of {count} folds")
    kind = KFold if labels is None else StratifiedKFold
    splitter = kind(count, shuffle=True, random_state=validation.seed)
    return [(rows[train], rows[part]) for train, part in splitter.split(rows, labels)]


def _labels(table: Table, rows: Rows) -> NDArray[Any] | None:
    return table.target[rows] if table.task == "classification" else None


def _require_members(table: Table, rows: Rows, least: int, where: str) -> None:
    numbers, counts = np.unique(table.target[rows], return_counts=True)
    if counts.min() < least:
        name = table.classes[int(numbers[counts.argmin()])]
        numeric = all(_is_number(each) for each in table.classes)
        regression = " If the target is a quantity, say so with task='regression'." if numeric else ""
        raise InvalidSettingError(
            f"Class {name!r} of {table.name} has {counts.min()} of {len(rows)} rows, fewer than {least}: it cannot be "
            f"in {where}. Merge or remove rare classes, or validate on fewer folds, or on one part"
            f" (Validation('holdout')).{regression}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ordered(table: Table, validation: Validation, pairs: list[tuple[Rows, Rows]]) -> tuple[Split, ...]:
    seed = stream_seed(validation.seed, "live", "subsample")
    return tuple(
        Split(train[nested_order(_labels(table, train), len(train), seed, index)], part)
        for index, (train, part) in enumerate(pairs)
    )


def nested_order(labels: NDArray[Any] | None, count: int, seed: int, fold: int) -> Rows:
    """Return an order of rows of which every beginning is a random subsample that is nearly stratified.

    Subsamples are nested, so that more of the data never means other data. One row of every class comes first.

    Args:
        labels: Class numbers ``[count]``; ``None``: no classes.
        count: Number of rows.
        seed: Seed of the order.
        fold: Part of the seed.

    Returns:
        A permutation of ``0 .. count - 1``.
    """
    draws = numpy_generator(seed, "fold", fold)
    order: Rows = draws.permutation(count)
    if labels is None:
        return order
    key = np.empty(count)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        # Spread over (0, 1): a beginning of the order takes the same share of every class.
        key[members] = (np.arange(len(members)) + draws.random()) / len(members)
        key[members[0]] = -1.0
    return np.argsort(key, kind="stable")


def beginning_with(labels: NDArray[Any], rows: int) -> int:
    """Return how long a beginning holds so many rows of every class, or all of a class that has fewer.

    Args:
        labels: Class numbers in the order of :func:`nested_order`.
        rows: Of every class, at least 1.
    """
    places = (np.flatnonzero(labels == label) for label in np.unique(labels))
    return 1 + max(int(each[: min(rows, len(each))][-1]) for each in places)


def subsample(train: Rows, share: float, least: int) -> Rows:
    """Return the first ``share`` of ordered training rows, at least ``least`` of them.

    Args:
        train: Rows in the order of :func:`nested_order`.
        share: In (0, 1].
        least: Fewest rows, e.g. one per class.
    """
    return train[: min(len(train), max(least, math.ceil(share * len(train))))]
