"""Configurations by name: what is wrong is named, with what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from space_strategies import HANDWRITTEN

from hpo_gym.errors import HPOGymError, InvalidSettingError, UnknownNameError
from hpo_gym.spaces import SearchSpace

REFUSED: list[tuple[dict[str, Any], type[HPOGymError], list[str]]] = [
    ({"flaot": 1.0}, UnknownNameError, ["'flaot'", "Did you mean 'float'", "log_integer"]),
    ({"log_flat": 1.0}, UnknownNameError, ["'log_flat'", "Did you mean 'log_float'"]),
    ({3: 1.0}, UnknownNameError, ["hyperparameter 3", "categorical"]),
    ({"categorical": "A"}, UnknownNameError, ["choice of 'categorical' 'A'", "a, b, c"]),
    ({"categorical": None}, UnknownNameError, ["None", "a, b, c"]),
    ({"ordinal": 1001}, UnknownNameError, ["choice of 'ordinal' 1001", "Did you mean '100", "1, 10, 100, 1000"]),
    ({"flag": 1}, UnknownNameError, ["choice of 'flag' 1", "False, True"]),
    ({"flag": "True"}, UnknownNameError, ["choice of 'flag' 'True'", "Did you mean 'True'"]),
    ({"constant": 8}, UnknownNameError, ["choice of 'constant' 8", "7"]),
    ({"float": math.nan}, InvalidSettingError, ["float=nan", "[-2.0, 3.0]"]),
    ({"float": math.inf}, InvalidSettingError, ["float=inf", "[-2.0, 3.0]"]),
    ({"float": 3.1}, InvalidSettingError, ["float=3.1", "[-2.0, 3.0]"]),
    ({"float": "1"}, InvalidSettingError, ["'float'", "'1'", "no number"]),
    ({"float": True}, InvalidSettingError, ["'float'", "True", "no number"]),
    ({"float": None}, InvalidSettingError, ["'float'", "None", "no number"]),
    ({"log_float": 0.0}, InvalidSettingError, ["log_float=0.0", "[0.0001, 10.0]"]),
    ({"integer": 7}, InvalidSettingError, ["integer=7", "[-3, 6]"]),
    ({"integer": 2.5}, InvalidSettingError, ["'integer'", "2.5", "round it"]),
    ({"integer": -math.inf}, InvalidSettingError, ["integer=-inf", "[-3, 6]"]),
    ({"log_integer": 0}, InvalidSettingError, ["log_integer=0", "[1, 500]"]),
]


def _flat() -> SearchSpace:
    return SearchSpace.from_configspace(HANDWRITTEN["flat"]())


@pytest.mark.parametrize(("row", "error", "parts"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_configuration_is_refused(row: dict[Any, Any], error: type[HPOGymError], parts: list[str]) -> None:
    ours = _flat()
    # The wrong row comes after a right one: every row is checked.
    with pytest.raises(error) as caught:
        ours.from_dicts([{"float": 0.0}, row])
    for part in parts:
        assert part in str(caught.value)


def test_values_of_other_types_that_mean_the_same_are_taken() -> None:
    ours = _flat()
    plain = {"float": 1.0, "integer": 2, "categorical": "b", "flag": True, "ordinal": 10}
    others = {
        "float": np.float32(1.0),
        "integer": np.int64(2),
        "categorical": np.str_("b"),
        "flag": np.bool_(True),
        "ordinal": 10.0,
    }
    assert torch.equal(ours.from_dicts([plain]), ours.from_dicts([others]))
    assert torch.equal(ours.from_dicts([{"float": 1, "integer": 2.0}]), ours.from_dicts([{"float": 1.0, "integer": 2}]))


def test_what_is_left_out_lies_in_the_middle() -> None:
    ours = _flat()
    u = ours.from_dicts([{}, {"float": 3.0}])
    assert u.dtype == torch.float64
    assert (u[0] == 0.5).all()
    assert u[1].tolist() == [1.0 if name == "float" else 0.5 for name in ours.names]


def test_no_configurations_make_no_rows() -> None:
    ours = _flat()
    assert ours.from_dicts([]).shape == (0, ours.dimension)
    assert ours.to_dicts(ours.from_dicts([])) == []
